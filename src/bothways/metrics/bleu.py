"""BLEU: the precision of a translation's word sequences up to length four, with a penalty for brevity."""

from collections.abc import Sequence
from dataclasses import dataclass

from bothways.language import Language, resolve
from bothways.metrics.metric import check_pairs

HIGHER_IS_BETTER = True


@dataclass(frozen=True, kw_only=True)
class Bleu:
    """A corpus's BLEU.

    Attributes:
        score: from 0 to 100.
        signature: sacrebleu's account of how it was computed; publish it with the score.
    """

    score: float
    signature: str


def bleu(predictions: Sequence[str], references: Sequence[str], *, language: Language = "auto") -> Bleu:
    """Return corpus BLEU (Papineni et al., 2002) by sacrebleu (Post, 2018): counts are summed before they are divided.

    A corpus without a sequence of four tokens scores 0 even where it is perfect.

    Args:
        predictions: one translation for each item, not tokenized.
        references: the translations to match, in the same order.
        language: chooses sacrebleu's tokenizer, ``13a`` or for Chinese ``zh``; ``"auto"`` decides by all references.
    Raises:
        UserError: empty input, unequal lengths, or no such language.
    """
    check_pairs(predictions, references)
    from sacrebleu.metrics.bleu import BLEU

    tokenizer = "zh" if resolve("\n".join(references), language) == "zh" else "13a"
    metric = BLEU(tokenize=tokenizer, force=True)  # force: no warning about input that looks tokenized
    score = metric.corpus_score(list(predictions), [list(references)])
    return Bleu(score=score.score, signature=str(metric.get_signature()))

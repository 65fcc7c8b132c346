"""chrF: the F-score of a translation's character sequences; needs no words, so it treats Chinese and English alike."""

from collections.abc import Sequence
from dataclasses import dataclass

from bothways.metrics.metric import check_pairs

HIGHER_IS_BETTER = True


@dataclass(frozen=True, kw_only=True)
class Chrf:
    """A corpus's chrF.

    Attributes:
        score: from 0 to 100.
        signature: sacrebleu's account of how it was computed; publish it with the score.
    """

    score: float
    signature: str


def chrf(predictions: Sequence[str], references: Sequence[str]) -> Chrf:
    """Return corpus chrF2 (Popović, 2015) by sacrebleu: character 1- to 6-grams, recall weighted twice, no white space.

    Args:
        predictions: one translation for each item.
        references: the translations to match, in the same order.
    Raises:
        UserError: empty input or unequal lengths.
    """
    check_pairs(predictions, references)
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()
    score = metric.corpus_score(list(predictions), [list(references)])
    return Chrf(score=score.score, signature=str(metric.get_signature()))

"""ROUGE: how many words, word pairs and words in order a summary shares with its reference, English or Chinese."""

from collections.abc import Sequence
from dataclasses import dataclass

from bothways.language import Language, resolve, words
from bothways.metrics.metric import check_pairs

HIGHER_IS_BETTER = True


@dataclass(frozen=True, kw_only=True)
class Rouge:
    """F1 of ROUGE, each from 0 to 1.

    Attributes:
        rouge_1: shared words.
        rouge_2: shared pairs of neighbouring words.
        rouge_l: the longest common subsequence of words, over the whole text.
    """

    rouge_1: float
    rouge_2: float
    rouge_l: float


def rouge(
    predictions: Sequence[str], references: Sequence[str], *, language: Language = "auto", stemmer: bool = False
) -> Rouge:
    """Return the mean over items of ROUGE F1 (Lin, 2004), computed by Google's ``rouge_score``.

    English is cut into words as ``rouge_score`` does it, which knows a-z and 0-9 alone and would therefore find nothing
    in Chinese; there each ideograph is a token and a run of Latin letters or digits is one. An empty text scores 0.

    Args:
        predictions: one text for each item.
        references: the texts to match, in the same order.
        language: ``"auto"`` decides for each item by its reference.
        stemmer: whether English words are cut to their stem (Porter) first; say so beside the figure.
    Raises:
        UserError: empty input, unequal lengths, or no such language.
    """
    check_pairs(predictions, references)
    from rouge_score.rouge_scorer import RougeScorer

    names = ("rouge1", "rouge2", "rougeL")
    scorers = {
        "en": RougeScorer(names, use_stemmer=stemmer),
        "zh": RougeScorer(names, tokenizer=_ChineseTokenizer()),
    }
    sums = dict.fromkeys(names, 0.0)
    for prediction, reference in zip(predictions, references, strict=True):
        scores = scorers[resolve(reference, language)].score(reference, prediction)
        for name in names:
            sums[name] += scores[name].fmeasure
    means = [sums[name] / len(references) for name in names]
    return Rouge(rouge_1=means[0], rouge_2=means[1], rouge_l=means[2])


class _ChineseTokenizer:
    """What ``rouge_score`` asks of a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        text = text.lower()
        return [text[start:stop] for start, stop in words(text)]

"""Exact match: the share of answers that are right to the letter, small differences of writing aside."""

from collections.abc import Sequence

from bothways.language import Language
from bothways.metrics._answers import Answers, accepted, answer_language, tokens
from bothways.metrics.metric import check_pairs

HIGHER_IS_BETTER = True


def exact_match(predictions: Sequence[str], references: Sequence[Answers], *, language: Language = "auto") -> float:
    """Return the share of predictions that equal a reference answer, from 0 to 1.

    Case, punctuation and the width of white space do not count, nor in English do the articles. These are the rules of
    SQuAD (Rajpurkar et al., 2016) and, for Chinese, of CMRC 2018 (Cui et al., 2019).

    Args:
        predictions: one answer for each question; ``""`` says that there is none.
        references: the right answer, or several, for each question.
        language: ``"auto"`` decides for each question by its right answers.
    Raises:
        UserError: empty input, unequal lengths, a question without a reference, or no such language.
    """
    check_pairs(predictions, references)
    return sum(
        _matches(prediction, accepted(reference), language)
        for prediction, reference in zip(predictions, references, strict=True)
    ) / len(references)


def _matches(prediction: str, answers: Sequence[str], language: Language) -> bool:
    language = answer_language(answers, language)
    return any(tokens(prediction, language) == tokens(answer, language) for answer in answers)

"""Token F1: how much of the right answer a given answer shares, for question answering."""

from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

from bothways.language import Language
from bothways.metrics._answers import Answers, accepted, answer_language, tokens
from bothways.metrics.metric import check_pairs

HIGHER_IS_BETTER = True


def token_f1(predictions: Sequence[str], references: Sequence[Answers], *, language: Language = "auto") -> float:
    """Return the mean over questions of the F1 of tokens shared with the nearest right answer, from 0 to 1.

    English, as in SQuAD (Rajpurkar et al., 2016): words without articles and punctuation, in any order. Chinese, as in
    CMRC 2018 (Cui et al., 2019): the longest run of tokens that both have, each ideograph a token. Two answers without
    any token agree fully (so SQuAD 2.0 scores unanswerable questions); one without agrees with no other.

    Args:
        predictions: one answer for each question; ``""`` says that there is none.
        references: the right answer, or several, for each question.
        language: ``"auto"`` decides for each question by its right answers.
    Raises:
        UserError: empty input, unequal lengths, a question without a reference, or no such language.
    """
    check_pairs(predictions, references)
    return sum(
        _best_f1(prediction, accepted(reference), language)
        for prediction, reference in zip(predictions, references, strict=True)
    ) / len(references)


def _best_f1(prediction: str, answers: Sequence[str], language: Language) -> float:
    language = answer_language(answers, language)
    shared = _longest_run if language == "zh" else _in_any_order
    given = tokens(prediction, language)
    best = 0.0
    for answer in answers:
        right = tokens(answer, language)
        f1 = 2 * shared(given, right) / (len(given) + len(right)) if given or right else 1.0
        best = max(best, f1)
    return best


def _in_any_order(given: list[str], right: list[str]) -> int:
    return (Counter(given) & Counter(right)).total()


def _longest_run(given: list[str], right: list[str]) -> int:
    return SequenceMatcher(None, given, right, autojunk=False).find_longest_match().size

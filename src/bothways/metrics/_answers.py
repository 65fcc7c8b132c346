"""How the answers of question answering are compared: as SQuAD does it in English, as CMRC 2018 does it in Chinese."""

import re
import string
from collections.abc import Sequence

from bothways.errors import UserError
from bothways.language import Language, resolve, words

Answers = str | Sequence[str]
"""One right answer, or several of which the best match counts."""

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def accepted(reference: Answers) -> Sequence[str]:
    """Return the right answers as a list.

    Raises:
        UserError: there is none; an unanswerable question has the answer ``""``.
    """
    answers = [reference] if isinstance(reference, str) else reference
    if not answers:
        raise UserError('a question has no reference answer; give "" where the right answer is none')
    return answers


def tokens(text: str, language: Language) -> list[str]:
    """Return what of an answer is compared: lower case, without punctuation, in English without articles.

    English: words between white space (SQuAD). Chinese: each ideograph, and each run of letters or digits (CMRC 2018).
    """
    text = text.lower()
    if language == "zh":
        return [text[start:stop] for start, stop in words(text)]
    return _ARTICLES.sub(" ", text.translate(_NO_PUNCTUATION)).split()


def answer_language(answers: Sequence[str], language: Language) -> Language:
    """Return the language of one question's answers."""
    return resolve(" ".join(answers), language)

"""Figures of a document by which good text is told from rubbish, in English and in Chinese.

The measures are those of Gopher (Rae et al. 2021, "Scaling Language Models", appendix A.1.1) and its successors, made
independent of a document's length and of spaces between words: a Chinese character is a word here. Words and kinds of
characters are worked out for 65,536 characters at a time, so that they take no memory to speak of.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from bothways.language import is_cjk

_BLOCK = 1 << 16  # characters
_WINDOW = 100  # words
_PHRASE = 3  # words

# Kinds of characters: every one is of exactly one kind.
_SPACE, _SYMBOL, _DIGIT, _LATIN, _IDEOGRAPH, _LETTER = range(6)

_LATIN_LETTER = re.compile(
    "[A-Za-z\xaa\xba\xc0-\xd6\xd8-\xf6\xf8-\u02af\u1e00-\u1eff\u2c60-\u2c7f\ua720-\ua7ff\ufb00-\ufb06]"
)
_IDEOGRAPHS = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_IDEOGRAPHS}]|[^\W_{_IDEOGRAPHS}]+")


def _kind(char: str) -> int:
    if char.isspace():
        return _SPACE
    if char.isdecimal():
        return _DIGIT
    if not char.isalnum():
        return _SYMBOL
    if is_cjk(char):
        return _IDEOGRAPH
    return _LATIN if _LATIN_LETTER.match(char) else _LETTER


@cache
def _kinds() -> npt.NDArray[np.uint8]:
    """Return the kind of each character below U+10000; the few others are looked at one by one."""
    return np.array([_kind(chr(code)) for code in range(0x10000)], np.uint8)


def _kinds_of(block: str) -> npt.NDArray[np.uint8]:
    """Return the kind of each character, shape (characters,)."""
    codes = np.frombuffer(block.encode("utf-32-le", "surrogatepass"), np.uint32)
    kinds = _kinds()[np.minimum(codes, 0xFFFF)]
    for far in np.flatnonzero(codes > 0xFFFF):
        kinds[far] = _kind(block[far])
    return kinds


@dataclass(frozen=True, kw_only=True)
class _Census:
    kinds: npt.NDArray[np.int64]
    """Number of characters of each kind."""
    runs: int
    """Of characters between white space."""


class Figures:
    """The figures of one text, each worked out when it is first asked for."""

    def __init__(self, text: str) -> None:
        self.text = text

    @property
    def characters(self) -> int:
        """Number of characters, white space at either end left out."""
        return len(self.text.strip())

    @property
    def symbol_share(self) -> float:
        """Share of punctuation and other symbols in the characters that are not white space."""
        return self._visible_share(_SYMBOL)

    @property
    def digit_share(self) -> float:
        """Share of digits in the characters that are not white space."""
        return self._visible_share(_DIGIT)

    def language_share(self, language: Literal["en", "zh"]) -> float:
        """Return the share of Latin letters (``en``) or CJK ideographs (``zh``) in all letters; 0 without letters."""
        kinds = self._census.kinds
        letters = int(kinds[[_LATIN, _IDEOGRAPH, _LETTER]].sum())
        return int(kinds[_LATIN if language == "en" else _IDEOGRAPH]) / letters if letters else 0.0

    @property
    def mean_word_length(self) -> float:
        """Mean number of characters between white space."""
        return self._visible / self._census.runs if self._census.runs else 0.0

    @property
    def repeated_line_share(self) -> float:
        """Share of lines that are equal to an earlier one, blank ones left out."""
        lines = [line for line in map(str.strip, self.text.split("\n")) if line]
        return 1 - len(set(lines)) / len(lines) if lines else 0.0

    @property
    def unique_word_share(self) -> float:
        """Share of different words in 100 in a row, as a mean over the text; 1 where there are no words.

        The mean over windows (Johnson 1944, "Studies in language behavior") stays the same however long a text is,
        whereas the plain share falls from 0.7 in a page to 0.05 in a novel.
        """
        return self._repetition[0]

    @property
    def top_phrase_share(self) -> float:
        """Share of words that belong to the most frequent phrase of three words of each block of the text."""
        return self._repetition[1]

    @property
    def _visible(self) -> int:
        return int(self._census.kinds.sum() - self._census.kinds[_SPACE])

    def _visible_share(self, kind: int) -> float:
        return int(self._census.kinds[kind]) / self._visible if self._visible else 0.0

    @cached_property
    def _census(self) -> _Census:
        total, runs, was_space = np.zeros(6, np.int64), 0, True
        for block in self._blocks():
            kinds = _kinds_of(block)
            total += np.bincount(kinds, minlength=6)
            is_space = kinds == _SPACE
            runs += int(np.count_nonzero(is_space[:-1] & ~is_space[1:])) + int(was_space and not is_space[0])
            was_space = bool(is_space[-1])
        return _Census(kinds=total, runs=runs)

    @cached_property
    def _repetition(self) -> tuple[float, float]:
        """Return the shares of unique words and of the top phrases."""
        windows, unique, words_in_all, repeated = 0, 0.0, 0, 0
        for block in self._blocks():
            words = _WORD.findall(block.lower())
            for start in range(0, len(words) - _WINDOW + 1, _WINDOW) or range(min(1, len(words))):
                window = words[start : start + _WINDOW]
                unique += len(set(window)) / len(window)
                windows += 1
            phrases = Counter(zip(words, words[1:], words[2:], strict=False))
            most = max(phrases.values(), default=0)
            words_in_all += len(words)
            repeated += min(_PHRASE * most, len(words)) if most > 1 else 0
        return unique / windows if windows else 1.0, repeated / words_in_all if words_in_all else 0.0

    def _blocks(self) -> Iterator[str]:
        for start in range(0, len(self.text), _BLOCK):
            yield self.text[start : start + _BLOCK]

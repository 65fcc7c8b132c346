"""Where words begin, for masking them whole: for all characters of a text at once, with Chinese words by rjieba.

The rules are those of ``language.words``, applied to arrays. ``byte_offsets`` turns what is counted in characters into
bytes, in which a byte-level tokenizer counts.
"""

import unicodedata
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bothways.errors import UserError, unknown
from bothways.language import Language, is_cjk, resolve

Segmenter = Literal["auto", "rjieba", "none"]

# Each character has some of these flags.
_IN_WORD, _DIGIT, _JOINER, _POINT, _MARK, _UNIT, _HAN = (1 << bit for bit in range(7))
_JOINERS = "'’-\u2010\u2011"


def word_starts(text: str, language: Language = "auto", segmenter: Segmenter = "auto") -> NDArray[np.int64]:
    """Return where the words of a text begin, for masking whole words.

    These are the words of ``words``, and each visible character that is in none of them (punctuation, symbols) is a unit
    of its own. White space, control characters, and marks that combine with the character before them begin no unit.
    Runs of CJK ideographs are cut into Chinese words by a segmenter.

    Args:
        text: any text.
        language: ``"en"``: each ideograph is a word, as in ``words``; the others leave ideographs to the segmenter.
        segmenter: ``"rjieba"`` (dictionary and hidden Markov model of jieba; extra ``chinese``), ``"none"`` (each
            ideograph is a word), or ``"auto"``: rjieba if it is installed.
    Returns:
        [words] character offsets, rising.
    Raises:
        UserError: there is no such language or segmenter, or rjieba is asked for and not installed.
    """
    if language != "auto":
        resolve(text, language)
    name = segmenter_name(segmenter)
    flags = _flags(text)
    starts = _begins(flags)
    if language != "en" and name != "none" and not text.isascii():
        _join_ideographs(text, (flags & _HAN) != 0, starts)
    return np.flatnonzero(starts)


@cache
def segmenter_name(segmenter: Segmenter = "auto") -> str:
    """Return ``"none"``, or the name and version of the segmenter: what ``word_starts`` depends on besides the text.

    Raises:
        UserError: there is no such segmenter, or it is not installed.
    """
    if segmenter not in ("auto", "rjieba", "none"):
        raise unknown("segmenter", segmenter, ("auto", "rjieba", "none"))
    if segmenter != "none" and find_spec("rjieba") is not None:
        return f"rjieba {version('rjieba')}"
    if segmenter == "rjieba":
        raise UserError(
            "the segmenter rjieba is not installed; install it with: pip install 'bothways[chinese]', or choose "
            "segmenter=none, which takes each Chinese character as a word"
        )
    return "none"


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _flags(text: str) -> NDArray[np.uint8]:
    """Return the flags of each character."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii").translate(_flag_table(256).tobytes()), dtype=np.uint8)
    code_points = _code_points(text)
    flags = _flag_table(1 << 16)[np.minimum(code_points, 0xFFFF)]
    for position in np.flatnonzero(code_points > 0xFFFF).tolist():
        flags[position] = _flags_of(text[position])
    return flags


@cache
def _flag_table(size: int) -> NDArray[np.uint8]:
    return np.array([_flags_of(chr(code_point)) for code_point in range(size)], dtype=np.uint8)


def _flags_of(char: str) -> int:
    if is_cjk(char):
        return _HAN
    if char.isalnum():
        return _IN_WORD | (_DIGIT if char.isdecimal() else 0)
    if "\u0300" <= char <= "\u036f":
        return _MARK
    visible = unicodedata.category(char)[0] in "PS"
    return (_UNIT if visible else 0) | (_JOINER if char in _JOINERS else 0) | (_POINT if char in ".," else 0)


def _begins(flags: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell of each character whether a word begins there; the pattern ``_WORD``, and each ideograph is a word."""
    letter = (flags & _IN_WORD) != 0
    inside = letter.copy()  # letters, digits and the marks that follow them
    mark = (flags & _MARK) != 0
    if mark.any():
        bearer = np.maximum.accumulate(np.where(mark, 0, np.arange(len(flags))))  # the last one that is no mark
        inside |= mark & letter[bearer]
    joins = np.zeros(len(flags), dtype=bool)
    joins[1:-1] = ((flags[1:-1] & _JOINER) != 0) & inside[:-2] & letter[2:]
    digit = (flags & _DIGIT) != 0
    joins[1:-1] |= ((flags[1:-1] & _POINT) != 0) & digit[:-2] & digit[2:]
    begins = (flags & (_IN_WORD | _UNIT | _HAN)) != 0
    begins &= ~joins
    begins[1:] &= ~(letter[1:] & (inside | joins)[:-1])
    return begins


def _join_ideographs(text: str, ideograph: NDArray[np.bool_], starts: NDArray[np.bool_]) -> None:
    """Cut the runs of ideographs into words, clearing in ``starts`` those that begin none."""
    kept = ideograph.copy()
    kept[1:] |= ideograph[:-1]  # the character after each run becomes a new line, which no word crosses
    positions = np.flatnonzero(kept)
    if len(positions) == 0:
        return
    runs = np.where(ideograph, _code_points(text), ord("\n"))[positions].astype("<u4").tobytes().decode("utf-32-le")
    words = _segmenter().cut(runs)
    spaced = _code_points(" ".join(words))
    assert len(spaced) == len(runs) + len(words) - 1, "the segmenter lost characters"
    spaces = np.flatnonzero(spaced == ord(" "))
    first = positions[np.append(0, spaces - np.arange(len(spaces)))]
    starts &= ~ideograph
    starts[first[ideograph[first]]] = True


@cache
def _segmenter() -> Any:
    """Load the dictionary, our own copy: others may add words to the one that all share."""
    return import_module("rjieba").Jieba()


def byte_offsets(text: str, character_offsets: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where in the UTF-8 bytes of a text its characters begin.

    Args:
        text: any text; half a surrogate pair counts three bytes.
        character_offsets: [n] from 0 to the length of the text, in any order.
    Returns:
        [n] byte offsets.
    """
    offsets = np.asarray(character_offsets, dtype=np.int64)
    if text.isascii():
        return offsets.copy()
    encoded = text.encode("utf-8", "surrogatepass")
    first_bytes = np.flatnonzero(np.frombuffer(encoded, dtype=np.int8) >= -64)  # the others are 10xxxxxx
    return np.append(first_bytes, len(encoded))[offsets]

"""Words as 64-bit numbers, whole arrays at a time: what overlap is searched with. The same in every process and machine.

A word is what ``bothways.language`` calls one, made comparable: compatible and accented characters become plain ones
(NFKD), case is folded, apostrophes and invisible characters fall away, and hyphens and the points of numbers part
words. A CJK ideograph is a word. So ``Don’t``, ``DON'T`` and ``dont`` are one word, and spacing and punctuation none.

The hash of a word is the sum over its characters c_i of v(c_i) * B**i, modulo 2**64, where v are fixed random numbers,
mixed at the end. The sums are formed over a stretch of text at once and divided by B**start, which works modulo 2**64
since B is odd. No Python code runs for a word or a character.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bothways.errors import DamagedFileError
from bothways.language import is_cjk

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]

PIECE = 1 << 16  # characters hashed at once: the arrays stay in the processor's cache
_BASE = 0x9E3779B97F4A7C15 | 5  # odd, and 5 modulo 8, so that its powers take long to come back
_GRAM_BASE = 0xD1342543DE82EF95
_MASK = (1 << 64) - 1
_CODES = 0x110000
_SEPARATOR, _LETTER, _IDEOGRAPH, _DELETED, _EXPANDS = range(5)  # kinds of characters
_MARKS = range(0x300, 0x370)  # combining accents
_JAMO = range(0x1100, 0x1200)  # letters of which hangul syllables are composed
_FOLDED = (range(0x3400), range(0xA000, 0xAC00), range(0xF900, 0x20000), range(0x2F800, 0x2FA20))
_INVISIBLE = (0xAD, *range(0x200B, 0x2010), 0x2060, 0xFEFF, *range(0xFE00, 0xFE10))
_APOSTROPHES = ("'", "’")
_CUT = re.compile(r"\s\S*\Z")


@dataclass(frozen=True)
class _Tables:
    kind: NDArray[np.uint8]  # [characters]
    fold: NDArray[np.uint32]  # [characters]: the character that is meant; 0 for what is no part of a word
    value: Hashes  # [characters]: v of the folded character; 0 for what is no part of a word
    expands: re.Pattern[str]  # characters that fold to several


@dataclass(frozen=True)
class HashedTexts:
    """Texts as word hashes: text ``t`` has the words ``hashes[bounds[t]:bounds[t + 1]]``."""

    hashes: Hashes
    """[words]"""
    bounds: Places
    """[texts + 1]"""

    def __len__(self) -> int:
        return len(self.bounds) - 1


def mixed(values: Hashes) -> Hashes:
    """Return numbers whose every bit depends on all bits of the given ones (the finaliser of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def hash_texts(texts: Iterable[str]) -> HashedTexts:
    """Return the word hashes of texts."""
    hashes: list[Hashes] = []
    counts: list[int] = []
    for found, numbers in _hashed_groups(texts):
        hashes.append(found)
        for text, count in numbers:
            counts.extend([0] * (text + 1 - len(counts)))
            counts[text] += count
    bounds = np.concatenate([[0], np.cumsum(np.asarray(counts, dtype=np.int64))]).astype(np.int64)
    return HashedTexts(np.concatenate(hashes) if hashes else np.zeros(0, dtype=np.uint64), bounds)


def hash_pieces(text: str) -> Iterator[tuple[str, Hashes]]:
    """Yield a long text in pieces, each with the hashes of its words."""
    for piece in pieces(text):
        yield piece, _hash_group([piece])[0]


def pieces(text: str) -> Iterator[str]:
    """Cut a text into pieces of at most 65,536 characters, between words where there is white space at all."""
    start = 0
    while len(text) - start > PIECE:
        cut = _CUT.search(text, start + PIECE - 1024, start + PIECE)
        stop = cut.start() + 1 if cut else start + PIECE
        yield text[start:stop]
        start = stop
    yield text[start:]


def normalised_words(text: str) -> list[str]:
    """Return the words of a text as they are compared; for reports of a few words, not for whole corpora."""
    return [word for piece in pieces(text) for word in _words(piece)]


def grams(hashes: Hashes, size: int, *, step: int = 1) -> Hashes:
    """Return one number for every ``size`` words in a row, at every ``step``-th place."""
    count = len(hashes) - size + 1
    if count <= 0:
        return np.zeros(0, dtype=np.uint64)
    value = hashes[:count:step].copy()
    for offset in range(1, size):
        value *= np.uint64(_GRAM_BASE)
        value += hashes[offset : offset + count : step]
    return mixed(value)


def digests(texts: HashedTexts) -> Hashes:
    """Return one number for each text, the same for the same words in the same order; 0 for a text without words."""
    weighted = texts.hashes * _powers_by_place(texts)
    sums = _sums(weighted, texts.bounds)
    return mixed(sums * np.uint64(_GRAM_BASE) + np.diff(texts.bounds).astype(np.uint64)) * (sums != 0)


def digests_without_one(texts: HashedTexts) -> tuple[Hashes, Places]:
    """Return for every word the digest of its text without that word, and the number of the text.

    Two texts that differ by one word, exchanged, added or left out, have such a digest in common, or one has that of
    the whole other.
    """
    lengths = np.diff(texts.bounds)
    owner = np.repeat(np.arange(len(texts)), lengths)
    weighted = texts.hashes * _powers_by_place(texts)
    before = np.cumsum(weighted, dtype=np.uint64) - weighted
    before -= before[np.minimum(texts.bounds[:-1], max(len(before) - 1, 0))][owner] if len(before) else before
    after = _sums(weighted, texts.bounds)[owner] - before - weighted
    sums = before + after * np.uint64(pow(_GRAM_BASE, -1, 1 << 64))
    return mixed(sums * np.uint64(_GRAM_BASE) + (lengths[owner] - 1).astype(np.uint64)) * (sums != 0), owner


def select(texts: HashedTexts, chosen: Places) -> HashedTexts:
    """Return some of the texts, by number."""
    lengths = np.diff(texts.bounds)[chosen]
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    place = np.arange(bounds[-1]) - np.repeat(bounds[:-1], lengths) + np.repeat(texts.bounds[:-1][chosen], lengths)
    return HashedTexts(texts.hashes[place], bounds)


def joined(parts: Sequence[HashedTexts]) -> HashedTexts:
    """Return several groups of texts as one."""
    if not parts:
        return hash_texts([])
    lengths = np.concatenate([np.diff(part.bounds) for part in parts])
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return HashedTexts(np.concatenate([part.hashes for part in parts]), bounds)


def save_hashes(path: str | Path, texts: HashedTexts, about: dict[str, Any]) -> None:
    """Write hashed texts, and plain values about them, to an .npz file; the same values give the same bytes."""
    encoded = np.frombuffer(
        json.dumps(about, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass"), np.uint8
    )
    with Path(path).open("wb") as file:
        np.savez_compressed(file, hashes=texts.hashes, bounds=texts.bounds, about=encoded)


def load_hashes(path: str | Path) -> tuple[HashedTexts, dict[str, Any]]:
    """Read what ``save_hashes`` wrote.

    Raises:
        DamagedFileError: it is something else, or damaged.
    """
    import zipfile
    import zlib

    try:
        with np.load(path, allow_pickle=False) as stored:
            hashes, bounds = stored["hashes"], stored["bounds"]
            about = json.loads(stored["about"].tobytes().decode("utf-8", "surrogatepass"))
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DamagedFileError(f"{str(path)!r} is not a file of word hashes, or is damaged: {error}") from None
    sound = (
        (hashes.dtype, hashes.ndim, bounds.dtype, bounds.ndim) == (np.uint64, 1, np.int64, 1)
        and len(bounds) > 0
        and bounds[0] == 0
        and bounds[-1] == len(hashes)
        and bool((np.diff(bounds) >= 0).all())
        and isinstance(about, dict)
    )
    if not sound:
        raise DamagedFileError(f"{str(path)!r} is not a file of word hashes, or is damaged")
    return HashedTexts(hashes, bounds), about


def _powers_by_place(texts: HashedTexts) -> Hashes:
    """Return G**place for each word, its place counted from the start of its text."""
    lengths = np.diff(texts.bounds)
    place = np.arange(len(texts.hashes)) - np.repeat(texts.bounds[:-1], lengths)
    return _powers(_GRAM_BASE, int(lengths.max(initial=1)))[place]


def _sums(values: Hashes, bounds: Places) -> Hashes:
    """Return the sum over each stretch, modulo 2**64; 0 for an empty one."""
    total = np.concatenate([[np.uint64(0)], np.cumsum(values, dtype=np.uint64)])
    return np.asarray(total[bounds[1:]] - total[bounds[:-1]])


def _hashed_groups(texts: Iterable[str]) -> Iterator[tuple[Hashes, list[tuple[int, int]]]]:
    """Yield hashes of many short texts, or of a piece of a long one, with pairs of text number and number of words."""
    group: list[str] = []
    numbers: list[int] = []
    size = 0
    for number, text in enumerate(texts):
        for piece in pieces(text):
            if group and size + len(piece) > PIECE:
                hashes, counts = _hash_group(group)
                yield hashes, list(zip(numbers, counts, strict=True))
                group, numbers, size = [], [], 0
            group.append(piece)
            numbers.append(number)
            size += len(piece) + 1
    if group:
        hashes, counts = _hash_group(group)
        yield hashes, list(zip(numbers, counts, strict=True))


def _hash_group(group: Sequence[str]) -> tuple[Hashes, list[int]]:
    """Return the hashes of all words of some pieces, and the number of words of each."""
    codes, kinds, ends = _characters(group)
    starts = _word_starts(kinds)
    if not len(starts):
        return np.zeros(0, dtype=np.uint64), [0] * len(group)
    values = _tables().value.take(codes)
    values *= _powers(_BASE, len(codes))[: len(codes)]
    hashes = np.add.reduceat(values, starts)
    hashes *= _powers(pow(_BASE, -1, 1 << 64), len(codes)).take(starts)
    counts = [len(starts)] if len(group) == 1 else np.diff(np.searchsorted(starts, ends), prepend=0).tolist()
    return mixed(hashes), counts


def _words(piece: str) -> list[str]:
    codes, kinds, _ = _characters([piece])
    starts = _word_starts(kinds)
    text = _tables().fold.take(codes).astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
    stops = [*starts[1:].tolist(), len(text)] if len(starts) else []
    return [text[start:stop].rstrip("\0") for start, stop in zip(starts.tolist(), stops, strict=True)]


def _characters(group: Sequence[str]) -> tuple[NDArray[np.uint8 | np.uint32], NDArray[np.uint8], Places]:
    """Return code and kind of every character of some pieces, laid end to end, and the end of each piece."""
    tables = _tables()
    for apostrophe in _APOSTROPHES:
        group = [piece.replace(apostrophe, "") for piece in group]
    codes = _codes(group)
    kinds = tables.kind.take(codes)
    if codes.itemsize > 1 and (kinds == _EXPANDS).any():
        group = [tables.expands.sub(_expanded, piece) for piece in group]
        codes = _codes(group)
        kinds = tables.kind.take(codes)
    ends = np.cumsum([len(piece) + 1 for piece in group], dtype=np.int64)
    if codes.itemsize > 1 and (kinds == _DELETED).any():
        kept = kinds != _DELETED
        ends -= np.concatenate([[0], np.cumsum(~kept)])[np.minimum(ends, len(kept))]
        codes, kinds = codes[kept], kinds[kept]
    return codes, kinds, ends


def _codes(group: Sequence[str]) -> NDArray[np.uint8 | np.uint32]:
    text = "\n".join(group)
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _expanded(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFKC", match[0]).casefold()


def _word_starts(kinds: NDArray[np.uint8]) -> Places:
    letter = kinds == _LETTER
    starts = letter.copy()
    starts[1:] &= ~letter[:-1]
    if (kinds == _IDEOGRAPH).any():
        starts |= kinds == _IDEOGRAPH
    return np.flatnonzero(starts)


_POWERS: dict[int, Hashes] = {}


def _powers(base: int, count: int) -> Hashes:
    """Return at least ``count`` powers of a number, from the zeroth on; they are kept."""
    known = _POWERS.get(base)
    if known is None or len(known) < count:
        size = max(PIECE * 2, 1 << (count - 1).bit_length())
        known = np.full(size, base, dtype=np.uint64)
        known[0] = 1
        _POWERS[base] = known = np.multiply.accumulate(known)
    return known


@cache
def _tables() -> _Tables:
    """Return what is known of every character; takes some 0.1 s, once."""
    fold = np.arange(_CODES, dtype=np.uint32)
    kind = np.zeros(_CODES, dtype=np.uint8)
    expands = []
    for match in re.finditer(r"[^\W_]+", "".join(map(chr, range(_CODES)))):
        kind[match.start() : match.end()] = _LETTER
    for code in chain.from_iterable(_FOLDED):  # the other characters are compared as they are
        char = chr(code)
        if not kind[code] and not unicodedata.decomposition(char):
            continue
        plain = _plain(char)
        if len(plain) > 1 or code in _JAMO:
            kind[code] = _EXPANDS
            expands.append(char)
        else:
            kind[code] = _LETTER if plain else _SEPARATOR
            fold[code] = ord(plain or char)
    kind[[code for code in range(0x3005, 0x40000) if kind[code] == _LETTER and is_cjk(chr(code))]] = _IDEOGRAPH
    single = kind != _EXPANDS
    kind[single] = kind[fold[single]]  # some characters stand for ideographs
    kind[[*_INVISIBLE, *_MARKS]] = _DELETED
    value = mixed(fold.astype(np.uint64) + np.uint64(0x6A09E667F3BCC909))
    word = (kind == _LETTER) | (kind == _IDEOGRAPH)
    value[~word] = 0
    fold[~word] = 0
    return _Tables(kind, fold, value, re.compile(f"[{re.escape(''.join(expands))}]+"))


def _plain(char: str) -> str:
    """Return what a character is compared as; nothing if that is no part of a word."""
    decomposed = unicodedata.normalize("NFKD", char).casefold()
    plain = "".join(part for part in unicodedata.normalize("NFKD", decomposed) if ord(part) not in _MARKS)
    if len(plain) > 1 and len(composed := unicodedata.normalize("NFKC", char)) == 1:
        plain = composed.casefold()
    return plain if any(part.isalnum() for part in plain) else ""

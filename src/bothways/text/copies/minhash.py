"""What of a text is compared with other texts: a digest of all of it, and a MinHash signature of its shingles.

A token is a word in lower case or one CJK ideograph. A shingle is a few consecutive tokens: ``words`` of them where it
begins with a word, ``characters`` of them where it begins with an ideograph, so that English, Chinese and texts that mix
them are cut by one rule and no guess of the language can tell two near copies apart. Punctuation does not count.

Two signatures agree in as many of their slots as the sets of shingles overlap: the share of equal slots estimates
their Jaccard similarity, that is shared shingles / all shingles. Source: Broder (1997), On the resemblance and
containment of documents; the signatures are those of rensa's ``RMinHash`` (Dahlgaard and others, 2017, Fast similarity
sketching). Everything else is done on arrays of code points, for some hundred texts at once. No hash depends on the
machine, the process, or which texts are handled together.
"""

import hashlib
import re
from array import array
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bothways.language import is_cjk

Codes = NDArray[np.uint32]
Hashes = NDArray[np.uint64]

PIECE = 1 << 16  # characters handled at once: the arrays of this many stay in the processor's cache
MOST_TEXTS = 128  # handled at once; from 256 on, rensa starts threads, which a forked process cannot use
MOST_SHINGLES = 1 << 20  # of one text; of a longer one, the smallest this many hashes stand for all
DIGEST_BYTES = 16
EMPTY = np.iinfo(np.uint32).max  # every slot of the signature of a text that has too few shingles

_TEXT = np.uint32(1 << 29)  # flags beside a code point in lower case: not white space,
_WORD_SHIFT = 30  # part of a word (1), or an ideograph (3)
_IDEOGRAPH = 3
_WORDS = re.compile(r"[^\W_]+|[\u0300-\u036f]+")  # letters, digits and the accents that follow letters
_ANY_SPACE = re.compile(r"\s")
_SEEK_SPACE = 1 << 10  # characters within which a long text is cut at white space, if there is some
_CODE_POINTS = 0x110000
_FIRST_IDEOGRAPH, _AFTER_IDEOGRAPHS = 0x3000, 0x40000
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
_PLACES = tuple(pow(0xD6E8FEB86659FD93, place, 1 << 64) for place in range(1, 33))  # one factor a place in a shingle
LONGEST_SHINGLE = len(_PLACES)


def mix(values: Hashes) -> Hashes:
    """Spread each 64-bit value over all its bits (the finaliser of MurmurHash3); a one-to-one map."""
    mixed = values ^ (values >> np.uint64(33))
    mixed *= np.uint64(0xFF51AFD7ED558CCD)
    mixed ^= mixed >> np.uint64(33)
    mixed *= np.uint64(0xC4CEB9FE1A85EC53)
    mixed ^= mixed >> np.uint64(33)
    return mixed


def distinct(values: Hashes) -> Hashes:
    """Return the different values, sorted (numpy's own ``unique`` takes ten times as long)."""
    ordered = np.sort(values)
    differs = np.ones(len(ordered), np.bool_)
    differs[1:] = ordered[1:] != ordered[:-1]
    return ordered[differs]


class Fingerprinter:
    """Computes digests and signatures of texts.

    Args:
        words: tokens of a shingle that begins with a word.
        characters: tokens of a shingle that begins with an ideograph.
        fewest: shingles that a text needs to have a signature.
        num_permutations: slots of a signature.
        seed: of the signatures.
        exact: whether digests are computed; if not, they are 0.
        near: whether signatures are computed; if not, they have no slots.
    """

    def __init__(
        self,
        *,
        words: int,
        characters: int,
        fewest: int,
        num_permutations: int,
        seed: int,
        exact: bool = True,
        near: bool = True,
    ) -> None:
        self._words, self._characters, self._fewest = words, characters, fewest
        self._num_permutations, self._seed = num_permutations, seed
        self._exact, self._near = exact, near

    def of_texts(self, texts: Sequence[str]) -> tuple[Hashes, Codes]:
        """Return the fingerprints of short texts.

        Args:
            texts: without white space around them; together, with one character between them, at most ``PIECE``
                characters, and at most ``MOST_TEXTS``.
        Returns:
            Digests, [texts, 2], and signatures, [texts, num_permutations].
        """
        codes = _codes("\n".join(texts))
        lengths = np.array([len(text) for text in texts], np.int64)
        starts = np.cumsum(lengths + 1) - lengths - 1  # in codes
        stops = starts + lengths
        folded = _tables()[0][codes]
        digests = np.zeros((len(texts), 2), np.uint64)
        if self._exact:
            kept = np.flatnonzero(_kept(folded, after_space=True))
            normal = folded[kept]
            bounds = np.searchsorted(kept, [starts, stops]).T.tolist()
            for index, (start, stop) in enumerate(bounds):
                digests[index] = _digest(hashlib.blake2b(normal[start:stop].data, digest_size=DIGEST_BYTES))
        return digests, self._signatures(codes, folded, stops) if self._near else _no_slots(len(texts))

    def of_long_text(self, text: str) -> tuple[Hashes, Codes]:
        """Return the fingerprint of one text without white space around it, as ``of_texts`` does; any length."""
        hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
        after_space = True
        gathered = _Smallest()
        reach = max(self._words, self._characters) - 1
        hashes, ideographs = np.zeros(0, np.uint64), np.zeros(0, np.bool_)
        for piece in _pieces(text):
            codes = _codes(piece)
            folded = _tables()[0][codes]
            if self._exact:
                hasher.update(folded[_kept(folded, after_space=after_space)].data)
                after_space = not folded[-1:].any()
            if self._near:
                more, are_ideographs, _ = _tokens(codes, folded)
                hashes, ideographs = np.concatenate((hashes, more)), np.concatenate((ideographs, are_ideographs))
                done = max(0, len(hashes) - reach)  # the shingles that begin here are whole
                gathered.add(self._shingles(hashes, ideographs)[:done])
                hashes, ideographs = hashes[done:], ideographs[done:]
        lengths = self._lengths(ideographs)
        whole = np.arange(len(hashes)) + lengths <= len(hashes)
        gathered.add(self._shingles(hashes, ideographs)[whole])
        digests = _digest(hasher) if self._exact else np.zeros(2, np.uint64)
        return digests[None], self._minhash(gathered.values(), [gathered.count]) if self._near else _no_slots(1)

    def _signatures(self, codes: Codes, folded: Codes, stops: NDArray[np.int64]) -> Codes:
        hashes, ideographs, starts = _tokens(codes, folded)
        bounds = np.concatenate(([0], np.searchsorted(starts, stops)))  # of the texts, in tokens
        ends = np.repeat(bounds[1:], np.diff(bounds))
        whole = np.arange(len(hashes)) + self._lengths(ideographs) <= ends
        counts = np.diff(np.concatenate(([0], np.cumsum(whole)))[bounds])
        return self._minhash(self._shingles(hashes, ideographs)[whole], counts.tolist())

    def _lengths(self, ideographs: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.where(ideographs, self._characters, self._words)

    def _shingles(self, hashes: Hashes, ideographs: NDArray[np.bool_]) -> Hashes:
        """Return the hash of the shingle that begins at each token; the last ones, which go past the end, are unusable."""
        if not ideographs.any():
            return _combined(hashes, self._words)
        if ideographs.all():
            return _combined(hashes, self._characters)
        return np.where(ideographs, _combined(hashes, self._characters), _combined(hashes, self._words))

    def _minhash(self, shingles: Hashes, counts: list[int]) -> Codes:
        """Return the signatures of texts that have so many of the shingles each."""
        from rensa import RMinHash

        enough = np.array(counts) >= self._fewest
        if not enough.all():
            shingles = shingles[np.repeat(enough, counts)]
        offsets = np.concatenate(([0], np.cumsum(np.where(enough, counts, 0)))).astype(np.uint64)
        rows = RMinHash.digest_matrix_from_flat_token_hashes(
            np.ascontiguousarray(shingles), offsets, self._num_permutations, self._seed
        ).to_rows()
        slots = array("I")
        for row in rows:
            slots.fromlist(row)
        return np.frombuffer(slots, np.uint32).reshape(len(counts), self._num_permutations)


class _Smallest:
    """The smallest ``MOST_SHINGLES`` different values of all that are added, or all values while they are fewer.

    Two sets that are nearly equal have nearly equal smallest members, so that the similarity of these estimates that of
    the sets (a bottom-k sketch), and a text of a billion characters needs no more memory than one of ten million.
    """

    def __init__(self) -> None:
        self.count = 0
        self._held: list[Hashes] = []
        self._limit: np.uint64 | None = None  # no value from here on is among the smallest

    def add(self, values: Hashes) -> None:
        if self._limit is not None:
            values = values[values < self._limit]
        self._held.append(values)
        self.count += len(values)
        if self.count > 2 * MOST_SHINGLES:
            self._reduce()

    def values(self) -> Hashes:
        if self.count > MOST_SHINGLES:
            self._reduce()
        return np.concatenate(self._held)

    def _reduce(self) -> None:
        smallest = distinct(np.concatenate(self._held))[:MOST_SHINGLES]
        self._held, self.count = [smallest], len(smallest)
        if self.count == MOST_SHINGLES:
            self._limit = smallest[-1]


def _codes(text: str) -> Codes:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint32, copy=False)


def _pieces(text: str) -> Iterator[str]:
    """Cut a text into pieces of at most ``PIECE`` characters, before white space if there is some."""
    start = 0
    while len(text) - start > PIECE:
        near = start + PIECE - _SEEK_SPACE
        space = _ANY_SPACE.search(text, near, near + _SEEK_SPACE)
        stop = space.start() if space else start + PIECE
        yield text[start:stop]
        start = stop
    yield text[start:]


def _kept(folded: Codes, *, after_space: bool) -> NDArray[np.bool_]:
    """Mark what remains when each run of white space becomes the first of it."""
    kept = folded != 0
    visible = kept.copy()
    kept[1:] |= visible[:-1]
    kept[:1] |= not after_space
    return kept


def _digest(hasher: Any) -> Hashes:
    return np.frombuffer(hasher.digest(), ">u8").astype(np.uint64)


def _tokens(codes: Codes, folded: Codes) -> tuple[Hashes, NDArray[np.bool_], NDArray[np.int64]]:
    """Return the hash of each token, whether it is an ideograph, and where it begins.

    The hash of a word is the polynomial of its letters: a sum over each word of letter × base**place in the array,
    divided by base**start.
    """
    kinds = (folded >> np.uint32(_WORD_SHIFT)).astype(np.uint8)
    begins = kinds != 0
    begins[1:] &= (kinds[1:] != kinds[:-1]) | (kinds[1:] == _IDEOGRAPH)
    starts = np.flatnonzero(begins)
    if not len(starts):
        return np.zeros(0, np.uint64), np.zeros(0, np.bool_), starts
    _, letters = _tables()
    powers, inverses = _powers()
    values = letters[codes]
    values *= powers[: len(values)]
    sums = np.add.reduceat(values, starts)
    sums *= inverses[starts]
    return mix(sums), kinds[starts] == _IDEOGRAPH, starts


def _combined(hashes: Hashes, length: int) -> Hashes:
    """Return a hash of each ``length`` consecutive values; what lies past the end counts as 0."""
    total = hashes * np.uint64(_PLACES[0])
    for place in range(1, min(length, len(hashes))):
        total[:-place] += hashes[place:] * np.uint64(_PLACES[place])
    return mix(total)


def _no_slots(count: int) -> Codes:
    return np.zeros((count, 0), np.uint32)


@cache
def _tables() -> tuple[Codes, Hashes]:
    """Return, for each code point, its lower case with flags (0 for white space), and what it adds to a word's hash."""
    every = np.arange(_CODE_POINTS, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    # U+0130 is the one letter whose lower case is two.
    folded = _codes(every.replace("\u0130", "i").lower()).copy()
    folded |= _TEXT
    for space in _ANY_SPACE.finditer(every):
        folded[space.start()] = 0
    for run in _WORDS.finditer(every):
        folded[run.start() : run.end()] |= np.uint32(1 << _WORD_SHIFT)
    for code in range(_FIRST_IDEOGRAPH, _AFTER_IDEOGRAPHS):
        if is_cjk(every[code]):
            folded[code] |= np.uint32(_IDEOGRAPH << _WORD_SHIFT)
    letters = mix(folded.astype(np.uint64))
    letters[folded >> np.uint32(_WORD_SHIFT) == 0] = 0
    return folded, letters


@cache
def _powers() -> tuple[Hashes, Hashes]:
    """Return the powers of the base, and of its inverse, modulo 2**64."""
    return _powers_of(_BASE), _powers_of(pow(_BASE, -1, 1 << 64))


def _powers_of(base: int) -> Hashes:
    factors = np.full(PIECE, base, np.uint64)
    factors[0] = 1
    return np.multiply.accumulate(factors)

"""Evaluation texts, and where any of them stands in a document.

Words are compared as ``word_hashes`` makes them: case, accents, punctuation and spacing do not matter. What counts as
a match, for an evaluation text of

- 13 words or more: 13 words in a row, of which one may differ;
- 8 to 12 words: all of them in a row, of which one may differ;
- fewer: a document that consists of these words and no others.

How it is found: 13 words of which one differs hold six in a row that agree at an even place and at an odd one. All
runs of six words of the evaluation texts are stored sorted, those at every second place of a document are looked up,
and where one is found the words around it are compared one by one. (8 to 12 words: their first and last four.)
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bothways.config import Config
from bothways.errors import DamagedFileError, UserError
from bothways.text.overlap.word_hashes import (
    HashedTexts,
    Hashes,
    Places,
    digests,
    grams,
    hash_pieces,
    hash_texts,
    joined,
    load_hashes,
    normalised_words,
    save_hashes,
)

Kind = Literal["exact", "ngram", "near"]
KINDS: tuple[Kind, ...] = ("exact", "ngram", "near")  # the closest first

SHORTEST = 8  # words; shorter texts are only looked for as whole documents, since anybody may write such words

_SHORT_GRAM = 4  # of two runs of four words, in a text of eight, one word can spoil but one
_FORMAT = 1  # of the saved index
_TOGETHER = 1 << 15  # candidates compared at once
_GROUP = 1 << 17  # characters of short documents that are searched together
_FILTER_BITS = (16, 27)  # least and most, of the number of entries of a filter


@dataclass(frozen=True, kw_only=True)
class Decontamination(Config):
    """How documents that overlap evaluation texts are found, and what becomes of them."""

    ngram: int = 13  # words in a row that a document may not share with an evaluation text
    differing: int = 1  # of these words that may differ: 0 or 1
    common: int = 50  # a run of words in more different evaluation texts than this is boilerplate, and not looked for
    action: Literal["drop", "count"] = "drop"

    def __post_init__(self) -> None:
        if not SHORTEST + 5 <= self.ngram <= 100:
            raise UserError(f"ngram must be between {SHORTEST + 5} and 100 words, not {self.ngram}")
        if self.differing not in (0, 1):
            raise UserError(f"differing must be 0 or 1, not {self.differing}")
        if self.common < 1:
            raise UserError(f"common must be at least 1, not {self.common}")


@dataclass(frozen=True, kw_only=True)
class Match:
    """An evaluation text that was found in a document."""

    source: str
    """Of the evaluation text."""
    kind: Kind
    word: int
    """Number, from 0, of the document's word at which the common words begin."""
    excerpt: str
    """The document's words there, in lower case."""


@dataclass(frozen=True)
class Hits:
    """Pairs of a text that was searched and an evaluation text that was found in it."""

    document: Places
    text: Places
    kind: NDArray[np.int8]
    """Index into ``KINDS``."""
    word: Places
    """Number of the word at which the common words begin, within the document."""
    begin: Places
    """The same within the evaluation text."""
    covered: Places
    """Words of the evaluation text that are common: of the pair's all windows, where pairs are joined."""

    def __len__(self) -> int:
        return len(self.document)


class OverlapIndex:
    """Evaluation texts, to be found in documents. Immutable; made by ``OverlapIndexBuilder`` or ``load``.

    Of evaluation texts with the same words, the first one is found. ``too_short`` is the number of texts that have so
    few words that they are only found where they are a whole document. It holds some 36 bytes a word: about 60 MB for 10 MB
    of English.
    """

    def __init__(self, texts: HashedTexts, sources: Sequence[str], settings: Decontamination | None = None) -> None:
        """Index hashed texts; ``sources`` says where each of them stands."""
        self.settings = settings or Decontamination()
        self.texts = texts
        self.sources = list(sources)
        ngram = self.settings.ngram
        half = (ngram - 1) // 2
        self._gram = half - half % 2  # even: then one of two looked-up places always meets an intact run
        self._whole, self._whole_text = np.unique(digests(texts), return_index=True)
        distinct = np.sort(self._whole_text)
        lengths = np.diff(texts.bounds)[distinct]
        self._long = _Runs.of(texts, distinct[lengths >= ngram], self._gram, most=self.settings.common)
        short = distinct[(lengths >= SHORTEST) & (lengths < ngram)]
        self._short = _Runs.of(texts, short, _SHORT_GRAM, ends_only=True)
        self.too_short = int((np.diff(texts.bounds) < SHORTEST).sum())

    def __len__(self) -> int:
        return len(self.sources)

    def contaminated(self, text: str) -> Match | None:
        """Return the first evaluation text that a document overlaps, or nothing."""
        return next(iter(self._find(text, first=True)), None)

    def contaminated_each(self, texts: Iterable[str]) -> Iterator[Match | None]:
        """Yield for each document what ``contaminated`` returns; several times faster for short documents."""
        group: list[str] = []
        size = 0
        for text in texts:
            if len(text) > _GROUP or size + len(text) > _GROUP:
                yield from self._first_of_each(group)
                group, size = [], 0
            if len(text) > _GROUP:
                yield self.contaminated(text)
            else:
                group.append(text)
                size += len(text)
        yield from self._first_of_each(group)

    def _first_of_each(self, texts: Sequence[str]) -> list[Match | None]:
        found = self.search(hash_texts(texts))
        hit = set(found.document.tolist())
        return [self.contaminated(text) if number in hit else None for number, text in enumerate(texts)]

    def find(self, text: str) -> list[Match]:
        """Return every evaluation text that a document overlaps, in order of their places, each once."""
        found: dict[str, Match] = {}
        for match in self._find(text, first=False):
            before = found.get(match.source)
            if before is None or KINDS.index(match.kind) < KINDS.index(before.kind):
                found[match.source] = match
        return sorted(found.values(), key=lambda match: (match.word, match.source))

    def _find(self, text: str, *, first: bool) -> Iterator[Match]:
        """Search a document piece by piece, so that memory does not grow with it."""
        words = 0
        kept = np.zeros(0, dtype=np.uint64)  # last words of the piece before, in which a match may begin
        kept_texts: list[str] = []
        reach = self.settings.ngram - 1
        text = text.strip()
        for number, (piece, hashes) in enumerate(hash_pieces(text)):
            window = np.concatenate([kept, hashes])
            whole = number == 0 and len(piece) == len(text)
            hits = self.search(HashedTexts(window, np.array([0, len(window)])), whole=whole)
            texts: list[str] = []
            if len(hits) or len(piece) < len(text):
                texts = [*kept_texts, *(normalised_words(piece) if len(hits) else [])]
            for at in np.lexsort((hits.text, hits.kind, hits.word)):
                begin = int(hits.word[at])
                yield Match(
                    source=self.sources[int(hits.text[at])],
                    kind=KINDS[int(hits.kind[at])],
                    word=words - len(kept) + begin,
                    excerpt=" ".join(texts[begin : begin + self.settings.ngram]).strip(),
                )
                if first:
                    return
            words += len(hashes)
            kept = window[len(window) - min(reach, len(window)) :]
            kept_texts = [""] * len(kept)

    def search(self, documents: HashedTexts, *, whole: bool = True) -> Hits:
        """Return all pairs of a document and an evaluation text that it overlaps, each once.

        Args:
            documents: hashed.
            whole: look for documents that are equal to an evaluation text, too.
        """
        searched = _Searched(documents)
        parts = [
            self._verified(searched, *pair, run=self._gram, ngram=self.settings.ngram)
            for pair in self._long.candidates(documents, step=2)
        ]
        parts += [self._verified_short(searched, *pair) for pair in self._short.candidates(documents, step=1)]
        if whole:
            parts.append(self._equal(documents))
        return _each_pair_once(parts)

    def _verified(self, searched: "_Searched", place: Places, text_place: Places, *, run: int, ngram: int) -> Hits:
        """Compare the words around runs that agree: ``ngram`` in a row, with ``run`` of them at the given places."""
        texts = self.texts
        text = np.searchsorted(texts.bounds, text_place, side="right") - 1
        document = searched.document_of(place)
        offsets = np.arange(run - ngram, ngram)
        left, right = place[:, None] + offsets, text_place[:, None] + offsets
        bounds = searched.texts.bounds
        inside = (left >= bounds[document][:, None]) & (left < bounds[document + 1][:, None])
        inside &= (right >= texts.bounds[text][:, None]) & (right < texts.bounds[text + 1][:, None])
        last, text_last = len(searched.texts.hashes) - 1, len(texts.hashes) - 1
        same = inside & (searched.texts.hashes[left.clip(0, last)] == texts.hashes[right.clip(0, text_last)])
        agree = _window_sums(same, ngram)
        agree[_window_sums(inside, ngram) < ngram] = 0
        best = agree.argmax(axis=1)
        last_best = agree.shape[1] - 1 - agree[:, ::-1].argmax(axis=1)
        most = agree[np.arange(len(best)), best]
        kept = most >= ngram - self.settings.differing
        kind = np.where(most == ngram, 1, 2).astype(np.int8)
        begin = place + run - ngram + best - bounds[document]
        text_begin = text_place + run - ngram + best - texts.bounds[text]
        covered = ngram + last_best - best
        return Hits(*(each[kept] for each in (document, text, kind, begin, text_begin, covered)))

    def _verified_short(self, searched: "_Searched", place: Places, text_place: Places) -> Hits:
        """Compare whole short texts, of which the first or the last four words agree."""
        texts, bounds = self.texts, searched.texts.bounds
        text = np.searchsorted(texts.bounds, text_place, side="right") - 1
        document = searched.document_of(place)
        start, length = texts.bounds[text], (texts.bounds[text + 1] - texts.bounds[text])
        begin = place - (text_place - start)
        inside = (begin >= bounds[document]) & (begin + length <= bounds[document + 1])
        begin, text, document, start, length = (each[inside] for each in (begin, text, document, start, length))
        offsets = np.arange(self.settings.ngram)
        counted = offsets < length[:, None]
        left = np.where(counted, begin[:, None] + offsets, 0)
        right = np.where(counted, start[:, None] + offsets, 0)
        differing = (counted & (searched.texts.hashes[left] != texts.hashes[right])).sum(axis=1)
        kept = differing <= self.settings.differing
        kind = np.where(differing == 0, 1, 2).astype(np.int8)
        begin -= bounds[document]
        return Hits(*(each[kept] for each in (document, text, kind, begin, np.zeros_like(begin), length)))

    def _equal(self, documents: HashedTexts) -> Hits:
        """Find documents that are equal to an evaluation text."""
        whole = digests(documents)
        document, at = meetings(self._whole, whole)
        kept = whole[document] != 0
        document, text = document[kept], self._whole_text[at[kept]]
        zeros = np.zeros(len(document), dtype=np.int64)
        return Hits(document, text, zeros.astype(np.int8), zeros, zeros, np.diff(self.texts.bounds)[text])

    def save(self, path: str | Path) -> None:
        """Write the evaluation texts' hashes to an .npz file, from which ``load`` makes the same index."""
        about = {"format": _FORMAT, "settings": self.settings.to_dict(), "sources": self.sources}
        save_hashes(path, self.texts, about)

    @classmethod
    def load(cls, path: str | Path) -> "OverlapIndex":
        """Read a file that ``save`` wrote.

        Raises:
            DamagedFileError: it is none, or damaged.
        """
        texts, about = load_hashes(path)
        try:
            settings = Decontamination.from_dict(about["settings"])
            sources = [str(source) for source in about["sources"]]
        except (KeyError, TypeError, UserError) as error:
            raise DamagedFileError(f"{str(path)!r} is no index of evaluation texts: {error}") from None
        if len(sources) != len(texts):
            raise DamagedFileError(f"{str(path)!r} names {len(sources)} texts and holds {len(texts)}")
        return cls(texts, sources, settings)

    def __getstate__(self) -> dict[str, Any]:
        return {"texts": self.texts, "sources": self.sources, "settings": self.settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["texts"], state["sources"], state["settings"])  # type: ignore[misc]


class OverlapIndexBuilder:
    """Takes evaluation texts one by one and makes an ``OverlapIndex`` of them."""

    def __init__(self, settings: Decontamination | None = None) -> None:
        self._settings = settings
        self._texts: list[str] = []
        self._parts: list[HashedTexts] = []
        self._sources: list[str] = []
        self._characters = 0

    def add(self, text: str, source: str) -> None:
        """Add an evaluation text; ``source`` says where it stands, such as ``test.jsonl:17``."""
        self._texts.append(text)
        self._sources.append(source)
        self._characters += len(text)
        if self._characters > 1 << 20:
            self._hash()

    def build(self) -> OverlapIndex:
        """Return the index."""
        self._hash()
        return OverlapIndex(joined(self._parts), self._sources, self._settings)

    def _hash(self) -> None:
        self._parts.append(hash_texts(self._texts))
        self._texts, self._characters = [], 0


@dataclass(frozen=True)
class _Runs:
    """Runs of words of texts, sorted, with a filter that most numbers which are not there do not pass."""

    size: int
    runs: Hashes
    places: Places
    filter: NDArray[np.bool_]

    @classmethod
    def of(
        cls, texts: HashedTexts, chosen: Places, size: int, *, ends_only: bool = False, most: int | None = None
    ) -> "_Runs":
        """Take the runs of the chosen texts: all, or the first and the last one of each.

        Args:
            most: leave runs out that more texts than this hold.
        """
        starts, stops = texts.bounds[chosen], texts.bounds[chosen + 1] - size
        if ends_only:
            places = np.concatenate([starts, stops])
        else:
            counts = stops - starts + 1
            ends = np.cumsum(counts)
            places = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)
        runs = grams(texts.hashes, size)[places] if len(places) else np.zeros(0, dtype=np.uint64)
        order = np.argsort(runs, kind="stable")
        if most is not None:
            order = order[_held_by_few(runs[order], np.searchsorted(texts.bounds, places[order], side="right"), most)]
        bits = int(np.clip(len(runs).bit_length() + 3, *_FILTER_BITS))
        passes = np.zeros(1 << bits, dtype=np.bool_)
        passes[runs[order] >> np.uint64(64 - bits)] = True
        return cls(size, runs[order], places[order], passes)

    def candidates(self, documents: HashedTexts, *, step: int) -> Iterator[tuple[Places, Places]]:
        """Yield places in documents and places in texts where the same run begins, in bounded batches."""
        if not len(self.runs):
            return
        found = grams(documents.hashes, self.size, step=step)
        bits = len(self.filter).bit_length() - 1
        passed = np.flatnonzero(self.filter[found >> np.uint64(64 - bits)])
        found = found[passed]
        low = np.searchsorted(self.runs, found, side="left")
        counts = np.searchsorted(self.runs, found, side="right") - low
        passed, low, counts = passed[counts > 0], low[counts > 0], counts[counts > 0]
        for place, at in _spread(passed * step, low, counts):
            yield place, self.places[at]


class _Searched:
    """Documents that are being searched."""

    def __init__(self, texts: HashedTexts) -> None:
        self.texts = texts

    def document_of(self, place: Places) -> Places:
        """Return the number of the document in which each word stands."""
        return np.asarray(np.searchsorted(self.texts.bounds, place, side="right") - 1)


def _held_by_few(runs: Hashes, text: Places, most: int) -> NDArray[np.bool_]:
    """Return which of the sorted runs stand in at most ``most`` texts; each run's texts are in ascending order."""
    if not len(runs):
        return np.zeros(0, dtype=np.bool_)
    new_run = np.concatenate([[True], runs[1:] != runs[:-1]])
    new_text = new_run | np.concatenate([[True], text[1:] != text[:-1]])
    number = np.cumsum(new_run) - 1
    return np.asarray(np.bincount(number, weights=new_text)[number] <= most)


def _spread(keys: Places, low: Places, counts: Places) -> Iterator[tuple[Places, Places]]:
    """Yield each key with each of the numbers from ``low`` on, ``counts`` of them, some thousand pairs at once."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    for start in range(0, total, _TOGETHER):
        pair = np.arange(start, min(start + _TOGETHER, total))
        owner = np.searchsorted(ends, pair, side="right")
        yield keys[owner], low[owner] + pair - (ends[owner] - counts[owner])


def meetings(sorted_numbers: Hashes, numbers: Hashes) -> tuple[Places, Places]:
    """Return all pairs of a place in ``numbers`` and one in ``sorted_numbers`` with equal numbers."""
    low = np.searchsorted(sorted_numbers, numbers, side="left")
    counts = np.searchsorted(sorted_numbers, numbers, side="right") - low
    parts = list(_spread(np.arange(len(numbers)), low, counts))
    none = np.zeros(0, dtype=np.int64)
    return (
        np.concatenate([left for left, _ in parts]) if parts else none,
        np.concatenate([right for _, right in parts]) if parts else none,
    )


def _window_sums(flags: NDArray[np.bool_], width: int) -> NDArray[np.int64]:
    """Return the number of true values in every window of a row, [rows, columns - width + 1]."""
    total = np.zeros((len(flags), flags.shape[1] + 1), dtype=np.int64)
    np.cumsum(flags, axis=1, out=total[:, 1:])
    return np.asarray(total[:, width:] - total[:, :-width])


def _each_pair_once(parts: Sequence[Hits]) -> Hits:
    """Join hits; of each pair of document and text the closest, and of these the first, is kept."""
    none = np.zeros(0, dtype=np.int64)
    document, text, kind, word, begin, covered = (
        np.concatenate([none, *(getattr(part, name) for part in parts if len(part))]).astype(np.int64)
        for name in ("document", "text", "kind", "word", "begin", "covered")
    )
    order = np.lexsort([word, kind, text, document])
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = (np.diff(document[order]) != 0) | (np.diff(text[order]) != 0)
    kept = order[first]
    pair = np.empty(len(order), dtype=np.int64)
    pair[order] = np.cumsum(first) - 1
    covered = _union(pair, begin, begin + covered)
    return Hits(document[kept], text[kept], kind[kept].astype(np.int8), word[kept], begin[kept], covered)


def _union(group: Places, begin: Places, end: Places) -> Places:
    """Return for each group, numbered from 0 on, how many places its stretches cover together."""
    if not len(group):
        return group
    order = np.lexsort([begin, group])
    group, begin, end = group[order], begin[order], end[order]
    shift = group * (int(end.max()) + 1)  # a later group begins after all ends of an earlier one
    reached = np.maximum.accumulate(end + shift)
    before = np.concatenate([[0], reached[:-1]])
    return np.bincount(group, weights=np.maximum(0, reached - np.maximum(before, begin + shift))).astype(np.int64)

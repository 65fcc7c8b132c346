"""Which documents repeat earlier ones, word for word or nearly: found on disk, in a fixed amount of memory.

Wherever documents are read, ``Fingerprints`` writes a few hundred bytes for each of them. ``find_duplicates`` then reads
the fingerprints of all parts of the corpus and decides which documents to drop. The order of the corpus alone decides:
of several copies the first is kept, however the corpus is divided into parts and whoever fingerprinted them.

Exact copies are equal but for case and white space. Near copies are found in three steps. A signature is cut into bands,
and documents that agree in all of a band are candidates (locality-sensitive hashing: Leskovec, Rajaraman and Ullman,
Mining of massive datasets, chapter 3). The similarity of each candidate pair is estimated by the whole signatures. Then,
in corpus order, a document is dropped if it is similar enough to an earlier one *that is kept*. So every document that
goes has a near copy that stays; whole connected components are not dropped, since a chain of small changes (A like B, B
like C) may join texts that have little in common.
"""

import heapq
import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from bothways.config import Config
from bothways.errors import UserError
from bothways.progress import track
from bothways.text.copies.minhash import (
    EMPTY,
    LONGEST_SHINGLE,
    MOST_TEXTS,
    PIECE,
    Codes,
    Fingerprinter,
    Hashes,
    distinct,
    mix,
)
from bothways.text.copies.partitions import Partitions, Rows, partition_of

PARTITION_BYTES = 8 << 20  # of records handled at once; handling them needs some ten times as much
EXAMPLES = 20
_CANDIDATE_CHANCE = 0.85  # at least, for a pair exactly as similar as the threshold: decides the rows of a band
_MOST_COMPARED = 8  # documents of one bucket that each later document of it is compared with
_ROWS_AT_ONCE = 1 << 13  # signatures in memory
_RECORD_COLUMNS = 3  # of a document: digest (two), source
_MOST_DOCUMENTS = 1 << 31


@dataclass(frozen=True, kw_only=True)
class Deduplication(Config):
    """What counts as a copy of an earlier document, to be dropped.

    Attributes:
        exact: drop documents that are equal to an earlier one, case and white space aside.
        near: drop documents that are similar to an earlier one.
        threshold: the least similarity of a near copy: shared shingles / all shingles, as estimated.
        words: length of a shingle where it begins with a word.
        characters: length of a shingle where it begins with a Chinese character.
        fewest_shingles: shorter documents have no near copies, since one word may be all that they say.
        num_permutations: slots of a signature of 4 bytes each; more estimate better.
        seed: of the signatures.
    """

    exact: bool = True
    near: bool = True
    threshold: float = 0.5
    words: int = 3
    characters: int = 3
    fewest_shingles: int = 20
    num_permutations: int = 128
    seed: int = 1

    def __post_init__(self) -> None:
        if not 0.1 <= self.threshold <= 1:
            raise UserError(f"deduplication.threshold must be from 0.1 to 1, not {self.threshold}")
        for name, length in (("words", self.words), ("characters", self.characters)):
            if not 1 <= length <= LONGEST_SHINGLE:
                raise UserError(f"deduplication.{name} must be from 1 to {LONGEST_SHINGLE}, not {length}")
        if self.fewest_shingles < 1:
            raise UserError(f"deduplication.fewest_shingles must be at least 1, not {self.fewest_shingles}")
        if self.num_permutations % 16 or not 16 <= self.num_permutations <= 1024:
            raise UserError(
                f"deduplication.num_permutations must be a multiple of 16 up to 1024, not {self.num_permutations}"
            )
        if not 0 <= self.seed < 1 << 64:
            raise UserError(f"deduplication.seed must be from 0 to 2**64 - 1, not {self.seed}")

    @property
    def rows(self) -> int:
        """Slots of a band: as many as leave a pair at the threshold a good chance to agree in at least one band."""
        chances = {
            rows: 1 - (1 - self.threshold**rows) ** (self.num_permutations // rows)
            for rows in range(1, self.num_permutations + 1)
            if self.num_permutations % rows == 0
        }
        return max(rows for rows, chance in chances.items() if chance >= _CANDIDATE_CHANCE)

    @property
    def bands(self) -> int:
        """Bands of a signature."""
        return self.num_permutations // self.rows


class DocumentIndex(NamedTuple):
    """Where a document stands: in which part, and there as which."""

    part: int
    document: int


@dataclass(frozen=True, kw_only=True)
class Duplicate:
    """A document that is dropped, and the earlier one that it repeats.

    The original of a near copy is kept. That of an exact copy is the first of its kind, which may be a near copy of yet
    another.
    """

    kind: Literal["exact", "near"]
    dropped: DocumentIndex
    original: DocumentIndex
    similarity: float


@dataclass(frozen=True, kw_only=True)
class DuplicateReport:
    """What ``find_duplicates`` found.

    Attributes:
        documents: all documents.
        too_short: those that only exact copies were sought of, when near ones are sought at all.
        exact: dropped as equal to an earlier document.
        near: dropped as similar to an earlier document that is kept.
        within_source: dropped documents whose original comes from the same source.
        across_sources: the others.
        candidate_pairs: different pairs of documents that agree in some band.
        crowded: how often a document met more than 8 others in a bucket and was compared with the first 8 only.
        examples: the first exact and near duplicates in corpus order, ten of each, or more of one if the other has less.
    """

    documents: int
    too_short: int
    exact: int
    near: int
    within_source: int
    across_sources: int
    candidate_pairs: int
    crowded: int
    examples: tuple[Duplicate, ...]

    @property
    def dropped(self) -> int:
        """All dropped documents."""
        return self.exact + self.near


class Fingerprints:
    """Writes the fingerprints of the documents of one part to a folder; use it as a context manager.

    The files appear when the block ends without an error: ``documents-00000.bin`` has digest and source (24 bytes a
    document), ``signatures-00000.bin`` the signatures (4 bytes a slot).

    Args:
        folder: where all parts of a corpus put their fingerprints; it must exist.
        part_index: the number of this part in the corpus.
        settings: the same for all parts.
    """

    def __init__(self, folder: Path, part_index: int, settings: Deduplication) -> None:
        self._paths = _paths(folder, part_index)
        self._fingerprinter = Fingerprinter(
            words=settings.words,
            characters=settings.characters,
            fewest=settings.fewest_shingles,
            num_permutations=settings.num_permutations,
            seed=settings.seed,
            exact=settings.exact,
            near=settings.near,
        )
        self._waiting: list[str] = []
        self._sources: list[int] = []
        self._characters = 0
        self._last_source = ("", _source_number(""))

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._outputs = [self._stack.enter_context(_partial(path).open("wb")) for path in self._paths]
        return self

    def add(self, text: str, *, source: str = "") -> None:
        """Fingerprint the next document.

        Args:
            text: of any length, and any characters; memory does not grow with it, but for Python's own copies.
            source: what it comes from (a file), to tell duplicates within a source from those across sources.
        """
        text = text.strip()
        if source != self._last_source[0]:
            self._last_source = source, _source_number(source)
        if self._waiting and (self._characters + len(text) >= PIECE or len(self._waiting) == MOST_TEXTS):
            self._flush()
        self._sources.append(self._last_source[1])
        if len(text) >= PIECE:
            self._write(*self._fingerprinter.of_long_text(text))
        else:
            self._waiting.append(text)
            self._characters += len(text) + 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is None and self._waiting:
                self._flush()
        for path in self._paths:
            if kind is None:
                os.replace(_partial(path), path)
            else:
                _partial(path).unlink(missing_ok=True)

    def _flush(self) -> None:
        self._write(*self._fingerprinter.of_texts(self._waiting))
        self._waiting, self._characters = [], 0

    def _write(self, digests: Hashes, signatures: Codes) -> None:
        sources = np.array(self._sources, np.uint64)
        for output, rows in zip(self._outputs, (np.column_stack((digests, sources)), signatures), strict=True):
            output.write(np.ascontiguousarray(rows).tobytes())
        self._sources = []


def find_duplicates(
    folder: Path,
    document_counts: Sequence[int],
    settings: Deduplication,
    *,
    partition_bytes: int = PARTITION_BYTES,
) -> DuplicateReport:
    """Decide which documents to drop, and write ``dropped-00000.npy`` (bool, [documents]) for each part.

    Memory: some 100 MB, and one byte a document. Disk, until it returns: for near copies 16 bytes a band and document
    beside the fingerprints.

    Args:
        folder: where ``Fingerprints`` of every part wrote.
        document_counts: documents of each part, in corpus order.
        settings: those of the fingerprints.
        partition_bytes: of records handled at once; the outcome is the same for all.
    Raises:
        DamagedFileError: fingerprints are missing, or not as many as documents.
        UserError: there are more than 2**31 documents.
    """
    if sum(document_counts) > _MOST_DOCUMENTS:
        raise UserError(f"{sum(document_counts):,} documents are too many to de-duplicate; at most 2**31 can be")
    search = _Search(folder, document_counts, settings, partition_bytes)
    with TemporaryDirectory(dir=folder, prefix="searching-") as scratch:
        if settings.exact:
            search.exact(Path(scratch))
        if settings.near:
            search.near(Path(scratch))
    for part, (start, stop) in enumerate(itertools.pairwise(search.bounds.tolist())):
        path = folder / f"dropped-{part:05}.npy"
        with _partial(path).open("wb") as output:
            np.save(output, search.dropped[start:stop], allow_pickle=False)
        os.replace(_partial(path), path)
    return search.report()


class _Search:
    """The state of one search; documents are numbered through the whole corpus."""

    def __init__(self, folder: Path, counts: Sequence[int], settings: Deduplication, partition_bytes: int) -> None:
        self._settings = settings
        self._partition_bytes = partition_bytes
        self.bounds = np.concatenate(([0], np.cumsum(np.array(counts, np.int64)))).astype(np.int64)
        self.dropped = np.zeros(int(self.bounds[-1]), np.bool_)
        paths = [_paths(folder, part) for part in range(len(counts))]
        slots = settings.num_permutations if settings.near else 0
        self._records = Rows([records for records, _ in paths], self.bounds, np.dtype("<u8"), _RECORD_COLUMNS)
        self._signatures = Rows([signatures for _, signatures in paths], self.bounds, np.dtype("<u4"), slots)
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[tuple[int, int, float]]] = {"exact": [], "near": []}

    def exact(self, scratch: Path) -> None:
        """Drop all but the first of each set of equal documents."""
        number = self._partitions(len(self.dropped) * 8 * 4)
        groups = Partitions(scratch, "digests", columns=4, number=number)
        for start, rows in self._records.chunks():
            documents = np.arange(start, start + len(rows), dtype=np.uint64)
            records = np.column_stack((rows[:, :2], documents, rows[:, 2]))
            groups.write(records, partition_of(records[:, 0], number))
        groups.flush()
        for partition in track(range(number), "finding equal documents"):
            for first, later in groups.matches(partition, keys=2, most=1, at_once=self._partition_bytes):
                self._drop("exact", first[:, 2], later[:, 2], np.ones(len(first)), first[:, 3] == later[:, 3])
            groups.remove(partition)

    def near(self, scratch: Path) -> None:
        """Drop each document that is similar to an earlier one which is kept."""
        bands = self._settings.bands
        size = (len(self.dropped) - self._counts["exact"]) * bands * 16
        number = self._partitions(size)
        buckets = Partitions(scratch, "bands", columns=2, number=number)
        for records in self._band_records():
            buckets.write(records, partition_of(records[:, 0], number))
        buckets.flush()
        width = max(1, -(-len(self.dropped) // number))  # documents of a partition of pairs
        pairs = Partitions(scratch, "pairs", columns=1, number=number)
        for partition in track(range(number), "finding similar documents"):
            for earlier, later in buckets.matches(
                partition, keys=1, most=_MOST_COMPARED, at_once=self._partition_bytes
            ):
                pairs.write((later[:, 1:] << np.uint64(32)) | earlier[:, 1:], later[:, 1].astype(np.int64) // width)
            buckets.remove(partition)
        pairs.flush()
        self._counts["crowded"] = buckets.crowded
        for partition in track(range(number), "comparing documents"):
            for found in self._pairs_of(pairs, partition, partition * width, width):
                self._counts["pairs"] += len(found)
                self._compare(found)
            pairs.remove(partition)

    def _partitions(self, size: int) -> int:
        return max(1, -(-size // self._partition_bytes))

    def _band_records(self) -> Iterator[NDArray[np.uint64]]:
        """Yield the hash of each band of each document that has a signature, and the document: [records, 2]."""
        bands, rows = self._settings.bands, self._settings.rows
        factors = mix(np.arange(1, bands * rows + 1, dtype=np.uint64)).reshape(bands, rows)
        for start, signatures in self._signatures.chunks():
            documents = np.arange(start, start + len(signatures))
            empty = (signatures == EMPTY).all(axis=1)
            self._counts["short"] += int(empty.sum())
            here = ~empty & ~self.dropped[documents]
            values = signatures[here].reshape(-1, bands, rows).astype(np.uint64)
            hashes = mix((values * factors).sum(axis=2, dtype=np.uint64))  # factors differ by band, and so do hashes
            yield np.column_stack((hashes.ravel(), np.repeat(documents[here].astype(np.uint64), bands)))

    def _pairs_of(self, pairs: Partitions, partition: int, first: int, width: int) -> Iterator[NDArray[np.uint64]]:
        """Yield the different pairs of a partition, sorted by the later document, then the earlier one.

        A document may be in pairs as often as it has bands and comparisons in each. Where a partition has far more
        pairs than usual it is read several times, for a few documents each time.
        """
        if pairs.bytes_of(partition) > 2 * self._partition_bytes:
            step = max(1, self._partition_bytes // (8 * self._settings.bands * _MOST_COMPARED))
        else:
            step = width
        for start in range(first, first + width, step):
            chosen = [
                block[(block >= np.uint64(start << 32)) & (block < np.uint64((start + step) << 32))]
                for block in pairs.blocks(partition, self._partition_bytes)
            ]
            if chosen:
                yield distinct(np.concatenate([block.ravel() for block in chosen]))

    def _compare(self, pairs: NDArray[np.uint64]) -> None:
        """Compare the signatures of pairs, sorted by the later document, and drop what is similar to a kept one."""
        threshold = self._settings.threshold
        for start in range(0, len(pairs), _ROWS_AT_ONCE // 2):
            batch = pairs[start : start + _ROWS_AT_ONCE // 2]
            later, earlier = (batch >> np.uint64(32)).astype(np.int64), (batch & np.uint64(0xFFFFFFFF)).astype(np.int64)
            open_still = ~self.dropped[later] & ~self.dropped[earlier]
            later, earlier = later[open_still], earlier[open_still]
            rows, places = np.unique(np.concatenate((later, earlier)), return_inverse=True)
            signatures = self._signatures.at(rows)
            left, right = signatures[places[: len(later)]], signatures[places[len(later) :]]
            similarity = (left == right).mean(axis=1)
            similar = similarity >= threshold
            self._decide(earlier[similar], later[similar], similarity[similar])

    def _decide(self, earlier: NDArray[np.int64], later: NDArray[np.int64], similarity: NDArray[np.float64]) -> None:
        chosen = []
        for index, (kept, document) in enumerate(zip(earlier.tolist(), later.tolist(), strict=True)):
            if not self.dropped[kept] and not self.dropped[document]:
                self.dropped[document] = True
                chosen.append(index)
        kept, gone = earlier[chosen], later[chosen]
        same = self._records.at(kept)[:, 2] == self._records.at(gone)[:, 2]
        self._drop("near", kept, gone, similarity[chosen], same)

    def _drop(
        self,
        kind: Literal["exact", "near"],
        originals: NDArray[Any],
        copies: NDArray[Any],
        similarity: NDArray[np.float64],
        same_source: NDArray[np.bool_],
    ) -> None:
        self.dropped[copies.astype(np.int64)] = True
        self._counts[kind] += len(copies)
        self._counts["within"] += int(same_source.sum())
        found = zip(copies.tolist(), originals.tolist(), similarity.tolist(), strict=True)
        self._examples[kind] = heapq.nsmallest(EXAMPLES, itertools.chain(self._examples[kind], found))

    def report(self) -> DuplicateReport:
        exact, near = self._examples["exact"], self._examples["near"]
        of_exact = max(EXAMPLES // 2, EXAMPLES - len(near))
        chosen = exact[:of_exact]
        return DuplicateReport(
            documents=len(self.dropped),
            too_short=self._counts["short"],
            exact=self._counts["exact"],
            near=self._counts["near"],
            within_source=self._counts["within"],
            across_sources=self._counts["exact"] + self._counts["near"] - self._counts["within"],
            candidate_pairs=self._counts["pairs"],
            crowded=self._counts["crowded"],
            examples=(
                *(self._duplicate("exact", *found) for found in chosen),
                *(self._duplicate("near", *found) for found in near[: EXAMPLES - len(chosen)]),
            ),
        )

    def _duplicate(self, kind: Literal["exact", "near"], dropped: int, original: int, similarity: float) -> Duplicate:
        return Duplicate(kind=kind, dropped=self._index(dropped), original=self._index(original), similarity=similarity)

    def _index(self, document: int) -> DocumentIndex:
        part = int(np.searchsorted(self.bounds, document, side="right")) - 1
        return DocumentIndex(part, document - int(self.bounds[part]))


def _paths(folder: Path, part: int) -> tuple[Path, Path]:
    return folder / f"documents-{part:05}.bin", folder / f"signatures-{part:05}.bin"


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _source_number(source: str) -> int:
    return int.from_bytes(blake2b(source.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")

"""Overlap between training and evaluation texts: found, counted, and on request removed.

A score on texts that were trained on says nothing. ``OverlapIndex`` holds evaluation texts and finds them in any
document, so that preparation can drop it (``Decontamination``, ``ContaminationReport``); ``overlap`` counts the test
examples of a task that stand in its training files.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count as numbers_from
from pathlib import Path
from typing import Any

import numpy as np

from bothways.errors import DamagedFileError
from bothways.text.overlap.index import (
    KINDS,
    Decontamination,
    Kind,
    Match,
    OverlapIndex,
    OverlapIndexBuilder,
    meetings,
)
from bothways.text.overlap.word_hashes import (
    HashedTexts,
    Hashes,
    Places,
    digests,
    digests_without_one,
    hash_texts,
    joined,
    load_hashes,
    normalised_words,
    save_hashes,
    select,
)

__all__ = [
    "Contaminated",
    "ContaminationReport",
    "Decontamination",
    "Found",
    "HashedExamples",
    "Kind",
    "Match",
    "OverlapIndex",
    "OverlapIndexBuilder",
    "OverlapReport",
    "normalised",
    "overlap",
]

SHOWN = 20  # examples of a report
TELLING = 5  # words from which on one text of several that an example has says that it is the same example
NEAR_TELLING = 13  # the same, where one word differs: "When was X born?" is asked of many
LONGEST_NEAR = 40  # words up to which examples that differ by one word are looked for as wholes; 13 in a row do beyond
COVERED = 1 / 3  # share of a test text that must be found, or
ENOUGH = 40  # words of it: 13 common ones in a long text are often a phrase that everybody uses
_BATCH = 1_000_000  # characters searched at once
_PLACE = re.compile(r"(?:[:@]\d+)?(?:#\d+)?\Z")  # of a document in its file: line or byte, and piece

Example = str | Mapping[str, Any]
"""A text, or column to value: all columns that hold text count."""


def normalised(text: str) -> str:
    """Return the words of a text as they are compared, joined by a space."""
    return " ".join(normalised_words(text))


@dataclass(frozen=True, kw_only=True)
class Contaminated:
    """A document that overlaps an evaluation text."""

    document: str
    evaluation: str
    kind: Kind
    excerpt: str


@dataclass(kw_only=True)
class ContaminationReport:
    """What decontamination found in documents; reports of parts merge, in the order of the parts."""

    documents: int = 0
    """That were searched."""
    contaminated: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    """Evaluation file to number of documents that overlap it first."""
    examples: list[Contaminated] = field(default_factory=list)
    """The first 20."""

    def add(self, document: str, match: Match | None) -> None:
        """Count a document; ``match`` is what ``OverlapIndex.contaminated`` found in it."""
        self.documents += 1
        if match is None:
            return
        self.contaminated += 1
        _add(self.kinds, match.kind, 1)
        _add(self.files, file_of(match.source), 1)
        if len(self.examples) < SHOWN:
            self.examples.append(
                Contaminated(document=document, evaluation=match.source, kind=match.kind, excerpt=match.excerpt)
            )

    def merge(self, other: "ContaminationReport") -> None:
        """Add what was found in other documents, which come after these."""
        self.documents += other.documents
        self.contaminated += other.contaminated
        for name, count in other.kinds.items():
            _add(self.kinds, name, count)
        for name, count in other.files.items():
            _add(self.files, name, count)
        self.examples = [*self.examples, *other.examples][:SHOWN]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        values = asdict(self)
        return {**values, "kinds": dict(sorted(self.kinds.items())), "files": dict(sorted(self.files.items()))}


def _add(counts: dict[str, int], name: str, number: int) -> None:
    counts[name] = counts.get(name, 0) + number


def file_of(source: str) -> str:
    """Return the file of a source such as ``test.jsonl:17``, ``test.jsonl@4096`` or ``test.txt#1``."""
    return _PLACE.sub("", source)


@dataclass(frozen=True)
class HashedExamples:
    """Examples of a task as word hashes: enough to find them again, and no text."""

    texts: HashedTexts
    """The texts of the first example, then those of the second, and so on."""
    bounds: Places
    """[examples + 1]: example ``e`` has the texts ``bounds[e]`` to ``bounds[e + 1]``."""
    sources: tuple[str, ...]
    """Of each example."""
    files: tuple[str, ...] = ()
    """From which they were read, where that is known."""

    def __len__(self) -> int:
        return len(self.sources)

    @classmethod
    def of(cls, examples: Iterable[Example], sources: Iterable[str] | None = None) -> "HashedExamples":
        """Hash examples; ``sources`` says where each stands; without it they are numbered from 1."""
        parts = list(_hashed(examples, sources))
        counts = np.concatenate([np.zeros(0, dtype=np.int64), *(np.diff(part.bounds) for part in parts)])
        bounds = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(
            joined([part.texts for part in parts]), bounds, tuple(name for part in parts for name in part.sources)
        )

    @property
    def wholes(self) -> HashedTexts:
        """Each example's texts as one."""
        return HashedTexts(self.texts.hashes, self.texts.bounds[self.bounds])

    def save(self, path: str | Path) -> None:
        """Write to an .npz file."""
        about = {
            "examples": np.diff(self.bounds).tolist(),
            "sources": list(self.sources),
            "files": list(self.files),
        }
        save_hashes(path, self.texts, about)

    @classmethod
    def load(cls, path: str | Path) -> "HashedExamples":
        """Read what ``save`` wrote.

        Raises:
            DamagedFileError: the file is something else, or damaged.
        """
        texts, about = load_hashes(path)
        try:
            counts = [int(count) for count in about["examples"]]
            sources, files = (tuple(map(str, about[name])) for name in ("sources", "files"))
        except (KeyError, TypeError, ValueError):
            raise DamagedFileError(f"{str(path)!r} is no file of hashed examples") from None
        if len(counts) != len(sources) or sum(counts) != len(texts) or min(counts, default=0) < 0:
            raise DamagedFileError(f"{str(path)!r} is no file of hashed examples, or is damaged")
        return cls(texts, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), sources, files)


def _hashed(examples: Iterable[Example], sources: Iterable[str] | None) -> Iterator[HashedExamples]:
    """Yield examples hashed, some hundred at once."""
    named = zip(examples, map(str, numbers_from(1)) if sources is None else sources, strict=sources is not None)
    group: list[list[str]] = []
    names: list[str] = []
    size = 0
    for example, name in named:
        group.append(texts_of(example))
        names.append(name)
        size += sum(map(len, group[-1]))
        if size > _BATCH or len(group) == _BATCH:
            yield _hashed_group(group, names)
            group, names, size = [], [], 0
    if group:
        yield _hashed_group(group, names)


def _hashed_group(group: Sequence[Sequence[str]], names: Sequence[str]) -> HashedExamples:
    texts = hash_texts(text for texts in group for text in texts)
    bounds = np.concatenate([[0], np.cumsum([len(texts) for texts in group])]).astype(np.int64)
    return HashedExamples(texts, bounds, tuple(names))


def texts_of(example: Example) -> list[str]:
    """Return the texts of an example, by name of column; never none."""
    if isinstance(example, str):
        return [example]
    return [value for _, value in sorted(example.items()) if isinstance(value, str)] or [""]


@dataclass(frozen=True, kw_only=True)
class Found:
    """A test example that was found in the training texts."""

    test: str
    """Its source."""
    train: str
    """Source of the training example."""
    kind: Kind
    excerpt: str
    """Words of the test example from where the common words begin, in lower case; empty if its text is not at hand."""


@dataclass(frozen=True, kw_only=True)
class OverlapReport:
    """How many test examples stand in the training texts: each counted once, by its closest kind.

    ``exact``: all of it, or one of several texts of at least five words, is a training text or example. ``ngram``: a
    training text holds 13 words in a row of it, or all words of one of its texts of 8 to 12 words. ``near``: the same,
    except for one word; also examples of 5 words or more that differ from a training example by one word.

    Two long texts may share 13 words that everybody uses. Of a text of more than 39 words, a third must therefore be
    found in one training text, in as many pieces as it takes, but never more than 40 words; and runs of words that
    more than 50 test texts hold are boilerplate and do not count. Of an example with several texts, one of fewer than
    5 words never says that it is the same, and one of fewer than 13 does so only if no word differs.
    """

    of: int
    """Test examples."""
    exact: int
    ngram: int
    near: int
    examples: tuple[Found, ...] = ()
    """The first 20."""

    @property
    def found(self) -> int:
        """Test examples found, of any kind."""
        return self.exact + self.ngram + self.near

    @property
    def share(self) -> float:
        """Share of the test examples that were found."""
        return self.found / self.of if self.of else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        counts = {"exact": self.exact, "ngram": self.ngram, "near": self.near}
        return {**counts, "share": self.share, "of": self.of, "examples": [asdict(each) for each in self.examples]}


def overlap(
    train: Iterable[Example] | HashedExamples,
    test: Sequence[Example],
    *,
    test_sources: Sequence[str] | None = None,
    train_sources: Iterable[str] | None = None,
) -> OverlapReport:
    """Count the test examples that stand in the training examples.

    Args:
        train: texts, or mappings from column to text: every text of them is searched for every text of the test
            examples. Leave columns out that are no texts of their own, such as labels.
        test: the same.
        test_sources, train_sources: where each example stands; without them they are numbered from 1.
    """
    search = _Search(HashedExamples.of(test, test_sources))
    for part in _batches(train) if isinstance(train, HashedExamples) else _hashed(train, train_sources):
        search.see(part)
    return search.report(test)


class _Search:
    """Test examples, and the closest training example that was found for each."""

    def __init__(self, test: HashedExamples) -> None:
        self.test = test
        self.kind = np.full(len(test), len(KINDS), dtype=np.int64)  # [examples]
        self.train = [""] * len(test)
        self.text = np.zeros(len(test), dtype=np.int64)  # that was found, of the example's
        self.word = np.zeros(len(test), dtype=np.int64)  # where in it
        _, self._first, self._same = np.unique(digests(test.texts), return_index=True, return_inverse=True)
        # A passage that stands in many examples is searched for once.
        self._owner_order = np.argsort(self._same, kind="stable")
        self._owners = np.bincount(self._same, minlength=len(self._first))
        self._owner_ends = np.cumsum(self._owners)
        self._index = OverlapIndex(select(test.texts, self._first), [""] * len(self._first))
        self._wholes = test.wholes
        self._near, self._near_owner = _shapes(self._wholes, least=TELLING)
        self._whole_digests = digests(self._wholes)

    def see(self, train: HashedExamples) -> None:
        """Search training examples."""
        example_of_text = np.repeat(np.arange(len(train)), np.diff(train.bounds))
        hits = self._index.search(train.texts)
        length = np.diff(self._index.texts.bounds)[hits.text]
        enough = hits.covered >= np.clip(length * COVERED, 0, ENOUGH)
        for at in np.flatnonzero(enough):
            text = hits.text[at]
            for place in self._owner_order[self._owner_ends[text] - self._owners[text] : self._owner_ends[text]]:
                source = train.sources[example_of_text[hits.document[at]]]
                self._found(int(place), source, int(hits.kind[at]), int(hits.begin[at]))
        self._see_wholes(train)

    def _found(self, text: int, train: str, kind: int, word: int) -> None:
        bounds = self.test.bounds
        example = int(np.searchsorted(bounds, text, side="right")) - 1
        words = self.test.texts.bounds[text + 1] - self.test.texts.bounds[text]
        telling = TELLING if kind == 0 else NEAR_TELLING if kind == 2 else 0
        if words < telling and bounds[example + 1] - bounds[example] > 1:
            return
        self._note(example, train, kind, text, word)

    def _note(self, example: int, train: str, kind: int, text: int, word: int) -> None:
        if kind < self.kind[example]:
            self.kind[example], self.train[example], self.text[example], self.word[example] = kind, train, text, word

    def _see_wholes(self, train: HashedExamples) -> None:
        """Find examples that are the same, or all but one word, as wholes."""
        whole = digests(train.wholes)
        near, owner = _shapes(train.wholes, least=TELLING - 1)
        for kind, ours, our_owner, theirs, their_owner in (
            (0, self._whole_digests, np.arange(len(self._wholes)), whole, np.arange(len(train))),
            (2, self._near, self._near_owner, near, owner),
        ):
            order = np.argsort(theirs, kind="stable")
            left, right = meetings(theirs[order], ours)
            for at, other in zip(left, order[right], strict=True):
                if ours[at]:
                    example = int(our_owner[at])
                    self._note(example, train.sources[int(their_owner[other])], kind, int(self.test.bounds[example]), 0)

    def report(self, test: Sequence[Example]) -> OverlapReport:
        """Return what was found."""
        counts = np.bincount(self.kind, minlength=len(KINDS) + 1)
        shown = np.flatnonzero(self.kind < len(KINDS))[:SHOWN]
        return OverlapReport(
            of=len(self.test),
            exact=int(counts[0]),
            ngram=int(counts[1]),
            near=int(counts[2]),
            examples=tuple(self._example(int(example), test) for example in shown),
        )

    def _example(self, example: int, test: Sequence[Example]) -> Found:
        text = texts_of(test[example])[int(self.text[example] - self.test.bounds[example])]
        word = int(self.word[example])
        return Found(
            test=self.test.sources[example],
            train=self.train[example],
            kind=KINDS[int(self.kind[example])],
            excerpt=" ".join(normalised_words(text)[word : word + 13]),
        )


def _shapes(texts: HashedTexts, *, least: int) -> tuple[Hashes, Places]:
    """Return what texts of ``least`` to 40 words have in common if they differ by one word, and the text of each."""
    lengths = np.diff(texts.bounds)
    short = np.flatnonzero((lengths >= least) & (lengths <= LONGEST_NEAR))
    chosen = select(texts, short)
    without, owner = digests_without_one(chosen)
    return np.concatenate([without, digests(chosen)]), np.concatenate([short[owner], short])


def _batches(examples: HashedExamples) -> Iterator[HashedExamples]:
    """Yield the examples, some hundred at once."""
    ends = examples.wholes.bounds
    start = 0
    while start < len(examples):
        stop = max(int(np.searchsorted(ends, ends[start] + _BATCH // 6, side="right")) - 1, start + 1)
        yield _slice(examples, start, min(stop, len(examples)))
        start = stop


def _slice(examples: HashedExamples, start: int, stop: int) -> HashedExamples:
    """Return the examples ``start`` to ``stop``."""
    texts = examples.bounds[start : stop + 1]
    words = examples.texts.bounds[texts[0] : texts[-1] + 1]
    hashed = HashedTexts(examples.texts.hashes[words[0] : words[-1]], words - words[0])
    return HashedExamples(hashed, texts - texts[0], examples.sources[start:stop])

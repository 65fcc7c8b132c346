"""A prepared corpus on disk: flat files of token ids, and where sentences, documents and words begin in them.

Nothing is read into memory until it is used, so a corpus may be larger than the machine. A split is stored as one or
more shards, each of two files of little-endian numbers:

- ``train-00000.bin``: token ids, uint16 or uint32 by the size of the vocabulary;
- ``train-00000.idx``: eight uint32 (version, bytes of an id, sentences, documents, 1 if words are kept, 0, 0, 0), then
  uint32 arrays: where each sentence begins among the tokens, and the end; where each document begins among the
  sentences, and the end; UTF-8 bytes of each document; then, if words are kept, a bit for each token that begins one.
"""

import hashlib
import json
import os
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from bothways.config import read_json
from bothways.errors import DamagedFileError, UserError

VERSION = 2
SPLITS = ("train", "validation", "test")
MANIFEST, REPORT = "manifest.json", "ingest_report.json"
SHARD_TOKENS = 2**26  # of a file; more go to the next one
_HEADER = 8


@dataclass(frozen=True, kw_only=True)
class EncodedDocument:
    """A document as token ids.

    Attributes:
        input_ids: [tokens].
        sentence_starts: [sentences] index of the first token of each sentence; the first is 0.
        num_bytes: UTF-8 bytes of the text.
        word_starts: [tokens] whether a word begins in the token; None: not kept.
    """

    input_ids: NDArray[Any]
    sentence_starts: NDArray[Any]
    num_bytes: int
    word_starts: NDArray[np.bool_] | None = None


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A run of documents, in memory or on disk.

    Attributes:
        input_ids: [tokens] of all documents in a row.
        sentences: [sentences + 1] where each sentence begins in ``input_ids``, and the end.
        documents: [documents + 1] where each document begins in ``sentences``, and the end.
        document_bytes: [documents] UTF-8 bytes.
        word_bits: [tokens / 8] a bit for each token in which a word begins; None: not kept.
    """

    input_ids: NDArray[Any]
    sentences: NDArray[Any]
    documents: NDArray[Any]
    document_bytes: NDArray[Any]
    word_bits: NDArray[np.uint8] | None = None

    def bounds(self, index: int) -> NDArray[np.int64]:
        """Return [sentences + 1] where each sentence of a document begins in ``input_ids``, and its end."""
        first, last = int(self.documents[index]), int(self.documents[index + 1])
        return self.sentences[first : last + 1].astype(np.int64)

    def tokens(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the token ids of a range."""
        return np.asarray(self.input_ids[start:stop], dtype=np.int64)

    def word_starts(self, start: int, stop: int) -> NDArray[np.bool_] | None:
        """Return, for each token of a range, whether a word begins in it."""
        if self.word_bits is None:
            return None
        bits = np.unpackbits(self.word_bits[start // 8 : -(-stop // 8)], bitorder="little")
        return bits[start % 8 : start % 8 + stop - start].astype(bool)


class Corpus:
    """The token ids of one split; documents are counted through all its shards."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = list(shards)
        self._ends = list(accumulate(len(shard.document_bytes) for shard in self.shards))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def num_tokens(self) -> int:
        """All tokens."""
        return sum(len(shard.input_ids) for shard in self.shards)

    @property
    def num_bytes(self) -> int:
        """All UTF-8 bytes."""
        return sum(int(shard.document_bytes.sum(dtype=np.int64)) for shard in self.shards)

    @property
    def document_bytes(self) -> NDArray[np.int64]:
        """[documents] UTF-8 bytes."""
        return _joined([shard.document_bytes for shard in self.shards])

    @property
    def document_tokens(self) -> NDArray[np.int64]:
        """[documents] tokens."""
        return _joined([np.diff(shard.sentences[shard.documents].astype(np.int64)) for shard in self.shards])

    def token_counts(self, vocab_size: int) -> NDArray[np.int64]:
        """Return [vocab_size] how often each token occurs."""
        counts = np.zeros(vocab_size, dtype=np.int64)
        for shard in self.shards:
            for start in range(0, len(shard.input_ids), SHARD_TOKENS // 16):
                counts += np.bincount(shard.input_ids[start : start + SHARD_TOKENS // 16], minlength=vocab_size)
        return counts

    def document(self, index: int) -> NDArray[np.int64]:
        """Return the token ids of a document."""
        shard, at = self._find(index)
        bounds = shard.bounds(at)
        return shard.tokens(bounds[0], bounds[-1])

    def origin(self, index: int) -> tuple[int, int]:
        """Return what tells a document from the others."""
        return self._place(index)

    def token_before(self, index: int) -> int | None:  # noqa: ARG002
        """Return the token that goes before this in the same document: none, since it is a whole one."""
        return None

    def ends(self, index: int) -> bool:  # noqa: ARG002
        """Return whether a document ends with this: it does, since it is a whole one."""
        return True

    def document_sentences(self, index: int) -> list[NDArray[np.int64]]:
        """Return the token ids of each sentence of a document."""
        shard, at = self._find(index)
        bounds = shard.bounds(at)
        return np.split(shard.tokens(bounds[0], bounds[-1]), bounds[1:-1] - bounds[0])

    def document_word_starts(self, index: int) -> NDArray[np.bool_] | None:
        """Return, for each token of a document, whether a word begins in it; None if that was not kept."""
        shard, at = self._find(index)
        bounds = shard.bounds(at)
        return shard.word_starts(int(bounds[0]), int(bounds[-1]))

    def num_sentences(self, index: int) -> int:
        """Return how many sentences a document has."""
        shard, at = self._find(index)
        return int(shard.documents[at + 1]) - int(shard.documents[at])

    def document_from(self, index: int, sentence: int, tokens: int) -> NDArray[np.int64]:
        """Return whole sentences of a document from one on: as few as have so many tokens, or all that are left."""
        start, stop, shard = self._range(index, sentence, tokens)
        return shard.tokens(start, stop)

    def word_starts_from(self, index: int, sentence: int, tokens: int) -> NDArray[np.bool_] | None:
        """Return where words begin in what ``document_from`` returns."""
        start, stop, shard = self._range(index, sentence, tokens)
        return shard.word_starts(start, stop)

    def _range(self, index: int, sentence: int, tokens: int) -> tuple[int, int, Shard]:
        shard, at = self._find(index)
        bounds = shard.bounds(at)[sentence:]
        enough = min(int(np.searchsorted(bounds[1:], bounds[0] + tokens)) + 1, len(bounds) - 1)
        return int(bounds[0]), int(bounds[enough]), shard

    def _find(self, index: int) -> tuple[Shard, int]:
        number, at = self._place(index)
        return self.shards[number], at

    def _place(self, index: int) -> tuple[int, int]:
        number = bisect_right(self._ends, index)
        return number, int(index) - (self._ends[number - 1] if number else 0)


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts]).astype(np.int64)


def gather(documents: Iterable[EncodedDocument]) -> Corpus:
    """Put encoded documents together as a corpus in memory; those without a token are left out."""
    builder = _Builder()
    parts = [builder.add(document) for document in documents]
    ids = _joined([part for part in parts if part is not None])
    return Corpus([builder.shard(ids)] if builder.document_bytes else [])


class _Builder:
    """Gathers the index of a shard."""

    def __init__(self) -> None:
        self.tokens = 0
        self.sentences: list[NDArray[np.int64]] = []
        self.num_sentences: list[int] = []
        self.document_bytes: list[int] = []
        self.words: list[NDArray[np.bool_]] = []

    def add(self, document: EncodedDocument) -> NDArray[Any] | None:
        """Note a document and return its ids, or None if it has none."""
        if not len(document.input_ids):
            return None
        self.sentences.append(document.sentence_starts + self.tokens)
        self.num_sentences.append(len(document.sentence_starts))
        self.document_bytes.append(document.num_bytes)
        if document.word_starts is not None:
            self.words.append(document.word_starts)
        self.tokens += len(document.input_ids)
        return document.input_ids

    def add_shard(self, shard: Shard) -> None:
        """Note all documents of a shard."""
        self.sentences.append(shard.sentences[:-1].astype(np.int64) + self.tokens)
        self.num_sentences += np.diff(shard.documents.astype(np.int64)).tolist()
        self.document_bytes += shard.document_bytes.tolist()
        if (words := shard.word_starts(0, len(shard.input_ids))) is not None:
            self.words.append(words)
        self.tokens += len(shard.input_ids)

    def shard(self, input_ids: NDArray[Any]) -> Shard:
        """Return what was noted."""
        words = np.packbits(np.concatenate(self.words), bitorder="little") if self.words else None
        return Shard(
            input_ids=input_ids,
            sentences=_joined([*self.sentences, np.array([self.tokens])]),
            documents=np.cumsum([0, *self.num_sentences], dtype=np.int64),
            document_bytes=np.array(self.document_bytes, dtype=np.int64),
            word_bits=words,
        )


class ShardWriter:
    """Writes documents to ``NAME-00000.bin`` and ``.idx``, ``NAME-00001`` when that is full, and so on.

    Nothing is written for no documents; those without a token are left out.
    """

    def __init__(self, folder: Path, name: str, *, vocab_size: int, shard_tokens: int = SHARD_TOKENS) -> None:
        self.counts: dict[str, int] = {"documents": 0, "sentences": 0, "tokens": 0, "bytes": 0}
        self.files: dict[str, dict[str, Any]] = {}
        self._folder, self._name, self._shard_tokens = folder, name, shard_tokens
        self._dtype = np.dtype("<u2" if vocab_size <= 2**16 else "<u4")
        self._number = 0
        self._builder = _Builder()
        self._ids: _HashedFile | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, document: EncodedDocument) -> None:
        """Append a document."""
        if (ids := self._builder.add(document)) is None:
            return
        self._ids = self._ids or _HashedFile(self._folder / self._file("bin"))
        self._ids.write(ids.astype(self._dtype).tobytes())
        self.counts["documents"] += 1
        self.counts["sentences"] += len(document.sentence_starts)
        self.counts["tokens"] += len(ids)
        self.counts["bytes"] += document.num_bytes
        if self._builder.tokens >= self._shard_tokens:
            self.close()

    def write_shard(self, shard: Shard) -> None:
        """Append all documents of a shard that was written with the same vocabulary."""
        self._builder.add_shard(shard)
        self._ids = self._ids or _HashedFile(self._folder / self._file("bin"))
        self._ids.write(shard.input_ids.astype(self._dtype).tobytes())
        self.counts["documents"] += len(shard.document_bytes)
        self.counts["sentences"] += len(shard.sentences) - 1
        self.counts["tokens"] += len(shard.input_ids)
        self.counts["bytes"] += int(shard.document_bytes.sum(dtype=np.int64))
        if self._builder.tokens >= self._shard_tokens:
            self.close()

    def close(self) -> None:
        """Finish the shard that is open; ``files`` then holds the size and SHA-256 of each file."""
        if self._ids is None:
            return
        self.files[self._file("bin")] = self._ids.close()
        shard = self._builder.shard(np.zeros(0))
        index = _HashedFile(self._folder / self._file("idx"))
        words = shard.word_bits is not None
        header = [VERSION, self._dtype.itemsize, len(shard.sentences) - 1, len(shard.document_bytes), words, 0, 0, 0]
        for part in (np.array(header), shard.sentences, shard.documents, shard.document_bytes):
            index.write(part.astype("<u4").tobytes())
        if shard.word_bits is not None:
            index.write(shard.word_bits.tobytes())
        self.files[self._file("idx")] = index.close()
        self._number, self._builder, self._ids = self._number + 1, _Builder(), None

    def _file(self, suffix: str) -> str:
        return f"{self._name}-{self._number:05d}.{suffix}"


class _HashedFile:
    """A file that knows its size and SHA-256 when it is closed."""

    def __init__(self, path: Path) -> None:
        self._path, self._partial = path, path.with_name(f"{path.name}.{os.getpid()}.partial")
        self._stream: BinaryIO = self._partial.open("wb", buffering=1 << 20)
        self._digest, self._size = hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        self._stream.write(data)
        self._digest.update(data)
        self._size += len(data)

    def close(self) -> dict[str, Any]:
        self._stream.close()
        os.replace(self._partial, self._path)
        return {"bytes": self._size, "sha256": self._digest.hexdigest()}


def write_manifest(folder: Path, details: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]) -> None:
    """Write ``manifest.json``.

    Args:
        folder: of the corpus.
        details: what to remember of the corpus: its language, its splits, the settings it was made by.
        files: name of each file to its size and SHA-256; those of the folder that are not named are measured here.
    """
    others = sorted(file for file in folder.iterdir() if file.is_file() and file.name not in files)
    known = {**files, **{file.name: describe(file) for file in others if file.name != MANIFEST}}
    values = {"version": VERSION, **details, "files": {name: dict(known[name]) for name in sorted(known)}}
    values = {"fingerprint": _fingerprint(values), **values}
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _fingerprint(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all that a manifest says, but for the report of the reading, which holds places of files."""
    files = {name: described for name, described in values["files"].items() if name != REPORT}
    canonical = json.dumps({**values, "fingerprint": None, "files": files}, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def describe(file: Path) -> dict[str, Any]:
    """Return the size and SHA-256 of a file."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"bytes": file.stat().st_size, "sha256": digest}


class Shards:
    """A prepared corpus folder, verified when it is opened."""

    def __init__(self, folder: str | Path, *, verify: bool = True) -> None:
        """Open DATA.

        Args:
            folder: what ``bothways prepare`` wrote.
            verify: compare every file with the manifest's SHA-256.
        Raises:
            UserError: the folder is not a prepared corpus, or one of a newer version.
            DamagedFileError: a file is missing or is not what the manifest says, or the manifest contradicts itself.
        """
        self.folder = Path(folder)
        self.manifest = self._read_manifest()
        for name, expected in self.manifest["files"].items():
            self._check(name, expected, verify)

    def _read_manifest(self) -> dict[str, Any]:
        file, again = self.folder / MANIFEST, "prepare the corpus again"
        if not file.is_file() or file.is_symlink():
            if any(self.folder.glob("*-[0-9][0-9][0-9][0-9][0-9].idx")):
                raise DamagedFileError(f"{str(self.folder)!r} has shards and no file {MANIFEST}; {again}")
            raise UserError(
                f"{str(self.folder)!r} is not a prepared corpus; make one with: bothways prepare TEXT --out {self.folder}"
            )
        try:
            manifest = read_json(file)
        except UserError as error:
            raise DamagedFileError(f"{error}; {again}") from None
        other = UserError(f"{str(self.folder)!r} was prepared by another version of bothways; prepare it again")
        if not isinstance(manifest, dict) or not manifest.keys() & {"fingerprint", "files", "splits"}:
            raise other
        kinds = {"files": dict, "splits": dict, "version": int}
        sound = all(isinstance(manifest.get(name), kind) for name, kind in kinds.items())
        if not sound or manifest.get("fingerprint") != _fingerprint(manifest):
            raise DamagedFileError(f"the manifest of {str(self.folder)!r} is damaged; {again}")
        if manifest["version"] != VERSION:
            raise other
        return manifest

    def _check(self, name: str, expected: dict[str, Any], verify: bool) -> None:
        file = self.folder / name
        if Path(name).name != name or not file.is_file() or file.is_symlink():
            raise DamagedFileError(f"{str(file)!r} is named in the manifest and is not there; prepare the corpus again")
        found = describe(file) if verify else {"bytes": file.stat().st_size, "sha256": expected["sha256"]}
        if found != expected:
            raise DamagedFileError(
                f"{str(file)!r} is damaged: expected {expected['bytes']} bytes with SHA-256 {expected['sha256']}, found "
                f"{found['bytes']} with {found['sha256']}; prepare the corpus again"
            )

    @property
    def fingerprint(self) -> str:
        """What a run remembers, so that it never goes on with another corpus."""
        return str(self.manifest["fingerprint"])

    def corpus(self, split: str) -> Corpus:
        """Return a split, memory-mapped.

        Raises:
            UserError: the corpus has no such split, or nothing in it.
        """
        if split not in self.manifest["splits"]:
            raise UserError(f"{str(self.folder)!r} has no {split} split")
        names = sorted(
            name for name in self.manifest["files"] if name.startswith(f"{split}-") and name.endswith(".idx")
        )
        if not names:
            raise UserError(f"the {split} split of {str(self.folder)!r} is empty; give more text")
        return Corpus([open_shard(self.folder / name) for name in names])


def open_shard(index: Path) -> Shard:
    """Return the shard of an ``.idx`` file and the ``.bin`` beside it, memory-mapped."""
    values = np.memmap(index, dtype=np.uint8, mode="r")
    _, width, sentences, documents, words, *_ = (int(value) for value in values[: 4 * _HEADER].view("<u4"))
    ends = 4 * np.cumsum([_HEADER, sentences + 1, documents + 1, documents])
    starts, firsts, sizes = (values[a:b].view("<u4") for a, b in pairwise(ends))
    return Shard(
        input_ids=np.memmap(index.with_suffix(".bin"), dtype="<u2" if width == 2 else "<u4", mode="r"),
        sentences=starts,
        documents=firsts,
        document_bytes=sizes,
        word_bits=values[ends[-1] :] if words else None,
    )

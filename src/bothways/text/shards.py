"""A prepared corpus on disk: one flat file of token ids, and where its sentences and documents begin.

Nothing is read into memory until it is used, so a corpus may be larger than the machine.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bothways.config import read_json
from bothways.errors import DamagedFileError, UserError

VERSION = 1
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class EncodedDocument:
    """A document as token ids.

    Attributes:
        input_ids: [tokens].
        sentence_starts: [sentences] index of the first token of each sentence; the first is 0.
        num_bytes: UTF-8 bytes of the text.
    """

    input_ids: NDArray[Any]
    sentence_starts: NDArray[Any]
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The token ids of one split.

    Attributes:
        input_ids: [tokens] of all documents in a row.
        sentences: [sentences + 1] where each sentence begins in ``input_ids``, and the end.
        documents: [documents + 1] where each document begins in ``sentences``, and the end.
        document_bytes: [documents] UTF-8 bytes.
    """

    input_ids: NDArray[Any]
    sentences: NDArray[Any]
    documents: NDArray[Any]
    document_bytes: NDArray[Any]

    def __len__(self) -> int:
        return len(self.document_bytes)

    @property
    def num_tokens(self) -> int:
        """All tokens."""
        return len(self.input_ids)

    @property
    def num_bytes(self) -> int:
        """All UTF-8 bytes."""
        return int(self.document_bytes.sum())

    def document(self, index: int) -> NDArray[np.int64]:
        """Return the token ids of a document."""
        start, stop = self.sentences[self.documents[index]], self.sentences[self.documents[index + 1]]
        return np.asarray(self.input_ids[start:stop], dtype=np.int64)

    def document_sentences(self, index: int) -> list[NDArray[np.int64]]:
        """Return the token ids of each sentence of a document."""
        bounds = self.sentences[self.documents[index] : self.documents[index + 1] + 1]
        whole = self.document(index)
        return np.split(whole, bounds[1:-1] - bounds[0])

    def num_sentences(self, index: int) -> int:
        """Return how many sentences a document has."""
        return int(self.documents[index + 1] - self.documents[index])

    def document_from(self, index: int, sentence: int, tokens: int) -> NDArray[np.int64]:
        """Return whole sentences of a document from one on: as few as have so many tokens, or all that are left."""
        bounds = self.sentences[self.documents[index] + sentence : self.documents[index + 1] + 1]
        enough = min(int(np.searchsorted(bounds[1:], bounds[0] + tokens)) + 1, len(bounds) - 1)
        return np.asarray(self.input_ids[bounds[0] : bounds[enough]], dtype=np.int64)


def gather(documents: Iterable[EncodedDocument]) -> Corpus:
    """Put encoded documents together as a corpus in memory; those without a token are left out."""
    kept = [document for document in documents if len(document.input_ids)]
    lengths = np.array([len(document.input_ids) for document in kept], dtype=np.int64)
    starts = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
    inner = [document.sentence_starts + start for document, start in zip(kept, starts[:-1], strict=True)]
    empty = np.zeros(0, dtype=np.int64)
    return Corpus(
        input_ids=np.concatenate([empty, *(document.input_ids for document in kept)]),
        sentences=np.concatenate([empty, *inner, starts[-1:]]),
        documents=np.cumsum([0, *(len(document.sentence_starts) for document in kept)], dtype=np.int64),
        document_bytes=np.array([document.num_bytes for document in kept], dtype=np.int64),
    )


def write_corpus(corpus: Corpus, folder: Path, split: str, vocab_size: int) -> None:
    """Write ``SPLIT-00000.bin`` (token ids, little-endian uint16 or uint32) and its index ``SPLIT-00000.idx``."""
    dtype = "<u2" if vocab_size <= 2**16 else "<u4"
    corpus.input_ids.astype(dtype).tofile(folder / f"{split}-00000.bin")
    parts = (corpus.sentences, corpus.documents, corpus.document_bytes)
    header = np.array([VERSION, np.dtype(dtype).itemsize, *(len(part) for part in parts)])
    np.concatenate([header, *parts]).astype("<i8").tofile(folder / f"{split}-00000.idx")


def write_manifest(folder: Path, details: dict[str, Any]) -> None:
    """Write ``manifest.json``: details, and the size and SHA-256 of every other file in the folder."""
    files = {file.name: describe(file) for file in sorted(folder.iterdir()) if file.name != "manifest.json"}
    values = {"version": VERSION, "fingerprint": _fingerprint(files), **details, "files": files}
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    (folder / "manifest.json").write_text(text, encoding="utf-8")


def _fingerprint(files: object) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


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
        if not (self.folder / "manifest.json").is_file():
            raise UserError(
                f"{str(folder)!r} is not a prepared corpus; make one with: bothways prepare TEXT --out {folder}"
            )
        self.manifest = read_json(self.folder / "manifest.json")
        if not isinstance(self.manifest, dict) or self.manifest.get("version") != VERSION:
            raise UserError(f"{str(folder)!r} was prepared by another version of bothways; prepare it again")
        files, splits = self.manifest.get("files"), self.manifest.get("splits")
        if (
            not isinstance(files, dict)
            or not isinstance(splits, dict)
            or self.manifest.get("fingerprint") != _fingerprint(files)
        ):
            raise DamagedFileError(f"the manifest of {str(folder)!r} is damaged; prepare the corpus again")
        for name, expected in files.items():
            self._check(name, expected, verify)

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
        file = self.folder / f"{split}-00000.idx"
        if f"{split}-00000.idx" not in self.manifest["files"]:
            raise UserError(f"{str(self.folder)!r} has no {split} split")
        values = np.fromfile(file, dtype="<i8")
        bounds = 5 + np.cumsum([0, *values[2:5]])
        sentences, documents, document_bytes = (values[start:stop] for start, stop in pairwise(bounds))
        if len(document_bytes) == 0:
            raise UserError(f"the {split} split of {str(self.folder)!r} is empty; give more text")
        dtype = "<u2" if values[1] == 2 else "<u4"
        input_ids = np.memmap(self.folder / f"{split}-00000.bin", dtype=dtype, mode="r")
        return Corpus(input_ids=input_ids, sentences=sentences, documents=documents, document_bytes=document_bytes)

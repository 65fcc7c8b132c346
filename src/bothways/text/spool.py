"""Cleaned documents on their way from reading to encoding: packed files that are written once and streamed again."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import zstandard

from bothways.text.reading.documents import Document

CHUNK_BYTES = 32 << 20  # of text in one file; it is what one worker encodes at a time
_LENGTHS = struct.Struct("<II")  # bytes of the source and of the text


class SpoolWriter:
    """Writes documents to ``docs-00000-00000.zst`` and on (part, chunk); a chunk is closed once it has enough text."""

    def __init__(self, folder: Path, part: int, *, chunk_bytes: int = CHUNK_BYTES) -> None:
        self.counts: list[int] = []
        """Documents of each chunk."""
        self.bytes = 0
        """UTF-8 bytes of all texts."""
        self._folder, self._part, self._chunk_bytes = folder, part, chunk_bytes
        self._partial = folder / f"part-{part:05d}.{os.getpid()}.partial"  # the same work may be done twice
        self._stream: zstandard.ZstdCompressionWriter | None = None
        self._room = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def add(self, document: Document) -> None:
        """Append a document."""
        text, source = document.text.encode("utf-8", "surrogatepass"), document.source.encode("utf-8", "surrogatepass")
        if self._stream is None:
            self._stream = zstandard.ZstdCompressor(level=1).stream_writer(self._partial.open("wb"))
            self._room = self._chunk_bytes
            self.counts.append(0)
        self._stream.write(_LENGTHS.pack(len(source), len(text)) + source + text)
        self.counts[-1] += 1
        self.bytes += len(text)
        self._room -= len(text)
        if self._room <= 0:
            self._close()

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()  # type: ignore[no-untyped-call]
            self._stream = None
            os.replace(self._partial, spool_file(self._folder, self._part, len(self.counts) - 1))


def spool_file(folder: Path, part: int, chunk: int) -> Path:
    """Return where the documents of a chunk are."""
    return folder / f"docs-{part:05d}-{chunk:05d}.zst"


def read_spool(path: Path) -> Iterator[Document]:
    """Yield the documents of a chunk."""
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file, read_size=1 << 20) as stream:
        while lengths := stream.read(_LENGTHS.size):
            source, text = _LENGTHS.unpack(lengths)
            record = stream.read(source + text)
            yield Document(
                source=record[:source].decode("utf-8", "surrogatepass"),
                text=record[source:].decode("utf-8", "surrogatepass"),
            )

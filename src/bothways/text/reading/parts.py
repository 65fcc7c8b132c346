"""Divides a corpus into parts that can be read on their own, by any worker: the parts depend on the files alone."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Self

from bothways.errors import OutOfDiskError
from bothways.text.reading.accounting import EARLY, IngestReport, OnBad, judge
from bothways.text.reading.documents import Document, Intake, Stretch, documents_of
from bothways.text.reading.files import STDIN, SourceFile
from bothways.text.reading.unpacking import BUFFER, check_head

PART_BYTES = 32 << 20
_UNPACKED_RATIO = 4  # of the sizes of text, unpacked and packed, about
_DIVIDED = (".jsonl", ".ndjson")


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Consecutive files of a corpus, or a range of one .jsonl or .ndjson file that is not packed."""

    index: int
    """Counted from 0 in the order of the corpus."""
    files: tuple[SourceFile, ...]
    start: int = 0
    """First byte of the range: the start of a line."""
    stop: int | None = None
    """Where the range ends, behind a newline; None for the end of the file."""
    bytes_before: int = 0
    """Bytes of the pipe that came before, of a spooled part."""
    lines_before: int | None = 0
    """Lines before the range or, of a spooled part, of the pipe; None if they have not been counted."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        files = [{**asdict(file), "path": str(file.path)} for file in self.files]
        return {**asdict(self), "files": files}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the part that ``to_dict`` was called on."""
        files = tuple(SourceFile(**{**file, "path": Path(file["path"])}) for file in values["files"])
        return cls(**{**values, "files": files})


def divide(files: Sequence[SourceFile], part_bytes: int = PART_BYTES) -> list[Part]:
    """Return the parts of a corpus, in order.

    Consecutive files are grouped up to ``part_bytes`` on disk, packed ones counting fourfold; a plain .jsonl or .ndjson
    file over that is divided into ranges of about as many, each line belonging to the part in which it begins; any
    other file stays whole.
    """
    parts: list[Part] = []
    group: list[SourceFile] = []
    size = 0  # of the group

    def close_group() -> None:
        if group:
            parts.append(Part(index=len(parts), files=tuple(group)))
            group.clear()

    for file in files:
        ranges = _ranges(file, part_bytes) if file.format in _DIVIDED and not file.compression else []
        if len(ranges) > 1:
            close_group()
            size = 0
            parts += [
                Part(
                    index=len(parts) + number, files=(file,), start=start, stop=stop, lines_before=None if start else 0
                )
                for number, (start, stop) in enumerate(ranges)
            ]
            continue
        weight = file.size * (_UNPACKED_RATIO if file.compression or file.format == ".parquet" else 1)
        if size + weight > part_bytes:
            close_group()
            size = 0
        group.append(file)
        size += weight
    close_group()
    return parts


def _ranges(file: SourceFile, part_bytes: int) -> list[tuple[int, int]]:
    starts = [0]
    if file.size > part_bytes:
        with open(file.path, "rb") as stream:
            for place in range(part_bytes, file.size, part_bytes):
                if place > starts[-1]:  # otherwise it lies in the line that the last range ends with
                    starts.append(_line_start(stream, place))
    starts = [start for start in starts if start < file.size] or [0]
    return list(zip(starts, [*starts[1:], file.size], strict=True))


def _line_start(stream: BufferedReader, place: int) -> int:
    """Return where the first line begins that does not begin before ``place``, or the end of the file."""
    stream.seek(place - 1)
    for data in iter(lambda: stream.readline(BUFFER), b""):
        if data.endswith(b"\n"):
            break
    return stream.tell()


def read_part(
    part: Part,
    *,
    report: IngestReport,
    text_column: str = "text",
    on_bad: OnBad = "error",
    delimiter: str | None = None,
) -> Iterator[Document]:
    """Read one part as ``read_documents`` would; the share of bad lines is left to ``Account``.

    In the report, lines of a range that is not the first of its file are counted from the start of the range:
    ``Account`` sets that right. An error under ``on_bad="error"`` names the line of the file.
    """
    intake = Intake(on_bad, 1.0, report, delimiter=delimiter, judging=False)
    stretches = (
        Stretch(
            file=file,
            start=part.start,
            stop=part.stop,
            bytes_before=part.bytes_before,
            lines_before=part.lines_before,
        )
        for file in part.files
    )
    return documents_of(stretches, intake, text_column)


class Account:
    """Adds up the reports of parts, in the order of the parts, to that of the whole corpus, and judges it on the way."""

    def __init__(self, max_bad: float, report: IngestReport | None = None) -> None:
        self.report = IngestReport() if report is None else report
        """Of the parts so far."""
        self._max_bad = max_bad
        self._lines_of_file = 0  # in the ranges, so far, of the file that is divided

    def add(self, part: Part, report: IngestReport) -> None:
        """Add the report of the next part.

        Raises:
            UserError: from the 1000th line on, the share of bad lines is above ``max_bad``.
        """
        if part.start == 0:
            self._lines_of_file = 0
        self.report.add(report, lines_before=self._lines_of_file)
        if part.stop is not None:
            self._lines_of_file += report.lines
        if self.report.lines >= EARLY:
            judge(self.report, self._max_bad)

    def finish(self) -> IngestReport:
        """Judge at the end, and return the report.

        Raises:
            UserError: the share of bad lines is above ``max_bad``.
        """
        judge(self.report, self._max_bad)
        return self.report


# A pipe


def spool(stream: BinaryIO, folder: Path, part_bytes: int = PART_BYTES) -> Iterator[Part]:
    """Write what comes through a pipe to ``folder/stdin-00000.jsonl`` and on, and yield each as a part once it is whole.

    The files are of about ``part_bytes`` and end at line ends. If the first character that is no white space is ``{``
    the lines are those of a .jsonl; if not, all is the text of one document, which is also cut where a file ends.
    Whoever takes the parts may delete each file when it has been read.

    Raises:
        UserError: what comes is packed, in UTF-16 or no text.
        OutOfDiskError: the disk is full.
    """
    data = stream.read(BUFFER)
    check_head(STDIN, data[:4096])
    suffix = ".jsonl" if data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{") else ".txt"
    index = before = lines = 0
    while data:
        path = folder / f"stdin-{index:05d}{suffix}"
        size, count, data = _fill(path, stream, data, part_bytes)
        file = SourceFile(path=path, name=STDIN, format=suffix, compression="", size=size)
        yield Part(index=index, files=(file,), bytes_before=before, lines_before=lines)
        index, before, lines = index + 1, before + size, lines + count
        data = data or stream.read(BUFFER)


def _fill(path: Path, stream: BinaryIO, data: bytes, part_bytes: int) -> tuple[int, int, bytes]:
    """Write one file; return its bytes and newlines, and what was read and belongs to the next."""
    size = count = 0
    try:
        with open(path, "wb") as out:
            while data:
                end = data.find(b"\n", max(0, part_bytes - size - 1)) + 1
                taken = data[:end] if end else data
                out.write(taken)
                size, count = size + len(taken), count + taken.count(b"\n")
                if end:
                    return size, count, data[end:]
                data = stream.read(BUFFER)
    except OSError as error:
        raise OutOfDiskError(f"{str(path)!r} could not be written: {error.strerror or error}") from None
    return size, count, b""

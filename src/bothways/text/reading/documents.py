"""Reads a person's own text: files and folders in, documents out, and every line accounted for.

``read_documents`` (raw text) and ``read_records`` (rows of a task file) are two short loops over the same rows; what
happens to a bad one is decided in one place, ``Intake``.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_args

from bothways.errors import UserError, unknown
from bothways.text.cutting import LONGEST, cut_place
from bothways.text.reading.accounting import EARLY, SHOWN, OnBad, judge
from bothways.text.reading.accounting import IngestReport as IngestReport
from bothways.text.reading.accounting import Rejected as Rejected
from bothways.text.reading.files import ARROW, HUB, Paths, SourceFile, find_files
from bothways.text.reading.published import read_arrow, read_hub, read_parquet
from bothways.text.reading.rows import Block, Opened, Reader, SourceRow, read_json, read_json_lines, read_text
from bothways.text.reading.tables import read_csv, read_tsv
from bothways.text.reading.unpacking import BUFFER, open_file

RECORD_READERS: dict[str, Reader] = {
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".parquet": read_parquet,
    ARROW: read_arrow,
    HUB: read_hub,
}
"""Formats whose rows have columns."""

FORMATS = (".txt", ".md", *RECORD_READERS)
NO_COLUMN = "no such column"  # the kind of problem
# What to do about a bad line, and about a column that is not there: of texts that are prepared, of examples.
OF_TEXTS = (
    "mend it, or prepare with --on-bad skip to leave such lines out",
    "name another with --text-column, or prepare with --on-bad skip to leave such lines out",
)
OF_EXAMPLES = ("mend it, or take it out of the file", "rename a column of the file to the one that is needed")
"""All formats."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """One text of a corpus."""

    text: str
    source: str
    """Where it stands, the same on every machine: ``folder/a.txt``, ``folder/a.txt#1`` for its second piece,
    ``folder/a.jsonl:17`` for a line, ``folder/a.jsonl@81920`` (byte) for a line of a later part of a divided file."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One row of a task file."""

    values: dict[str, Any]
    """Column to value: always text from .csv and .tsv, any JSON value from .json and .jsonl."""
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """A file to read, or a range of one."""

    file: SourceFile
    start: int = 0
    """First byte of the range."""
    stop: int | None = None
    """Where the range ends; None for the end of the file."""
    bytes_before: int = 0
    """Bytes of the same stream that were in files before this one."""
    lines_before: int | None = 0
    """Lines of the file or stream before the range; None if they have not been counted."""

    @property
    def offset(self) -> int:
        """Bytes before the range, of file and stream."""
        return self.bytes_before + self.start


def read_documents(
    paths: Paths,
    *,
    text_column: str = "text",
    on_bad: OnBad = "error",
    max_bad: float = 0.001,
    report: IngestReport | None = None,
    delimiter: str | None = None,
) -> Iterator[Document]:
    """Read a corpus as a stream, in an order that is the same on every machine, in memory that does not grow with it.

    A ``.txt`` or ``.md`` file is one document, in pieces of at most 100,000 characters that are cut between paragraphs
    (``cutting``); every line of ``.jsonl`` and ``.ndjson`` is one, every object of ``.json`` and every row of ``.csv``,
    ``.tsv``, ``.parquet`` and of a data set from the Hugging Face hub; each file also packed as ``.gz``, ``.bz2``,
    ``.xz`` or ``.zst``. All are UTF-8. For folders, globs and data sets see ``files.find_files``.

    Args:
        paths: a file, folder, glob or data set, or several.
        text_column: the column or key that holds the text.
        on_bad: at a bad line, stop (``error``), or go on without it (``skip``) or with U+FFFD in place of broken
            characters (``replace``; a line that cannot be mended so is skipped).
        max_bad: share of bad lines above which ``skip`` and ``replace`` stop too, judged at the end and from the
            1000th line on.
        report: is filled on the way.
        delimiter: between the cells of ``.csv``; the comma if not given.
    Raises:
        UserError: at the call, for a path that cannot be read; on the way, for a bad line or file.
    """
    intake = Intake(on_bad, max_bad, report, delimiter=delimiter)
    return documents_of(map(_whole, intake.find(paths, FORMATS)), intake, text_column)


def read_records(
    paths: Paths,
    *,
    columns: Sequence[str] = (),
    on_bad: OnBad = "error",
    max_bad: float = 0.001,
    report: IngestReport | None = None,
    delimiter: str | None = None,
) -> Iterator[Record]:
    """Read the rows of task files (formats with columns) with the care of ``read_documents``.

    Args:
        columns: names that every row must have, with a value other than null.
    """
    intake = Intake(on_bad, max_bad, report, delimiter=delimiter, remedies=OF_EXAMPLES)
    return _records(map(_whole, intake.find(paths, RECORD_READERS)), intake, columns)


def _whole(file: SourceFile) -> Stretch:
    return Stretch(file=file)


def documents_of(stretches: Iterable[Stretch], intake: "Intake", text_column: str) -> Iterator[Document]:
    """Yield the documents of files and ranges."""
    for stretch in stretches:
        with intake.open(stretch, (text_column,)) as opened:
            if stretch.file.format in RECORD_READERS:
                yield from _row_documents(opened, stretch, intake, text_column)
            else:
                yield from _text_pieces(opened, stretch, intake)
    intake.finish()


def _row_documents(opened: Opened, stretch: Stretch, intake: "Intake", column: str) -> Iterator[Document]:
    report, source, hub = intake.report, _source_of_rows(stretch), stretch.file.format == HUB
    for row in RECORD_READERS[stretch.file.format](opened):
        values = row.values
        if values is None or row.problem:
            values = intake.settle(stretch, row)
            if values is None:
                continue
        text = values.get(column)
        if not isinstance(text, str):
            intake.reject(stretch, row, *_lacks(values, column))
        elif not text or text.isspace():
            report.lines += 1
            report.empty += 1
        else:
            if row.problem:
                intake.keep(stretch, row)
            else:  # what keep does, without the call
                report.lines += 1
                report.kept += 1
            report.documents += 1
            if hub:
                report.bytes += len(text.encode())
            yield Document(text=text, source=source(row))


def _source_of_rows(stretch: Stretch) -> Callable[[SourceRow], str]:
    name = stretch.file.name
    return (lambda row: f"{name}@{row.offset}") if stretch.lines_before is None else (lambda row: f"{name}:{row.line}")


def _text_pieces(opened: Opened, stretch: Stretch, intake: "Intake") -> Iterator[Document]:
    name = stretch.file.name + (f"@{stretch.offset}" if stretch.offset else "")
    number = 0
    for piece in _cut(_sound_text(opened, stretch, intake)):
        if not piece.isspace():
            intake.report.documents += 1
            yield Document(text=piece, source=f"{name}#{number}" if number else name)
            number += 1


def _sound_text(opened: Opened, stretch: Stretch, intake: "Intake") -> Iterator[str]:
    report = intake.report
    for found in read_text(opened):
        if isinstance(found, Block):
            report.lines += found.lines
            report.kept += found.lines - found.blank
            report.empty += found.blank
            yield found.text
        elif (values := intake.settle(stretch, found)) is not None:
            intake.keep(stretch, found)
            yield values["text"]


def _cut(texts: Iterable[str]) -> Iterator[str]:
    """Yield the pieces that ``cutting.cut`` gives of the joined texts, without holding more than there is of one."""
    pending: list[str] = []
    length = 0
    for text in texts:
        pending.append(text)
        length += len(text)
        if length > LONGEST:
            joined, start = "".join(pending), 0
            while len(joined) - start > LONGEST:
                end = cut_place(joined, start)
                yield joined[start:end]
                start = end
            pending, length = [joined[start:]], len(joined) - start
    if length:
        yield "".join(pending)


def _records(stretches: Iterable[Stretch], intake: "Intake", columns: Sequence[str]) -> Iterator[Record]:
    for stretch in stretches:
        source = _source_of_rows(stretch)
        with intake.open(stretch, ()) as opened:
            for row in RECORD_READERS[stretch.file.format](opened):
                values = intake.settle(stretch, row)
                if values is None:
                    continue
                absent = [column for column in columns if values.get(column) is None]
                if absent:
                    intake.reject(stretch, row, *_lacks(values, absent[0]))
                else:
                    intake.keep(stretch, row)
                    yield Record(values=values, source=source(row))
    intake.finish()


def _lacks(values: dict[str, Any], column: str) -> tuple[Callable[[], str], str]:
    """Return what says the problem, and its kind."""
    if column not in values:
        return (lambda: str(unknown("column", column, list(values)[:SHOWN]))), NO_COLUMN
    found = "null" if values[column] is None else type(values[column]).__name__
    return (lambda: f"column {column!r} holds {found} where text is needed"), "not text"


class Intake:
    """Counts, and knows what to do about a bad line; ``remedies`` tell it to the user."""

    def __init__(
        self,
        on_bad: OnBad,
        max_bad: float,
        report: IngestReport | None,
        *,
        delimiter: str | None,
        judging: bool = True,
        remedies: tuple[str, str] = OF_TEXTS,
    ) -> None:
        if on_bad not in get_args(OnBad):
            raise unknown("value of on_bad:", on_bad, get_args(OnBad))
        if not 0 <= max_bad <= 1:
            raise UserError(f"max_bad is a share from 0 to 1, not {max_bad}")
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
            raise UserError(f"a delimiter is one character, neither a quote nor a line end, not {delimiter!r}")
        self.report = IngestReport() if report is None else report
        self._remedies = remedies
        self._on_bad, self._max_bad, self._delimiter, self._judging = on_bad, max_bad, delimiter, judging

    def find(self, paths: Paths, formats: Iterable[str]) -> list[SourceFile]:
        """Find the files and note those that are passed over."""
        files, skipped = find_files(paths, formats)
        for suffix, number in skipped.items():
            self.report.skipped_files[suffix] = self.report.skipped_files.get(suffix, 0) + number
        return files

    @contextmanager
    def open(self, stretch: Stretch, columns: tuple[str, ...]) -> Iterator[Opened]:
        """Open a file or range, and count it: a file once, however many ranges it has."""
        file = stretch.file
        if not stretch.offset:
            self.report.files += 1
        with open_file(file, self.report.add_bytes, start=stretch.start, stop=stretch.stop) as stream:
            yield Opened(
                file=file,
                stream=stream,
                offset=stretch.offset,
                lines=stretch.lines_before or 0,
                columns=columns,
                delimiter=self._delimiter,
            )
        self.report.compressed_bytes += (file.size if stretch.stop is None else stretch.stop) - stretch.start

    def settle(self, stretch: Stretch, row: SourceRow) -> dict[str, Any] | None:
        """Return the values of a row, mended if they may be; None, and counted, if there are none."""
        if row.problem and (row.values is None or self._on_bad != "replace"):
            self.reject(stretch, row, lambda: row.problem, row.kind)
            return None
        if row.values is None:
            self.report.lines += 1
            self.report.empty += 1
        return row.values

    def keep(self, stretch: Stretch, row: SourceRow) -> None:
        """Count a line that goes into a document or record."""
        self.report.lines += 1
        self.report.kept += 1
        if row.problem:
            self.report.mend(self._rejected(stretch, row, row.problem))
            self._judge_early()

    def reject(self, stretch: Stretch, row: SourceRow, reason: Callable[[], str], kind: str) -> None:
        """Leave a row out, or stop."""
        self.report.lines += row.lines
        few = len(self.report.first_rejected) < SHOWN  # later reasons are counted only
        rejected = self._rejected(stretch, row, reason() if few else "")
        self.report.reject(rejected, kind, row.lines)
        if self._on_bad == "error":
            said, remedy = str(rejected).rstrip("."), self._remedies[kind == NO_COLUMN]
            raise UserError(f"{said} {remedy.capitalize()}" if said.endswith("?") else f"{said}; {remedy}")
        self._judge_early()

    def finish(self) -> None:
        """Judge the share of bad lines at the end."""
        if self._judging:
            judge(self.report, self._max_bad)

    def _rejected(self, stretch: Stretch, row: SourceRow, reason: str) -> Rejected:
        line = row.line
        if stretch.lines_before is None and self._on_bad == "error":
            line += _count_lines(stretch)
        return Rejected(file=stretch.file.shown, line=line, byte_offset=row.offset, reason=reason)

    def _judge_early(self) -> None:
        if self.report.lines >= EARLY:
            self.finish()


def _count_lines(stretch: Stretch) -> int:
    """Return the number of lines before a range of a plain file."""
    with open_file(stretch.file, lambda _: None, stop=stretch.start) as stream:
        return sum(data.count(b"\n") for data in iter(lambda: stream.read(BUFFER), b""))

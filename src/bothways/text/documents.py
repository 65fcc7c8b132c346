"""Reads a person's own text: files and folders in, documents out, and every record accounted for.

``read_documents`` (raw text) and ``read_records`` (rows of a task file) are two short loops over the same rows; what
happens to a bad one is decided in one place, ``_Intake``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from bothways.errors import UserError, unknown
from bothways.text.files import Paths, SourceFile, find_files, open_file
from bothways.text.rows import READERS, RECORD_READERS, SourceRow

OnBad = Literal["error", "replace", "skip"]

_SHOWN = 20  # rejected records that a report lists, columns that a message lists
_EARLY = 1000  # records after which the share of bad ones is judged while still reading


@dataclass(frozen=True, kw_only=True)
class Document:
    """One text of a corpus."""

    text: str
    source: str
    """Where it stands, such as ``folder/a.txt``, or ``folder/a.jsonl:17`` for a line; the same on every machine."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One row of a task file."""

    values: dict[str, Any]
    """Column to value: always text from .csv and .tsv, any JSON value from .json and .jsonl."""
    source: str


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A record that was left out, and why."""

    file: str
    line: int
    """Counted from 1."""
    byte_offset: int
    """From the start of the unpacked file."""
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}, byte {self.byte_offset}: {self.reason}"


@dataclass(kw_only=True)
class IngestReport:
    """What became of every record: in the end, ``records == kept + empty + rejected``."""

    files: int = 0
    bytes: int = 0
    """Read so far, unpacked; in the end, the sum of the file sizes."""
    records: int = 0
    kept: int = 0
    empty: int = 0
    """Blank lines, and texts of white space alone."""
    rejected: int = 0
    replaced: int = 0
    """Records in which broken characters became U+FFFD."""
    skipped_files: dict[str, int] = field(default_factory=dict)
    """Suffix to number of files that were found in folders but that no reader reads."""
    first_rejected: list[Rejected] = field(default_factory=list)
    """At most 20."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    def add_bytes(self, count: int) -> None:
        """Count bytes that were read."""
        self.bytes += count


def read_documents(
    paths: Paths,
    *,
    text_column: str = "text",
    on_bad: OnBad = "error",
    max_bad: float = 0.001,
    report: IngestReport | None = None,
) -> Iterator[Document]:
    """Read a corpus as a stream, in an order that is the same on every machine.

    A ``.txt`` or ``.md`` file is one document; so is every line of ``.jsonl`` and ``.ndjson``, every object of
    ``.json`` and every row of ``.csv`` and ``.tsv``; each also packed as ``.gz``, ``.bz2`` or ``.xz``. All are UTF-8.
    Folders are read to the bottom, hidden files left out.

    Args:
        paths: a file or folder, or several.
        text_column: the column or key that holds the text.
        on_bad: at a bad record, stop (``error``), or go on without it (``skip``) or with U+FFFD in place of broken
            characters (``replace``; a record that cannot be mended so is skipped).
        max_bad: share of bad records above which ``skip`` and ``replace`` stop too, judged at the end and from the
            1000th record on.
        report: is filled on the way.
    Raises:
        UserError: at the call, for a path that cannot be read; on the way, for a bad record or file.
    """
    intake = _Intake(on_bad, max_bad, report)
    return _documents(intake.find(paths, READERS), intake, text_column)


def read_records(
    paths: Paths,
    *,
    columns: Sequence[str] = (),
    on_bad: OnBad = "error",
    max_bad: float = 0.001,
    report: IngestReport | None = None,
) -> Iterator[Record]:
    """Read the rows of task files (.jsonl, .ndjson, .json, .csv, .tsv) with the care of ``read_documents``.

    Args:
        columns: names that every row must have, with a value other than null.
    """
    intake = _Intake(on_bad, max_bad, report)
    return _records(intake.find(paths, RECORD_READERS), intake, columns)


def _documents(files: Sequence[SourceFile], intake: "_Intake", text_column: str) -> Iterator[Document]:
    for file, row, values in intake.rows(files):
        whole = file.format not in RECORD_READERS
        column = "text" if whole else text_column
        text = values.get(column)
        if not isinstance(text, str):
            intake.reject(file, row, _lacks(values, column))
        elif not text.strip():
            intake.report.empty += 1
        else:
            intake.report.kept += 1
            yield Document(text=text, source=file.name if whole else f"{file.name}:{row.line}")


def _records(files: Sequence[SourceFile], intake: "_Intake", columns: Sequence[str]) -> Iterator[Record]:
    for file, row, values in intake.rows(files):
        absent = [column for column in columns if values.get(column) is None]
        if absent:
            intake.reject(file, row, _lacks(values, absent[0]))
        else:
            intake.report.kept += 1
            yield Record(values=values, source=f"{file.name}:{row.line}")


def _lacks(values: dict[str, Any], column: str) -> str:
    if column not in values:
        return str(unknown("column", column, list(values)[:_SHOWN]))
    kind = "null" if values[column] is None else type(values[column]).__name__
    return f"column {column!r} holds {kind} where text is needed"


class _Intake:
    """Counts, and knows what to do about a bad record."""

    def __init__(self, on_bad: OnBad, max_bad: float, report: IngestReport | None) -> None:
        if on_bad not in get_args(OnBad):
            raise unknown("value of on_bad:", on_bad, get_args(OnBad))
        if not 0 <= max_bad <= 1:
            raise UserError(f"max_bad is a share from 0 to 1, not {max_bad}")
        self.report = IngestReport() if report is None else report
        self._on_bad, self._max_bad, self._first_bad = on_bad, max_bad, ""

    def find(self, paths: Paths, formats: Sequence[str] | dict[str, Any]) -> list[SourceFile]:
        """Find the files and note those that are passed over."""
        files, skipped = find_files(paths, formats)
        for suffix, number in skipped.items():
            self.report.skipped_files[suffix] = self.report.skipped_files.get(suffix, 0) + number
        return files

    def rows(self, files: Sequence[SourceFile]) -> Iterator[tuple[SourceFile, SourceRow, dict[str, Any]]]:
        """Yield rows that have values; the rest is counted here."""
        for file in files:
            self.report.files += 1
            with open_file(file, self.report.add_bytes) as stream:
                for row in READERS[file.format](file, stream):
                    self.report.records += row.lines
                    if row.problem and (row.values is None or not self._mended(file, row)):
                        self.reject(file, row, row.problem)
                    elif row.values is None:
                        self.report.empty += 1
                    else:
                        yield file, row, row.values
        self._judge()

    def reject(self, file: SourceFile, row: SourceRow, reason: str) -> None:
        """Leave a row out, or stop."""
        rejected = Rejected(file=str(file.path), line=row.line, byte_offset=row.offset, reason=reason)
        if self._on_bad == "error":
            raise UserError(
                f"{str(rejected).rstrip('.')}; mend it, or prepare with --on-bad skip to leave such records out"
            )
        self.report.rejected += row.lines
        if len(self.report.first_rejected) < _SHOWN:
            self.report.first_rejected.append(rejected)
        self._bad(rejected)

    def _mended(self, file: SourceFile, row: SourceRow) -> bool:
        if self._on_bad != "replace":
            return False
        self.report.replaced += 1
        self._bad(Rejected(file=str(file.path), line=row.line, byte_offset=row.offset, reason=row.problem))
        return True

    def _bad(self, record: Rejected) -> None:
        self._first_bad = self._first_bad or str(record)
        if self.report.records >= _EARLY:
            self._judge()

    def _judge(self) -> None:
        bad, records = self.report.rejected + self.report.replaced, self.report.records
        if bad > self._max_bad * records:
            raise UserError(
                f"{bad:,} of {records:,} records are bad ({bad / records:.2%}), more than max_bad allows "
                f"({self._max_bad:.2%}); the first is {self._first_bad}"
            )

"""The account of a corpus: what became of every line, and when too many of them are bad."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from bothways.errors import UserError

OnBad = Literal["error", "replace", "skip"]

SHOWN = 20  # bad lines that a report lists
EARLY = 1000  # lines after which the share of bad ones is judged while still reading


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """A line that was left out, and why."""

    file: str
    line: int
    """Counted from 1; in .parquet and in data sets, the row."""
    byte_offset: int | None
    """From the start of the unpacked file; None where rows have no place in bytes (.parquet, data sets)."""
    reason: str

    def __str__(self) -> str:
        place = "row" if self.byte_offset is None else "line"
        byte = "" if self.byte_offset is None else f", byte {self.byte_offset}"
        return f"{self.file}, {place} {self.line}{byte}: {self.reason}"


@dataclass(kw_only=True)
class IngestReport:
    """What became of every line: at any time, ``lines == kept + empty + rejected``.

    A line is what ends at a newline (the last one may lack it) of .txt, .md, .jsonl and .ndjson; an object of .json; a
    row of .csv, .tsv, .parquet and of a data set. The header of a table is none. A sound row of .csv is one line
    however many newlines its cells hold; one that cannot be read counts as all the lines that went with it, so that a
    quote left open is seen for what it costs.
    """

    files: int = 0
    bytes: int = 0
    """Read so far, unpacked; in the end, of plain files the sum of the file sizes (.parquet and saved data sets count
    as plain). Of a data set on the hub, the bytes of its texts."""
    compressed_bytes: int = 0
    """As the files lie on disk; equal to ``bytes`` where nothing is packed."""
    lines: int = 0
    kept: int = 0
    """Lines that went into a document or record, mended ones too."""
    empty: int = 0
    """Blank lines, and texts of white space alone. In .txt and .md they stay in the document, between its paragraphs."""
    rejected: int = 0
    replaced: int = 0
    """Kept lines in which broken characters became U+FFFD."""
    documents: int = 0
    """Handed on; a long .txt or .md comes in several pieces, and each is one."""
    rejected_by_reason: dict[str, int] = field(default_factory=dict)
    """Kind of reason to number of lines."""
    first_rejected: list[Rejected] = field(default_factory=list)
    """At most 20."""
    first_replaced: list[Rejected] = field(default_factory=list)
    """At most 20."""
    skipped_files: dict[str, int] = field(default_factory=dict)
    """Suffix to number of files that were found in folders but that are not read."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the report that ``to_dict`` was called on."""
        lists = {
            name: [Rejected(**rejected) for rejected in values[name]] for name in ("first_rejected", "first_replaced")
        }
        return cls(**{**values, **lists})

    def add(self, other: "IngestReport", *, lines_before: int = 0) -> None:
        """Add the report of what was read after this; ``lines_before`` it in its file are added to its line numbers."""
        for name in (
            "files",
            "bytes",
            "compressed_bytes",
            "lines",
            "kept",
            "empty",
            "rejected",
            "replaced",
            "documents",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, new in (
            (self.rejected_by_reason, other.rejected_by_reason),
            (self.skipped_files, other.skipped_files),
        ):
            for key, number in new.items():
                mine[key] = mine.get(key, 0) + number
        for shown, more in (
            (self.first_rejected, other.first_rejected),
            (self.first_replaced, other.first_replaced),
        ):
            shown += [_moved(rejected, lines_before) for rejected in more[: SHOWN - len(shown)]]

    @classmethod
    def sum(cls, reports: Iterable["IngestReport"]) -> Self:
        """Return the report of all that was read, in this order."""
        total = cls()
        for report in reports:
            total.add(report)
        return total

    def add_bytes(self, count: int) -> None:
        """Count bytes that were read."""
        self.bytes += count

    def reject(self, rejected: Rejected, kind: str, lines: int) -> None:
        """Count lines that are left out, for one reason."""
        self.rejected += lines
        self.rejected_by_reason[kind] = self.rejected_by_reason.get(kind, 0) + lines
        if len(self.first_rejected) < SHOWN:
            self.first_rejected.append(rejected)

    def mend(self, rejected: Rejected) -> None:
        """Count a line that was mended."""
        self.replaced += 1
        if len(self.first_replaced) < SHOWN:
            self.first_replaced.append(rejected)


def _moved(rejected: Rejected, lines: int) -> Rejected:
    return Rejected(
        file=rejected.file, line=rejected.line + lines, byte_offset=rejected.byte_offset, reason=rejected.reason
    )


def judge(report: IngestReport, max_bad: float) -> None:
    """Stop where the share of lines that were rejected or mended is above ``max_bad``.

    Raises:
        UserError: names the share and the first bad line.
    """
    bad = report.rejected + report.replaced
    if bad > max_bad * report.lines:
        first = next(iter([*report.first_rejected, *report.first_replaced]))
        raise UserError(
            f"{bad:,} of {report.lines:,} lines are bad ({bad / report.lines:.2%}), more than max_bad allows "
            f"({max_bad:.2%}); the first is {first}"
        )

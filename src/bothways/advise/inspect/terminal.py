"""The doctor's figures for a terminal: what stands on top, short tables, and the findings last, where they are seen."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bothways.advise.inspect.findings import LEVELS, Finding
from bothways.advise.inspect.layout import Table, in_words, is_number
from bothways.advise.inspect.sections import headline, sections

if TYPE_CHECKING:
    from rich.console import RenderableType

STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
MOST_ROWS = 12
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # a terminal obeys what it is sent


def summary(figures: Mapping[str, Any], findings: Sequence[Finding]) -> "Iterator[RenderableType]":
    """Yield the tables, then the findings."""
    yield _table(Table(columns=("", ""), rows=[(name, value) for name, value in headline(figures)]))
    for section in sections(figures):
        tables = [table for table in section.tables if table.brief and table.rows]
        for table in tables:
            yield _text(table.title or section.title, "bold")
            yield _table(table)
    yield from _findings(findings)


def _findings(findings: Sequence[Finding]) -> "Iterator[RenderableType]":
    from rich.text import Text

    counts = {level: sum(finding.level == level for finding in findings) for level in LEVELS}
    tally = ", ".join(f"{number} {level}{'s' if number != 1 else ''}" for level, number in counts.items() if number)
    yield _text(f"What to know before training: {tally or 'nothing to warn of'}", "bold")
    for finding in findings:
        yield Text.assemble((f"{finding.level.upper()}: ", STYLES[finding.level]), safe(str(finding)))


def _text(text: str, style: str) -> "RenderableType":
    from rich.text import Text

    return Text(safe(text), style=style)


def _table(table: Table) -> "RenderableType":
    from rich.table import Table as RichTable
    from rich.text import Text

    made = RichTable(show_header=any(table.columns))
    for at, column in enumerate(table.columns):
        right = bool(table.rows) and is_number(table.rows[0][at])
        made.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in table.rows[:MOST_ROWS]:
        made.add_row(*(Text(safe(in_words(value))) for value in row))
    if len(table.rows) > MOST_ROWS:
        made.add_row(f"and {len(table.rows) - MOST_ROWS:,} more")
    return made


def safe(text: str) -> str:
    """Return text without characters that a terminal would obey."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)

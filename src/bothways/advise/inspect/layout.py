"""What the page is made of: sections of tables, charts and passages, and the parts that several pages share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bothways.evaluation.charts import Chart

Draw = Callable[[], "Chart"]  # charts are drawn for the page alone


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under named columns; numbers stand right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    brief: bool = True
    """Whether a terminal shows it."""


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A piece of the user's text, and what is remarkable about it."""

    label: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page."""

    title: str
    intro: str = ""
    facts: Sequence[tuple[str, Any]] = ()
    tables: Sequence[Table] = ()
    charts: Sequence[Draw] = ()
    passages: Mapping[str, Sequence[Passage]] = field(default_factory=dict)

    @property
    def anchor(self) -> str:
        """The section's name in links."""
        return "".join(character if character.isalnum() else "-" for character in self.title.lower())


def histogram(distribution: Mapping[str, Any], title: str, what: str) -> Draw:
    """Return what draws lengths."""

    def draw() -> "Chart":
        from bothways.advise.inspect.charts import histogram

        return histogram(distribution["bars"], title=title, what=what, median=distribution["median"])

    return draw


def share_bars(parts: Sequence[tuple[str, int]], title: str) -> Draw:
    """Return what draws counts as shares."""

    def draw() -> "Chart":
        from bothways.advise.inspect.charts import shares

        return shares(parts, title=title)

    return draw


def lengths_table(rows: Mapping[str, Mapping[str, Any]], title: str = "Lengths") -> Table:
    """Return a table of distributions."""
    columns = ("", "smallest", "5 %", "median", "mean", "95 %", "largest")
    names = ("smallest", "p5", "median", "mean", "p95", "largest")
    return Table(
        title=title, columns=columns, rows=[(name, *(row[key] for key in names)) for name, row in rows.items()]
    )


def recipes_section(fits: Sequence[Mapping[str, Any]]) -> Section:
    """Return which recipes the text is enough for."""
    rows = [
        (fit["recipe"], fit["parameters"], fit["tokens_per_parameter"], fit["passes"], fit["verdict"]) for fit in fits
    ]
    columns = ("recipe", "parameters", "tokens per parameter", "passes over the text", "")
    return Section(
        title="Which model it suits",
        intro="A model is best given some 20 tokens a parameter, and up to four passes over the same text are nearly as "
        "good as new text.",
        tables=[Table(columns=columns, rows=rows)],
    )


def rejected_tables(report: Mapping[str, Any]) -> Iterator[Table]:
    """Yield what became of bad lines."""
    by_reason = report.get("rejected_by_reason") or {}
    if by_reason:
        yield Table(title="Lines left out", columns=("reason", "lines"), rows=sorted(by_reason.items()))
    first = report.get("first_rejected") or []
    rows = [(place["file"], place["line"], place["byte_offset"], place["reason"]) for place in first]
    if rows:
        columns = ("file", "line", "byte", "reason")
        yield Table(title="The first of them", columns=columns, rows=rows, brief=False)


def ingest_facts(report: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the account of lines."""
    names = ("files", "bytes", "lines", "kept", "empty", "rejected", "replaced", "documents")
    return [(name, report[name]) for name in names if name in report]


def fertility_tables(found: Mapping[str, Any]) -> Iterator[Table]:
    """Yield what a tokenizer makes of each language, and what it does not know."""
    columns = (
        "language",
        "texts",
        "tokens",
        "characters_per_token",
        "bytes_per_token",
        "tokens_per_word",
        "unknown_rate",
    )
    languages = found.get("languages") or {}
    rows = [(name, *(each.get(column) for column in columns[1:])) for name, each in languages.items()]
    if rows:
        names = [column.replace("_", " ") for column in columns]
        yield Table(title="Tokens by language", columns=names, rows=rows)
    unknown = [
        (f"{each['character']} {each['code_point']}", each["texts"]) for each in found.get("unknown_characters") or ()
    ]
    if unknown:
        yield Table(title="What it does not know", columns=("character", "texts"), rows=unknown, brief=False)


def in_words(value: Any) -> str:
    """Return a cell of a table as it is read."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def is_number(value: Any) -> bool:
    """Whether a cell stands on the right."""
    return isinstance(value, int | float) and not isinstance(value, bool)

"""What a verb answers, for a person or for a program."""

import json
import math
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and newline


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a verb has to say.

    Attributes:
        values: plain values, for ``--json``.
        shown: what a person gets instead: text as it is, and tables.
    """

    values: Mapping[str, Any]
    shown: Sequence["str | RenderableType"]


def show(answer: Answer, *, as_json: bool) -> None:
    """Print an answer on stdout."""
    if as_json:
        sys.stdout.write(to_json(answer.values) + "\n")
        return
    for part in answer.shown:
        if isinstance(part, str):
            # A model may write anything, and a terminal obeys what it is sent.
            safe = CONTROL.sub("\N{REPLACEMENT CHARACTER}", part) if sys.stdout.isatty() else part
            sys.stdout.write(safe + "\n")
        else:
            from rich.console import Console

            # Without a terminal, or with COLUMNS=0, there is no width to keep to.
            width = shutil.get_terminal_size((160, 24)).columns
            Console(file=sys.stdout, width=width).print(part)


def to_json(value: Any) -> str:
    """Return JSON on one line; what stdout could not print is escaped as JSON does it."""
    ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
    return json.dumps(plain(value), ensure_ascii=ascii_only, allow_nan=False)


def plain(value: Any) -> Any:
    """Return a value in JSON's own types; a number that JSON cannot hold becomes null."""
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


def table(
    rows: Iterable[Sequence[Any]], *, columns: Sequence[str] = ("", ""), words: Sequence[str] = ()
) -> "RenderableType":
    """Return rows as a table; the first column and those named in ``words`` stand left, numbers right."""
    from rich.table import Table
    from rich.text import Text

    made = Table(show_header=any(columns))
    for at, column in enumerate(columns):
        made.add_column(column, justify="left" if not at or column in words else "right", overflow="fold")
    for row in rows:
        made.add_row(*(Text(in_words(value)) for value in row))  # Text: "[MASK]" is no colour
    return made


def in_words(value: Any) -> str:
    """Return a value as a person reads it."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield name and value, those of inner mappings too, as ``validation bits per byte``."""
    for name, value in values.items():
        label = f"{prefix}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from flat(value, f"{label} ")
        else:
            yield label, value


def next_step(*words: object) -> str:
    """Return the hint at what to do next."""
    return f"Next: {shlex.join(['bothways', *map(str, words)])}"

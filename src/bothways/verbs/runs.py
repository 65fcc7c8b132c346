"""``bothways runs``: all runs below a folder, in a table and in one plot."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bothways.errors import UserError, unknown
from bothways.evaluation.run_charts import check_ending, draw_runs
from bothways.evaluation.run_summary import SORTABLE, X_AXES, RunSummary, is_run, read_run
from bothways.evaluation.wording import Wording, compact
from bothways.recipes.recipe import recipe, recipe_names
from bothways.verbs.folders import check_file, is_held, os_error

INSIDE = ("best", "last", "checkpoints", "tensorboard", "wandb")  # of a run: no runs are there
COLUMNS = (
    "run",
    "recipe",
    "size",
    "data",
    "state",
    "steps",
    "tokens",
    "time",
    "tokens/s",
    "validation",
    "best",
    "warnings",
)
NARROW = ("run", "state", "steps", "time", "validation", "best", "warnings")  # where there is no room for all


@dataclass(frozen=True, kw_only=True)
class Runs:
    """What was found.

    Attributes:
        folder: where was searched.
        runs: in the order that was asked for.
        unreadable: folder and reason of what looks like a run and cannot be read.
        out: the page or picture that was written, if any.
    """

    folder: Path
    runs: list[RunSummary]
    unreadable: list[tuple[Path, str]]
    out: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "folder": str(self.folder),
            "runs": [run.to_dict() for run in self.runs],
            "unreadable": [{"folder": str(folder), "reason": reason} for folder, reason in self.unreadable],
            "out": None if self.out is None else str(self.out),
        }

    def rows(self, *, narrow: bool = False) -> list[tuple[str, ...]]:
        """Return a table for a person, its head first, without columns that would be empty."""
        lines = [dict(zip(COLUMNS, row(run), strict=True)) for run in self.runs]
        shown = [name for name in (NARROW if narrow else COLUMNS) if any(line[name] for line in lines)]
        return [tuple(shown), *(tuple(line[name] for name in shown) for line in lines)]


def runs(folder: str | Path = ".", *, sort: str = "name", out: str | Path | None = None, x: str = "steps") -> Runs:
    """Find all runs below a folder.

    Args:
        folder: where to search; a run itself is one, too.
        sort: name of the figure by which they are sorted; what has none comes last.
        out: a ``.html``, ``.svg`` or ``.png`` file to draw the curves of all of them to.
        x: what the curves go along: ``"steps"``, ``"tokens"``, ``"seconds"`` or ``"flops"``.
    Raises:
        UserError: there is no such folder, figure or axis, or the file cannot be written.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {str(folder)!r} to search for runs")
    check_choices(sort=sort, out=out, x=x)
    found: list[RunSummary] = []
    unreadable: list[tuple[Path, str]] = []
    for path in _find(folder, unreadable):
        try:
            found.append(summary(path, name=str(path.relative_to(folder)) if path != folder else folder.resolve().name))
        except (UserError, OSError) as error:
            unreadable.append((path, str(error)))
    found.sort(key=lambda run: _key(run, sort))
    done = Runs(folder=folder, runs=found, unreadable=unreadable, out=None if out is None else Path(out))
    if out is not None:
        write_chart(found, Path(out), x=x, rows=done.rows())
    return done


def summary(folder: Path, *, name: str) -> RunSummary:
    """Return what a run's folder tells.

    Raises:
        UserError: it is no run's folder, or what made it cannot be read.
    """
    return read_run(folder, name=name, running=is_held(folder), recipes=_recipes())


def check_choices(*, sort: str = "name", out: str | Path | None = None, x: str = "steps") -> None:
    """Refuse what does not exist, before anything is read.

    Raises:
        UserError: there is no such figure, axis or format, or the file cannot be written.
    """
    if sort not in SORTABLE:
        raise unknown("value for --sort:", sort, SORTABLE)
    if x not in X_AXES:
        raise unknown("value for --x:", x, X_AXES)
    if out is not None:
        check_ending(Path(out))
        check_file(Path(out))


def write_chart(found: Sequence[RunSummary], out: Path, *, x: str, rows: Sequence[Sequence[str]]) -> None:
    """Draw the curves of runs to a file.

    Raises:
        UserError: there is nothing to draw, or it cannot be written.
    """
    content = draw_runs(found, out, x=x, rows=rows)
    try:
        out.write_bytes(content)
    except OSError as error:
        raise os_error(error, out) from None


def row(run: RunSummary) -> tuple[str, ...]:
    """Return a run as a line of the table."""
    words = Wording()
    steps = f"{run.steps:,}" + (f"/{run.planned:,}" if run.planned else "")
    figures = [words.number(run.measure or "", value) if value is not None else "" for value in (run.newest, run.best)]
    measure = f" {words.metric(run.measure).lower()}" if run.measure else ""
    return (
        run.name,
        run.recipe,
        "" if run.parameters is None else compact(run.parameters),
        ", ".join(Path(source).name for source in (run.data or "").split(", "))
        if run.kind == "pretraining"
        else run.kind,
        run.state,
        steps,
        "" if run.tokens is None else compact(run.tokens),
        "" if run.seconds is None else words.duration(run.seconds),
        "" if run.tokens_per_second is None else f"{run.tokens_per_second:,.0f}",
        f"{figures[0]}{measure}" if figures[0] else "",
        figures[1],
        f"{len(run.warnings)}" if run.warnings else "",
    )


def _find(folder: Path, unreadable: list[tuple[Path, str]]) -> Iterator[Path]:
    """Yield the folders that look like runs, in order of their names; what cannot be searched is added to the list."""

    def note_error(error: OSError) -> None:
        unreadable.append((Path(error.filename or folder), error.strerror or str(error)))

    for place, inside, _ in os.walk(folder, onerror=note_error):
        here = is_run(Path(place))
        inside[:] = sorted(name for name in inside if not name.startswith(".") and not (here and name in INSIDE))
        if here:
            yield Path(place)


def _key(run: RunSummary, sort: str) -> tuple[bool, Any, str]:
    value = getattr(run, sort)
    if isinstance(value, list):
        value = len(value)
    return value is None, 0 if value is None else value, run.name


@cache
def _recipes() -> dict[str, dict[str, Any]]:
    """Return the settings of each recipe's model."""
    return {name: recipe(name).model.to_dict() for name in recipe_names()}

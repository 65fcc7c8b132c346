"""``bothways compare``: what differs between runs, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bothways.errors import UserError
from bothways.evaluation.run_summary import RunSummary, is_run
from bothways.evaluation.wording import Wording
from bothways.verbs.runs import check_choices, summary, write_chart

FIGURES = ("state", "steps", "tokens", "seconds", "tokens_per_second", "parameters")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A line of the comparison.

    Attributes:
        name: of a setting or figure.
        values: of each run, in order; None: it has none.
    """

    name: str
    values: tuple[Any, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"name": self.name, "values": list(self.values)}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: in the order in which they were named.
        settings: those that are not the same in all runs; the data is one of them.
        same: how many settings all runs share.
        figures: what came of each.
        out: the page or picture that was written, if any.
    """

    runs: tuple[RunSummary, ...]
    settings: tuple[Difference, ...]
    same: int
    figures: tuple[Difference, ...]
    out: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "runs": [str(run.folder) for run in self.runs],
            "settings": [difference.to_dict() for difference in self.settings],
            "same": self.same,
            "figures": [figure.to_dict() for figure in self.figures],
            "out": None if self.out is None else str(self.out),
        }

    def rows(self) -> list[tuple[str, ...]]:
        """Return a table for a person, its head first: settings, then figures."""
        head = ("", *(run.name for run in self.runs))
        lines = [(line.name, *map(_in_words, line.values)) for line in self.settings]
        figures = [
            (line.name.replace("_", " "), *(_figure(line.name, value) for value in line.values))
            for line in self.figures
        ]
        return [head, *lines, *figures]


def compare(*runs: str | Path, out: str | Path | None = None, x: str = "steps") -> Comparison:
    """Put runs side by side.

    Args:
        runs: folders of two runs or more.
        out: a ``.html``, ``.svg`` or ``.png`` file to draw their curves to.
        x: what the curves go along: ``"steps"``, ``"tokens"``, ``"seconds"`` or ``"flops"``.
    Raises:
        UserError: fewer than two runs, one that is none, no such axis, or the file cannot be written.
    """
    if len(runs) < 2:
        raise UserError("compare needs two runs or more; bothways runs lists those that there are")
    check_choices(out=out, x=x)
    folders = [Path(run) for run in runs]
    for folder in folders:
        if not is_run(folder):
            raise UserError(
                f"{str(folder)!r} is no run: it has no experiment.json; bothways runs lists those that there are"
            )
    found = [summary(folder, name=name) for folder, name in zip(folders, _names(folders), strict=True)]
    lines: dict[str, list[Any]] = {
        "recipe": [run.recipe for run in found],
        "data": [run.data for run in found],
    }
    names = dict.fromkeys(name for run in found for name in run.settings)
    lines |= {name: [run.settings.get(name) for run in found] for name in names}
    differing = [Difference(name=name, values=tuple(values)) for name, values in lines.items() if not _all_same(values)]
    done = Comparison(
        runs=tuple(found),
        settings=tuple(differing),
        same=len(lines) - len(differing),
        figures=tuple(_figures(found)),
        out=None if out is None else Path(out),
    )
    if out is not None:
        write_chart(found, Path(out), x=x, rows=done.rows())
    return done


def _figures(found: Sequence[RunSummary]) -> list[Difference]:
    """Return the figures that any of the runs has."""
    lines = {name: [getattr(run, name) for run in found] for name in FIGURES}
    for name in dict.fromkeys(name for run in found for name in run.validation):
        lines[f"validation {name}"] = [run.validation.get(name) for run in found]
    for measure in dict.fromkeys(run.measure for run in found if run.measure):
        lines[f"best {measure}"] = [run.best if run.measure == measure else None for run in found]
    lines["warnings"] = [", ".join(str(warning.get("name")) for warning in run.warnings) or None for run in found]
    return [
        Difference(name=name, values=tuple(values))
        for name, values in lines.items()
        if any(v is not None for v in values)
    ]


def _names(folders: Sequence[Path]) -> list[str]:
    """Return the shortest ends of paths that differ."""
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(path[-length:]) for path in parts]
        if len(set(names)) == len(set(parts)):
            return names
    return [str(folder) for folder in folders]


def _all_same(values: Sequence[Any]) -> bool:
    return all(value == values[0] and type(value) is type(values[0]) for value in values)


def _in_words(value: Any) -> str:
    if value is None:
        return "—"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _figure(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "seconds":
        return Wording().duration(value)
    if isinstance(value, int):
        return f"{value:,}"
    if name == "tokens_per_second":
        return f"{value:,.0f}"
    return Wording().number(name, value) if isinstance(value, float) else str(value)

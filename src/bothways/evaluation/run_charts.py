"""Several runs in one picture or on one page: a curve for each, a panel for each measure that they were judged by."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Template
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bothways.errors import UserError
from bothways.evaluation import pages
from bothways.evaluation.curves import Panel, moving_average, plot_panel, to_png
from bothways.evaluation.loss_curves import measure_title
from bothways.evaluation.run_summary import X_AXES, RunSummary, curve
from bothways.evaluation.svg import clean, color, dark_style, drawing, standalone, to_svg

MOST_NAMES = 18  # beside a panel
ENDINGS = (".html", ".svg", ".png")
_HERE = Path(__file__).parent
_SIZE = (7.2, 4.2)  # inches of a panel
# Colors that can be told apart and read on light paper and on a dark screen; then the same again, dashed.
_COLORS = ("#3b7ded", "#d9622f", "#1d9a72", "#b1559b", "#b58900", "#0e93a8", "#7d6bd6", "#8a8f2a")
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)))

Curves = Mapping[str, Sequence[tuple[float, float]]]  # by name of the run


def chart_panels(runs: Sequence[RunSummary], *, x: str) -> dict[str, Curves]:
    """Return the curves of runs by the title of their panel.

    Runs that were evaluated alike share a panel; those without an evaluation share one of the training loss.
    """
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for run in runs:
        points = curve(run, run.measure, x=x)
        title = "Training loss" if run.measure is None else f"{measure_title(run.measure)} in validation"
        if run.measure is not None and len(points) < 2 and len(trained := curve(run, None, x=x)) > 1:
            title, points = "Training loss", trained
        if points:
            panels.setdefault(title, {})[run.name] = points
    return dict(sorted(panels.items(), key=lambda found: found[0] == "Training loss"))


def draw_runs(runs: Sequence[RunSummary], out: Path, *, x: str, rows: Sequence[Sequence[str]]) -> bytes:
    """Return runs as a page or a picture, as the ending of ``out`` says.

    Args:
        runs: which.
        out: where it will be written.
        x: a name of ``X_AXES``.
        rows: a table for the page, its head first.
    Raises:
        UserError: another ending, no such axis, or no run has a point to draw.
    """
    check_ending(out)
    panels = chart_panels(runs, x=x)
    if not panels:
        hint = "; --x flops needs runs that recorded their FLOP/s" if x == "flops" else ""
        raise UserError(f"none of these runs has recorded a curve by {x}{hint}")
    with drawing():
        figure = _figure(panels, x)
        if out.suffix == ".png":
            return to_png(figure)
        svg = to_svg(figure, title="; ".join(panels))
    return (standalone(svg) if out.suffix == ".svg" else _page(svg, rows)).encode()


def check_ending(out: Path) -> None:
    """Refuse a file of another format than these.

    Raises:
        UserError: it is one.
    """
    if out.suffix not in ENDINGS:
        raise UserError(f"--out {str(out)!r} must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")


def _figure(panels: Mapping[str, Curves], x: str) -> Figure:
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    figure = Figure(figsize=(_SIZE[0], _SIZE[1] * len(panels)))
    for at, (title, curves) in enumerate(panels.items()):
        bottom = 1 - (at + 0.87) / len(panels)
        axes = figure.add_axes((0.08, bottom, 0.6, 0.75 / len(panels)))
        _draw(axes, title, curves, x, names)
    return figure


def _draw(axes: Axes, title: str, curves: Curves, x: str, names: Sequence[str]) -> None:
    """Draw the curves of a panel; a run has the same color in all of them, and stands in the list in order of its end."""
    named = []
    for name, points in curves.items():
        at = names.index(name)
        across, up = zip(*points, strict=True)
        how: dict[str, Any] = {
            "color": _COLORS[at % len(_COLORS)],
            "linestyle": _DASHES[at // len(_COLORS) % len(_DASHES)],
        }
        if len(points) > 40:
            axes.plot(across, up, color=how["color"], alpha=0.25, linewidth=0.7)
            up = tuple(moving_average(up))
        (line,) = axes.plot(across, up, linewidth=1.8, **how)
        if len(points) <= 12:
            axes.plot(across, up, "o", color=how["color"], markersize=3.5, markeredgewidth=0)
        named.append((up[-1], line, name))
    plot_panel(axes, Panel(title=title, x_label=X_AXES[x], lines=[]))
    named.sort(key=lambda found: found[0], reverse=True)
    legend = axes.legend(
        [line for _, line, _ in named[:MOST_NAMES]],
        [clean(_short(name)) for *_, name in named[:MOST_NAMES]],
        loc="upper left",
        bbox_to_anchor=(1.02, 1.02),
        frameon=False,
        labelcolor=color("muted"),
        title=f"{len(named)} runs, {MOST_NAMES} named" if len(named) > MOST_NAMES else None,
    )
    legend.get_title().set_color(color("muted"))


def _short(name: str, most: int = 30) -> str:
    """Return the end of a name, which is what tells runs apart."""
    return name if len(name) <= most else "…" + name[1 - most :]


def _page(svg: str, rows: Sequence[Sequence[str]]) -> str:
    style = (_HERE / "report.css").read_text("utf-8") + (_HERE / "runs.css").read_text("utf-8") + dark_style()
    head, *lines = rows
    words = [
        at for at in range(len(head)) if not any(line[at][:1].isdecimal() for line in lines)
    ]  # the rest are numbers
    return _template().render(
        head=head, rows=lines, words=words, chart=Markup(svg), style=Markup(style), policy=pages.policy(style)
    )


@cache
def _template() -> Template:
    return pages.environment(_HERE).get_template("runs.html")

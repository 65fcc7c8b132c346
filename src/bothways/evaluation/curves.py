"""Charts as SVG text: curves with yardsticks, bars with whiskers, a confusion matrix.

Matplotlib draws through its objects alone: no pyplot, no window, no state between calls.
The same input gives the same bytes.
"""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.patches import Rectangle
from matplotlib.ticker import Formatter, MaxNLocator

from bothways.evaluation.svg import FONT_SIZE, clean, color, drawing, to_svg
from bothways.evaluation.wording import compact

_WIDTH = 5.4  # inches; the same for every chart, so that a page shows all of them at one scale


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve."""

    label: str
    points: Sequence[tuple[float, float]]
    color: str
    """A name of ``PALETTE``."""
    noisy: bool = False
    """Draw it pale, with its moving average in front."""
    smoothed_label: str = "smoothed"
    dots: bool = True
    """Draw each point of a curve of few points, too."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes: curves over a common x, yardsticks as dashed lines across."""

    title: str
    x_label: str
    lines: Sequence[Line]
    yardsticks: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar; ``low`` and ``high`` are the ends of its confidence interval."""

    label: str
    value: float
    text: str
    color: str
    """A name of ``PALETTE``."""
    low: float | None = None
    high: float | None = None


class Compact(Formatter):
    """Writes the ticks of an axis in few characters, with as many digits as tell each from the others."""

    def __call__(self, value: float, position: int | None = None) -> str:  # noqa: ARG002
        """One tick by itself."""
        return compact(value)

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """All ticks."""
        different = len({*values})
        for digits in range(3, 16):
            labels = [compact(float(value), digits=digits) for value in values]
            if len({*labels}) == different:
                break
        return labels


def line_chart(*panels: Panel) -> str:
    """Draw curves, one pair of axes per panel, side by side."""
    with drawing():
        figure = Figure(figsize=(_WIDTH * len(panels), 3.1))
        for index, panel in enumerate(panels):
            plot_panel(figure.add_axes(_beside(index, len(panels))), panel)
        return to_svg(figure, title="; ".join(panel.title for panel in panels))


def bar_chart(bars: Sequence[Bar], *, title: str) -> str:
    """Draw horizontal bars from nought, each under its label, its value at the end; at least one bar."""
    with drawing():
        figure = Figure(figsize=(_WIDTH, 0.46 * len(bars) + 0.1))
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        ends = [0.0, *(end for bar in bars for end in (bar.value, bar.low, bar.high) if end is not None)]
        length = (max(ends) - min(ends)) or 1.0
        axes.set_xlim(min(ends) - 0.004 * length, max(ends) + 0.24 * length)
        axes.set_ylim(len(bars) - 0.02, -0.2)
        axes.set_axis_off()
        for row, bar in enumerate(bars):
            _draw_bar(axes, row, bar)
        return to_svg(figure, title=title)


def confusion_matrix(labels: Sequence[str], counts: Sequence[Sequence[float]], *, title: str) -> str:
    """Draw counts, rows true and columns given; a cell is as dark as its share of its row.

    Counts are left out where cells are too small to hold them.
    """
    with drawing():
        table = np.asarray(counts, dtype=float)
        margin = 0.2 + max(_width(label) for label in labels) * FONT_SIZE / 72
        cell = min(0.5, (_WIDTH - margin) / len(labels))
        side, height = cell * len(labels), margin + cell * len(labels)
        figure = Figure(figsize=(_WIDTH, height))
        axes = figure.add_axes((margin / _WIDTH, 0.0, side / _WIDTH, side / height))
        axes.set_xlim(0, len(labels))
        axes.set_ylim(len(labels), 0)
        axes.set_axis_off()
        shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1.0)
        font = min(FONT_SIZE, 0.75 * cell * 72)
        gap, upright = 0.1 / cell, {"rotation": 90, "rotation_mode": "anchor"}
        for row, label in enumerate(labels):
            _write(axes, -gap, row + 0.5, _short(label), fontsize=font, ha="right", va="center")
            _write(axes, row + 0.5, -gap, _short(label), fontsize=font, ha="left", va="center", **upright)
            for column in range(len(labels)):
                _draw_cell(axes, row, column, float(shares[row, column]))
                if table[row, column] and cell > 0.3:
                    count = f"{table[row, column]:.4g}"
                    _write(axes, column + 0.5, row + 0.5, count, fontsize=8.5, ha="center", va="center")
        return to_svg(figure, title=title)


def to_png(figure: Figure) -> bytes:
    """Write a figure, inside ``drawing()``, as a picture on white; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=144, facecolor="#ffffff", metadata={"Software": None})
    return buffer.getvalue()


def drawable(value: Any) -> bool:
    """Whether this is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _beside(index: int, count: int) -> tuple[float, float, float, float]:
    """Left, bottom, width and height of the index-th of ``count`` axes, as shares of the figure."""
    return (index + 0.105) / count, 0.16, 0.865 / count, 0.7


def plot_panel(axes: Axes, panel: Panel) -> None:
    """Draw a panel on axes, inside ``drawing()``."""
    axes.set_title(clean(panel.title), loc="left", color=color("ink"), weight="bold", pad=14 if panel.lines else 6)
    axes.set_xlabel(clean(panel.x_label), color=color("muted"))
    for line in panel.lines:
        _draw_line(axes, line)
    axes.margins(x=0.02, y=0.08)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.grid(color=color("grid"), linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=color("muted"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(Compact())
    _draw_yardsticks(axes, panel.yardsticks)
    named = list(zip(*axes.get_legend_handles_labels(), strict=True))
    if len(named) > 1:
        place_legend(axes, named)


def place_legend(axes: Axes, named: Sequence[tuple[Any, str]]) -> Legend:
    """Write what curves are called above the right end of their axes: handles of matplotlib and labels."""
    handles, labels = zip(*named, strict=True)
    legend = axes.legend(
        handles, labels, loc="lower right", bbox_to_anchor=(1.01, 0.985), ncols=len(labels), handlelength=1.2
    )
    legend.set(frame_on=False)
    for text in legend.get_texts():
        text.set_color(color("muted"))
    return legend


def _draw_line(axes: Axes, line: Line) -> None:
    x, y = np.asarray(line.points, dtype=float).reshape(-1, 2).T
    many = len(x) > 40
    if line.noisy and many:
        axes.plot(x, y, color=color(line.color), alpha=0.35, linewidth=0.8, label=clean(line.label))
        label = clean(line.smoothed_label)
        axes.plot(x, moving_average(y), color=color(line.color), linewidth=1.8, label=label)
    else:
        axes.plot(x, y, color=color(line.color), linewidth=1.8, label=clean(line.label))
        if line.dots and not many:  # dots without an edge: a style sheet does not reach the edge of an SVG marker
            axes.plot(x, y, "o", color=color(line.color), markersize=4.5, markeredgewidth=0)


def moving_average(y: Sequence[float] | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The mean of a window of a thirtieth of the curve, narrower at its ends."""
    window = np.ones(max(3, len(y) // 30))
    averages: np.ndarray[Any, Any] = np.convolve(y, window, "same") / np.convolve(np.ones_like(y), window, "same")
    return averages


def _draw_yardsticks(axes: Axes, yardsticks: Mapping[str, float]) -> None:
    """Dashed lines, named at the right end: above the line, or below it where the next one is too near."""
    drawn = sorted(yardsticks.items(), key=lambda named: named[1], reverse=True)
    for _, value in drawn:
        axes.axhline(value, color=color("muted"), linewidth=1.1, linestyle=(0, (4, 3)))
    bottom, top = axes.get_ylim()
    for index, (name, value) in enumerate(drawn):
        crowded = index > 0 and drawn[index - 1][1] - value < 0.09 * (top - bottom)
        axes.annotate(
            clean(name),
            xy=(1.0, value),
            xycoords=axes.get_yaxis_transform(),
            xytext=(-2, -3 if crowded else 3),
            textcoords="offset points",
            ha="right",
            va="top" if crowded else "bottom",
            color=color("muted"),
            fontsize=8.5,
        )


def _draw_bar(axes: Axes, row: int, bar: Bar) -> None:
    _write(axes, 0.0, row + 0.3, bar.label, ha="left", va="baseline")
    axes.add_patch(Rectangle((0.0, row + 0.42), bar.value, 0.3, color=color(bar.color), linewidth=0))
    end = bar.value
    if bar.low is not None and bar.high is not None:
        end = max(end, bar.high)
        axes.plot([bar.low, bar.high], [row + 0.57] * 2, color=color("ink"), linewidth=1.1)
        for bound in (bar.low, bar.high):
            axes.plot([bound] * 2, [row + 0.49, row + 0.65], color=color("ink"), linewidth=1.1)
    axes.annotate(
        clean(bar.text),
        xy=(end, row + 0.57),
        xytext=(6, 0),
        textcoords="offset points",
        va="center_baseline",
        weight="bold",
        color=color("ink"),
    )


def _draw_cell(axes: Axes, row: int, column: int, share: float) -> None:
    face = color("bert" if row == column else "muted")
    cell = Rectangle((column + 0.03, row + 0.03), 0.94, 0.94, color=face, alpha=0.05 + 0.6 * share, linewidth=0)
    axes.add_patch(cell)


def _write(axes: Axes, x: float, y: float, text: str, **how: Any) -> None:
    axes.text(x, y, clean(text), color=color("ink"), **how)


def _short(label: str, most: int = 22) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


def _width(label: str) -> float:
    """The width of a label in ems, a wide character as one and the others as six tenths."""
    return sum(1.0 if ord(character) > 0x1100 else 0.6 for character in _short(label))

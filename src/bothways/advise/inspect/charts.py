"""The charts of the doctor's page: lengths as histograms, labels as bars, token frequencies by rank."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bothways.advise.inspect.counting import EXACT
from bothways.advise.inspect.findings import share
from bothways.evaluation.charts import Chart
from bothways.evaluation.curves import Bar, Compact, bar_chart
from bothways.evaluation.svg import clean, color, drawing, to_svg
from bothways.evaluation.wording import compact

SIZE = (5.4, 2.3)  # inches
MOST_BARS, LEAST_SHARE = 12, 0.001  # bars of a chart, and the least share that has one of its own
MOST_LABELS = 8  # of the axis


def histogram(bars: Sequence[Sequence[int]], *, title: str, what: str, median: int) -> Chart:
    """Draw how many documents have which length.

    Args:
        bars: from, up to but not including, count; the bars widen to the right and are drawn equally wide.
        title: what is counted.
        what: the unit of the lengths.
        median: is said below.
    """
    with drawing():
        figure = Figure(figsize=SIZE)
        axes = _axes(figure, title)
        places = range(len(bars))
        axes.bar(places, [bar[2] for bar in bars], width=0.86, color=color("gpt"), linewidth=0)
        step = max(1, -(-len(bars) // MOST_LABELS))
        axes.set_xticks(list(places)[::step], [compact(bar[0]) for bar in bars][::step])
        axes.set_xlabel(clean(f"{what} (bars widen to the right)"), color=color("muted"))
        axes.set_xlim(-0.7, len(bars) - 0.3)
        axes.grid(axis="x", visible=False)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_formatter(Compact())
        svg = to_svg(figure, title=f"{title}, {what}")
    rounded = "" if median < EXACT else ", in round numbers"
    return Chart(svg=Markup(svg), caption=f"median: {median:,} {what}{rounded}")


def by_rank(points: Sequence[Sequence[int]], *, title: str) -> Chart:
    """Draw how often tokens occur, the commonest first, both axes logarithmic; tokens that never occur are left out."""
    with drawing():
        figure = Figure(figsize=SIZE)
        axes = _axes(figure, title)
        used = [(rank, count) for rank, count in points if count]
        axes.plot([rank for rank, _ in used], [count for _, count in used], color=color("gpt"), linewidth=1.8)
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(Compact())
        axes.minorticks_off()
        axes.set_xlabel("rank of the token", color=color("muted"))
        svg = to_svg(figure, title=title)
    return Chart(svg=Markup(svg), caption="a straight line is usual; a steep end means tokens that are hardly learnt")


def shares(parts: Sequence[tuple[str, int]], *, title: str) -> Chart:
    """Draw counts as bars, each with its share of all; of many the largest, and the rest as one bar."""
    whole = sum(number for _, number in parts) or 1
    shown = [(name, number) for name, number in parts[:MOST_BARS] if number >= LEAST_SHARE * whole]
    if rest := whole - sum(number for _, number in shown):
        shown.append((f"{len(parts) - len(shown):,} more", rest))
    bars = [Bar(label=name[:60], value=number, text=share(number, whole), color="gpt") for name, number in shown]
    return Chart(svg=Markup(bar_chart(bars, title=title)), caption="")


def _axes(figure: Figure, title: str) -> Axes:
    axes: Any = figure.add_axes((0.09, 0.24, 0.89, 0.6))
    axes.set_title(clean(title), loc="left", color=color("ink"), weight="bold", pad=8)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.grid(color=color("grid"), linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=color("muted"))
    return axes

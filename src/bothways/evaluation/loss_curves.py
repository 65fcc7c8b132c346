"""A run's curves: the loss in training and validation, the learning rate and the gradients, each further measure.

They are drawn while the run goes on, again and again: a picture is replaced as a whole, and costs a fraction of a second.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bothways.config import replace_file
from bothways.evaluation.curves import Line, Panel, drawable, place_legend, plot_panel, to_png
from bothways.evaluation.svg import clean, color, drawing, standalone, to_svg
from bothways.evaluation.wording import METRICS
from bothways.progress import note
from bothways.training.tracking import read_metrics

PICTURES = ("loss.svg", "loss.png")
LEFT_OUT = ("perplexity",)  # measures that show nothing beside the others: it is the loss on another scale
_SIZE = (5.4, 3.1)  # inches of a panel
_COLUMNS = 2
_MOST_MARKS = 12  # warnings that are marked; of more of them, the first


@dataclass
class Curves:
    """What is drawn of a run, each curve by step; of a step that was recorded twice the last word counts."""

    training: dict[float, float] = field(default_factory=dict)
    learning_rate: dict[float, float] = field(default_factory=dict)
    gradient_norm: dict[float, float] = field(default_factory=dict)
    measures: dict[str, dict[float, float]] = field(default_factory=dict)  # of the evaluations
    warnings: dict[tuple[float, str], None] = field(default_factory=dict)  # step and name

    @classmethod
    def of(cls, records: Sequence[Mapping[str, Any]]) -> "Curves":
        """Take the numbers out of a run's records; what is no finite number is no point of a curve."""
        curves = cls()
        for record in records:
            step = record["step"]
            for name, curve in (
                ("loss", curves.training),
                ("learning_rate", curves.learning_rate),
                ("gradient_norm", curves.gradient_norm),
            ):
                if drawable(record.get(name)):
                    curve[step] = record[name]
            for name, value in _group(record, "validation").items():
                if drawable(value):
                    curves.measures.setdefault(name, {})[step] = value
            if warning := _group(record, "warning").get("name"):
                curves.warnings[step, str(warning)] = None
        return curves


def plot_run(folder: Path, *, pictures: Sequence[str] = PICTURES) -> bool:
    """Draw a run's ``loss.svg`` and ``loss.png`` from its ``metrics.jsonl``; return whether there was anything to draw.

    It may be called at any time. Where the pictures cannot be written, that is noted and nothing else happens.

    Args:
        folder: of the run.
        pictures: which of the two; one takes half the time.
    """
    curves = Curves.of(read_metrics(folder))
    if not (curves.training or curves.measures):
        return False
    try:
        for name, content in _draw(curves, pictures).items():
            replace_file(folder / name, content)
    except OSError as error:
        note(f"the loss curves of {folder} cannot be written: {error.strerror}")
    return True


def _draw(curves: Curves, pictures: Sequence[str]) -> dict[str, bytes]:
    """Return the pictures of these names, each in the format of its ending."""
    panels = list(_panels(curves))
    speed = bool(curves.learning_rate or curves.gradient_norm)
    count = len(panels) + speed
    columns, rows = min(_COLUMNS, count), -(-count // _COLUMNS)
    with drawing():
        figure = Figure(figsize=(_SIZE[0] * columns, _SIZE[1] * rows))
        places = [_place(at, columns, rows) for at in range(count)]
        if speed:  # beside the loss, which it explains
            _draw_speed(figure.add_axes(places.pop(min(1, count - 1))), curves)
        for panel, place in zip(panels, places, strict=True):
            axes = figure.add_axes(place)
            plot_panel(axes, panel)
            if panel is panels[0]:
                _mark(axes, curves)
        title = "; ".join(panel.title for panel in panels)
        return {
            name: to_png(figure) if name.endswith(".png") else standalone(to_svg(figure, title=title)).encode()
            for name in pictures
        }


def _panels(curves: Curves) -> Iterator[Panel]:
    """The loss, in training and in validation, then each further measure."""
    measures = dict(curves.measures)
    lines = []
    if curves.training:
        lines.append(Line(label="training", points=sorted(curves.training.items()), color="gpt", noisy=True))
    if validation := measures.pop("loss", None):
        lines.append(Line(label="validation", points=sorted(validation.items()), color="bert"))
    if lines:
        yield Panel(title="Loss", x_label="step", lines=lines)
    for name, values in measures.items():
        if name not in LEFT_OUT or not lines:
            line = Line(label="validation", points=sorted(values.items()), color="bert")
            yield Panel(title=measure_title(name), x_label="step", lines=[line])


def measure_title(name: str) -> str:
    """Return what a measure is called above its curve."""
    return METRICS[name][0] if name in METRICS else name.replace("_", " ").capitalize()


def _draw_speed(axes: Axes, curves: Curves) -> None:
    """Draw the learning rate, and the norm of the gradients by the scale on the right."""
    gradients = sorted(curves.gradient_norm.items())
    name = "gradient norm (right)"
    rates = [Line(label="learning rate", points=sorted(curves.learning_rate.items()), color="baseline", dots=False)]
    norms = [Line(label=name, smoothed_label=name, points=gradients, color="gpt", noisy=True, dots=False)]
    if not curves.learning_rate or not gradients:
        title = "Gradient norm" if gradients else "Learning rate"
        return plot_panel(axes, Panel(title=title, x_label="step", lines=norms if gradients else rates))
    other = axes.twinx()
    plot_panel(other, Panel(title="", x_label="", lines=norms))
    plot_panel(axes, Panel(title="Learning rate", x_label="step", lines=rates))
    other.grid(False)
    other.set_xlabel("")
    other.set_ylim(bottom=0.0)
    axes.set_ylim(bottom=0.0)
    if legend := other.get_legend():
        legend.remove()
    place_legend(axes, list(zip(*other.get_legend_handles_labels(), strict=True))[-1:])
    return None


def _mark(axes: Axes, curves: Curves) -> None:
    """Mark where warnings were given: a line across, and what it warned of beside it."""
    for at, (step, name) in enumerate(list(curves.warnings)[:_MOST_MARKS]):
        axes.axvline(step, color=color("ink"), linewidth=1.0, linestyle=(0, (1, 2)))
        axes.annotate(
            clean(name.replace("_", " ")),
            xy=(step, 1.0 - 0.075 * (at % 6)),
            xycoords=axes.get_xaxis_transform(),
            xytext=(3, -3),
            textcoords="offset points",
            ha="left",
            va="top",
            color=color("ink"),
            fontsize=8.5,
        )


def _place(at: int, columns: int, rows: int) -> tuple[float, float, float, float]:
    """Left, bottom, width and height of a panel, as shares of the figure."""
    row, column = divmod(at, _COLUMNS)
    return (column + 0.105) / columns, 1 - (row + 0.84) / rows, 0.8 / columns, 0.7 / rows


def _group(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = record.get(name)
    return found if isinstance(found, Mapping) else {}

"""Which charts a report shows: the figures of a run turned into the bars and curves that ``curves`` draws."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from bothways.evaluation.curves import Bar, Line, Panel, bar_chart, confusion_matrix, line_chart
from bothways.evaluation.digest import (
    PRETRAINING,
    Arm,
    Headline,
    arms,
    finite,
    finite_only,
    higher_is_better,
    items,
    metrics,
    part,
    pretraining_headline,
    records,
)
from bothways.evaluation.wording import Wording


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A picture and the sentence under it."""

    svg: Markup
    caption: str


class Charts:
    """Draws the charts of a report in the report's language."""

    def __init__(self, words: Wording) -> None:
        self._words = words

    def pretraining(self, figures: Mapping[str, Any], model: str) -> list[Chart]:
        """A model's measures, as curves where it was measured on the way and else as bars, then its training loss."""
        found = [self._measure(figures, model, metric) for metric in PRETRAINING[model]]
        found.append(self._curve(figures, model, "loss", {}))
        return [chart for chart in found if chart]

    def task(self, task: Mapping[str, Any], name: str) -> Chart | None:
        """The main metric of every arm of a task."""
        named = metrics(task)
        bars = (
            [self._bar(arm, named[0]) for arm in arms(task) if finite(arm.scores.get(named[0])) is not None]
            if named
            else []
        )
        if not bars:
            return None
        caption = self._direction(named[0])
        if any(bar.low is not None and bar.high is not None for bar in bars):
            caption += "; " + self._words("whiskers show the confidence interval")
        return Chart(svg=Markup(bar_chart(bars, title=f"{self._words.task(name)}, {caption}")), caption=caption)

    def confusion(self, task: Mapping[str, Any]) -> Chart | None:
        """Which label was taken for which, if the task has square counts."""
        confusion = part(task, "confusion")
        labels = [str(label) for label in items(confusion, "labels")]
        counts = [
            [finite(count) or 0.0 for count in row]
            for row in items(confusion, "counts")
            if isinstance(row, list | tuple)
        ]
        if not labels or len(counts) != len(labels) or any(len(row) != len(labels) for row in counts):
            return None
        title = self._words("Which label was taken for which")
        caption = self._words(
            "Rows: the true label. Columns: the label given. A perfect model fills only the diagonal."
        )
        return Chart(svg=Markup(confusion_matrix(labels, counts, title=title)), caption=caption)

    def timings(self, figures: Mapping[str, Any]) -> Chart | None:
        """How long each stage took."""
        seconds = finite_only(part(figures, "timings"))
        if not seconds:
            return None
        bars = [
            Bar(
                label=self._words.stage(stage), value=value, text=self._words.duration(value), color=_stage_color(stage)
            )
            for stage, value in seconds.items()
        ]
        title = self._words("Where the time went")
        return Chart(svg=Markup(bar_chart(bars, title=title)), caption="")

    def _measure(self, figures: Mapping[str, Any], model: str, metric: str) -> Chart | None:
        headline = pretraining_headline(figures, model, metric)
        yardsticks = {
            f"{self._words.arm(name)} {self._words.number(metric, value)}": value
            for name, value in (headline.yardsticks if headline else {}).items()
        }
        return self._curve(figures, model, metric, yardsticks) or (self._against(headline) if headline else None)

    def _curve(self, figures: Mapping[str, Any], model: str, metric: str, yardsticks: dict[str, float]) -> Chart | None:
        """A column of a model's training curve, if it has two points or more."""
        measured = [record for record in records(figures, "curve") if finite(record.get(metric)) is not None]
        by_tokens = all(finite(record.get("tokens")) is not None for record in measured)
        x = "tokens" if by_tokens else "step"
        points = [(record[x], record[metric]) for record in measured if finite(record.get(x)) is not None]
        if len(points) < 2:
            return None
        panel = Panel(
            title=self._words.metric(metric),
            x_label=self._words("tokens seen" if by_tokens else "steps"),
            lines=[
                Line(
                    label=self._words("each batch"),
                    points=points,
                    color=model,
                    noisy=metric == "loss",
                    smoothed_label=self._words("smoothed"),
                )
            ],
            yardsticks=yardsticks,
        )
        return Chart(svg=Markup(line_chart(panel)), caption=self._words.metric_meaning(metric))

    def _against(self, headline: Headline) -> Chart:
        """A measure beside its yardsticks."""
        metric = headline.metric
        values = {headline.model: headline.value, **headline.yardsticks}
        bars = [
            Bar(
                label=self._words.arm(name),
                value=value,
                text=self._words.number(metric, value),
                color=headline.family if name == headline.model else "baseline",
            )
            for name, value in values.items()
        ]
        caption = self._direction(metric)
        return Chart(svg=Markup(bar_chart(bars, title=f"{headline.model.upper()}, {caption}")), caption=caption)

    def _bar(self, arm: Arm, metric: str) -> Bar:
        value = arm.scores[metric]
        return Bar(
            label=self._words.arm(arm.name),
            value=value,
            text=self._words.number(metric, value),
            color=f"{arm.family}_twin" if arm.kind == "twin" else arm.family,
            low=finite(arm.low.get(metric)),
            high=finite(arm.high.get(metric)),
        )

    def _direction(self, metric: str) -> str:
        sentence = "{metric}: longer is better" if higher_is_better(metric) else "{metric}: shorter is better"
        return self._words(sentence, metric=self._words.metric(metric))


def _stage_color(stage: str) -> str:
    return "gpt" if "gpt" in stage else "bert" if "bert" in stage else "baseline"

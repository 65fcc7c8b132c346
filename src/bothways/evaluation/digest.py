"""What a run's figures say: which arm is a model, which a yardstick, which is best. No layout, no language.

The schema of the figures is in ``report``; whatever is missing there is simply absent here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Family = Literal["gpt", "bert", "baseline"]

TWIN = "_not_pretrained"

# The measures of pretraining, each with the word that marks its own yardsticks among the model's baselines.
PRETRAINING: dict[str, dict[str, str]] = {
    "gpt": {"bits_per_byte": ""},
    "bert": {"masked_accuracy": "masked", "next_sentence_accuracy": "next_sentence"},
}

_LOWER_IS_BETTER = ("bits_per_byte", "perplexity", "loss", "error", "repetition")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One method on one task."""

    name: str
    family: Family
    pretrained: bool
    scores: Mapping[str, Any]
    """Every figure of the arm by its name, confidence bounds apart."""
    low: Mapping[str, Any] = field(default_factory=dict)
    high: Mapping[str, Any] = field(default_factory=dict)
    best: frozenset[str] = frozenset()
    """The metrics in which no other arm is better."""

    @property
    def kind(self) -> Literal["model", "twin", "baseline"]:
        """What the arm is to the reader: the thing measured, its not-pretrained twin, or a yardstick."""
        if self.family == "baseline":
            return "baseline"
        return "model" if self.pretrained else "twin"


@dataclass(frozen=True, kw_only=True)
class Headline:
    """One figure that matters, with what it has to be held against."""

    task: str
    metric: str
    model: str
    family: Family
    value: float
    twin: float | None = None
    """The same model without pretraining."""
    yardsticks: Mapping[str, float] = field(default_factory=dict)

    @property
    def best_yardstick(self) -> str | None:
        """The strongest of the yardsticks; None without any."""
        if not self.yardsticks:
            return None
        choose = max if higher_is_better(self.metric) else min
        return choose(self.yardsticks, key=self.yardsticks.__getitem__)

    @property
    def verdict(self) -> Literal["better", "level", "behind"] | None:
        """Against the best yardstick; None without one."""
        if self.best_yardstick is None:
            return None
        yardstick = self.yardsticks[self.best_yardstick]
        if self.value == yardstick:
            return "level"
        return "better" if (self.value > yardstick) == higher_is_better(self.metric) else "behind"


def part(figures: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """Descend by ``names``; an empty mapping where the figures have none."""
    for name in names:
        inner = figures.get(name)
        figures = inner if isinstance(inner, Mapping) else {}
    return figures


def items(figures: Mapping[str, Any], name: str) -> Sequence[Any]:
    """The list called ``name``; an empty one where the figures have none."""
    found = figures.get(name)
    return found if isinstance(found, list | tuple) else ()


def records(figures: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The objects in the list called ``name``."""
    return [item for item in items(figures, name) if isinstance(item, Mapping)]


def finite(value: Any) -> float | None:
    """``value`` if it is a number that can be drawn and compared, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def finite_only(scores: Mapping[str, Any]) -> dict[str, float]:
    """The entries of ``scores`` that are finite numbers."""
    return {name: number for name, value in scores.items() if (number := finite(value)) is not None}


def higher_is_better(metric: str) -> bool:
    """False for losses, errors and the like."""
    return not any(word in metric for word in _LOWER_IS_BETTER)


def family(arm: str) -> Family:
    """Which kind of model an arm's name starts with."""
    first = arm.split("_")[0]
    return "gpt" if first == "gpt" else "bert" if first == "bert" else "baseline"


def metrics(task: Mapping[str, Any]) -> list[str]:
    """The metrics of a task, the main one first; read off its arms where the task does not name them."""
    named = [str(metric) for metric in items(task, "metrics")]
    if named:
        return named
    found: dict[str, None] = {}
    for scores in part(task, "arms").values():
        found |= dict.fromkeys(finite_only(scores) if isinstance(scores, Mapping) else {})
    return [metric for metric in found if metric != "seconds"]


def arms(task: Mapping[str, Any]) -> list[Arm]:
    """The methods of a task in the order of the figures, the best of each metric marked."""
    given = {name: scores for name, scores in part(task, "arms").items() if isinstance(scores, Mapping)}
    best = {metric: _best(given, metric) for metric in metrics(task)}
    return [
        Arm(
            name=name,
            family=family(name),
            pretrained=TWIN not in name,
            scores={key: value for key, value in scores.items() if key not in ("low", "high")},
            low=part(scores, "low"),
            high=part(scores, "high"),
            best=frozenset(metric for metric, names in best.items() if name in names),
        )
        for name, scores in given.items()
    ]


def headlines(figures: Mapping[str, Any]) -> list[Headline]:
    """The figures of the front page: pretraining first, then the main metric of each task."""
    found = [
        headline
        for model, measures in PRETRAINING.items()
        for metric in measures
        if (headline := pretraining_headline(part(figures, "pretraining", model), model, metric))
    ]
    tasks = part(figures, "tasks")
    return found + [headline for name in tasks if (headline := task_headline(name, part(tasks, name)))]


def pretraining_headline(figures: Mapping[str, Any], model: str, metric: str) -> Headline | None:
    """One measure of one pretrained model, or None where it was not taken."""
    value = finite(figures.get(metric))
    if value is None:
        return None
    mark = PRETRAINING[model][metric]
    baselines = finite_only(part(figures, "baselines"))
    return Headline(
        task="pretraining",
        metric=metric,
        model=model,
        family=family(model),
        value=value,
        yardsticks={_without(mark, name): score for name, score in baselines.items() if mark in name},
    )


def task_headline(name: str, task: Mapping[str, Any]) -> Headline | None:
    """The best pretrained arm in the main metric of a task, or None where none was measured."""
    named = metrics(task)
    if not named:
        return None
    metric = named[0]
    scores = {arm.name: score for arm in arms(task) if (score := finite(arm.scores.get(metric))) is not None}
    models = [arm for arm in scores if family(arm) != "baseline" and TWIN not in arm]
    if not models:
        return None
    choose = max if higher_is_better(metric) else min
    model = choose(models, key=scores.__getitem__)
    return Headline(
        task=name,
        metric=metric,
        model=model,
        family=family(model),
        value=scores[model],
        twin=scores.get(model + TWIN),
        yardsticks={arm: score for arm, score in scores.items() if family(arm) == "baseline"},
    )


def winner(side: Mapping[str, Any]) -> Family | None:
    """Which of the two is ahead in one row of ``side_by_side``; None if neither or not both were measured."""
    gpt, bert = finite(side.get("gpt")), finite(side.get("bert"))
    if gpt is None or bert is None or gpt == bert:
        return None
    return "gpt" if (gpt > bert) == higher_is_better(str(side.get("metric") or "")) else "bert"


def samples_by_temperature(task: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """A task's samples grouped by their temperature, as text ('' without one), in their order."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for sample in records(task, "samples"):
        temperature = sample.get("temperature")
        groups.setdefault("" if temperature is None else str(temperature), []).append(sample)
    return groups


def _best(given: Mapping[str, Mapping[str, Any]], metric: str) -> set[str]:
    """The arms that share the best value of a metric."""
    scores = {name: score for name, of in given.items() if (score := finite(of.get(metric))) is not None}
    if len(scores) < 2:
        return set()
    champion = (max if higher_is_better(metric) else min)(scores.values())
    return {name for name, score in scores.items() if score == champion}


def _without(mark: str, name: str) -> str:
    """'unigram_masked_accuracy' without 'masked' and what follows it is 'unigram'."""
    return name.split("_" + mark)[0] if mark else name

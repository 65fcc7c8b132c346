"""A task's figures, each with its 95 % interval, beside those of a baseline that has learnt nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bothways.evaluation.training_overlap import Seen
from bothways.metrics.bootstrap import Interval, bootstrap
from bothways.tasks.task import Example, Prediction, Task

RESAMPLES = 200  # of all examples, for a figure that is no mean over them, such as macro F1


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What ``scores.json`` holds.

    Attributes:
        task: its name.
        model: what was measured.
        attention: which way it read.
        metrics: figure to value and interval.
        baseline: figures of ``baseline_name`` on the same examples.
        baseline_name: what the model is compared with.
        n: number of examples.
        seen: how many of them stand in the texts that the model was trained on.
    """

    task: str
    model: str
    attention: str
    metrics: dict[str, Interval]
    baseline: dict[str, float]
    baseline_name: str
    n: int
    seen: Seen = field(default_factory=lambda: Seen(report=None))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; ``overlap`` is None where it is not known, and then ``overlap_note`` says why."""
        intervals = {
            name: {"value": found.value, "low": found.low, "high": found.high} for name, found in self.metrics.items()
        }
        collection = self.seen.in_collection
        return {
            "task": self.task,
            "model": self.model,
            "attention": self.attention,
            "metrics": intervals,
            "baseline": {"name": self.baseline_name, **self.baseline},
            "n": self.n,
            "overlap": self.seen.to_dict(),
            **({"overlap_note": self.seen.note} if self.seen.note else {}),
            **({"queries_in_collection": collection.found} if collection is not None else {}),
        }


def evaluate_task(
    task: Task,
    name: str,
    predictions: Sequence[Prediction],
    examples: Sequence[Example],
    *,
    model: str,
    attention: str,
    seen: Seen | None = None,
    seed: int = 0,
) -> Scores:
    """Measure predictions and the task's baseline on the same examples, of which the model may have ``seen`` some."""
    return Scores(
        task=name,
        model=model,
        attention=attention,
        metrics=intervals(task, predictions, examples, seed=seed),
        baseline=task.measure(task.baseline(examples), examples),
        baseline_name=task.BASELINE,
        n=len(examples),
        seen=seen or Seen(report=None),
    )


def intervals(
    task: Task, predictions: Sequence[Prediction], examples: Sequence[Example], *, seed: int = 0
) -> dict[str, Interval]:
    """Return each figure with its 95 % interval: most are means, and the examples' own scores are drawn from."""
    own = task.intervals(predictions, examples, seed=seed)
    if own is not None:
        return own
    each = task.measure_each(predictions, examples)
    pairs = list(zip(predictions, examples, strict=True))

    def measure(name: str) -> Interval:
        if name in each:
            return bootstrap(each[name], seed=seed)
        return bootstrap(
            pairs, statistic=lambda drawn: task.measure(*zip(*drawn, strict=True))[name], resamples=RESAMPLES, seed=seed
        )

    return {name: measure(name) for name in task.measure(predictions, examples)}

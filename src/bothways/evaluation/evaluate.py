"""A task's figures, each with its 95 % interval, beside those of a baseline that has learnt nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bothways.metrics.bootstrap import Interval, bootstrap
from bothways.tasks.task import Example, Prediction, Task


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What ``scores.json`` holds.

    Attributes:
        task: its name.
        model: what was measured.
        metrics: figure to value and interval.
        baseline: figures of ``baseline_name`` on the same examples.
        baseline_name: what the model is compared with.
        n: number of examples.
    """

    task: str
    model: str
    metrics: dict[str, Interval]
    baseline: dict[str, float]
    baseline_name: str
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        intervals = {
            name: {"value": found.value, "low": found.low, "high": found.high} for name, found in self.metrics.items()
        }
        return {
            "task": self.task,
            "model": self.model,
            "metrics": intervals,
            "baseline": {"name": self.baseline_name, **self.baseline},
            "n": self.n,
        }


def evaluate_task(
    task: Task, name: str, predictions: Sequence[Prediction], examples: Sequence[Example], *, model: str, seed: int = 0
) -> Scores:
    """Measure predictions and the task's baseline on the same examples."""
    return Scores(
        task=name,
        model=model,
        metrics=intervals(task, predictions, examples, seed=seed),
        baseline=task.measure(task.baseline(examples), examples),
        baseline_name=task.BASELINE,
        n=len(examples),
    )


def intervals(
    task: Task, predictions: Sequence[Prediction], examples: Sequence[Example], *, seed: int = 0
) -> dict[str, Interval]:
    """Return each figure with its interval: over the examples' own scores, or over samples of the examples where the
    figure is no mean of such scores (macro F1)."""
    figures, each = task.measure(predictions, examples), task.measure_each(predictions, examples)
    found = {}
    for name, value in figures.items():
        if name in each:
            found[name] = bootstrap(each[name], seed=seed)
        else:
            rng = np.random.default_rng(seed)
            samples = [rng.integers(len(examples), size=len(examples)) for _ in range(200)]
            values = [
                task.measure([predictions[at] for at in sample], [examples[at] for at in sample])[name]
                for sample in samples
            ]
            low, high = np.quantile(values, [0.025, 0.975])
            found[name] = Interval(value=value, low=float(low), high=float(high))
    return found

"""Fine-tuning on rows, with the best epoch kept: the same trainer as everywhere."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from bothways import progress
from bothways.batch import Batch, Objective, Row
from bothways.errors import UserError
from bothways.finetuning import Finetuning
from bothways.model.heads import Model
from bothways.training.batches import ExampleBatches, batches_of
from bothways.training.trainer import Trained, Trainer
from bothways.training.validation import validate

Example = TypeVar("Example")

FEWEST = 200  # examples from which on some are held out without being asked for
SHARE = 0.1  # of the examples
MOST = 2000  # examples to hold out: the standard error of an accuracy is then under 1.2 points


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a model is fitted; every ``fit`` takes these.

    Attributes:
        validation: further examples, as ``fit`` takes them, that the best epoch is chosen by; or the share of the examples
            to hold out for that; None: a tenth (2,000 at most) where there are at least 200 examples, else none; 0: none.
        epochs: how often every example is seen.
        batch_size: examples of one step.
        learning_rate: None: as ``Finetuning.suited_to`` the model.
        seed: of the order of examples, of dropout, of a new head and of what is held out.
    """

    validation: Any = None
    epochs: float = 3
    batch_size: int = 32
    learning_rate: float | None = None
    seed: int = 0

    def settings(self, model: Model) -> Finetuning:
        """Return the settings of a fine-tuning run.

        Raises:
            UserError: a value is out of range.
        """
        values = {"epochs": self.epochs, "batch_size": self.batch_size, "seed": self.seed}
        suited = Finetuning.from_dict(values).suited_to(model)
        said = [] if self.learning_rate is None else [f"training.learning_rate={self.learning_rate}"]
        return suited.override(said)


def share_to_hold_out(count: int, validation: Any) -> tuple[float, int | None]:
    """Return which share of so many examples to hold out, and how many at most.

    Raises:
        UserError: ``validation`` is no share.
    """
    share = (SHARE if count >= FEWEST else 0.0) if validation is None else validation
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
        raise UserError(f"validation must be inputs with labels, or a share from 0 to less than 1, not {share!r}")
    return share, MOST if validation is None else None


def split(
    examples: Sequence[Example], options: Options, read: Callable[[Any], Sequence[Example]]
) -> tuple[Sequence[Example], Sequence[Example]]:
    """Return what to learn from, and what to choose the best epoch by, which may be nothing.

    Args:
        examples: all that ``fit`` was given.
        options: say what of them is held out, or hold further ones.
        read: turns those further ones into examples.
    """
    if options.validation is not None and not isinstance(options.validation, int | float):
        return examples, read(options.validation)
    count = len(examples)
    share, most = share_to_hold_out(count, options.validation)
    out = min(round(share * count), most or count)
    if options.validation and not out:
        raise UserError(f"validation={share} of {count} examples is not even one; hold out more")
    if out:
        progress.note(f"{out:,} of {count:,} examples are held out to choose the best epoch by")
    order = np.random.default_rng(options.seed).permutation(count).tolist()
    return [examples[index] for index in sorted(order[out:])], [examples[index] for index in sorted(order[:out])]


def two(validation: Any) -> tuple[Any, Any]:
    """Return the inputs and the labels of further examples.

    Raises:
        UserError: they are not two things.
    """
    if not isinstance(validation, tuple | list):
        raise UserError(f"validation must be inputs with labels, or a share from 0 to less than 1, not {validation!r}")
    if len(validation) != 2:
        raise UserError(f"validation must be two things, the inputs and the labels, not {len(validation)}")
    return validation[0], validation[1]


def fit_rows(
    model: Model,
    objective: Objective,
    rows: Sequence[Row],
    held_out: Sequence[Row],
    settings: Finetuning,
    *,
    batches: ExampleBatches | None = None,
    whole_steps: bool = False,
) -> Trained:
    """Train a model in place; with held-out rows it ends as it was after its best epoch.

    Args:
        model: has the heads that the objective reads.
        objective: over targets as the rows have them.
        rows: with their targets.
        held_out: what it is measured on after every epoch; may be none.
        settings: how.
        batches: what hands out the rows in another way than each as it is.
        whole_steps: the objective compares all rows of a step with each other.
    """
    tokens = None if whole_steps else settings.training.micro_batch_tokens
    batches = batches or ExampleBatches(
        rows, batch_size=settings.batch_size, seed=settings.seed, micro_batch_tokens=tokens
    )
    steps = max(1, round(settings.epochs * batches.steps_per_epoch))
    measured = _chunks(held_out, settings.batch_size) if whole_steps else [held_out]
    best = (
        BestEpoch(objective, [batch for part in measured for batch in batches_of(part, tokens)]) if held_out else None
    )
    trainer = Trainer(
        replace(settings.for_examples(), steps=steps, evaluate_every=batches.steps_per_epoch),
        settings.optimizer,
        seed=settings.seed,
        evaluate=best,
        monitor=("loss", "min"),
        description="Fine-tuning",
    )
    trained = trainer.fit(model, batches, objective)
    if best:
        best.restore(model)
    return trained


def _chunks(rows: Sequence[Row], size: int) -> list[Sequence[Row]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


class BestEpoch:
    """Measures a model on held-out batches and keeps the best weights, by accuracy if there is one, then by loss."""

    def __init__(self, objective: Objective, batches: Sequence[Batch]) -> None:
        self.objective = objective
        self.batches = batches
        self.epochs = 0
        self.rank = (-1.0, -float("inf"))
        self.weights: dict[str, Tensor] = {}

    def __call__(self, model: Model) -> Mapping[str, float]:
        """Return the loss, and the accuracy where every target has one right value."""
        plain = all(target.group is None for batch in self.batches for target in batch.targets.values())
        figures = validate(model, self.batches) if plain else mean_losses(model, self.batches, self.objective)
        self.epochs += 1
        said = ", ".join(f"{name} {figures[name]:.3f}" for name in ("accuracy", "loss") if name in figures)
        progress.note(f"epoch {self.epochs}: validation {said}")
        rank = (figures.get("accuracy", 0.0), -figures["loss"])
        if rank > self.rank:
            self.rank = rank
            self.weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        return figures

    @torch.no_grad()
    def restore(self, model: Model) -> None:
        """Give a model its best weights back."""
        for name, weight in model.named_parameters():
            weight.copy_(self.weights.get(name, weight))


@torch.no_grad()
def mean_losses(model: Model, batches: Sequence[Batch], objective: Objective) -> dict[str, float]:
    """Return the objective's losses over batches, each divided once, and ``loss``, their weighted sum."""
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    weights: dict[str, float] = {}
    for batch in batches:
        for name, loss in objective.loss(model, batch.to(model.device)).items():
            sums[name] = sums.get(name, 0.0) + float(loss.sum)
            counts[name] = counts.get(name, 0) + loss.count
            weights[name] = loss.weight
    means = {name: total / counts[name] for name, total in sums.items()}
    return {**means, "loss": sum(weights[name] * mean for name, mean in means.items())}

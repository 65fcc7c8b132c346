"""Fine-tuning of a classifier on rows, with the best epoch kept: the same trainer as everywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bothways import progress
from bothways.batch import Batch, Row, Target
from bothways.finetuning import Finetuning
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.objectives.classification import Classification
from bothways.training.batches import ExampleBatches, batches_of
from bothways.training.trainer import Trained, Trainer
from bothways.training.validation import validate

HEAD = "classification"


def default_learning_rate(config: TransformerConfig) -> float:
    """Return the learning rate for a pretrained model: 5e-5 for one as wide as BERT-base, more for narrower ones."""
    return 5e-5 * 768 / config.hidden_size


def with_classes(rows: Sequence[Row], classes: NDArray[np.int64], config: TransformerConfig) -> list[Row]:
    """Return rows of one sequence with their classes [n] as targets, read where the model's settings say."""
    return [
        replace(
            row, targets={HEAD: Target(index=np.array([len(row) - 1 if config.pooling == "last" else 0]), value=value)}
        )
        for row, value in zip(rows, classes[:, None], strict=True)
    ]


def replace_head(model: Model, outputs: int, seed: int) -> None:
    """Give a model fresh weights for so many classes; the pooler before them, which was pretrained, stays."""
    before = model.heads[HEAD]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model.add_head(HEAD, outputs)
    for name in ("dense", "transform"):
        if hasattr(before, name):
            setattr(model.heads[HEAD], name, getattr(before, name))


def fit_rows(
    model: Model, objective: Classification, rows: Sequence[Row], held_out: Sequence[Row], settings: Finetuning
) -> Trained:
    """Train a model in place; with held-out rows it ends as it was after its best epoch.

    Args:
        model: has a classification head that fits the targets.
        objective: over as many classes.
        rows: with their targets.
        held_out: what it is measured on after every epoch; may be none.
        settings: how.
    """
    tokens = settings.training.micro_batch_tokens
    batches = ExampleBatches(rows, batch_size=settings.batch_size, seed=settings.seed, micro_batch_tokens=tokens)
    steps = max(1, round(settings.epochs * batches.steps_per_epoch))
    best = BestEpoch(batches_of(held_out, tokens)) if held_out else None
    trainer = Trainer(
        replace(settings.training, steps=steps, evaluate_every=batches.steps_per_epoch),
        settings.optimizer,
        seed=settings.seed,
        evaluate=best,
        monitor=("accuracy", "max"),
        description="Fine-tuning",
    )
    trained = trainer.fit(model, batches, objective)
    if best:
        best.restore(model)
    return trained


class BestEpoch:
    """Measures a model on held-out batches and keeps the best weights, by accuracy, then by loss."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = batches
        self.epochs = 0
        self.rank = (-1.0, 0.0)
        self.weights: dict[str, Tensor] = {}

    def __call__(self, model: Model) -> Mapping[str, float]:
        """Return accuracy and loss."""
        figures = validate(model, self.batches)
        self.epochs += 1
        progress.note(f"epoch {self.epochs}: validation accuracy {figures['accuracy']:.3f}, loss {figures['loss']:.3f}")
        rank = (figures["accuracy"], -figures["loss"])
        if rank > self.rank:
            self.rank = rank
            self.weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        return figures

    @torch.no_grad()
    def restore(self, model: Model) -> None:
        """Give a model its best weights back."""
        for name, weight in model.named_parameters():
            weight.copy_(self.weights[name])

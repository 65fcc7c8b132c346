"""One trainer for pretraining and fine-tuning. It knows losses, steps and weights, and neither GPT nor BERT."""

from dataclasses import dataclass

import torch

from bothways.batch import Objective
from bothways.errors import UserError
from bothways.model.heads import Model
from bothways.training.batches import Batches
from bothways.training.distributed import current
from bothways.training.fitting import Fitting
from bothways.training.interruption import JointStop, listen
from bothways.training.machine import keep_freed_memory
from bothways.training.randomness import begin_random_numbers
from bothways.training.run import Assignment, Doctor, Evaluator, Finding, FlopCounter, Run, Trained
from bothways.training.sharing import shared

__all__ = ["Doctor", "Evaluator", "Finding", "FlopCounter", "Run", "Trained", "Trainer"]


@dataclass(frozen=True)
class Trainer(Assignment):
    """Minimises an objective over batches; nothing happens before ``fit``. Its settings are those of ``Assignment``.

    Raises:
        UserError: the run cannot go back to a checkpoint because it has none.
    """

    def __post_init__(self) -> None:
        if self.training.on_nonfinite == "rewind" and self.run is None:
            raise UserError(
                "training.on_nonfinite=rewind goes back to a checkpoint: give a folder to save in, or use skip"
            )

    def fit(self, model: Model, batches: Batches, objective: Objective, *, resume: bool = False) -> Trained:
        """Train a model in place.

        Where several processes have been joined, all of them must call this alike: each computes its share of the rows.

        Args:
            model: has the heads that the objective reads.
            batches: endless steps.
            objective: gives named losses; each is divided once, by its count over all batches of a step.
            resume: go on from the run's newest complete checkpoint, if there is one.
        Raises:
            NonFiniteError: a loss or gradient was not finite; weights are those of the step before.
            OutOfDiskError, UnwritableError: checkpoints cannot be written; those before are whole.
            Interrupted: a signal came; a checkpoint was saved if there is a run.
            UserError: a run to be resumed differs in what it was made from.
        """
        keep_freed_memory()
        group = current()
        with torch.random.fork_rng(), listen() as heard, group.speaking_once():
            stop = heard if group.alone else JointStop(heard)
            fitting = Fitting(self, model, shared(batches, group), objective)
            begin_random_numbers(self.seed, group)
            if resume:
                fitting.resume()
            try:
                return fitting.loop(stop)
            finally:
                fitting.close()

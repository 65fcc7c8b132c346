"""One trainer for pretraining and fine-tuning. It knows losses, steps and weights, and neither GPT nor BERT."""

import torch

from bothways.batch import Objective
from bothways.errors import UserError
from bothways.model.heads import Model
from bothways.training.batches import Batches
from bothways.training.config import OptimizerConfig, TrainingConfig
from bothways.training.distributed import current
from bothways.training.fitting import Fitting
from bothways.training.interruption import JointStop, listen
from bothways.training.machine import keep_freed_memory
from bothways.training.randomness import begin_random_numbers
from bothways.training.run import Assignment, Doctor, Evaluator, Finding, FlopCounter, Run, Trained
from bothways.training.sharing import shared

__all__ = ["Doctor", "Evaluator", "Finding", "FlopCounter", "Run", "Trained", "Trainer"]


class Trainer:
    """Minimises an objective over batches."""

    def __init__(
        self,
        training: TrainingConfig,
        optimizer: OptimizerConfig,
        *,
        seed: int = 0,
        run: Run | None = None,
        evaluate: Evaluator | None = None,
        monitor: tuple[str, str] = ("loss", "min"),
        flops: FlopCounter | None = None,
        doctor: Doctor | None = None,
        description: str = "Training",
    ) -> None:
        """Set up; nothing happens before ``fit``.

        Args:
            training, optimizer: settings.
            seed: of dropout. Torch's own generators are as they were when ``fit`` returns.
            run: where to save; None: nowhere.
            evaluate: model to named figures; called every ``evaluate_every`` steps and at the end.
            monitor: which figure, and whether its ``"min"`` or ``"max"``, makes a checkpoint the best.
            flops: counts the floating point operations of a step.
            doctor: looks at the curve and the evaluations whenever there is something new, and warns.
            description: what the progress bar says.
        Raises:
            UserError: the run cannot go back to a checkpoint because it has none.
        """
        if training.on_nonfinite == "rewind" and run is None:
            raise UserError(
                "training.on_nonfinite=rewind goes back to a checkpoint: give a folder to save in, or use skip"
            )
        self._seed = seed
        self._assignment = Assignment(
            training=training,
            optimizer=optimizer,
            run=run,
            evaluate=evaluate,
            monitor=monitor,
            flops=flops,
            doctor=doctor,
            description=description,
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
            OutOfDiskError: checkpoints cannot be written; those before are whole.
            Interrupted: a signal came; a checkpoint was saved if there is a run.
            UserError: a run to be resumed differs in what it was made from.
        """
        keep_freed_memory()
        group = current()
        with torch.random.fork_rng(), listen() as heard, group.speaking_once():
            stop = heard if group.alone else JointStop(heard)
            fitting = Fitting(self._assignment, model, shared(batches, group), objective, seed=self._seed)
            begin_random_numbers(self._seed, group)
            if resume:
                fitting.resume()
            try:
                return fitting.loop(stop)
            finally:
                fitting.close()

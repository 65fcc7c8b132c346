"""How many steps fit a time budget: measured on the user's machine, with the user's own data and model, before training."""

import math
import time
from dataclasses import dataclass, replace

import torch

from bothways.config import Config
from bothways.errors import UserError
from bothways.experiment import Corpora, Experiment, in_shares, make_batches
from bothways.model.heads import Model
from bothways.training.batches import PretrainingObjective
from bothways.training.machine import default_device
from bothways.training.trainer import Trainer

TRIAL_SECONDS = 3.0
RESERVE = 0.06  # of the budget, for evaluation and saving


@dataclass(frozen=True, kw_only=True)
class Plan(Config):
    """What a budget became; the same plan, seed and versions give the same model."""

    steps: int
    seconds_per_step: float | None  # None: the number of steps was given
    tokens: int  # that will be seen, padding included
    tokens_per_parameter: float
    epochs: float  # how often the text is seen; of several corpora, the one that is seen most often
    parameters: int
    minutes: float | None


def plan_steps(
    experiment: Experiment, objective: PretrainingObjective, corpora: Corpora, *, minutes: float | None
) -> Plan:
    """Return the plan of a run, from ``training.steps`` or from a time budget.

    Raises:
        UserError: the budget is too short for a single step.
    """
    with torch.device("meta"):  # shapes alone: no memory, no random numbers
        parameters = Model(experiment.model, objective.heads).num_parameters()
    seconds = None
    steps = experiment.training.steps
    if minutes is not None:
        if not 0 < minutes < 10**7:
            raise UserError(f"--minutes must be above 0, not {minutes}")
        seconds = measure_step(experiment, objective, corpora)
        steps = int(minutes * 60 * (1 - RESERVE) / seconds)
        if steps < 1:
            raise UserError(
                f"{minutes:g} minutes are not enough for one step, which takes {seconds:.1f} seconds here; give more time "
                "or a smaller recipe"
            )
    row_length = experiment.training.row_length
    tokens = steps * max(1, experiment.training.batch_tokens // row_length) * row_length
    return Plan(
        steps=steps,
        seconds_per_step=None if seconds is None else round(seconds, 4),
        tokens=tokens,
        tokens_per_parameter=round(tokens / parameters, 3),
        epochs=round(max(share * tokens / corpus.num_tokens for corpus, share in in_shares(corpora)), 3),
        parameters=parameters,
        minutes=minutes,
    )


def measure_step(
    experiment: Experiment, objective: PretrainingObjective, corpora: Corpora, *, trial_seconds: float = TRIAL_SECONDS
) -> float:
    """Return the seconds of one training step, measured on a throw-away model for about ``trial_seconds``."""
    training = experiment.training
    with torch.random.fork_rng():
        model = Model(experiment.model, objective.heads).to(default_device())
    batches = make_batches(experiment, objective, corpora)
    best, steps, start = math.inf, 1, time.perf_counter()
    while True:
        trainer = Trainer(replace(training, steps=steps, on_nonfinite="skip"), experiment.optimizer)
        trained = trainer.fit(model, batches, objective)
        if steps > 1:  # the first step also warms up; the quickest trial is the one that nothing disturbed
            best = min(best, trained.seconds / trained.steps)
            if time.perf_counter() - start > trial_seconds:
                return best
        steps = min(steps + 2, 8)

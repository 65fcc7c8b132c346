"""How many steps fit a time budget: measured on the user's machine, with the user's own data and model, before training.

A trial is much shorter than compiling takes, so with ``training.compile=auto`` its layers are not compiled, though those of a
long run are. What compiling was found to save is then taken off its time, and plans and forecasts say so.
"""

import math
import time
from dataclasses import dataclass, replace

import torch

from bothways import progress
from bothways.advise.workload import Workload, batches_halfway, count_parameters, rows_of, share_predicted, workload_of
from bothways.config import Config
from bothways.errors import UserError
from bothways.experiment import Corpora, Experiment, in_shares
from bothways.model.heads import Model
from bothways.training.batches import PretrainingObjective
from bothways.training.distributed import current
from bothways.training.machine import (
    default_device,
    measured_peak,
    resolve_precision,
    wants_compiled,
    why_not_compiled_anywhere,
)
from bothways.training.schedule import LENGTHS, total_tokens
from bothways.training.trainer import Trainer

TRIAL_SECONDS = 3.0
RESERVE = 0.06  # of the budget, for evaluation and saving
LIKELY_SHARE = 0.4  # of the machine's peak that a training reaches, before anything is measured
MOST_STEPS = 10**9  # that a run may have
SHORTEST_TRIAL = 128  # tokens of a step that is tried
_TRIAL_STEPS = 4  # the fewest that a trial takes
COMPILED_SHARE = {"cpu": 0.88}  # of a step's time that is left where layers are compiled; on a GPU it is not known yet
COMPILING_SECONDS = 30.0  # for each length of rows, with what has fewer rows where a chunk of text ends


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
    chosen_recipe: str | None = None  # where a family was named and the size was chosen
    chosen_settings: tuple[str, ...] = ()  # that were chosen along with it
    reasons: tuple[str, ...] = ()  # why


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A measured speed.

    Attributes:
        seconds: of a whole step.
        tokens: of the steps that were tried: those of a whole step, or fewer.
    """

    seconds: float
    tokens: int


def plan_steps(
    experiment: Experiment,
    objective: PretrainingObjective,
    corpora: Corpora,
    *,
    minutes: float | None,
    seconds_per_step: float | None = None,
) -> Plan:
    """Return the plan of a run, from ``training.steps`` or from a time budget.

    Args:
        experiment, objective, corpora: of the run.
        minutes: the budget; None: the steps are given.
        seconds_per_step: as it was measured already; None: a trial measures it.
    Raises:
        UserError: the budget is too short for a single step.
    """
    seconds = None
    steps = experiment.training.steps
    if minutes is not None:
        check_minutes(minutes)
        workload = workload_of(experiment, objective, share_predicted(experiment, objective, corpora))
        seconds = seconds_per_step or try_steps(experiment, objective, corpora, workload).seconds
        steps = steps_in(minutes, seconds, experiment, workload)
        if steps < 1:
            raise UserError(
                f"{in_minutes(minutes)} will not do for one step, which takes {seconds:.1f} seconds here; give more time "
                "or a smaller recipe"
            )
        seconds = seconds_in_run(seconds, experiment, workload.parameters, steps=steps)
    plan = make_plan(experiment, objective, corpora, steps=steps, seconds=seconds, minutes=minutes)
    if minutes is None or seconds_per_step is not None:
        return plan
    reasons = of_compiling(experiment, plan.parameters, steps=steps)
    for reason in reasons:
        progress.note(reason)
    return replace(plan, reasons=reasons)


def compiled_share(experiment: Experiment, parameters: int, *, steps: int) -> float | None:
    """Return what share of a trial's time a step takes in a run of so many steps; None: its layers are as they were tried.

    With ``auto`` a trial, which has few steps, does not compile them.
    """
    training, device = replace(experiment.training, steps=steps), default_device()
    if training.compile != "auto" or not wants_compiled(training, experiment.model, device, parameters=parameters):
        return None
    return None if why_not_compiled_anywhere(device) else COMPILED_SHARE.get(device.type, 1.0)


def seconds_in_run(seconds: float, experiment: Experiment, parameters: int, *, steps: int) -> float:
    """Return what a step takes in a run of so many steps, of the seconds that it took in a trial."""
    return seconds * (compiled_share(experiment, parameters, steps=steps) or 1.0)


def of_compiling(experiment: Experiment, parameters: int, *, steps: int) -> tuple[str, ...]:
    """Return the sentence that says how a run differs from its trial, if it does."""
    share = compiled_share(experiment, parameters, steps=steps)
    if share is None:
        return ()
    then = (
        "it may be done earlier than planned"
        if share == 1
        else f"a step is taken to need {share:.0%} of what was measured"
    )
    return (f"The run compiles its layers, which the trial of its speed was too short for: {then}",)


def make_plan(
    experiment: Experiment,
    objective: PretrainingObjective,
    corpora: Corpora,
    *,
    steps: int,
    seconds: float | None,
    minutes: float | None,
) -> Plan:
    """Return the plan of a run of so many steps, of which each takes so many seconds."""
    parameters = count_parameters(experiment, objective)
    tokens = total_tokens(replace(experiment.training, steps=steps))
    return Plan(
        steps=steps,
        seconds_per_step=None if seconds is None else round(seconds, 4),
        tokens=tokens,
        tokens_per_parameter=round(tokens / parameters, 3),
        epochs=round(max(share * tokens / corpus.num_tokens for corpus, share in in_shares(corpora)), 3),
        parameters=parameters,
        minutes=minutes,
    )


def check_minutes(minutes: float) -> None:
    """Refuse a budget that makes no sense.

    Raises:
        UserError: it is not above 0, or longer than twenty years.
    """
    if not 0 < minutes < 10**7:
        raise UserError(f"--minutes must be above 0, not {minutes}")


def in_minutes(minutes: float) -> str:
    """Return a time budget as it is read: ``1 minute``, ``0.5 minutes``."""
    return f"{minutes:g} minute{'' if minutes == 1 else 's'}"


def steps_in(minutes: float, seconds: float, experiment: Experiment, workload: Workload) -> int:
    """Return how many steps fit a budget; where batches grow, the first ones take less time.

    Args:
        minutes: the budget.
        seconds: of a step at its full size, as a trial measured them.
        experiment: says how batches grow.
        workload: of a step at its full size.
    """
    sample = 1000
    share = total_tokens(replace(experiment.training, steps=sample)) / (sample * workload.tokens)
    mean = (share * workload.model_flops + workload.optimizer_flops) / workload.flops
    budget = minutes * 60 * (1 - RESERVE)
    steps = min(MOST_STEPS, int(budget / (seconds * mean)))
    compiled = seconds_in_run(seconds, experiment, workload.parameters, steps=steps)
    if compiled == seconds:
        return steps
    compiling = COMPILING_SECONDS * (LENGTHS if experiment.training.length_ramp_share > 0 else 1)
    return max(1, min(MOST_STEPS, int((budget - compiling) / (compiled * mean))))


def try_steps(
    experiment: Experiment,
    objective: PretrainingObjective,
    corpora: Corpora,
    workload: Workload,
    *,
    trial_seconds: float | None = None,
    rate: float | None = None,
) -> Trial:
    """Measure the seconds of one training step, on steps of fewer tokens where whole ones would take too long.

    Args:
        experiment: its settings.
        objective: what is minimised.
        corpora: where the trial's text comes from.
        workload: of a step.
        trial_seconds: about how long the trial may take; None: ``TRIAL_SECONDS``.
        rate: FLOP/s that are likely; None: a share of the machine's peak.
    """
    seconds = TRIAL_SECONDS if trial_seconds is None else trial_seconds
    peak = measured_peak(resolve_precision(experiment.training.precision, default_device()))
    likely = rate or LIKELY_SHARE * current().share(peak) * current().size
    trial = trial_of(experiment, workload, affordable=seconds * likely / _TRIAL_STEPS)
    tried = workload_of(trial, objective, workload.predicted_share)
    measured = measure_step(trial, objective, corpora, trial_seconds=seconds)
    return Trial(seconds=measured * workload.flops / tried.flops, tokens=tried.tokens)


def trial_of(experiment: Experiment, workload: Workload, *, affordable: float) -> Experiment:
    """Return the experiment with steps of about so many floating point operations at most.

    They have fewer rows, and where one row is too much and rows may be of any length, a shorter one.
    """
    if workload.flops <= affordable:
        return experiment
    training = experiment.training
    left = max(0.0, affordable - workload.optimizer_flops)
    tokens = int(left / workload.model_flops * workload.tokens)
    row_length = training.row_length
    if experiment.objective.name == "causal_lm":
        row_length = min(row_length, max(SHORTEST_TRIAL, tokens))
    whole = rows_of(tokens, row_length) * row_length
    return replace(experiment, training=replace(training, batch_tokens=whole, row_length=row_length))


def measure_step(
    experiment: Experiment, objective: PretrainingObjective, corpora: Corpora, *, trial_seconds: float = TRIAL_SECONDS
) -> float:
    """Return the seconds of one training step, measured on a throw-away model for about ``trial_seconds``.

    Layers are compiled with ``training.compile=on`` alone: ``auto`` sees the few steps of the trial (``compiled_share``).
    Where batches or rows grow, it is a step at its full size, and where the share of masks falls, one of the run's middle.
    Processes that have been joined measure together, and all return what process 0 has measured.
    """
    training = replace(experiment.training, batch_ramp_share=0.0, length_ramp_share=0.0)
    with torch.random.fork_rng():
        model = Model(experiment.model, objective.heads).to(default_device())
    batches = batches_halfway(experiment, objective, corpora)
    best, steps, start = math.inf, 1, time.perf_counter()
    while True:
        trial = replace(training, steps=steps, on_nonfinite="skip")
        trainer = Trainer(trial, experiment.optimizer, description="Measuring the speed")
        trained = trainer.fit(model, batches, objective)
        warming = trained.curve[0]["seconds"] if trained.curve else 0.0
        elapsed, seconds = current().share([time.perf_counter() - start, trained.seconds - warming])
        if steps > 1:  # the first step of a trial also warms up; the quickest trial is the one that nothing disturbed
            best = min(best, seconds / (trained.steps - 1))
            if elapsed > trial_seconds:
                return best
        steps = min(steps + 2, 8)

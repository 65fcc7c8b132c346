"""What a pretraining would take and come to, told before it is paid for."""

import math
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any

from bothways.advise.hardware import GPUS, OnGpu, electricity_price, on_gpu
from bothways.advise.law import law_of
from bothways.advise.memory import (
    IMPORTED_LATER,
    PROGRAM,
    Memory,
    compute_memory,
    disk_bytes,
    forget_peak,
    measured_peak_memory,
    memory_here,
    resident_memory,
)
from bothways.advise.plan import (
    LIKELY_SHARE,
    Plan,
    Trial,
    check_minutes,
    in_minutes,
    make_plan,
    seconds_in_run,
    steps_in,
    try_steps,
)
from bothways.advise.sizing import Candidate, Choice, expected_loss
from bothways.advise.workload import Workload, share_predicted, workload_of
from bothways.errors import UserError
from bothways.experiment import Corpora, Experiment, in_shares
from bothways.training.batches import PretrainingObjective
from bothways.training.cost import Cost, cost_here
from bothways.training.machine import default_device, measured_peak, resolve_precision


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast this machine trains the model.

    Attributes:
        tried_tokens: of the steps that were measured; 0: none were, and a share of the machine's peak is assumed.
        seconds_per_step: of the whole step.
        tokens_per_second: padding included.
        flops_per_second: of the model: forward and backward passes, the optimizer's work left out.
        peak: FLOP/s of a large matrix product here.
        share_of_peak: of that, what the model's operations are.
    """

    tried_tokens: int
    seconds_per_step: float
    tokens_per_second: float
    flops_per_second: float
    peak: float
    share_of_peak: float


@dataclass(frozen=True, kw_only=True)
class MemoryNeed:
    """How much memory the run takes.

    Attributes:
        computed: from the shapes.
        measured: the most that this process held during the trial, which evaluates nothing; None: it was not made, or with
            fewer tokens.
        available: on this machine.
        fits: whether the larger of both is there.
    """

    computed: Memory
    measured: int | None
    available: int
    fits: bool


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the run should come to.

    Attributes:
        loss: nats per predicted token, on held-out text.
        bits_per_byte: None: masked tokens have none.
        source: what the figures rest on.
    """

    loss: float
    bits_per_byte: float | None
    source: str


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """All that can be told of a pretraining beforehand.

    Attributes:
        recipe: its name.
        experiment: all settings, the steps among them.
        machine: this one, in words.
        plan: steps, tokens, epochs.
        workload: of a step.
        flops: of the whole run.
        speed: of this machine.
        hours: of training; of a time budget all of it, with what evaluation and saving take.
        memory: that it takes.
        disk: bytes of checkpoints, at most.
        cost: energy and emissions here.
        electricity: price of the energy in US dollars, where it is cheap and where it is dear.
        expected: the loss to expect; None: no law is known for such a model.
        gpus: the same run on named GPUs.
        candidates: the sizes that were weighed, where a family was named.
        reasons: why this one was chosen.
    """

    recipe: str
    experiment: Experiment
    machine: str
    plan: Plan
    workload: Workload
    flops: float
    speed: Speed
    hours: float
    memory: MemoryNeed
    disk: int
    cost: Cost
    electricity: tuple[float, float]
    expected: Expected | None
    gpus: tuple[OnGpu, ...]
    candidates: tuple[Candidate, ...] = ()
    reasons: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        values = {each.name: _plain(getattr(self, each.name)) for each in fields(self)}
        values["memory"]["computed"]["total"] = self.memory.computed.total
        return values


def _plain(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def forecast(
    recipe: str,
    experiment: Experiment,
    objective: PretrainingObjective,
    corpora: Corpora,
    *,
    family: str | None,
    minutes: float | None = None,
    choice: Choice | None = None,
) -> Forecast:
    """Measure what is cheap to measure, compute the rest.

    Args:
        recipe: how the experiment is called.
        experiment: all settings.
        objective: what is minimised.
        corpora: to train on.
        family: whose scaling law tells the loss; None: none does.
        minutes: of training; None: ``training.steps`` are taken.
        choice: why this recipe, where a family was named.
    Raises:
        UserError: too little text, or a budget that is too short for one step.
    """
    if minutes is not None:
        check_minutes(minutes)
    device, training = default_device(), experiment.training
    program = PROGRAM if choice else resident_memory()  # choosing has left its trials in memory
    precision = resolve_precision(training.precision, device)
    workload = workload_of(experiment, objective, share_predicted(experiment, objective, corpora))
    computed = compute_memory(
        experiment,
        workload,
        precision=precision,
        device="cuda" if device.type == "cuda" else "cpu",
        program=0 if device.type == "cuda" else program + IMPORTED_LATER,
    )
    available = memory_here(device)
    forget_peak(device)
    trial = try_steps(experiment, objective, corpora, workload) if not choice and computed.total <= available else None
    held = measured_peak_memory(device) if trial and trial.tokens >= workload.micro_tokens else None
    if choice and choice.seconds_per_step:
        trial = Trial(seconds=choice.seconds_per_step, tokens=workload.tokens)
    speed = speed_of(trial, experiment, workload)
    steps = training.steps if minutes is None else steps_in(minutes, speed.seconds_per_step, experiment, workload)
    if minutes is not None and steps < 1:
        raise UserError(
            f"{in_minutes(minutes)} will not do for one step, which takes {speed.seconds_per_step:.1f} seconds here; give "
            "more time or a smaller recipe"
        )
    in_run = seconds_in_run(speed.seconds_per_step, experiment, workload.parameters, steps=steps)
    speed = speed_of(Trial(seconds=in_run, tokens=speed.tried_tokens), experiment, workload)
    plan = make_plan(experiment, objective, corpora, steps=steps, seconds=speed.seconds_per_step, minutes=minutes)
    seconds = seconds_of(plan, speed.seconds_per_step, workload)
    flops = plan.tokens / workload.tokens * workload.model_flops
    cost = cost_here(seconds=seconds, flops=flops)
    whole_steps = round(plan.tokens / workload.tokens)
    return Forecast(
        recipe=recipe,
        experiment=replace(experiment, training=replace(training, steps=steps)),
        machine=cost.hardware,
        plan=plan,
        workload=workload,
        flops=flops,
        speed=speed,
        hours=seconds / 3600 if minutes is None else minutes / 60,
        memory=MemoryNeed(
            computed=computed, measured=held, available=available, fits=max(computed.total, held or 0) <= available
        ),
        disk=disk_bytes(experiment, workload),
        cost=cost,
        electricity=electricity_price(cost.kwh),
        expected=expect(family, experiment, plan, corpora) if family else None,
        gpus=tuple(on_gpu(gpu, experiment, workload, steps=whole_steps) for gpu in GPUS),
        candidates=choice.candidates if choice else (),
        reasons=choice.reasons if choice else (),
    )


def speed_of(trial: Trial | None, experiment: Experiment, workload: Workload) -> Speed:
    """Return how fast this machine trains, from a trial or, without one, from its peak."""
    peak = measured_peak(resolve_precision(experiment.training.precision, default_device()))
    seconds, tried_tokens = workload.flops / (LIKELY_SHARE * peak), 0
    if trial:
        seconds, tried_tokens = trial.seconds, trial.tokens
    reached = workload.model_flops / seconds
    return Speed(
        tried_tokens=tried_tokens,
        seconds_per_step=seconds,
        tokens_per_second=workload.tokens / seconds,
        flops_per_second=reached,
        peak=peak,
        share_of_peak=reached / peak,
    )


def seconds_of(plan: Plan, seconds_per_step: float, workload: Workload) -> float:
    """Return the seconds of all steps; where batches grow, the first ones take less."""
    share = plan.tokens / (plan.steps * workload.tokens)
    mean = (share * workload.model_flops + workload.optimizer_flops) / workload.flops
    return plan.steps * seconds_per_step * mean


def expect(family: str, experiment: Experiment, plan: Plan, corpora: Corpora) -> Expected:
    """Return the loss that the family's law expects."""
    law = law_of(family)
    loss = expected_loss(law, plan.parameters, plan.tokens, corpora)
    shares = in_shares(corpora)
    length = math.fsum(share * corpus.num_bytes / corpus.num_tokens for corpus, share in shares)
    causal = experiment.objective.name == "causal_lm"
    return Expected(loss=loss, bits_per_byte=loss / math.log(2) / length if causal else None, source=law.source)

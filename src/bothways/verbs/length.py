"""How long a pretraining run is: the steps that were named, or that a time budget became, once."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bothways.advise.plan import Plan, plan_steps
from bothways.errors import UserError
from bothways.experiment import Experiment
from bothways.verbs.mixture import Mixture
from bothways.verbs.resuming import STEPS, TENTHS


def begun_before(folder: Path) -> dict[str, Any] | None:
    """Return the plan of a run that is there already, as plain values."""
    return Plan.load(folder / "plan.json").to_dict() if (folder / "plan.json").exists() else None


def names_steps(experiment: Experiment, settings: Sequence[str], minutes: float | None) -> bool:
    """Return whether the user says the number of steps; a time budget may not stand beside it.

    Raises:
        UserError: it does, or neither gives a single step.
    """
    named = any(setting.partition("=")[0].strip() == STEPS for setting in settings)
    if named and minutes is not None:
        raise UserError("--minutes and --set training.steps both say how long to train; give one of them")
    if minutes is None and not experiment.training.steps:
        raise UserError("training.steps is 0: give --minutes, or --set training.steps=N with at least one step")
    return named


def check_same_length(plan: Plan, *, steps: int, minutes: float | None, allowed: Sequence[str]) -> None:
    """Refuse to resume a run with another length than it was planned with, unless its steps may change.

    Args:
        plan: of the run.
        steps: that it shall have now.
        minutes: that it shall take now; None: the user has not said it again.
        allowed: what may differ.
    Raises:
        UserError: it differs.
    """
    if steps != plan.steps and STEPS not in allowed:
        raise UserError(
            f"this run cannot be resumed, because {STEPS} was {plan.steps} and is now {steps}; start a new run with another "
            f"--out, or go on all the same with --allow-change {' '.join([*allowed, STEPS])}"
        )
    if minutes is not None and minutes != plan.minutes:
        raise UserError(
            f"this run cannot be resumed, because minutes was {plan.minutes!r} and is now {minutes!r}; start a new run with "
            f"another --out, or say its steps: --set {STEPS}=N --allow-change {STEPS}"
        )


def plan_again(
    plan: Plan,
    experiment: Experiment,
    objective: Any,
    mixture: Mixture,
    *,
    named: bool,
    minutes: float | None,
    allowed: Sequence[str],
) -> Plan:
    """Return the plan of a run that is resumed: measured once, and counted anew for the text that it has now.

    Args:
        plan: that it was begun with.
        experiment, objective, mixture: as they are now.
        named: the user has said the number of steps.
        minutes: that the user has said; None: none.
        allowed: what may differ.
    Raises:
        UserError: it shall have another length, and may not.
    """
    said = named or (minutes is None and plan.minutes is None)
    steps = experiment.training.steps if said else plan.steps
    check_same_length(plan, steps=steps, minutes=minutes, allowed=allowed)
    training = replace(experiment.training, steps=steps)
    now = plan_steps(replace(experiment, training=training), objective, mixture.train, minutes=None)
    now = replace(now, chosen_recipe=plan.chosen_recipe, chosen_settings=plan.chosen_settings, reasons=plan.reasons)
    return now if steps != plan.steps else replace(now, seconds_per_step=plan.seconds_per_step, minutes=plan.minutes)


def with_tenths(allowed: Sequence[str], experiment: Experiment) -> list[str]:
    """Return what may differ: with the steps also what is a tenth of them."""
    tenths = [name for name in TENTHS if not experiment.flat()[name]]
    return [*allowed, *(tenths if STEPS in allowed else [])]


def scheduled(experiment: Experiment, plan: Plan) -> Experiment:
    """Return the experiment with the steps of its plan, and ten evaluations and saves where none are asked for."""
    tenth = max(1, plan.steps // 10)
    training = replace(
        experiment.training,
        steps=plan.steps,
        evaluate_every=experiment.training.evaluate_every or tenth,
        save_every=experiment.training.save_every or tenth,
    )
    return replace(experiment, training=training)

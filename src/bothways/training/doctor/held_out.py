"""What the held-out loss says beside the training loss."""

import math
from collections.abc import Iterator

import numpy as np

from bothways.training.doctor.context import Context
from bothways.training.doctor.course import LEAST_DOCUMENTS, Course, Records, Values
from bothways.training.doctor.finding import Finding, setting

RISING = 3  # evaluations in a row
LEAST_BESIDE = 4  # records on either side of an epoch's border
LEAST_DROP = 0.15  # nats
LEAST_GAP = 1.0  # nats; held-out text of another kind alone may cost some tenths


def held_out(course: Course, evaluations: Records, context: Context) -> Iterator[Finding]:
    """Yield what is wrong with text that is learnt by heart."""
    own = {"causal_lm": "causal_loss", "masked_lm": "masked_loss"}.get(course.loss_name, "loss")
    name = own if evaluations and own in evaluations[-1] else "loss"  # a hybrid has both
    known = [record for record in evaluations if math.isfinite(record.get(name, math.nan))]
    if len(course) < RISING:
        return
    losses = [record[name] for record in known]
    steps = [int(record["step"]) for record in known]
    epochs = course.tokens[-1] / context.tokens_per_epoch
    if epochs > 1.1:
        yield from _overfitting(course, steps, losses, epochs)
        yield from _staircase(course, steps, losses, context)
    elif losses:
        yield from _duplicated(course, steps, losses, context)


def _overfitting(course: Course, steps: list[int], losses: list[float], epochs: float) -> Iterator[Finding]:
    best = int(np.argmin(losses)) if losses else 0
    after = losses[best + 1 :]
    rising = len(after) >= RISING and min(after) > losses[best] + 0.02
    if not rising or after[-1] < losses[best] + max(0.08, 0.02 * losses[best]):
        return
    before, now = course.level_at(steps[best]), course.level_at(steps[-1])
    if now < before:
        yield Finding(
            "overfitting",
            f"the loss on held-out text rose from {losses[best]:.2f} at step {steps[best]:,} to {losses[-1]:.2f} while that of "
            f"training fell from {before:.2f} to {now:.2f}; the text was seen {epochs:.1f} times and is being learnt by heart. "
            f"Take the model in best/, give more text, or stop with {setting('training.steps', str(steps[best]))}.",
        )


def _staircase(course: Course, steps: list[int], losses: list[float], context: Context) -> Iterator[Finding]:
    """Training text that is easier as soon as it comes again, and held-out text that is not."""
    seen = course.tokens / context.tokens_per_epoch
    border = math.floor(seen[-1] - 0.2)
    drops = [_drop(course, seen, number) for number in (border - 1, border)]
    if border < 2 or min(drops) < LEAST_DROP:
        return
    step = int(course.steps[np.searchsorted(seen, border)])
    earlier = [loss for at, loss in zip(steps, losses, strict=True) if at <= step]
    if earlier and losses[-1] < min(earlier) - 0.02:
        return
    yield Finding(
        "overfitting",
        f"each time when the text begins anew, the last time near step {step:,}, the training loss steps down (by "
        f"{drops[0]:.2f}, {drops[1]:.2f}): it is being learnt by heart, and held-out text gains nothing. Give more text, or "
        f"stop with {setting('training.steps', str(step))}.",
    )


def _drop(course: Course, seen: Values, border: int) -> float:
    """Return by how much the loss falls where an epoch begins; 0 where that is no more than it falls or swings elsewhere."""
    before = course.losses[(seen > border - 0.3) & (seen <= border - 0.05)]
    after = course.losses[(seen >= border + 0.05) & (seen < border + 0.3)]
    if min(len(before), len(after)) < LEAST_BESIDE:
        return 0.0
    half = len(before) // 2
    drop = float(np.median(before) - np.median(after))
    usual = float(np.median(before[:half]) - np.median(before[half:]))  # over half the distance
    return drop if drop > max(2 * float(before.std() + after.std()), 4 * usual) else 0.0


def _duplicated(course: Course, steps: list[int], losses: list[float], context: Context) -> Iterator[Finding]:
    level = course.level_at(steps[-1])
    learnt = level < context.unigram_loss - LEAST_GAP  # or both are only wild
    if not learnt or losses[-1] - level < max(LEAST_GAP, 0.2 * losses[-1]):
        return
    few = course.documents_behind(context.tokens_per_document) < LEAST_DOCUMENTS  # long ones, learnt while they last
    if few and level > 0.5 * losses[-1]:
        return
    searched = context.near_copies_searched
    yield Finding(
        "duplicated_data",
        f"training is at a loss of {level:.2f} and held-out text at {losses[-1]:.2f} before the text was "
        "seen once: much of it must be there many times, unless held-out text is of another kind"
        + (
            ". Copies that were not found, templates or lists do that: look at it with: bothways inspect TEXT."
            if searched
            else ". Near copies were not searched for: prepare it again with --set deduplication.near=true."
        ),
    )

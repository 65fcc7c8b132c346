"""What the training loss, the gradients and the learning rate say together."""

import math
from collections.abc import Iterator

import numpy as np

from bothways.training.doctor.context import Context
from bothways.training.doctor.course import LEAST_DOCUMENTS, SMOOTHED, Course, Records, Values
from bothways.training.doctor.finding import Finding, setting

LEAST_STEPS = 20  # before which nothing is concluded from a course
LEAST_RECORDS = 10
NO_GRADIENT = 1e-4
FLAT = 0.15  # nats; what a loss surely neither falls nor rises by
WILD = 0.5  # nats; by how much losses swing where a run is out of hand
SMALL_BATCH = 512  # tokens; larger ones may be noisy and do
CHANCE = math.log(2)  # of two classes that are equally frequent
LEAST_PREDICTED = 50_000  # tokens, before which a BERT that learns well may know frequencies only
LEAST_PAIRS = 20_000  # before which chance is where pairs are expected
LEAST_GAIN = 0.005  # nats; pairs that gain more than this over chance are on their way


def learning(course: Course, evaluations: Records, context: Context) -> Iterator[Finding]:
    """Yield what is wrong with the way in which the loss falls, or does not."""
    yield from _skipped(course, context)
    if not len(course):
        return
    yield from _start(course, context)
    if len(course) < LEAST_RECORDS or course.step < LEAST_STEPS:
        return
    wrong = [*_too_high(course, context)] or [*_too_low(course, context)] or [*_plateau(course, evaluations, context)]
    yield from wrong
    yield from _divergence(course, evaluations, context)
    if not wrong:
        yield from _noise(course, context)
        yield from _pairs(course, evaluations, context)


def _skipped(course: Course, context: Context) -> Iterator[Finding]:
    if not (course.skipped or course.not_finite):
        return
    number = f"{course.skipped}" if course.skipped else f"at least {course.not_finite}"
    lower = setting("training.learning_rate", context.training.learning_rate / 3)
    yield Finding(
        "non_finite",
        f"{number} of the steps had losses or gradients that were not finite, and could not be taken; most often the learning "
        f"rate is too high, else numbers overflow. Try {lower}, or --set training.precision=fp32.",
    )


def _start(course: Course, context: Context) -> Iterator[Finding]:
    """A model that was trained before knows how frequent its tokens are; one that hardly was may not."""
    first, model = float(course.losses[0]), context.started_from
    early = course.steps[0] <= max(1, 0.02 * context.steps)
    if not (model and early and first > context.unigram_loss + 0.3):
        return
    start = f"training starts from {model} at a loss of {first:.2f}, above the "
    other = "its weights belong to another tokenizer, another kind of model or quite different text"
    remedy = f"Prepare the text with --tokenizer {model}, or leave --from away."
    if first > context.uniform_loss + 0.3:  # surely wrong, and not merely ignorant
        blindly = f"{context.uniform_loss:.2f} of guessing blindly among {context.vocab_size:,} tokens"
        yield Finding("tokenizer_mismatch", f"{start}{blindly}: {other}. {remedy}")
        return
    frequent = f"{context.unigram_loss:.2f} of guessing tokens by their frequency"
    yield Finding(
        "weak_start",
        f"{start}{frequent}: {model} was hardly trained itself, or {other}. Train it longer first; else: {remedy}",
    )


def _too_high(course: Course, context: Context) -> Iterator[Finding]:
    """Losses above that of blind guessing, where they did not start or to which they came back, or wild ones."""
    lower = setting("training.learning_rate", context.training.learning_rate / 10)
    rate = f"training.learning_rate={context.training.learning_rate:g}"
    above = course.level > context.uniform_loss + 0.3
    rose = course.level > float(course.losses[0]) + 0.3 or course.noise > WILD
    if context.started_from is None and above and rose:
        yield Finding(
            "learning_rate_high",
            f"the loss stands at {course.level:.2f} and swings by {course.noise:.2f}, and guessing blindly among "
            f"{context.vocab_size:,} tokens costs {context.uniform_loss:.2f}: {rate} is far too high. Start again with "
            f"{lower}.",
        )
        return
    if course.step < 2 * context.warmup_steps or course.level < context.unigram_loss - 1:
        return
    if course.noise > max(WILD, 1.5 * _sampling_noise(context)) and _strained(course, context):
        yield Finding(
            "learning_rate_high",
            f"the loss swings by {course.noise:.2f} from record to record around {course.level:.2f}, and has not come far from "
            f"the {context.uniform_loss:.2f} of guessing blindly: {rate} is probably too high. Start again with {lower}.",
        )


def _strained(course: Course, context: Context) -> bool:
    """Whether gradients are clipped at nearly every step after warm-up and far too large, or the loss was much lower."""
    norms = course.gradient_norms[course.steps > context.warmup_steps]
    if np.isfinite(norms).all() and len(norms):
        clip = context.training.gradient_clip
        return float(np.mean(norms > clip)) > 0.9 and float(np.median(norms)) > 5 * clip
    return course.level > float(course.smooth.min()) + WILD


def _sampling_noise(context: Context) -> float:
    """Return the noise of a loss that batches alone explain: tokens vary by some nats, and those of a document alike."""
    return 6.0 / math.sqrt(context.training.batch_tokens * _predicted_share(context))


def _predicted_share(context: Context) -> float:
    return 0.15 if context.masked else 1.0


def _too_low(course: Course, context: Context) -> Iterator[Finding]:
    """Losses that hardly leave, or would not get far from, that of blind guessing."""
    warm = max(LEAST_STEPS, 0.1 * context.steps, 2 * context.warmup_steps)
    floor = min(context.unigram_loss, 0.95 * context.uniform_loss)
    steady = course.noise < max(0.3, _sampling_noise(context))
    got_there = course.level < floor + 0.1 or float(course.smooth.min()) < floor
    taken = course.step - context.begun_step
    if context.started_from or taken < warm or got_there or not steady:
        return
    trend = course.trend(len(course) // 2)
    records_left = len(course) * (context.steps - course.step) / taken
    most_fall = (trend.fall + 2 * trend.error) / (len(course) - len(course) // 2) * records_left
    stuck = course.level > 0.95 * context.uniform_loss
    slow = taken >= 0.25 * context.steps and course.level - max(0.0, most_fall) > floor
    if not (stuck or slow) or course.level > context.uniform_loss + 0.3:
        return
    fell = f"the loss has come from {context.uniform_loss:.2f} to {course.level:.2f}"
    seen = f"after {course.step:,} of {context.steps:,} steps {fell}"
    rate = context.training.learning_rate
    if float(np.median(course.gradient_norms[-SMOOTHED:])) < NO_GRADIENT:
        why = "gradients are next to 0: weights are frozen, or nothing reaches them. Check what the model may learn."
        yield Finding("not_learning", f"{seen}, and {why}")
    elif rate < context.usual_rate / 2:
        higher = setting("training.learning_rate", min(context.usual_rate, (10 if stuck else 3) * rate))
        why = f"training.learning_rate={rate:g} is too low, or the run is too short for it. Try {higher}."
        yield Finding("learning_rate_low", f"{seen}: {why}")
    else:
        why = "weights may be frozen, or the run is too short. Try " + setting("training.steps", str(4 * context.steps))
        yield Finding("not_learning", f"{seen}, slower than with training.learning_rate={rate:g} as a rule: {why}.")


def _plateau(course: Course, evaluations: Records, context: Context) -> Iterator[Finding]:
    """The loss of a model that knows how frequent each token is and takes nothing from its neighbours."""
    measured = latest_losses(evaluations)
    learnt = (
        bool(measured) and min(measured) < context.blind_loss - 0.2
    )  # held-out text may be easier than what comes now
    if learnt or course.tokens[-1] * _predicted_share(context) < LEAST_PREDICTED:
        return
    for share in (0.2, 0.4):  # of the run; the noisier the loss, the longer must one look
        first = int(np.searchsorted(course.steps, max(course.step - share * context.steps, context.warmup_steps)))
        if len(course) - first < LEAST_RECORDS or course.step - course.steps[first] < 0.9 * share * context.steps:
            return
        trend = course.trend(first)
        flat = abs(trend.fall) + 2 * trend.error < FLAT
        if flat and context.blind_loss - 0.1 < trend.mean < context.unigram_loss + 0.25:
            yield Finding(
                "plateau",
                f"the loss has stayed at {trend.mean:.2f} since step {int(course.steps[first]):,}, where a model is that knows "
                f"how frequent each token is ({context.blind_loss:.2f}) and nothing else{_why_flat(course, context)}",
            )
            return


def latest_losses(evaluations: Records) -> list[float]:
    """Return the language model's losses of the last evaluation: one, or a hybrid's two."""
    latest = evaluations[-1] if evaluations else {}
    named = [latest[name] for name in ("causal_loss", "masked_loss") if name in latest]
    return [value for value in named or [latest.get("loss", math.nan)] if math.isfinite(value)]


def _why_flat(course: Course, context: Context) -> str:
    norm, rate = float(np.median(course.gradient_norms[-SMOOTHED:])), context.training.learning_rate
    if norm < NO_GRADIENT:
        return f". The gradient norm is {norm:.1g}: attention or other weights are dead or frozen. Check the model's settings."
    if norm > 5 * context.training.gradient_clip and course.noise > 0.15:
        lower = setting("training.learning_rate", rate / 3)
        return f". Gradients of norm {norm:.1f} are clipped and the loss is noisy: the learning rate is too high. Try {lower}."
    if rate < context.usual_rate / 4:
        higher = setting("training.learning_rate", min(context.usual_rate, 5 * rate))
        return f". The learning rate is low. Try {higher}."
    return (
        ". Attention passes nothing on, as where it is frozen or its weights died, or the run is too short to get further. "
        f"Try {setting('training.learning_rate', rate / 3)}, and give it more steps with "
        f"{setting('training.steps', str(2 * context.steps))}."
    )


def _divergence(course: Course, evaluations: Records, context: Context) -> Iterator[Finding]:
    """A loss that came back up: above what frequencies alone give, or together with that of the held-out text."""
    smooth = course.smooth
    best = int(np.argmin(smooth))
    rise = float(smooth[-1] - smooth[best])
    if rise < max(0.5, 4 * course.noise):
        return
    known = context.unigram_loss if smooth[best] < context.unigram_loss else context.uniform_loss
    lost = smooth[-1] > known + 0.5
    again = course.tokens[-1] > 1.1 * context.tokens_per_epoch  # then held-out losses may rise by overfitting
    measured = [record["loss"] for record in evaluations if math.isfinite(record.get("loss", math.nan))]
    both = not again and len(measured) > 1 and measured[-1] > min(measured) + max(0.3, 0.5 * rise)
    if not (lost or both or rise > max(2.0, 8 * course.noise)):
        return
    if not lost and course.documents_behind(context.tokens_per_document) < LEAST_DOCUMENTS:  # one may be hard
        return
    lowest = int(course.steps[best + SMOOTHED // 2])
    yield Finding(
        "divergence",
        f"the loss rose from {smooth[best]:.2f} near step {lowest:,} to {smooth[-1]:.2f}"
        f"{_growth(course.gradient_norms, best)}: training diverges, most often because the learning rate is too high. Start "
        f"again with {setting('training.learning_rate', context.training.learning_rate / 3)}, or with "
        f"{setting('training.gradient_clip', context.training.gradient_clip / 2)}.",
    )


def _growth(norms: Values, best: int) -> str:
    before, now = float(np.median(norms[best : best + SMOOTHED])), float(np.median(norms[-SMOOTHED:]))
    return f", and the gradient norm from {before:.2g} to {now:.2g}" if now > 2 * before else ""


def _noise(course: Course, context: Context) -> Iterator[Finding]:
    """Steps so small that they disagree."""
    training = context.training
    explained = WILD - 0.1 < course.noise < 1.5 * _sampling_noise(context)
    if (
        training.batch_tokens > SMALL_BATCH
        or not explained
        or course.level > context.unigram_loss
        or course.step < 2 * context.warmup_steps
    ):
        return
    larger = min(2**20, training.batch_tokens * 2 ** round(math.log2((course.noise / 0.2) ** 2)))
    yield Finding(
        "small_batch",
        f"the loss swings by {course.noise:.2f} from step to step with {training.batch_tokens:,} tokens each, so that steps "
        f"undo each other. Try {setting('training.batch_tokens', str(larger))}, or a lower training.learning_rate.",
    )


def _pairs(course: Course, evaluations: Records, context: Context) -> Iterator[Finding]:
    """Masked tokens are learnt and pairs are not."""
    recent = course.pair_losses[-max(LEAST_RECORDS, len(course) // 5) :]
    seen = course.tokens[-1] / context.training.row_length
    if not len(recent) or np.isnan(recent).any() or course.step < context.steps / 2 or seen < LEAST_PAIRS:
        return
    accuracy = evaluations[-1].get("next_sentence_accuracy", 0.5) if evaluations else 0.5
    chance = -0.03 < CHANCE - float(recent.mean()) < LEAST_GAIN and accuracy < 0.56
    if chance and course.level < context.unigram_loss - 0.7:
        yield Finding(
            "pairs_at_chance",
            f"the loss of sentence pairs stands at {recent.mean():.3f}, which is chance ({CHANCE:.3f}), while masked tokens "
            f"are learnt ({course.level:.2f}): pairs need far more steps, or sentences are too short or cut at the wrong "
            "places to tell. Leave them away with --set objective.pairs=none, or train longer.",
        )

"""Which size of a family to train in a time budget: the one whose loss a scaling law expects to be lowest.

A larger model learns more from each token and reads fewer of them in the same time. Hoffmann et al. 2022 weigh the two for
fresh text, Muennighoff et al. 2023 for text that is read more than once. Only the sizes in question are measured.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bothways.advise.inspect.findings import counted
from bothways.advise.law import BATCH_FACTOR, Law, batch_for, law_of
from bothways.advise.memory import compute_memory, memory_here
from bothways.advise.plan import (
    LIKELY_SHARE,
    Plan,
    check_minutes,
    in_minutes,
    of_compiling,
    seconds_in_run,
    steps_in,
    try_steps,
)
from bothways.advise.workload import Workload, count_parameters, share_predicted, workload_of
from bothways.errors import UserError
from bothways.experiment import Corpora, Experiment, check_vocabulary, in_shares, make_objective
from bothways.recipes.gpt import SIZES
from bothways.recipes.recipe import recipe, recipe_names
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.training.distributed import current
from bothways.training.machine import default_device, measured_peak, resolve_precision
from bothways.training.schedule import total_tokens

TRIAL_SECONDS = 3.0  # of each size that is measured
WORTH = 0.005  # a larger model must be better by this share of the loss: the smaller one also answers sooner
# Times the FLOP/s of its neighbour: what a size might reach that has not been measured. Larger products run faster.
HOPE_OF_LARGER, HOPE_OF_SMALLER = 4.0, 1.5
USABLE = 0.9  # of the machine's memory
MANY_EPOCHS = 4.0  # text read more often than this teaches clearly less each time (Muennighoff et al. 2023)

Measure = Callable[[Experiment], float]  # the seconds of one training step


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A size, and what the budget would make of it.

    Attributes:
        recipe: its name.
        parameters: all weights.
        batch_tokens: of a step.
        steps: that fit the budget.
        tokens: that they read.
        epochs: how often the text is read; of several corpora, the one that is read most often.
        tokens_per_second: of training.
        measured: whether this size's own speed was; else it is reckoned from its neighbour's.
        loss: that the law expects, in nats per predicted token.
        fits: whether its training fits into the memory of this machine.
    """

    recipe: str
    parameters: int
    batch_tokens: int
    steps: int
    tokens: int
    epochs: float
    tokens_per_second: float
    measured: bool
    loss: float
    fits: bool


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen, and why.

    Attributes:
        recipe: its name.
        settings: ``"dotted.name=value"`` overrides that go with it, before those of the user.
        reasons: sentences.
        candidates: all sizes, from small to large.
        trial_seconds: that measuring took.
        seconds_per_step: as a trial measured them; None: the choice was made earlier.
    """

    recipe: str
    settings: tuple[str, ...]
    reasons: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    trial_seconds: float
    seconds_per_step: float | None


def families() -> list[str]:
    """Return the names of the families: those of which every size is a recipe."""
    names = set(recipe_names())
    prefixes = {name.rpartition("-")[0] for name in names}
    return sorted(prefix for prefix in prefixes if all(f"{prefix}-{size}" in names for size in SIZES))


def choose(
    family: str,
    *,
    tokenizer: Tokenizer,
    corpora: Corpora,
    minutes: float | None,
    settings: Sequence[str] = (),
    measure: Measure | None = None,
    likely_rate: float | None = None,
) -> Choice:
    """Return the size, and the batch that goes with it, whose expected loss after a time budget is lowest.

    Args:
        family: one of ``families()``.
        tokenizer: of the corpora.
        corpora: to train on.
        minutes: of training, evaluation and saving.
        settings: the user's ``"dotted.name=value"`` overrides, which stand.
        measure: returns the seconds of a step of an experiment; None: a short trial on this machine.
        likely_rate: FLOP/s before anything is measured; None: a share of the machine's measured peak.
    Raises:
        UserError: no minutes, a setting that cannot be, no size that fits the memory, a budget too short for any.
    """
    if minutes is None or any(setting.partition("=")[0].strip() == "training.steps" for setting in settings):
        names = ", ".join(f"{family}-{size}" for size in SIZES)
        raise UserError(
            f"{family} is a family, and how large a model to train follows from the time: give --minutes (and not "
            f"training.steps), or name a size: {names}"
        )
    check_minutes(minutes)
    chooser = _Chooser(family, tokenizer, corpora, minutes, settings, measure, likely_rate)
    return chooser.choose()


def remember(choice: Choice, plan: Plan) -> Plan:
    """Return a run's plan with what was chosen for it, so that the run never chooses anew."""
    return replace(plan, chosen_recipe=choice.recipe, chosen_settings=choice.settings, reasons=choice.reasons)


def chosen_before(family: str, plan: Plan) -> Choice:
    """Return what was chosen when a run began.

    Raises:
        UserError: nothing was, or a size of another family.
    """
    if plan.chosen_recipe is None or plan.chosen_recipe.rpartition("-")[0] != family:
        began = f"as {plan.chosen_recipe}" if plan.chosen_recipe else "from a recipe, not from a family"
        raise UserError(
            f"this run cannot be resumed as {family}, because it began {began}; name what it began from, or start a new run "
            "with another --out"
        )
    return Choice(
        recipe=plan.chosen_recipe,
        settings=plan.chosen_settings,
        reasons=plan.reasons,
        candidates=(),
        trial_seconds=0.0,
        seconds_per_step=None,
    )


class _Chooser:
    """The sizes of a family, with what is known of their speed so far."""

    def __init__(
        self,
        family: str,
        tokenizer: Tokenizer,
        corpora: Corpora,
        minutes: float,
        settings: Sequence[str],
        measure: Measure | None,
        likely_rate: float | None,
    ) -> None:
        self.family, self.corpora, self.minutes, self.settings = family, corpora, minutes, settings
        self.law = law_of(family)
        self.fixed_batch = any(setting.partition("=")[0].strip() == "training.batch_tokens" for setting in settings)
        self.experiments = {
            f"{family}-{size}": recipe(f"{family}-{size}").fitted_to(tokenizer).override(settings) for size in SIZES
        }
        self.names = list(self.experiments)
        check_vocabulary(self.experiments[self.names[0]], tokenizer)
        try:
            self.objectives = {name: make_objective(each, tokenizer) for name, each in self.experiments.items()}
        except UserError as error:
            kind = self.experiments[self.names[0]].tokenizer
            raise UserError(f"{error}; prepare the text for {family} with --tokenizer {kind}") from None
        self.parameters = {name: count_parameters(self.experiments[name], self.objectives[name]) for name in self.names}
        first = self.names[0]
        self.predicted_share = share_predicted(self.experiments[first], self.objectives[first], corpora)
        self.precision = resolve_precision(self.experiments[first].training.precision, default_device())
        self.measure = measure
        self.likely_rate = likely_rate or LIKELY_SHARE * current().share(measured_peak(self.precision)) * current().size
        self.rates: dict[str, float] = {}  # FLOP/s, measured
        self.trial_seconds = 0.0

    def choose(self) -> Choice:
        """Measure until the best size and those beside it are known, and return it."""
        while True:
            candidates = [self.candidate(name, self.rate(name)) for name in self.names]
            best = self.best(candidates)
            unsure = best.recipe if best.recipe not in self.rates else self.rival(best)
            if unsure is None:
                return self.made(best, candidates)
            self.take_trial(next(each for each in candidates if each.recipe == unsure))

    def best(self, candidates: Sequence[Candidate]) -> Candidate:
        """Return the smallest candidate that no other one beats clearly."""
        able = [each for each in candidates if each.fits and each.steps > 0]
        if not able:
            least = min(candidates, key=lambda each: each.parameters)
            if not least.fits:
                raise UserError(
                    f"training {least.recipe}, the smallest size, does not fit into the memory of this machine; lower "
                    "training.micro_batch_tokens by --set"
                )
            raise UserError(
                f"{in_minutes(self.minutes)} will not do for one step of {least.recipe}, the smallest size, here; give more"
            )
        lowest = min(each.loss for each in able)
        return next(each for each in able if each.loss <= lowest * (1 + WORTH))

    def rival(self, best: Candidate) -> str | None:
        """Return a neighbour in size that has not been measured and might be better than the best; None: there is none."""
        at = self.names.index(best.recipe)
        for name in self.names[max(0, at - 1) : at + 2]:
            if name not in self.rates:
                smaller = self.parameters[name] < best.parameters
                hoped = self.candidate(name, self.rate(name) * (HOPE_OF_SMALLER if smaller else HOPE_OF_LARGER))
                if hoped.fits and hoped.steps > 0 and hoped.loss < best.loss * (1 + WORTH if smaller else 1 - WORTH):
                    return name
        return None

    def rate(self, name: str) -> float:
        """Return the FLOP/s of a size: its own if they were measured, else those of the nearest size that was."""
        if not self.rates:
            return self.likely_rate
        at = self.names.index(name)
        return self.rates[min(self.rates, key=lambda other: abs(self.names.index(other) - at))]

    def candidate(self, name: str, rate: float) -> Candidate:
        """Return what the budget makes of a size at so many FLOP/s."""
        experiment = self.experiments[name]
        for _ in range(3):  # the batch follows from the tokens, and the tokens a little from the batch
            workload = self.workload(name, experiment)
            seconds = workload.flops / rate
            steps = steps_in(self.minutes, seconds, experiment, workload)
            tokens = total_tokens(replace(experiment.training, steps=steps))
            seconds = seconds_in_run(seconds, experiment, workload.parameters, steps=steps)
            if self.fixed_batch:
                break
            batch = batch_for(tokens, experiment.training.row_length)
            experiment = replace(experiment, training=replace(experiment.training, batch_tokens=batch))
        device: Literal["cpu", "cuda"] = "cuda" if default_device().type == "cuda" else "cpu"
        memory = compute_memory(experiment, workload, precision=self.precision, device=device)
        return Candidate(
            recipe=name,
            parameters=workload.parameters,
            batch_tokens=experiment.training.batch_tokens,
            steps=steps,
            tokens=tokens,
            epochs=max(share * tokens / corpus.num_tokens for corpus, share in in_shares(self.corpora)),
            tokens_per_second=workload.tokens / seconds,
            measured=name in self.rates,
            loss=expected_loss(self.law, workload.parameters, tokens, self.corpora),
            fits=memory.total <= USABLE * current().share(memory_here(default_device())),
        )

    def workload(self, name: str, experiment: Experiment) -> Workload:
        """Return what a step of a size has to do."""
        return workload_of(experiment, self.objectives[name], self.predicted_share, parameters=self.parameters[name])

    def take_trial(self, candidate: Candidate) -> None:
        """Measure the speed of a size, with the batch that it would have."""
        name, start = candidate.recipe, time.perf_counter()
        training = replace(self.experiments[name].training, batch_tokens=candidate.batch_tokens)
        experiment = replace(self.experiments[name], training=training)
        workload = self.workload(name, experiment)
        if self.measure is None:
            seconds = try_steps(
                experiment,
                self.objectives[name],
                self.corpora,
                workload,
                trial_seconds=min(TRIAL_SECONDS, self.minutes * 6),
                rate=self.rate(name),
            ).seconds
        else:
            seconds = self.measure(experiment)
        self.rates[name] = workload.flops / seconds
        self.trial_seconds += time.perf_counter() - start

    def made(self, best: Candidate, candidates: Sequence[Candidate]) -> Choice:
        """Return the choice, with its reasons."""
        settings = () if self.fixed_batch else (f"training.batch_tokens={best.batch_tokens}",)
        experiment = self.experiments[best.recipe]
        taken = replace(experiment, training=replace(experiment.training, batch_tokens=best.batch_tokens))
        tokens = sum(corpus.num_tokens for corpus, _ in in_shares(self.corpora))
        return Choice(
            recipe=best.recipe,
            settings=settings,
            reasons=tuple(
                explain(
                    best,
                    candidates,
                    self.law,
                    taken,
                    corpus_tokens=tokens,
                    minutes=self.minutes,
                    trial_seconds=self.trial_seconds,
                    fixed_batch=self.fixed_batch,
                )
            ),
            candidates=tuple(candidates),
            trial_seconds=self.trial_seconds,
            seconds_per_step=self.workload(best.recipe, taken).flops / self.rate(best.recipe),
        )


def expected_loss(law: Law, parameters: int, tokens: float, corpora: Corpora) -> float:
    """Return the loss that a law expects on these corpora, in nats per predicted token.

    The longer a token is, the more there is to predict: the law's text has ``bytes_per_token``, and others are scaled.
    """
    shares = in_shares(corpora)
    effective = law.effective_tokens([(share * tokens, corpus.num_tokens) for corpus, share in shares])
    length = math.fsum(share * corpus.num_bytes / corpus.num_tokens for corpus, share in shares)
    return law.loss(parameters, effective) * length / law.bytes_per_token


def explain(
    best: Candidate,
    candidates: Sequence[Candidate],
    law: Law,
    experiment: Experiment,
    *,
    corpus_tokens: int,
    minutes: float,
    trial_seconds: float,
    fixed_batch: bool,
) -> list[str]:
    """Return why a size was chosen, in sentences without their full stops."""
    training = experiment.training
    said = [
        f"{best.recipe} with {best.parameters / 1e6:.1f} M weights: in {in_minutes(minutes)} it reads about "
        f"{best.tokens:,} tokens of the {corpus_tokens:,} that there are ({best.epochs:.3g} times), and its expected loss, "
        f"{best.loss:.3f}, is the lowest or within {WORTH:.1%} of it"
    ]
    at = candidates.index(best)
    for beside, word in ((candidates[at - 1 : at], "smaller"), (candidates[at + 1 : at + 2], "larger")):
        said += [_beside(other, word) for other in beside]
    root = f"the more tokens a run has, the more a step can use: their root times {BATCH_FACTOR:g}"
    why = "as --set says" if fixed_batch else root
    said.append(f"{counted(best.steps, 'step')} of {best.batch_tokens:,} tokens: {why}")
    said.append(
        f"Learning rate {training.learning_rate:g} and schedule {training.schedule} (up for {training.warmup_share:.0%} of "
        "the steps) are the recipe's"
    )
    measured = [each.recipe for each in candidates if each.measured]
    said.append(f"Speed measured for {', '.join(measured)} in {trial_seconds:.1f} seconds, reckoned for the others")
    said += of_compiling(experiment, best.parameters, steps=best.steps)
    said.append(f"What is expected comes from {law.source}")
    if best.epochs > MANY_EPOCHS:
        said.append(
            f"The text is read {best.epochs:.1f} times: each time teaches less, and more text would help more than more time"
        )
    return said


def _beside(other: Candidate, word: str) -> str:
    if not other.fits:
        return f"The next {word}, {other.recipe}, does not fit into the memory of this machine"
    if not other.steps:
        return f"The next {word}, {other.recipe}, could not take one step"
    return f"The next {word}, {other.recipe}, would read {other.tokens:,} tokens and come to {other.loss:.3f}"

"""One loop for pretraining and fine-tuning. It knows losses, steps and weights, and neither GPT nor BERT."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from bothways import progress
from bothways.batch import Batch, Objective
from bothways.checkpoints.checkpoint import checkpoints_in, clean, load_checkpoint, newest_complete, save_checkpoint
from bothways.checkpoints.folders import remove_folder
from bothways.errors import NonFiniteError, UserError
from bothways.model.heads import Model
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.training.batches import Batches
from bothways.training.config import OptimizerConfig, TrainingConfig
from bothways.training.interruption import Interrupted, StopRequest, listen
from bothways.training.machine import autocast, keep_freed_memory
from bothways.training.optimizer import make_optimizers, restore_state, set_learning_rate, state_tensors
from bothways.training.schedule import share_at
from bothways.training.tracking import Tracker

Evaluator = Callable[[Model], Mapping[str, float]]
MOST_SKIPPED = 10  # non-finite steps in a row that on_nonfinite="skip" bears


@dataclass(frozen=True, kw_only=True)
class Run:
    """Where a training run lives, and what its checkpoints carry beside the weights.

    Attributes:
        folder: the RUN folder.
        tokenizer: saved with every checkpoint.
        labels: names of the classes, saved with every checkpoint.
        fingerprint: plain values that must be the same when the run is resumed (corpus, settings, seed).
        accept: is given the state of the checkpoint that a run goes on from, its fingerprint among it, and refuses it or
            returns whether the batches go on where they stood (else they begin anew). None: any difference is refused.
    """

    folder: Path
    tokenizer: Tokenizer | None = None
    labels: tuple[str, ...] | None = None
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    accept: Callable[[Mapping[str, Any]], bool] | None = None


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came of a training.

    Attributes:
        steps: taken in all, those before a resume included.
        tokens: real tokens seen.
        seconds: of training, evaluation and saving left out.
        evaluations: each evaluation's figures, with its ``step``.
        curve: step, tokens, seconds and losses, now and then.
        skipped: non-finite steps that were left out.
    """

    steps: int
    tokens: int
    seconds: float
    evaluations: list[dict[str, float]]
    curve: list[dict[str, float]]
    skipped: int


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
        description: str = "Training",
    ) -> None:
        """Set up; nothing happens before ``fit``.

        Args:
            training, optimizer: settings.
            seed: of dropout. Torch's own generators are as they were when ``fit`` returns.
            run: where to save; None: nowhere.
            evaluate: model to named figures; called every ``evaluate_every`` steps and at the end.
            monitor: which figure, and whether its ``"min"`` or ``"max"``, makes a checkpoint the best.
            description: what the progress bar says.
        """
        self.training, self.optimizer = training, optimizer
        self.seed, self.run, self.evaluate, self.monitor = seed, run, evaluate, monitor
        self.description = description

    def fit(self, model: Model, batches: Batches, objective: Objective, *, resume: bool = False) -> Trained:
        """Train a model in place.

        Args:
            model: has the heads that the objective reads.
            batches: endless steps.
            objective: gives named losses; each is divided once, by its count over all batches of a step.
            resume: go on from the run's newest complete checkpoint, if there is one.
        Raises:
            NonFiniteError: a loss or gradient was not finite; weights are those of the step before.
            Interrupted: a signal came; a checkpoint was saved if there is a run.
            UserError: a run to be resumed differs in what it was made from.
        """
        keep_freed_memory()
        with torch.random.fork_rng(), listen() as stop:
            torch.manual_seed(self.seed)
            fitting = _Fitting(self, model, batches, objective)
            if resume:
                fitting.resume()
            try:
                return fitting.loop(stop)
            finally:
                fitting.close()


class _Fitting:
    """The state of one ``fit``: what a checkpoint must hold is an attribute here."""

    def __init__(self, trainer: Trainer, model: Model, batches: Batches, objective: Objective) -> None:
        self.trainer, self.model, self.batches, self.objective = trainer, model, batches, objective
        self.config = trainer.training
        self.optimizers = make_optimizers(model, trainer.optimizer)
        self.step = self.tokens = self.skipped = self.skipped_in_a_row = 0
        self.seconds = 0.0
        self.best: float | None = None
        self.evaluations: list[dict[str, float]] = []
        self.curve: list[dict[str, float]] = []
        self.tracker: Tracker | None = None

    def loop(self, stop: StopRequest) -> Trained:
        """Take the steps that are left."""
        run = self.trainer.run
        self.tracker = Tracker(run.folder, resume_at=self.step) if run else None
        self.model.train()
        log_every = max(1, self.config.steps // 100)
        with progress.bar(self.trainer.description, self.config.steps) as bar:
            bar.advance(self.step)
            while self.step < self.config.steps:
                start = time.perf_counter()
                losses = self.take_step()
                self.seconds += time.perf_counter() - start
                last = self.step == self.config.steps
                if self.step % log_every == 0 or last:
                    self.log(losses)
                bar.advance(1, self.describe(losses))
                if self.due(self.config.evaluate_every) or last:
                    self.evaluate()
                stopping = bool(stop)  # asked once, so that whoever leaves has saved
                if self.due(self.config.save_every) or last or stopping:
                    self.save()
                if stopping and not last:
                    self.leave(stop)
        self.model.eval()
        return Trained(
            steps=self.step,
            tokens=self.tokens,
            seconds=self.seconds,
            evaluations=self.evaluations,
            curve=self.curve,
            skipped=self.skipped,
        )

    def take_step(self) -> dict[str, float]:
        """Update the weights once and return the mean losses, ``loss`` being their weighted sum."""
        micro_batches = [batch.to(self.model.device) for batch in next(self.batches)]
        counts = self.count(micro_batches)
        sums: dict[str, Tensor] = {}
        for batch in micro_batches:
            total = torch.zeros((), device=self.model.device)
            with autocast(self.config.precision, self.model.device):
                losses = self.objective.loss(self.model, batch)
            for name, loss in losses.items():
                mean = loss.sum / max(1, counts[name])
                total = total + loss.weight * mean
                sums[name] = sums.get(name, torch.zeros_like(mean)) + mean.detach()
            sums["loss"] = sums.get("loss", torch.zeros_like(total)) + total.detach()
            total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        means = {name: float(value) for name, value in sums.items()}
        self.update(finite=math.isfinite(float(norm)) and math.isfinite(means["loss"]), means=means)
        self.tokens += sum(batch.num_tokens for batch in micro_batches)
        self.step += 1
        return means

    def count(self, micro_batches: list[Batch]) -> dict[str, int]:
        """Return what each loss of this step is divided by."""
        counts: dict[str, int] = {}
        for batch in micro_batches:
            for name, count in self.objective.counts(batch).items():
                counts[name] = counts.get(name, 0) + count
        return counts

    def update(self, *, finite: bool, means: Mapping[str, float]) -> None:
        """Let the optimizers take the step, unless it would poison the weights."""
        if finite:
            set_learning_rate(self.optimizers, self.config.learning_rate * share_at(self.step, self.config))
            for optimizer in self.optimizers:
                optimizer.step()
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        self.skipped += not finite
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        if not finite and (self.config.on_nonfinite == "stop" or self.skipped_in_a_row > MOST_SKIPPED):
            raise NonFiniteError(
                f"step {self.step + 1} gave the losses {dict(means)} and gradients that are not finite, and was not taken; "
                "lower training.learning_rate, or set training.on_nonfinite=skip"
            )

    def due(self, every: int) -> bool:
        """Whether something that happens every so many steps happens now."""
        return every > 0 and self.step % every == 0

    def describe(self, losses: Mapping[str, float]) -> str:
        """Return the progress bar's words: speed, losses and the last evaluation."""
        parts = [f"{self.tokens / max(self.seconds, 1e-9):,.0f} tokens/s"]
        parts += [f"{name} {value:.3f}" for name, value in losses.items() if name != "loss" or len(losses) == 1]
        latest = self.evaluations[-1] if self.evaluations else {}
        parts += [f"{name.replace('_', ' ')} {value:.3f}" for name, value in latest.items() if name != "step"]
        return " · ".join(parts[:4])

    def log(self, losses: Mapping[str, float]) -> None:
        """Write down where training stands."""
        rate = self.config.learning_rate * share_at(self.step - 1, self.config)
        values = {"tokens": self.tokens, "seconds": round(self.seconds, 3), **losses, "learning_rate": rate}
        self.curve.append({"step": self.step, **values})
        if self.tracker:
            self.tracker.record(self.step, values)

    def evaluate(self) -> None:
        """Measure, and keep the model as the best one if it is."""
        if self.trainer.evaluate is None:
            return
        self.model.eval()
        with torch.no_grad():
            figures = dict(self.trainer.evaluate(self.model))
        self.model.train()
        self.evaluations.append({"step": self.step, **figures})
        if self.tracker:
            self.tracker.record(self.step, {"validation": figures})
        name, direction = self.trainer.monitor
        value = figures[name]
        better = self.best is None or (value < self.best if direction == "min" else value > self.best)
        if better and math.isfinite(value):
            self.best = value
            self.save_weights("best")

    def save_weights(self, name: str) -> None:
        """Save the model alone, without what training needs, as ``best`` or ``last``."""
        if run := self.trainer.run:
            save_checkpoint(run.folder / name, self.model, tokenizer=run.tokenizer, labels=run.labels)

    def save(self) -> None:
        """Save all that is needed to go on, and drop old checkpoints once the new one is whole."""
        run = self.trainer.run
        if run is None:
            return
        folder = run.folder / "checkpoints" / f"step-{self.step}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        if self.step == self.config.steps:
            self.save_weights("last")  # before the checkpoint that ends the run: a crash in between would lose it
        names = ("step", "tokens", "seconds", "best", "skipped", "skipped_in_a_row", "evaluations", "curve")
        state = {name: getattr(self, name) for name in names}
        save_checkpoint(
            folder,
            self.model,
            tokenizer=run.tokenizer,
            labels=run.labels,
            training={**state_tensors(self.optimizers, self.model), **random_states()},
            state={**state, "position": self.batches.position, "fingerprint": dict(run.fingerprint)},
        )
        for old in checkpoints_in(run.folder)[: -self.config.keep]:
            remove_folder(old)

    def resume(self) -> None:
        """Become what the newest complete checkpoint was."""
        run = self.trainer.run
        if run is None:
            return
        if run.folder.exists():
            clean(run.folder)
        found = newest_complete(run.folder)
        if found is None:
            return
        loaded = load_checkpoint(found, verify=False)  # verified when it was chosen
        state = dict(loaded.state or {})
        goes_on = run.accept(state) if run.accept else refuse_difference(state["fingerprint"], run.fingerprint)
        position = state.pop("position")
        if goes_on:
            self.batches.seek(position)
        del state["fingerprint"]
        for name, value in state.items():
            setattr(self, name, value)
        self.model.load_state_dict(loaded.model.state_dict())
        tensors = loaded.training()
        restore_state(self.optimizers, self.model, tensors)
        restore_random_states(tensors)
        progress.note(f"{self.trainer.description}: going on from step {self.step}")

    def leave(self, stop: StopRequest) -> None:
        """Stop as a signal asked."""
        where = f"; {self.trainer.run.folder} goes on with --resume" if self.trainer.run else ""
        raise Interrupted(stop.signal_number, f"stopped after step {self.step} of {self.config.steps}{where}")

    def close(self) -> None:
        """Finish the records."""
        if self.tracker:
            self.tracker.close()


def random_states() -> dict[str, Tensor]:
    """Return torch's random state on every device, as tensors."""
    states = {"random/cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"random/cuda/{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def restore_random_states(tensors: Mapping[str, Tensor]) -> None:
    """Put back what ``random_states`` returned, as far as the devices are there."""
    torch.set_rng_state(tensors["random/cpu"])
    for name, state in tensors.items():
        if name.startswith("random/cuda/") and int(name.rpartition("/")[2]) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state, int(name.rpartition("/")[2]))


def refuse_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> Literal[True]:
    """Refuse to resume a run with another corpus, tokenizer or setting, naming each difference.

    Returns:
        That the batches go on where they stood.
    Raises:
        UserError: something differs.
    """
    differing = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if differing:
        parts = [f"{name} was {before.get(name)!r} and is now {now.get(name)!r}" for name in differing]
        raise UserError(f"this run cannot be resumed, because {'; '.join(parts)}; start a new run with another --out")
    return True

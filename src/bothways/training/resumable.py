"""The state of one training: all that its checkpoints hold, how it is saved, and how it is taken up again."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from bothways import progress
from bothways.batch import Objective
from bothways.checkpoints.checkpoint import (
    Loaded,
    checkpoints_in,
    clean,
    load_checkpoint,
    newest_complete,
    save_checkpoint,
)
from bothways.checkpoints.folders import remove_folder, set_aside
from bothways.errors import OutOfDiskError, UnwritableError
from bothways.model.heads import Model
from bothways.training.batches import Batches
from bothways.training.distributed import current
from bothways.training.optimizer import make_optimizers, restore_state, state_tensors
from bothways.training.parallel import hold
from bothways.training.randomness import gather_random_states, restore_random_states
from bothways.training.run import Assignment, Run
from bothways.training.states import GoingOn, numbers, other_versions, plain, refuse_difference, versions

UNSAVED = (OutOfDiskError, UnwritableError)  # why a save may fail that succeeds later

# What a checkpoint remembers of a fit beside its tensors and the position of the batches: attributes of Resumable.
REMEMBERED = (
    *("step", "tokens", "seconds", "flops", "best", "skipped", "skipped_in_a_row", "rewinds"),
    *("evaluations", "best_evaluation", "curve", "warnings", "text_from", "compiles"),
)


class Resumable:
    """A training's state: what a checkpoint must hold is an attribute here."""

    def __init__(self, assignment: Assignment, model: Model, batches: Batches, objective: Objective) -> None:
        self.given, self.model, self.batches = assignment, model, batches
        self.config = assignment.training
        self.group = current()
        self.held = hold(model, objective, self.config.sharding, self.group)
        self.optimizers = make_optimizers(self.held.model, assignment.optimizer)
        self.step = self.tokens = self.skipped = self.skipped_in_a_row = self.rewinds = 0
        self.seconds = self.flops = 0.0
        self.best: float | None = None
        self.evaluations: list[dict[str, float]] = []
        self.best_evaluation: dict[str, float] = {}  # by which the best model was chosen
        self.curve: list[dict[str, float]] = []
        self.warnings: list[dict[str, Any]] = []
        self.compiles: bool | None = None  # what training.compile=auto has become; None: nothing yet
        self.planned = self.config.steps  # of the checkpoint that it was taken up from
        self.text_from = {"step": 0, "tokens": 0}  # since when it reads the text that it reads, in that order
        self.measured_from: int | None = None  # the step it was taken up at, if evaluations are others since

    def save_best(self, value: float) -> None:
        """Save the model as the best one; where that fails, the one before stays the best."""
        try:
            self.group.first_only(lambda: self.save_weights("best"))
        except UNSAVED as error:
            progress.note(f"{error}; training goes on")
        else:
            self.best, self.best_evaluation = value, self.evaluations[-1]

    def save_weights(self, name: str) -> None:
        """Save the model alone, without what training needs, as ``best`` or ``last``."""
        if run := self.given.run:
            save_checkpoint(run.folder / name, self.model, tokenizer=run.tokenizer, labels=run.labels)

    def save(self) -> None:
        """Save all that is needed to go on, and drop old checkpoints once the new one is whole."""
        run = self.given.run
        if run is None:
            return
        self.held.collect()
        tensors = {**state_tensors(self.optimizers, self.held.model), **gather_random_states(self.group)}
        self.group.first_only(lambda: self.write(run, tensors))

    def write(self, run: Run, tensors: Mapping[str, Tensor]) -> None:
        """Write a checkpoint with these tensors of the training state."""
        if self.step == self.config.steps:
            self.save_weights("last")  # before the checkpoint that ends the run: a crash in between would lose it
        state = {name: plain(getattr(self, name)) for name in REMEMBERED}
        save_checkpoint(
            run.folder / "checkpoints" / f"step-{self.step}",
            self.model,
            tokenizer=run.tokenizer,
            labels=run.labels,
            training=tensors,
            state={
                **state,
                "position": self.batches.position,
                "fingerprint": dict(run.fingerprint),
                "planned": self.config.steps,
                "versions": versions(),
            },
        )
        for old in checkpoints_in(run.folder)[: -self.config.keep]:
            try:
                remove_folder(old)
            except OSError as error:  # what is too many does no harm
                progress.note(f"{old} cannot be removed: {error.strerror}")

    def resume(self) -> None:
        """Become what the newest complete checkpoint was."""
        run = self.given.run
        if run is None:
            return
        loaded: Loaded | None = None
        told: tuple[bool, bool] | None = None
        with self.group.agreeing():
            if self.group.first and (loaded := _newest(run)):
                state = dict(loaded.state or {})
                accept = run.accept or (lambda state: refuse_difference(state["fingerprint"], run.fingerprint))
                told = accept(state)
        told = self.group.share(told)
        if told is None:
            return
        goes_on = GoingOn(*told)
        state = self.group.share(dict(loaded.state) if loaded and loaded.state else {})
        position = state["position"]
        if not goes_on.same_text:  # from its beginning, at the step where the run stands: what grows has grown by then
            position = {**self.batches.position, "step": state["step"]}
        self.batches.seek(position)
        self.become(loaded, {})
        self.planned = state.get("planned", self.planned)  # unknown to older checkpoints
        progress.note(f"{self.given.description}: going on from step {self.step}")
        if before := other_versions(state.get("versions", {})):
            progress.note(f"So far this run was made by {before}: it goes on, though not as if it had never stopped")
        if not goes_on.same_text:
            self.text_from = {"step": self.step, "tokens": self.tokens}
        if not goes_on.same_measure and (self.step < self.config.steps or self.ended_early()):
            self.measure_anew(run)

    def ended_early(self) -> bool:
        """Whether a resumed run has no step left and has not ended yet: its steps were lowered to those it had taken."""
        run = self.given.run
        if run is None or self.step < self.config.steps:
            return False
        return self.planned != self.config.steps or self.group.first_only(lambda: not (run.folder / "last").is_dir())

    def measure_anew(self, run: Run) -> None:
        """Let the evaluations to come be compared with each other alone; the best model so far gets another name."""
        self.best, self.best_evaluation, self.evaluations, self.measured_from = None, {}, [], self.step
        self.group.first_only(lambda: _keep_old_best(run, self.step))

    def become(self, loaded: Loaded | None, kept: Mapping[str, Any]) -> None:
        """Take over what a checkpoint holds, but for some attributes; the batches stay where they are.

        Args:
            loaded: the checkpoint; None: process 0 has it.
            kept: the attributes, with the values that they get.
        """
        state = {name: value for name, value in ((loaded and loaded.state) or {}).items() if name in REMEMBERED}
        state = self.group.share(state)
        state["evaluations"] = [numbers(figures) for figures in state["evaluations"]]
        state["best_evaluation"] = numbers(state.get("best_evaluation", {}))  # unknown to older checkpoints
        for name, value in {**state, **kept}.items():
            setattr(self, name, value)
        if loaded:
            self.model.load_state_dict(loaded.model.state_dict())
        self.held.spread()
        tensors = self.group.share_tensors(loaded.training() if loaded else {})
        for optimizer in self.optimizers:
            optimizer.state.clear()
        restore_state(self.optimizers, self.held.model, tensors)
        restore_random_states(tensors, self.given.seed, self.group, self.step)


def _newest(run: Run) -> Loaded | None:
    """Return the newest complete checkpoint of a run, once what was half-written is gone."""
    if run.folder.exists():
        clean(run.folder)
    found = newest_complete(run.folder)
    return load_checkpoint(found, verify=False) if found else None  # verified when it was chosen


def _keep_old_best(run: Run, step: int) -> None:
    """Give the best model by earlier evaluations a name of its own, and say so."""
    if (run.folder / "best").is_dir():
        kept = set_aside(run.folder / "best", f"best-until-step-{step}")
        progress.note(f"best/ was chosen by other evaluations than those to come: it is kept as {kept.name}/")

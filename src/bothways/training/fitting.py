"""The loop itself: one fit, from its first step to its last, with all that happens between."""

import math
import signal
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from bothways import progress
from bothways.batch import Objective
from bothways.checkpoints.checkpoint import load_checkpoint, newest_complete
from bothways.errors import BothwaysError, NonFiniteError, UserError
from bothways.model.heads import Model
from bothways.model.kernels import Compiled
from bothways.training.batches import Batches
from bothways.training.distributed import Group
from bothways.training.interruption import LISTENED, Interrupted, JointStop, StopRequest, signals_wait
from bothways.training.machine import (
    autocast,
    default_device,
    give_back_memory,
    measured_peak,
    resolve_precision,
    wants_compiled,
    why_not_compiled_anywhere,
)
from bothways.training.optimizer import set_learning_rate
from bothways.training.parallel import whole
from bothways.training.resumable import UNSAVED, Resumable
from bothways.training.room import check_room
from bothways.training.run import Assignment, Run, Trained
from bothways.training.schedule import share_at
from bothways.training.sharing import next_work
from bothways.training.states import plain
from bothways.training.tracking import MEASURED_ANEW, Tracker

MOST_SKIPPED = 10  # non-finite steps in a row that on_nonfinite="skip" bears
MOST_REWINDS = 3  # of a run with on_nonfinite="rewind"
MOST_FAILED_SAVES = 3  # in a row


class Fitting(Resumable):
    """One ``fit``: the state of a training, and its steps."""

    def __init__(self, assignment: Assignment, model: Model, batches: Batches, objective: Objective) -> None:
        super().__init__(assignment, model, batches, objective)
        self.objective = objective
        self.layers: AbstractContextManager[None] = nullcontext()  # in which they run
        self.waiting: tuple[int, ...] = (signal.SIGTERM,)  # signals that come in a forward pass
        self.tracker: Tracker | None = None
        self.gradient_norm = math.nan  # of the last step, before clipping
        self.longest = 0  # tokens of a row so far
        self.logged = (0.0, 0.0)  # flops and seconds of the last record
        self.failed_saves = 0
        self.peak = _peak(assignment, model, self.group)
        self.stop = StopRequest()

    def loop(self, stop: StopRequest) -> Trained:
        """Take the steps that are left."""
        self.stop = stop
        self.prepare()
        log_every = max(1, self.config.steps // 100)
        if self.ended_early():
            self.evaluate()
            self.save_and_leave_if(stop, last=True)
        with progress.bar(self.given.description, self.config.steps) as bar:
            bar.advance(self.step)
            while self.step < self.config.steps:
                before, position = self.step, self.batches.position
                losses = self.timed_step()
                last = self.step == self.config.steps
                if not self.is_finite(losses):
                    self.bear(losses, position)
                elif self.step % log_every == 0 or last:
                    self.log(losses)
                bar.advance(self.step - before, self.describe(losses), losses["loss"])
                if self.step <= before:
                    continue  # gone back
                if self.due(self.config.evaluate_every) or last:
                    self.evaluate()
                if self.due(self.config.save_every) or last or stop:
                    self.save_and_leave_if(stop, last=last)
        self.held.collect()
        self.model.eval()
        return Trained(
            steps=self.step,
            tokens=self.tokens,
            seconds=self.seconds,
            flops=self.flops,
            evaluations=self.evaluations,
            best=self.best_evaluation or next(iter(self.evaluations[-1:]), {}),
            curve=self.curve,
            warnings=self.warnings,
            skipped=self.skipped,
            rewinds=self.rewinds,
        )

    def prepare(self) -> None:
        """Make sure that the run can be saved, and open its records."""
        self.held.model.train()
        self.logged = (self.flops, self.seconds)
        if self.step < self.config.steps:
            self.compile_layers()
        if run := self.given.run:
            if self.step < self.config.steps:
                self.group.first_only(
                    lambda: check_room(run.folder, self.model, self.optimizers, keep=self.config.keep)
                )
            self.tracker = open_tracker(run, self.step) if self.group.first else None
            if self.measured_from is not None:
                self.record(self.step, {MEASURED_ANEW: True})
            if self.config.on_nonfinite == "rewind" and self.step == 0:
                self.save()

    def compile_layers(self) -> None:
        """Let the layers run compiled where that is wanted and possible; under ``auto`` a run goes on as it began.

        Raises:
            UserError: they are to be compiled, and cannot be.
        """
        model, auto = self.held.model, self.config.compile == "auto"
        if auto and self.compiles is None and self.step > 0 and model.device.type == "cpu":
            self.compiles = False  # older checkpoints do not say, and are of runs that did not
        wanted = self.compiles if auto else None
        if wanted is None:
            wanted = wants_compiled(self.config, model.config, model.device, parameters=model.num_parameters())
        why = why_not_compiled_anywhere(model.device) if wanted else None
        if why and not auto:
            raise UserError(f"training.compile=on cannot be done here: {why}; see to that, or set training.compile=off")
        if why:
            progress.note(f"Layers are not compiled, though it would be quicker: {why}")
        compiles = wanted and not why
        self.compiles = compiles if auto else None
        if compiles:
            self.layers, self.waiting = Compiled(model.transformer.layers), LISTENED

    # A step.

    def timed_step(self) -> dict[str, float]:
        """Take a step, on the clock."""
        start = time.perf_counter()
        losses = self.take_step()
        self.seconds += time.perf_counter() - start
        return losses

    def take_step(self) -> dict[str, float]:
        """Update the weights once and return the mean losses, ``loss`` being their weighted sum.

        A loss that the step has no target for is not among them: a hybrid's masked one, where no sequence was masked.
        A step that is not finite leaves the weights alone.
        """
        work = next_work(self.batches, self.objective, self.model.device, self.group)
        if (length := work.batches[0].input_ids.shape[1]) > self.longest:  # as rows grow: a few times in a run
            give_back_memory()
            self.longest = length
        busy = len(work.batches) - work.idle
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(work.batches):
            with signals_wait(*self.waiting), self.held.summing(number == len(work.batches) - 1):
                with autocast(self.config.precision, self.model.device), self.layers:
                    means = self.held.run(batch, work.counts, 1.0 if number < busy else 0.0)
                means["loss"].backward()  # type: ignore[no-untyped-call]
            for name, mean in means.items() if number < busy else ():
                sums[name] = sums.get(name, torch.zeros_like(mean)) + mean.detach()
        norm = torch.nn.utils.clip_grad_norm_(self.held.model.parameters(), self.config.gradient_clip)
        self.gradient_norm = float(whole(norm))
        flops = self.given.flops(work.batches[:busy]) if self.given.flops else 0.0
        losses = {name: float(value) for name, value in sums.items()}
        if isinstance(self.stop, JointStop):
            losses, flops = self.agree(losses, [*work.counts, "loss"], flops, self.stop)
        self.update(finite=self.is_finite(losses))
        self.tokens += work.tokens
        self.flops += flops
        self.step += 1
        return {name: value for name, value in losses.items() if work.counts.get(name, 1)}

    def agree(
        self, losses: Mapping[str, float], names: list[str], flops: float, stop: JointStop
    ) -> tuple[dict[str, float], float]:
        """Return the losses and the operations of all processes, and let them go on alike: one message a step."""
        own = [self.gradient_norm, stop.heard, flops, *(losses.get(name, 0.0) for name in names)]
        rows = self.group.table(own)
        self.gradient_norm = rows[0][0]
        stop.decide(row[1] for row in rows)
        operations, *means = (sum(row[place] for row in rows) for place in range(2, len(own)))
        return dict(zip(names, means, strict=True)), operations

    def is_finite(self, means: Mapping[str, float]) -> bool:
        """Whether the last step may reach the weights, and the statistics."""
        return math.isfinite(self.gradient_norm) and all(map(math.isfinite, means.values()))

    def update(self, *, finite: bool) -> None:
        """Let the optimizers take the step, unless it would poison the weights."""
        if finite:
            self.skipped_in_a_row = 0
            set_learning_rate(self.optimizers, self.config.learning_rate * share_at(self.step, self.config))
            for optimizer in self.optimizers:
                optimizer.step()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    # A step that was not finite.

    def bear(self, means: Mapping[str, float], position: Mapping[str, int]) -> None:
        """Stop, go on without the step, or go back.

        Args:
            means: the losses of the step.
            position: of the batches, before they gave this step's.
        Raises:
            NonFiniteError: training stops here.
        """
        self.skipped_in_a_row += 1
        what = f"step {self.step} gave the losses {dict(means)} and a gradient of norm {self.gradient_norm:g}"
        where = ", ".join(f"{name} {value}" for name, value in position.items())
        what += f", not finite, and was not taken (its data begin at {where})"
        record = {"losses": means, "gradient_norm": self.gradient_norm, "position": position}
        if self.config.on_nonfinite == "rewind":
            self.rewind(what, record)
        elif self.config.on_nonfinite == "stop":
            self.record(self.step, {"stopped": record})
            raise NonFiniteError(f"{what}; lower training.learning_rate, or set training.on_nonfinite=skip or rewind")
        elif self.skipped_in_a_row > MOST_SKIPPED:
            self.record(self.step, {"stopped": record})
            raise NonFiniteError(f"{what}, like the {MOST_SKIPPED} before it; lower training.learning_rate")
        else:
            self.skipped += 1
            self.record(self.step, {"skipped": record})
            progress.note(f"{self.given.description}: {what}")

    def rewind(self, what: str, record: Mapping[str, Any]) -> None:
        """Go back to the newest checkpoint, and on from there with the data that follow.

        What the run has cost stays counted, and the best model so far stays the best.
        """
        run, rewinds = self.given.run, self.rewinds + 1
        found = self.group.first_only(lambda: str(newest_complete(run.folder) or "") if run else "")
        if not found or rewinds > MOST_REWINDS:
            self.record(self.step, {"stopped": record})
            why = "there is no checkpoint to go back to" if not found else f"{MOST_REWINDS} times were enough"
            raise NonFiniteError(f"{what}; going back was no way out ({why}); lower training.learning_rate")
        record = {"from": self.step, **record}
        cost = {"tokens": self.tokens, "seconds": self.seconds, "flops": self.flops}
        best = {"best": self.best, "best_evaluation": self.best_evaluation}
        kept = {"rewinds": rewinds, "text_from": self.text_from, **best, **cost}
        self.become(load_checkpoint(found, verify=False) if self.group.first else None, kept)  # verified when chosen
        if self.measured_from is not None:  # a checkpoint of before has evaluations of before
            self.evaluations = [each for each in self.evaluations if each["step"] > self.measured_from]
        if "step" in (place := self.batches.position):  # what grows is what it was there
            self.batches.seek({**place, "step": self.step})
        progress.note(f"{self.given.description}: {what}; going back to step {self.step}, and on with other data")
        self.close()
        self.tracker = open_tracker(run, self.step) if run and self.group.first else None
        self.record(self.step + 1, {"rewind": record})

    # What is said and written down.

    def due(self, every: int) -> bool:
        """Whether something that happens every so many steps happens now."""
        return every > 0 and self.step % every == 0

    def describe(self, losses: Mapping[str, float]) -> str:
        """Return the progress bar's words: speed, losses and the last evaluation."""
        seconds = max(self.seconds, 1e-9)
        parts = [f"{self.tokens / seconds:,.0f} tokens/s"]
        if self.flops and self.peak:
            parts += [f"{self.flops / seconds / 1e12:.3g} TFLOP/s ({self.flops / seconds / self.peak:.0%})"]
        parts += [f"{name} {value:.3f}" for name, value in losses.items() if name != "loss" or len(losses) == 1]
        for name, value in (self.evaluations[-1] if self.evaluations else {}).items():
            if name in ("loss", "bits_per_byte", self.given.monitor[0]):
                parts.append(f"validation {name.replace('_', ' ')} {value:.3f}")
        return " · ".join(parts)

    def log(self, losses: Mapping[str, float]) -> None:
        """Write down where training stands."""
        values = {"tokens": self.tokens, "seconds": round(self.seconds, 6), **losses}
        values["gradient_norm"] = self.gradient_norm
        values["learning_rate"] = self.config.learning_rate * share_at(self.step - 1, self.config)
        if self.skipped:
            values["skipped"] = self.skipped
        if self.given.flops:
            flops, seconds = self.logged
            values["flops_per_second"] = (self.flops - flops) / max(self.seconds - seconds, 1e-9)
            self.logged = (self.flops, self.seconds)
        self.curve.append({"step": self.step, **values})
        self.record(self.step, values)
        self.consult()

    def record(self, step: int, values: Mapping[str, Any]) -> None:
        """Append to the records of the run, if there is one."""
        if self.tracker:
            self.tracker.record(step, plain(values))

    def consult(self) -> None:
        """Ask the doctor, and pass on what is new."""
        findings = self.given.doctor(self.curve, self.evaluations, self.text_from) if self.given.doctor else ()
        for finding in findings:
            if finding.name not in {warning["name"] for warning in self.warnings}:
                said = {"name": finding.name, "text": finding.text}
                self.warnings.append({"step": self.step, **said})
                self.record(self.step, {"warning": said})
                progress.note(f"{self.given.description}, step {self.step}: {finding.text}")

    def evaluate(self) -> None:
        """Measure, and keep the model as the best one if it is."""
        if self.given.evaluate is None:
            return
        self.held.collect()
        self.model.eval()
        give_back_memory()
        with torch.no_grad(), signals_wait(signal.SIGTERM):
            figures = self.group.share(dict(self.given.evaluate(self.model)))
        give_back_memory()
        self.held.model.train()
        self.evaluations.append({"step": self.step, **figures})
        self.record(self.step, {"validation": figures})
        self.consult()
        name, direction = self.given.monitor
        value = figures[name]
        better = self.best is None or (value < self.best if direction == "min" else value > self.best)
        if better and math.isfinite(value):
            self.save_best(value)

    # Checkpoints.

    def save_and_leave_if(self, stop: StopRequest, *, last: bool) -> None:
        """Save; stop if a signal asks for it, and if saving has failed too often or cannot be tried again.

        A save that fails because there is no room, or no way to write, is tried again when the next one is due.
        """
        failure: BothwaysError | None = None
        with stop.saving():
            try:
                self.save()
            except UNSAVED as error:
                failure = error
        self.failed_saves = self.failed_saves + 1 if failure else 0
        if failure and (last or stop or self.failed_saves >= MOST_FAILED_SAVES):
            raise failure
        if failure:
            progress.note(f"{failure}; training goes on, and tries again at the next save")
        if (run := self.given.run) and run.saved and self.group.first:
            run.saved(run.folder)
        if stop:  # also at the end, or whoever trains next would never hear of it
            self.leave(stop)

    def leave(self, stop: StopRequest) -> None:
        """Stop as a signal asked."""
        where = f"; {self.given.run.folder} goes on with --resume" if self.given.run else ""
        raise Interrupted(stop.signal_number, f"stopped after step {self.step} of {self.config.steps}{where}")

    def close(self) -> None:
        """Finish the records."""
        if self.tracker:
            self.tracker.close()


def open_tracker(run: Run, step: int) -> Tracker:
    """Return the records of a run that goes on from a step."""
    return Tracker(run.folder, resume_at=step, wandb_project=run.wandb_project, settings=run.fingerprint)


def _peak(assignment: Assignment, model: Model, group: Group) -> float | None:
    """Return the FLOP/s that the progress is held against; None: nobody counts, or it is not measured on this device."""
    if not assignment.flops or model.device.type != default_device().type or not group.first:
        return None
    return group.size * measured_peak(resolve_precision(assignment.training.precision, model.device))

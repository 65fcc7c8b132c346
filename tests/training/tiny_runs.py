"""Tiny runs of every kind of training that end bit for bit alike, and ways for them to die.

As a script this is the process that dies: it reads jobs from standard input, forks a child for each life of a run, and prints
by which signal each life ended (null: it came to its end).
"""

import gc
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from bothways import progress
from bothways.cli import sigterm_as_exit
from bothways.errors import BothwaysError
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.objectives.causal_lm import CausalLM
from bothways.objectives.hybrid import Hybrid
from bothways.objectives.masked_lm import MaskedLM
from bothways.tasks.task import get_task
from bothways.text.shards import EncodedDocument, gather
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.training.batches import ExampleBatches, PretrainingBatches
from bothways.training.config import OptimizerConfig, TrainingConfig
from bothways.training.fitting import Fitting
from bothways.training.tracking import read_metrics
from bothways.training.trainer import Run, Trainer

STEPS, SAVE_EVERY = 12, 3
WORDS = (
    "river",
    "mountain",
    "forest",
    "garden",
    "engine",
    "kernel",
    "tensor",
    "signal",
    "the",
    "moves",
    "under",
    "old",
)


# What is trained.


@cache
def make_corpus(documents=12):
    draw = np.random.default_rng(0)
    return gather(
        EncodedDocument(input_ids=draw.integers(4, 40, size=24), sentence_starts=np.arange(0, 24, 6), num_bytes=24)
        for _ in range(documents)
    )


def ids(step):
    """Return all that is in a step, as plain values that can be compared."""
    return [
        (
            batch.input_ids.tolist(),
            batch.sequence_ids.tolist(),
            {head: (target.index.tolist(), target.value.tolist()) for head, target in batch.targets.items()},
        )
        for batch in step
    ]


def make_text(name):
    draw = random.Random(name)
    return " ".join(draw.choice(WORDS) for _ in range(draw.randint(5, 9)))


@cache
def make_tokenizer(kind):
    return Tokenizer.train(
        [make_text(f"text {number}") for number in range(60)], kind=kind, vocab_size=300, exact=False
    )


PRETRAINED = ("gpt", "bert", "hybrid")


def make_objective(kind):
    causal = CausalLM(bos_id=1, eos_id=2)
    masked = MaskedLM(cls_id=1, sep_id=2, mask_id=3, vocab_size=40, special_ids=(0, 1, 2, 3), length=16)
    if kind == "hybrid":
        return Hybrid(causal=causal, masked=replace(masked, pairs="none"), prefix_share=0.2, length=16)
    return {"gpt": causal, "bert": masked}[kind]


def make_model(heads, *, causal, hybrid=False, vocab_size=40, dropout=0.1, seed=0):
    torch.manual_seed(seed)
    config = TransformerConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=64,
        attention="causal" if causal else "bidirectional",
        hybrid=hybrid,
        pooling="last" if causal else "mean",
        hidden_dropout=dropout,
        attention_dropout=dropout,
    )
    return Model(config, heads)


def make_pretrained(kind, heads, **settings):
    return make_model(heads, causal=kind != "bert", hybrid=kind == "hybrid", **settings)


def make_pretraining(kind, training):
    """Return model, batches, objective and optimizer."""
    objective = make_objective(kind)
    model = make_pretrained(kind, objective.heads)
    return model, PretrainingBatches(make_corpus(), objective, training, seed=0), objective, OptimizerConfig()


def make_finetuning(kind, training):
    """Return model, batches, objective and optimizer."""
    task = get_task(kind)
    causal = task.ATTENTION == "causal"
    tokenizer = make_tokenizer("bpe" if causal else "wordpiece")
    columns = [*task.INPUTS, *task.ANSWERS]
    examples = [
        {
            column: ("a", "b")[number % 2] if column == "label" else make_text(f"{kind} {number} {column}")
            for column in columns
        }
        for number in range(36)
    ]
    task = task.fitted_to(examples)
    objective = task.objective()
    model = make_model(objective.heads, vocab_size=len(tokenizer), causal=causal)
    rows = [task.render(example, tokenizer, model.config) for example in examples]
    micro = None if task.PACKS_ALL else training.micro_batch_tokens
    batches = ExampleBatches(rows, batch_size=10, seed=0, micro_batch_tokens=micro)  # the last of an epoch has six
    return model, batches, objective, OptimizerConfig(name="adamw", embedding_scale=1.0)


def fit(folder, arm, *, resume=False, wrap=lambda objective: objective, **settings):
    """Train one arm, such as ``gpt 4 bf16`` (kind, batches of a step, precision); every call starts alike."""
    torch.set_num_threads(1)
    kind, parts, precision = arm.split()
    pretrained = kind in PRETRAINED
    micro = 64 // int(parts) if pretrained else 64 if parts == "4" else 8192
    training = TrainingConfig(
        batch_tokens=64,
        micro_batch_tokens=micro,
        row_length=16,
        precision=precision,
        **{"steps": STEPS, "save_every": SAVE_EVERY, "evaluate_every": 2, **settings},
    )
    model, batches, objective, optimizer = (make_pretraining if pretrained else make_finetuning)(kind, training)
    trainer = Trainer(
        training,
        optimizer,
        run=Run(folder=Path(folder), fingerprint={"arm": arm}),
        evaluate=lambda model: {"loss": -float(model.transformer.norm.weight.sum())},
    )
    return model, trainer.fit(model, batches, wrap(objective), resume=resume)


def outcome(folder):
    """Return all that a finished run holds but how long it took: the files with every tensor, the figures of every step."""
    last = Path(folder) / "checkpoints" / f"step-{STEPS}"
    state = json.loads((last / "state.json").read_text())
    state.pop("seconds")
    metrics = read_metrics(Path(folder))
    for record in [*state["curve"], *metrics]:
        record.pop("seconds", None)
    files = {name: (last / name).read_bytes() for name in ("model.safetensors", "training.safetensors")}
    files |= {name: (Path(folder) / name / "model.safetensors").read_bytes() for name in ("best", "last")}
    return {
        **{name: hashlib.sha256(file).hexdigest() for name, file in files.items()},
        "state": state,
        "metrics": metrics,
    }


# Ways to die.


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class Calls:
    """An objective that does something at one of its calls, counted from 1, and remembers how many there were."""

    def __init__(self, objective, call=0, act=die):
        self._objective, self._call, self._act, self.calls = objective, call, act, 0
        self.heads, self.counts = objective.heads, objective.counts

    def loss(self, model, batch):
        self.calls += 1
        if self.calls == self._call:
            self._act()
        return self._objective.loss(model, batch)


def calls_of_steps(arm):
    """Return how many batches each step of an arm has."""
    seen = []

    class Counted(Calls):
        def loss(self, model, batch):
            seen.append(self)
            return super().loss(model, batch)

    counts, take_step = [], Fitting.take_step

    def counting(fitting):
        before = len(seen)
        losses = take_step(fitting)
        counts.append(len(seen) - before)
        return losses

    Fitting.take_step = counting
    try:
        kind, parts, precision = arm.split()
        training = TrainingConfig(
            steps=STEPS, batch_tokens=64, micro_batch_tokens=64 // int(parts), row_length=16, precision=precision
        )
        if kind not in PRETRAINED:
            training = TrainingConfig(steps=STEPS, micro_batch_tokens=64 if parts == "4" else 8192, precision=precision)
        make = make_pretraining if kind in PRETRAINED else make_finetuning
        model, batches, objective, optimizer = make(kind, training)
        Trainer(training, optimizer).fit(model, batches, Counted(objective))
    finally:
        Fitting.take_step = take_step
    return counts


def trace_lines(at_step, act):
    """Call ``act`` before every line that our checkpoints' code runs while the given step is saved."""
    save = Fitting.save

    def trace_line(_, event, __):
        if event == "line":
            act()
        return trace_line

    def trace(frame, event, argument):
        return trace_line(frame, event, argument) if "/checkpoints/" in frame.f_code.co_filename else None

    def traced(fitting):
        if fitting.step == at_step:
            sys.settrace(trace)
        try:
            save(fitting)
        finally:
            sys.settrace(None)

    Fitting.save = traced


def die_at_line(number, at_step=6):
    """Let this process die before the given line, counted from 1, of the code that saves a step."""
    left = [number]

    def count():
        left[0] -= 1
        if left[0] == 0:
            die()

    trace_lines(at_step, count)


def signal_at(place, names):
    """Let this process send itself signals, such as ``INT,TERM``, in the middle of a save, an evaluation or a batch."""

    def send():
        for name in names.split(","):
            os.kill(os.getpid(), getattr(signal, f"SIG{name}"))

    name = {"save": "save", "evaluation": "evaluate", "batch": "take_step"}[place]
    method = getattr(Fitting, name)

    def sending(fitting, *arguments):
        if fitting.step >= 6 or place == "batch":
            send()
        return method(fitting, *arguments)

    setattr(Fitting, name, sending)


def live(folder, arm, death):
    """Begin or go on with a run, and die as told: ``loss 7``, ``line 30``, ``INT,TERM in save``, or not at all."""
    kind, _, number = (death or "").partition(" ")
    if number.startswith("in "):
        signal_at(number.removeprefix("in "), kind)
    if kind == "line":
        die_at_line(int(number))
    fit(folder, arm, resume=True, wrap=(lambda it: Calls(it, int(number))) if kind == "loss" else lambda it: it, keep=1)


def lines_of_a_save(folder, arm):
    """Return how many lines there are to die at."""
    lines = []
    save = Fitting.save
    trace_lines(6, lambda: lines.append(1))
    try:
        fit(folder, arm, keep=1)
    finally:
        Fitting.save = save
    return len(lines)


def in_a_child(act):
    """Do something in a fork of this process and return what ended it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with sigterm_as_exit(), progress.display():  # as the command line does
                act()
            code = 0
        except BothwaysError as error:
            code = error.exit_code
        except KeyboardInterrupt:
            code = 130
        except SystemExit as error:
            code = error.code
        finally:
            os._exit(code)
    return child


def main():
    signals, seconds_to_die = [], []
    jobs = json.load(sys.stdin)
    for arm in dict.fromkeys(job["arm"] for job in jobs):  # what this imports late, no child has to import again
        fit(Path(jobs[0]["folder"]).parent / "warm" / arm, arm, steps=1)
    gc.freeze()
    for job in jobs:
        ends = []
        for death in job["deaths"]:
            child = in_a_child(lambda job=job, death=death: live(job["folder"], job["arm"], death))
            if death and " after " in death:
                name, _, seconds = death.partition(" after ")
                time.sleep(float(seconds))
                os.kill(child, getattr(signal, f"SIG{name}"))
            start = time.monotonic()
            status = os.waitpid(child, 0)[1]
            ends.append(os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status))
            seconds_to_die.append(round(time.monotonic() - start, 3))
        signals.append(ends)
    sys.stderr.write(json.dumps(sorted(seconds_to_die)) + "\n")
    print(json.dumps(signals))  # noqa: T201 - this is how the process reports


def play(jobs):
    """Let runs live and die in a process of their own.

    Returns:
        What ended each life of each: a signal, or an exit code with a minus, 0 being a life's own end.
    """
    return play_and_time(jobs)[0]


def play_and_time(jobs):
    """Do as ``play``, and return also how many seconds after its last signal each life ended, in order of length."""
    done = subprocess.run(
        [sys.executable, __file__], input=json.dumps(jobs), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), json.loads(done.stderr.splitlines()[-1])


if __name__ == "__main__":
    main()

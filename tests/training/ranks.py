"""Several processes that train together, and what each of them saw; run as a script, this file is those processes.

It imports once and forks a child for each rank, which does the jobs of a file one after the other.
"""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_runs as tiny
import torch
from tiny_runs import make_corpus, make_objective

from bothways.errors import BothwaysError, NonFiniteError
from bothways.training import optimizer
from bothways.training.batches import PretrainingBatches
from bothways.training.config import OptimizerConfig, TrainingConfig
from bothways.training.distributed import joined
from bothways.training.interruption import Interrupted
from bothways.training.trainer import Run, Trainer
from bothways.training.validation import validate


def make_model(kind, dropout, seed, *, spare=True):
    # The objective does not read the spare head: its weights have no gradients.
    heads = {**make_objective(kind).heads, **({"classification": 3} if spare else {})}
    return tiny.make_pretrained(kind, heads, dropout=dropout, seed=seed)


class Acting:
    """An objective that does something at one of its calls, counted from 1; with DDP the first one counts for nothing."""

    def __init__(self, kind, call, act):
        self._objective, self._call, self._act, self._calls = make_objective(kind), call, act, 0
        self.heads, self.counts = self._objective.heads, self._objective.counts

    def loss(self, model, batch):
        losses = self._objective.loss(model, batch)
        self._calls += 1
        if self._calls != self._call:
            return losses
        if self._act == "poison":
            return {name: replace(loss, sum=loss.sum * torch.nan) for name, loss in losses.items()}
        if self._act == "raise":
            raise ZeroDivisionError("a fault of our own")
        if self._act == "sleep":
            time.sleep(12)
        else:
            os.kill(os.getpid(), getattr(signal, self._act))
        return losses


DEFAULTS = {
    **{"kind": "gpt", "optimizer": "adamw", "sharding": "none", "row_beta": 0.0, "dropout": 0.0},
    **{"steps": 50, "batch_tokens": 160, "micro_batch_tokens": 32, "save_every": 0, "on_nonfinite": "stop"},
    **{
        "out": None,
        "resume": False,
        "rank": 0,
        "call": 0,
        "act": "sleep",
        "bf16_iterations": False,
        "spare": True,
        "precision": "fp32",
    },
}


def train(job, group):
    """Do one job, and return what came of it as plain values."""
    job = {**DEFAULTS, **job}
    training = TrainingConfig(
        **{name: job[name] for name in ("steps", "batch_tokens", "micro_batch_tokens", "sharding", "save_every")},
        on_nonfinite=job["on_nonfinite"],
        row_length=16,
        precision=job["precision"],
        batch_ramp_share=0.4,
    )
    objective = Acting(job["kind"], job["call"] if job["rank"] == group.rank else 0, job["act"])
    batches = PretrainingBatches(make_corpus(60), make_objective(job["kind"]), training, seed=0)
    held_out = [batch for _ in range(2) for batch in next(batches)]
    batches.seek(dict.fromkeys(batches.position, 0))
    # Weights are drawn by another seed in each process: those of process 0 must become everybody's.
    model = make_model(job["kind"], job["dropout"], group.rank, spare=job["spare"])
    trainer = Trainer(
        training,
        OptimizerConfig(name=job["optimizer"], row_beta=job["row_beta"]),
        run=Run(folder=Path(job["out"])) if job["out"] else None,
        evaluate=lambda model: {"loss": validate(model, held_out, precision="fp32")["loss"] + group.rank},
        flops=lambda step: float(sum(batch.input_ids.numel() for batch in step)),
    )
    try:
        with pytest.MonkeyPatch.context() as patch:  # one process of many is this very one
            patch.setattr(optimizer, "has_bf16", lambda _: job["bf16_iterations"])
            trained = trainer.fit(model, batches, objective, resume=job["resume"])
    except Interrupted as error:
        return {"exit_code": error.exit_code, "told_elsewhere": error.told_elsewhere, "error": str(error)}
    except NonFiniteError as error:
        return {"exit_code": error.exit_code, "told_elsewhere": error.told_elsewhere, "error": str(error)}
    weights = b"".join(weight.numpy().tobytes() for weight in model.state_dict().values())
    return {
        "losses": [record["loss"] for record in trained.curve],
        "norms": [record["gradient_norm"] for record in trained.curve],
        "steps": trained.steps,
        "tokens": trained.tokens,
        "flops": trained.flops,
        "skipped": trained.skipped,
        "evaluations": trained.evaluations,
        "weights": hashlib.sha256(weights).hexdigest(),
        "held_whole": type(model.transformer.norm.weight) is torch.nn.Parameter,
    }


def be_rank(rank, size, port, folder, patience):
    """Do the jobs of a folder as one of several processes; return the exit code."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
    os.environ["TORCHELASTIC_RESTART_COUNT"] = str(rank)  # agents of several machines count restarts differently
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        with joined(patience) as group:
            results = [train(job, group) for job in json.loads((folder / "jobs.json").read_text())]
            (folder / f"rank-{rank}.json").write_text(json.dumps(results))
    except BothwaysError as error:
        (folder / f"rank-{rank}.txt").write_text(str(error))
        return error.exit_code
    return 0


def main(size, port, folder, patience):
    """Fork the ranks, and print how each ended: its exit code, or minus its signal, and the second of its end."""
    torch.set_num_threads(1)
    start, ranks, ends = time.monotonic(), {}, {}
    for rank in range(size):
        child = os.fork()
        if child == 0:
            os._exit(be_rank(rank, size, port, Path(folder), patience))  # what is not caught ends it with a traceback
        ranks[child] = rank
    while len(ends) < size:
        child, status = os.wait()
        ends[ranks[child]] = [os.waitstatus_to_exitcode(status), time.monotonic() - start]
    print(json.dumps(ends))  # noqa: T201 - this is how the process reports


def free_port():
    """Return a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def launch(folder, size, jobs, *, patience=60.0, faults=False):
    """Let several processes do jobs, and return of each its exit code, its last second, and its results if it has any.

    What they said is in ``said.txt``; ``faults``: an exception that nobody caught is no surprise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "jobs.json").write_text(json.dumps(jobs))
    call = [sys.executable, __file__, str(size), str(free_port()), str(folder), str(patience)]
    done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout.splitlines()[-1])
    (folder / "said.txt").write_text(done.stderr)
    assert faults or 1 not in [code for code, _ in ends.values()], done.stderr
    files = [folder / f"rank-{rank}.json" for rank in range(size)]
    results = [json.loads(file.read_text()) if file.exists() else None for file in files]
    return [ends[str(rank)][0] for rank in range(size)], [ends[str(rank)][1] for rank in range(size)], results


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))

"""How each arm is trained: a fresh process, its time, and where its model lies."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from time_to_quality.arms import Arm
from time_to_quality.corpus import KINDS, lay_out_nanogpt

BLOCK, SEQUENCE = 256, 128  # tokens of context of a GPT and of a BERT
NANOGPT_BATCH = 12
TOO_SHORT = "will not do for one step"  # what our command says of a budget without room for a step
# glibc keeps what is freed, as bothways has it do for itself.
KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
_ITERATION = re.compile(r"iter (\d+): loss .*, time ([\d.]+)ms")
_PARAMETERS = re.compile(r"parameter tensors: \d+, with ([\d,]+) parameters")


class TooShortError(Exception):
    """A budget of ours has no room for a single step."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all arms share.

    Attributes:
        work: folder of all files.
        program: bothways.
        checkout: nanoGPT's folder, or None.
        threads: of every arm.
        shapes: family to vocab_size, hidden_size, layers, heads of the peers.
        ids: names to ids of special tokens that the peers need.
        settings: further ``--set`` of bothways.
    """

    work: Path
    program: Path
    checkout: Path | None
    threads: int
    shapes: Mapping[str, Mapping[str, int]]
    ids: Mapping[str, int]
    settings: tuple[str, ...]

    def data(self, family: str) -> Path:
        """The corpus that bothways prepared."""
        return self.work / KINDS[family]

    @property
    def peers(self) -> Path:
        """What the peers read."""
        return self.work / "peers"

    def environment(self, *, allocator: bool = False) -> dict[str, str]:
        """Return the environment of a child: as it is, but for the threads; with ``allocator`` memory is kept."""
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
        return {
            **os.environ,
            **dict.fromkeys(names, str(self.threads)),
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HF_HUB_OFFLINE": "1",
            **(KEEP_FREED_MEMORY if allocator else {}),
        }


def run(arm: Arm, bench: Bench, folder: Path, log: TextIO) -> dict[str, Any]:
    """Train an arm.

    Returns:
        ``seconds`` of training, ``process_seconds`` of all but a peer's trial, ``steps``, ``tokens``, ``parameters``,
        ``context`` (tokens that a token attends to) or, of ours, ``flops``, and ``model`` (its folder).
    Raises:
        TooShortError: it is ours, and its time is too short for a step.
    """
    match arm.peer:
        case "bothways":
            return run_ours(arm, bench, folder, log)
        case "nanogpt":
            return run_nanogpt(arm, bench, folder, log)
        case _:
            return run_trainer(arm, bench, folder, log)


def run_ours(arm: Arm, bench: Bench, folder: Path, log: TextIO) -> dict[str, Any]:
    """Run ``bothways pretrain --minutes``, as a user does."""
    command = [bench.program, "pretrain", f"{arm.family}-{arm.size}", "--data", bench.data(arm.family)]
    command += ["--out", folder, "--minutes", f"{arm.minutes:.6g}", "--json"]
    for setting in (f"seed={arm.seed}", *bench.settings):
        command += ["--set", setting]
    start = time.perf_counter()
    said = subprocess.run(command, env=bench.environment(), capture_output=True, text=True)
    process_seconds = time.perf_counter() - start
    log.write(said.stdout + said.stderr)
    if TOO_SHORT in said.stderr:
        raise TooShortError
    said.check_returncode()
    done = json.loads(said.stdout)
    state = json.loads((folder / "checkpoints" / f"step-{done['steps']}" / "state.json").read_text())
    names = ("seconds", "steps", "tokens", "parameters")
    return {
        **{name: done[name] for name in names},
        "process_seconds": process_seconds,
        "flops": state["flops"],
        "model": str(folder / "last"),
    }


def run_trainer(arm: Arm, bench: Bench, folder: Path, log: TextIO) -> dict[str, Any]:
    """Run Hugging Face's Trainer."""
    folder.mkdir(parents=True)
    texts = {"trainer-gpt": "gpt.bin", "trainer-lines": "sentences.bin", "trainer-blocks": "framed.bin"}
    job = {
        **arm.settings,
        "family": arm.family,
        "shape": bench.shapes[arm.family],
        "text": str(bench.peers / texts[arm.peer]),
        "lines": arm.peer == "trainer-lines",
        "length": BLOCK if arm.family == "gpt" else SEQUENCE,
        "tokenizer": str(bench.data(arm.family) / "tokenizer.json"),
        "bos": bench.ids["bos"],
        "seed": arm.seed,
        "seconds": arm.minutes * 60,
        "trial_seconds": trial_seconds(arm),
        "out": str(folder),
    }
    (folder / "job.json").write_text(json.dumps(job))
    command = [sys.executable, "-m", "time_to_quality.trainer", folder / "job.json"]
    start = time.perf_counter()
    environment = bench.environment(allocator=arm.settings["allocator"])
    subprocess.run(command, env=environment, stdout=log, stderr=log, check=True)
    process_seconds = time.perf_counter() - start
    done = json.loads((folder / "done.json").read_text())
    context = min(job["length"], done["tokens"] / done["sequences"])
    return {**done, "process_seconds": process_seconds - done["trial_seconds"], "context": context}


def run_nanogpt(arm: Arm, bench: Bench, folder: Path, log: TextIO) -> dict[str, Any]:
    """Run nanoGPT's train.py: a trial first, then as many iterations as fit the time."""
    folder.mkdir(parents=True)
    times, _ = watch_nanogpt(nanogpt_command(arm, bench, folder, 10**6), arm, bench, log, trial_seconds(arm))
    settled = times[2:] or times
    iterations = max(2, round(arm.minutes * 60 / (sum(settled) / len(settled))))
    start = time.perf_counter()
    times, parameters = watch_nanogpt(nanogpt_command(arm, bench, folder, iterations), arm, bench, log, None)
    process_seconds = time.perf_counter() - start
    return {
        "steps": iterations,
        "seconds": sum(times[:iterations]),  # what it stored does not have the step after the last evaluation
        "process_seconds": process_seconds,
        "tokens": iterations * NANOGPT_BATCH * BLOCK,
        "parameters": parameters,
        "context": BLOCK,
        "model": str(folder),
    }


def nanogpt_command(arm: Arm, bench: Bench, folder: Path, iterations: int) -> list[str]:
    """Return README's command for a CPU with our sizes, data and number of iterations."""
    shape, rate = bench.shapes["gpt"], arm.settings["learning_rate"]
    values = {
        "device": "cpu",
        "compile": False,
        "dropout": 0.0,
        "log_interval": 1,
        "batch_size": NANOGPT_BATCH,
        "block_size": BLOCK,
        "n_layer": shape["layers"],
        "n_head": shape["heads"],
        "n_embd": shape["hidden_size"],
        "learning_rate": rate,
        "min_lr": rate / 10,
        "warmup_iters": min(100, iterations // 10),
        "max_iters": iterations,
        "lr_decay_iters": iterations,
        "eval_iters": 1,
        "eval_interval": iterations,
        "always_save_checkpoint": True,
        "dataset": lay_out_nanogpt(bench.data("gpt"), bench.peers, arm.seed).resolve(),
        "out_dir": folder.resolve(),
    }
    options = [f"--{name}={value}" for name, value in values.items()]
    return [sys.executable, "-u", "train.py", "config/train_shakespeare_char.py", *options]


def watch_nanogpt(
    command: list[str], arm: Arm, bench: Bench, log: TextIO, trial: float | None
) -> tuple[list[float], int]:
    """Return the seconds of each iteration and the number of parameters; a trial is ended when it has taken its time."""
    environment = bench.environment(allocator=arm.settings["allocator"])
    times: list[float] = []
    parameters = 0
    with subprocess.Popen(
        command, cwd=bench.checkout, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            if found := _PARAMETERS.search(line):
                parameters += int(found[1].replace(",", ""))
            if found := _ITERATION.search(line):
                times.append(float(found[2]) / 1000)
                if trial is not None and len(times) > 5 and sum(times[2:]) > trial:
                    process.terminate()
                    break
        process.stdout.close()
    if process.returncode and (trial is None or not times):
        raise subprocess.CalledProcessError(process.returncode, command)
    return times, parameters


def trial_seconds(arm: Arm) -> float:
    """Return how long a peer's step is measured before its schedule is made."""
    return min(20.0, max(2.0, arm.minutes * 60 * 0.04))

"""Real processes are told to stop at any time: they save the last step, leave with the signal's code, and go on exactly."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import tiny_runs as tiny

from bothways.checkpoints.checkpoint import checkpoints_in
from bothways.training.tracking import read_metrics

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")

ARM = "gpt 4 fp32"

# What a process sends itself, and where; how it ends (a signal, or its exit code with a minus); the steps it has saved then.
PLACES = {
    "INT in batch": (-130, ["step-1"]),
    "TERM in batch": (-143, ["step-1"]),
    "INT in save": (-130, ["step-6"]),
    "TERM in evaluation": (-143, ["step-6"]),
    # While saving, signals are noted, however many and whichever they are.
    "INT,TERM in save": (-130, ["step-6"]),
    "TERM,TERM,TERM in save": (-143, ["step-6"]),
    "INT,INT,TERM,TERM in save": (-130, ["step-6"]),
    # Elsewhere another one is noted, too, and the same again ends the process at once.
    "INT,TERM in evaluation": (-130, ["step-6"]),
    "INT,INT in evaluation": (signal.SIGINT, ["step-3"]),
    "INT,TERM,TERM in batch": (signal.SIGTERM, []),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Return the folder of runs that were told to stop at each place, with how they ended, and a run that was not."""
    folder = tmp_path_factory.mktemp("told")
    tiny.fit(folder / "whole", ARM, keep=1)
    jobs = [{"folder": str(folder / death), "arm": ARM, "deaths": [death]} for death in PLACES]
    return folder, dict(zip(PLACES, tiny.play(jobs), strict=True)), tiny.outcome(folder / "whole")


@pytest.mark.parametrize("death", PLACES)
def test_a_signal_ends_a_run_where_it_can_go_on(told, death):
    folder, ends, expected = told
    end, saved = PLACES[death]
    assert ends[death] == [end]
    assert [checkpoint.name for checkpoint in checkpoints_in(folder / death)] == saved
    tiny.fit(folder / death, ARM, resume=True, keep=1)
    assert tiny.outcome(folder / death) == expected


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_signal_is_welcome_at_any_time(tmp_path):
    draw = random.Random(0)
    deaths = [f"{draw.choice(('INT', 'TERM'))} after {draw.uniform(0.0, 1.0):.4f}" for _ in range(30)]
    tiny.fit(tmp_path / "whole", ARM, keep=1)
    expected = tiny.outcome(tmp_path / "whole")
    jobs = [
        {"folder": str(tmp_path / f"{number}"), "arm": ARM, "deaths": [death]} for number, death in enumerate(deaths)
    ]
    ends, seconds = tiny.play_and_time(jobs)
    print(f"seconds to leave: median {seconds[15]}, most {seconds[-1]}")  # noqa: T201
    assert seconds[-1] < 10
    for job, death, [end] in zip(jobs, deaths, ends, strict=True):
        assert end in (0, -130 if death.startswith("INT") else -143), (death, end)
        tiny.fit(job["folder"], ARM, resume=True, keep=1)
        assert tiny.outcome(job["folder"]) == expected
    assert sum(end != [0] for end in ends) > 10


# The command itself.

SETTINGS = {
    "model.hidden_size": 32,
    "model.num_hidden_layers": 2,
    "model.num_attention_heads": 2,
    "model.intermediate_size": 64,
    "model.max_position_embeddings": 32,
    "training.row_length": 32,
    "training.batch_tokens": 256,
    "training.micro_batch_tokens": 128,
    "training.save_every": 5,
    "training.evaluate_every": 7,
}


def command(*words):
    return [sys.executable, "-m", "bothways", *map(str, words)]


def hearing():
    """Hear Ctrl-C, even where these tests run in the background of a shell, which has its children ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_command_leaves_with_the_code_of_the_signal_from_its_start_to_its_end(tmp_path):
    text = "\n".join(tiny.make_text(f"line {number}") for number in range(4000))
    (tmp_path / "text.txt").write_text(text)
    data = tmp_path / "data"
    prepare = command("prepare", tmp_path / "text.txt", "--out", data, "--vocab-size", 280, "--validation-share", 0.1)
    subprocess.run(prepare, check=True, capture_output=True)
    sets = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
    draw = random.Random(1)
    codes, slowest = [], 0.0
    for number in range(10):
        run = tmp_path / f"run {number}"
        words = command("pretrain", "gpt-tiny", "--data", data, "--out", run, *sets, "--minutes", 0.5)
        process = subprocess.Popen(
            words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, preexec_fn=hearing
        )
        time.sleep(draw.uniform(0.5, 20.0))  # imports, the trial, the first batch, evaluations, saves
        name = draw.choice((signal.SIGINT, signal.SIGTERM))
        process.send_signal(name)
        start = time.monotonic()
        _, errors = process.communicate(timeout=60)
        slowest = max(slowest, time.monotonic() - start)
        codes.append(process.returncode)
        if process.returncode == 0:  # it was done, or in its last step
            assert (run / "last").is_dir()
            continue
        assert process.returncode in (128 + name, -name), errors
        if checkpoints_in(run):
            assert "Traceback" not in errors
            step = max(record["step"] for record in read_metrics(run))
            state = json.loads((checkpoints_in(run)[-1] / "state.json").read_text())
            assert step <= state["step"]
            assert f"stopped after step {state['step']} of" in errors
    print(f"codes {codes}, slowest to leave {slowest:.2f} s")  # noqa: T201
    assert slowest < 10
    assert sum(code != 0 for code in codes) >= 5


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for compilers in /proc")
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
@pytest.mark.parametrize("what", ["a trial", "layers"])
def test_a_signal_to_the_whole_job_while_something_is_compiled(tmp_path, what, sent):
    """As a scheduler or a terminal sends it: to the process and to the compilers that it has started."""
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    if what == "layers":
        trial = (
            "import torch; from bothways.model.kernels import why_not_compiled; why_not_compiled(torch.device('cpu'))"
        )
        subprocess.run([sys.executable, "-c", trial], check=True, env=environment)
    (tmp_path / "text.txt").write_text("\n".join(tiny.make_text(f"line {number}") for number in range(4000)))
    data, run = tmp_path / "data", tmp_path / "run"
    prepare = command("prepare", tmp_path / "text.txt", "--out", data, "--vocab-size", 280, "--validation-share", 0.1)
    subprocess.run(prepare, check=True, capture_output=True)
    sets = ["--set", "training.compile=on", "--set", "training.steps=4"]
    process = subprocess.Popen(
        command("pretrain", "gpt-tiny", "--data", data, "--out", run, *sets),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env=environment,
    )
    while not compiling(process.pid):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    os.killpg(process.pid, sent)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 128 + sent, errors
    assert "stopped after step 1 of 4" in errors
    assert [checkpoint.name for checkpoint in checkpoints_in(run)] == ["step-1"]


def compiling(session):
    """Return whether a compiler of our code, not of torch's trial of what the processor can do, runs in a session."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            its_session = int((process / "stat").read_text().rpartition(") ")[2].split()[3])
            if its_session == session and ".main.cpp" in (process / "cmdline").read_text():
                return True
    return False

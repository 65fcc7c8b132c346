"""Several processes train what one process trains: the same rows in the same order, the same losses, the same files.

The processes are real, and speak gloo with each other; ``ranks.py`` is what they run.
"""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import ranks
import tiny_runs as tiny
import torch

import bothways
from bothways.batch import Target, row
from bothways.checkpoints.checkpoint import newest_complete
from bothways.checkpoints.tensors import read_tensors
from bothways.errors import UserError
from bothways.training import distributed
from bothways.training.batches import ExampleBatches, PretrainingBatches
from bothways.training.config import TrainingConfig
from bothways.training.distributed import Group, current, joined
from bothways.training.interruption import JointStop, StopRequest
from bothways.training.muon_sharing import owners
from bothways.training.parallel import rows_of
from bothways.training.sharing import SharedBatches

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")

# Of each loss, relative to that of one process; Muon's iterations round to bfloat16, where a last bit weighs more.
TOLERANCE, TOLERANCE_BF16 = 1e-5, 2e-4
SPREADING = ("sharding", "out", "resume", "rank", "call", "act")  # what a job's result must not depend on

_alone = {}


def train_alone(job):
    """Return what one process makes of a job, however several would spread it."""
    job = {name: value for name, value in job.items() if name not in SPREADING}
    key = json.dumps(job)
    if key not in _alone:
        _alone[key] = ranks.train(job, Group())
    return _alone[key]


def check_like_one_process(job, results, tolerance=TOLERANCE):
    """Compare the results of all ranks with those of one process, and return the largest difference of a loss."""
    one = train_alone(job)
    worst = 0.0
    for result in results:
        assert result == results[0]  # weights and losses to the last bit, and all that is counted
        assert len(result["losses"]) == one["steps"]
        for name in ("steps", "tokens", "flops", "skipped"):
            assert result[name] == one[name], name
        assert result["held_whole"]
        assert result["losses"] == pytest.approx(one["losses"], rel=tolerance)
        assert result["norms"] == pytest.approx(one["norms"], rel=10 * tolerance)  # sums, not means
        assert result["evaluations"][-1]["loss"] == pytest.approx(one["evaluations"][-1]["loss"], rel=tolerance)
        worst = max(worst, *(abs(a / b - 1) for a, b in zip(result["losses"], one["losses"], strict=True)))
    return worst


# Which rows are whose.


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("kind", tiny.PRETRAINED)
def test_all_processes_together_have_the_rows_of_one_in_its_order(kind, size):
    training = TrainingConfig(
        steps=30, batch_tokens=192, micro_batch_tokens=48, row_length=32, batch_ramp_share=0.5, length_ramp_share=0.5
    )

    def make():
        return PretrainingBatches(ranks.make_corpus(60), ranks.make_objective(kind), training, seed=3)

    alone = make()
    every = [SharedBatches(make(), Group(rank=rank, size=size)) for rank in range(size)]
    idle = 0
    for step in range(30):
        if step == 17:  # a position is good for any number of processes
            position = every[0].position
            every = [SharedBatches(make(), Group(rank=rank, size=size)) for rank in range(size)]
            for batches in every:
                batches.seek(position)
        expected = [line.tolist() for batch in next(alone) for line in batch.input_ids]
        parts = [[line.tolist() for batch in next(batches) for line in batch.input_ids] for batches in every]
        idle += parts.count([])
        found = [parts[number % size].pop(0) for number in range(len(expected))]
        assert found == expected
        assert not any(parts)
        assert all(batches.position == alone.position for batches in every)
        assert all(batches.spare.input_ids[0].tolist() == expected[0] for batches in every)
    assert idle  # some steps have fewer rows than there are processes


def make_examples(count):
    return [
        row(np.arange(4, 4 + size), "causal", targets={"classification": Target(index=np.array([0]), value=value)})
        for size, value in zip(
            np.random.default_rng(0).integers(2, 9, size=count), np.arange(count)[:, None], strict=True
        )
    ]


def test_examples_are_shared_too():
    alone = ExampleBatches(make_examples(11), batch_size=4, seed=0, micro_batch_tokens=64)
    every = [
        SharedBatches(
            ExampleBatches(make_examples(11), batch_size=4, seed=0, micro_batch_tokens=64), Group(rank=rank, size=3)
        )
        for rank in range(3)
    ]
    for _ in range(7):
        expected, found = classes_of(next(alone)), [classes_of(next(batches)) for batches in every]
        assert expected == sorted(number for part in found for number in part)
        assert max(map(len, found)) <= 2
        assert all(batches.position == alone.position for batches in every)


def classes_of(batches):
    return sorted(number for batch in batches for number in batch.targets["classification"].value.tolist())


def test_examples_that_are_compared_with_each_other_are_not_shared():
    whole = ExampleBatches(make_examples(4), batch_size=4, seed=0, micro_batch_tokens=None)
    with pytest.raises(UserError, match="compares all examples of a step with each other"):
        next(SharedBatches(whole, Group(rank=0, size=2)))


def test_batches_that_come_whole_are_refused():
    with pytest.raises(UserError, match="cannot be shared by 2 processes"):
        SharedBatches(iter([]), Group(rank=0, size=2))


# Who does what.


def test_matrices_go_to_whoever_has_least_to_do():
    assert owners([(4, 4), (8, 4), (4, 8), (2, 2), (4, 4)], 2) == [[0, 1, 3], [2, 4]]
    shapes = [(16, 64), (64, 16), (16, 16), (16, 16), (16, 16), (16, 16), (8, 16), (32, 16)]
    for size in (1, 2, 3, 4, 20):
        found = owners(shapes, size)
        assert len(found) == size
        assert sorted(number for numbers in found for number in numbers) == list(range(len(shapes)))
        loads = [sum(min(shapes[number]) ** 2 * max(shapes[number]) for number in numbers) for numbers in found]
        assert max(loads) - min(loads) <= 16 * 16 * 64


@pytest.mark.parametrize(("rows", "size"), [(1, 3), (3, 3), (7, 3), (8, 4), (9, 4), (2, 4)])
def test_rows_are_cut_as_torch_cuts_them(rows, size):
    chunks = torch.arange(rows).chunk(size)
    for rank in range(size):
        first, last = rows_of(rows, rank, size)
        assert torch.arange(rows)[first:last].tolist() == (chunks[rank].tolist() if rank < len(chunks) else [])


def test_a_process_alone_is_a_group_of_one_and_sends_nothing():
    with joined() as group:
        assert group == current() == Group()
        assert not torch.distributed.is_initialized()
        assert group.share({"a": 1.5}) == {"a": 1.5}
        assert group.gather([1]) == [[1]]
        assert group.table([1.0, 2.0]) == [[1.0, 2.0]]
        assert group.first_only(lambda: 3) == 3
        with pytest.raises(UserError, match="no"), group.agreeing():
            raise UserError("no")


def test_processes_agree_on_a_name_whatever_an_earlier_start_has_left():
    store = torch.distributed.HashStore()
    store.set(distributed._START, "earlier")
    store.set("earlier/all", json.dumps(["somebody", "else"]))
    patience = timedelta(seconds=20)
    with ThreadPoolExecutor() as pool:
        others = [pool.submit(distributed._agree_on_a_name, store, rank, 3, patience) for rank in (1, 2)]
        time.sleep(0.3)  # they read the earlier name
        first = pool.submit(distributed._agree_on_a_name, store, 0, 3, patience)
        names = {each.result() for each in (first, *others)}
    assert len(names) == 1
    assert names != {"earlier"}


def test_who_finds_no_process_0_gives_up():
    store = torch.distributed.HashStore()
    store.set(distributed._START, "earlier")
    with pytest.raises(RuntimeError, match="timed out"):
        distributed._agree_on_a_name(store, 1, 2, timedelta(seconds=0.2))


def test_processes_stop_when_one_has_heard_a_signal():
    own = StopRequest()
    stop = JointStop(own)
    own.signal_number = signal.SIGTERM
    assert stop.heard == signal.SIGTERM
    assert not stop  # until all know
    stop.decide([0.0, float(signal.SIGINT), float(signal.SIGTERM)])
    assert stop.signal_number == signal.SIGINT
    stop.decide([float(signal.SIGTERM), 0.0, 0.0])
    assert stop.signal_number == signal.SIGINT


# Two processes, and what they must do as one would.

TWO = {
    "gpt, muon, whole": {"optimizer": "muon"},
    "bert, adamw, parts": {"kind": "bert", "sharding": "full", "steps": 25},
    "bert, muon, parts": {"kind": "bert", "optimizer": "muon", "row_beta": 0.9, "sharding": "full", "steps": 25},
    "skip": {"steps": 6, "on_nonfinite": "skip", "rank": 1, "call": 3, "act": "poison"},
    "stop": {"steps": 6, "rank": 1, "call": 3, "act": "poison"},
    "signal": {"optimizer": "muon", "rank": 1, "call": 30, "act": "SIGTERM"},
    "resumed": {"optimizer": "muon", "resume": True, "sharding": "full"},
}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    jobs = [dict(job) for job in TWO.values()]
    jobs[-1]["out"] = jobs[-2]["out"] = str(folder / "run")
    codes, _, results = ranks.launch(folder, 2, jobs)
    assert codes == [0, 0]
    return {name: [result[number] for result in results] for number, name in enumerate(TWO)} | {"folder": folder}


@pytest.mark.parametrize("name", [name for name in TWO if "," in name])
def test_two_processes_train_as_one_does(two, name):
    check_like_one_process(TWO[name], two[name])


def test_all_processes_skip_a_step_that_is_not_finite_in_one(two):
    assert [result["skipped"] for result in two["skip"]] == [1, 1]
    assert two["skip"][0] == two["skip"][1]
    assert two["skip"][0]["steps"] == 6


def test_all_processes_stop_at_a_step_that_is_not_finite_in_one_and_one_tells_it(two):
    assert [result["exit_code"] for result in two["stop"]] == [4, 4]
    assert [result["told_elsewhere"] for result in two["stop"]] == [False, True]
    assert "nan" in two["stop"][0]["error"]


def test_a_signal_to_one_process_stops_all_at_one_step_and_saves(two):
    assert [result["exit_code"] for result in two["signal"]] == [143, 143]
    assert [result["told_elsewhere"] for result in two["signal"]] == [False, True]
    first, second = (result["error"] for result in two["signal"])
    assert first == second
    assert "stopped after step" in first


def test_a_run_goes_on_with_its_weights_held_in_parts(two):
    check_like_one_process(TWO["resumed"], two["resumed"])


def test_a_run_of_two_processes_has_the_files_of_one_and_goes_on_in_one(two, tmp_path):
    found = newest_complete(two["folder"] / "run")
    job = {**TWO["resumed"], "sharding": "none", "out": str(tmp_path / "one"), "resume": False}
    assert ranks.train(job, Group())["steps"] == 50
    other = newest_complete(tmp_path / "one")
    names = [set(read_tensors(folder / "training.safetensors")) for folder in (found, other)]
    assert names[0] ^ names[1] == {"random/rank-0/cpu", "random/rank-1/cpu", "random/cpu"}
    for name in names[0] & names[1]:
        tensors = [read_tensors(folder / "training.safetensors")[name] for folder in (found, other)]
        assert tensors[0].shape == tensors[1].shape, name
    assert sorted(path.name for path in found.iterdir()) == sorted(path.name for path in other.iterdir())
    assert len((two["folder"] / "run" / "metrics.jsonl").read_text().splitlines()) == 50 + 1


# A process that is lost.


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("sharding", ["none", "full"])
def test_when_a_process_is_killed_the_others_leave_and_the_run_goes_on_to_the_last_bit(tmp_path, size, sharding):
    # Without a spare head: what DDP does where each weight has a gradient, as in every pretraining.
    job = {
        "kind": "hybrid",
        "optimizer": "muon",
        "dropout": 0.1,
        "sharding": sharding,
        "spare": False,
        "precision": "bf16",
    }
    job |= {"steps": 9, "save_every": 3, "out": str(tmp_path / "run")}
    codes, ends, _ = ranks.launch(tmp_path / "1", size, [{**job, "rank": 1, "call": 10, "act": "SIGKILL"}])
    assert codes == [6, -signal.SIGKILL, *[6] * (size - 2)]
    assert max(ends) - ends[1] < 60
    assert "--resume" in (tmp_path / "1" / "rank-0.txt").read_text()
    codes, _, resumed = ranks.launch(
        tmp_path / "2", size, [{**job, "resume": True}, {**job, "out": str(tmp_path / "new")}]
    )
    assert codes == [0] * size
    for result, whole in resumed:
        assert result == whole


def test_a_fault_in_one_process_ends_all_and_is_shown_once(tmp_path):
    codes, ends, _ = ranks.launch(tmp_path, 2, [{"steps": 9, "rank": 1, "call": 10, "act": "raise"}], faults=True)
    assert codes == [6, 1]
    assert max(ends) - min(ends) < 60
    assert (tmp_path / "said.txt").read_text().count("ZeroDivisionError: a fault of our own") == 1
    told = (tmp_path / "rank-0.txt").read_text()
    assert "another process of this run has ended" in told
    assert "ZeroDivisionError" not in told


@pytest.mark.slow
def test_a_process_that_does_not_answer_counts_as_lost(tmp_path):
    job = {"steps": 20, "rank": 1, "call": 5, "act": "sleep"}
    codes, ends, _ = ranks.launch(tmp_path, 2, [job], patience=3)
    assert codes == [6, 6]
    assert ends[1] - ends[0] > 5  # the other one did not wait for it


# The same at length.

LONG = [
    {"kind": kind, "optimizer": optimizer, "sharding": sharding, "batch_tokens": 208}
    for kind in tiny.PRETRAINED
    for optimizer in ("adamw", "muon")
    for sharding in ("none", "full")
]


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_fifty_steps_of_several_processes_are_those_of_one(tmp_path, size, record_property):
    codes, _, results = ranks.launch(tmp_path, size, LONG)
    assert codes == [0] * size
    for number, job in enumerate(LONG):
        worst = check_like_one_process(job, [result[number] for result in results])
        record_property(f"{size}: {job}", worst)


@pytest.mark.slow
def test_iterations_that_round_stay_close(tmp_path):
    jobs = [{"optimizer": "muon", "bf16_iterations": True, "sharding": sharding} for sharding in ("none", "full")]
    _, _, results = ranks.launch(tmp_path, 2, jobs)
    for number, job in enumerate(jobs):
        check_like_one_process(job, [result[number] for result in results], TOLERANCE_BF16)


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "full"])
def test_what_four_processes_save_two_and_one_go_on_with(tmp_path, sharding):
    job = {"kind": "bert", "optimizer": "muon", "sharding": sharding}
    stop = {"rank": 3, "call": 40, "act": "SIGINT"}
    _, _, results = ranks.launch(
        tmp_path / "4", 4, [{**job, **stop, "out": str(tmp_path / name)} for name in ("two", "one")]
    )
    assert [interrupted["exit_code"] for result in results for interrupted in result] == [130] * 8
    _, _, results = ranks.launch(tmp_path / "2", 2, [{**job, "out": str(tmp_path / "two"), "resume": True}])
    check_like_one_process(job, [result[0] for result in results])
    alone = ranks.train({**job, "out": str(tmp_path / "one"), "resume": True}, Group())
    check_like_one_process(job, [alone])


# torchrun and the command line.


def children(process):
    """Return the processes that a process has started."""
    file = Path(f"/proc/{process}/task/{process}/children")
    return [int(number) for number in file.read_text().split()] if file.exists() else []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux to find the processes")
@pytest.mark.parametrize("machines", [1, 2])
def test_torchrun_starts_a_run_again_when_one_of_its_processes_is_killed(tmp_path, machines):
    """Two machines are two torchruns here, which count their restarts apart."""
    draw = np.random.default_rng(0)
    words = ["".join(draw.choice(list("abcdefgh"), size=4)) for _ in range(60)]
    text = "\n\n".join(" ".join(draw.choice(words, size=200)) + "." for _ in range(60))
    (tmp_path / "text.txt").write_text(text)
    bothways.prepare([tmp_path / "text.txt"], out=tmp_path / "data", vocab_size=300)
    small = {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    settings = [f"model.{name}={value}" for name, value in small.items()]
    settings += ["training.steps=400", "training.save_every=20", "training.batch_tokens=128", "training.row_length=32"]
    call = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={machines}", f"--nproc-per-node={2 // machines}"]
    call += ["--max-restarts=3", "--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{ranks.free_port()}"]
    call += ["-m", "bothways", "pretrain", "gpt-tiny", "--resume"]
    call += ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--json"]
    call += [word for setting in settings for word in ("--set", setting)]
    said = [(tmp_path / f"out-{number}", tmp_path / f"err-{number}") for number in range(machines)]
    agents = [subprocess.Popen(call, stdout=out.open("w"), stderr=errors.open("w")) for out, errors in said]
    try:
        while not list((tmp_path / "run" / "checkpoints").glob("step-*")):
            assert all(agent.poll() is None for agent in agents), said[0][1].read_text()
            time.sleep(0.1)
        before = [worker for agent in agents for worker in children(agent.pid)]
        assert len(before) == 2
        os.kill(before[1], signal.SIGKILL)
        killed = time.monotonic()
        while any(Path(f"/proc/{worker}").exists() for worker in before):
            assert time.monotonic() - killed < 60
            time.sleep(0.1)
        codes = [agent.wait(timeout=300) for agent in agents]
    finally:
        for agent in agents:
            agent.kill()
    errors = "".join(file.read_text() for _, file in said)
    assert codes == [0] * machines, errors
    [answer] = [out.read_text() for out, _ in said if out.read_text()]
    assert json.loads(answer)["steps"] == 400  # one process answers
    assert "going on from step" in errors
    assert errors.count("Error:") <= machines

"""Runs whose processes are killed, over and over, and end as if nothing had happened: to the last bit of every tensor."""

import json
import os
import random
import shutil
import signal
from pathlib import Path

import pytest
import tiny_runs as tiny
import torch

from bothways.checkpoints.checkpoint import newest_complete
from bothways.model.kernels import can_compile
from bothways.training import fitting, resumable

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")

KINDS = ("gpt", "bert", "hybrid", "classification", "generation", "retrieval", "summarization")
ARMS = [
    f"{kind} {parts} {precision}"
    for kind in KINDS
    for parts in (1, 4)
    for precision in ("fp32", "bf16")
    if (kind, parts) != ("retrieval", 4)  # all its examples must meet in one batch
]
CUTS = ("nothing", "one step", "inside a step", "inside an epoch", "the end of an epoch", "the last step")
EPOCH = 4  # steps of a fine-tuning's epoch; of pretraining about five


def deaths_of(arm, cut):
    """Return at which call of the loss each life of a run ends: the first at the place, then two more soon after."""
    counts = tiny.calls_of_steps(arm)
    first = {
        "nothing": 1,
        "one step": sum(counts[:1]) + 1,
        "inside a step": sum(counts[:6]) + max(1, counts[6] // 2 + counts[6] % 2),
        "inside an epoch": sum(counts[:5]) + 1,
        "the end of an epoch": sum(counts[:EPOCH]) + 1,
        "the last step": sum(counts),
    }[cut]
    return [f"loss {first}", f"loss {counts[0] + 1}" if cut != "the last step" else "loss 2", "loss 1", None]


def check(tmp_path, places):
    """Kill arms at their cuts, three times each, and return how many end exactly as the run that lived on."""
    arms = list(dict.fromkeys(arm for arm, _ in places))
    whole = [{"folder": str(tmp_path / arm / "whole"), "arm": arm, "deaths": [None]} for arm in arms]
    killed = [{"folder": str(tmp_path / arm / cut), "arm": arm, "deaths": deaths_of(arm, cut)} for arm, cut in places]
    ends = tiny.play([*whole, *killed])
    assert ends[: len(whole)] == [[0]] * len(whole)
    for job, lives in zip(killed, ends[len(whole) :], strict=True):
        expected = tiny.outcome(tmp_path / job["arm"] / "whole")
        found = tiny.outcome(job["folder"])
        assert lives == [signal.SIGKILL] * 3 + [0], (job, lives)
        for name, value in expected.items():
            assert found[name] == value, (job, name)
    return len(killed)


def test_killed_three_times_a_run_ends_as_if_it_had_lived(tmp_path):
    places = [("gpt 4 bf16", "inside a step"), ("hybrid 1 fp32", "the last step"), ("classification 4 fp32", CUTS[4])]
    assert check(tmp_path, places) == len(places)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_wherever_a_run_of_any_kind_is_killed_it_ends_as_if_it_had_lived(tmp_path, kind):
    places = [(arm, cut) for arm in ARMS if arm.startswith(kind) for cut in CUTS]
    assert check(tmp_path, places) == len(places) >= 12


@pytest.mark.slow
@pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="needs a C++ compiler")
@pytest.mark.parametrize("arm", ["hybrid 4 bf16", "gpt 1 fp32"])
def test_a_run_with_compiled_layers_that_is_cut_ends_as_if_it_had_not_been(tmp_path, arm):
    tiny.fit(tmp_path / "whole", arm, compile="on")
    call = sum(tiny.calls_of_steps(arm)[:4]) + 1  # in step 5: after the checkpoint of step 3
    with pytest.raises(CutError):
        tiny.fit(tmp_path / "cut", arm, compile="on", wrap=lambda objective: tiny.Calls(objective, call, cut))
    tiny.fit(tmp_path / "cut", arm, compile="on", resume=True)
    assert tiny.outcome(tmp_path / "cut") == tiny.outcome(tmp_path / "whole")


# One thing after another is not put back: the comparison must notice each.

ITEMS = ("weights", "optimizer", "random", "position", "step", "tokens", "evaluations", "curve", "best")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    tiny.fit(folder, "bert 1 fp32")
    return tiny.outcome(folder)


class CutError(Exception):
    """Stands for whatever ends a process."""


def cut():
    raise CutError


@pytest.mark.parametrize("item", [None, *ITEMS])
def test_the_comparison_notices_each_thing_that_is_not_put_back(tmp_path, monkeypatch, whole, item):
    with pytest.raises(CutError):
        tiny.fit(tmp_path, "bert 1 fp32", wrap=lambda objective: tiny.Calls(objective, 9, cut))
    if item == "weights":
        load = resumable.load_checkpoint

        def fresh(*arguments, **keywords):
            loaded = load(*arguments, **keywords)
            with torch.no_grad():
                loaded.model.transformer.norm.weight.fill_(1.0)
            return loaded

        monkeypatch.setattr(resumable, "load_checkpoint", fresh)
    elif item in ("optimizer", "random"):
        monkeypatch.setattr(
            resumable, {"optimizer": "restore_state", "random": "restore_random_states"}[item], lambda *_: None
        )
    elif item == "position":
        seek, seeks = tiny.PretrainingBatches.seek, []
        monkeypatch.setattr(tiny.PretrainingBatches, "seek", lambda *a: seeks.append(a) if not seeks else seek(*a))
    elif item:
        become = fitting.Fitting.become

        def forget(it, *arguments):
            before = getattr(it, item)
            become(it, *arguments)
            setattr(it, item, before)

        monkeypatch.setattr(fitting.Fitting, "become", forget)
    tiny.fit(tmp_path, "bert 1 fp32", resume=True)
    assert (tiny.outcome(tmp_path) == whole) == (item is None)


# Deaths while a checkpoint is written.

ARM = "gpt 1 bf16"


def check_saves(tmp_path, deaths):
    """Kill a run once for each death, let it go on, and return how many came out exact."""
    jobs = [
        {"folder": str(tmp_path / f"{number}"), "arm": ARM, "deaths": [death]} for number, death in enumerate(deaths)
    ]
    whole = tmp_path / "whole"
    tiny.fit(whole, ARM, keep=1)
    expected, survived = tiny.outcome(whole), 0
    for job, [end] in zip(jobs, tiny.play(jobs), strict=True):
        folder = Path(job["folder"])
        assert end == signal.SIGKILL or (end == 0 and " after " in job["deaths"][0]), job
        if job["deaths"][0].startswith("line"):
            assert newest_complete(folder).name in ("step-3", "step-6"), job
        tiny.fit(folder, ARM, resume=True, keep=1)
        found = tiny.outcome(folder)
        for name, value in expected.items():
            assert found[name] == value, (job, name)
        assert not [path.name for path in folder.rglob(".*")]
        survived += 1
        shutil.rmtree(folder)
    return survived


def test_a_run_that_dies_while_it_saves_goes_on_exactly(tmp_path):
    lines = tiny.lines_of_a_save(tmp_path / "count", ARM)
    assert lines > 200
    deaths = [f"line {1 + place * (lines - 1) // 5}" for place in range(6)]
    assert check_saves(tmp_path, deaths) == len(deaths)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_line_of_saving_and_no_moment_is_a_bad_one_to_die_at(tmp_path):
    lines = tiny.lines_of_a_save(tmp_path / "count", ARM)
    draw = random.Random(0)
    deaths = [f"line {1 + place * (lines - 1) // 219}" for place in range(220)]
    deaths += [f"KILL after {draw.uniform(0.0, 0.6):.4f}" for _ in range(40)]
    assert check_saves(tmp_path, deaths) == len(deaths) == 260


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("manifest.json", "nothing"),
        ("model.safetensors", "half"),
        ("training.safetensors", "all but a byte"),
        ("state.json", "a byte"),
    ],
)
def test_a_torn_file_costs_the_checkpoint_and_not_the_run(tmp_path, monkeypatch, name, kept):
    """The newest checkpoint was renamed, and the disk lost what one of its files held."""
    monkeypatch.setattr(tiny, "STEPS", 6)
    tiny.fit(tmp_path, "classification 1 fp32")
    whole = tiny.outcome(tmp_path)
    file = tmp_path / "checkpoints" / "step-6" / name
    content = file.read_bytes()
    size = {"nothing": 0, "a byte": 1, "half": len(content) // 2, "all but a byte": len(content) - 1}[kept]
    file.write_bytes(content[:size])
    assert newest_complete(tmp_path).name == "step-3"
    tiny.fit(tmp_path, "classification 1 fp32", resume=True)
    assert tiny.outcome(tmp_path) == whole
    assert json.loads(file.parent.joinpath("manifest.json").read_text())["files"]

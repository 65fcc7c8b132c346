"""A full or failing disk: known before training where it can be, and survived where not."""

import contextlib
import errno
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bothways.checkpoints import folders
from bothways.checkpoints.checkpoint import checkpoints_in, load_checkpoint
from bothways.errors import OutOfDiskError
from bothways.progress import display
from bothways.training import resumable, room
from bothways.training.batches import PretrainingBatches
from bothways.training.fitting import MOST_FAILED_SAVES
from bothways.training.optimizer import make_optimizers
from bothways.training.tracking import read_metrics
from bothways.training.trainer import Run, Trainer

STEPS = 12  # of a run that saves after each second one


@pytest.fixture
def fit(make_model, corpus, causal, adamw, make_training):
    """Return what trains, saving after every second step."""

    def run(folder, *, resume=False, evaluate=None, objective=None, **settings):
        training = make_training(**{"steps": STEPS, "save_every": 2, "evaluate_every": 2, **settings})
        torch.manual_seed(0)
        model = make_model(hidden_dropout=0.1)
        batches = PretrainingBatches(corpus, causal, training, seed=0)
        trainer = Trainer(training, adamw, run=Run(folder=folder), evaluate=evaluate)
        return model, trainer.fit(model, batches, objective or causal, resume=resume)

    return run


# Before training.


def set_free(monkeypatch, free):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - free, free))


def weights_of(model):
    return sum(weight.numel() * weight.element_size() for weight in model.parameters())


def test_the_size_of_a_checkpoint_is_known_before_there_is_one(tmp_path, fit, adamw):
    model, _ = fit(tmp_path, steps=2)
    [folder] = checkpoints_in(tmp_path)
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    expected = weights_of(model) + room.state_bytes(make_optimizers(model, adamw))
    assert expected <= stored < 1.6 * expected  # names, shapes and random states are no small part of a tiny one


@pytest.mark.parametrize("keep", [1, 2])
def test_what_has_no_room_is_refused_before_anything_is_trained(tmp_path, monkeypatch, make_model, adamw, fit, keep):
    model = make_model()
    weights, state = weights_of(model), room.state_bytes(make_optimizers(model, adamw))
    assert state == 2 * weights
    needed = (3 * (keep + 1) + 2) * weights
    set_free(monkeypatch, needed - 1)
    with pytest.raises(OutOfDiskError) as caught:
        fit(tmp_path / "run", keep=keep)
    assert caught.value.exit_code == 5
    message = str(caught.value)
    assert f"needs room for {keep + 1} checkpoints of {3 * weights / 1000:.3g} kB and two models of" in message
    assert f"{needed / 1000:.3g} kB in all, and the disk has {(needed - 1) / 1000:.3g} kB" in message
    assert not (tmp_path / "run").exists()
    set_free(monkeypatch, needed)
    assert fit(tmp_path / "run", keep=keep)[1].steps == STEPS


def test_what_a_run_holds_already_counts_as_room(tmp_path, monkeypatch, fit):
    fit(tmp_path, steps=4)
    held = sum(file.stat().st_size for file in tmp_path.rglob("*.safetensors"))
    set_free(monkeypatch, 0)
    fit(tmp_path, steps=4, resume=True)  # nothing is left to do, so nothing to save
    shutil.rmtree(tmp_path / "last")
    with pytest.raises(OutOfDiskError):
        fit(tmp_path / "new")
    set_free(monkeypatch, 2 * held)
    assert fit(tmp_path / "new")[1].steps == STEPS


# While training.


def failing_writes(monkeypatch, error, at):
    """Let the writing of checkpoints fail whose numbers, from 1, ``at`` holds; return the names of all that were tried."""
    write, tried = folders.write_manifest, []

    def sometimes(folder):
        tried.append(re.fullmatch(r"\.tmp-(.*)-[0-9a-f]{32}", folder.name)[1])
        if len(tried) in at:
            raise OSError(error, os.strerror(error))
        write(folder)

    monkeypatch.setattr(folders, "write_manifest", sometimes)
    return tried


@pytest.mark.parametrize(
    "error", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG]
)
def test_a_save_that_fails_is_tried_again_at_the_next(tmp_path, monkeypatch, fit, capsys, error):
    expected, _ = fit(tmp_path / "whole")
    failing_writes(monkeypatch, error, {2, 3, 5})
    with display():
        model, trained = fit(tmp_path / "run")
    assert trained.steps == STEPS
    assert all(torch.equal(weight, expected.state_dict()[name]) for name, weight in model.state_dict().items())
    assert [folder.name for folder in checkpoints_in(tmp_path / "run")] == ["step-8", "step-12"]
    said = capsys.readouterr().err
    assert said.count("training goes on, and tries again at the next save") == 3
    assert "step-4" in said
    assert not [path.name for path in (tmp_path / "run").rglob(".*")]


def test_after_three_failures_in_a_row_the_run_stops_and_goes_on_later(tmp_path, monkeypatch, fit):
    with monkeypatch.context() as patch:
        tried = failing_writes(patch, errno.ENOSPC, {2, *range(4, 4 + MOST_FAILED_SAVES)})
        with pytest.raises(OutOfDiskError, match=r"no room to write .*step-12") as caught:
            fit(tmp_path / "run", steps=40)
    assert caught.value.exit_code == 5
    assert len(tried) == 6 == 3 + MOST_FAILED_SAVES
    assert [folder.name for folder in checkpoints_in(tmp_path / "run")] == ["step-2", "step-6"]
    model, trained = fit(tmp_path / "run", steps=40, resume=True)
    other, _ = fit(tmp_path / "other", steps=40)
    assert trained.steps == 40
    assert all(torch.equal(weight, other.state_dict()[name]) for name, weight in model.state_dict().items())


def test_the_last_save_of_a_run_must_succeed(tmp_path, monkeypatch, fit):
    with monkeypatch.context() as patch:
        failing_writes(patch, errno.ENOSPC, {6, 7})
        with pytest.raises(OutOfDiskError):
            fit(tmp_path)
    assert [folder.name for folder in checkpoints_in(tmp_path)] == ["step-8", "step-10"]
    assert fit(tmp_path, resume=True)[1].steps == STEPS
    assert load_checkpoint(tmp_path / "last")


def test_a_best_model_that_cannot_be_saved_leaves_the_one_before(tmp_path, monkeypatch, fit, capsys):
    values = iter([3.0, 2.0, 1.0, 1.5, 1.5, 1.5])
    tried = failing_writes(monkeypatch, errno.ENOSPC, {3, 5})  # the best of steps 4 and 6
    with display():
        fit(tmp_path, evaluate=lambda _: {"loss": next(values)})
    assert tried[:6] == ["best", "step-2", "best", "step-4", "best", "step-6"]
    state = json.loads((checkpoints_in(tmp_path)[-1] / "state.json").read_text())
    assert state["best"] == 1.5  # of step 8: those of steps 4 and 6 could not be kept
    assert "training goes on" in capsys.readouterr().err
    assert load_checkpoint(tmp_path / "best")


def test_someone_who_asks_to_stop_is_told_that_it_cannot_be_saved(tmp_path, monkeypatch, fit, causal):
    class Stopping:
        heads, counts = causal.heads, causal.counts
        calls = 0

        def loss(self, model, batch):
            self.calls += 1
            if self.calls == 3:
                os.kill(os.getpid(), 15)
            return causal.loss(model, batch)

    failing_writes(monkeypatch, errno.ENOSPC, {2})
    with pytest.raises(OutOfDiskError, match="step-3"):
        fit(tmp_path, objective=Stopping())
    assert [folder.name for folder in checkpoints_in(tmp_path)] == ["step-2"]


def test_old_checkpoints_that_cannot_be_removed_do_not_stop_a_run(tmp_path, monkeypatch, fit, capsys):
    def refuse(_):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch, display():
        patch.setattr(resumable, "remove_folder", refuse)
        assert fit(tmp_path, keep=1, steps=6)[1].steps == 6
    assert "step-2 cannot be removed: Permission denied" in capsys.readouterr().err
    assert [folder.name for folder in checkpoints_in(tmp_path)] == ["step-2", "step-4", "step-6"]
    fit(tmp_path, keep=1, steps=8, resume=True)
    assert [folder.name for folder in checkpoints_in(tmp_path)] == ["step-8"]


# A real limit: files of this process may only grow so large.

CHILD = """
import resource, sys, torch
sys.path.insert(0, {here!r})
import tiny_runs as tiny
from bothways.errors import BothwaysError
from bothways.training.fitting import Fitting
from bothways.progress import display
save = Fitting.save
def limited(fitting):
    limit = {limit} if fitting.step in {steps} else resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        save(fitting)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
Fitting.save = limited
try:
    with display():
        tiny.fit({folder!r}, "gpt 1 fp32", resume=True)
except BothwaysError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize(
    ("steps", "limit", "code", "left"),
    [((6,), 5000, 0, ["step-9", "step-12"]), ((6, 9, 12), 300, 5, ["step-3"])],
)
def test_the_systems_own_refusal_is_survived(tmp_path, steps, limit, code, left):
    here = str(Path(__file__).parent)
    program = CHILD.format(here=here, folder=str(tmp_path / "run"), steps=steps, limit=limit)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "no room to write" in done.stderr
    assert [folder.name for folder in checkpoints_in(tmp_path / "run")] == left
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    again = CHILD.format(here=here, folder=str(tmp_path / "run"), steps=(), limit=0)
    subprocess.run([sys.executable, "-c", again], check=True, capture_output=True)
    assert max(record["step"] for record in read_metrics(tmp_path / "run")) == 12


@pytest.mark.slow
@pytest.mark.parametrize("checkpoints", [0.5, 1.5, 2.5, 3.5])
def test_a_small_disk(tmp_path, fit, mount_disk, checkpoints):
    """Too small for keep=1 is known before; one that others fill meanwhile is survived."""
    fit(tmp_path / "sample", steps=2)
    size = sum(file.stat().st_size for file in (tmp_path / "sample" / "checkpoints").rglob("*") if file.is_file())
    pages = -(-int(checkpoints * 2 * size) // 4096) + 8
    disk = mount_disk(4096 * pages)
    others = disk / "others"

    def fill(_):
        with contextlib.suppress(OSError), others.open("ab", buffering=0) as stream:
            while stream.write(b"x" * 512):
                pass
        return {"loss": 1.0}

    with pytest.raises(OutOfDiskError):
        fit(disk / "run", keep=1, evaluate=fill, evaluate_every=3, steps=40)
    for folder in checkpoints_in(disk / "run"):
        load_checkpoint(folder)
    others.unlink(missing_ok=True)
    if checkpoints > 2:
        assert checkpoints_in(disk / "run")

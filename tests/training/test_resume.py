"""A run that is cut off and goes on ends exactly like one that was never cut off, to the last bit.

Run as a script, this file is the process that is killed: it forks a child for each place to die at.
"""

import json
import os
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import tiny_runs as tiny
import torch
from tiny_runs import make_corpus, make_objective

import bothways
from bothways import progress
from bothways.errors import UserError
from bothways.model.heads import Model
from bothways.training import resumable
from bothways.training.batches import PretrainingBatches
from bothways.training.config import OptimizerConfig, TrainingConfig
from bothways.training.states import GoingOn
from bothways.training.tracking import read_metrics
from bothways.training.trainer import Run, Trainer

STEPS, SAVE_EVERY, MICRO_BATCHES = 10, 3, 2
ARMS = {
    "gpt, adamw, fp32": ("gpt", "adamw", "fp32"),
    "gpt, muon, bf16": ("gpt", "muon", "bf16"),
    "bert, muon, fp32": ("bert", "muon", "fp32"),
    "bert, adamw, bf16": ("bert", "adamw", "bf16"),
    "hybrid, muon, bf16": ("hybrid", "muon", "bf16"),
}


def make_model(kind):
    torch.set_num_threads(1)
    return tiny.make_pretrained(kind, make_objective(kind).heads)


def fit(folder, arm, *, resume=False, objective=None, fingerprint=None, accept=None, **settings):
    """Train one arm; every process and every call starts with the same weights and data."""
    kind, optimizer, precision = ARMS[arm]
    training = TrainingConfig(
        batch_tokens=64,
        micro_batch_tokens=32,
        row_length=16,
        precision=precision,
        **{"steps": STEPS, "save_every": SAVE_EVERY, "evaluate_every": 2, **settings},
    )
    batches = PretrainingBatches(make_corpus(), make_objective(kind), training, seed=0)
    trainer = Trainer(
        training,
        OptimizerConfig(name=optimizer),
        run=Run(folder=Path(folder), fingerprint=fingerprint or {"arm": arm}, accept=accept),
        evaluate=lambda model: {"loss": float(model.transformer.norm.weight.sum())},
    )
    model = make_model(kind)
    trained = trainer.fit(model, batches, objective or make_objective(kind), resume=resume)
    return model, trained


class Dying:
    """An objective that does something at one of its calls, counted from 1, instead of giving the loss."""

    def __init__(self, kind, call, die):
        self._objective, self._call, self._die, self._calls = make_objective(kind), call, die, 0
        self.heads, self.counts = self._objective.heads, self._objective.counts

    def loss(self, model, batch):
        self._calls += 1
        if self._calls == self._call:
            self._die()
        return self._objective.loss(model, batch)


class CutError(Exception):
    """Stands for whatever ends a process."""


def cut():
    raise CutError


def outcome(folder):
    """Return all that a finished run holds, without how long it took.

    The files hold the weights, what the optimizers remember, and the state of the random numbers.
    """
    last = Path(folder) / "checkpoints" / f"step-{STEPS}"
    state = json.loads((last / "state.json").read_text())
    state.pop("seconds")
    records = [*state["curve"], *(metrics := read_metrics(Path(folder)))]
    for record in records:
        record.pop("seconds", None)
    files = {name: (last / name).read_bytes() for name in ("model.safetensors", "training.safetensors")}
    folders = sorted(path.name for path in (Path(folder) / "checkpoints").iterdir())
    chosen = {name: (Path(folder) / name / "model.safetensors").read_bytes() for name in ("best", "last")}
    return {**files, **chosen, "state": state, "metrics": metrics, "folders": folders}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Return what a run of each arm comes to that nobody interrupts."""
    outcomes = {}
    for arm in ARMS:
        folder = tmp_path_factory.mktemp("whole")
        fit(folder, arm)
        outcomes[arm] = outcome(folder)
    return outcomes


# The places are calls of the loss: two a step, a checkpoint after steps 3, 6, 9 and 10.
CUTS = {
    "before anything was saved": [2],
    "right after a checkpoint": [7],
    "inside a step": [16],
    "in the last step": [20],
    "twice before the next checkpoint": [9, 4],
    "again and again": [8, 8, 3, 8, 2, 2],
}


@pytest.mark.parametrize("place", CUTS)
@pytest.mark.parametrize("arm", ARMS)
def test_going_on_is_exactly_never_having_stopped(tmp_path, uninterrupted, arm, place):
    for number, call in enumerate(CUTS[place]):
        with pytest.raises(CutError):
            fit(tmp_path, arm, resume=number > 0, objective=Dying(ARMS[arm][0], call, cut))
    model, trained = fit(tmp_path, arm, resume=True)
    found, expected = outcome(tmp_path), uninterrupted[arm]
    for name, value in expected.items():
        assert found[name] == value, name
    assert not model.training
    assert trained.steps == STEPS
    assert [record["step"] for record in trained.curve] == list(range(1, STEPS + 1))
    assert [record["step"] for record in trained.evaluations] == [2, 4, 6, 8, 10]


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (resumable, "restore_random_states"),
        (resumable, "restore_state"),
        (PretrainingBatches, "seek"),
        (Model, "load_state_dict"),
    ],
)
def test_the_comparison_notices_each_thing_that_is_not_put_back(tmp_path, monkeypatch, uninterrupted, owner, name):
    arm = "bert, muon, fp32"
    with pytest.raises(CutError):
        fit(tmp_path, arm, objective=Dying("bert", 10, cut))
    restore = getattr(owner, name)

    def forget(self, *arguments, **keywords):
        if keywords:  # loading a checkpoint uses it, too
            return restore(self, *arguments, **keywords)
        if name == "seek" and arguments[0]["row"] == arguments[0]["chunk"] == 0:
            restore(self, *arguments)  # the beginning of the stream, and of every epoch
        return None

    monkeypatch.setattr(owner, name, forget)
    fit(tmp_path, arm, resume=True)
    assert outcome(tmp_path)["model.safetensors"] != uninterrupted[arm]["model.safetensors"]


# Real deaths: SIGKILL inside a step, and at each of the system calls by which checkpoints come, change places and go.

DEADLY_ARM = "gpt, muon, bf16"
DISK_CALLS = 105  # of a whole run; see below
DEATHS = [*(f"loss {call}" for call in (1, 7, 12)), *(f"disk {call}" for call in (9, 16, 22, 32, 35, 63, 67, 83, 102))]


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_disk_call(number):
    """Let this process die before the given call, from 1, of what makes, moves and deletes the files of a run."""
    left = [number]

    def deadly(call):
        def instead(*arguments, **keywords):
            left[0] -= 1
            if left[0] == 0:
                die()
            return call(*arguments, **keywords)

        return instead

    for name in ("fsync", "replace", "unlink", "rmdir"):
        setattr(os, name, deadly(getattr(os, name)))


def run_until_death(folder, death):
    kind, _, number = death.partition(" ")
    objective = None
    if kind == "disk":
        die_at_disk_call(int(number))
    else:
        objective = Dying(ARMS[DEADLY_ARM][0], int(number), die)
    fit(folder, DEADLY_ARM, objective=objective, resume=True, keep=1)


def main(folder, deaths):
    """Die in a child for each death, and print by which signal."""
    signals = {}
    fit(Path(folder) / "warm", DEADLY_ARM, steps=0)  # what this imports late, no child has to import again
    for death in deaths:
        child = os.fork()
        if child == 0:
            run_until_death(Path(folder) / death, death)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        signals[death] = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    print(json.dumps(signals))  # noqa: T201 - this is how the process reports


def kill(folder, deaths):
    """Leave a run for each death in the folder, and return the signals that ended them."""
    call = [sys.executable, __file__, str(folder), *deaths]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def graveyard(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    return folder, kill(folder, DEATHS)


@pytest.fixture(scope="module")
def kept_one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    fit(folder, DEADLY_ARM, keep=1)
    return outcome(folder)


def check_revival(folder, expected):
    fit(folder, DEADLY_ARM, resume=True, keep=1)
    found = outcome(folder)
    folders = found.pop("folders")
    for name, value in found.items():
        assert value == expected[name], name
    # A run that died between its last checkpoint and the end of the last but one has both.
    assert folders in (["step-10"], ["step-10", "step-9"])
    assert not [path.name for path in Path(folder).rglob(".*")]


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")


@needs_fork
@pytest.mark.parametrize("death", DEATHS)
def test_a_killed_run_goes_on_as_if_it_never_died(graveyard, kept_one, death):
    folder, signals = graveyard
    assert signals[death] == signal.SIGKILL
    check_revival(folder / death, kept_one)


@needs_fork
@pytest.mark.slow
def test_no_call_that_touches_the_disk_is_a_bad_one_to_die_at(tmp_path, kept_one):
    deaths = [f"disk {call}" for call in range(1, DISK_CALLS + 20)]
    signals = kill(tmp_path, deaths)
    killed = [death for death in deaths if signals[death] == signal.SIGKILL]
    assert killed == deaths[: len(killed)]
    assert 0.8 * DISK_CALLS < len(killed) < len(deaths)  # all of them, and the run that met none ended by itself
    for death in killed:
        check_revival(tmp_path / death, kept_one)


# Other beginnings.


def test_there_may_be_nothing_to_go_on_from(tmp_path, uninterrupted):
    arm = "gpt, adamw, fp32"
    fit(tmp_path / "new", arm, resume=True)
    assert outcome(tmp_path / "new") == uninterrupted[arm]


def test_a_finished_run_stays_as_it_is(tmp_path, uninterrupted):
    arm = "gpt, adamw, fp32"
    fit(tmp_path, arm)
    model, trained = fit(tmp_path, arm, resume=True)
    assert outcome(tmp_path) == uninterrupted[arm]
    assert trained.steps == STEPS
    assert not model.training


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, uninterrupted):
    arm = "gpt, adamw, fp32"
    with pytest.raises(CutError):
        fit(tmp_path, arm, objective=Dying("gpt", 14, cut))
    file = tmp_path / "checkpoints" / "step-6" / "training.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    fit(tmp_path, arm, resume=True)
    assert outcome(tmp_path) == uninterrupted[arm]


def test_a_model_may_have_heads_that_the_objective_does_not_read(tmp_path):
    arm = "gpt, adamw, fp32"
    training = TrainingConfig(steps=4, batch_tokens=32, micro_batch_tokens=32, row_length=16, save_every=1)
    weights = []
    for folder, calls in (("whole", [99]), ("cut", [3, 99])):
        for call in calls:
            objective = Dying("gpt", call, cut)
            batches = PretrainingBatches(make_corpus(), make_objective("gpt"), training, seed=0)
            model = make_model(ARMS[arm][0])
            model.add_head("classification", 3)
            trainer = Trainer(training, OptimizerConfig(), run=Run(folder=tmp_path / folder))
            try:
                trainer.fit(model, batches, objective, resume=True)
            except CutError:
                assert call == 3
        weights.append(model.state_dict())
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())


def test_a_run_refuses_to_go_on_with_something_else_and_names_each_difference(tmp_path):
    arm = "gpt, adamw, fp32"
    before = {"data": "abc", "seed": 1, "training.steps": 10, "gone": None, "was": [1, 2]}
    with pytest.raises(CutError):
        fit(tmp_path, arm, objective=Dying("gpt", 8, cut), fingerprint=before)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    now = {"data": "xyz", "seed": 1, "training.steps": 12, "gone": None, "is": True}
    with pytest.raises(UserError) as caught:
        fit(tmp_path, arm, resume=True, fingerprint=now)
    message = str(caught.value)
    assert message.startswith(
        "this run cannot be resumed, because data was 'abc' and is now 'xyz'; training.steps was 10"
    )
    assert "was was [1, 2] and is now None" in message
    assert "is was None and is now True" in message
    assert "seed" not in message
    assert "start a new run with another --out" in message
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files


def test_a_run_that_another_version_has_made_goes_on_and_says_so(tmp_path, monkeypatch, uninterrupted, capsys):
    arm = "gpt, adamw, fp32"
    with monkeypatch.context() as patch:
        patch.setattr(metadata, "version", lambda _: "0.0.9")
        with pytest.raises(CutError):
            fit(tmp_path, arm, objective=Dying("gpt", 8, cut))
    with progress.display():
        fit(tmp_path, arm, resume=True)
    said = capsys.readouterr().err
    assert f"So far this run was made by bothways 0.0.9 (now {bothways.__version__}): it goes on" in said
    assert outcome(tmp_path)["model.safetensors"] == uninterrupted[arm]["model.safetensors"]


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_run_may_decide_itself_what_it_accepts_and_where_the_batches_go_on(tmp_path, uninterrupted, goes_on):
    arm = "gpt, adamw, fp32"
    with pytest.raises(CutError):
        fit(tmp_path, arm, objective=Dying("gpt", 8, cut), fingerprint={"data": "abc"})
    states = []

    def accept(state):
        states.append((state["step"], state["fingerprint"]))
        return GoingOn(same_text=goes_on)

    fit(tmp_path, arm, resume=True, fingerprint={"data": "xyz"}, accept=accept)
    assert states == [(3, {"data": "abc"})]
    found = outcome(tmp_path)
    assert found["state"]["fingerprint"] == {"data": "xyz"}
    assert (found["model.safetensors"] == uninterrupted[arm]["model.safetensors"]) == goes_on
    assert (found["state"]["position"] == uninterrupted[arm]["state"]["position"]) == goes_on


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

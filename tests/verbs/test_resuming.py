"""A run goes on with what it was made from, or says by name what is another; what may change goes through when allowed."""

import contextlib
import io
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import bothways
from bothways.checkpoints.hub import resolve
from bothways.checkpoints.manifest import write_manifest
from bothways.cli import main
from bothways.text.tokenizing.tokenizer import KINDS
from bothways.training import fitting
from bothways.training.batches import PretrainingBatches
from bothways.training.doctor.doctor import LossDoctor
from bothways.training.tracking import read_metrics

SMALL = (
    "--set model.hidden_size=16 --set model.num_hidden_layers=1 --set model.num_attention_heads=2 "
    "--set model.intermediate_size=32 --set model.max_position_embeddings=64 --set training.row_length=64 "
    "--set training.batch_tokens=256 --set training.micro_batch_tokens=128 --set training.steps=6"
)
BERT = f"bert-tiny {SMALL} --set objective.sequence_length=32 --set model.hidden_dropout=0.1"
MIXTURE = "--data sea:1 --data land:2"
NOUNS = ["river", "mountain", "engine", "kernel", "garden", "tensor", "window", "letter", "signal", "forest", "island"]


class Said:
    """What a command line printed, and its exit code."""

    def __init__(self, words):
        streams = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            self.code = main(shlex.split(words))
        self.out, self.err = (stream.getvalue() for stream in streams)


def write_texts(folder, *, seed, nouns=NOUNS, count=30):
    rng = random.Random(seed)
    folder.mkdir()
    for number in range(count):
        sentences = [f"The {rng.choice(nouns)} moves the {rng.choice(nouns)} {rng.randint(0, 9)}." for _ in range(12)]
        (folder / f"{number:02}.txt").write_text(" ".join(sentences), encoding="utf-8")


def prepare(paths, out, *, tokenizer, vocab_size=80):
    trained = tokenizer in KINDS
    options = {
        "tokenizer": tokenizer,
        "vocab_size": vocab_size if trained else None,
        "workers": 1,
        "validation_share": 0.1,
    }
    bothways.prepare(paths, out=out, settings=["deduplication.near=false"], **options)


def stopped_at(step, words):
    """Run a command line that is stopped by SIGTERM after a step."""
    take_step = fitting.Fitting.take_step

    def stop_after(fitting):
        losses = take_step(fitting)
        if fitting.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return losses

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting.Fitting, "take_step", stop_after)
        assert Said(words).code == 143


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """Return a folder with corpora, the run of a mixture that was stopped after step 3, and that run never stopped."""
    folder = tmp_path_factory.mktemp("resuming")
    with contextlib.chdir(folder):
        write_texts(Path("sea-texts"), seed=0)
        write_texts(Path("land-texts"), seed=1)
        shutil.copytree("sea-texts", "edited-texts")
        document = Path("edited-texts/07.txt")
        document.write_text(document.read_text().replace("river", "forest", 1))
        prepare("sea-texts", "sea", tokenizer="wordpiece")
        files = sorted(Path("land-texts").iterdir())
        prepare(files, "land", tokenizer="sea")
        prepare(files[::-1], "reordered", tokenizer="sea")
        prepare("edited-texts", "edited", tokenizer="sea")
        prepare("land-texts", "land-other", tokenizer="wordpiece")
        prepare("sea-texts", "sea-other", tokenizer="land-other")
        prepare("sea-texts", "sea-small", tokenizer="wordpiece", vocab_size=75)
        prepare("land-texts", "land-small", tokenizer="sea-small")
        stopped_at(3, f"pretrain {BERT} {MIXTURE} --out run")
        assert Said(f"pretrain {BERT} {MIXTURE} --out straight").code == 0
    return folder


@pytest.fixture(autouse=True)
def inside(workshop, monkeypatch):
    monkeypatch.chdir(workshop)


@pytest.fixture
def run(tmp_path):
    """Return a copy of the stopped run."""
    shutil.copytree("run", tmp_path / "run")
    return tmp_path / "run"


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def state_of(folder):
    newest = max((folder / "checkpoints").iterdir(), key=lambda path: int(path.name.removeprefix("step-")))
    return json.loads((newest / "state.json").read_text())


# The faults that must not pass: what is given instead, and what the message must say.
FAULTS = {
    "one document edited": (
        f"{BERT} --data edited:1 --data land:2",
        [
            "because data.1.folder was 'sea' and is now 'edited'; data.1.fingerprint was '",
            "data.1.splits.train.tokens was",
        ],
    ),
    "files reordered": (
        f"{BERT} --data sea:1 --data reordered:2",
        ["data.2.fingerprint was '", "data.2.shards.train was '"],
    ),
    "other tokenizer": (
        f"{BERT} --data sea-other:1 --data land-other:2",
        ["data.2.fingerprint was '", "; tokenizer.json was '"],
    ),
    "other vocabulary size": (
        f"{BERT} --data sea-small:1 --data land-small:2",
        ["; tokenizer.json was '", "; model.vocab_size was 80 and is now 75; start"],
    ),
    "other weights": (f"{BERT} --data sea:1 --data land:3", ["because data.2.weight was 2.0 and is now 3.0; start"]),
    "other corpora": (f"{BERT} --data sea", ["because data was ['sea:1', 'land:2'] and is now ['sea']; start"]),
    "other order of corpora": (
        f"{BERT} --data land:2 --data sea:1",
        ["because data was ['sea:1', 'land:2'] and is now ['land:2', 'sea:1']; start"],
    ),
    "other width": (f"{BERT} {MIXTURE} --set model.hidden_size=32", ["because model.hidden_size was 16 and is now 32"]),
    "other batch size": (
        f"{BERT} {MIXTURE} --set training.batch_tokens=512",
        ["because training.batch_tokens was 256 and is now 512"],
    ),
    "other seed": (f"{BERT} {MIXTURE} --set seed=1", ["because seed was 0 and is now 1"]),
    "other objective": (
        f"{BERT} {MIXTURE} --set objective.mask_share=0.3",
        ["because objective.mask_share was 0.4 and is now 0.3"],
    ),
    "other learning rate": (
        f"{BERT} {MIXTURE} --set training.learning_rate=0.5",
        ["because training.learning_rate was ", " and is now 0.5"],
    ),
    "other length": (f"{BERT} {MIXTURE} --set training.steps=7", ["because training.steps was 6 and is now 7"]),
    "other beginning": (f"{BERT} {MIXTURE} --from straight", ["because from was None and is now 'straight'"]),
    "two at once": (
        f"{BERT} {MIXTURE} --set seed=1 --set training.batch_tokens=512",
        ["training.batch_tokens was 256 and is now 512; seed was 0 and is now 1; start"],
    ),
}
FOR_GOOD = ("other tokenizer", "other vocabulary size", "other width", "other beginning")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_is_not_resumed_with_something_else(fault):
    words, expected = FAULTS[fault]
    before = contents(Path("run"))
    refused = Said(f"pretrain {words} --out run --resume")
    assert refused.code == 2
    assert refused.out == ""
    [message] = [line for line in refused.err.splitlines() if line.startswith("Error: ")]
    assert message.startswith("Error: this run cannot be resumed, because ")
    for part in expected:
        assert part in message
    assert "start a new run with another --out" in message
    assert ("--allow-change" in message) == (fault not in FOR_GOOD)
    assert contents(Path("run")) == before
    assert len(message) < 700


@pytest.mark.parametrize("fault", FAULTS)
def test_what_the_message_says_to_allow_is_what_has_to_be_allowed(run, fault):
    words, _ = FAULTS[fault]
    message = Said(f"pretrain {words} --out {run} --resume").err
    if fault in FOR_GOOD:
        refused = Said(f"pretrain {words} --out {run} --resume --allow-change data seed")
        assert refused.code == 2
        assert "cannot change: " in refused.err
        return
    advice = message[message.index("--allow-change") :].strip()
    done = Said(f"pretrain {words} --out {run} --resume {advice} --json")
    assert done.code == 0, done.err
    assert "going on from step 3" in done.err
    assert json.loads(done.out)["steps"] == (7 if fault == "other length" else 6)
    assert Said(f"pretrain {words} --out {run} --resume").code == 0, "from now on the run is made from that"
    assert Said(f"pretrain {BERT} {MIXTURE} --out {run} --resume").code == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--resume --allow-change model.hidden_size", "the trained weights are those of that model"),
        ("--resume --allow-change optimizer.name", "what the optimizer remembers"),
        ("--resume --allow-change objective.pairs", "the trained heads"),
        ("--resume --allow-change tokenizer.json", "the model knows tokens by their numbers"),
        ("--resume --allow-change dat", "Did you mean 'data'?"),
        ("--resume --allow-change training.lerning_rate", "Did you mean 'training.learning_rate'?"),
        ("--allow-change data", "give --resume, too"),
    ],
)
def test_permission_is_asked_for_by_names_that_exist_and_can_change(words, expected):
    refused = Said(f"pretrain {BERT} {MIXTURE} --out run {words}")
    assert refused.code == 2
    assert expected in refused.err


@pytest.mark.parametrize("allowed", ["training.learning_rate", "data training.learning_rate"])
def test_permission_for_one_thing_is_none_for_another(allowed):
    changes = "--set training.learning_rate=0.1 --set training.batch_tokens=512"
    refused = Said(f"pretrain {BERT} {MIXTURE} {changes} --out run --resume --allow-change {allowed}")
    assert refused.code == 2
    assert "because training.batch_tokens was 256 and is now 512; start" in refused.err
    assert f"--allow-change {allowed} training.batch_tokens" in refused.err


def test_a_corpus_may_lie_elsewhere(run, tmp_path):
    shutil.copytree("sea", tmp_path / "moved")
    done = Said(f"pretrain {BERT} --data {tmp_path}/moved:1 --data land:2 --out {run} --resume")
    assert done.code == 0, done.err
    assert (run / "last/model.safetensors").read_bytes() == Path("straight/last/model.safetensors").read_bytes()


def test_an_allowed_setting_has_its_effect_and_stays_written_down(run):
    words = f"pretrain {BERT} {MIXTURE} --set training.learning_rate=0.5 --out {run} --resume"
    done = Said(f"{words} --allow-change training.learning_rate")
    assert "Changed since the last checkpoint: training.learning_rate" in done.err
    assert "from its beginning" not in done.err
    rates = [record["learning_rate"] for record in read_metrics(run) if "learning_rate" in record]
    straight = [record["learning_rate"] for record in read_metrics(Path("straight")) if "learning_rate" in record]
    assert rates[:3] == straight[:3]
    assert max(straight) < rates[3] == 0.5
    assert json.loads((run / "experiment.json").read_text())["training"]["learning_rate"] == 0.5


def test_a_run_whose_steps_are_lowered_to_those_it_has_taken_ends_there(run):
    words = f"pretrain {BERT} {MIXTURE} --set training.steps=3 --out {run} --resume --allow-change training.steps"
    done = Said(words)
    assert done.code == 0, done.err
    assert (run / "last/model.safetensors").is_file()
    (summary,) = bothways.runs(run).runs
    assert summary.state == "finished"
    assert summary.validation["loss"] > 0


def test_since_when_a_run_reads_its_text_is_remembered(run):
    state = json.loads((run / "checkpoints/step-3/state.json").read_text())
    assert state["text_from"] == {"step": 0, "tokens": 0}
    read, seen = state["tokens"], []
    words = f"pretrain {BERT} --data edited:1 --data land:2 --out {run} --resume --allow-change data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LossDoctor, "__call__", lambda _, curve, __, since: seen.append((len(curve), since)) or ())
        assert Said(words).code == 0
    assert seen
    assert all(since == {"step": 3, "tokens": read} for _, since in seen)
    state = json.loads((run / "checkpoints/step-6/state.json").read_text())
    assert state["text_from"] == {"step": 3, "tokens": read}


def test_a_checkpoint_that_does_not_say_since_when_its_text_is_read_goes_on(run):
    newest = run / "checkpoints" / "step-3"
    state = json.loads((newest / "state.json").read_text())
    for name in ("text_from", "planned", "versions"):
        del state[name]
    (newest / "state.json").write_text(json.dumps(state))
    (newest / "manifest.json").unlink()
    write_manifest(newest)
    assert Said(f"pretrain {BERT} {MIXTURE} --out {run} --resume").code == 0
    assert (run / "last/model.safetensors").read_bytes() == Path("straight/last/model.safetensors").read_bytes()


def test_a_finished_run_that_would_take_no_step_is_not_changed(run):
    assert Said(f"pretrain {BERT} {MIXTURE} --out {run} --resume").code == 0
    names = ("experiment.json", "plan.json", "README.md")
    before = [(run / name).read_bytes() for name in names]
    words = f"pretrain {BERT} {MIXTURE} --out {run} --resume --set training.learning_rate=0.5"
    done = Said(f"{words} --allow-change training.learning_rate")
    assert done.code == 2
    assert "has taken all of its" in done.err
    assert "training.learning_rate would change nothing" in done.err
    assert [(run / name).read_bytes() for name in names] == before


def test_a_run_that_is_ended_early_after_it_had_ended_before_has_its_own_last_model(run):
    words = f"pretrain {BERT} {MIXTURE} --out {run} --resume --allow-change training.steps"
    assert Said(f"{words} --set training.steps=3").code == 0
    third = (run / "last/model.safetensors").read_bytes()
    stopped_at(6, f"{words} --set training.steps=12")
    done = Said(f"{words} --set training.steps=6")
    assert done.code == 0, done.err
    newest = run / "checkpoints/step-6"
    assert (run / "last/model.safetensors").read_bytes() == (newest / "model.safetensors").read_bytes() != third
    assert Said(f"pretrain {BERT} {MIXTURE} --set training.steps=6 --out {run} --resume").code == 0


def test_ending_early_compares_no_figures_of_different_text(run):  # fewer steps are measured on less text
    words = f"pretrain {BERT} {MIXTURE} --set training.steps=3 --out {run} --resume --allow-change training.steps"
    assert Said(words).code == 0
    assert any(record.get("measured_anew") for record in read_metrics(run))
    assert (run / "best-until-step-3").is_dir()


def test_another_text_of_a_checkpoint_of_an_earlier_version_begins_at_its_step(run, seen):
    newest = run / "checkpoints" / "step-3"
    state = json.loads((newest / "state.json").read_text())
    del state["position"]["step"]
    (newest / "state.json").write_text(json.dumps(state))
    (newest / "manifest.json").unlink()
    write_manifest(newest)
    done = Said(f"pretrain {BERT} {MIXTURE} --set seed=1 --out {run} --resume --allow-change seed")
    assert done.code == 0, done.err
    assert seen[0][0] == {"step": 3, **dict.fromkeys(state["position"], 0)}


def test_more_steps_are_planned_anew(run):
    words = f"pretrain {BERT} {MIXTURE} --set training.steps=30 --out {run} --resume"
    assert Said(f"{words} --allow-change training.steps").code == 0
    plan = json.loads((run / "plan.json").read_text())
    assert (plan["steps"], plan["tokens"]) == (30, 30 * 256)
    assert json.loads((run / "experiment.json").read_text())["training"]["save_every"] == 3
    fewer = Said(f"{words} --set training.steps=20 --allow-change training.steps")
    assert fewer.code == 2
    assert "training.steps is 20, and this run has taken 30 already" in fewer.err


def test_a_run_of_an_earlier_version_is_refused_in_words(run):
    newest = run / "checkpoints" / "step-3"
    state = json.loads((newest / "state.json").read_text())
    fingerprint = {**state["fingerprint"], "data": "0" * 64}
    del fingerprint["tokenizer.json"]
    (newest / "state.json").write_text(json.dumps({**state, "fingerprint": fingerprint}))
    (newest / "manifest.json").unlink()
    write_manifest(newest)
    refused = Said(f"pretrain {BERT} {MIXTURE} --out {run} --resume")
    assert refused.code == 2
    assert "data was '000000000000…' and is now ['sea:1', 'land:2']; tokenizer.json was None" in refused.err


# The order of the text


@pytest.fixture
def seen(monkeypatch):
    """Return the steps of training that are taken from here on, each as position before it and token ids."""
    steps = []
    take, train = PretrainingBatches.__next__, fitting.Fitting.take_step

    def record(batches):
        position = batches.position
        step = take(batches)
        steps.append((position, [batch.input_ids.tolist() for batch in step]))
        return step

    def train_recorded(fitting):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PretrainingBatches, "__next__", record)
            return train(fitting)

    monkeypatch.setattr(fitting.Fitting, "take_step", train_recorded)
    return steps


@pytest.mark.parametrize("data", [MIXTURE, "--data sea"])
@pytest.mark.parametrize("family", ["gpt", "bert"])
def test_a_run_that_was_stopped_sees_the_same_text_and_ends_the_same(tmp_path, seen, data, family):
    words = BERT
    if family == "gpt":
        for name in ("sea", "land"):
            bpe = "bpe" if name == "sea" else tmp_path / "sea"
            prepare(f"{name}-texts", tmp_path / name, tokenizer=bpe, vocab_size=300)
        words = f"gpt-tiny {SMALL} --set model.hidden_dropout=0.1"
        data = data.replace("--data ", f"--data {tmp_path}/")
    pretrain = f"pretrain {words} {data} --out {tmp_path}"
    assert Said(f"{pretrain}/straight").code == 0
    straight = seen[:]
    seen.clear()
    stopped_at(2, f"{pretrain}/stopped")
    stopped_at(5, f"{pretrain}/stopped --resume")
    position = state_of(tmp_path / "stopped")["position"]
    assert Said(f"{pretrain}/stopped --resume").code == 0
    assert seen == straight
    assert len(seen) == 6
    assert len({json.dumps(ids) for _, ids in seen}) == 6
    assert position == straight[5][0]
    assert all(isinstance(value, int) for value in position.values())
    assert len(position) == (8 if "land" in data else 4)
    weights = [(tmp_path / run / "last/model.safetensors").read_bytes() for run in ("stopped", "straight")]
    assert weights[0] == weights[1]


DEADLY = """
import os, signal, sys
from bothways.cli import main
from bothways.training import fitting

take_step = fitting.Fitting.take_step

def die_in_the_fourth(fitting):
    if fitting.step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return take_step(fitting)

fitting.Fitting.take_step = die_in_the_fourth
main(sys.argv[1:])
"""


def test_a_mixture_that_was_killed_ends_as_if_it_never_was(tmp_path):
    words = shlex.split(f"pretrain {BERT} {MIXTURE} --out {tmp_path}/killed")
    killed = subprocess.run([sys.executable, "-c", DEADLY, *words], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert "going on from step 3" in Said(shlex.join([*words, "--resume"])).err
    weights = [(folder / "last/model.safetensors").read_bytes() for folder in (tmp_path / "killed", Path("straight"))]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("change", "allowed", "anew"),
    [
        ("--data edited:1 --data land:2", "data", True),
        ("--data sea:1 --data land:3", "data", True),
        ("--data sea", "data", True),
        (f"{MIXTURE} --set seed=1", "seed", True),
        (f"{MIXTURE} --set training.learning_rate=0.5", "training.learning_rate", False),
        (f"{MIXTURE} --set training.batch_tokens=512", "training.batch_tokens", False),
        (f"{MIXTURE} --set objective.sequence_length=24", "objective.sequence_length", True),
        (f"{MIXTURE} --set objective.mask_share=0.3", "objective.mask_share", False),
        (f"{MIXTURE} --set model.hidden_dropout=0.2", "model.hidden_dropout", False),
    ],
)
def test_another_text_is_read_from_its_beginning(run, seen, change, allowed, anew):
    done = Said(f"pretrain {BERT} {change} --out {run} --resume --allow-change {allowed}")
    assert done.code == 0, done.err
    assert ("The text is read from its beginning" in done.err) == anew
    position = seen[0][0]
    state = state_of(Path("run"))
    beginning = {name: state["step"] if name == "step" else 0 for name in position}
    assert position == (beginning if anew else state["position"])


# The best model, where what it is chosen by has changed


def with_best(run, value):
    """Let the newest checkpoint of a run remember a best held-out loss, and return the best model's weights."""
    newest = run / "checkpoints" / "step-3"
    state = json.loads((newest / "state.json").read_text())
    (newest / "state.json").write_text(json.dumps({**state, "best": value}))
    (newest / "manifest.json").unlink()
    write_manifest(newest)
    return (run / "best" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("change", "allowed", "anew"),
    [
        ("--data edited:1 --data land:2", "data", True),
        (f"{MIXTURE} --set objective.mask_share=0.3", "objective.mask_share", True),
        (f"{MIXTURE} --set training.steps=60", "training.steps", True),  # more steps are measured on more text
        (f"{MIXTURE} --set training.learning_rate=0.5", "training.learning_rate", False),
    ],
)
def test_the_best_model_by_other_evaluations_does_not_win_against_those_to_come(run, change, allowed, anew):
    old = with_best(run, 0.001)
    done = Said(f"pretrain {BERT} {change} --out {run} --resume --allow-change {allowed}")
    assert done.code == 0, done.err
    assert ("best/ was chosen by other evaluations" in done.err) == anew
    places = [run / name / "model.safetensors" for name in ("best", "best-until-step-3")]
    state = state_of(run)
    if not anew:
        assert places[0].read_bytes() == old
        assert not places[1].exists()
        assert state["best"] == 0.001
        return
    assert places[1].read_bytes() == old
    assert places[0].read_bytes() != old
    assert state["best"] == min(figures["loss"] for figures in state["evaluations"])
    assert min(figures["step"] for figures in state["evaluations"]) > 3
    (summary,) = bothways.runs(run).runs
    assert summary.best == state["best"]


def test_an_old_best_model_does_not_stand_for_a_run_whose_text_now_holds_nothing_out(run, tmp_path):
    options = {"tokenizer": "sea", "workers": 1, "validation_share": 0, "settings": ["deduplication.near=false"]}
    bothways.prepare("land-texts", out=tmp_path / "all", **options)
    old = with_best(run, 0.001)
    done = Said(f"pretrain {BERT} --data {tmp_path}/all --out {run} --resume --allow-change data")
    assert done.code == 0, done.err
    assert "it is kept as best-until-step-3/" in done.err
    assert (run / "best-until-step-3" / "model.safetensors").read_bytes() == old
    assert not (run / "best").exists()
    assert resolve(run) == run / "last"


def test_a_finished_run_keeps_its_best_model_whatever_is_said_about_its_text(run):
    words = f"pretrain {BERT} --out {run} --resume"
    assert Said(f"{words} {MIXTURE}").code == 0
    best = contents(run / "best")
    done = Said(f"{words} --data edited:1 --data land:2 --allow-change data")
    assert done.code == 2
    assert "has taken all of its 6 steps" in done.err
    assert contents(run / "best") == best

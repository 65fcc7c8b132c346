"""What a run leaves to look at: curves drawn while it goes on and when it is stopped, a card, Weights & Biases."""

import json
import os
import random
import signal

import pytest

import bothways
from bothways.errors import UserError
from bothways.training.interruption import Interrupted
from bothways.verbs import pretrain as verb

SMALL = [
    *("model.hidden_size=16", "model.num_hidden_layers=1", "model.num_attention_heads=2", "model.intermediate_size=32"),
    *("model.max_position_embeddings=64", "training.row_length=64", "training.batch_tokens=256"),
    *("training.micro_batch_tokens=128", "training.steps=6"),
]


@pytest.fixture(scope="module")
def books(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("work"), random.Random(0)
    (folder / "texts").mkdir()
    for number in range(30):
        words = rng.choices(("river", "mountain", "engine", "kernel", "garden"), k=80)
        (folder / "texts" / f"{number:02}.txt").write_text(" ".join(words) + ".", encoding="utf-8")
    options = {"vocab_size": 280, "workers": 1, "validation_share": 0.1, "settings": ["deduplication.near=false"]}
    bothways.prepare(folder / "texts", out=folder / "books", **options)
    return folder / "books"


def test_curves_are_drawn_at_every_save_and_when_a_run_is_stopped(books, tmp_path, monkeypatch):
    drawn = []

    def plot(_, *, pictures=("loss.svg", "loss.png")):
        drawn.append(tuple(pictures))
        if len(drawn) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(verb, "plot_run", plot)
    with pytest.raises(Interrupted):
        bothways.pretrain("gpt-tiny", data=books, out=tmp_path / "gpt", settings=[*SMALL, "training.save_every=2"])
    assert drawn == [("loss.svg",)] * 2 + [("loss.svg", "loss.png")]  # after steps 2 and 4, and at last both


def test_a_run_leaves_its_curves_and_a_card_with_data_and_cost(books, tmp_path):
    bothways.pretrain("gpt-tiny", data=books, out=tmp_path / "gpt", settings=SMALL)
    assert (tmp_path / "gpt/loss.svg").is_file()
    assert (tmp_path / "gpt/loss.png").is_file()
    card = (tmp_path / "gpt/README.md").read_text(encoding="utf-8")
    manifest = json.loads((books / "manifest.json").read_text())
    assert f"| documents | {manifest['splits']['train']['documents']} |" in card
    assert f"| fingerprint | {manifest['fingerprint']} |" in card
    assert "kg CO2 equivalent" in card


@pytest.mark.parametrize("call", ["pretrain", "finetune"])
def test_without_its_package_weights_and_biases_is_refused_before_any_work(tmp_path, monkeypatch, call):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    options = {"data": "nowhere"} if call == "pretrain" else {"model": "nowhere", "train": "nowhere"}
    with pytest.raises(UserError, match=r"bothways\[wandb\]"):
        getattr(bothways, call)("gpt-tiny", out=tmp_path / "run", wandb="trial", **options)
    assert not (tmp_path / "run").exists()

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bothways import progress
from bothways.checkpoints.checkpoint import Loaded, checkpoints_in, load, save_checkpoint
from bothways.errors import UserError
from bothways.finetuning import Finetuning, finetune_model, render_all, with_length
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.tasks.classification import Classification
from bothways.tasks.retrieval import Retrieval
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.training import fitting
from bothways.training.config import TrainingConfig
from bothways.training.trainer import Run

GOOD, BAD = ("lovely", "brilliant", "moving"), ("dull", "awful", "tedious")
NEUTRAL = ("the", "film", "plot", "actor", "scene", "music", "was", "and", "story")


def make_examples(count, seed=0):
    draw = np.random.default_rng(seed)
    examples = []
    for number in range(count):
        telling = draw.choice(GOOD if number % 2 else BAD)
        words = [*draw.choice(NEUTRAL, size=int(draw.integers(3, 9))), telling]
        draw.shuffle(words)
        examples.append({"text": " ".join(words), "label": "good" if number % 2 else "bad"})
    return examples


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tokenizer():
    texts = [" ".join((*GOOD, *BAD, *NEUTRAL))] * 9
    return Tokenizer.train(texts, kind="wordpiece", vocab_size=90)


@pytest.fixture
def loaded(tmp_path, tokenizer):
    """Return a small untrained classifier, as a checkpoint gives it."""
    config = TransformerConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=32,
        attention="bidirectional",
        pooling="mean",
        hidden_dropout=0.1,
    )
    model = Model(config, {"classification": 2})
    save_checkpoint(tmp_path / "start", model, tokenizer=tokenizer, labels=("bad", "good"))
    return load(tmp_path / "start")


@pytest.fixture
def task():
    return Classification(labels=("bad", "good"), max_length=16)


def settings(**changes):
    training = {"steps": 0, "learning_rate": 5e-3, "schedule": "linear", "warmup_share": 0.1, "precision": "fp32"}
    training |= changes.pop("training", {})
    return Finetuning(training=TrainingConfig(**training), **{"epochs": 6.0, "batch_size": 16, **changes})


def test_examples_are_learnt_and_others_are_answered(loaded, task):
    held_out = make_examples(60, seed=1)
    trained = finetune_model(task, loaded, make_examples(200), settings=settings(), validation=held_out)
    assert trained.steps == 6 * 13
    predictions = task.predict(loaded, held_out)
    assert task.measure(predictions, held_out)["accuracy"] > 0.95
    assert trained.evaluations[-1]["accuracy"] == task.measure(predictions, held_out)["accuracy"]


@pytest.mark.parametrize(("epochs", "steps", "expected"), [(1.0, 0, 3), (2.5, 0, 8), (0.01, 0, 1), (100.0, 4, 4)])
def test_epochs_become_steps_unless_these_are_given(loaded, task, epochs, steps, expected):
    chosen = settings(epochs=epochs, training={"steps": steps})
    assert finetune_model(task, loaded, make_examples(40), settings=chosen).steps == expected


def test_the_checkpoint_that_answers_best_is_kept(loaded, task, tmp_path):
    held_out = make_examples(20, seed=1)
    run = Run(folder=tmp_path / "run", tokenizer=loaded.tokenizer, labels=task.labels)
    chosen = settings(training={"evaluate_every": 3})
    trained = finetune_model(task, loaded, make_examples(60), settings=chosen, validation=held_out, run=run)
    best = load(tmp_path / "run" / "best")
    accuracies = [evaluation["accuracy"] for evaluation in trained.evaluations]
    assert len(accuracies) == 24 / 3
    assert task.measure(task.predict(best, held_out), held_out)["accuracy"] == max(accuracies)
    assert best.labels == ("bad", "good")


def test_after_every_epoch_it_is_saved_and_the_best_is_chosen(loaded, task, tmp_path):
    held_out = make_examples(20, seed=1)
    run = Run(folder=tmp_path / "run", tokenizer=loaded.tokenizer, labels=task.labels)
    chosen = settings(epochs=3.0, training={"keep": 10})
    trained = finetune_model(task, loaded, make_examples(40), settings=chosen, validation=held_out, run=run)
    assert [evaluation["step"] for evaluation in trained.evaluations] == [3, 6, 9]
    assert [folder.name for folder in checkpoints_in(tmp_path / "run")] == ["step-3", "step-6", "step-9"]
    accuracies = [evaluation["accuracy"] for evaluation in trained.evaluations]
    assert trained.best == trained.evaluations[accuracies.index(max(accuracies))]


@pytest.mark.parametrize("name", ["batch_tokens", "row_length", "batch_ramp_share", "length_ramp_share"])
def test_settings_of_pretraining_are_refused(name):
    Finetuning().check_used()
    value = 0.5 if name.endswith("share") else 512
    with pytest.raises(UserError, match=f"training.{name} is for pretraining alone; when fine-tuning, "):
        Finetuning().override([f"training.{name}={value}"]).check_used()


def test_they_are_refused_when_a_model_is_fine_tuned(task, loaded):
    with pytest.raises(UserError, match="row_length is for pretraining alone"):
        finetune_model(task, loaded, make_examples(4), settings=Finetuning().override(["training.row_length=512"]))


@pytest.mark.parametrize("calls", [3, 14])
def test_an_interrupted_run_goes_on_exactly(loaded, task, tmp_path, monkeypatch, calls):
    examples, start = make_examples(50), loaded.folder
    chosen = settings(epochs=4.0, training={"save_every": 4})

    def fit(name):
        again = load(start)
        run = Run(folder=tmp_path / name, tokenizer=again.tokenizer, labels=task.labels)
        finetune_model(task, again, examples, settings=chosen, run=run, resume=True)
        return again.model.state_dict()

    whole = fit("whole")
    left = iter(range(calls))
    take_step = fitting.Fitting.take_step

    def cut(fitting):
        if next(left, None) is None:
            raise ZeroDivisionError
        return take_step(fitting)

    with monkeypatch.context() as patch:
        patch.setattr(fitting.Fitting, "take_step", cut)
        with pytest.raises(ZeroDivisionError):
            fit("cut")
    assert all(torch.equal(weight, whole[name]) for name, weight in fit("cut").items())


@pytest.mark.parametrize("dropout", [0.0, 0.1])  # without it, only the order of the examples is drawn
def test_the_same_seed_gives_the_same_model(loaded, task, dropout):
    results = []
    for seed in (0, 0, 1):
        model = Model(replace(loaded.model.config, hidden_dropout=dropout), {"classification": 2})
        model.load_state_dict(loaded.model.state_dict())
        again = replace(loaded, model=model)
        finetune_model(task, again, make_examples(40), settings=settings(epochs=1.0, seed=seed))
        results.append(again.model.state_dict())
    same = [all(torch.equal(value, results[0][name]) for name, value in result.items()) for result in results]
    assert same == [True, True, False]


def test_a_step_is_split_where_it_is_too_large_for_one_pass(loaded, task, monkeypatch):
    seen = []
    next_work = fitting.next_work

    def watch(*arguments):
        work = next_work(*arguments)
        seen.append(len(work.batches))
        return work

    monkeypatch.setattr(fitting, "next_work", watch)
    chosen = settings(epochs=1.0, batch_size=40, training={"micro_batch_tokens": 64})
    finetune_model(task, loaded, make_examples(40), settings=chosen)
    assert seen[0] > 1
    pairs = [{"query": f"the {word} film", "document": f"a {word} plot"} for word in (*GOOD, *BAD)] * 6
    model = Model(replace(loaded.model.config, pooling="mean"), {"embedding": 0})
    seen.clear()
    finetune_model(Retrieval(), replace(loaded, model=model), pairs, settings=chosen)
    assert seen == [1]  # all pairs of a step meet


def test_what_is_cut_off_is_said(loaded, task, capsys):
    examples = [*make_examples(3), {"text": "the film " * 20, "label": "good"}]
    with progress.display():
        rows = render_all(task, loaded, examples)
    assert [len(row) <= 16 for row in rows] == [True] * 4
    omitted, read = len(loaded.tokenizer.encode("the film " * 20)) - 14, sum(map(len, rows))
    assert f"Cut off: {omitted} tokens of 1 of 4 examples, which are too long; {read} tokens are read" in (
        capsys.readouterr().err
    )
    with progress.display():
        render_all(task, loaded, make_examples(3))
    assert capsys.readouterr().err == ""


def test_no_examples_are_refused(loaded, task):
    with pytest.raises(UserError, match="there is not one training example"):
        finetune_model(task, loaded, [], settings=settings())


def test_a_model_without_a_tokenizer_is_refused(loaded, task):
    bare = Loaded(**{**vars(loaded), "tokenizer": None})
    with pytest.raises(UserError, match="this model comes without a tokenizer"):
        finetune_model(task, bare, make_examples(4), settings=settings())


def test_the_length_of_examples_can_be_set(task):
    assert with_length(task, settings(max_length=8)).max_length == 8
    assert with_length(task, settings()) is task

    class Endless:
        """A task that reads everything."""

    with pytest.raises(UserError, match="the task classification has no max_length"):
        with_length(Endless(), settings(max_length=8))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0.0),
        ("epochs", -1.0),
        ("epochs", math.nan),
        ("epochs", math.inf),
        ("epochs", 10_001.0),
        ("batch_size", 0),
        ("max_length", 3),
        ("seed", -1),
        ("seed", 2**32),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(name, value):
    with pytest.raises(UserError, match=rf"^{name} must be .*, not {value}$"):
        Finetuning(**{name: value})


def test_settings_survive_a_file(tmp_path):
    chosen = Finetuning().override(["epochs=5", "training.learning_rate=1e-3", "max_length=64", "task=retrieval"])
    chosen.save(tmp_path / "finetuning.json")
    assert Finetuning.load(tmp_path / "finetuning.json") == chosen
    assert (chosen.epochs, chosen.training.learning_rate, chosen.max_length) == (5, 1e-3, 64)

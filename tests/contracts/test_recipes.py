"""What holds for every recipe, a new one included: it survives JSON, and takes two steps with a small model."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bothways import discover
from bothways.checkpoints.checkpoint import load
from bothways.experiment import Experiment, load_experiment, make_batches, make_evaluator, make_objective
from bothways.model.heads import Model
from bothways.recipes.recipe import recipe, recipe_names
from bothways.text.encoding import Encoder
from bothways.text.shards import gather
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.training.trainer import Run, Trainer

LARGE = 1_000_000  # parameters
VOCABULARY = {"bpe": 300, "wordpiece": 120}


@pytest.fixture(params=recipe_names())
def name(request):
    return request.param


@pytest.fixture
def experiment(name):
    return recipe(name)


@pytest.fixture(scope="module")
def texts():
    draw = np.random.default_rng(0)
    words = ["".join(draw.choice(list("abcdefghij"), size=3)) for _ in range(60)]
    sentences = [" ".join(draw.choice(words, size=8)).capitalize() + "." for _ in range(400)]
    return [" ".join(sentences[start : start + 8]) for start in range(0, 400, 8)]


@pytest.fixture(scope="module")
def prepared(texts):
    """Return, for each kind of tokenizer, a trained one and the corpus in its tokens."""
    tokenizers = {kind: Tokenizer.train(texts, kind=kind, vocab_size=size) for kind, size in VOCABULARY.items()}
    return {kind: (each, gather(Encoder(each).encode(texts))) for kind, each in tokenizers.items()}


def shrunk(experiment):
    """Return the experiment with a small model where its own is large, and steps of one row."""
    model, training = experiment.model, experiment.training
    small = replace(model, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)
    with torch.device("meta"):
        large = Model(model, {"language_model": 0}).num_parameters() > LARGE
    rows = 16 if model.hybrid else 1  # of a hybrid some of each kind
    return replace(
        experiment,
        model=small if large else model,
        training=replace(training, steps=2, batch_tokens=rows * training.row_length, precision="fp32", save_every=1),
    )


def test_it_survives_json(experiment, tmp_path):
    assert isinstance(experiment, Experiment)
    assert Experiment.from_dict(json.loads(json.dumps(experiment.to_dict()))) == experiment
    experiment.save(tmp_path / "experiment.json")
    assert load_experiment(tmp_path) == experiment


def test_it_is_the_same_whenever_it_is_asked_for_and_named_once(name, experiment):
    assert recipe(name) == experiment
    files = [module for module in discover.names("recipes") if name in discover.find("recipes", module).RECIPES]
    assert len(files) == 1


def test_any_setting_can_be_overridden(experiment):
    changed = experiment.override(["seed=7", "model.num_hidden_layers=1", "training.learning_rate=1e-3"])
    assert (changed.seed, changed.model.num_hidden_layers, changed.training.learning_rate) == (7, 1, 1e-3)
    assert replace(changed, seed=0, model=experiment.model, training=experiment.training) == experiment


def test_it_takes_two_steps_and_can_be_opened_again(experiment, prepared, tmp_path):
    torch.set_num_threads(1)
    tokenizer, corpus = prepared[experiment.tokenizer]
    small = shrunk(experiment.fitted_to(tokenizer))
    objective = make_objective(small, tokenizer)
    batches = make_batches(small, objective, corpus)
    torch.manual_seed(0)
    model = Model(small.model, objective.heads)
    before = {weight: value.clone() for weight, value in model.state_dict().items()}
    evaluate = make_evaluator(small, objective, corpus, tokens=200)
    run = Run(folder=tmp_path, tokenizer=tokenizer)
    trained = Trainer(small.training, small.optimizer, run=run, evaluate=evaluate).fit(model, batches, objective)
    assert trained.steps == 2
    assert all(math.isfinite(value) for record in (*trained.curve, *trained.evaluations) for value in record.values())
    assert trained.curve[0]["loss"] == pytest.approx(
        math.log(len(tokenizer)) + (objective.pair_weight * math.log(2) if "next_sentence" in objective.heads else 0),
        abs=0.4,
    )
    changed = [weight for weight, value in model.state_dict().items() if not torch.equal(value, before[weight])]
    assert changed == list(before)
    loaded = load(tmp_path)
    assert loaded.model.config == small.model
    assert all(torch.equal(value, model.state_dict()[weight]) for weight, value in loaded.model.state_dict().items())
    assert loaded.tokenizer.encode("abc def") == tokenizer.encode("abc def")

import json

import pytest

from bothways.advise import sizing
from bothways.config import read_json
from bothways.errors import UserError
from bothways.recipes.recipe import recipe
from bothways.verbs.plan import plan
from bothways.verbs.prepare import prepare

TINY = (
    "model.hidden_size=16",
    "model.num_hidden_layers=1",
    "model.num_attention_heads=2",
    "model.intermediate_size=24",
    "training.batch_tokens=512",
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("bothways.advise.plan.TRIAL_SECONDS", 0.05)
    monkeypatch.setattr(sizing, "TRIAL_SECONDS", 0.05)


@pytest.fixture(scope="module")
def data(texts, tmp_path_factory):
    return prepare([texts], out=tmp_path_factory.mktemp("plan") / "data", vocab_size=400).folder


def test_a_recipe_is_planned_with_the_settings_of_the_user(data):
    found = plan("gpt-tiny", data=data, settings=[*TINY, "training.steps=7"])
    assert found.recipe == "gpt-tiny"
    assert found.plan.steps == 7
    assert found.plan.tokens == 7 * 512
    assert found.experiment.model.vocab_size == 400  # the data's
    assert found.experiment.model.hidden_size == 16
    assert found.plan.epochs == pytest.approx(
        7 * 512 / read_json(data / "manifest.json")["splits"]["train"]["tokens"], abs=1e-3
    )
    assert found.expected is not None
    assert found.candidates == ()
    assert json.loads(json.dumps(found.to_dict()))["recipe"] == "gpt-tiny"


def test_a_family_is_planned_with_the_size_that_is_chosen(data):
    found = plan("gpt", data=data, minutes=0.05, settings=TINY[:-1])
    assert found.recipe.startswith("gpt-")
    assert found.recipe in [each.recipe for each in found.candidates]
    assert found.reasons[0].startswith(found.recipe)
    chosen = next(each for each in found.candidates if each.recipe == found.recipe)
    assert found.experiment.training.batch_tokens == chosen.batch_tokens
    assert (found.plan.steps, found.plan.tokens) == (chosen.steps, chosen.tokens), "both tables say the same"
    assert found.hours == pytest.approx(0.05 / 60)


def test_an_experiment_and_its_file_are_planned_too(data, tmp_path):
    experiment = recipe("gpt-tiny").override([*TINY, "training.steps=3"])
    experiment.save(tmp_path / "experiment.json")
    for given in (experiment, str(tmp_path / "experiment.json"), str(tmp_path)):
        found = plan(given, data=data)
        assert found.plan.steps == 3
        assert found.expected is None  # whose law it would be is not known


def test_nothing_is_written(data):
    before = sorted((path, path.stat().st_mtime_ns) for path in data.iterdir())
    plan("gpt-tiny", data=data, settings=[*TINY, "training.steps=2"])
    assert sorted((path, path.stat().st_mtime_ns) for path in data.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gpt-tony", {}, "unknown recipe 'gpt-tony'.*Did you mean 'gpt-tiny'"),
        ("gpt", {}, "gpt is a family.*--minutes"),
        ("gpt-tiny", {"settings": ["training.step=3"]}, "unknown setting 'training.step'"),
        ("gpt-tiny", {"settings": ["model.hidden_size=97"]}, "must be a multiple of model.num_attention_heads"),
        ("gpt-tiny", {"settings": ["training.steps=3"], "minutes": 1}, "give one of them"),
        ("gpt-tiny", {"settings": ["training.steps=0"]}, "training.steps is 0"),
        ("gpt-tiny", {"minutes": 0}, "--minutes must be above 0"),
    ],
)
def test_what_cannot_be_planned_is_said_in_a_sentence(data, name, options, message):
    with pytest.raises(UserError, match=message):
        plan(name, data=data, **options)


@pytest.mark.parametrize(("name", "minutes"), [("gpt-tiny", None), ("gpt", 1)])
def test_text_that_was_prepared_for_another_kind_of_model_is_refused_with_the_way_out(texts, tmp_path, name, minutes):
    other = prepare([texts], out=tmp_path / "data", tokenizer="wordpiece", vocab_size=150).folder
    with pytest.raises(UserError, match=r"prepare the text for .* with --tokenizer bpe"):
        plan(name, data=other, minutes=minutes)


def test_data_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        plan("gpt-tiny", data=tmp_path / "nowhere")

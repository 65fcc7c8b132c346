import json
import math
from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from bothways.advise import forecast as module
from bothways.advise.forecast import forecast
from bothways.advise.forecast_words import (
    CANDIDATE_COLUMNS,
    GPU_COLUMNS,
    candidate_rows,
    gpu_rows,
    in_time,
    main_rows,
    sentences,
)
from bothways.advise.hardware import GPUS, PRICES_NOTED
from bothways.advise.law import law_of
from bothways.advise.plan import RESERVE, plan_steps
from bothways.advise.sizing import Candidate, Choice, expected_loss
from bothways.errors import UserError
from bothways.experiment import Experiment
from bothways.model.config import TransformerConfig
from bothways.objectives.causal_lm import CausalLM
from bothways.training.config import TrainingConfig

OBJECTIVE = CausalLM(bos_id=1, eos_id=2)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr("bothways.advise.plan.TRIAL_SECONDS", 0.05)


@pytest.fixture(scope="module")
def corpus(make_corpus):
    return make_corpus(20, 500, num_bytes=1500)


@pytest.fixture
def experiment():
    model = TransformerConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24
    )
    return Experiment(model=model, training=TrainingConfig(steps=300, batch_tokens=1000, row_length=100))


def told(experiment, corpus, **options):
    return forecast("gpt-x", experiment, OBJECTIVE, corpus, **{"family": "gpt", **options})


def words(found):
    return " ".join(f"{name}: {value}." for name, value in main_rows(found)) + " ".join(sentences(found))


@pytest.mark.parametrize(("steps", "said"), [(300, False), (3000, True)])
@pytest.mark.usefixtures("where_long_runs_compile")
def test_it_says_that_the_trial_was_not_compiled_where_the_run_is(experiment, corpus, steps, said):
    found = told(replace(experiment, training=replace(experiment.training, steps=steps)), corpus)
    assert any(sentence.startswith("The run compiles its layers") for sentence in sentences(found)) == said


def test_the_plan_is_that_of_the_run(experiment, corpus):
    found = told(experiment, corpus)
    planned = plan_steps(experiment, OBJECTIVE, corpus, minutes=None)
    assert replace(found.plan, seconds_per_step=None) == planned
    assert found.plan.seconds_per_step == pytest.approx(found.speed.seconds_per_step, abs=1e-4)
    assert found.plan.epochs == 30
    assert found.flops == pytest.approx(300 * found.workload.model_flops)
    assert found.hours == pytest.approx(300 * found.speed.seconds_per_step / 3600)
    assert found.cost.hours == pytest.approx(found.hours)
    assert found.cost.flops == found.flops


def test_the_speed_is_measured(experiment, corpus):
    speed = told(experiment, corpus).speed
    assert speed.tried_tokens == 1000
    assert speed.tokens_per_second == pytest.approx(1000 / speed.seconds_per_step)
    assert 0 < speed.share_of_peak < 1
    assert speed.share_of_peak == pytest.approx(speed.flops_per_second / speed.peak)


def test_a_budget_is_kept(experiment, corpus):
    found = told(experiment, corpus, minutes=0.5)
    spent = found.plan.steps * found.speed.seconds_per_step
    assert spent <= 30 * (1 - RESERVE) < spent + 2 * found.speed.seconds_per_step
    assert found.hours == pytest.approx(0.5 / 60)
    assert found.experiment.training.steps == found.plan.steps
    assert found.plan.minutes == 0.5
    for minutes, message in ((1e-9, "1e-09 minutes will not do for one step"), (-1, "above 0"), (math.nan, "above 0")):
        with pytest.raises(UserError, match=message):
            told(experiment, corpus, minutes=minutes)


def test_the_loss_is_that_of_the_law(experiment, corpus):
    found = told(experiment, corpus)
    law = law_of("gpt")
    assert found.expected.loss == expected_loss(law, found.plan.parameters, found.plan.tokens, corpus)
    assert found.expected.bits_per_byte == pytest.approx(found.expected.loss / math.log(2) / 3)  # 3 bytes a token
    assert found.expected.source == law.source
    unknown = told(experiment, corpus, family=None)
    assert unknown.expected is None
    assert "No loss is foretold" in words(unknown)
    assert "expected loss" not in dict(main_rows(unknown))


def test_what_does_not_fit_is_not_tried(experiment, corpus, monkeypatch):
    fits = told(experiment, corpus)
    assert fits.memory.fits
    assert fits.memory.measured > 50 * 2**20  # Python and torch alone
    monkeypatch.setattr(module, "memory_here", lambda _: 10 * 2**20)
    monkeypatch.setattr(module, "try_steps", lambda *_, **__: pytest.fail("it was tried"))
    found = told(experiment, corpus)
    assert not found.memory.fits
    assert found.memory.measured is None
    assert found.speed.tried_tokens == 0
    assert found.speed.share_of_peak < 0.4  # the optimizer's share is not the model's
    assert "does not fit into the memory of this machine" in words(found)
    assert "Nothing was tried" in words(found)


def test_all_named_gpus_are_there(experiment, corpus):
    found = told(experiment, corpus)
    assert [each.gpu for each in found.gpus] == [gpu.name for gpu in GPUS]
    rows = gpu_rows(found)
    assert {len(row) for row in rows} == {len(GPU_COLUMNS)}
    said = words(found)
    assert PRICES_NOTED in said
    assert "prices vary" in said
    assert "50% of the peak compiled to 40% eager" in said
    assert "Too small to keep busy" in said


def test_a_forecast_is_frozen_and_plain_when_asked(experiment, corpus):
    found = told(experiment, corpus)
    with pytest.raises(FrozenInstanceError):
        found.recipe = "other"
    values = json.loads(json.dumps(found.to_dict()))
    assert values["plan"]["steps"] == 300
    assert values["memory"]["computed"]["total"] == found.memory.computed.total
    assert values["experiment"]["training"]["steps"] == 300
    assert values["gpus"][0]["gpu"] == "T4"
    assert values["cost"]["kwh"] == found.cost.kwh
    assert set(values) >= {"recipe", "machine", "speed", "disk", "expected", "hours", "flops", "reasons"}


def test_the_words_have_the_figures(experiment, corpus):
    found = told(experiment, corpus)
    rows = dict(main_rows(found))
    assert rows["steps"] == "300 of 1,000 tokens"
    assert rows["tokens"].startswith("300,000")
    assert rows["epochs"] == "30"
    assert f"{found.plan.parameters:,}" in rows["weights"]
    assert "(1 layer of 16," in rows["weights"]
    assert "The text is read 30.0 times" in words(found)
    assert "The expected loss comes from" in words(found)
    assert candidate_rows(found) == []


def test_a_choice_is_shown_with_its_reasons(experiment, corpus):
    small = Candidate(
        recipe="gpt-tiny",
        parameters=1_229_664,
        batch_tokens=2048,
        steps=10,
        tokens=20480,
        epochs=0.5,
        tokens_per_second=1234.0,
        measured=True,
        loss=4.321,
        fits=True,
    )
    large = replace(small, recipe="gpt-base", measured=False, fits=False)
    choice = Choice(
        recipe="gpt-tiny",
        settings=(),
        reasons=("because",),
        candidates=(small, large),
        trial_seconds=1.0,
        seconds_per_step=0.25,
    )
    found = told(experiment, corpus, choice=choice)
    assert sentences(found)[0] == "because"
    assert found.speed.seconds_per_step == 0.25, "what was measured for the choice is not measured again"
    first, second = candidate_rows(found)
    assert len(first) == len(second) == len(CANDIDATE_COLUMNS)
    assert first == ("gpt-tiny", "1.2 M", "20,480", "0.5", "1,234", "4.321")
    assert second[-2:] == ("1,234 (reckoned)", "does not fit into the memory")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.23, "1.2 s"), (42, "42 s"), (600, "10 min"), (7200, "2.0 h"), (10 * 86400, "10.0 days")],
)
def test_times_have_the_unit_that_suits_them(seconds, text):
    assert in_time(seconds) == text

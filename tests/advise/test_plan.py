import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from bothways.advise.plan import RESERVE, Plan, measure_step, plan_steps
from bothways.errors import UserError
from bothways.experiment import Experiment
from bothways.model.config import TransformerConfig
from bothways.objectives.causal_lm import CausalLM
from bothways.text.shards import EncodedDocument, gather
from bothways.training.config import TrainingConfig

OBJECTIVE = CausalLM(bos_id=1, eos_id=2)
PARAMETERS = 40 * 16 + 4 * 16**2 + 3 * 16 * 24 + 3 * 16


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def corpus():
    draw = np.random.default_rng(0)
    return gather(
        EncodedDocument(input_ids=draw.integers(4, 40, size=50), sentence_starts=np.array([0]), num_bytes=50)
        for _ in range(20)
    )


@pytest.fixture
def experiment():
    model = TransformerConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24
    )
    return Experiment(model=model, training=TrainingConfig(steps=30, batch_tokens=250, row_length=100))


def test_given_steps_are_taken_without_measuring(experiment, corpus):
    assert plan_steps(experiment, OBJECTIVE, corpus, minutes=None) == Plan(
        steps=30,
        seconds_per_step=None,
        tokens=30 * 200,  # two rows of a hundred fit a step
        tokens_per_parameter=round(6000 / PARAMETERS, 3),
        epochs=6.0,
        parameters=PARAMETERS,
        minutes=None,
    )


def test_of_several_corpora_the_one_that_is_seen_most_often_gives_the_epochs(experiment, corpus):
    """Each has 1000 tokens, and the run sees 6000."""
    assert plan_steps(experiment, OBJECTIVE, [(corpus, 1), (corpus, 3)], minutes=None).epochs == 4.5
    assert plan_steps(experiment, OBJECTIVE, [(corpus, 0.5), (corpus, 0.5)], minutes=None).epochs == 3.0
    assert measure_step(experiment, OBJECTIVE, [(corpus, 1), (corpus, 3)], trial_seconds=0.05) > 0


def test_a_step_has_at_least_one_row(experiment, corpus):
    small = replace(experiment, training=replace(experiment.training, batch_tokens=1))
    assert plan_steps(small, OBJECTIVE, corpus, minutes=None).tokens == 30 * 100


def test_a_budget_becomes_the_steps_that_fit_it(experiment, corpus, monkeypatch):
    monkeypatch.setattr("bothways.advise.plan.measure_step", lambda *_: 0.25)
    plan = plan_steps(experiment, OBJECTIVE, corpus, minutes=2)
    assert plan.steps == int(120 * (1 - RESERVE) / 0.25)
    assert (plan.seconds_per_step, plan.minutes) == (0.25, 2)


def test_a_plan_survives_a_file(experiment, corpus, tmp_path):
    plan = plan_steps(experiment, OBJECTIVE, corpus, minutes=None)
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan


def test_a_step_is_really_measured(experiment, corpus):
    start = time.perf_counter()
    seconds = measure_step(experiment, OBJECTIVE, corpus, trial_seconds=0.1)
    assert 1e-5 < seconds < time.perf_counter() - start
    larger = replace(experiment, training=replace(experiment.training, batch_tokens=10_000))
    assert measure_step(larger, OBJECTIVE, corpus, trial_seconds=0.1) > 2 * seconds


def test_planning_draws_no_random_numbers(experiment, corpus, monkeypatch):
    monkeypatch.setattr("bothways.advise.plan.TRIAL_SECONDS", 0.05)
    before = torch.get_rng_state()
    plan_steps(experiment, OBJECTIVE, corpus, minutes=None)
    measure_step(experiment, OBJECTIVE, corpus, trial_seconds=0.05)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("minutes", [0, -1, math.nan, math.inf, 1e9])
def test_a_budget_that_makes_no_sense_is_refused(experiment, corpus, minutes):
    with pytest.raises(UserError, match=r"--minutes must be above 0"):
        plan_steps(experiment, OBJECTIVE, corpus, minutes=minutes)


def test_a_budget_of_less_than_a_step_is_refused(experiment, corpus, monkeypatch):
    monkeypatch.setattr("bothways.advise.plan.measure_step", lambda *_: 90.0)
    with pytest.raises(UserError, match=r"1 minutes are not enough for one step, which takes 90.0 seconds here"):
        plan_steps(experiment, OBJECTIVE, corpus, minutes=1)

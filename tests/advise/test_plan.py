import math
import time
from dataclasses import replace

import pytest
import torch

from bothways.advise.plan import (
    COMPILING_SECONDS,
    MOST_STEPS,
    RESERVE,
    SHORTEST_TRIAL,
    Plan,
    Trial,
    measure_step,
    plan_steps,
    steps_in,
    trial_of,
    try_steps,
)
from bothways.advise.workload import workload_of
from bothways.errors import UserError
from bothways.experiment import Experiment, ObjectiveConfig
from bothways.model.config import TransformerConfig
from bothways.objectives.causal_lm import CausalLM
from bothways.progress import display
from bothways.training.config import TrainingConfig
from bothways.training.machine import FEWEST_COMPILED_STEPS
from bothways.training.run import Trained
from bothways.training.schedule import total_tokens

OBJECTIVE = CausalLM(bos_id=1, eos_id=2)
PARAMETERS = 40 * 16 + 4 * 16**2 + 3 * 16 * 24 + 3 * 16


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def corpus(make_corpus):
    return make_corpus(20, 50, num_bytes=50)


@pytest.fixture
def experiment():
    model = TransformerConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24
    )
    return Experiment(model=model, training=TrainingConfig(steps=30, batch_tokens=250, row_length=100))


def with_training(experiment, **settings):
    return replace(experiment, training=replace(experiment.training, **settings))


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
    assert plan_steps(with_training(experiment, batch_tokens=1), OBJECTIVE, corpus, minutes=None).tokens == 30 * 100


def test_a_budget_becomes_the_steps_that_fit_it(experiment, corpus, monkeypatch):
    monkeypatch.setattr("bothways.advise.plan.measure_step", lambda *_, **__: 0.25)
    plan = plan_steps(experiment, OBJECTIVE, corpus, minutes=2)
    assert plan.steps == int(120 * (1 - RESERVE) / 0.25)
    assert (plan.seconds_per_step, plan.minutes) == (0.25, 2)


@pytest.mark.parametrize(
    ("compile_", "minutes", "said"), [("auto", 5, True), ("auto", 1, False), ("on", 5, False), ("off", 5, False)]
)
@pytest.mark.usefixtures("where_long_runs_compile")
def test_a_plan_says_that_its_trial_was_not_compiled_where_the_run_is(
    experiment, corpus, monkeypatch, capsys, compile_, minutes, said
):
    monkeypatch.setattr("bothways.advise.plan.measure_step", lambda *_, **__: 0.25)
    with display():
        plan = plan_steps(with_training(experiment, compile=compile_), OBJECTIVE, corpus, minutes=minutes)
    assert (plan.steps >= FEWEST_COMPILED_STEPS) == (minutes == 5)
    assert len(plan.reasons) == said
    assert ("The run compiles its layers" in capsys.readouterr().err) == said


@pytest.mark.usefixtures("where_long_runs_compile")
@pytest.mark.parametrize(("growing", "lengths"), [(0.0, 1), (0.5, 3)])
def test_what_compiling_saves_becomes_steps(experiment, corpus, monkeypatch, growing, lengths):
    experiment = with_training(experiment, length_ramp_share=growing)
    monkeypatch.setattr("bothways.advise.plan.measure_step", lambda *_, **__: 0.25)
    monkeypatch.setattr("bothways.advise.plan.COMPILED_SHARE", {"cpu": 0.5, "cuda": 0.5})
    plan = plan_steps(experiment, OBJECTIVE, corpus, minutes=60)
    assert plan.steps == int((3600 * (1 - RESERVE) - lengths * COMPILING_SECONDS) / 0.125)
    assert plan.seconds_per_step == 0.125
    never = plan_steps(with_training(experiment, compile="off"), OBJECTIVE, corpus, minutes=60)
    assert never.steps == int(3600 * (1 - RESERVE) / 0.25)
    assert never.seconds_per_step == 0.25


def test_a_plan_asks_whether_the_compiler_works(experiment, corpus, monkeypatch):
    monkeypatch.setattr("bothways.advise.plan.measure_step", lambda *_, **__: 0.25)
    monkeypatch.setattr("bothways.advise.plan.wants_compiled", lambda *_, **__: True)
    monkeypatch.setattr("bothways.advise.plan.why_not_compiled_anywhere", lambda _: "a test")
    plan = plan_steps(experiment, OBJECTIVE, corpus, minutes=60)
    assert plan.steps == int(3600 * (1 - RESERVE) / 0.25)
    assert plan.reasons == ()


@pytest.mark.usefixtures("where_long_runs_compile")
def test_a_plan_without_a_trial_of_its_own_says_nothing_of_it(experiment, corpus):
    long = with_training(experiment, steps=5000)
    assert plan_steps(long, OBJECTIVE, corpus, minutes=None).reasons == ()
    assert plan_steps(long, OBJECTIVE, corpus, minutes=60, seconds_per_step=0.25).reasons == ()


def test_growing_batches_leave_time_for_more_steps(experiment):
    experiment = with_training(experiment, batch_tokens=200)
    workload = workload_of(experiment, OBJECTIVE, 1.0)
    even = steps_in(2, 0.25, experiment, workload)
    growing = with_training(experiment, batch_ramp_share=0.5)
    steps = steps_in(2, 0.25, growing, workload)
    share = total_tokens(replace(growing.training, steps=1000)) / (1000 * workload.tokens)
    assert share < 0.9
    # The optimizer's part of a step is as long in a small one.
    mean = (share * workload.model_flops + workload.optimizer_flops) / workload.flops
    assert even < steps == int(120 * (1 - RESERVE) / (0.25 * mean))
    assert share < mean - 0.01
    assert steps_in(9e6, 1e-9, growing, workload) == MOST_STEPS


def test_a_plan_survives_a_file(experiment, corpus, tmp_path):
    plan = plan_steps(experiment, OBJECTIVE, corpus, minutes=None)
    chosen = replace(
        plan, chosen_recipe="gpt-tiny", chosen_settings=("training.batch_tokens=4096",), reasons=("a", "b")
    )
    for each in (plan, chosen):
        each.save(tmp_path / "plan.json")
        assert Plan.load(tmp_path / "plan.json") == each


def test_a_plan_of_an_earlier_version_is_read(experiment, corpus):
    plan = plan_steps(experiment, OBJECTIVE, corpus, minutes=None)
    old = {name: value for name, value in plan.to_dict().items() if not name.startswith(("chosen", "reasons"))}
    assert Plan.from_dict(old) == plan


def test_a_step_is_really_measured(experiment, corpus):
    start = time.perf_counter()
    seconds = measure_step(experiment, OBJECTIVE, corpus, trial_seconds=0.1)
    assert 1e-5 < seconds < time.perf_counter() - start
    larger = with_training(experiment, batch_tokens=10_000)
    assert measure_step(larger, OBJECTIVE, corpus, trial_seconds=0.1) > 2 * seconds


def test_the_first_step_of_a_trial_is_left_out(experiment, corpus, monkeypatch):
    """It allocates memory that the others find there."""

    def fit(trainer, *_):
        steps = trainer.training.steps
        time.sleep(0.02)
        curve = [{"step": 1, "seconds": 5.0}]
        nothing = {"tokens": 0, "flops": 0.0, "evaluations": [], "best": {}, "warnings": [], "skipped": 0}
        return Trained(steps=steps, seconds=5 + 0.1 * (steps - 1), curve=curve, rewinds=0, **nothing)

    monkeypatch.setattr("bothways.advise.plan.Trainer.fit", fit)
    assert measure_step(experiment, OBJECTIVE, corpus, trial_seconds=0.05) == pytest.approx(0.1)


def test_a_step_is_measured_at_its_full_size(experiment, corpus, monkeypatch):
    seen = []

    def make_batches(tried, *_):
        seen.append(tried.training)
        raise UserError("enough")

    monkeypatch.setattr("bothways.advise.workload.make_batches", make_batches)
    growing = with_training(experiment, batch_ramp_share=0.5, length_ramp_share=0.5)
    with pytest.raises(UserError, match="enough"):
        measure_step(growing, OBJECTIVE, corpus)
    assert (seen[0].batch_ramp_share, seen[0].length_ramp_share) == (0, 0)


def test_steps_that_take_too_long_are_tried_with_fewer_tokens(experiment, corpus, monkeypatch):
    large = with_training(experiment, batch_tokens=100_000)
    workload = workload_of(large, OBJECTIVE, 1.0)
    small = trial_of(large, workload, affordable=workload.optimizer_flops + workload.model_flops / 10)
    assert small == with_training(large, batch_tokens=10_000)
    assert trial_of(large, workload, affordable=workload.flops) is large
    assert trial_of(large, workload, affordable=0).training.batch_tokens == 100  # a row
    long = with_training(large, row_length=400)
    shorter = trial_of(long, workload_of(long, OBJECTIVE, 1.0), affordable=0).training
    assert (shorter.batch_tokens, shorter.row_length) == (SHORTEST_TRIAL, SHORTEST_TRIAL)
    masked = replace(
        long,
        model=replace(long.model, attention="bidirectional"),
        objective=ObjectiveConfig(name="masked_lm", sequence_length=300),
    )
    whole = trial_of(masked, workload_of(masked, OBJECTIVE, 1.0), affordable=0).training
    assert (whole.batch_tokens, whole.row_length) == (400, 400)  # a sequence must fit
    monkeypatch.setattr("bothways.advise.plan.measure_step", lambda *_, **__: 0.5)
    trial = try_steps(large, OBJECTIVE, corpus, workload, trial_seconds=1e-9, rate=1.0)
    one_row = workload_of(with_training(large, batch_tokens=100), OBJECTIVE, 1.0)
    assert trial == Trial(seconds=0.5 * workload.flops / one_row.flops, tokens=100)


def test_planning_draws_no_random_numbers(experiment, corpus):
    before = torch.get_rng_state()
    plan_steps(experiment, OBJECTIVE, corpus, minutes=None)
    measure_step(experiment, OBJECTIVE, corpus, trial_seconds=0.05)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("minutes", [0, -1, math.nan, math.inf, 1e9])
def test_a_budget_that_makes_no_sense_is_refused(experiment, corpus, minutes):
    with pytest.raises(UserError, match=r"--minutes must be above 0"):
        plan_steps(experiment, OBJECTIVE, corpus, minutes=minutes)


def test_a_budget_of_less_than_a_step_is_refused(experiment, corpus, monkeypatch):
    monkeypatch.setattr("bothways.advise.plan.measure_step", lambda *_, **__: 90.0)
    with pytest.raises(UserError, match=r"1 minute will not do for one step, which takes 90.0 seconds here"):
        plan_steps(experiment, OBJECTIVE, corpus, minutes=1)

import math

import pytest

from bothways.errors import UserError
from bothways.text.reading.documents import Document
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.verbs.demonstration import planning
from bothways.verbs.demonstration.planning import DemoPlan, Request, choose_recipe, make_plan, vocabulary_for
from bothways.verbs.prepare import prepare_splits

PLAN = DemoPlan(
    minutes=2.0,
    seed=5,
    gpt_recipe="gpt-tiny",
    gpt_steps=70,
    gpt_tokens_per_second=1000.0,
    bert_recipe="bert-mini",
    bert_steps=90,
    bert_tokens_per_second=4000.0,
)
REQUEST = {"text": (), "language": "en", "minutes": 10.0, "seed": 0}


# What was asked for


@pytest.mark.parametrize("minutes", [0, -1, math.nan, math.inf, 10_001])
def test_minutes_have_bounds(minutes):
    with pytest.raises(UserError, match="--minutes must be above 0 and at most 10,000, not"):
        Request(**{**REQUEST, "minutes": minutes})


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_has_bounds(seed):
    with pytest.raises(UserError, match="--seed must be between"):
        Request(**{**REQUEST, "seed": seed})


def test_the_same_request_goes_on_and_no_other(tmp_path):
    request = Request(**REQUEST)
    request.check_same(tmp_path)  # nothing there yet
    request.save(tmp_path / planning.REQUEST)
    Request(**{**REQUEST, "minutes": 10}).check_same(tmp_path)
    with pytest.raises(UserError) as caught:
        Request(text=("a b.txt", "c"), language="zh", minutes=3, seed=0).check_same(tmp_path)
    assert str(caught.value) == (
        f"{str(tmp_path)!r} holds a demonstration with --text (none), not a b.txt c and --language en, not zh and "
        "--minutes 10.0, not 3; name another --out or remove it"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ["--minutes", "60"]),
        ({"language": "zh"}, ["--language", "zh", "--minutes", "60"]),
        ({"text": ("a b", "c")}, ["--text", "a b", "c", "--minutes", "60"]),
    ],
)
def test_it_can_be_asked_for_again_with_more_time(change, words):
    assert Request(**{**REQUEST, **change}).words(minutes=60.0) == words


# What a budget becomes


def test_the_experiment_is_the_recipe_with_the_steps_and_the_seed_of_the_plan():
    for family, steps, hidden_size in (("gpt", 70, 64), ("bert", 90, 192)):
        experiment = PLAN.experiment(family)
        assert (experiment.training.steps, experiment.seed) == (steps, 5)
        assert experiment.model.hidden_size == hidden_size


@pytest.mark.parametrize("task", planning.ARM)
def test_an_arm_takes_its_share_of_the_time_but_not_more_than_ten_epochs(task):
    share = planning.ARM[task] * planning.SLOWER * 2 * 60
    assert PLAN.arm_steps(task, "gpt", 100, 10**6) == int(share * 1000 / 100)
    assert PLAN.arm_steps(task, "bert", 100, 10**6) == int(share * 4000 / 100)
    assert PLAN.arm_steps(task, "bert", 100, 3) == 30
    assert PLAN.arm_steps(task, "bert", 10**9, 3) == 2


def test_all_shares_together_leave_some_time():
    arms = sum(
        planning.ARM[task] * count for task, count in (("classification", 3), ("retrieval", 3), ("summarization", 2))
    )
    assert arms + sum(planning.PRETRAINING.values()) < 0.95


@pytest.mark.parametrize(
    ("num_bytes", "expected"), [(0, 512), (204_800, 512), (204_801, 1024), (1_000_000, 4096), (10**9, 8192)]
)
def test_the_vocabulary_grows_with_the_text(num_bytes, expected):
    assert vocabulary_for(num_bytes) == expected


@pytest.fixture(scope="module")
def data(texts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    read = [Document(text=file.read_text(), source=file.name) for file in sorted(texts.rglob("*.txt"))]
    splits = {"train": read[20:], "validation": read[:10], "test": read[10:20]}
    training = [document.text for document in splits["train"]]
    kinds = {"gpt": ("bpe", 400), "bert": ("wordpiece", 200)}
    return {
        family: prepare_splits(
            splits, out=folder / family, tokenizer=Tokenizer.train(training, kind=kind, vocab_size=size)
        )
        for family, (kind, size) in kinds.items()
    }


def test_the_size_is_the_largest_that_sees_enough_text_in_its_time(data, monkeypatch):
    """Speeds are made up here: a small takes 8 s a step, a mini 2 s, a tiny 0.5 s."""
    seconds = {"small": 8.0, "mini": 2.0, "tiny": 0.5}
    sizes = {384: "small", 192: "mini", 64: "tiny"}
    monkeypatch.setattr(
        planning, "measure_step", lambda experiment, *_, **__: seconds[sizes[experiment.model.hidden_size]]
    )
    monkeypatch.setattr(planning, "LARGEST", {"gpt": "small", "bert": "mini"})
    needed = planning.FEWEST_TOKENS / 4096  # steps
    assert choose_recipe("gpt", data["gpt"], 9 * needed, 0) == ("gpt-small", int(9 * needed / 8), 4096 / 8)
    assert choose_recipe("gpt", data["gpt"], 7 * needed, 0) == ("gpt-mini", int(7 * needed / 2), 4096 / 2)
    assert choose_recipe("bert", data["bert"], 9 * needed, 0)[0] == "bert-mini"
    assert choose_recipe("bert", data["bert"], 1, 0) == ("bert-tiny", 10, 4096 / 0.5), "ten steps at least"


@pytest.mark.slow
def test_the_plan_is_measured_on_this_machine(data):
    plan = make_plan(data, minutes=0.01, seed=3)
    assert (plan.minutes, plan.seed) == (0.01, 3)
    assert (plan.gpt_recipe, plan.bert_recipe) == ("gpt-tiny", "bert-tiny")
    assert (plan.gpt_steps, plan.bert_steps) == (10, 10)
    assert min(plan.gpt_tokens_per_second, plan.bert_tokens_per_second) > 0

from dataclasses import replace

import numpy as np
import pytest
import torch

from bothways.advise import sizing
from bothways.advise.law import Law, batch_for
from bothways.advise.plan import RESERVE, Plan
from bothways.advise.sizing import choose, chosen_before, expected_loss, families, remember
from bothways.advise.workload import workload_of
from bothways.errors import UserError
from bothways.experiment import make_objective
from bothways.recipes.gpt import SIZES
from bothways.recipes.recipe import recipe
from bothways.text.shards import EncodedDocument, gather
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.training.machine import FEWEST_COMPILED_STEPS

RATE = 2e11  # FLOP/s of a machine that computes alike at all sizes
NAMES = [f"gpt-{size}" for size in SIZES]
LAW = Law(
    floor=1.8,
    size_factor=400.0,
    size_power=0.34,
    data_factor=400.0,
    data_power=0.28,
    bytes_per_token=2.0,
    source="a test",
)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _known_law(monkeypatch):
    monkeypatch.setattr(sizing, "law_of", lambda _: LAW)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    """Only a first batch is asked for, and no test need prepare a million tokens for it."""
    monkeypatch.setattr("bothways.training.batches.PretrainingBatches.CHUNK_TOKENS", 2**14)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(
        ["some words and some more words to learn from"] * 3, kind="bpe", vocab_size=300, exact=False
    )


def make_corpus(tokens):
    """Return a corpus whose tokens have two bytes each."""
    each = 10_000
    ids = np.random.default_rng(0).integers(10, 260, size=each)
    document = EncodedDocument(input_ids=ids, sentence_starts=np.array([0]), num_bytes=2 * each)
    return gather(document for _ in range(tokens // each))


@pytest.fixture(scope="module")
def corpus():
    return make_corpus(1_000_000)


class Machine:
    """Takes the time that its FLOP/s say, and remembers what it was asked."""

    def __init__(self, tokenizer, rates=None):
        self.tokenizer, self.rates, self.asked = tokenizer, rates or {}, []

    def __call__(self, experiment):
        size = next(size for size, shape in SIZES.items() if shape[0] == experiment.model.hidden_size)
        self.asked.append(size)
        objective = make_objective(experiment, self.tokenizer)
        return workload_of(experiment, objective, 1.0).flops / self.rates.get(size, RATE)


def chosen(corpus, tokenizer, minutes, machine=None, family="gpt", **options):
    machine = machine or Machine(tokenizer)
    return choose(
        family, tokenizer=tokenizer, corpora=corpus, minutes=minutes, measure=machine, likely_rate=RATE, **options
    )


def test_families_are_those_of_which_every_size_is_a_recipe():
    assert {"gpt", "bert"} <= set(families())
    assert "gpt2" not in families()


@pytest.fixture(scope="module")
def endless():
    return make_corpus(20_000_000)


def test_more_time_makes_the_model_larger(endless, tokenizer):
    picked = [NAMES.index(chosen(endless, tokenizer, minutes).recipe) for minutes in (0.2, 10, 300, 10_000)]
    assert picked == sorted(picked)
    assert picked[0] == 0
    assert picked[-1] > picked[1] >= 1


def test_the_lowest_expected_loss_is_taken_and_the_smaller_of_two_alike(corpus, tokenizer):
    choice = chosen(corpus, tokenizer, 30)
    losses = {each.recipe: each.loss for each in choice.candidates}
    assert list(losses) == NAMES
    near = [name for name in NAMES if losses[name] <= min(losses.values()) * 1.005]
    assert choice.recipe == near[0]


def test_the_tokens_are_those_that_fit_the_budget(corpus, tokenizer):
    choice = chosen(corpus, tokenizer, 30)
    best = next(each for each in choice.candidates if each.recipe == choice.recipe)
    spent = best.tokens / best.tokens_per_second
    assert spent == pytest.approx(30 * 60 * (1 - RESERVE), rel=0.01)
    assert best.epochs == pytest.approx(best.tokens / 1_000_000)
    assert best.loss == expected_loss(LAW, best.parameters, best.tokens, corpus)


def test_the_batch_follows_from_the_tokens_unless_the_user_says_it(corpus, tokenizer):
    choice = chosen(corpus, tokenizer, 30)
    best = next(each for each in choice.candidates if each.recipe == choice.recipe)
    row_length = recipe(choice.recipe).training.row_length
    assert best.batch_tokens in (batch_for(best.tokens * share, row_length) for share in (0.9, 1, 1.1))
    assert choice.settings == (f"training.batch_tokens={best.batch_tokens}",)
    own = chosen(corpus, tokenizer, 30, settings=["training.batch_tokens=1024"])
    assert own.settings == ()
    assert {each.batch_tokens for each in own.candidates} == {1024}
    assert any("as --set says" in reason for reason in own.reasons)


def test_only_sizes_that_could_be_the_best_are_measured(corpus, tokenizer):
    machine = Machine(tokenizer)
    choice = chosen(corpus, tokenizer, 30, machine)
    assert len(machine.asked) == len(set(machine.asked)) <= 3
    measured = [each.recipe for each in choice.candidates if each.measured]
    assert sorted(measured) == sorted(f"gpt-{size}" for size in machine.asked)
    assert choice.recipe in measured
    assert any("reckoned for the others" in reason for reason in choice.reasons)


def test_a_larger_size_must_be_worth_it(corpus, tokenizer, monkeypatch):
    assert chosen(corpus, tokenizer, 30).recipe != NAMES[0]
    monkeypatch.setattr(sizing, "WORTH", 10.0)
    assert chosen(corpus, tokenizer, 30).recipe == NAMES[0]


def test_neighbours_that_might_be_better_are_measured_and_others_are_not(corpus, tokenizer, monkeypatch):
    hopeful, sober = Machine(tokenizer), Machine(tokenizer)
    for name in ("HOPE_OF_LARGER", "HOPE_OF_SMALLER"):
        monkeypatch.setattr(sizing, name, 100.0)
    best = NAMES.index(chosen(corpus, tokenizer, 30, hopeful).recipe)
    neighbours = {name.removeprefix("gpt-") for name in NAMES[best - 1 : best + 2]}
    assert set(hopeful.asked) <= neighbours
    assert NAMES[best + 1].removeprefix("gpt-") in hopeful.asked
    for name in ("HOPE_OF_LARGER", "HOPE_OF_SMALLER"):
        monkeypatch.setattr(sizing, name, 1.0)
    assert NAMES.index(chosen(corpus, tokenizer, 30, sober).recipe) == best
    assert len(sober.asked) < len(hopeful.asked)


def test_a_size_that_turns_out_slow_is_given_up(corpus, tokenizer):
    first = chosen(corpus, tokenizer, 30)
    assert first.recipe != NAMES[0]
    size = first.recipe.removeprefix("gpt-")
    slow = Machine(tokenizer, dict.fromkeys(list(SIZES)[list(SIZES).index(size) :], RATE / 1000))
    second = chosen(corpus, tokenizer, 30, slow)
    assert NAMES.index(second.recipe) < NAMES.index(first.recipe)
    assert second.recipe.removeprefix("gpt-") in slow.asked


def test_text_that_is_read_often_teaches_less_and_the_reasons_say_so(endless, tokenizer):
    of_little, of_much = (chosen(each, tokenizer, 300) for each in (make_corpus(20_000), endless))
    assert any("each time teaches less" in reason for reason in of_little.reasons)
    assert not any("each time teaches less" in reason for reason in of_much.reasons)
    by_name = {each.recipe: each for each in of_little.candidates}
    fresh = {each.recipe: each for each in of_much.candidates}
    assert by_name["gpt-tiny"].tokens == fresh["gpt-tiny"].tokens
    assert by_name["gpt-tiny"].loss > fresh["gpt-tiny"].loss


def test_longer_tokens_are_harder_to_predict(corpus):
    """Half the tokens of a mixture have two bytes, as in the law, and half have four."""
    ids = np.full(1000, 9)
    long = gather([EncodedDocument(input_ids=ids, sentence_starts=np.array([0]), num_bytes=4000)] * 1000)
    usual = expected_loss(LAW, 10**6, 1000, corpus)
    assert usual == LAW.loss(10**6, 1000)
    assert expected_loss(LAW, 10**6, 1000, long) == pytest.approx(2 * usual)
    assert expected_loss(LAW, 10**6, 1000, [(corpus, 1), (long, 1)]) == pytest.approx(1.5 * usual)


def test_a_size_that_does_not_fit_the_memory_is_not_taken(corpus, tokenizer, monkeypatch):
    free = chosen(corpus, tokenizer, 30)
    monkeypatch.setattr(sizing, "memory_here", lambda _: 700 * 2**20)
    tight = chosen(corpus, tokenizer, 30, settings=["training.micro_batch_tokens=1024"])
    fits = [each.recipe for each in tight.candidates if each.fits]
    assert fits == NAMES[: len(fits)]
    assert 0 < len(fits) < len(NAMES)
    assert tight.recipe in fits
    assert NAMES.index(tight.recipe) <= NAMES.index(free.recipe)
    monkeypatch.setattr(sizing, "memory_here", lambda _: 2**20)
    with pytest.raises(UserError, match="training gpt-tiny, the smallest size, does not fit"):
        chosen(corpus, tokenizer, 30)


def test_the_reasons_say_what_was_chosen_and_what_the_neighbours_would_be(corpus, tokenizer):
    choice = chosen(corpus, tokenizer, 30)
    said = " ".join(choice.reasons)
    at = NAMES.index(choice.recipe)
    assert choice.reasons[0].startswith(choice.recipe)
    assert "30 minutes" in said
    assert f"The next larger, {NAMES[at + 1]}" in said
    assert f"The next smaller, {NAMES[at - 1]}" in said
    assert "a test" in said
    assert "in 1 minute it reads" in " ".join(chosen(corpus, tokenizer, 1).reasons)
    assert all(not reason.endswith(".") for reason in choice.reasons)


@pytest.mark.usefixtures("where_long_runs_compile")
def test_the_reasons_say_that_trials_were_not_compiled_where_the_run_is(corpus, tokenizer):
    steps = {}
    for minutes in (1, 3000):
        choice = chosen(corpus, tokenizer, minutes)
        steps[minutes] = next(each.steps for each in choice.candidates if each.recipe == choice.recipe)
        told = any(reason.startswith("The run compiles its layers") for reason in choice.reasons)
        assert told == (steps[minutes] >= FEWEST_COMPILED_STEPS)
    assert steps[1] < FEWEST_COMPILED_STEPS <= steps[3000]


@pytest.mark.parametrize(
    ("minutes", "settings"), [(None, ()), (None, ("training.steps=10",)), (5, ("training.steps=10",))]
)
def test_a_family_needs_a_time_budget(corpus, tokenizer, minutes, settings):
    with pytest.raises(UserError, match=r"gpt is a family.*--minutes.*gpt-tiny, gpt-mini, gpt-small"):
        chosen(corpus, tokenizer, minutes, settings=settings)


def test_what_cannot_be_is_refused(corpus, tokenizer):
    with pytest.raises(UserError, match="minutes must be above 0"):
        chosen(corpus, tokenizer, -1)
    with pytest.raises(UserError, match="will not do for one step of gpt-tiny"):
        chosen(corpus, tokenizer, 1e-5)
    with pytest.raises(UserError, match="unknown setting"):
        chosen(corpus, tokenizer, 5, settings=["training.nothing=1"])


def test_a_run_that_goes_on_keeps_what_was_chosen(corpus, tokenizer, tmp_path):
    choice = chosen(corpus, tokenizer, 30)
    plan = Plan(
        steps=3, seconds_per_step=1.0, tokens=3, tokens_per_parameter=0.1, epochs=0.1, parameters=9, minutes=30.0
    )
    remember(choice, plan).save(tmp_path / "plan.json")
    again = chosen_before("gpt", Plan.load(tmp_path / "plan.json"))
    assert (again.recipe, again.settings, again.reasons) == (choice.recipe, choice.settings, choice.reasons)
    with pytest.raises(UserError, match=f"cannot be resumed as bert, because it began as {choice.recipe}"):
        chosen_before("bert", remember(choice, plan))
    with pytest.raises(UserError, match="because it began from a recipe, not from a family"):
        chosen_before("gpt", plan)


def test_the_speed_is_measured_here_if_nobody_else_does(corpus, tokenizer, monkeypatch):
    monkeypatch.setattr(sizing, "SIZES", {"tiny": SIZES["tiny"]})
    small = ["model.hidden_size=16", "model.num_attention_heads=2", "model.intermediate_size=24"]
    choice = choose("gpt", tokenizer=tokenizer, corpora=corpus, minutes=0.02, settings=small)
    assert choice.trial_seconds > 0
    assert choice.candidates[0].measured
    assert choice.candidates[0].tokens_per_second > 100


def test_growing_batches_are_counted(corpus, tokenizer):
    even = chosen(corpus, tokenizer, 30)
    growing = chosen(corpus, tokenizer, 30, settings=["training.batch_ramp_share=0.5"])
    for before, after in zip(even.candidates, growing.candidates, strict=True):
        assert after.steps > before.steps
        assert after.tokens == pytest.approx(before.tokens, rel=0.15)


def test_a_choice_is_the_same_every_time(corpus, tokenizer):
    first, second = (replace(chosen(corpus, tokenizer, 30), trial_seconds=0.0, reasons=()) for _ in range(2))
    assert first == second

"""Each rule against the plain sentence that defines it, and the whole against the probabilities it should have."""

import dataclasses
import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from bothways.errors import NonFiniteError, UserError
from bothways.inference.sampling import (
    GREEDY,
    Sampling,
    choose,
    draw,
    forbid,
    keep_top_k,
    keep_top_p,
    penalize_repetition,
)

LOGITS = some.lists(some.floats(-8, 8, width=32), min_size=1, max_size=12, unique=True)


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def kept(logits):
    """Return which tokens of one row are still possible."""
    return [token for token, logit in enumerate(logits[0].tolist()) if logit > -math.inf]


@given(logits=LOGITS, k=some.integers(1, 15))
def test_top_k_keeps_the_k_largest(logits, k):
    best = sorted(range(len(logits)), key=lambda token: -logits[token])[:k]
    result = keep_top_k(torch.tensor([logits]), k)
    assert kept(result) == sorted(best)
    assert all(result[0, token] == logits[token] for token in best)


def test_top_k_keeps_no_more_than_k_where_several_are_equal():
    assert len(kept(keep_top_k(torch.zeros(1, 6), 2))) == 2


@given(logits=LOGITS, p=some.floats(0.01, 1))
def test_top_p_keeps_the_fewest_that_reach_p(logits, p):
    probabilities = torch.tensor(logits, dtype=torch.float64).softmax(0).tolist()
    result = keep_top_p(torch.tensor([logits], dtype=torch.float64), p)
    nucleus = [probabilities[token] for token in kept(result)]
    others = [probabilities[token] for token in range(len(logits)) if token not in kept(result)]
    rounding = 1e-9
    assert sum(nucleus) >= p - rounding
    assert sum(nucleus) - min(nucleus) < p + rounding, "without the last one it would not be reached"
    assert min(nucleus) >= max(others, default=0.0)
    assert all(result[0, token] == logits[token] for token in kept(result))


@pytest.mark.parametrize(
    ("p", "expected"),
    [(0.01, [1]), (0.49, [1]), (0.51, [0, 1]), (0.79, [0, 1]), (0.81, [0, 1, 3]), (1.0, [0, 1, 2, 3])],
)
def test_top_p_on_paper(p, expected):
    assert kept(keep_top_p(torch.tensor([[0.3, 0.5, 0.05, 0.15]]).log(), p)) == expected


def test_rows_are_filtered_apart():
    logits = torch.tensor([[0.0, 5.0, 1.0], [9.0, 0.0, 8.9]])
    assert keep_top_k(logits, 1).isfinite().tolist() == [[False, True, False], [True, False, False]]
    assert keep_top_p(logits, 0.9).isfinite().tolist() == [[False, True, False], [True, False, True]]


def test_the_penalty_makes_seen_tokens_less_likely_once_each():
    logits = torch.tensor([[2.0, -2.0, 3.0], [2.0, -2.0, 3.0]])
    result = penalize_repetition(logits, [[0, 1, 1, 0], [2]], 2.0)
    assert result.tolist() == [[1.0, -4.0, 3.0], [2.0, -2.0, 1.5]]
    assert logits.tolist() == [[2.0, -2.0, 3.0], [2.0, -2.0, 3.0]], "the caller's logits stay as they are"


def test_what_ends_a_text_and_may_have_begun_it_is_spared():
    logits, history = torch.tensor([[2.0, 2.0, 1.5]]), [[0, 1]]
    assert penalize_repetition(logits, history, 2.0, spared={0}).tolist() == [[2.0, 1.0, 1.5]]
    sampling = Sampling(repetition_penalty=2.0)
    assert choose(logits, history, sampling, generators(0)).tolist() == [2]
    assert choose(logits, history, sampling, generators(0), stop_ids={0}).tolist() == [0]


def test_what_is_impossible_stays_so_under_a_penalty():
    assert penalize_repetition(torch.tensor([[-math.inf, 1.0]]), [[0]], 0.5)[0, 0] == -math.inf


def test_greedy_takes_the_likeliest_and_draws_nothing():
    (generator,) = generators(3)
    before = generator.get_state()
    logits = torch.tensor([[0.0, 2.0, 1.0]])
    assert choose(logits, [[0]], GREEDY, [generator]).tolist() == [1]
    assert torch.equal(generator.get_state(), before)


def test_a_tiny_temperature_is_as_good_as_greedy():
    logits = torch.randn(6, 50) * 1e4
    sampling = Sampling(temperature=0.001)
    assert torch.equal(choose(logits, [[]] * 6, sampling, generators(*range(6))), logits.argmax(-1))


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0),
        Sampling(temperature=0.5),
        Sampling(temperature=3.0, top_k=3),
        Sampling(temperature=1.0, top_p=0.7),
        Sampling(temperature=1.0, top_k=4, top_p=0.9, repetition_penalty=1.5),
    ],
    ids=["plain", "bold", "wild", "nucleus", "all"],
)
def test_draws_have_the_probabilities_that_were_asked_for(sampling):
    logits, history = torch.tensor([[1.0, 0.2, -0.5, 1.4, 0.0]]), [[3, 2]]
    scores = penalize_repetition(logits, history, sampling.repetition_penalty) / sampling.temperature
    expected = keep_top_p(keep_top_k(scores, sampling.top_k), sampling.top_p).softmax(-1)[0].tolist()
    (generator,) = generators(1)
    many = 4000
    drawn = Counter(int(choose(logits, history, sampling, [generator])) for _ in range(many))
    for token, probability in enumerate(expected):
        assert abs(drawn[token] / many - probability) <= 4 * math.sqrt(probability * (1 - probability) / many)


def test_a_row_draws_the_same_whatever_stands_beside_it():
    probabilities = torch.rand(5, 40).softmax(-1)
    together = [draw(probabilities, beside) for beside in [generators(*range(5))] for _ in range(4)]
    for row in range(5):
        own = generators(row)
        assert [int(tokens[row]) for tokens in together] == [int(draw(probabilities[[row]], own)) for _ in range(4)]


def test_processors_come_in_order_between_penalty_and_temperature():
    seen = []

    def double(logits, history):
        seen.append((logits.tolist(), [list(ids) for ids in history]))
        return logits * 2

    def least(logits, _):
        seen.append(logits.tolist())
        return -logits

    sampling = Sampling(repetition_penalty=2.0)
    assert choose(torch.tensor([[4.0, 1.0]]), [[0, 0]], sampling, generators(0), [double, least]).tolist() == [1]
    assert seen == [([[2.0, 1.0]], [[0, 0]]), [[4.0, 2.0]]]


def test_forbidden_tokens_are_never_chosen():
    process = forbid([1, 3], 4)
    logits = torch.tensor([[0.0, 9.0, 1.0, 8.0]])
    assert process(logits, [[]]).tolist() == [[0.0, -math.inf, 1.0, -math.inf]]
    assert choose(logits, [[]], GREEDY, generators(0), [process]).tolist() == [2]
    drawn = {int(choose(logits, [[]], Sampling(temperature=5.0), generators(seed), [process])) for seed in range(50)}
    assert drawn == {0, 2}


@pytest.mark.parametrize(("ids", "message"), [([4], "0 to 3"), ([-1], "token -1"), ([0, 1, 2, 3, 3], "every token")])
def test_what_cannot_be_forbidden(ids, message):
    with pytest.raises(UserError, match=message):
        forbid(ids, 4)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=1.0)])
def test_scores_that_are_not_numbers_are_refused(sampling, bad):
    with pytest.raises(NonFiniteError, match="damaged"):
        choose(torch.tensor([[1.0, 2.0], [1.0, bad]]), [[], []], sampling, generators(0, 1))


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=1.0)])
def test_a_processor_that_leaves_nothing_is_refused(sampling):
    with pytest.raises(NonFiniteError, match="processor"):
        choose(torch.zeros(1, 3), [[]], sampling, generators(0), [lambda logits, _: logits - math.inf])


def test_narrow_logits_are_widened():
    seen = []
    logits = torch.randn(2, 9).to(torch.bfloat16)
    tokens = choose(logits, [[], []], GREEDY, generators(0, 1), [lambda given, _: seen.append(given.dtype) or given])
    assert torch.equal(tokens, logits.argmax(-1))
    assert seen == [torch.float32]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -1.0),
        ("temperature", 1e-9),
        ("temperature", 1e9),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", -0.1),
        ("top_p", 1.0000001),
        ("top_p", math.nan),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", -1e9),
        ("repetition_penalty", math.inf),
    ],
)
def test_values_out_of_range_are_refused(name, value):
    with pytest.raises(UserError, match=f"{name} must be .*, not {value}"):
        Sampling(**{name: value})


def test_it_is_a_group_of_settings():
    assert Sampling().override(["temperature=0.8", "top_k=50"]) == Sampling(temperature=0.8, top_k=50)
    with pytest.raises(dataclasses.FrozenInstanceError):
        GREEDY.temperature = 1.0

"""The order of the data is exact however often and wherever a stream is cut: every place of three epochs, chains of five."""

import json
from functools import partial

import numpy as np
import pytest
from tiny_runs import ids, make_objective

from bothways.batch import Target, row
from bothways.training.batches import ExampleBatches, PretrainingBatches

CHAIN = 5  # times that a stream is cut, one after another


def examples(count):
    draw = np.random.default_rng(1)
    return [
        row(draw.integers(4, 40, size=int(size)), attention="causal", targets={"x": Target(index=[0], value=[number])})
        for number, size in enumerate(draw.integers(3, 30, size=count))
    ]


@pytest.fixture(
    params=["causal", "masked", "hybrid", "mixture", "ramps", "examples", "examples that divide", "one a step"]
)
def fresh(request, monkeypatch, corpus, causal, masked, make_training):
    """Return what makes a stream at its beginning."""
    monkeypatch.setattr(PretrainingBatches, "CHUNK_TOKENS", 100)
    training = make_training(micro_batch_tokens=32, steps=60)
    ramps = make_training(micro_batch_tokens=32, steps=60, batch_ramp_share=0.5, length_ramp_share=0.5, row_length=32)
    return {
        "causal": partial(PretrainingBatches, corpus, causal, training, seed=3),
        "masked": partial(PretrainingBatches, corpus, masked, training, seed=3),
        "hybrid": partial(PretrainingBatches, corpus, make_objective("hybrid"), training, seed=3),
        "mixture": partial(PretrainingBatches, [(corpus, 3.0), (corpus, 1.0)], causal, training, seed=3),
        "ramps": partial(PretrainingBatches, corpus, causal, ramps, seed=3),
        "examples": partial(ExampleBatches, examples(23), batch_size=4, seed=3, micro_batch_tokens=64),
        "examples that divide": partial(ExampleBatches, examples(12), batch_size=4, seed=3),
        "one a step": partial(ExampleBatches, examples(5), batch_size=1, seed=3, micro_batch_tokens=64),
    }[request.param]


def three_epochs(batches):
    """Return the position before each step of three epochs and some, and the step."""
    steps = []
    while not any(number >= 3 for name, number in batches.position.items() if name.startswith("epoch")):
        position = batches.position
        steps.append((position, ids(next(batches))))
    return steps


def at(fresh, position):
    batches = fresh()
    batches.seek(json.loads(json.dumps(position)))
    return batches


def test_from_every_place_the_next_steps_are_those_of_the_whole(fresh):
    steps = three_epochs(fresh())
    assert len(steps) >= 9
    for place, (position, _) in enumerate(steps):
        batches = at(fresh, position)
        assert batches.position == position
        expected = steps[place : place + 3]
        assert [(batches.position, ids(next(batches))) for _ in expected] == expected


def test_five_cuts_in_a_row_leave_nothing_out_and_say_nothing_twice(fresh):
    steps = three_epochs(fresh())
    draw = np.random.default_rng(0)
    for _ in range(4):
        cuts = sorted(draw.choice(len(steps), size=CHAIN, replace=False).tolist())
        batches, found = fresh(), []
        for place in range(len(steps)):
            if place in cuts:
                batches = at(fresh, batches.position)
            found.append(ids(next(batches)))
        assert found == [step for _, step in steps]


def test_two_cuts_at_one_place_are_one(fresh):
    steps = three_epochs(fresh())
    position, expected = steps[len(steps) // 2]
    for _ in range(3):
        position = at(fresh, position).position
    assert ids(next(at(fresh, position))) == expected


def test_what_was_read_ahead_of_a_cut_is_read_again(fresh):
    batches = fresh()
    for _ in range(4):
        next(batches)
    position = batches.position
    lost = ids(next(batches))
    assert ids(next(at(fresh, position))) == lost

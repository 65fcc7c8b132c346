import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from tiny_runs import ids

from bothways.batch import PADDING, Target, row
from bothways.errors import UserError
from bothways.training.batches import ExampleBatches, PretrainingBatches, batches_of
from bothways.training.config import TrainingConfig


def real_tokens(step):
    return [token for batch in step for token in batch.input_ids[batch.sequence_ids != PADDING].tolist()]


@pytest.fixture(params=["causal", "masked"])
def objective(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def make_batches(monkeypatch, corpus):
    """Return a maker of batches over the corpus, cut to chunks of 100 tokens."""
    monkeypatch.setattr(PretrainingBatches, "CHUNK_TOKENS", 100)

    def make(objective, corpus=corpus, **settings):
        given = {"row_length": 16, "batch_tokens": 64, "micro_batch_tokens": 32, **settings}
        seed = given.pop("seed", 3)
        return PretrainingBatches(corpus, objective, TrainingConfig(**given), seed=seed)

    return make


def three_epochs(batches):
    """Return each step of three epochs, with the position before it."""
    steps = []
    while batches.position["epoch"] < 3:
        position = json.loads(json.dumps(batches.position))
        steps.append((position, ids(next(batches))))
    return steps


def test_from_every_position_the_stream_goes_on_as_if_never_cut(make_batches, objective):
    steps = three_epochs(make_batches(objective))
    assert len(steps) > 20
    assert len({(position["epoch"], position["chunk"]) for position, _ in steps}) > 10  # chunks end inside steps, too
    for cut, (position, _) in enumerate(steps):
        resumed = make_batches(objective)
        resumed.seek(position)
        assert [ids(next(resumed)) for _ in steps[cut:]] == [step for _, step in steps[cut:]]


def test_a_stream_cut_again_and_again_is_the_same(make_batches, objective):
    steps = three_epochs(make_batches(objective))
    position, found = steps[0][0], []
    for _ in steps:
        resumed = make_batches(objective)
        resumed.seek(position)
        found.append(ids(next(resumed)))
        position = resumed.position
    assert found == [step for _, step in steps]


def test_a_position_is_a_snapshot(make_batches, causal):
    batches = make_batches(causal)
    before = batches.position
    first = ids(next(batches))
    assert before == {"step": 0, "epoch": 0, "chunk": 0, "row": 0} != batches.position
    before["row"] = 99
    batches.position["row"] = 99
    again = make_batches(causal)
    start = again.position
    again.seek(start)
    assert ids(next(again)) == first
    assert ids(next(batches)) == ids(next(again))
    assert start == before | {"row": 0}


def test_the_seed_decides_everything(make_batches, objective):
    one, same, other = (
        [ids(next(batches)) for _ in range(10)]
        for batches in (make_batches(objective), make_batches(objective), make_batches(objective, seed=4))
    )
    assert one == same != other


def test_how_a_step_is_split_changes_no_row(make_batches, objective):
    one, other = make_batches(objective, micro_batch_tokens=64), make_batches(objective, micro_batch_tokens=16)
    for _ in range(12):
        whole, parts = next(one), next(other)
        assert (len(whole), len(parts)) == (1, 4)
        assert whole[0].input_ids.tolist() == [row for part in parts for row in part.input_ids.tolist()]


def test_every_epoch_holds_every_token_once_in_another_order(make_batches, causal, corpus):
    batches = make_batches(causal)
    size = corpus.num_tokens + len(corpus)  # a start token for each document
    stream = []
    while len(stream) < 3 * size:
        stream += real_tokens(next(batches))
    epochs = [stream[start : start + size] for start in (0, size, 2 * size)]
    tokens = [token for index in range(len(corpus)) for token in corpus.document(index).tolist()]
    expected = Counter({1: len(corpus)}) + Counter(tokens)
    assert [Counter(epoch) for epoch in epochs] == [expected] * 3
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_masks_are_drawn_anew_in_every_epoch(make_batches, masked):
    batches = make_batches(masked, row_length=64, batch_tokens=64)
    chosen = []
    while batches.position["epoch"] < 2:
        epoch = batches.position["epoch"]
        chosen += [(epoch, tuple(target)) for *_, targets in ids(next(batches)) for target in targets["language_model"]]
    first, second = ({value for number, value in chosen if number == epoch} for epoch in (0, 1))
    assert len(first & second) < 0.1 * len(first)


@pytest.mark.parametrize(
    ("batch_tokens", "micro_batch_tokens", "shapes"),
    [
        (64, 64, [(4, 16)]),
        (64, 10**6, [(4, 16)]),
        (64, 32, [(2, 16)] * 2),
        (64, 48, [(3, 16), (1, 16)]),
        (64, 1, [(1, 16)] * 4),
        (1, 64, [(1, 16)]),
        (79, 64, [(4, 16)]),
    ],
)
def test_every_step_has_the_shape_asked_for(make_batches, objective, batch_tokens, micro_batch_tokens, shapes):
    batches = make_batches(objective, batch_tokens=batch_tokens, micro_batch_tokens=micro_batch_tokens)
    for _ in range(10):
        assert [tuple(batch.input_ids.shape) for batch in next(batches)] == shapes


def test_a_step_may_be_larger_than_the_corpus(make_batches, causal, corpus):
    step = next(make_batches(causal, batch_tokens=16 * 200, micro_batch_tokens=16 * 200))
    assert len(real_tokens(step)) > 2 * corpus.num_tokens


def test_a_corpus_without_chunks_to_spare_is_one_chunk(make_batches, causal, make_corpus):
    batches = make_batches(causal, corpus=make_corpus([[[5] * 16]]))
    for epoch in range(1, 4):
        step = next(make_batches(causal, corpus=make_corpus([[[5] * 16]]), batch_tokens=16))
        assert len(step) == 1
        next(batches)
        assert batches.position["epoch"] >= epoch


def test_a_corpus_of_less_than_a_row_is_refused(make_batches, causal, make_corpus):
    with pytest.raises(
        UserError, match="the training text has 15 tokens, fewer than one row of 16; give more text or set"
    ):
        make_batches(causal, corpus=make_corpus([[[5] * 15]]))
    make_batches(causal, corpus=make_corpus([[[5] * 16]]))


def test_text_that_never_gives_an_example_is_refused(make_batches, masked, make_corpus):
    from dataclasses import replace

    barren = make_corpus([[[5] * 8]] * 60)  # one sentence a document: there is no order to tell
    batches = make_batches(replace(masked, pairs="sentence_order"), corpus=barren)
    with pytest.raises(UserError, match="yields no example: sentence pairs need documents of more than one sentence"):
        next(batches)


def test_barren_stretches_are_passed_over(make_batches, masked, make_corpus):
    from dataclasses import replace

    mostly_barren = make_corpus([*[[[5] * 8]] * 80, [[6] * 4, [7] * 4]])
    batches = make_batches(replace(masked, pairs="sentence_order"), corpus=mostly_barren)
    for _ in range(5):
        assert {6, 7} <= set(real_tokens(next(batches)))


# Mixtures.


@pytest.fixture
def sources(make_corpus):
    """Return three corpora with weights: tokens 10 to 19, 20 to 29, 30 to 39, in 7, 60 and 25 documents."""

    def corpus(first, count):
        draw = np.random.default_rng(first)
        return make_corpus(
            [[draw.integers(first, first + 10, size=5).tolist() for _ in range(4)] for _ in range(count)]
        )

    return [(corpus(10, 7), 2), (corpus(20, 60), 5.0), (corpus(30, 25), 1)]


def sources_of(step):
    """Return which corpus each row of a step is from; rows are never of two."""
    rows = [row for batch in step for row in batch.input_ids.tolist()]
    found = [{token // 10 for token in row if token >= 10} for row in rows]
    assert all(len(numbers) == 1 for numbers in found)
    return [numbers.pop() - 1 for numbers in found]


def test_a_mixture_goes_on_from_every_position_as_if_never_cut(make_batches, objective, sources):
    def make():
        return make_batches(objective, corpus=sources, batch_tokens=96)

    batches = make()
    steps = [(json.loads(json.dumps(batches.position)), ids(next(batches))) for _ in range(40)]
    epochs = [batches.position[f"epoch_{number}"] for number in range(3)]
    assert sorted(epochs)[1] >= 1
    assert len(set(epochs)) > 1
    assert {type(value) for value in batches.position.values()} == {int}
    assert len({position["chunk_1"] for position, _ in steps}) > 5
    for cut, (position, _) in enumerate(steps):
        resumed = make()
        resumed.seek(position)
        assert resumed.position == position
        assert [ids(next(resumed)) for _ in steps[cut : cut + 6]] == [step for _, step in steps[cut : cut + 6]]


@pytest.mark.parametrize("batch_tokens", [16, 80, 400])
@pytest.mark.parametrize("weights", [(1, 5, 2), (0.7, 0.2, 0.1), (1, 1, 1000), (1e-9, 1, 1e-9), (3, 3, 3)])
def test_rows_come_in_proportion_to_the_weights(make_batches, causal, sources, weights, batch_tokens):
    weighted = [(corpus, weight) for (corpus, _), weight in zip(sources, weights, strict=True)]
    batches = make_batches(causal, corpus=weighted, batch_tokens=batch_tokens)
    count, rows = Counter(), 0
    while rows < 600:
        numbers = sources_of(next(batches))
        rows += len(numbers)
        count.update(numbers)
        for number, weight in enumerate(weights):
            assert abs(count[number] - rows * weight / sum(weights)) < 2


def test_which_rows_are_next_does_not_depend_on_the_size_of_the_step(make_batches, causal, sources):
    small, large = (make_batches(causal, corpus=sources, batch_tokens=size) for size in (16, 16 * 24))
    rows = [next(small)[0].input_ids.tolist()[0] for _ in range(24)]
    assert sorted(row for batch in next(large) for row in batch.input_ids.tolist()) == sorted(rows)


def test_each_corpus_of_a_mixture_is_read_once_an_epoch_and_in_its_own_order(make_batches, causal, make_corpus):
    documents = [[[10 + number] * 15] for number in range(30)]  # rows of one document each
    batches = make_batches(causal, corpus=[(make_corpus(documents), 1)] * 3, batch_tokens=48, micro_batch_tokens=48)
    orders = [[], [], []]
    for _ in range(30):
        for order, tokens in zip(orders, next(batches)[0].input_ids.tolist()[:3], strict=True):
            order.append(tokens[-1])
    assert [sorted(order) for order in orders] == [list(range(10, 40))] * 3
    assert orders[0] != orders[1] != orders[2] != orders[0]


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_weights_are_positive(make_batches, causal, corpus, weight):
    with pytest.raises(UserError, match=f"the weight of a corpus must be greater than 0 and finite, not {weight}"):
        make_batches(causal, corpus=[(corpus, 1), (corpus, weight)])


def test_a_corpus_of_less_than_a_row_is_named(make_batches, causal, corpus, make_corpus):
    with pytest.raises(UserError, match="training text 2 of 2 has 15 tokens, fewer than one row of 16"):
        make_batches(causal, corpus=[(corpus, 1), (make_corpus([[[5] * 15]]), 1)])


# Labelled examples.


def example_rows(count):
    draw = np.random.default_rng(1)
    return [
        row(
            np.full(int(draw.integers(3, 30)), number),
            "bidirectional",
            targets={"classification": Target(index=np.zeros(1, dtype=np.int64), value=np.array([number]))},
        )
        for number in range(count)
    ]


def labels(step):
    return sorted(value for batch in step for value in batch.targets["classification"].value.tolist())


@pytest.mark.parametrize("micro_batch_tokens", [None, 128])
@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (8, 4), (3, 4), (2, 2), (7, 7), (9, 4)])
def test_examples_come_once_an_epoch_and_go_on_from_anywhere(count, batch_size, micro_batch_tokens):
    def make(seed=0):
        return ExampleBatches(
            example_rows(count), batch_size=batch_size, seed=seed, micro_batch_tokens=micro_batch_tokens
        )

    batches = make()
    per_epoch = batches.steps_per_epoch
    lone = micro_batch_tokens is None and count % batch_size == 1  # it joins the step before
    assert per_epoch == -(-count // batch_size) - lone
    positions, steps = [], []
    for _ in range(3 * per_epoch):
        positions.append(json.loads(json.dumps(batches.position)))
        steps.append(next(batches))
    assert micro_batch_tokens or min(len(labels(step)) for step in steps) >= 2
    for start in range(0, len(steps), per_epoch):
        assert sorted(label for step in steps[start : start + per_epoch] for label in labels(step)) == list(
            range(count)
        )
    assert [position["epoch"] for position in positions] == sorted([0, 1, 2] * per_epoch)
    for cut, position in enumerate(positions):
        resumed = make()
        resumed.seek(position)
        assert [ids(next(resumed)) for _ in steps[cut:]] == [ids(step) for step in steps[cut:]]


def test_examples_are_shuffled_by_seed_and_epoch():
    def orders(seed):
        batches = ExampleBatches(example_rows(12), batch_size=1, seed=seed, micro_batch_tokens=64)
        return [[labels(next(batches))[0] for _ in range(12)] for _ in range(3)]

    assert orders(0) == orders(0)
    assert all(first != second for first, second in pairwise([*orders(0), *orders(1)]))


def test_no_examples_are_refused():
    with pytest.raises(UserError, match="there is not one training example"):
        ExampleBatches([], batch_size=4, seed=0)


@pytest.mark.parametrize(("count", "batch_size", "message"), [(1, 4, "there is 1"), (5, 1, r"there are 5.*it is 1")])
def test_an_example_that_would_have_none_beside_it_to_be_compared_with_is_refused(count, batch_size, message):
    with pytest.raises(UserError, match=message):
        ExampleBatches(example_rows(count), batch_size=batch_size, seed=0)


def test_examples_are_packed_tightly():
    rows = example_rows(200)
    [batch] = batches_of(rows)
    assert batch.input_ids.shape[1] == 64
    assert batch.num_tokens == sum(map(len, rows))
    assert batch.num_tokens > 0.9 * batch.input_ids.numel()
    assert labels([batch]) == list(range(200))
    index = batch.targets["classification"].index
    assert batch.input_ids.flatten()[index].tolist() == batch.targets["classification"].value.tolist()


def test_batches_have_about_the_tokens_asked_for():
    rows = example_rows(200)
    parts = batches_of(rows, 256)
    assert len(parts) > 5
    assert all(part.input_ids.numel() <= 256 for part in parts)
    assert labels(parts) == list(range(200))
    assert all(len(part.input_ids) == 1 for part in batches_of(rows, 1))


def test_rows_are_as_long_as_the_longest_example_needs():
    [batch] = batches_of([row(np.arange(100), "causal"), row(np.arange(3), "causal")])
    assert batch.input_ids.shape == (1, 103)
    [alone] = batches_of([row(np.arange(112), "causal"), row(np.arange(3), "causal")])
    assert alone.input_ids.shape == (2, 112)


# Ramps.


def growing(**settings):
    return {"steps": 40, "row_length": 64, "batch_tokens": 256, "micro_batch_tokens": 128, **settings}


def test_batches_grow_by_whole_rows(make_batches, causal):
    batches = make_batches(causal, **growing(row_length=16, batch_ramp_share=0.5))
    rows = [sum(len(batch.input_ids) for batch in next(batches)) for _ in range(30)]
    assert rows == sorted(rows)
    assert (rows[0], rows[10], rows[20], rows[29]) == (4, 10, 16, 16)


def test_rows_grow_at_once_and_steps_stay_as_large(make_batches, causal):
    settings = growing(row_length=128, batch_tokens=512, micro_batch_tokens=256)
    batches, plain = make_batches(causal, **settings, length_ramp_share=0.8), make_batches(causal, **settings)
    lengths, tokens = [], []
    for _ in range(40):
        step = next(batches)
        lengths.append({batch.input_ids.shape[1] for batch in step})
        tokens.append(len(real_tokens(step)))
        assert all(batch.input_ids.numel() <= 256 for batch in step)
    assert lengths == [{32}] * 16 + [{64}] * 16 + [{128}] * 8
    assert tokens == [len(real_tokens(next(plain))) for _ in range(40)], "the text of a step is the same"


def text_tokens(step):
    """Return how many tokens the sequences of a step have without their frames of two."""
    sequences = sum(len(set(row.tolist()) - {PADDING}) for batch in step for row in batch.sequence_ids)
    return len(real_tokens(step)) - 2 * sequences


def test_texts_without_pairs_are_cut_to_short_rows_and_none_is_lost(make_batches, masked):
    alone = replace(masked, pairs="none", length=64)
    plain, ramped = (make_batches(alone, **growing(length_ramp_share=share)) for share in (0.0, 1.0))
    for _ in range(10):
        one, other = next(plain), next(ramped)
        assert {batch.input_ids.shape[1] for batch in other} == {32}
        frames = [
            2 * sum(len(set(row.tolist()) - {PADDING}) for batch in step for row in batch.sequence_ids)
            for step in (one, other)
        ]
        assert len(real_tokens(one)) - frames[0] == len(real_tokens(other)) - frames[1]
    assert plain.position == ramped.position


def test_with_ramps_too_every_position_goes_on_as_if_never_cut(make_batches, objective):
    if hasattr(objective, "pairs"):
        objective = replace(objective, pairs="none")
    settings = growing(length_ramp_share=0.6, batch_ramp_share=0.7)
    batches = make_batches(objective, **settings)
    steps = []
    for _ in range(40):
        position = json.loads(json.dumps(batches.position))
        steps.append((position, ids(next(batches))))
    for cut, (position, _) in enumerate(steps):
        resumed = make_batches(objective, **settings)
        resumed.seek(position)
        assert [ids(next(resumed)) for _ in steps[cut:]] == [step for _, step in steps[cut:]]


def test_an_objective_is_told_how_much_of_the_training_is_done(make_batches, masked):
    batches = make_batches(replace(masked, mask_share=0.5, final_mask_share=0.1), steps=40)
    shares = []
    for _ in range(40):
        step = next(batches)
        shares.append(sum(len(batch.targets["language_model"].index) for batch in step) / len(real_tokens(step)))
    assert np.mean(shares[:5]) == pytest.approx(0.45, abs=0.08)
    assert np.mean(shares[-5:]) == pytest.approx(0.12, abs=0.05)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.batch import Target, join, row
from bothways.errors import UserError
from bothways.text.packing import fill, pack


def make_rows(sizes, attention="bidirectional"):
    """Return rows whose tokens count on from one row to the next, with every token as a target too."""
    starts = np.cumsum([0, *sizes[:-1]]) if len(sizes) else []
    return [
        row(
            np.arange(start, start + size),
            attention,
            targets={"head": Target(index=np.arange(size), value=np.arange(start, start + size))},
        )
        for start, size in zip(starts, sizes, strict=True)
    ]


def sequences(packed):
    """Return the token ids of each sequence of a packed row."""
    return [packed.input_ids[packed.sequence_ids == number].tolist() for number in range(packed.sequence_ids.max() + 1)]


sizes_and_length = st.integers(1, 40).flatmap(
    lambda length: st.tuples(st.lists(st.integers(1, length), max_size=60), st.just(length))
)


@given(sizes_and_length)
def test_pack_keeps_every_sequence_whole_and_once(case):
    sizes, length = case
    rows = make_rows(sizes)
    packed = pack(rows, length)
    assert sorted(ids for each in packed for ids in sequences(each)) == [each.input_ids.tolist() for each in rows]
    assert all(len(each) <= length for each in packed)
    for each in packed:
        assert each.targets["head"].value.tolist() == each.input_ids[each.targets["head"].index].tolist()
        assert sorted(each.targets["head"].index) == list(range(len(each)))


@given(sizes_and_length)
def test_no_two_packed_rows_would_fit_in_one(case):
    sizes, length = case
    filled = sorted(len(each) for each in pack(make_rows(sizes), length))
    assert len(filled) < 2 or filled[0] + filled[1] > length


@given(sizes_and_length)
def test_sequences_of_a_packed_row_keep_their_order(case):
    sizes, length = case
    for each in pack(make_rows(sizes), length):
        firsts = [ids[0] for ids in sequences(each)]
        assert firsts == sorted(firsts)


@given(sizes_and_length)
def test_packing_is_the_same_every_time(case):
    sizes, length = case
    first, second = (pack(make_rows(sizes), length) for _ in range(2))
    assert [each.input_ids.tolist() for each in first] == [each.input_ids.tolist() for each in second]


@pytest.mark.parametrize("longest", [64, 128])
def test_next_to_nothing_is_wasted_on_sentences(longest):
    sizes = np.random.default_rng(0).integers(5, longest + 1, size=2000).tolist()
    packed = pack(make_rows(sizes), 128)
    fewest = -(-sum(sizes) // 128)
    assert len(packed) <= 1.03 * fewest + 1


def test_the_best_packing_is_found_where_one_row_is_left_over():
    assert len(pack(make_rows([7, 3, 6, 4, 5, 5]), 10)) == 3


def test_pack_puts_nothing_into_nothing():
    assert pack([], 10) == []


def test_pack_refuses_what_does_not_fit():
    with pytest.raises(UserError, match="a sequence of 11 tokens does not fit a row of 10"):
        pack(make_rows([3, 11]), 10)


@given(sizes_and_length)
def test_fill_keeps_order_and_fills_every_row_but_the_last(case):
    sizes, length = case
    filled = [join(parts) for parts in fill(make_rows([2 * size for size in sizes], "causal"), length)]
    assert np.concatenate([[], *(each.input_ids for each in filled)]).tolist() == list(range(2 * sum(sizes)))
    assert np.concatenate([[], *(each.targets["head"].value for each in filled)]).tolist() == list(
        range(2 * sum(sizes))
    )
    assert all(len(each) == length for each in filled[:-1])
    assert all(1 <= len(each) <= length for each in filled)
    for each in filled:
        assert each.targets["head"].index.tolist() == list(range(len(each)))


def test_what_is_cut_off_goes_on_as_a_sequence_of_its_own():
    first, second, third = (join(parts) for parts in fill(make_rows([3, 8], "causal"), 4))
    assert sequences(first) == [[0, 1, 2], [3]]
    assert sequences(second) == [[4, 5, 6, 7]]
    assert sequences(third) == [[8, 9, 10]]
    assert first.position_ids.tolist() == [0, 1, 2, 0]
    assert second.position_ids.tolist() == [0, 1, 2, 3]
    assert second.reach.tolist() == [0, 1, 2, 3]


def test_fill_takes_no_more_than_it_needs():
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield make_rows([3], "causal")[0]

    next(fill(endless(), 7))
    assert len(taken) == 3

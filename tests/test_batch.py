import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from bothways.batch import PADDING, Batch, Loss, Target, collate, join, row


def target(index, value, group=None):
    return Target(
        index=np.array(index, dtype=np.int64),
        value=np.array(value, dtype=np.int64),
        group=None if group is None else np.array(group, dtype=np.int64),
    )


def visible(batch: Batch) -> np.ndarray:
    """Return the mask [B, T, T] that sequence_ids and reach stand for, straight from its definition."""
    same = batch.sequence_ids[:, :, None] == batch.sequence_ids[:, None, :]
    return (same & (torch.arange(batch.reach.shape[1]) <= batch.reach[:, :, None])).numpy()


def block(*attentions: str, lengths: tuple[int, ...]) -> np.ndarray:
    """Return the mask of sequences laid side by side, written down the slow way."""
    mask = np.zeros((sum(lengths), sum(lengths)), dtype=bool)
    start = 0
    for attention, length in zip(attentions, lengths, strict=True):
        for token in range(length):
            mask[start + token, start : start + (token + 1 if attention == "causal" else length)] = True
        start += length
    return mask


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_attention_is_one_value(attention):
    made = row([5, 6, 7], attention)
    np.testing.assert_array_equal(visible(collate([made]))[0], block(attention, lengths=(3,)))
    assert {array.dtype for array in (made.input_ids, made.position_ids, made.sequence_ids, made.reach)} == {
        np.dtype("int64")
    }


@pytest.mark.parametrize(
    ("prefix", "reach"), [(0, [0, 1, 2, 3]), (1, [0, 1, 2, 3]), (3, [2, 2, 2, 3]), (9, [3, 3, 3, 3])]
)
def test_a_prefix_sees_itself_fully_and_never_past_the_end(prefix, reach):
    assert row([5, 6, 7, 8], "causal", prefix=prefix).reach.tolist() == reach


def test_a_prefix_in_a_bidirectional_sequence_is_refused():
    with pytest.raises(AssertionError, match="prefix"):
        row([5, 6], "bidirectional", prefix=1)


def test_segments_must_cover_the_row():
    with pytest.raises(AssertionError):
        row([5, 6, 7], "bidirectional", token_type_ids=[0, 1])


def test_joined_sequences_do_not_see_each_other():
    joined = join([row([1, 2], "causal"), row([3, 4, 5], "bidirectional"), row([6], "causal")])
    assert joined.input_ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert joined.position_ids.tolist() == [0, 1, 0, 1, 2, 0]
    assert joined.sequence_ids.tolist() == [0, 0, 1, 1, 1, 2]
    expected = block("causal", "bidirectional", "causal", lengths=(2, 3, 1))
    np.testing.assert_array_equal(visible(collate([joined]))[0], expected)


def test_joining_joined_rows_is_joining_them_all():
    parts = [row([n] * (n + 1), "causal", targets={"a": target([n], [n], [0])}) for n in range(4)]
    once, twice = join(parts), join([join(parts[:2]), join(parts[2:])])
    for name in ("input_ids", "position_ids", "sequence_ids", "reach"):
        np.testing.assert_array_equal(getattr(once, name), getattr(twice, name))
    np.testing.assert_array_equal(once.targets["a"].group, twice.targets["a"].group)
    np.testing.assert_array_equal(once.targets["a"].index, twice.targets["a"].index)


def test_joining_one_row_is_that_row():
    only = row([1, 2], "causal")
    assert join([only]) is only


def test_an_empty_row_joins_too():
    assert join([row([], "causal"), row([1], "causal"), row([], "bidirectional")]).sequence_ids.tolist() == [0]


def test_joined_targets_move_and_groups_stay_apart():
    first = row([1, 2], "causal", targets={"word": target([1], [9]), "pair": target([0, 1], [0, 0], [0, 0])})
    second = row([3, 4], "causal", targets={"pair": target([1, 0], [1, 1], [1, 0])})
    third = row([5], "causal", targets={"word": target([0], [8])})
    joined = join([first, second, third])
    assert joined.targets["word"].index.tolist() == [1, 4]
    assert joined.targets["word"].value.tolist() == [9, 8]
    assert joined.targets["word"].group is None
    assert joined.targets["pair"].index.tolist() == [0, 1, 3, 2]
    assert joined.targets["pair"].group.tolist() == [0, 0, 2, 1]


def test_targets_half_with_groups_and_half_without_are_refused():
    with pytest.raises(AssertionError, match="groups"):
        join(
            [
                row([1], "causal", targets={"a": target([0], [1], [0])}),
                row([1], "causal", targets={"a": target([0], [1])}),
            ]
        )


def test_a_row_without_segments_lies_in_segment_0():
    with_segments = row([1, 2], "bidirectional", token_type_ids=[0, 1])
    without = row([3, 4, 5], "bidirectional")
    assert join([with_segments, without]).token_type_ids.tolist() == [0, 1, 0, 0, 0]
    assert join([without, without]).token_type_ids is None
    assert collate([with_segments, without]).token_type_ids.tolist() == [[0, 1, 0], [0, 0, 0]]
    assert collate([without]).token_type_ids is None


def test_a_cut_is_a_causal_sequence_of_its_own():
    whole = row(
        range(10),
        "causal",
        token_type_ids=[0] * 5 + [1] * 5,
        targets={"word": target([0, 3, 4, 6], [1, 2, 3, 4], [0, 1, 2, 3])},
    )
    part = whole.cut(3, 6)
    expected = row([3, 4, 5], "causal", token_type_ids=[0, 0, 1])
    for name in ("input_ids", "position_ids", "sequence_ids", "reach", "token_type_ids"):
        np.testing.assert_array_equal(getattr(part, name), getattr(expected, name))
    assert part.targets["word"].index.tolist() == [0, 1]
    assert part.targets["word"].value.tolist() == [2, 3]
    assert part.targets["word"].group.tolist() == [1, 2]


def test_a_cut_through_a_prefix_stays_within_itself():
    assert row(range(6), "causal", prefix=4).cut(1, 3).reach.tolist() == [1, 1]


@pytest.mark.parametrize(("start", "stop"), [(2, 2), (3, 2), (-1, 2), (0, 5)])
def test_a_cut_outside_the_row_is_refused(start, stop):
    with pytest.raises(AssertionError):
        row(range(4), "causal").cut(start, stop)


def test_collate_pads_with_positions_that_belong_to_nothing():
    batch = collate([row([1, 2, 3], "bidirectional"), row([4], "causal")], length=4)
    assert batch.input_ids.tolist() == [[1, 2, 3, 0], [4, 0, 0, 0]]
    assert batch.sequence_ids.tolist() == [[0, 0, 0, PADDING], [0, PADDING, PADDING, PADDING]]
    assert batch.num_tokens == 4
    seen = visible(batch)
    real = (batch.sequence_ids != PADDING).numpy()
    assert not seen[0][:3, 3].any()
    assert not seen[1][1:, 0].any()
    assert (seen.any(axis=-1)).all(), "every softmax has at least one term"
    assert real.sum() == 4


def test_collated_targets_point_into_the_flattened_batch():
    rows = [
        row([1, 2, 3], "causal", targets={"word": target([0, 2], [7, 8], [0, 1])}),
        row([4, 5], "causal"),
        row([6, 7], "causal", targets={"word": target([1], [9], [0])}),
    ]
    batch = collate(rows)
    word = batch.targets["word"]
    assert word.index.tolist() == [0, 2, 7]
    assert batch.input_ids.flatten()[word.index].tolist() == [1, 3, 7]
    assert word.value.tolist() == [7, 8, 9]
    assert word.group.tolist() == [0, 1, 2]


def test_multi_hot_targets_keep_their_rows():
    hot = Target(index=np.array([0]), value=np.array([[1, 0, 1]]))
    batch = collate(
        [row([1], "bidirectional", targets={"labels": hot}), row([2], "bidirectional", targets={"labels": hot})]
    )
    assert batch.targets["labels"].value.tolist() == [[1, 0, 1], [1, 0, 1]]


def test_a_row_that_does_not_fit_is_refused_rather_than_cut():
    with pytest.raises(AssertionError, match="3 tokens does not fit 2"):
        collate([row([1, 2, 3], "causal")], length=2)


def test_at_inference_there_are_no_targets():
    assert collate([row([1], "causal")]).targets == {}


def test_a_batch_moves_whole():
    made = row(
        [1, 2], "bidirectional", token_type_ids=[0, 1], targets={"a": target([0], [1], [0]), "b": target([1], [1])}
    )
    moved = collate([made]).to("meta")
    tensors = [moved.input_ids, moved.position_ids, moved.sequence_ids, moved.reach, moved.token_type_ids]
    tensors += [moved.targets["a"].index, moved.targets["a"].value, moved.targets["a"].group, moved.targets["b"].index]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.targets["b"].group is None
    assert collate([row([1], "causal")]).to("cpu").token_type_ids is None


def test_losses_add_up_exactly_over_micro_batches():
    parts = [Loss(sum=torch.tensor(6.0), count=3), Loss(sum=torch.tensor(1.0), count=1)]
    assert sum(part.sum.item() for part in parts) / sum(part.count for part in parts) == 1.75
    assert parts[0].weight == 1.0


sequences = some.lists(
    some.tuples(some.integers(1, 6), some.sampled_from(["causal", "bidirectional"])), min_size=1, max_size=5
)


@given(some.lists(sequences, min_size=1, max_size=3))
def test_packing_and_padding_change_nothing_that_a_token_sees(batch_of_sequences):
    rows = [join([row(range(length), attention) for length, attention in packed]) for packed in batch_of_sequences]
    batch = collate(rows)
    for seen, made, packed in zip(visible(batch), rows, batch_of_sequences, strict=True):
        lengths, attentions = zip(*packed, strict=True)
        np.testing.assert_array_equal(seen[: len(made), : len(made)], block(*attentions, lengths=lengths))
        assert not seen[: len(made), len(made) :].any()

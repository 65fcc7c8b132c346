"""What all of inference shares: groups of like length, a model left as it was, ids that were checked."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from bothways.batch import row
from bothways.errors import UserError
from bothways.inference.reading import ask, check_sequences, evaluating, group_by_length, read, split


@given(lengths=some.lists(some.integers(1, 20), max_size=30), batch_tokens=some.integers(1, 50))
def test_groups_hold_everything_once_longest_first_and_within_the_budget(lengths, batch_tokens):
    groups = group_by_length(lengths, batch_tokens)
    order = [index for group in groups for index in group]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[index] for index in order] == sorted(lengths, reverse=True)
    for group, following in pairwise([*groups, []]):
        total = sum(lengths[index] for index in group)
        assert total <= batch_tokens or len(group) == 1
        assert not following or total + lengths[following[0]] > batch_tokens, "a group is as large as it may be"


def test_equal_lengths_keep_their_order():
    assert group_by_length([3, 3, 3, 3], 6) == [[0, 1], [2, 3]]


def test_evaluating_switches_off_and_back_on(make_model):
    model = make_model(hidden_dropout=0.5).train()
    model.transformer.layers[0].eval()
    modes = [module.training for module in model.modules()]
    with evaluating(model, "fp32"):
        assert not any(module.training for module in model.modules())
        assert torch.is_inference_mode_enabled()
        assert not torch.is_autocast_enabled("cpu")
    assert [module.training for module in model.modules()] == modes
    assert not torch.is_inference_mode_enabled()


def test_evaluating_in_bf16_multiplies_in_bf16(make_model):
    model = make_model(dtype=torch.float32)
    with evaluating(model, "bf16"):
        assert torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16), evaluating(model, "fp32"):
        assert torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.float32


def test_checked_ids_are_int64_and_copies(make_model):
    given = np.array([1, 2, 3], dtype=np.uint8)
    (checked,) = check_sequences(make_model(), [given], "texts")
    assert checked.dtype == np.int64
    assert checked.tolist() == [1, 2, 3]
    with pytest.raises(UserError, match=r"texts\[1\] has no tokens"):
        check_sequences(make_model(), [[1], []], "texts")


@pytest.mark.parametrize("batch_tokens", [1, 7, 100])
def test_answers_come_in_the_order_of_their_numbers(make_model, make_texts, batch_tokens):
    texts = make_texts(2, 6, 3, 5)
    firsts = [4, 0, 6, 2]  # row 1 has answers 0 and 1, row 3 has 2 and 3, …

    def make_row(index):
        return row(texts[index], "causal", targets=ask(np.array([1, 0]), firsts[index]))

    answers = read(
        make_model(),
        lambda _, batch, index: batch.input_ids.flatten()[index],
        lengths=[2, 6, 3, 5],
        make_row=make_row,
        batch_tokens=batch_tokens,
        precision="fp32",
    )
    assert answers.tolist() == [texts[number][position] for number in (1, 3, 0, 2) for position in (1, 0)]


def test_answers_are_split_by_count():
    parts = split(np.arange(5), [2, 0, 3])
    assert [part.tolist() for part in parts] == [[0, 1], [], [2, 3, 4]]
    assert split(np.arange(0), []) == []

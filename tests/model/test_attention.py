"""Tokens t and k: t may see k when both have the same sequence id and k is not beyond t's reach."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from bothways.batch import PADDING, collate, join, row
from bothways.model.attention import attend, attend_slowly, attention_mask, default_reach, to_add

KINDS = {
    "causal": [[("causal", 9, 0)], [("causal", 6, 0)]],
    "bidirectional": [[("bidirectional", 9, 0)], [("bidirectional", 5, 0)]],
    "prefix": [[("causal", 9, 4)], [("causal", 7, 7)]],
    "packed": [[("causal", 3, 0), ("bidirectional", 4, 0), ("causal", 2, 1)], [("bidirectional", 1, 0)] * 3],
}
FORMS = {"a mask": lambda mask: mask, "to add": lambda mask: to_add(mask, torch.float64)}
HEADS = {"as many": (4, 4), "grouped": (4, 2), "one": (4, 1)}


def make_batch(kind):
    return collate(
        [join([row([1] * length, way, prefix=prefix) for way, length, prefix in part]) for part in KINDS[kind]]
    )


def make_mask(kind):
    batch = make_batch(kind)
    return attention_mask(batch.sequence_ids, batch.reach, batch.sequence_ids)


def make_states(mask, heads):
    """Return query, key and value in float64, ready for gradients."""
    rows, _, queries, keys = mask.shape
    sizes = [(heads[0], queries), (heads[1], keys), (heads[1], keys)]
    return [torch.randn(rows, *size, 6, dtype=torch.float64, requires_grad=True) for size in sizes]


def attend_by_loops(query, key, value, mask):
    """Return the attention of every row, head and token, one number after the other."""
    out = torch.zeros_like(query)
    rows, heads, queries, size = query.shape
    for b, h, t in np.ndindex(rows, heads, queries):
        shared = h // (heads // key.shape[1])
        seen = [k for k in range(key.shape[2]) if mask[b, 0, t, k]]
        scores = [math.exp(float((query[b, h, t] @ key[b, shared, k]).detach()) / math.sqrt(size)) for k in seen]
        out[b, h, t] = sum(score / sum(scores) * value[b, shared, k] for score, k in zip(scores, seen, strict=True))
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_is_its_definition(kind):
    batch, mask = make_batch(kind), make_mask(kind)
    rows, length = batch.input_ids.shape
    assert mask.shape == (rows, 1, length, length)
    for b, t, k in np.ndindex(rows, length, length):
        same = batch.sequence_ids[b, t] == batch.sequence_ids[b, k]
        assert bool(mask[b, 0, t, k]) == bool(same and k <= batch.reach[b, t])


@pytest.mark.parametrize("kind", KINDS)
def test_no_token_is_blind(kind):
    assert make_mask(kind).any(-1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_of_the_last_queries_is_the_lower_part_of_the_whole(kind):
    batch = make_batch(kind)
    part = attention_mask(batch.sequence_ids[:, 5:], batch.reach[:, 5:], batch.sequence_ids)
    assert torch.equal(part, make_mask(kind)[:, :, 5:])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("kind", KINDS)
def test_fast_and_slow_attention_are_what_loops_say(kind, heads, form):
    mask = make_mask(kind)
    states = make_states(mask, HEADS[heads])
    slow, weights = attend_slowly(*states, mask)
    torch.testing.assert_close(attend(*states, FORMS[form](mask)), slow, atol=1e-10, rtol=0)
    torch.testing.assert_close(slow.detach(), attend_by_loops(*states, mask).detach(), atol=1e-10, rtol=0)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]), atol=1e-12, rtol=0)
    assert (weights[~mask.expand_as(weights)] == 0).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("kind", ["prefix", "packed"])
def test_fast_and_slow_attention_have_the_same_gradients(kind, heads, form):
    mask = make_mask(kind)
    states = make_states(mask, HEADS[heads])
    weight = torch.randn_like(states[0])
    fast = torch.autograd.grad((attend(*states, FORMS[form](mask)) * weight).sum(), states)
    slow = torch.autograd.grad((attend_slowly(*states, mask)[0] * weight).sum(), states)
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


@pytest.mark.parametrize("kernel", [attend, lambda *states: attend_slowly(*states)[0]], ids=["fast", "slow"])
def test_gradients_of_masked_attention(kernel):
    batch = collate([join([row([1, 1, 1], "causal", prefix=2), row([1], "causal")]), row([1, 1, 1], "bidirectional")])
    mask = attention_mask(batch.sequence_ids, batch.reach, batch.sequence_ids)
    query, key, value = (torch.randn(2, h, 4, 2, dtype=torch.float64, requires_grad=True) for h in (2, 1, 1))
    assert torch.autograd.gradcheck(lambda q, k, v: kernel(q, k, v, mask), (query, key, value))


@pytest.mark.parametrize("form", FORMS)
def test_what_is_masked_gets_exactly_no_gradient(form):
    mask = make_mask("packed")
    states = make_states(mask, (4, 2))
    attend(*states, FORMS[form](mask))[0, :, :3].sum().backward()  # the first sequence of the first row
    for state in states:
        assert state.grad[0, :, :3].abs().sum() > 0
        assert (state.grad[0, :, 3:] == 0).all()
        assert (state.grad[1] == 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_dropout_drops_weights_and_keeps_the_mean(form):
    mask = FORMS[form](torch.ones(1, 1, 1, 64, dtype=torch.bool)).to(torch.float32 if form == "to add" else torch.bool)
    query, key = torch.zeros(1, 1, 1, 4), torch.randn(1, 1, 64, 4)
    value = torch.eye(64)[None, None]  # so that the result is the weights themselves
    dropped = torch.stack([attend(query, key, value, mask, dropout=0.25)[0, 0, 0] for _ in range(400)]) * 64
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.02)


def reach_by_loops(sequence_ids, attention):
    reach = []
    for t, sequence in enumerate(sequence_ids):
        last = t
        while attention == "bidirectional" and last + 1 < len(sequence_ids) and sequence_ids[last + 1] == sequence:
            last += 1
        reach.append(last)
    return reach


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@given(lengths=some.lists(some.lists(some.integers(1, 5), max_size=4), min_size=1, max_size=4))
def test_default_reach_is_what_loops_say(attention, lengths):
    sequences = [[number for number, length in enumerate(part) for _ in range(length)] for part in lengths]
    width = max(map(len, sequences)) + 1
    padded = [part + [PADDING] * (width - len(part)) for part in sequences]
    reach = default_reach(torch.tensor(padded), attention)
    assert reach.dtype == torch.int64
    assert reach.tolist() == [reach_by_loops(part, attention) for part in padded]


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_default_reach_is_that_of_packed_rows(attention):
    batch = collate([join([row([1] * length, attention) for length in (3, 1, 4)])])
    assert torch.equal(default_reach(batch.sequence_ids, attention), batch.reach)

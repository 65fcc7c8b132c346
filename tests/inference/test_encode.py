"""A sequence among others, packed and in any order, gives what it gives alone."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from bothways.batch import collate, join, row
from bothways.errors import UserError
from bothways.inference.encode import encode, read_head, read_tokens, token_states

LENGTHS = (5, 1, 12, 3, 12, 7, 2, 40)
BERT = {
    "attention": "bidirectional",
    "position": "learned",
    "norm": "layer",
    "norm_position": "post",
    "activation": "gelu",
    "bias": True,
    "type_vocab_size": 2,
    "pooler": "tanh",
}
TRUNKS = {"GPT": {}, "modern BERT": {"attention": "bidirectional"}, "BERT": BERT}
HEADS = {"classification": 5, "span": 0, "language_model": 0}

every_trunk = pytest.mark.parametrize("trunk", TRUNKS)
every_budget = pytest.mark.parametrize("batch_tokens", [1, 25, 8192])


@torch.no_grad()
def states_alone(model, sequence):
    """Return the hidden states [T, C] of one sequence by itself."""
    model.eval()
    return model(collate([row(sequence, model.config.attention)]))[0]


@torch.no_grad()
def head_alone(model, head, sequence, position):
    """Return what a head says of one position of one sequence by itself."""
    model.eval()
    batch = collate([sequence if hasattr(sequence, "reach") else row(sequence, model.config.attention)])
    return model.read(head, model(batch), batch, torch.tensor([position]))[0].numpy()


@every_budget
@every_trunk
def test_a_vector_is_the_unit_mean_of_the_own_states(make_model, make_texts, trunk, batch_tokens):
    model, texts = make_model(HEADS, **TRUNKS[trunk]), make_texts(*LENGTHS)
    vectors = encode(model, texts, batch_tokens=batch_tokens)
    assert vectors.shape == (8, 16)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    for vector, text in zip(vectors, texts, strict=True):
        mean = states_alone(model, text).mean(0)
        np.testing.assert_allclose(vector, mean / mean.norm(), atol=1e-6)


def test_it_reads_as_well_with_the_head_as_without(make_model, make_texts):
    with_head, texts = make_model({"embedding": 0}), make_texts(*LENGTHS)
    without = make_model()
    without.transformer.load_state_dict(with_head.transformer.state_dict())
    np.testing.assert_array_equal(encode(with_head, texts), encode(without, texts))


@every_budget
@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
@every_trunk
def test_a_head_reads_each_sequence_as_if_alone(make_model, make_texts, trunk, pooling, batch_tokens):
    model, texts = make_model(HEADS, **TRUNKS[trunk], pooling=pooling), make_texts(*LENGTHS)
    logits = read_head(model, "classification", texts, batch_tokens=batch_tokens)
    assert logits.shape == (8, 5)
    for logit, text in zip(logits, texts, strict=True):
        position = {"first": 0, "last": len(text) - 1, "mean": len(text) // 2}[pooling]
        np.testing.assert_allclose(logit, head_alone(model, "classification", text, position), atol=1e-6)


@every_trunk
def test_in_float32_batching_is_within_1e_5(make_model, make_texts, trunk):
    model = make_model(HEADS, dtype=torch.float32, initializer_range=0.1, **TRUNKS[trunk])
    texts = make_texts(*LENGTHS)
    logits, vectors = read_head(model, "classification", texts), encode(model, texts)
    order = [3, 7, 0, 5, 1, 6, 2, 4]
    for size in (1, 2, 7):
        for start in range(0, 8, size):
            some = order[start : start + size]
            part = [texts[index] for index in some]
            np.testing.assert_allclose(read_head(model, "classification", part), logits[some], atol=1e-5)
            np.testing.assert_allclose(encode(model, part), vectors[some], atol=1e-5)


def test_rows_bring_their_own_segments_and_reach(make_model, make_texts):
    model, (text,) = make_model(HEADS, **BERT, pooling="first"), make_texts(6)
    rows = [
        row(text, "bidirectional"),
        row(text, "bidirectional", token_type_ids=[0, 0, 0, 1, 1, 1]),
        row(text, "causal", prefix=2),
    ]
    logits = read_head(model, "classification", [*rows, text])
    for logit, one in zip(logits, [*rows, text], strict=True):
        np.testing.assert_allclose(logit, head_alone(model, "classification", one, 0), atol=1e-10)
    assert np.abs(logits[0] - logits[1]).max() > 1e-3
    assert np.abs(logits[0] - logits[2]).max() > 1e-3
    np.testing.assert_allclose(logits[0], logits[3], atol=1e-10)


def test_a_row_of_several_sequences_is_refused(make_model):
    with pytest.raises(AssertionError, match="one sequence a row"):
        encode(make_model(), [join([row([1, 2], "causal"), row([3], "causal")])])


@every_budget
@every_trunk
def test_every_token_is_read_as_if_alone(make_model, make_texts, trunk, batch_tokens):
    model, texts = make_model(HEADS, **TRUNKS[trunk]), make_texts(*LENGTHS)
    spans = read_tokens(model, "span", texts, batch_tokens=batch_tokens)
    states = token_states(model, texts, batch_tokens=batch_tokens)
    for text, span, state in zip(texts, spans, states, strict=True):
        alone = states_alone(model, text)
        np.testing.assert_allclose(state, alone, atol=1e-10)
        np.testing.assert_allclose(span, model.heads["span"].output(alone).detach(), atol=1e-10)


@every_budget
def test_only_the_tokens_that_were_asked_for_are_read(make_model, make_texts, batch_tokens):
    model, texts = make_model(HEADS, **BERT), make_texts(6, 3, 9)
    positions = [[5, 0, 5], [], [4]]
    logits = read_tokens(model, "language_model", texts, positions=positions, batch_tokens=batch_tokens)
    assert [part.shape for part in logits] == [(3, 29), (0, 29), (1, 29)]
    for text, where, part in zip(texts, positions, logits, strict=True):
        for position, logit in zip(where, part, strict=True):
            np.testing.assert_allclose(logit, head_alone(model, "language_model", text, position), atol=1e-10)


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([[0], [3]], r"positions\[1\] names token 3 of a sequence of 3"),
        ([[-1], [0]], r"positions\[0\] names token -1"),
        ([[0]], "there are 2 sequences, but positions for 1"),
    ],
)
def test_positions_outside_are_refused(make_model, make_texts, positions, message):
    with pytest.raises(UserError, match=message):
        read_tokens(make_model(HEADS), "span", make_texts(6, 3), positions=positions)


def test_next_to_nothing_is_padding(make_model, watch):
    model = make_model()
    lengths = np.random.default_rng(1).integers(1, 41, size=200).tolist()
    shapes = watch(model)
    encode(model, [[1] * length for length in lengths], batch_tokens=500)
    read = sum(rows * length for rows, length in shapes)
    assert sum(lengths) <= read < 1.1 * sum(lengths)
    assert max(rows * length for rows, length in shapes) <= 1.2 * 500
    assert all(one >= other for (_, one), (_, other) in pairwise(shapes)), "the longest come first"


def test_nothing_has_a_shape_too(make_model):
    model = make_model(HEADS)
    assert encode(model, []).shape == (0, 16)
    assert read_head(model, "classification", []).shape == (0, 5)
    assert read_tokens(model, "span", []) == []
    assert token_states(model, []) == []


@every_trunk
def test_bf16_says_nearly_the_same(make_model, make_texts, trunk):
    model = make_model(HEADS, dtype=torch.float32, initializer_range=0.1, **TRUNKS[trunk])
    texts = make_texts(*LENGTHS)
    whole, half = encode(model, texts), encode(model, texts, precision="bf16")
    assert half.dtype == np.float32
    assert 0.999 < (whole * half).sum(axis=1).min() <= 1 + 1e-6
    assert not np.array_equal(whole, half)
    assert read_head(model, "classification", texts, precision="bf16").dtype == np.float32


def test_the_model_is_left_as_it_was_found(make_model, make_texts):
    model = make_model(HEADS, hidden_dropout=0.5).train()
    first, second = (read_head(model, "classification", make_texts(4, 4)) for _ in range(2))
    assert all(module.training for module in model.modules())
    assert first.shape == second.shape
    np.testing.assert_array_equal(*(encode(model, [[1, 2, 3]]) for _ in range(2)))
    assert torch.is_grad_enabled()


def test_a_head_that_the_model_lacks_is_refused(make_model, make_texts):
    message = "unknown head of this model: 'clasification'; legal: classification, language_model, span"
    for call in (read_head, read_tokens):
        with pytest.raises(UserError, match=message):
            call(make_model(HEADS), "clasification", make_texts(3))


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ([[1], []], r"sequences\[1\] has no tokens"),
        ([[1] * 41], r"sequences\[0\] has 41 tokens, but the model reads at most 40; shorten or split it"),
        ([[29]], "token id 29"),
        (["text"], "whole numbers"),
        ([row([1] * 41, "causal")], "has 41 tokens"),
        ([row([99], "causal")], "token id 99"),
    ],
)
def test_what_cannot_be_read_is_refused(make_model, sequences, message):
    model = make_model(HEADS)
    for call in (encode, token_states, lambda *given: read_head(given[0], "classification", given[1])):
        with pytest.raises(UserError, match=message):
            call(model, sequences)


def test_settings_out_of_range_are_refused(make_model, make_texts):
    with pytest.raises(UserError, match="batch_tokens must be at least 1, not 0"):
        encode(make_model(), make_texts(3), batch_tokens=0)
    with pytest.raises(UserError, match="unknown precision 'fp8'"):
        encode(make_model(), make_texts(3), precision="fp8")


# A model that says a hidden token at the position before it.


def test_a_shifted_model_is_asked_for_a_token_at_the_position_before(make_model, make_texts):
    model, texts = make_model(HEADS, attention="bidirectional"), make_texts(5, 3)
    states = {head: read_tokens(model, head, texts) for head in ("language_model", "span")}
    model.shifted = True
    positions = [[1, 4], [2]]
    found = read_tokens(model, "language_model", texts, positions=positions)
    for said, read, wanted in zip(found, states["language_model"], positions, strict=True):
        np.testing.assert_allclose(said, read[np.array(wanted) - 1], atol=1e-10)
    for one, other in zip(read_tokens(model, "span", texts), states["span"], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("positions", [None, [[1], [0]]])
def test_a_shifted_model_cannot_be_asked_for_the_first_token(make_model, make_texts, positions):
    model, texts = make_model(HEADS, attention="bidirectional"), make_texts(5, 1)
    model.shifted = True
    with pytest.raises(UserError, match=r"so token 0 of sequences\[[01]\] cannot be asked for"):
        read_tokens(model, "language_model", texts, positions=positions)


def test_next_tokens_of_a_shifted_hybrid_are_read_where_they_always_are(make_model, make_texts):
    model, texts = make_model(HEADS, hybrid=True), make_texts(5, 1)
    plain = read_tokens(model, "language_model", texts)
    model.shifted = True
    for one, other in zip(read_tokens(model, "language_model", texts), plain, strict=True):
        np.testing.assert_array_equal(one, other)

"""Heads read the positions that they are told to read, and nothing else."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional

from bothways.batch import Target, collate, join, row
from bothways.errors import UserError
from bothways.model.heads import (
    HEADS,
    ClassificationHead,
    ComparisonHead,
    EmbeddingHead,
    LanguageModelHead,
    Model,
    TokenHead,
    pool,
)


def make_batch(attention="bidirectional"):
    first = join([row([1, 2, 3], attention), row([4], attention), row([5, 6], attention)])
    return collate([first, row([7, 8, 9, 10], attention)])


def states_for(batch, size=4):
    return torch.randn(batch.input_ids.numel(), size, dtype=torch.float64, requires_grad=True)


def sequence_of(batch, position):
    """Return all flat positions of the sequence that a flat position lies in."""
    length = batch.input_ids.shape[1]
    at, ids = position // length, batch.sequence_ids
    return [at * length + t for t in range(length) if ids[at, t] == ids[at, position % length]]


def test_the_mean_is_over_the_sequence_that_the_index_lies_in():
    batch = make_batch()
    states = torch.randn(12, 4)
    index = torch.tensor([5, 0, 2, 3, 8, 11, 7, 0])
    expected = torch.stack([states[sequence_of(batch, int(position))].mean(0) for position in index])
    torch.testing.assert_close(pool(states, batch, index, "mean"), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("pooling", ["first", "last"])
def test_first_and_last_read_the_very_position(pooling):
    states, index = torch.randn(12, 4), torch.tensor([6, 0, 5])
    assert torch.equal(pool(states, make_batch(), index, pooling), states[index])


def test_a_mean_keeps_the_dtype_and_is_summed_wide():
    batch = collate([row([1] * 1000, "bidirectional")])
    states = torch.full((1000, 2), 1.01, dtype=torch.bfloat16)
    mean = pool(states, batch, torch.tensor([3]), "mean")
    assert mean.dtype == torch.bfloat16
    assert torch.equal(mean[0], states[0])


def test_only_the_own_sequence_gets_a_gradient():
    batch = make_batch()
    states = states_for(batch)
    pool(states, batch, torch.tensor([4]), "mean").sum().backward()
    own = torch.zeros(12, dtype=torch.bool)
    own[[4, 5]] = True
    assert (states.grad[own] == 0.5).all()
    assert (states.grad[~own] == 0).all()


@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
def test_gradients_of_pooling(pooling):
    batch = make_batch()
    index = torch.tensor([0, 5, 7])
    assert torch.autograd.gradcheck(lambda states: pool(states, batch, index, pooling), (states_for(batch),))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("language_model", {}),
        ("language_model", {"head_transform": True}),
        ("language_model", {"head_transform": True, "norm": "layer"}),
        ("classification", {"pooling": "last"}),
        ("classification", {"pooling": "first", "pooler": "tanh"}),
        ("next_sentence", {"pooling": "first", "pooler": "gelu", "type_vocab_size": 2}),
        ("next_sentence", {}),
        ("span", {}),
        ("classification", {"pooling": "mean"}),
        ("embedding", {}),
    ],
)
def test_gradients_of_heads(make_config, name, settings):
    config = make_config(vocab_size=5, hidden_size=4, num_attention_heads=2, **settings)
    head = Model(config, {name: 0}).double().heads[name]
    batch, index = make_batch(), torch.tensor([0, 5, 7])
    names = [name for name, _ in head.named_parameters()]

    def run(states, *weights):
        named = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(head, named, (states, batch, index))

    weights = [parameter.detach().clone().requires_grad_() for parameter in head.parameters()]
    assert torch.autograd.gradcheck(run, (states_for(batch), *weights))


@pytest.mark.parametrize(
    ("name", "outputs", "size"),
    [
        ("language_model", 0, 23),
        ("classification", 5, 5),
        ("classification", 0, 2),
        ("next_sentence", 0, 2),
        ("span", 0, 2),
        ("embedding", 0, 16),
    ],
)
def test_a_head_answers_at_each_index(make_model, name, outputs, size):
    model = make_model({name: outputs})
    batch = make_batch()
    states = model(batch)
    index = torch.tensor([0, 4, 4, 9])
    answers = model.read(name, states, batch, index)
    assert answers.shape == (4, size)
    assert torch.equal(answers[1], answers[2])
    assert model.read(name, states, batch, index[:0]).shape == (0, size)


def test_a_comparison_reads_the_means_of_both_texts(make_config):
    head = ComparisonHead(make_config(), 0)
    types = [[0, 0, 1, 1, 1], [0, 1], [0]]
    parts = [row([1] * len(each), "bidirectional", token_type_ids=each) for each in types]
    batch = collate([join(parts[:2]), parts[2]])
    states = torch.randn(14, 16)
    one = torch.stack([states[:2].mean(0), states[5], states[7]])
    other = torch.stack([states[2:5].mean(0), states[6], torch.zeros(16)])
    compared = torch.cat([one, other, (one - other).abs(), one * other], dim=-1)
    expected = head.output(functional.gelu(head.dense(compared)))
    torch.testing.assert_close(head(states, batch, torch.tensor([0, 5, 7])), expected)
    without = collate([row([1, 2], "bidirectional")])
    both = torch.cat([states[:2].mean(0), torch.zeros(16), states[:2].mean(0).abs(), torch.zeros(16)])
    torch.testing.assert_close(
        head(states[:2], without, torch.tensor([1]))[0], head.output(functional.gelu(head.dense(both)))
    )


@pytest.mark.parametrize(("segments", "kind"), [(0, ComparisonHead), (2, ClassificationHead)])
def test_texts_are_compared_where_the_trunk_cannot_tell_them_apart(make_model, segments, kind):
    assert type(make_model({"next_sentence": 0}, type_vocab_size=segments).heads["next_sentence"]) is kind


def test_every_kind_of_head_is_tried_here():
    assert set(HEADS) == {
        "language_model",
        "classification",
        "next_sentence",
        "token_classification",
        "span",
        "embedding",
    }


def test_a_head_reads_the_targets_of_the_batch_unless_told_otherwise(make_model):
    model = make_model({"span": 0})
    asked = {"span": Target(index=np.array([2, 0]), value=np.zeros((2, 2)))}
    batch = collate([row([1, 2, 3], "causal"), row([4, 5, 6], "causal", targets=asked)])
    states = model(batch)
    assert torch.equal(model.read("span", states, batch), model.read("span", states, batch, torch.tensor([5, 3])))


def test_an_embedding_is_the_unit_vector_of_the_mean(make_config):
    batch = make_batch()
    states = torch.randn(12, 16)
    vectors = EmbeddingHead(make_config(), 0)(states, batch, torch.tensor([1, 7]))
    mean = torch.stack([states[:3].mean(0), states[6:10].mean(0)])
    torch.testing.assert_close(vectors, mean / mean.norm(dim=1, keepdim=True), atol=1e-6, rtol=0)
    assert not list(EmbeddingHead(make_config(), 0).parameters())


def test_an_embedding_is_wide_even_where_the_model_is_not(make_config):
    batch = make_batch()
    vectors = EmbeddingHead(make_config(), 0)(torch.randn(12, 16, dtype=torch.bfloat16), batch, torch.tensor([1, 7]))
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2), atol=1e-6, rtol=0)


def test_the_language_model_head_is_the_embedding_transposed_when_tied(make_model):
    model = make_model()
    states = torch.randn(1, 3, 16, dtype=torch.float64)
    logits = model.read("language_model", states, make_batch(), torch.arange(3))
    torch.testing.assert_close(logits, states[0] @ model.transformer.embed_tokens.weight.T, atol=1e-12, rtol=0)


@pytest.mark.parametrize("tied", [True, False])
def test_tied_weights_are_one(make_model, tied):
    model, trunk = make_model(tie_word_embeddings=tied), make_model({}, tie_word_embeddings=tied)
    shared = model.heads["language_model"].decoder.weight is model.transformer.embed_tokens.weight
    assert shared is tied
    assert model.num_parameters() - trunk.num_parameters() == (0 if tied else 23 * 16)


def test_tied_weights_stay_one_in_a_copy(make_model):
    model = copy.deepcopy(make_model())
    assert model.heads["language_model"].decoder.weight is model.transformer.embed_tokens.weight


@torch.no_grad()
def test_berts_transform_is_dense_activation_norm_and_the_decoder_has_a_bias(make_config):
    head = LanguageModelHead(make_config(head_transform=True, norm="layer"), 0)
    head.decoder.bias.normal_()
    states = torch.randn(3, 16)
    dense, _, norm = head.transform
    middle = functional.layer_norm(functional.gelu(dense(states)), (16,), norm.weight, norm.bias, 1e-6)
    expected = middle @ head.decoder.weight.T + head.decoder.bias
    torch.testing.assert_close(head(states, make_batch(), torch.arange(3)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooler", ["none", "tanh", "gelu"])
@torch.no_grad()
def test_the_pooler_is_a_dense_layer_before_the_classes(make_config, pooler):
    head = ClassificationHead(make_config(pooler=pooler, pooling="first"), 3)
    states = torch.randn(12, 16)
    pooled = states[[6]]
    if pooler != "none":
        pooled = {"tanh": torch.tanh, "gelu": functional.gelu}[pooler](head.dense(pooled))
    expected = head.output(pooled)
    torch.testing.assert_close(head(states, make_batch(), torch.tensor([6])), expected, atol=1e-6, rtol=0)
    assert (head.output.bias is None) is (pooler == "none")


def test_the_classifier_drops_out_in_training_only(make_config):
    head = ClassificationHead(make_config(hidden_dropout=0.5), 3)
    states, batch, index = torch.randn(12, 16), make_batch(), torch.tensor([2, 3])
    assert not torch.equal(head(states, batch, index), head(states, batch, index))
    head.eval()
    assert torch.equal(head(states, batch, index), head(states, batch, index))


def test_a_span_has_a_first_and_a_last_token(make_config):
    assert TokenHead(make_config(), 0).output.weight.shape == (2, 16)


def test_classes_of_tokens_may_be_read_through_a_dense_layer_and_a_norm(make_config):
    torch.manual_seed(0)
    plain, through = (TokenHead(make_config(head_transform=True, pooler=pooler), 5) for pooler in ("tanh", "transform"))
    states = torch.randn(7, 16)
    index = torch.tensor([6, 0])
    assert torch.equal(plain(states, None, index), plain.output(states[index]))
    assert torch.equal(through(states, None, index), through.output(through.transform(states[index])))
    assert through(states, None, index).shape == (2, 5)


def test_a_head_that_does_not_exist_is_refused(make_config):
    with pytest.raises(UserError, match=r"unknown head 'clasification'.*Did you mean 'classification'"):
        Model(make_config(), {"clasification": 2})


def test_adding_a_head_again_replaces_it(make_model):
    model = make_model({"classification": 2})
    model.add_head("classification", 4)
    assert model.heads["classification"].output.weight.shape == (4, 16)

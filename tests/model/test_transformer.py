"""The trunk: every option of it, its gradients, and that sequences in one batch know nothing of each other."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from bothways.batch import Target, collate, join, row
from bothways.errors import UserError
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.model.transformer import RMSNorm, Transformer, initialize, rotate, rotate_by

OPTIONS = {
    "the default": {},
    "norm last": {"norm_position": "post"},
    "layer norm": {"norm": "layer"},
    "layer norm last": {"norm": "layer", "norm_position": "post"},
    **{activation: {"activation": activation} for activation in ("swiglu", "geglu", "gelu", "gelu_tanh", "relu2")},
    "biases": {"bias": True},
    "normed queries": {"qk_norm": True},
    "grouped queries": {"num_key_value_heads": 2},
    "one key head": {"num_key_value_heads": 1, "qk_norm": True},
    "wide heads": {"head_size": 10},
    "learned positions": {"position": "learned"},
    "other rotary base": {"rope_theta": 100.0},
    "segments": {"type_vocab_size": 2},
    "untied": {"tie_word_embeddings": False},
    "head transform": {"head_transform": True},
    "head transform without a bias": {"head_transform": True, "head_bias": False},
    "classes through the head transform": {"head_transform": True, "pooler": "transform"},
    "positions from two on": {"position": "learned", "position_offset": 2},
    "layers that see what is near": {"local_window": 1, "global_every": 2},
    "the same, another rotary base": {"local_window": 7, "global_every": 2, "local_rope_theta": 100.0},
    "layer norm without a bias": {"norm": "layer", "norm_bias": False},
    "normed embeddings": {"norm_embeddings": True},
    "dropout": {"hidden_dropout": 0.3, "attention_dropout": 0.3},
    "bidirectional": {"attention": "bidirectional"},
    "GPT-2": {"position": "learned", "norm": "layer", "activation": "gelu_tanh", "bias": True},
    "BERT": {
        "attention": "bidirectional",
        "position": "learned",
        "norm": "layer",
        "norm_position": "post",
        "activation": "gelu",
        "bias": True,
        "type_vocab_size": 2,
        "head_transform": True,
        "pooling": "first",
        "pooler": "tanh",
    },
}


def sequences_of(lengths, vocab_size=23):
    return [torch.randint(vocab_size, (length,)).tolist() for length in lengths]


def predict_last(model, batch):
    """Return the logits of the language model head everywhere."""
    return model.read("language_model", model(batch), batch, torch.arange(batch.input_ids.numel()))


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_gives_finite_states_and_moves_every_weight(make_config, option):
    config = make_config(**OPTIONS[option])
    model = Model(config, {"language_model": 0, "classification": 3})
    rows = [row(ids, config.attention, token_type_ids=[0, 1] * 4) for ids in sequences_of([8, 8])]
    batch = collate(rows)
    states = model(batch)
    assert states.shape == (2, 8, 16)
    index = torch.arange(16)
    logits = model.read("language_model", states, batch, index)
    classes = model.read("classification", states, batch, index)
    assert logits.shape == (16, 23)
    assert classes.shape == (16, 3)
    (functional.cross_entropy(logits, batch.input_ids.flatten()) + classes.square().sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        # A bias of the keys moves all scores of a query alike, and the softmax does not see it.
        assert name.endswith("k_proj.bias") or parameter.grad.abs().sum() > 0, name


def test_every_option_is_tried():
    tried = {name for settings in OPTIONS.values() for name in settings}
    elsewhere = {"norm_eps", "initializer_range", "max_position_embeddings", "hybrid"}
    sizes = {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"}
    assert tried | elsewhere | sizes == set(TransformerConfig.__dataclass_fields__)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_changes_what_is_computed(make_config, option):
    """An option that nothing reads would be the worst kind: here each gives other numbers or other weights."""

    def result(**settings):
        torch.manual_seed(0)
        model = Model(make_config(**settings), {"language_model": 0, "classification": 3})
        for name, parameter in model.named_parameters():
            if name.endswith(("norm.weight", "bias")):
                torch.nn.init.normal_(parameter)
        torch.manual_seed(1)
        batch = collate([row(list(range(8)), settings.get("attention", "causal"), token_type_ids=[0, 1] * 4)])
        return predict_last(model, batch), sum(parameter.numel() for parameter in model.parameters())

    default, settings = result(), OPTIONS[option]
    if settings in ({}, {"activation": "swiglu"}):
        return
    logits, size = result(**settings)
    assert size != default[1] or not torch.allclose(logits, default[0], atol=1e-4)


@pytest.mark.parametrize("option", ["the default", "BERT"])
def test_a_tiny_batch_is_learnt_by_heart(make_config, option):
    config = make_config(**OPTIONS[option], initializer_range=0.05)
    model = Model(config, {"language_model": 0})
    texts = sequences_of([12, 9, 12])
    targets = [{"language_model": Target(index=np.arange(len(ids) - 1), value=np.array(ids[1:]))} for ids in texts]
    # A bidirectional model would only have to look to its right, so its texts hide every token that it is asked for.
    shown = texts if config.attention == "causal" else [[number] * len(ids) for number, ids in enumerate(texts)]
    batch = collate([row(ids, config.attention, targets=asked) for ids, asked in zip(shown, targets, strict=True)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(120):
        logits = model.read("language_model", model(batch), batch)
        loss = functional.cross_entropy(logits, batch.targets["language_model"].value)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 2.5
    assert losses[-1] < 0.05
    assert (logits.argmax(-1) == batch.targets["language_model"].value).float().mean() == 1


LAYOUTS = ["causal", "bidirectional", "prefix"]


def layout(ids, kind):
    return row(ids, "bidirectional" if kind == "bidirectional" else "causal", prefix=3 if kind == "prefix" else 0)


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("option", ["the default", "one key head", "GPT-2", "BERT"])
@torch.no_grad()
def test_a_packed_sequence_is_read_as_if_alone(make_model, option, kind):
    model = make_model(**OPTIONS[option])
    texts = sequences_of([5, 1, 7, 3])
    packed = model(collate([join([layout(ids, kind) for ids in texts[:3]]), layout(texts[3], kind)]))
    states = [packed[0, :5], packed[0, 5:6], packed[0, 6:], packed[1, :3]]
    for ids, state in zip(texts, states, strict=True):
        torch.testing.assert_close(state, model(collate([layout(ids, kind)]))[0], atol=1e-10, rtol=0)


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("changed", [0, 1, 2])
@torch.no_grad()
def test_nothing_leaks_between_packed_sequences(make_model, kind, changed):
    model = make_model()
    texts = sequences_of([5, 4, 6])
    before = model(collate([join([layout(ids, kind) for ids in texts])]))[0]
    texts[changed] = [(token + 1) % 23 for token in texts[changed]]
    after = model(collate([join([layout(ids, kind) for ids in texts])]))[0]
    own = torch.tensor([changed]).repeat(15) == torch.tensor([0] * 5 + [1] * 4 + [2] * 6)
    torch.testing.assert_close(before[~own], after[~own], atol=1e-12, rtol=0)
    assert (before[own] - after[own]).abs().amax(dim=1).min() > 1e-3


@torch.no_grad()
def test_the_future_does_not_leak_and_a_prefix_is_seen_whole(make_model):
    model = make_model()
    ids, changed = sequences_of([8])[0], 5
    other = [*ids[:changed], (ids[changed] + 1) % 23, *ids[changed + 1 :]]
    for prefix, first_moved in ((0, changed), (3, changed), (6, 0)):
        states, moved = (model(collate([row(part, "causal", prefix=prefix)]))[0] for part in (ids, other))
        difference = (states - moved).abs().amax(dim=1)
        assert (difference[:first_moved] <= 1e-12).all()
        assert (difference[first_moved:] > 1e-6).all()


@pytest.mark.parametrize("option", ["the default", "BERT"])
def test_padding_neither_changes_a_result_nor_gets_a_gradient(make_model, option):
    model = make_model(**OPTIONS[option])
    short, long = sequences_of([4, 9])
    attention = model.config.attention
    batch = collate([row(short, attention), row(long, attention)])
    embedded = []
    model.transformer.embed_tokens.register_forward_hook(
        lambda *call: embedded.append(call[2]) or call[2].retain_grad()
    )
    states = model(batch)
    states[0, :4].square().sum().backward()
    gradient = embedded[0].grad
    assert (gradient[0, :4].abs().sum(dim=1) > 0).all()
    assert (gradient[0, 4:] == 0).all()
    assert (gradient[1] == 0).all()
    alone = model(collate([row(short, attention)]))[0]
    torch.testing.assert_close(states[0, :4], alone, atol=1e-10, rtol=0)


@pytest.mark.parametrize("option", ["the default", "BERT"])
@torch.no_grad()
def test_rows_of_padding_alone_stay_finite(make_model, option):
    model = make_model(**OPTIONS[option])
    states = model(collate([row([3], model.config.attention)], length=6))
    assert states.isfinite().all()


@torch.no_grad()
def test_positions_count_from_the_start_of_a_sequence(make_model):
    """Rotary positions say how far apart tokens are, learned ones where they stand."""
    ids = sequences_of([6])[0]
    batch = collate([row(ids, "causal")])
    moved = collate([row(ids, "causal")])
    moved.position_ids.add_(9)
    rotary, learned = make_model(), make_model(position="learned")
    torch.testing.assert_close(rotary(batch), rotary(moved), atol=1e-10, rtol=0)
    assert not torch.allclose(learned(batch), learned(moved), atol=1e-3)


@torch.no_grad()
def test_segments_default_to_the_first(make_model):
    model = make_model(type_vocab_size=2)
    ids = sequences_of([6])[0]
    without, zeros, ones = (
        model(collate([row(ids, "causal", token_type_ids=types)])) for types in (None, [0] * 6, [1] * 6)
    )
    assert torch.equal(without, zeros)
    assert not torch.allclose(without, ones, atol=1e-3)


@torch.no_grad()
def test_dropout_acts_in_training_only(make_model):
    model = make_model(hidden_dropout=0.5)
    batch = collate([row(sequences_of([6])[0], "causal")])
    assert torch.equal(model(batch), model(batch))
    model.train()
    assert not torch.allclose(model(batch), model(batch), atol=1e-3)


# Parts


def test_rms_norm_is_its_formula():
    x = torch.randn(3, 5, dtype=torch.float64)
    norm = RMSNorm(5, eps=0.1).double()
    torch.nn.init.normal_(norm.weight)
    expected = [[v / math.sqrt(sum(w * w for w in line) / 5 + 0.1) for v in line] for line in x.tolist()]
    torch.testing.assert_close(norm(x), torch.tensor(expected, dtype=torch.float64) * norm.weight, atol=1e-12, rtol=0)


def test_rms_norm_computes_wide_and_returns_the_dtype_it_was_given():
    norm = RMSNorm(4, eps=1e-6).to(torch.bfloat16)
    x = torch.full((1, 4), 3e38, dtype=torch.bfloat16).div(1e20)  # its square overflows float16
    assert norm(x).dtype == torch.bfloat16
    torch.testing.assert_close(norm(x), torch.ones(1, 4, dtype=torch.bfloat16))


def test_gradients_of_rms_norm():
    norm = RMSNorm(4, eps=1e-2).double()
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: torch.func.functional_call(norm, {"weight": w}, (x,)), (x, weight))


def test_gradients_of_rotation():
    rotation = rotate_by(torch.tensor([[0, 3, 7]]), 4, 10_000.0, torch.zeros(0, dtype=torch.float64))
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: rotate(x, rotation), (x,))


def test_rotation_turns_pairs_by_position_times_frequency():
    positions = torch.tensor([[0, 2, 31]])
    x = torch.randn(1, 4, 3, 6, dtype=torch.float64)
    turned = rotate(x, rotate_by(positions, 6, 50.0, x))
    for t, i in np.ndindex(3, 3):
        pair = torch.complex(x[0, :, t, i], x[0, :, t, i + 3])
        angle = int(positions[0, t]) * 50.0 ** (-2 * i / 6)
        expected = pair * complex(math.cos(angle), math.sin(angle))
        torch.testing.assert_close(turned[0, :, t, i], expected.real, atol=1e-12, rtol=0)
        torch.testing.assert_close(turned[0, :, t, i + 3], expected.imag, atol=1e-12, rtol=0)
    assert torch.equal(turned[:, :, 0], x[:, :, 0])


def test_rotation_keeps_the_dtype():
    x = torch.randn(1, 4, 2, 4, dtype=torch.bfloat16)
    assert rotate(x, rotate_by(torch.tensor([[5, 6]]), 4, 10_000.0, x)).dtype == torch.bfloat16


@pytest.mark.parametrize("option", ["the default", "one key head", "GPT-2", "BERT"])
def test_gradients_of_a_whole_model(make_config, option):
    tiny = {"vocab_size": 4, "hidden_size": 4, "num_attention_heads": 2, "intermediate_size": 3}
    small = {"num_hidden_layers": 1, "max_position_embeddings": 3, "initializer_range": 0.5}
    config = make_config(**{**OPTIONS[option], **tiny, **small})
    model = Model(config, {"language_model": 0, "classification": 2}).double()
    rows = [join([row([1, 2], config.attention), row([3], config.attention)]), row([2, 0], config.attention)]
    batch = collate(rows)
    names = [name for name, _ in model.named_parameters()]

    class Everything(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self):
            states = model(batch)
            language = model.read("language_model", states, batch, torch.tensor([0, 2, 4]))
            classes = model.read("classification", states, batch, torch.tensor([1, 3]))
            return language, classes

    everything = Everything()

    def run(*weights):
        named = {f"model.{name}": weight for name, weight in zip(names, weights, strict=True)}
        return torch.func.functional_call(everything, named, (), tie_weights=True)

    weights = [parameter.detach().clone().requires_grad_() for parameter in model.parameters()]
    assert torch.autograd.gradcheck(run, weights)


def test_every_weight_starts_as_the_table_says(make_config):
    config = make_config(
        hidden_size=128,
        intermediate_size=256,
        vocab_size=500,
        bias=True,
        norm="layer",
        position="learned",
        type_vocab_size=2,
        initializer_range=0.02,
    )
    transformer = Transformer(config)
    initialize(transformer, config)
    for name, parameter in transformer.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        else:
            expected = 0.02 / 2 if name.endswith(("o_proj.weight", "down_proj.weight")) else 0.02  # 2 layers: √4 = 2
            assert float(parameter.detach().std()) == pytest.approx(expected, rel=0.15), name
            assert float(parameter.detach().mean()) == pytest.approx(0, abs=expected / 5), name


def test_norm_last_does_not_shrink_the_residual_weights(make_config):
    config = make_config(hidden_size=128, norm_position="post", initializer_range=0.02)
    transformer = Transformer(config)
    initialize(transformer, config)
    assert float(transformer.layers[0].attention.o_proj.weight.std().detach()) == pytest.approx(0.02, rel=0.1)


def test_fresh_weights_follow_the_seed(make_config):
    def fresh(seed):
        torch.manual_seed(seed)
        return Model(make_config(), {"language_model": 0}).state_dict()

    first, same, other = fresh(3), fresh(3), fresh(4)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocab_size": 0}, "model.vocab_size must be at least 1, not 0"),
        ({"hidden_size": -4}, "model.hidden_size"),
        ({"num_hidden_layers": 0}, "model.num_hidden_layers"),
        ({"num_attention_heads": 0}, "model.num_attention_heads"),
        ({"intermediate_size": 0}, "model.intermediate_size"),
        ({"max_position_embeddings": 0}, "model.max_position_embeddings"),
        ({"hidden_dropout": 1.0}, r"model.hidden_dropout must be in \[0, 1\), not 1.0"),
        ({"attention_dropout": -0.1}, "model.attention_dropout"),
        ({"hidden_dropout": math.nan}, "model.hidden_dropout"),
        ({"num_attention_heads": 3}, r"model.hidden_size \(16\) must be a multiple of model.num_attention_heads \(3\)"),
        ({"head_size": 5}, "even head size, not 5"),
        ({"num_key_value_heads": 3}, r"must be a multiple of model.num_key_value_heads \(3\)"),
        ({"num_key_value_heads": 0}, "model.num_key_value_heads"),
        ({"num_key_value_heads": -2}, "model.num_key_value_heads"),
    ],
)
def test_settings_that_cannot_be_are_refused(make_config, settings, message):
    with pytest.raises(UserError, match=message):
        make_config(**settings)


@pytest.mark.parametrize("name", ["norm", "norm_position", "activation", "position", "attention", "pooling", "pooler"])
def test_a_choice_that_does_not_exist_is_refused(name):
    with pytest.raises(UserError, match=f"unknown value for {name}"):
        TransformerConfig.from_dict({"vocab_size": 5, name: "other"})


def test_settings_survive_a_round_trip(make_config):
    config = make_config(**OPTIONS["BERT"])
    assert TransformerConfig.from_dict(config.to_dict()) == config


def test_learned_positions_take_an_odd_head_size(make_config):
    assert make_config(position="learned", head_size=5).size_of_head == 5

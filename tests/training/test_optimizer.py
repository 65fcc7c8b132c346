import math

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from bothways.training.config import OptimizerConfig
from bothways.training.muon import Muon
from bothways.training.optimizer import make_optimizers, restore_state, set_learning_rate, state_tensors

RATE = 0.01


def groups_of(optimizers, model):
    """Return the group of each weight by name; a weight in two groups is an error."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                assert names[id(parameter)] not in found
                found[names[id(parameter)]] = (type(optimizer), group)
    return found


def step(optimizers, gradients, model, rate=RATE):
    for name, parameter in model.named_parameters():
        parameter.grad = gradients[name].clone() if parameter.requires_grad else None
    set_learning_rate(optimizers, rate)
    for optimizer in optimizers:
        optimizer.step()


def random_gradients(model, seed):
    torch.manual_seed(seed)
    return {name: torch.randn_like(parameter) for name, parameter in model.named_parameters()}


@pytest.fixture
def model(make_model):
    return make_model(
        {"language_model": 0, "classification": 3},
        norm="layer",
        bias=True,
        type_vocab_size=2,
        position="learned",
        pooler="tanh",
    )


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_weight_is_in_one_group_with_the_decay_and_the_rate_it_should_have(model, name):
    config = OptimizerConfig(name=name, weight_decay=0.3, embedding_scale=5.0, momentum=0.7)
    optimizers = make_optimizers(model, config)
    set_learning_rate(optimizers, RATE)
    found = groups_of(optimizers, model)
    assert set(found) == {name for name, _ in model.named_parameters()}
    for weight, parameter in model.named_parameters():
        kind, group = found[weight]
        embedding = "embed_" in weight and parameter.dim() == 2
        trunk = weight.startswith("transformer.layers.") and parameter.dim() == 2
        assert kind is (Muon if name == "muon" and trunk else AdamW), weight
        assert group["weight_decay"] == (0.3 if parameter.dim() == 2 and not embedding else 0.0), weight
        assert group["lr"] == RATE * (5.0 if embedding else 1.0), weight
        assert group.get("momentum", 0.7) == 0.7, weight


def test_a_decoder_of_its_own_is_no_embedding(make_model):
    model = make_model(tie_word_embeddings=False)
    optimizers = make_optimizers(model, OptimizerConfig(weight_decay=0.3, embedding_scale=5.0))
    set_learning_rate(optimizers, RATE)
    kind, group = groups_of(optimizers, model)["heads.language_model.decoder.weight"]
    assert (kind, group["lr"], group["weight_decay"]) == (AdamW, RATE, 0.3)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_what_does_not_learn_is_left_out(model, name):
    for weight, parameter in model.named_parameters():
        parameter.requires_grad_(weight.startswith("heads.classification"))
    optimizers = make_optimizers(model, OptimizerConfig(name=name))
    assert set(groups_of(optimizers, model)) == {
        f"heads.classification.{part}" for part in ("dense.weight", "dense.bias", "output.weight", "output.bias")
    }
    model.requires_grad_(False)
    assert make_optimizers(model, OptimizerConfig(name=name)) == []


def test_adamw_is_the_textbook_formula(model):
    config = OptimizerConfig(name="adamw", beta1=0.8, beta2=0.9, eps=1e-3, weight_decay=0.3, embedding_scale=2.0)
    model.double()
    expected = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    mean, square = ({name: torch.zeros_like(value) for name, value in expected.items()} for _ in range(2))
    optimizers = make_optimizers(model, config)
    for number in (1, 2, 3):
        gradients = random_gradients(model, number)
        step(optimizers, gradients, model)
        for name, value in expected.items():
            embedding = "embed_" in name and value.dim() == 2
            rate = RATE * (2.0 if embedding else 1.0)
            decay = 0.3 if value.dim() == 2 and not embedding else 0.0
            mean[name] = 0.8 * mean[name] + 0.2 * gradients[name]
            square[name] = 0.9 * square[name] + 0.1 * gradients[name] ** 2
            unbiased = mean[name] / (1 - 0.8**number), square[name] / (1 - 0.9**number)
            expected[name] = value - rate * decay * value - rate * unbiased[0] / (unbiased[1].sqrt() + 1e-3)
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter, expected[name], rtol=1e-12, atol=1e-14), name


def test_muon_moves_a_matrix_equally_in_all_directions_and_as_far_as_adamw(make_model):
    model = make_model(hidden_size=64, intermediate_size=96)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizers = make_optimizers(model, OptimizerConfig(name="muon", weight_decay=0.0))
    step(optimizers, random_gradients(model, 0), model)
    for name, parameter in model.named_parameters():
        if name.startswith("transformer.layers.") and parameter.dim() == 2:
            moved = (before[name] - parameter.detach()) / RATE
            values = torch.linalg.svdvals(moved)
            size = 0.2 * math.sqrt(max(parameter.shape))
            assert (values < 1.3 * size).all(), name
            assert ((values > 0.6 * size).float().mean() > 0.9).item(), name  # those near 0 take more iterations
            assert float(moved.square().mean().sqrt()) == pytest.approx(0.2, rel=0.2)  # AdamW's is about this


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_what_an_optimizer_remembers_can_be_taken_down_and_put_back(make_model, name):
    config = OptimizerConfig(name=name)
    models = [make_model(bias=True), make_model(bias=True)]
    optimizers = [make_optimizers(model, config) for model in models]
    for number in (1, 2):
        step(optimizers[0], random_gradients(models[0], number), models[0])
    models[1].load_state_dict(models[0].state_dict())
    tensors = state_tensors(optimizers[0], models[0])
    assert {key.rpartition("/")[0].removeprefix("optimizer/") for key in tensors} == set(
        dict(models[0].named_parameters())
    )
    restore_state(optimizers[1], models[1], {**tensors, "random/cpu": torch.zeros(3)})
    for model, each in zip(models, optimizers, strict=True):
        step(each, random_gradients(models[0], 3), model)
    for (weight, first), second in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert torch.equal(first, second), weight


def test_what_is_put_back_is_a_copy(make_model):
    model = make_model()
    optimizers = make_optimizers(model, OptimizerConfig())
    step(optimizers, random_gradients(model, 1), model)
    tensors = state_tensors(optimizers, model)
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    restore_state(optimizers, model, copies)
    step(optimizers, random_gradients(model, 2), model)
    kept = state_tensors(optimizers, model)
    name = next(name for name in copies if name.endswith("momentum_buffer"))
    assert not torch.equal(copies[name], kept[name])


def test_an_optimizer_that_has_not_stepped_remembers_nothing(make_model):
    model = make_model()
    assert state_tensors(make_optimizers(model, OptimizerConfig()), model) == {}


def test_any_module_will_do():
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    [optimizer] = make_optimizers(module, OptimizerConfig(name="muon"))  # it has no trunk
    assert isinstance(optimizer, AdamW)

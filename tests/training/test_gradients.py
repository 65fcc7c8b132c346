"""Gradients that training adds up: exact for odd shapes, the same in four parts as in one, and none from padding."""

import pytest
import torch

from bothways.batch import collate, row
from bothways.model.transformer import RMSNorm
from bothways.training.batches import PretrainingBatches


@pytest.mark.parametrize("shape", [(1, 1), (7, 1), (1, 5), (2, 3, 5), (2, 1, 3, 7), (5, 2, 2, 2, 3)])
def test_the_gradient_of_rms_norm_is_exact_for_every_shape(shape):
    norm = RMSNorm(shape[-1], eps=1e-3).double()
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(shape[-1], dtype=torch.float64, requires_grad=True)

    def run(x, weight):
        return torch.func.functional_call(norm, {"weight": weight}, (x,))

    assert torch.autograd.gradcheck(run, (x, weight))


def test_the_gradient_of_rms_norm_is_that_of_its_formula():
    x = torch.randn(4, 6, 10, dtype=torch.float64).transpose(0, 1).requires_grad_()  # not contiguous
    norm = RMSNorm(10, eps=1e-3).double()
    torch.nn.init.normal_(norm.weight)
    seed = torch.randn(6, 4, 10, dtype=torch.float64)
    found = torch.autograd.grad((norm(x) * seed).sum(), (x, norm.weight))
    written = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-3) * norm.weight
    expected = torch.autograd.grad((written * seed).sum(), (x, norm.weight))
    for each, other in zip(found, expected, strict=True):
        torch.testing.assert_close(each, other, atol=1e-12, rtol=0)


def gradients(model, objective, batches):
    """Return the gradient of the mean loss over all batches, as training adds it up."""
    counts = {}
    for batch in batches:
        for name, count in objective.counts(batch).items():
            counts[name] = counts.get(name, 0) + count
    model.zero_grad()
    for batch in batches:
        for name, loss in objective.loss(model, batch).items():
            (loss.weight * loss.sum / counts[name]).backward(retain_graph=True)
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_four_parts_of_a_step_have_the_gradient_of_the_whole(request, make_model, make_training, corpus, kind):
    objective = request.getfixturevalue(kind)
    settings = {"attention": "bidirectional", "pooler": "tanh", "pooling": "mean"} if kind == "masked" else {}
    model = make_model(objective.heads, initializer_range=0.3, **settings).double()
    found = []
    for micro in (16, 64):
        batches = next(PretrainingBatches(corpus, objective, make_training(micro_batch_tokens=micro), seed=0))
        found.append((len(batches), gradients(model, objective, batches)))
    assert [parts for parts, _ in found] == [4, 1]
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(gradient, found[1][1][name], atol=1e-12, rtol=0, msg=name)


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_padding_neither_gives_nor_gets_a_gradient(make_model, attention):
    torch.manual_seed(0)
    model = make_model(attention=attention).double()
    rows = [row(torch.arange(4, 4 + length), attention=attention) for length in (3, 6)]
    batch = collate(rows, length=12)
    padding = batch.sequence_ids < 0
    assert padding.sum() == 12 - 3 + 12 - 6
    states = []
    handle = model.transformer.layers[0].register_forward_pre_hook(lambda _, given: states.append(given[0]))
    out = model(batch)
    handle.remove()
    states[0].retain_grad()
    out[~padding].square().sum().backward()
    assert states[0].grad[padding].abs().max() == 0
    assert states[0].grad[~padding].abs().min() > 0
    with torch.no_grad():
        alone = [model(collate([each])) for each in rows]
    for number, each in enumerate(alone):
        torch.testing.assert_close(out[number, : len(rows[number])], each[0, : len(rows[number])], atol=1e-12, rtol=0)

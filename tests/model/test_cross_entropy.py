"""The loss of a vocabulary is the same whether all logits are stored or none."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from bothways.batch import Target, collate, row
from bothways.model import kernels

CLOSE = {torch.float64: 1e-10, torch.float32: 1e-5}


def make_batch():
    target = Target(index=np.arange(19), value=np.arange(1, 20))
    return collate([row(list(range(20)), "causal", targets={"language_model": target})] * 3)


def loss_and_gradients(model, batch):
    model.zero_grad()
    loss = model.cross_entropy("language_model", model(batch), batch)
    loss.backward()
    return loss.detach(), {name: weight.grad.clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("settings", [{}, {"tie_word_embeddings": False}, {"head_transform": True}])
@pytest.mark.parametrize("dtype", CLOSE)
def test_large_and_small_vocabularies_give_the_same(monkeypatch, make_model, dtype, settings):
    model, batch = make_model(**settings).to(dtype), make_batch()
    expected = loss_and_gradients(model, batch)
    monkeypatch.setitem(kernels.LOGITS_AT_ONCE, "cpu", 150)
    monkeypatch.setattr(model.heads["language_model"], "forward", None)  # would store all logits
    given = loss_and_gradients(model, batch)
    torch.testing.assert_close(given, expected, atol=CLOSE[dtype], rtol=CLOSE[dtype])


def test_it_is_the_cross_entropy_of_what_the_head_says(make_model):
    model, batch = make_model(), make_batch()
    value = batch.targets["language_model"].value
    logits = model.read("language_model", model(batch), batch)
    loss = model.cross_entropy("language_model", model(batch), batch)
    torch.testing.assert_close(loss, functional.cross_entropy(logits, value, reduction="sum"))

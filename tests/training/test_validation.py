import math

import numpy as np
import pytest
import torch

from bothways.batch import Target, collate, row
from bothways.training.validation import validate


@pytest.fixture
def batches(masked, corpus):
    rows = list(masked.prepare(corpus, np.arange(len(corpus)), 32, np.random.default_rng(0)))
    return [collate(rows[start : start + 3]) for start in range(0, len(rows), 3)]


@pytest.fixture
def model(make_model, masked):
    settings = {"attention": "bidirectional", "initializer_range": 0.3, "hidden_dropout": 0.2}
    return make_model(masked.heads, **settings).double().eval()


def slow_figures(model, batches):
    """Count and sum one target at a time."""
    nats, right, count = {}, {}, {}
    for batch in batches:
        for head, target in batch.targets.items():
            with torch.no_grad():
                chances = model.read(head, model(batch), batch).softmax(-1)
            for chance, value in zip(chances.tolist(), target.value.tolist(), strict=True):
                nats[head] = nats.get(head, 0) - math.log(chance[value])
                right[head] = right.get(head, 0) + (max(chance) == chance[value])
                count[head] = count.get(head, 0) + 1
    return nats, right, count


def test_figures_are_sums_over_all_targets_divided_once(model, batches):
    nats, right, count = slow_figures(model, batches)
    figures = validate(model, batches, precision="fp32")
    assert figures == pytest.approx(
        {
            "loss": nats["language_model"] / count["language_model"],
            "accuracy": right["language_model"] / count["language_model"],
            "next_sentence_accuracy": right["next_sentence"] / count["next_sentence"],
        },
        rel=1e-12,
    )


def test_bits_per_byte_and_perplexity_follow_from_the_same_sums(model, batches):
    nats, _, count = slow_figures(model, batches)
    figures = validate(model, batches, precision="fp32", num_bytes=777)
    assert figures["bits_per_byte"] == pytest.approx(nats["language_model"] / math.log(2) / 777, rel=1e-12)
    assert figures["perplexity"] == pytest.approx(math.exp(nats["language_model"] / count["language_model"]), rel=1e-12)


def test_how_rows_are_split_into_batches_changes_nothing(make_model, causal, corpus):
    rows = list(causal.prepare(corpus, np.arange(len(corpus)), 32, np.random.default_rng(0)))
    model = make_model(initializer_range=0.3).double()
    one, other = (
        validate(model, [collate(rows[start : start + size]) for start in range(0, len(rows), size)], precision="fp32")
        for size in (1, 7)
    )
    assert one == pytest.approx(other, rel=1e-12)


def test_a_head_alone_is_the_main_one(make_model):
    model = make_model({"classification": 3}, pooling="first", initializer_range=0.3).double()
    target = {"classification": Target(index=np.array([0]), value=np.array([2]))}
    figures = validate(model, [collate([row([5, 6], "causal", targets=target)])], precision="fp32")
    assert set(figures) == {"loss", "accuracy"}


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_measured_without_dropout_and_left_as_it_was(model, batches, training):
    expected = validate(model, batches, precision="fp32")
    model.train(training)
    assert validate(model, batches, precision="fp32") == expected
    assert model.training is training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_bf16_is_close_to_fp32(make_model, masked, batches):
    model = make_model(masked.heads, attention="bidirectional", initializer_range=0.1)
    exact, fast = (validate(model, batches, precision=precision) for precision in ("fp32", "bf16"))
    assert fast["loss"] == pytest.approx(exact["loss"], rel=1e-2)
    assert fast["loss"] != exact["loss"]

import numpy as np
import pytest
import torch

from bothways.batch import Target, collate, join, row
from bothways.objectives.classification import Classification

TEXTS = ([5, 6, 7], [8, 9], [10, 11, 12, 13])


def batch_of(values, pooling="first"):
    rows = [
        row(
            text,
            "bidirectional",
            targets={
                "classification": Target(
                    index=np.array([len(text) - 1 if pooling == "last" else 0]), value=np.array([value])
                )
            },
        )
        for text, value in zip(TEXTS, values, strict=True)
    ]
    return collate([join(rows[:2]), rows[2]])


@pytest.fixture(params=["first", "last", "mean"])
def pooling(request):
    return request.param


def probabilities(model, batch):
    with torch.no_grad():
        return model.read("classification", model(batch), batch)


def test_the_loss_is_the_surprise_at_each_class(make_model, pooling):
    objective = Classification(num_labels=3)
    model = make_model(objective.heads, pooling=pooling)
    values = [2, 0, 1]
    batch = batch_of(values, pooling)
    chances = probabilities(model, batch).softmax(-1)
    loss = objective.loss(model, batch)["classification"]
    expected = -sum(float(chances[number, value].log()) for number, value in enumerate(values))
    assert loss.sum.item() == pytest.approx(expected, rel=1e-12)
    assert loss.count == objective.counts(batch)["classification"] == 3


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_smoothing_spreads_a_share_of_the_answer_over_all_classes(make_model, smoothing):
    objective = Classification(num_labels=4, label_smoothing=smoothing)
    model = make_model(objective.heads, pooling="first")
    batch = batch_of([2, 0, 3])
    logs = probabilities(model, batch).log_softmax(-1)
    wanted = np.full((3, 4), smoothing / 4)
    wanted[[0, 1, 2], [2, 0, 3]] += 1 - smoothing
    expected = -float((torch.from_numpy(wanted) * logs).sum())
    assert objective.loss(model, batch)["classification"].sum.item() == pytest.approx(expected, rel=1e-12)


def test_several_labels_are_independent_yeses_and_noes(make_model):
    objective = Classification(num_labels=3, multi_label=True)
    model = make_model(objective.heads, pooling="first")
    values = [[1, 0, 1], [0, 0, 0], [1, 1, 1]]
    batch = batch_of(values)
    chances = probabilities(model, batch).sigmoid().tolist()
    expected = -sum(
        np.log(chance if yes else 1 - chance)
        for row_chances, row_values in zip(chances, values, strict=True)
        for chance, yes in zip(row_chances, row_values, strict=True)
    )
    loss = objective.loss(model, batch)["classification"]
    assert loss.sum.item() == pytest.approx(expected, rel=1e-12)
    assert loss.count == 3


def test_its_head_has_an_output_for_each_label():
    assert Classification(num_labels=7).heads == {"classification": 7}

import math

import numpy as np
import pytest
import torch

from bothways.batch import Target, collate, join, row
from bothways.objectives.span import Span, log_sum_exp

OBJECTIVE = Span()


def passage(text, *answers, positions=None):
    """Return a row whose passage is ``positions`` (all by default) and whose answers are pairs of positions."""
    positions = np.arange(len(text)) if positions is None else np.array(positions)
    value = np.zeros((len(positions), 2), dtype=np.int64)
    for first, last in answers:
        value[positions.tolist().index(first), 0] = 1
        value[positions.tolist().index(last), 1] = 1
    group = np.zeros(len(positions), dtype=np.int64)
    return row(text, "bidirectional", targets={"span": Target(index=positions, value=value, group=group)})


def slow_loss(model, rows):
    """Sum over passages of the mean of both ends' −log P(a right position), by plain loops."""
    total = 0.0
    for each in rows:
        batch = collate([each])
        target = each.targets["span"]
        with torch.no_grad():
            logits = model.read("span", model(batch), batch).tolist()
        for end in (0, 1):
            weights = [math.exp(scores[end]) for scores in logits]
            right = sum(weight for weight, hit in zip(weights, target.value[:, end], strict=True) if hit)
            total -= math.log(right / sum(weights)) / 2
    return total


@pytest.mark.parametrize("groups", [1, 2, 5])
def test_log_sum_exp_is_what_plain_loops_give(groups):
    values = torch.randn(30, 3, dtype=torch.float64) * 5
    group = torch.arange(30) % groups
    group = group[torch.randperm(30)]
    expected = [
        [
            math.log(sum(math.exp(values[item, column]) for item in range(30) if group[item] == number))
            for column in (0, 1, 2)
        ]
        for number in range(groups)
    ]
    assert torch.allclose(log_sum_exp(values, group, groups), torch.tensor(expected, dtype=torch.float64), rtol=1e-13)


def test_log_sum_exp_stays_finite_where_exp_would_not():
    values = torch.tensor([[1e4], [1e4], [-1e4], [-1e4 + 1]], dtype=torch.float64)
    found = log_sum_exp(values, torch.tensor([0, 0, 1, 1]), 2).flatten().tolist()
    assert found == pytest.approx([1e4 + math.log(2), -1e4 + math.log(1 + math.e)], rel=1e-15)


def test_log_sum_exp_leaves_out_what_is_minus_infinity():
    values = torch.tensor([[1.5], [-math.inf], [-math.inf], [0.25]], dtype=torch.float64, requires_grad=True)
    found = log_sum_exp(values, torch.tensor([0, 0, 1, 1]), 2)
    assert found.flatten().tolist() == [1.5, 0.25]
    found.sum().backward()
    assert values.grad.flatten().tolist() == [1, 0, 0, 1]


def test_the_gradient_of_log_sum_exp_is_right():
    values = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    group = torch.tensor([0, 2, 1, 1, 0, 2, 2, 0, 1])
    assert torch.autograd.gradcheck(lambda each: log_sum_exp(each, group, 3), values)


@pytest.mark.parametrize("packed", [False, True])
def test_the_loss_is_what_plain_loops_give(make_model, packed):
    model = make_model(OBJECTIVE.heads)
    rows = [
        passage([3, 5, 6, 7, 8, 4], (2, 4), positions=[0, 2, 3, 4]),
        passage([3, 9, 10, 11], (0, 0)),  # no answer: it is at [CLS]
        passage([3, 12, 13, 14, 15], (1, 2), (3, 4)),  # two right answers share the probability
    ]
    batch = collate([join(rows)] if packed else rows)
    loss = OBJECTIVE.loss(model, batch)["span"]
    assert loss.sum.item() == pytest.approx(slow_loss(model, rows), rel=1e-12)
    assert loss.count == OBJECTIVE.counts(batch)["span"] == 3


def test_a_passage_that_is_all_answer_costs_nothing(make_model):
    model = make_model(OBJECTIVE.heads)
    batch = collate([passage([3, 5, 6], (1, 1), positions=[1])])
    assert OBJECTIVE.loss(model, batch)["span"].sum.item() == 0

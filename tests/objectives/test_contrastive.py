import math

import numpy as np
import pytest
import torch

from bothways.batch import Target, collate, join, row
from bothways.objectives.contrastive import Contrastive

QUERY, DOCUMENT, NEGATIVE = 0, 1, 2


def example(query, document, *negatives):
    texts = [(QUERY, query), (DOCUMENT, document), *((NEGATIVE, text) for text in negatives)]
    rows = [
        row(
            text,
            "bidirectional",
            targets={"embedding": Target(index=np.zeros(1, int), value=np.array([side]), group=np.zeros(1, int))},
        )
        for side, text in texts
    ]
    # The texts of an example share one group, which joining single rows would keep apart.
    whole = join(rows)
    target = whole.targets["embedding"]
    whole.targets["embedding"] = Target(index=target.index, value=target.value, group=np.zeros(len(texts), int))
    return whole


EXAMPLES = [
    example([5, 6], [5, 6, 7], [20, 21]),
    example([8, 9, 10], [11, 12]),
    example([13], [14, 15, 16, 17], [22], [23, 24]),
    example([18, 19], [18]),
]


def embed(model, text):
    batch = collate([row(text, "bidirectional")])
    with torch.no_grad():
        vector = model(batch)[0].mean(0)
    return vector / vector.norm()


def slow_loss(model, objective):
    """InfoNCE by plain loops over (query, document, negatives) of EXAMPLES."""
    texts = []
    for each in EXAMPLES:
        parts = [each.input_ids[each.sequence_ids == number] for number in range(each.sequence_ids.max() + 1)]
        texts.append([embed(model, part) for part in parts])
    queries, documents = [parts[0] for parts in texts], [parts[1] for parts in texts]
    candidates = documents + [negative for parts in texts for negative in parts[2:]]
    there = back = 0.0
    for number, query in enumerate(queries):
        weights = [math.exp(objective.scale * float(query @ candidate)) for candidate in candidates]
        there -= math.log(weights[number] / sum(weights))
    for number, document in enumerate(documents):
        weights = [math.exp(objective.scale * float(query @ document)) for query in queries]
        back -= math.log(weights[number] / sum(weights))
    return (there + back) / 2 if objective.both_ways else there


@pytest.fixture
def model(make_model):
    return make_model(Contrastive().heads, attention="bidirectional")


@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_the_loss_is_what_plain_loops_give(model, both_ways, scale):
    objective = Contrastive(scale=scale, both_ways=both_ways)
    batch = collate(EXAMPLES)
    loss = objective.loss(model, batch)["contrastive"]
    assert loss.sum.item() == pytest.approx(slow_loss(model, objective), rel=1e-12)
    assert loss.count == objective.counts(batch)["contrastive"] == 4


@pytest.mark.parametrize("order", [[3, 1, 0, 2], [2, 0, 3, 1]])
def test_neither_the_order_nor_the_packing_matters(model, order):
    shuffled = [EXAMPLES[number] for number in order]
    expected = slow_loss(model, Contrastive())
    for batch in (collate(shuffled), collate([join(shuffled)]), collate([join(shuffled[:3]), shuffled[3]])):
        assert Contrastive().loss(model, batch)["contrastive"].sum.item() == pytest.approx(expected, rel=1e-12)


def test_the_texts_of_a_pair_may_stand_in_any_order(model):
    batch = collate([join(EXAMPLES)])
    target = batch.targets["embedding"]
    order = torch.randperm(len(target.index))
    mixed = Target(index=target.index[order], value=target.value[order], group=target.group[order])
    batch.targets["embedding"] = mixed
    expected = slow_loss(model, Contrastive())
    assert Contrastive().loss(model, batch)["contrastive"].sum.item() == pytest.approx(expected, rel=1e-12)


def test_a_negative_makes_it_harder(model):
    alone = collate([example([5, 6], [5, 6, 7]), example([8], [9])])
    harder = collate([example([5, 6], [5, 6, 7], [5, 6, 8]), example([8], [9])])
    objective = Contrastive()
    assert objective.loss(model, harder)["contrastive"].sum > objective.loss(model, alone)["contrastive"].sum


def test_a_pair_alone_has_nothing_to_tell_apart(model):
    assert Contrastive().loss(model, collate([EXAMPLES[1]]))["contrastive"].sum.item() == 0

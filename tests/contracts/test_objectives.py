"""What holds for every file of objectives/, a new one included: it needs a case here, and nothing else."""

import dataclasses

import numpy as np
import pytest
import torch

from bothways import discover
from bothways.batch import Target, collate, join, row
from bothways.model.config import TransformerConfig
from bothways.model.heads import HEADS, Model
from bothways.objectives.causal_lm import CausalLM
from bothways.objectives.classification import Classification
from bothways.objectives.contrastive import Contrastive
from bothways.objectives.hybrid import Hybrid
from bothways.objectives.masked_lm import MaskedLM
from bothways.objectives.span import Span
from bothways.objectives.token_classification import TokenClassification
from bothways.training.config import OptimizerConfig, TrainingConfig
from bothways.training.trainer import Trainer

TEXTS = ([5, 6, 7, 8], [9, 10, 11], [12, 13, 14, 15, 16], [17, 18, 5])


@dataclasses.dataclass
class Case:
    """An objective with rows that it can learn by heart; ``counts`` are the counts of its losses, counted by hand."""

    objective: object
    rows: list
    counts: dict
    attention: str = "bidirectional"
    pooling: str = "first"


def causal_lm():
    objective = CausalLM(bos_id=1, eos_id=2)
    rows = [objective.sequence(np.array([3 + number, *text])) for number, text in enumerate(TEXTS)]
    rows = [row.cut(1, len(row)) for row in rows]  # after the same start token, nobody knows which text comes
    return Case(objective, rows, {"causal_lm": 19}, attention="causal", pooling="last")


def masked_lm():
    objective = MaskedLM(cls_id=1, sep_id=2, mask_id=3, vocab_size=20, special_ids=(0, 1, 2, 3))
    draw = np.random.default_rng(0)
    rows = [
        objective.sequence(np.array(text), np.array(other), number % 2 == 0, draw)
        for number, (text, other) in enumerate(zip(TEXTS, TEXTS[::-1], strict=True))
    ]
    return Case(objective, rows, {"masked_lm": 8, "next_sentence": 4})


def hybrid():
    masked = MaskedLM(cls_id=1, sep_id=2, mask_id=3, vocab_size=20, special_ids=(0, 1, 2, 3), pairs="none")
    objective = Hybrid(causal=CausalLM(bos_id=1, eos_id=2), masked=masked)
    first, second, third, fourth = map(np.array, TEXTS)
    draw = np.random.default_rng(0)
    rows = [
        masked.sequence(first, first[:0], True, draw),
        objective.continuation(second, prefix=2),
        objective.continuation(third, last=False).cut(1, len(third)),
        masked.sequence(fourth, fourth[:0], True, draw),
    ]
    return Case(objective, rows, {"causal_lm": 7, "masked_lm": 2}, attention="causal", pooling="last")


def classification():
    rows = [
        row(text, "bidirectional", targets={"classification": Target(index=np.array([0]), value=np.array([label]))})
        for text, label in zip(TEXTS, (2, 0, 1, 1), strict=True)
    ]
    return Case(Classification(num_labels=3), rows, {"classification": 4})


def span():
    rows = []
    for text, (first, last) in zip(TEXTS, ((1, 2), (0, 0), (2, 4), (0, 2)), strict=True):
        value = np.zeros((len(text), 2), dtype=np.int64)
        value[first, 0] = value[last, 1] = 1
        target = Target(index=np.arange(len(text)), value=value, group=np.zeros(len(text), dtype=np.int64))
        rows.append(row(text, "bidirectional", targets={"span": target}))
    return Case(Span(), rows, {"span": 4})


def token_classification():
    rows = []
    for text, values in zip(TEXTS, ((0, 1), (2, 2), (1, 0), (2, 1)), strict=True):
        target = Target(index=np.array([0, 2]), value=np.array(values))
        rows.append(row(text, "bidirectional", targets={"token_classification": target}))
    return Case(TokenClassification(num_labels=3), rows, {"token_classification": 8})


def contrastive():
    rows = []
    for query, document in zip(TEXTS, TEXTS[1:] + TEXTS[:1], strict=True):
        pair = join([row(query, "bidirectional"), row([4, *document], "bidirectional")])
        target = Target(index=np.array([0, len(query)]), value=np.array([0, 1]), group=np.zeros(2, dtype=np.int64))
        rows.append(dataclasses.replace(pair, targets={"embedding": target}))
    return Case(Contrastive(), rows, {"contrastive": 4})


CASES = {
    case.__name__: case
    for case in (causal_lm, masked_lm, hybrid, classification, token_classification, span, contrastive)
}


@pytest.fixture(params=discover.names("objectives"))
def case(request):
    assert request.param in CASES, f"add a case for the objective {request.param}"
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return CASES[request.param]()


def make_model(case, **settings):
    config = TransformerConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=32,
        attention=case.attention,
        pooling=case.pooling,
        **settings,
    )
    return Model(config, case.objective.heads)


class Same:
    """Always the same batch."""

    def __init__(self, batch):
        self.batch, self.position = batch, {}

    def seek(self, position):
        self.position = position

    def __next__(self):
        return [self.batch]


def test_it_learns_a_tiny_batch_by_heart(case):
    model = make_model(case)
    training = TrainingConfig(steps=150, learning_rate=2e-2, precision="fp32")
    trained = Trainer(training, OptimizerConfig(name="adamw", embedding_scale=1.0, weight_decay=0.0)).fit(
        model, Same(collate(case.rows)), case.objective
    )
    assert trained.curve[0]["loss"] > 0.4
    assert trained.curve[-1]["loss"] < 0.01


@pytest.mark.parametrize("packed", [False, True])
def test_its_counts_are_known_before_and_agree_with_its_targets(case, packed):
    batch = collate([join(case.rows)] if packed else case.rows)
    losses = case.objective.loss(make_model(case), batch)
    assert {name: loss.count for name, loss in losses.items()} == case.objective.counts(batch) == case.counts
    assert all(0 < loss.weight <= 1 for loss in losses.values())


def test_its_losses_are_sums_that_do_not_depend_on_packing(case):
    model = make_model(case, initializer_range=0.3).double().eval()
    apart = case.objective.loss(model, collate(case.rows, length=20))
    packed = case.objective.loss(model, collate([join(case.rows[:3]), case.rows[3]]))
    for name, loss in apart.items():
        assert loss.sum.shape == ()
        assert loss.sum.item() > 0
        assert packed[name].sum.item() == pytest.approx(loss.sum.item(), rel=1e-12)


class Nudged:
    """A model whose head of a name says something a little different: what it says, plus an input for each position."""

    cross_entropy = Model.cross_entropy

    def __init__(self, model, head, nudge):
        self._model, self._head, self._nudge, self.heads = model, head, nudge, model.heads

    def __call__(self, batch):
        return self._model(batch)

    def read(self, head, hidden_states, batch):
        said = self._model.read(head, hidden_states, batch)
        return said + self._nudge[batch.targets[head].index] if head == self._head else said


def test_its_gradient_is_right(case):
    """The loss as a function of what each head says, against finite differences in float64."""
    batch = collate(case.rows)
    model = make_model(case, initializer_range=0.3).double().eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for head in case.objective.heads:
        said = model.read(head, model(batch), batch)
        nudge = said.new_zeros(batch.input_ids.numel(), said.shape[1], requires_grad=True)

        def total(nudge, head=head):
            losses = case.objective.loss(Nudged(model, head, nudge), batch)
            return torch.stack([loss.weight * loss.sum for loss in losses.values()])

        assert nudge.dtype == torch.float64
        assert torch.autograd.gradcheck(total, nudge, eps=1e-6, atol=1e-7, rtol=1e-5)


def test_every_weight_that_it_reads_learns(case):
    model = make_model(case, initializer_range=0.3)
    losses = case.objective.loss(model, collate(case.rows))
    torch.stack([loss.sum for loss in losses.values()]).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_padding_learns_nothing_and_teaches_nothing(case):
    model = make_model(case, initializer_range=0.3).double()
    gradients = []
    for length in (None, 30):
        model.zero_grad()
        losses = case.objective.loss(model, collate(case.rows, length=length))
        torch.stack([loss.sum for loss in losses.values()]).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    assert all(torch.allclose(one, other, rtol=0, atol=1e-12) for one, other in zip(*gradients, strict=True))


def test_its_heads_exist_and_its_loss_moves_with_precision(case):
    assert set(case.objective.heads) <= set(HEADS)
    model = make_model(case, initializer_range=0.3)
    batch = collate(case.rows)
    exact = case.objective.loss(model, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fast = case.objective.loss(model, batch)
    for name, loss in exact.items():
        assert fast[name].sum.dtype == torch.float32
        assert float(fast[name].sum.detach()) == pytest.approx(float(loss.sum.detach()), rel=0.1)


def test_it_documents_its_targets(case):
    documentation = type(case.objective).__doc__
    for head in case.objective.heads:
        assert f'``targets["{head}"].index``' in documentation
        assert f'``targets["{head}"].value``' in documentation

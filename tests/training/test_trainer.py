import json
import math
import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from bothways.checkpoints.checkpoint import load_checkpoint
from bothways.errors import NonFiniteError, UserError
from bothways.objectives.hybrid import Hybrid
from bothways.training.batches import PretrainingBatches
from bothways.training.config import OptimizerConfig
from bothways.training.fitting import MOST_SKIPPED
from bothways.training.schedule import share_at
from bothways.training.tracking import read_metrics
from bothways.training.trainer import Run, Trainer


@pytest.fixture
def make_batches(corpus):
    """Return a maker of batches as the settings say."""

    def make(objective, training, corpus=corpus):
        return PretrainingBatches(corpus, objective, training, seed=0)

    return make


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


class Spoilt:
    """An objective that does something to the losses of some calls, counted from 1."""

    def __init__(self, objective, calls, spoil):
        self._objective, self._calls, self._spoil, self.call = objective, set(calls), spoil, 0
        self.heads, self.counts = objective.heads, objective.counts

    def loss(self, model, batch):
        self.call += 1
        losses = self._objective.loss(model, batch)
        return self._spoil(model, losses) if self.call in self._calls else losses


def with_loss(value):
    """Multiply the loss, so that its gradient is spoilt with it."""

    def spoil(_, losses):
        return {name: replace(loss, sum=loss.sum * value) for name, loss in losses.items()}

    return spoil


def with_number(_, losses):
    """Make the loss undefined and leave its gradient as it is."""
    return {name: replace(loss, sum=loss.sum + math.nan) for name, loss in losses.items()}


def with_gradient(model, losses):
    """Leave the loss as it is and make the gradient of one weight undefined: √x at 0 times 0."""
    nothing = (model.transformer.norm.weight[0] * 0).sqrt() * 0
    return {name: replace(loss, sum=loss.sum + nothing) for name, loss in losses.items()}


class CrashError(Exception):
    """Stands for whatever ends a process."""


def crash(*_):
    raise CrashError


# What one step computes.


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_four_parts_of_a_batch_give_the_step_of_the_whole(
    request, make_model, make_batches, make_training, adamw, kind
):
    objective = request.getfixturevalue(kind)
    settings = {}
    if kind == "masked":
        objective = replace(objective, mask_share=0.3, short_share=0.9)
        settings = {"attention": "bidirectional", "type_vocab_size": 2, "pooler": "tanh"}
    results, curves, counts = [], [], []
    for micro_batch_tokens in (32, 128):
        torch.manual_seed(0)
        model = make_model(objective.heads, initializer_range=0.3, **settings).double()
        training = make_training(row_length=32, batch_tokens=128, micro_batch_tokens=micro_batch_tokens)
        curves.append(Trainer(training, adamw).fit(model, make_batches(objective, training), objective).curve)
        results.append(weights(model))
        counts.append([tuple(objective.counts(batch).values()) for batch in next(make_batches(objective, training))])
    assert (len(counts[0]), len(counts[1])) == (4, 1)
    if kind == "masked":
        assert len(set(counts[0])) > 1  # or a mean of means would do as well
    for name, weight in results[0].items():
        assert torch.allclose(weight, results[1][name], rtol=0, atol=1e-12), name
    for part, whole in zip(*curves, strict=True):
        for name in ("loss", *objective.counts(next(make_batches(objective, make_training()))[0])):
            assert part[name] == pytest.approx(whole[name], abs=1e-12)


def test_each_loss_is_divided_by_its_own_count_and_weighed(make_model, make_batches, make_training, adamw, masked):
    objective = replace(masked, pair_weight=0.25)
    training = make_training(steps=1, micro_batch_tokens=16)
    model = make_model(objective.heads, attention="bidirectional")
    batches = next(make_batches(objective, training))
    with torch.no_grad():
        losses = [objective.loss(model, batch) for batch in batches]
    means = {
        name: sum(float(loss[name].sum) for loss in losses) / sum(loss[name].count for loss in losses)
        for name in ("masked_lm", "next_sentence")
    }
    [record] = Trainer(training, adamw).fit(model, make_batches(objective, training), objective).curve
    assert {name: record[name] for name in means} == pytest.approx(means, rel=1e-5)
    assert record["loss"] == pytest.approx(means["masked_lm"] + 0.25 * means["next_sentence"], rel=1e-5)


def test_a_loss_without_a_target_is_not_said_to_be_nought(
    make_model, make_batches, make_training, adamw, causal, masked
):
    objective = Hybrid(causal=causal, masked=replace(masked, pairs="none"), masked_share=0.0, length=32)
    training = make_training(steps=1, row_length=32)
    model = make_model(objective.heads, hybrid=True)
    [record] = Trainer(training, adamw).fit(model, make_batches(objective, training), objective).curve
    assert record["causal_lm"] > 0
    assert "masked_lm" not in record


def test_gradients_are_clipped_to_the_norm(make_model, make_batches, make_training, causal):
    plain = OptimizerConfig(name="adamw", beta1=0.0, beta2=0.0, eps=1e6, weight_decay=0.0, embedding_scale=1.0)
    norms = []
    for clip in (1e-3, 1e9):  # with a huge eps a step is rate · gradient / eps
        torch.manual_seed(0)
        model = make_model()
        before = weights(model)
        training = make_training(steps=1, gradient_clip=clip, learning_rate=1e6, schedule="constant", warmup_share=0)
        Trainer(training, plain).fit(model, make_batches(causal, training), causal)
        change = [after - before[name] for name, after in weights(model).items()]
        norms.append(float(torch.cat([each.flatten() for each in change]).double().norm()))
    assert norms[0] == pytest.approx(1e-3, rel=1e-2)
    assert norms[1] > 0.1


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_trivial_pattern_is_learnt(make_model, make_corpus, make_batches, make_training, causal, name):
    pattern = make_corpus([[[10, 11, 12, 13, 14, 15, 16, 17] * 6]] * 8)
    training = make_training(steps=80, batch_tokens=200, micro_batch_tokens=200, row_length=50, learning_rate=1e-2)
    model = make_model()
    trained = Trainer(training, OptimizerConfig(name=name)).fit(model, make_batches(causal, training, pattern), causal)
    assert trained.curve[0]["loss"] > 3
    assert trained.curve[-1]["loss"] < 0.1
    assert not model.training


def test_a_hidden_pattern_is_learnt_from_both_sides(make_model, make_corpus, make_batches, make_training, masked):
    pattern = make_corpus([[[10, 11, 12, 13, 14, 15, 16, 17] * 3]] * 8)
    objective = replace(masked, pairs="none", length=26)
    training = make_training(steps=300, batch_tokens=208, micro_batch_tokens=208, row_length=26, learning_rate=2e-2)
    model = make_model(attention="bidirectional", num_attention_heads=2)
    trained = Trainer(training, OptimizerConfig()).fit(model, make_batches(objective, training, pattern), objective)
    assert sum(record["loss"] for record in trained.curve[-10:]) / 10 < 0.1


def test_the_learning_rate_follows_its_schedule(make_model, make_batches, make_training, adamw, causal):
    training = make_training(steps=10, schedule="cosine", warmup_share=0.3, learning_rate=1e-3)
    curve = Trainer(training, adamw).fit(make_model(), make_batches(causal, training), causal).curve
    assert [record["learning_rate"] for record in curve] == [1e-3 * share_at(step, training) for step in range(10)]
    assert [record["step"] for record in curve] == list(range(1, 11))


def test_tokens_are_counted_without_padding(make_model, make_batches, make_training, adamw, masked):
    training = make_training(steps=3)
    batches = make_batches(masked, training)
    expected = sum(batch.num_tokens for _ in range(3) for batch in next(batches))
    model = make_model(masked.heads, attention="bidirectional")
    trained = Trainer(training, adamw).fit(model, make_batches(masked, training), masked)
    assert trained.tokens == expected < 3 * 64
    assert (trained.steps, trained.skipped) == (3, 0)


def test_no_steps_change_nothing(make_model, make_batches, make_training, adamw, causal):
    model = make_model()
    before = weights(model)
    trained = Trainer(make_training(steps=0), adamw).fit(model, make_batches(causal, make_training()), causal)
    assert (trained.steps, trained.tokens, trained.curve) == (0, 0, [])
    assert same(before, weights(model))


def test_the_seed_of_dropout_is_the_trainers_own(make_model, make_batches, make_training, adamw, causal):
    training = make_training()
    results = []
    for seed, noise in ((1, 5), (1, 6), (2, 5)):
        torch.manual_seed(0)
        model = make_model(hidden_dropout=0.1, attention_dropout=0.1)
        torch.manual_seed(noise)
        Trainer(training, adamw, seed=seed).fit(model, make_batches(causal, training), causal)
        results.append(weights(model))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


@pytest.mark.parametrize("fails", [False, True])
def test_the_random_numbers_of_others_are_left_alone(make_model, make_batches, make_training, adamw, causal, fails):
    model = make_model(hidden_dropout=0.1)
    objective = Spoilt(causal, {2} if fails else (), with_loss(math.nan))
    training = make_training()
    random.seed(7)
    np.random.seed(7)
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())
    try:
        Trainer(training, adamw).fit(model, make_batches(causal, training), objective)
    except NonFiniteError:
        assert fails
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]


# What is not finite.


@pytest.mark.parametrize(
    "spoil", [with_loss(math.nan), with_loss(math.inf), with_loss(-math.inf), with_number, with_gradient]
)
@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("call", [1, 6, 8])  # the first; one in the middle of a step; the last of a step
def test_training_stops_before_the_weights_are_poisoned(
    make_model, make_batches, make_training, causal, tmp_path, spoil, name, call
):
    training = make_training(micro_batch_tokens=16)  # four calls a step
    taken = (call - 1) // 4
    spoilt, healthy = make_model(), make_model()
    healthy.load_state_dict(spoilt.state_dict())
    trainer = Trainer(training, OptimizerConfig(name=name), run=Run(folder=tmp_path))
    with pytest.raises(
        NonFiniteError, match=rf"step {taken + 1} gave .* was not taken .*; lower training.learning_rate"
    ):
        trainer.fit(spoilt, make_batches(causal, training), Spoilt(causal, {call}, spoil))
    with pytest.raises(CrashError):
        Trainer(training, OptimizerConfig(name=name)).fit(
            healthy, make_batches(causal, training), Spoilt(causal, {4 * taken + 1}, crash)
        )
    assert same(weights(spoilt), weights(healthy))
    assert all(parameter.grad is None for parameter in spoilt.parameters())
    assert not (tmp_path / "last").exists()


@pytest.mark.parametrize("spoil", [with_loss(math.nan), with_number, with_gradient])
def test_a_step_that_is_skipped_changes_nothing_and_the_next_one_goes_on(
    make_model, make_batches, make_training, adamw, causal, spoil
):
    training = make_training(steps=6, on_nonfinite="skip", learning_rate=1e-2)
    seen = []

    def watch(model, losses):
        seen.append(weights(model))
        return spoil(model, losses) if len(seen) in (3, 4) else losses

    model = make_model()
    trained = Trainer(training, adamw).fit(model, make_batches(causal, training), Spoilt(causal, range(1, 7), watch))
    seen.append(weights(model))
    changed = [not same(before, after) for before, after in pairwise(seen)]
    assert changed == [True, True, False, False, True, True]
    assert (trained.steps, trained.skipped) == (6, 2)
    assert all(torch.isfinite(weight).all() for weight in seen[-1].values())


def test_skipping_gives_up_after_ten_steps_in_a_row(make_model, make_batches, make_training, adamw, causal):
    training = make_training(steps=40, on_nonfinite="skip")
    bad = [*range(1, 1 + MOST_SKIPPED), *range(12, 12 + MOST_SKIPPED)]  # ten, a good one, ten more
    objective = Spoilt(causal, bad, with_loss(math.nan))
    trained = Trainer(training, adamw).fit(make_model(), make_batches(causal, training), objective)
    assert trained.skipped == 20 == 2 * MOST_SKIPPED
    objective = Spoilt(causal, range(1, 2 + MOST_SKIPPED), with_loss(math.nan))
    with pytest.raises(NonFiniteError, match="step 11 gave"):
        Trainer(training, adamw).fit(make_model(), make_batches(causal, training), objective)
    assert objective.call == 11


def test_steps_that_were_skipped_before_an_interruption_count(
    make_model, make_batches, make_training, adamw, causal, tmp_path
):
    training = make_training(steps=40, on_nonfinite="skip", save_every=6)
    trainer = Trainer(training, adamw, run=Run(folder=tmp_path))
    objective = Spoilt(Spoilt(causal, range(1, 99), with_loss(math.nan)), {8}, crash)
    with pytest.raises(CrashError):
        trainer.fit(make_model(), make_batches(causal, training), objective)
    objective = Spoilt(causal, range(1, 99), with_loss(math.nan))
    with pytest.raises(NonFiniteError, match="step 11 gave"):
        trainer.fit(make_model(), make_batches(causal, training), objective, resume=True)
    assert objective.call == 5


# Evaluations and what they choose.


@pytest.mark.parametrize(
    ("direction", "values", "best"),
    [
        ("min", [3.0, 1.0, 2.0], 4),
        ("max", [3.0, 1.0, 2.0], 2),
        ("min", [math.nan, 2.0, math.inf], 4),
        ("max", [1, 1, 1], 2),
    ],
)
def test_the_monitored_figure_chooses_the_best_checkpoint(
    make_model, make_batches, make_training, adamw, causal, tmp_path, direction, values, best
):
    training = make_training(steps=6, evaluate_every=2, learning_rate=1e-2)
    figures, seen = iter(values), {}

    def evaluate(model):
        assert not model.training
        assert not torch.is_grad_enabled()
        seen[2 * (len(seen) + 1)] = weights(model)
        return {"figure": next(figures), "other": 0.0}

    trainer = Trainer(training, adamw, run=Run(folder=tmp_path), evaluate=evaluate, monitor=("figure", direction))
    trained = trainer.fit(make_model(), make_batches(causal, training), causal)
    assert [each["step"] for each in trained.evaluations] == [2, 4, 6]
    stored = {folder: weights(load_checkpoint(tmp_path / folder).model) for folder in ("best", "last")}
    assert same(seen[best], stored["best"])
    assert same(seen[6], stored["last"])
    assert best == 6 or not same(stored["best"], stored["last"])


def test_evaluating_does_not_change_training(make_model, make_batches, make_training, adamw, causal):
    results = []
    for every in (0, 1):
        torch.manual_seed(0)
        model = make_model(hidden_dropout=0.1)
        training = make_training(evaluate_every=every)
        trainer = Trainer(training, adamw, evaluate=lambda model: {"loss": float(model.transformer.norm.weight.sum())})
        trained = trainer.fit(model, make_batches(causal, training), causal)
        results.append(weights(model))
        assert len(trained.evaluations) == (4 if every else 1)
    assert same(*results)


def test_without_an_evaluation_there_is_a_last_and_no_best(
    make_model, make_batches, make_training, adamw, causal, tmp_path
):
    training = make_training()
    model = make_model()
    Trainer(training, adamw, run=Run(folder=tmp_path)).fit(model, make_batches(causal, training), causal)
    assert not (tmp_path / "best").exists()
    assert same(weights(model), weights(load_checkpoint(tmp_path / "last").model))


# What is left on disk.


@pytest.mark.parametrize(
    ("save_every", "keep", "left"),
    [(0, 2, [10]), (3, 2, [9, 10]), (3, 1, [10]), (3, 99, [3, 6, 9, 10]), (5, 2, [5, 10]), (100, 2, [10])],
)
def test_only_the_newest_checkpoints_stay(
    make_model, make_batches, make_training, adamw, causal, tmp_path, save_every, keep, left
):
    training = make_training(steps=10, save_every=save_every, keep=keep)
    Trainer(training, adamw, run=Run(folder=tmp_path)).fit(make_model(), make_batches(causal, training), causal)
    assert {folder.name for folder in (tmp_path / "checkpoints").iterdir()} == {f"step-{step}" for step in left}


def test_a_run_writes_down_what_it_did(make_model, make_batches, make_training, adamw, causal, tmp_path):
    training = make_training(steps=5, evaluate_every=2)
    trainer = Trainer(training, adamw, run=Run(folder=tmp_path), evaluate=lambda _: {"loss": 1.5})
    trained = trainer.fit(make_model(), make_batches(causal, training), causal)
    records = read_metrics(tmp_path)
    assert [record for record in records if "loss" in record] == trained.curve
    evaluations = [{"step": record["step"], **record["validation"]} for record in records if "validation" in record]
    assert evaluations == trained.evaluations == [{"step": step, "loss": 1.5} for step in (2, 4, 5)]
    names = {"step", "tokens", "seconds", "causal_lm", "loss", "gradient_norm", "learning_rate"}
    assert set(trained.curve[0]) == names
    state = json.loads((tmp_path / "checkpoints" / "step-5" / "state.json").read_text())
    assert state["curve"] == trained.curve
    batches = make_batches(causal, training)
    for _ in range(5):
        next(batches)
    assert state["position"] == batches.position


def test_labels_and_fingerprint_go_with_every_checkpoint(make_model, make_training, adamw, tmp_path):
    from bothways.batch import Target, row
    from bothways.objectives.classification import Classification
    from bothways.training.batches import ExampleBatches

    objective = Classification(num_labels=2)
    target = {"classification": Target(index=np.array([2]), value=np.array([1]))}
    batches = ExampleBatches([row([5, 6, 7], "causal", targets=target)], batch_size=1, seed=0, micro_batch_tokens=64)
    run = Run(folder=tmp_path, labels=("bad", "good"), fingerprint={"data": "abc"})
    Trainer(make_training(steps=1), adamw, run=run).fit(make_model(objective.heads), batches, objective)
    assert load_checkpoint(tmp_path / "last").labels == ("bad", "good")
    state = json.loads((tmp_path / "checkpoints" / "step-1" / "state.json").read_text())
    assert state["fingerprint"] == {"data": "abc"}


def test_without_a_run_nothing_is_written(
    make_model, make_batches, make_training, adamw, causal, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    training = make_training(save_every=1)
    Trainer(training, adamw).fit(make_model(), make_batches(causal, training), causal)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_evaluation_is_not_swallowed_and_closes_the_records(
    make_model, make_batches, make_training, adamw, causal, tmp_path
):
    def fail(_):
        raise UserError("no validation text")

    training = make_training()
    trainer = Trainer(training, adamw, run=Run(folder=tmp_path), evaluate=fail)
    with pytest.raises(UserError, match="no validation text"):
        trainer.fit(make_model(), make_batches(causal, training), causal)
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2, 3, 4]

"""What is not finite never reaches the weights, the statistics or a checkpoint: training stops, leaves it out, or goes back."""

import json
import math
from dataclasses import replace

import pytest
import torch

from bothways.checkpoints.checkpoint import checkpoints_in
from bothways.errors import NonFiniteError, UserError
from bothways.model.transformer import Transformer
from bothways.training.batches import PretrainingBatches
from bothways.training.fitting import MOST_REWINDS
from bothways.training.states import GoingOn
from bothways.training.tracking import read_metrics
from bothways.training.trainer import Run, Trainer

PARTS = 4  # batches of a step


class Spoilt:
    """An objective that spoils the loss, or the gradient of one weight, at some of its calls, counted from 1."""

    def __init__(self, objective, calls, value, *, gradient=False):
        self._objective, self._calls, self._value, self._gradient, self.call = objective, calls, value, gradient, 0
        self.heads, self.counts = objective.heads, objective.counts

    def loss(self, model, batch):
        self.call += 1
        losses = self._objective.loss(model, batch)
        if self.call not in self._calls:
            return losses
        weight = model.transformer.norm.weight[0]
        extra = (
            (weight - weight.detach()) * self._value if self._gradient else self._value
        )  # of value 0, of slope value
        return {
            name: replace(loss, sum=loss.sum + extra if self._gradient else loss.sum * extra)
            for name, loss in losses.items()
        }


@pytest.fixture
def settings(make_training):
    """Return a maker of settings: eight steps of four batches each."""

    def make(**given):
        usual = {"steps": 8, "micro_batch_tokens": 64 // PARTS, "save_every": 3, "learning_rate": 1e-2}
        return make_training(**{**usual, **given})

    return make


@pytest.fixture
def fresh(corpus, causal, settings):
    """Return what makes the batches at their beginning."""
    return lambda **given: PretrainingBatches(corpus, causal, settings(**given), seed=0)


@pytest.fixture
def fit(make_model, causal, adamw, settings, fresh):
    """Return what trains, with something spoilt."""

    def run(folder, calls=(), value=math.nan, *, gradient=False, resume=False, objective=None, **given):
        torch.manual_seed(0)
        model = make_model(hidden_dropout=0.1)
        objective = objective or Spoilt(causal, set(calls), value, gradient=gradient)
        trainer = Trainer(settings(**given), adamw, run=folder and Run(folder=folder))
        return model, trainer.fit(model, fresh(**given), objective, resume=resume)

    return run


def calls_of(step):
    return range(PARTS * (step - 1) + 1, PARTS * step + 1)


FAULTS = [
    (math.nan, False),
    (math.inf, False),
    (-math.inf, False),
    (1e30, False),  # finite, and its gradient's square is not
    (math.nan, True),
    (math.inf, True),
    (1e30, True),
]
PLACES = {"the first batch": 1, "inside a step": 6, "just before a save": 12}


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_one_bad_input_embedding_costs_one_step(fit, tmp_path, monkeypatch, value):
    embed, calls = Transformer.embed, []

    def spoilt(it, batch):
        states = embed(it, batch)
        calls.append(1)
        if len(calls) != 6:
            return states
        there = torch.zeros_like(states)
        there[0, 3, 5] = value
        return states + there

    monkeypatch.setattr(Transformer, "embed", spoilt)
    model, trained = fit(tmp_path, on_nonfinite="skip")
    assert trained.skipped <= 1  # norms make of a huge number one of usual size
    assert trained.skipped == 1 or value == 1e30
    assert [record["step"] for record in trained.curve] == [at for at in range(1, 9) if at != 2 or not trained.skipped]
    assert all(torch.isfinite(weight).all() for weight in model.parameters())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("value", "gradient"), FAULTS)
def test_of_each_fault_one_step_is_lost_and_the_rest_is_healthy(fit, fresh, tmp_path, value, gradient, place):
    call = PLACES[place]
    step = 1 + (call - 1) // PARTS
    model, trained = fit(tmp_path, [call], value, gradient=gradient, on_nonfinite="skip")
    assert (trained.steps, trained.skipped) == (8, 1)
    assert [record["step"] for record in trained.curve] == [at for at in range(1, 9) if at != step]
    assert all(math.isfinite(number) for record in trained.curve for number in record.values())
    assert all(torch.isfinite(weight).all() for weight in model.parameters())
    assert len(checkpoints_in(tmp_path)) == 2
    text = (tmp_path / "metrics.jsonl").read_text()
    [record] = [record for record in map(json.loads, text.splitlines()) if "skipped" in record and "loss" not in record]
    assert "NaN" not in text
    assert "Infinity" not in text
    assert record["step"] == step
    batches = fresh()
    for _ in range(step - 1):
        next(batches)
    assert record["skipped"]["position"] == batches.position
    if math.isnan(value) and not gradient:
        assert record["skipped"]["losses"] == {"causal_lm": None, "loss": None}
    assert [each["skipped"] for each in trained.curve if each["step"] > step] == [1] * (8 - step)


def test_the_message_names_the_step_and_where_its_data_are(fit, fresh, tmp_path):
    batches = fresh()
    for _ in range(4):
        next(batches)
    where = ", ".join(f"{name} {value}" for name, value in batches.position.items())
    with pytest.raises(NonFiniteError) as caught:
        fit(tmp_path, calls_of(5), on_nonfinite="stop")
    message = str(caught.value)
    assert message.startswith("step 5 gave the losses {'causal_lm': nan, 'loss': nan} and a gradient of norm nan")
    assert f"was not taken (its data begin at {where})" in message
    assert "set training.on_nonfinite=skip or rewind" in message
    assert caught.value.exit_code == 4
    *taken, stopped = read_metrics(tmp_path)
    assert [record["step"] for record in taken] == [1, 2, 3, 4]
    assert stopped["step"] == 5
    assert stopped["stopped"]["position"] == batches.position
    assert stopped["stopped"]["losses"] == {"causal_lm": None, "loss": None}


def test_a_skipped_step_is_no_step_for_the_optimizer(fit, causal, tmp_path):
    """Moments and weights are as if the step had never been: those of a run whose learning rate jumped over it."""
    seen = []

    class Watching(Spoilt):
        def loss(self, model, batch):
            seen.append(model.transformer.norm.weight.detach().clone())
            return super().loss(model, batch)

    for calls in ((), calls_of(3)):
        objective = Watching(causal, set(calls), math.nan)
        fit(tmp_path / str(len(seen)), objective=objective, on_nonfinite="skip", schedule="constant", warmup_share=0.0)
    whole, skipped = seen[: len(seen) // 2 : PARTS], seen[len(seen) // 2 :: PARTS]
    assert all(map(torch.equal, whole[:3], skipped[:3]))
    assert torch.equal(skipped[2], skipped[3])
    assert not torch.equal(skipped[3], skipped[4])


# Going back.


def test_going_back_takes_the_checkpoint_and_other_data(fit, fresh, causal, tmp_path):
    seen = []

    class Watching(Spoilt):
        def loss(self, model, batch):
            seen.append((batch.input_ids.tolist(), model.transformer.norm.weight.detach().clone()))
            return super().loss(model, batch)

    objective = Watching(causal, {PARTS * 4 + 2}, math.nan)  # in step 5, after the checkpoint of step 3
    model, trained = fit(tmp_path, objective=objective, on_nonfinite="rewind")
    assert (trained.steps, trained.rewinds, trained.skipped) == (8, 1, 0)
    steps = [seen[place : place + PARTS] for place in range(0, len(seen), PARTS)]
    assert len(steps) == 5 + 5  # five until the fault, then steps 4 to 8
    batches = fresh()
    expected = [[batch.input_ids.tolist() for batch in next(batches)] for _ in range(10)]
    assert [[ids for ids, _ in step] for step in steps] == expected  # the data never go back
    assert torch.equal(steps[5][0][1], steps[3][0][1])  # the weights do: to what step 3 left
    assert [record["step"] for record in trained.curve] == list(range(1, 9))
    assert all(torch.isfinite(weight).all() for weight in model.parameters())
    records = read_metrics(tmp_path)
    assert [record["step"] for record in records if "loss" in record] == list(range(1, 9))
    [rewind] = [record for record in records if "rewind" in record]
    assert rewind["step"] == 4
    assert rewind["rewind"]["from"] == 5
    assert rewind["rewind"]["losses"] == {"causal_lm": None, "loss": None}
    again = fresh()
    read = [int((batch.sequence_ids >= 0).sum()) for _ in range(10) for batch in next(again)]
    assert trained.tokens == sum(read)  # what was read is counted, as the time is that it took


def test_the_best_model_stays_the_best_where_training_went_back_behind_it(
    make_model, causal, adamw, settings, fresh, tmp_path
):
    objective, losses = Spoilt(causal, {PARTS * 4 + 2}, math.nan), iter([5.0, 4.0, 3.0, 1.0, 2.5, 2.0, 2.2, 2.1, 1.5])

    def trainer():  # the fourth step is the best; the fifth is spoilt, and goes back to the third
        evaluate = {"evaluate": lambda _: {"loss": next(losses)}}
        return Trainer(settings(on_nonfinite="rewind", evaluate_every=1), adamw, run=Run(folder=tmp_path), **evaluate)

    trained = trainer().fit(make_model(), fresh(), objective)
    assert [figures["step"] for figures in trained.evaluations] == list(range(1, 9))
    assert trained.evaluations[3] == {"step": 4, "loss": 2.5}
    assert trained.best == {"step": 4, "loss": 1.0}
    again = trainer().fit(make_model(), fresh(), objective, resume=True)
    assert again.best == trained.best


def test_going_back_brings_no_figures_of_another_measure_back(make_model, causal, adamw, settings, fresh, tmp_path):
    def trainer(accept=None):
        training = settings(on_nonfinite="rewind", evaluate_every=1)
        return Trainer(
            training,
            adamw,
            run=Run(folder=tmp_path, accept=accept),
            evaluate=lambda model: {"loss": float(model.transformer.norm.weight.sum())},
        )

    class StoppedError(Exception):
        pass

    class Stopping(Spoilt):
        def loss(self, model, batch):
            if self.call == PARTS * 4:
                raise StoppedError
            return super().loss(model, batch)

    with pytest.raises(StoppedError):
        trainer().fit(make_model(), fresh(), Stopping(causal, set(), math.nan))
    spoilt = Spoilt(causal, {PARTS + 1}, math.nan)  # in the second step after the checkpoint of step 3
    changed = trainer(accept=lambda _: GoingOn(same_text=False, same_measure=False))
    trained = changed.fit(make_model(), fresh(), spoilt, resume=True)
    assert trained.rewinds == 1
    assert [evaluation["step"] for evaluation in trained.evaluations] == list(range(4, 9))
    state = json.loads((checkpoints_in(tmp_path)[-1] / "state.json").read_text())
    assert state["text_from"]["step"] == 3


def test_before_the_first_save_there_is_the_beginning_to_go_back_to(fit, tmp_path):
    _, trained = fit(tmp_path / "back", calls_of(1), on_nonfinite="rewind")
    assert (trained.steps, trained.rewinds) == (8, 1)
    assert trained.curve[0]["step"] == 1
    assert [folder.name for folder in checkpoints_in(tmp_path / "back")] == ["step-6", "step-8"]


def test_going_back_ends_after_three_times(fit, causal, tmp_path):
    class Always(Spoilt):
        """Spoils every fifth step that it sees."""

        def loss(self, model, batch):
            self._calls = {self.call + 1} if self.call // PARTS % 5 == 4 else ()
            return super().loss(model, batch)

    objective = Always(causal, (), math.nan)
    with pytest.raises(
        NonFiniteError, match=r"step \d gave .*going back was no way out \(3 times were enough\)"
    ) as caught:
        fit(tmp_path, objective=objective, on_nonfinite="rewind", steps=40, save_every=50)
    assert caught.value.exit_code == 4
    assert objective.call == (MOST_REWINDS + 1) * 5 * PARTS
    assert [folder.name for folder in checkpoints_in(tmp_path)] == ["step-0"]


class CutError(Exception):
    """Stands for whatever ends a process."""


def test_a_run_that_went_back_and_was_cut_ends_like_one_that_was_not_cut(fit, fresh, causal, tmp_path):
    """The bad data are met again on the way from the checkpoint, so going back happens again."""
    bad = fresh()
    for _ in range(5):
        step = next(bad)
    marked = step[0].input_ids[0].tolist()

    class ByData(Spoilt):
        """Spoils the loss of one row wherever it comes."""

        def __init__(self, cut_at=None):
            super().__init__(causal, (), math.nan)
            self._cut_at = cut_at

        def loss(self, model, batch):
            if self.call + 1 == self._cut_at:
                raise CutError
            self._calls = {self.call + 1} if marked in batch.input_ids.tolist() else ()
            return super().loss(model, batch)

    results = []
    for name, cut_at in (("whole", None), ("cut", 6 * PARTS + 1)):
        if cut_at:
            with pytest.raises(CutError):
                fit(tmp_path / name, objective=ByData(cut_at), on_nonfinite="rewind", save_every=4)
        model, trained = fit(tmp_path / name, objective=ByData(), on_nonfinite="rewind", save_every=4, resume=True)
        assert trained.rewinds == 1
        records = [{**record, "seconds": 0} for record in read_metrics(tmp_path / name)]
        results.append((model.state_dict(), [{**record, "seconds": 0} for record in trained.curve], records))
    assert all(torch.equal(weight, results[1][0][name]) for name, weight in results[0][0].items())
    assert results[0][1:] == results[1][1:]


def test_going_back_needs_a_place_to_go_back_to(fit):
    with pytest.raises(UserError, match=r"training.on_nonfinite=rewind goes back to a checkpoint"):
        fit(None, on_nonfinite="rewind")


def test_an_evaluation_that_is_not_finite_is_written_as_null_and_read_as_undefined(
    make_model, corpus, causal, adamw, make_training, tmp_path
):
    training = make_training(evaluate_every=1, save_every=1)

    def trainer():
        return Trainer(training, adamw, run=Run(folder=tmp_path), evaluate=lambda _: {"loss": math.nan, "other": 1.0})

    trainer().fit(make_model(), PretrainingBatches(corpus, causal, training, seed=0), causal)
    text = (tmp_path / "metrics.jsonl").read_text() + (tmp_path / "checkpoints" / "step-4" / "state.json").read_text()
    assert "NaN" not in text
    assert '"validation": {"loss": null, "other": 1.0}' in text
    again = trainer().fit(make_model(), PretrainingBatches(corpus, causal, training, seed=0), causal, resume=True)
    assert all(math.isnan(figures["loss"]) and figures["other"] == 1.0 for figures in again.evaluations)
    assert not (tmp_path / "best").exists()

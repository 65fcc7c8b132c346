"""What a trainer is told beside model and data: who counts its operations, and who looks after it."""

import json
from dataclasses import dataclass

import pytest
import torch

from bothways import progress
from bothways.checkpoints.checkpoint import newest_complete
from bothways.training import fitting
from bothways.training.batches import PretrainingBatches
from bothways.training.tracking import read_metrics
from bothways.training.trainer import Run, Trainer


@dataclass(frozen=True)
class Trouble:
    name: str
    text: str


@pytest.fixture
def fit(make_model, corpus, causal, adamw, make_training):
    """Return what trains four steps of two batches each."""

    def run(folder, *, resume=False, gradient_clip=1.0, **hooks):
        training = make_training(micro_batch_tokens=32, save_every=2, evaluate_every=2, gradient_clip=gradient_clip)
        torch.manual_seed(0)
        batches = PretrainingBatches(corpus, causal, training, seed=0)
        trainer = Trainer(training, adamw, run=folder and Run(folder=folder), **hooks)
        return trainer.fit(make_model(), batches, causal, resume=resume)

    return run


def count(batches):
    return float(sum(batch.input_ids.numel() for batch in batches))


def test_operations_are_added_up_and_told_by_the_second(fit, tmp_path):
    trained = fit(tmp_path, flops=count)
    assert trained.flops == 4 * 64
    seconds = [0.0, *(record["seconds"] for record in trained.curve)]
    for number, record in enumerate(trained.curve, start=1):
        took = seconds[number] - seconds[number - 1]
        assert record["flops_per_second"] == pytest.approx(64 / took, rel=0.002 / took)  # seconds have three digits
    state = json.loads((newest_complete(tmp_path) / "state.json").read_text())
    assert state["flops"] == 256
    assert [record["flops_per_second"] for record in read_metrics(tmp_path) if "loss" in record] == [
        record["flops_per_second"] for record in trained.curve
    ]


def test_operations_before_an_interruption_count(fit, tmp_path):
    calls = []

    def fail(batches):
        calls.append(batches)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return count(batches)

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, flops=fail)
    assert fit(tmp_path, flops=count, resume=True).flops == 256


def test_without_a_counter_there_is_no_speed_to_tell(fit):
    trained = fit(None)
    assert trained.flops == 0
    assert "flops_per_second" not in trained.curve[0]


def test_the_norm_of_the_gradients_is_told_before_clipping(fit):
    first = fit(None).curve[0]["gradient_norm"]
    assert first > 0.1
    assert fit(None, gradient_clip=1e-3).curve[0]["gradient_norm"] == first


def test_the_bar_shows_the_speed_beside_the_machines_own(fit, capsys, monkeypatch):
    monkeypatch.setattr(progress._Lines, "SECONDS", 0.0)
    monkeypatch.setattr(fitting, "measured_peak", lambda _: 2e12)
    with progress.display():
        fit(None, flops=lambda _: 1e12, evaluate=lambda _: {"loss": 1.5})
    line = capsys.readouterr().err.splitlines()[-1]
    assert "tokens/s" in line
    speed, share = line.partition("tokens/s · ")[2].split(" TFLOP/s (")
    assert float(share.partition("%")[0].replace(",", "")) == pytest.approx(100 * float(speed) / 2, rel=0.05)
    assert "causal_lm" in line
    assert line.endswith("loss 1.500")


def test_a_doctor_sees_all_that_is_known_and_is_heard_once(fit, tmp_path, capsys):
    seen = []

    def doctor(curve, evaluations, text_from):
        assert text_from == {"step": 0, "tokens": 0}
        seen.append((len(curve), len(evaluations)))
        found = [Trouble("cough", f"It coughs at {len(curve)}.")]
        return [*found, Trouble("fever", "It is hot.")] if evaluations else found

    with progress.display():
        trained = fit(tmp_path, doctor=doctor, evaluate=lambda _: {"loss": 1.5})
    assert seen == [(1, 0), (2, 0), (2, 1), (3, 1), (4, 1), (4, 2)]
    assert trained.warnings == [
        {"step": 1, "name": "cough", "text": "It coughs at 1."},
        {"step": 2, "name": "fever", "text": "It is hot."},
    ]
    said = capsys.readouterr().err
    assert said.count("It coughs") == said.count("It is hot.") == 1
    assert "step 2: It is hot." in said
    records = [record for record in read_metrics(tmp_path) if "warning" in record]
    assert records == [
        {"step": 1, "warning": {"name": "cough", "text": "It coughs at 1."}},
        {"step": 2, "warning": {"name": "fever", "text": "It is hot."}},
    ]


def test_what_was_said_before_an_interruption_is_not_said_again(fit, tmp_path):
    def doctor(curve, *_):
        if len(curve) == 4 and not resumed:
            raise KeyboardInterrupt
        return [Trouble("cough", f"It coughs at {len(curve)}.")]

    resumed = False
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, doctor=doctor)
    resumed = True
    trained = fit(tmp_path, doctor=doctor, resume=True)
    assert [warning["step"] for warning in trained.warnings] == [1]
    assert [record["step"] for record in read_metrics(tmp_path) if "warning" in record] == [1]

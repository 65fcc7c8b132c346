"""When a training compiles its layers, and what it does where that cannot be done."""

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from bothways.errors import UserError
from bothways.finetuning import Finetuning
from bothways.model.kernels import Compiled, why_not_compiled
from bothways.progress import display
from bothways.training import fitting, machine, resumable
from bothways.training.batches import PretrainingBatches
from bothways.training.config import OptimizerConfig, TrainingConfig
from bothways.training.trainer import Run, Trainer


@pytest.fixture
def counter(monkeypatch):
    """Count what is compiled, without a compiler; any run is long enough to earn it."""
    counter = CompileCounter()
    monkeypatch.setattr(machine, "has_vectors_of_256_bits", lambda: True)
    monkeypatch.setattr(machine, "FEWEST_COMPILED_FLOPS", 1e6)
    monkeypatch.setattr(machine, "why_not_compiled", lambda _: None)
    monkeypatch.setattr(fitting, "Compiled", lambda layers: Compiled(layers, backend=counter))
    torch._dynamo.reset()
    return counter


@pytest.fixture
def train(make_model, make_training, corpus, causal):
    def train(*, steps=4, run=None, resume=False, **settings):
        model, training = make_model(), make_training(steps=steps, **settings)
        batches = PretrainingBatches(corpus, causal, training, seed=0)
        return Trainer(training, OptimizerConfig(), run=run).fit(model, batches, causal, resume=resume)

    return train


@pytest.mark.parametrize(("setting", "compiled"), [("auto", True), ("on", True), ("off", False)])
def test_a_long_run_compiles_its_layers(train, counter, setting, compiled):
    trained = train(compile=setting)
    assert (counter.frame_count > 0) == compiled
    assert trained.steps == 4


def test_a_short_run_does_not(train, counter, monkeypatch):
    monkeypatch.setattr(machine, "FEWEST_COMPILED_FLOPS", 1e12)
    train()
    assert counter.frame_count == 0


def test_without_a_compiler_that_works_a_run_goes_on_and_says_so(train, counter, monkeypatch, capsys):
    monkeypatch.setattr(machine, "why_not_compiled", lambda _: "fatal error: Python.h: No such file")
    with display():
        assert train().steps == 4
    assert "Layers are not compiled" in (said := capsys.readouterr().err)
    assert "Python.h" in said
    assert counter.frame_count == 0
    with pytest.raises(UserError, match=r"training\.compile=on cannot be done here: fatal error: Python\.h"):
        train(compile="on")


def test_a_run_goes_on_as_it_began(train, counter, monkeypatch, tmp_path):
    """Though its machine, with another number of threads, would now decide otherwise."""
    run = Run(folder=tmp_path / "run")
    train(run=run)
    assert counter.frame_count > 0
    compiled = counter.frame_count
    torch._dynamo.reset()
    monkeypatch.setattr(machine, "FEWEST_COMPILED_FLOPS", 1e12)
    train(run=run, resume=True, steps=6)
    assert counter.frame_count > compiled

    other = Run(folder=tmp_path / "other")
    before = counter.frame_count
    train(run=other)
    monkeypatch.setattr(machine, "FEWEST_COMPILED_FLOPS", 1e6)
    train(run=other, resume=True, steps=6)
    assert counter.frame_count == before


def test_a_run_of_before_that_was_remembered_goes_on_without(train, counter, monkeypatch, tmp_path):
    run = Run(folder=tmp_path / "run")
    with monkeypatch.context() as before:
        before.setattr(machine, "FEWEST_COMPILED_FLOPS", 1e12)
        before.setattr(resumable, "REMEMBERED", tuple(name for name in resumable.REMEMBERED if name != "compiles"))
        train(run=run)
    train(run=run, resume=True, steps=6)
    assert counter.frame_count == 0


class CutError(Exception):
    """Stands for whatever ends a process."""


class Cut:
    """An objective that ends the process after so many batches."""

    def __init__(self, objective, batches):
        self._objective, self._left = objective, batches
        self.heads, self.counts = objective.heads, objective.counts

    def loss(self, model, batch):
        self._left -= 1
        if self._left < 0:
            raise CutError
        return self._objective.loss(model, batch)


@pytest.mark.slow
@pytest.mark.skipif(why_not_compiled(torch.device("cpu")) is not None, reason="needs a C++ compiler that works")
@pytest.mark.parametrize("batches", [10, 17])
def test_shapes_that_come_in_another_order_after_a_cut_change_no_bit(make_model, corpus, causal, tmp_path, batches):
    """Rows grow from 64 to 256, a step has a part that is smaller, and two threads sum up what is large enough."""
    torch.set_num_threads(2)
    training = TrainingConfig(
        steps=8, batch_tokens=20480, row_length=256, length_ramp_share=0.6, precision="fp32", compile="on", save_every=1
    )
    size = {"hidden_size": 64, "intermediate_size": 128, "max_position_embeddings": 256}

    def fit(name, *, resume=False, most=10**9):
        torch.manual_seed(0)
        torch._dynamo.reset()  # as in a new process
        model, stream = make_model(**size), PretrainingBatches(corpus, causal, training, seed=0)
        trainer = Trainer(training, OptimizerConfig(), run=Run(folder=tmp_path / name))
        trainer.fit(model, stream, Cut(causal, most), resume=resume)
        return model.state_dict()

    whole = fit("whole")
    with pytest.raises(CutError):
        fit("cut", most=batches)
    taken_up = fit("cut", resume=True)
    assert all(torch.equal(taken_up[name], tensor) for name, tensor in whole.items())


def test_fine_tuning_compiles_nothing_by_itself():
    told = Finetuning(training=TrainingConfig(compile="on"))
    assert (Finetuning().for_examples().compile, told.for_examples().compile) == ("off", "on")

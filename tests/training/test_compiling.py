"""When a training compiles its layers, and what it does where that cannot be done."""

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from bothways.errors import UserError
from bothways.finetuning import Finetuning
from bothways.model.kernels import Compiled
from bothways.progress import display
from bothways.training import fitting, machine
from bothways.training.batches import PretrainingBatches
from bothways.training.config import OptimizerConfig
from bothways.training.trainer import Trainer


@pytest.fixture
def counter(monkeypatch):
    """Count what is compiled, without a compiler; any run is long enough to earn it."""
    counter = CompileCounter()
    monkeypatch.setattr(machine, "can_compile", lambda _: True)
    monkeypatch.setattr(machine, "FEWEST_COMPILED_FLOPS", 1e6)
    monkeypatch.setattr(fitting, "fault_of_compiler", lambda _: None)
    monkeypatch.setattr(fitting, "Compiled", lambda layers: Compiled(layers, backend=counter))
    torch._dynamo.reset()
    return counter


@pytest.fixture
def train(make_model, make_training, corpus, causal):
    def train(*, steps=4, **settings):
        model, training = make_model(), make_training(steps=steps, **settings)
        return Trainer(training, OptimizerConfig()).fit(
            model, PretrainingBatches(corpus, causal, training, seed=0), causal
        )

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
    monkeypatch.setattr(fitting, "fault_of_compiler", lambda _: "fatal error: Python.h: No such file")
    with display():
        assert train().steps == 4
    assert "Layers are not compiled" in (said := capsys.readouterr().err)
    assert "Python.h" in said
    assert counter.frame_count == 0
    with pytest.raises(UserError, match=r"training\.compile=on cannot be done here: fatal error: Python\.h"):
        train(compile="on")


def test_fine_tuning_compiles_nothing_by_itself():
    assert Finetuning().training.compile == "off"

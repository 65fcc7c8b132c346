import os
import signal
import subprocess
import sys
import threading

import pytest
import torch

from bothways.progress import display
from bothways.training.batches import PretrainingBatches
from bothways.training.interruption import Interrupted, listen, signals_wait
from bothways.training.trainer import Run, Trainer

BOTH = (signal.SIGINT, signal.SIGTERM)


def handlers():
    return [signal.getsignal(number) for number in BOTH]


@pytest.mark.parametrize("number", BOTH)
def test_the_first_signal_is_a_request(number):
    before = handlers()
    with listen() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert stop.signal_number == number
        assert signal.getsignal(number) == signal.SIG_DFL  # so that the next one ends the process
    assert handlers() == before


@pytest.mark.parametrize("number", BOTH)
def test_the_second_signal_ends_the_process(number):
    code = (
        "import os\nfrom bothways.training.interruption import listen\n"
        f"with listen() as stop:\n    os.kill(os.getpid(), {int(number)})\n    print(bool(stop), flush=True)\n"
        f"    os.kill(os.getpid(), {int(number)})\n    print('still here', flush=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("True", -number)


def test_under_torchrun_the_second_sigterm_is_the_first_one_passed_on():
    code = (
        "import os\nfrom bothways.training.interruption import listen\n"
        f"with listen() as stop:\n    for _ in range(3):\n        os.kill(os.getpid(), {int(signal.SIGTERM)})\n"
        f"    print(stop.signal_number, flush=True)\n    os.kill(os.getpid(), {int(signal.SIGINT)})\n"
        f"    os.kill(os.getpid(), {int(signal.SIGINT)})\n    print('still here', flush=True)"
    )
    environment = {**os.environ, "TORCHELASTIC_RUN_ID": "none"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == (str(int(signal.SIGTERM)), -signal.SIGINT)


def test_while_saving_every_signal_is_noted_and_said(capsys):
    before = handlers()
    with display(), listen() as stop:
        with stop.saving():
            for number in (*BOTH, *BOTH):
                os.kill(os.getpid(), number)
        assert stop.signal_number == signal.SIGINT  # the first one tells the exit code
        assert signal.SIG_DFL not in handlers()
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        with stop.saving():
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # as it was before that save
    assert handlers() == before
    said = capsys.readouterr().err.splitlines()
    assert said[:4] == ["Saving; leaving when that is done"] * 4
    assert said[4] == "Leaving after this step; the same signal again leaves at once, and loses the step"
    assert said[5] == said[0]


def test_a_signal_in_the_middle_of_a_line_is_heard_all_the_same(monkeypatch):
    def busy(_):
        raise RuntimeError("reentrant call")

    monkeypatch.setattr("bothways.training.interruption.note", busy)
    with listen() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop


def test_the_old_handlers_come_back_after_an_error():
    before = handlers()
    with pytest.raises(ZeroDivisionError), listen():
        raise ZeroDivisionError
    assert handlers() == before


def test_another_thread_changes_nothing():
    seen = []

    def work():
        with listen() as stop:
            seen.append((bool(stop), handlers()))

    before = handlers()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="needs signals that can wait")
def test_sigterm_waits_and_never_reaches_what_is_started_meanwhile():
    child = [sys.executable, "-c", "import time\nprint('up', flush=True)\ntime.sleep(60)"]
    with listen() as stop:
        with signals_wait(signal.SIGTERM):
            helper = subprocess.Popen(child, stdout=subprocess.PIPE, text=True)
            assert helper.stdout.readline() == "up\n"
            signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
            helper.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                helper.wait(timeout=0.2)
            assert not stop
        assert stop.signal_number == signal.SIGTERM
    helper.kill()
    helper.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_exit_code_tells_the_signal(number, code):
    assert Interrupted(number, "stopped").exit_code == code


class Signalling:
    """An objective that sends this process a signal in one of its calls, counted from 1."""

    def __init__(self, objective, call, number):
        self._objective, self._call, self._number, self._calls = objective, call, number, 0
        self.heads, self.counts = objective.heads, objective.counts

    def loss(self, model, batch):
        self._calls += 1
        if self._calls == self._call:
            os.kill(os.getpid(), self._number)
        return self._objective.loss(model, batch)


@pytest.fixture
def fit(make_model, make_training, adamw, corpus, causal):
    """Return what trains the same model for four steps, with a signal in one of them."""

    def run(folder, call=None, number=signal.SIGTERM, **settings):
        training = make_training(**settings)
        torch.manual_seed(0)
        model = make_model(hidden_dropout=0.1)
        batches = PretrainingBatches(corpus, causal, training, seed=0)
        objective = Signalling(causal, call, number) if call else causal
        trained = Trainer(training, adamw, run=folder and Run(folder=folder)).fit(
            model, batches, objective, resume=True
        )
        return model, trained

    return run


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_lets_the_step_end_saves_and_leaves(fit, tmp_path, number):
    with pytest.raises(Interrupted, match=r"stopped after step 2 of 4; .* goes on with --resume") as caught:
        fit(tmp_path / "run", call=2, number=number)
    assert caught.value.exit_code == 128 + number
    assert [folder.name for folder in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-2"]
    resumed, trained = fit(tmp_path / "run")
    whole, _ = fit(tmp_path / "whole")
    assert trained.steps == 4
    assert all(torch.equal(weight, resumed.state_dict()[name]) for name, weight in whole.state_dict().items())


def test_a_signal_in_the_last_step_is_not_lost(fit, tmp_path):
    with pytest.raises(Interrupted, match="stopped after step 4 of 4") as caught:
        fit(tmp_path, call=4)
    assert caught.value.exit_code == 143
    assert (tmp_path / "last").is_dir()
    _, trained = fit(tmp_path)
    assert trained.steps == 4


def test_without_a_run_there_is_nothing_to_go_on_with(fit):
    with pytest.raises(Interrupted) as caught:
        fit(None, call=1)
    assert str(caught.value) == "stopped after step 1 of 4"

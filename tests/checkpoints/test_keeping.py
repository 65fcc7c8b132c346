"""Whatever a run saves, keeps and loses, in any order: once there was a whole checkpoint, there always is one."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bothways.checkpoints import folders
from bothways.checkpoints.checkpoint import checkpoints_in, clean, load_checkpoint, newest_complete, save_checkpoint
from bothways.checkpoints.folders import remove_folder
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model


class Killed(BaseException):
    """What no handler of errors catches."""


class Keeping(RuleBasedStateMachine):
    """A run's folder, with saves, prunings and best models, each of which may be cut short or find the disk full."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        torch.manual_seed(0)
        config = TransformerConfig(
            vocab_size=8, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4
        )
        self.model = Model(config, {"language_model": 0})
        self.step, self.saved, self.best = 0, set(), False

    @initialize(keep=st.integers(1, 3))
    def begin(self, keep):
        self.keep = keep

    def write(self, name):
        save_checkpoint(self.folder / name, self.model, state={"step": self.step})

    def save(self):
        """Save a step, and prune, as training does."""
        self.write(f"checkpoints/step-{self.step}")
        self.saved.add(self.step)
        for old in checkpoints_in(self.folder)[: -self.keep]:
            remove_folder(old)

    @rule(steps=st.integers(1, 3))
    def train(self, steps):
        self.step += steps
        self.save()

    @rule(fail_at=st.integers(1, 24), error=st.sampled_from([Killed(), OSError(28, "no space")]))
    def train_and_fail(self, fail_at, error):
        self.step += 1
        self.failing(self.save, fail_at, error)

    @rule()
    def save_best(self):
        self.write("best")
        self.best = True

    @precondition(lambda self: self.best)
    @rule(fail_at=st.integers(1, 12), error=st.sampled_from([Killed(), OSError(28, "no space")]))
    def replace_best_and_fail(self, fail_at, error):
        self.failing(lambda: self.write("best"), fail_at, error)

    @rule(keep=st.integers(1, 3))
    def keep_another_number(self, keep):
        self.keep = keep

    @precondition(lambda self: len(checkpoints_in(self.folder)) > 1)
    @rule()
    def damage_the_newest(self):
        file = checkpoints_in(self.folder)[-1] / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-1])

    @precondition(lambda self: self.saved)
    @rule()
    def resume(self):
        clean(self.folder)
        self.step = load_checkpoint(newest_complete(self.folder)).state["step"]
        assert not list(self.folder.rglob(".*"))

    def failing(self, act, fail_at, error):
        """Do something whose n-th call of the system fails, if it has so many."""
        before = {name: getattr(os, name) for name in ("replace", "fsync", "mkdir")}
        left = [fail_at]

        def wrap(call):
            def instead(*arguments, **options):
                left[0] -= 1
                if left[0] == 0:
                    raise error
                return call(*arguments, **options)

            return instead

        write_manifest, rmtree = folders.write_manifest, shutil.rmtree
        try:
            for name, call in before.items():
                setattr(os, name, wrap(call))
            folders.write_manifest, shutil.rmtree = wrap(write_manifest), wrap(rmtree)
            act()
        except (Killed, folders.OutOfDiskError, OSError):
            pass
        finally:
            for name, call in before.items():
                setattr(os, name, call)
            folders.write_manifest, shutil.rmtree = write_manifest, rmtree

    @invariant()
    def there_is_a_whole_one(self):
        if self.saved:
            assert newest_complete(self.folder) is not None
        if self.best:
            clean(self.folder)  # as every resume begins: a crash between two moves may have left it under another name
            load_checkpoint(self.folder / "best")

    def teardown(self):
        shutil.rmtree(self.folder)


SLOW_CHECKS = [HealthCheck.too_slow, HealthCheck.filter_too_much]


@pytest.mark.parametrize(
    "examples",
    [pytest.param(15, id="some"), pytest.param(1000, id="all", marks=[pytest.mark.slow, pytest.mark.timeout(3600)])],
)
def test_there_is_always_a_whole_checkpoint(examples):
    from hypothesis.stateful import run_state_machine_as_test

    chosen = settings(
        max_examples=examples,
        stateful_step_count=12,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=SLOW_CHECKS,
    )
    run_state_machine_as_test(Keeping, settings=chosen)

"""Twenty thousand steps need no more memory, files or threads than two thousand, and write no more lines."""

import os
import sys
import threading
from pathlib import Path

import pytest
import torch

from bothways.training.batches import PretrainingBatches
from bothways.training.trainer import Run, Trainer

STEPS = 20_000


def resident():
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors():
    return len(os.listdir("/proc/self/fd"))


class Watching:
    """An objective that looks at the process now and then."""

    def __init__(self, objective):
        self._objective, self.calls, self.seen = objective, 0, []
        self.heads, self.counts = objective.heads, objective.counts

    def loss(self, model, batch):
        self.calls += 1
        if self.calls % 500 == 0:
            self.seen.append((self.calls, resident(), descriptors(), threading.active_count()))
        return self._objective.loss(model, batch)


def slope(points):
    """Return by how much a value grows in 10,000 steps, by least squares."""
    x = torch.tensor([float(step) for step, _ in points]) / 10_000
    y = torch.tensor([float(value) for _, value in points])
    return float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_long_run_leaks_nothing(tmp_path, make_model, corpus, causal, adamw, make_training):
    training = make_training(steps=STEPS, batch_tokens=16, save_every=1000, evaluate_every=1000)
    objective = Watching(causal)
    batches = PretrainingBatches(corpus, causal, training, seed=0)
    trainer = Trainer(
        training,
        adamw,
        run=Run(folder=tmp_path),
        evaluate=lambda model: {"loss": float(model.transformer.norm.weight[0])},
    )
    trainer.fit(make_model(), batches, objective)
    later = [each for each in objective.seen if each[0] > 2000]  # what is made once is there by then
    growth = slope([(step, memory) for step, memory, _, _ in later])
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    print(f"memory grows by {growth / 2**20:.3f} MiB in 10,000 steps; {len(lines)} lines of metrics")  # noqa: T201
    assert growth < 2**20
    assert len({files for _, _, files, _ in later}) == 1
    assert len({threads for _, _, _, threads in later}) == 1
    assert len(lines) <= 100 + 20
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2

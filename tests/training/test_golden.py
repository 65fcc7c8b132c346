"""The losses of a hundred steps, to the last bit: a change of code that alters training does not go unnoticed.

Bits agree only between equal machines with equal libraries. Elsewhere the losses must agree within 1e-4, relatively.

To record them anew, after a change that is meant to alter training, run this file as a script
(``python tests/training/test_golden.py``), and say in the commit why they changed.
"""

import json
import os
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import tiny_runs as tiny
import torch

from bothways.training.config import TrainingConfig
from bothways.training.machine import describe_machine
from bothways.training.trainer import Trainer

GOLDEN = Path(__file__).with_name("golden.json")
SEED = 5
KINDS = (*tiny.PRETRAINED, "classification", "generation", "retrieval", "summarization")
TRAINING = TrainingConfig(
    steps=100, batch_tokens=512, micro_batch_tokens=256, row_length=16, learning_rate=4e-3, precision="fp32"
)


def train(kind):
    """Return the losses of each step by name, as hexadecimal floats; Muon's products are in float32 on every machine."""
    make = tiny.make_pretraining if kind in tiny.PRETRAINED else tiny.make_finetuning
    model, batches, objective, optimizer = make(kind, TRAINING)
    with patch("bothways.training.optimizer.has_bf16", lambda _: False):
        curve = Trainer(TRAINING, optimizer, seed=SEED).fit(model, batches, objective).curve
    names = [name for name in curve[0] if name not in ("step", "tokens", "seconds", "gradient_norm", "learning_rate")]
    return {name: [record[name].hex() for record in curve] for name in names}


def surroundings():
    """Return what must be equal for bits to agree: the libraries, and all that may choose another way to multiply."""
    machine = describe_machine()
    abilities = torch.backends.cpu.get_cpu_capability()
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "cpu": machine["cpu"],
        "abilities": [abilities, *flags()],
    }


def flags():
    """Return the instruction sets of the processor, where Linux tells them."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_steps_give_the_losses_on_record(kind):
    golden = json.loads(GOLDEN.read_text())
    found, expected = train(kind), golden["losses"][kind]
    assert list(found) == list(expected)
    if golden["recorded_with"] == surroundings():
        assert found == expected
    for name, losses in expected.items():
        numbers = [float.fromhex(loss) for loss in losses]
        assert [float.fromhex(loss) for loss in found[name]] == pytest.approx(numbers, rel=1e-4), name
        assert numbers[-1] < numbers[0]


def record():
    """Write down the losses of today."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    values = {"recorded_with": surroundings(), "losses": {kind: train(kind) for kind in KINDS}}
    GOLDEN.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    record()

"""The losses of twenty steps, to the last bit: a change of code that alters training does not go unnoticed.

Bits agree only between equal machines with equal libraries. Elsewhere the losses must agree within 1e-4, relatively.

To record them anew, after a change that is meant to alter training, run this file as a script
(``python tests/training/test_golden.py``), and say in the commit why they changed.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from bothways.experiment import Experiment, ObjectiveConfig
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.objectives.causal_lm import CausalLM
from bothways.objectives.masked_lm import MaskedLM
from bothways.text.shards import EncodedDocument, gather
from bothways.training.batches import PretrainingBatches
from bothways.training.config import TrainingConfig
from bothways.training.machine import describe_machine
from bothways.training.trainer import Trainer

GOLDEN = Path(__file__).with_name("golden.json")
VOCABULARY = 64


def make_corpus():
    """Return documents in which each token has a favourite successor, so that there is something to learn."""
    draw = np.random.default_rng(2024)
    successor = draw.permutation(np.arange(4, VOCABULARY))
    documents = []
    for _ in range(40):
        tokens = [int(draw.integers(4, VOCABULARY))]
        while len(tokens) < 60:
            follows = draw.random() < 0.8
            tokens.append(int(successor[tokens[-1] - 4] if follows else draw.integers(4, VOCABULARY)))
        starts = np.arange(0, 60, 12)
        documents.append(EncodedDocument(input_ids=np.array(tokens), sentence_starts=starts, num_bytes=60))
    return gather(documents)


def make_experiment(kind):
    masked = kind == "bert"
    return Experiment(
        model=TransformerConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            attention="bidirectional" if masked else "causal",
            pooling="mean" if masked else "last",
            pooler="gelu" if masked else "none",
            hidden_dropout=0.1,
        ),
        objective=ObjectiveConfig(name="masked_lm" if masked else "causal_lm", sequence_length=32),
        training=TrainingConfig(
            steps=20, batch_tokens=512, micro_batch_tokens=256, row_length=64, learning_rate=4e-3, precision="fp32"
        ),
        seed=5,
    )


def train(kind):
    """Return the losses of each step by name, as hexadecimal floats."""
    experiment = make_experiment(kind)
    if kind == "gpt":
        objective = CausalLM(bos_id=1, eos_id=1)
    else:
        objective = MaskedLM(cls_id=1, sep_id=2, mask_id=3, vocab_size=VOCABULARY, special_ids=(0, 1, 2, 3), length=32)
    torch.manual_seed(experiment.seed)
    model = Model(experiment.model, objective.heads)
    training = experiment.training
    batches = PretrainingBatches(make_corpus(), objective, training, seed=experiment.seed)
    curve = Trainer(training, experiment.optimizer, seed=experiment.seed).fit(model, batches, objective).curve
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
@pytest.mark.parametrize("kind", ["gpt", "bert"])
def test_twenty_steps_give_the_losses_on_record(kind):
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
    values = {"recorded_with": surroundings(), "losses": {kind: train(kind) for kind in ("gpt", "bert")}}
    GOLDEN.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    record()

import mmap
import os
import random
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from bothways.advise.memory import (
    compute_memory,
    disk_bytes,
    forget_peak,
    measured_peak_memory,
    memory_here,
    resident_memory,
)
from bothways.advise.workload import workload_of
from bothways.experiment import Experiment, ObjectiveConfig, make_batches
from bothways.model import kernels
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.objectives.causal_lm import CausalLM
from bothways.training.config import OptimizerConfig, TrainingConfig
from bothways.training.machine import autocast
from bothways.training.optimizer import make_optimizers, state_tensors
from bothways.verbs.prepare import prepare

OBJECTIVE = CausalLM(bos_id=1, eos_id=2)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def corpus(make_corpus):
    return make_corpus(10, 600, vocab_size=500, num_bytes=2000)


def make_experiment(**model):
    shape = {"vocab_size": 500, "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 3}
    return Experiment(
        model=TransformerConfig(**{**shape, "intermediate_size": 256, **model}),
        training=TrainingConfig(batch_tokens=1024, micro_batch_tokens=512, row_length=256),
    )


def memory(experiment, **options):
    workload = workload_of(experiment, OBJECTIVE, options.pop("share", 1.0))
    return compute_memory(experiment, workload, **{"precision": "bf16", "device": "cpu", **options})


def kept_bytes(experiment, corpus, precision):
    """Return the bytes that autograd really keeps of a micro-batch, weights and their copies left out, and the logits'."""
    model = Model(experiment.model, OBJECTIVE.heads)
    weights = {weight.numel() for weight in model.parameters()}
    batch = next(make_batches(experiment, OBJECTIVE, corpus))[0]
    kept = {}

    def keep(tensor):
        if tensor.is_floating_point() and tensor.untyped_storage().nbytes() // tensor.element_size() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = (tensor, tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast(precision, CPU):
        OBJECTIVE.loss(model, batch)
    logits = sum(size for tensor, size in kept.values() if tensor.shape[-1:] == (experiment.model.vocab_size,))
    return sum(size for _, size in kept.values()) - logits, logits


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize(
    "model",
    [{}, {"num_hidden_layers": 1, "intermediate_size": 600}, {"hidden_size": 192, "activation": "gelu"}],
    ids=["usual", "shallow", "no gate"],
)
def test_activations_are_those_that_the_backward_pass_keeps(corpus, precision, model):
    experiment = make_experiment(**model)
    kept, logits = kept_bytes(experiment, corpus, precision)
    computed = memory(experiment, precision=precision)
    assert computed.activations == pytest.approx(kept, rel=0.12)
    assert logits == 0  # gone when the backward pass begins


def test_what_lasts_is_counted_exactly():
    for name in ("muon", "adamw"):
        experiment = replace(make_experiment(), optimizer=OptimizerConfig(name=name))
        model = Model(experiment.model, OBJECTIVE.heads)
        optimizers = make_optimizers(model, experiment.optimizer)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        for optimizer in optimizers:
            optimizer.step()
        numbers = [tensor for tensor in state_tensors(optimizers, model).values() if tensor.dim()]
        computed = memory(experiment, precision="fp32")
        assert computed.optimizer == sum(tensor.nbytes for tensor in numbers)
        assert computed.weights == computed.gradients == 4 * model.num_parameters()
        assert memory(experiment).weights == 6 * model.num_parameters()  # and copies in bfloat16
        weights = 4 * model.num_parameters()
        workload = workload_of(experiment, OBJECTIVE, 1.0)
        assert disk_bytes(experiment, workload) == 3 * (weights + computed.optimizer) + 2 * weights


def test_a_cpu_holds_what_was_freed_and_a_gpu_does_not():
    there, here = memory(make_experiment(), device="cuda", program=0), memory(make_experiment(), program=0)
    lasting = here.weights + here.gradients + here.optimizer
    assert here.total == lasting + 2 * (here.activations + here.logits)
    assert there.total == lasting + max(there.activations + there.logits, there.update, there.evaluation)
    assert there.activations < here.activations  # a GPU's attention keeps no weights


def test_attention_in_blocks_keeps_no_mask():
    def activations(**model):
        return memory(make_experiment(**model), device="cuda").activations

    kept = activations()
    assert activations(attention_dropout=0.1) == kept + 512 * 3 * 4 * 256  # tokens, layers, a row of the mask each
    assert memory(make_experiment(), device="cuda", precision="fp32").activations > kept


def test_a_hybrid_is_asked_for_all_next_tokens_when_it_is_evaluated():
    whole = make_experiment()
    hybrid = replace(whole, model=replace(whole.model, hybrid=True), objective=ObjectiveConfig(name="hybrid"))
    assert memory(hybrid, share=0.6).evaluation == memory(whole).evaluation
    assert memory(hybrid, share=0.6).logits < memory(whole).logits


def of_head(experiment):
    """Return the bytes of the gradient of the head, in float32 and as it comes from a product in bfloat16."""
    return (4 + 2) * experiment.model.vocab_size * experiment.model.hidden_size


def test_masked_tokens_alone_need_logits():
    experiment = make_experiment()
    whole, masked = memory(experiment), memory(experiment, share=0.15)
    assert whole.logits == 512 * 500 * 2 + of_head(experiment)
    assert masked.logits - of_head(experiment) == pytest.approx(0.15 * 512 * 500 * 2, rel=0.02)
    assert masked.activations == whole.activations


def test_of_many_logits_a_part_is_held(monkeypatch):
    experiment = make_experiment()
    whole = memory(experiment).logits
    targets = 512 * 500  # of a micro-batch, times the vocabulary
    monkeypatch.setitem(kernels.LOGITS_AT_ONCE, "cpu", targets)
    assert memory(experiment).logits == whole
    monkeypatch.setitem(kernels.LOGITS_AT_ONCE, "cpu", targets // 4)
    assert memory(experiment).logits == whole - targets * 3 // 4 * 2


def test_long_rows_keep_no_attention_weights():
    long = replace(
        make_experiment(max_position_embeddings=1024),
        training=TrainingConfig(batch_tokens=1024, micro_batch_tokens=1024, row_length=1024),
    )
    short = replace(long, training=replace(long.training, row_length=256))
    assert memory(long).activations < memory(short).activations + 3 * 1024 * 4 * 1024


def test_the_most_that_was_held_is_seen_and_forgotten():
    before = resident_memory()
    with mmap.mmap(-1, 200 * 2**20) as block:  # mapped, so that closing it gives it back at once
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
        held = measured_peak_memory(CPU)
        assert held >= resident_memory() > before + 190 * 2**20
    forget_peak(CPU)
    assert resident_memory() <= measured_peak_memory(CPU) < held - 150 * 2**20
    assert resident_memory() <= memory_here(CPU)


PROGRAM = """
import sys, tempfile
import torch
from bothways.advise.memory import IMPORTED_LATER, compute_memory, measured_peak_memory, resident_memory
from bothways.advise.workload import share_predicted, workload_of
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.training.machine import resolve_precision
from bothways.verbs.mixture import Mixture
from bothways.verbs.pretrain import get_experiment, get_objective, pretrain
torch.set_num_threads(1)
data, out, *settings = sys.argv[1:]
mixture, tokenizer, device = Mixture(data), Tokenizer.load(data), torch.device("cpu")
experiment = get_experiment("gpt-tiny").fitted_to(tokenizer).override(settings)
objective = get_objective(experiment, tokenizer)
workload = workload_of(experiment, objective, share_predicted(experiment, objective, mixture.train))
precision = resolve_precision("auto", device)
memory = compute_memory(experiment, workload, precision=precision, device="cpu", program=resident_memory() + IMPORTED_LATER)
pretrain("gpt-tiny", data=data, out=out, settings=settings)
print(memory.total, measured_peak_memory(device))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape",
    [
        {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 256},
        {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 704},
        {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "intermediate_size": 1024},
    ],
    ids=["tiny", "mini", "small"],
)
def test_a_run_takes_about_as_much_as_was_computed(shape, tmp_path):
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(3000)]
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(1000):  # of which the held-out ones fill more than a micro-batch
        sentences = (" ".join(draw.choices(words, k=12)).capitalize() + "." for _ in range(30))
        (texts / f"{number:03}.txt").write_text(" ".join(sentences), encoding="utf-8")
    data = prepare([texts], out=tmp_path / "data", vocab_size=2048).folder
    settings = [f"model.{name}={value}" for name, value in shape.items()] + ["training.steps=3"]
    command = [sys.executable, "-c", PROGRAM, str(data), str(tmp_path / "run"), *settings]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ).stdout
    computed, held = map(int, printed.split())
    assert computed == pytest.approx(held, rel=0.25)

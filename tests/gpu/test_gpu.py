"""What a GPU computes is what a CPU computes, in the kernels that only a GPU has and in whole trainings."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.nn import functional

from bothways.batch import collate, join, row
from bothways.model.attention import attend_slowly, attention_mask, visible
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.model.kernels import Compiled, cross_entropy_in_chunks
from bothways.model.kernels_flex import attend_in_blocks, block_mask
from bothways.objectives.causal_lm import CausalLM
from bothways.objectives.hybrid import Hybrid
from bothways.objectives.masked_lm import MaskedLM
from bothways.text.shards import EncodedDocument, gather
from bothways.training.batches import PretrainingBatches
from bothways.training.config import OptimizerConfig, TrainingConfig
from bothways.training.muon import orthogonalize
from bothways.training.trainer import Run, Trainer

pytestmark = pytest.mark.gpu
VOCABULARY, LENGTH = 200, 256
CAUSAL = CausalLM(bos_id=1, eos_id=2)
MASKED = MaskedLM(
    cls_id=1, sep_id=2, mask_id=3, vocab_size=VOCABULARY, special_ids=(0, 1, 2, 3), length=LENGTH, pairs="none"
)
OBJECTIVES = {"gpt": CAUSAL, "bert": MASKED, "hybrid": Hybrid(causal=CAUSAL, masked=MASKED, length=LENGTH)}


def random_batch(seed, *, rows, length):
    """Return packed rows of causal, bidirectional and prefix sequences, the last of them padded."""
    rng = np.random.default_rng(seed)
    joined = []
    for number in range(rows):
        room, parts = length - (9 if number == rows - 1 else 0), []
        while room:
            size = int(min(room, rng.choice([1, 7, 60, 128, 200])))
            way = ("causal", "bidirectional")[rng.integers(2)]
            prefix = int(rng.integers(size + 1)) if way == "causal" and rng.random() < 0.5 else 0
            parts.append(row([1] * size, way, prefix=prefix))
            room -= size
        joined.append(join(parts))
    return collate(joined, length=length)


def apart(one, other):
    """Return how far two tensors are from each other, as a share of the second."""
    one, other = one.detach().double().cpu(), other.detach().double().cpu()
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("heads", [(4, 4), (4, 2)])
@pytest.mark.parametrize(("length", "size"), [(128, 16), (200, 64), (256, 32), (1000, 64)])
def test_attention_over_blocks_and_its_gradients(length, size, heads):
    batch = random_batch(0, rows=3, length=length).to(torch.device("cuda"))
    real = (batch.sequence_ids >= 0)[:, None, :, None]
    torch.manual_seed(0)
    states = [
        torch.randn(3, count, length, size, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        for count in (heads[0], heads[1], heads[1])
    ]
    wide = [state.detach().double().requires_grad_() for state in states]
    mask = attention_mask(batch.sequence_ids, batch.reach, batch.sequence_ids)
    fast = attend_in_blocks(*states, block_mask(batch.sequence_ids, batch.reach)) * real
    slow = attend_slowly(*wide, mask)[0] * real
    assert apart(fast, slow) < 0.01
    weight = torch.randn_like(slow)
    gradients = torch.autograd.grad((fast.double() * weight).sum(), states)
    expected = torch.autograd.grad((slow * weight).sum(), wide)
    for one, other in zip(gradients, expected, strict=True):
        assert apart(one, other) < 0.02


def test_blocks_are_used_where_they_are_meant_to_be():
    batch = random_batch(0, rows=2, length=256).to(torch.device("cuda"))
    like = torch.zeros(1, device="cuda", dtype=torch.bfloat16)
    mask = visible(batch.sequence_ids, batch.reach, batch.sequence_ids, like=like, head_size=32)
    assert not isinstance(mask, torch.Tensor)


def test_cross_entropy_in_chunks():
    torch.manual_seed(0)
    tensors = [torch.randn(shape, device="cuda", requires_grad=True) for shape in ((1000, 64), (5000, 64))]
    value = torch.randint(5000, (1000,), device="cuda")
    whole = functional.cross_entropy(functional.linear(*tensors), value, reduction="sum")
    parts = cross_entropy_in_chunks(*tensors, None, value, rows=300)
    torch.testing.assert_close(parts, whole, atol=0, rtol=1e-5)
    for one, other in zip(torch.autograd.grad(parts, tensors), torch.autograd.grad(whole, tensors), strict=True):
        assert apart(one, other) < 1e-4


@pytest.mark.parametrize("shape", [(3, 64, 64), (2, 96, 384), (1, 384, 1024)])
def test_muon_is_the_same(shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    expected = orthogonalize(matrices.double(), 3, torch.float64)
    assert apart(orthogonalize(matrices.cuda(), 3, torch.float32), expected) < 1e-3
    assert apart(orthogonalize(matrices.cuda(), 3, torch.bfloat16), expected) < 0.05


def make_corpus():
    """Return documents in which each token has a favourite successor, so that there is something to learn."""
    draw = np.random.default_rng(2024)
    successor = draw.permutation(np.arange(4, VOCABULARY))
    documents = []
    for size in draw.integers(20, 600, size=200):
        tokens = [int(draw.integers(4, VOCABULARY))]
        while len(tokens) < size:
            follows = draw.random() < 0.8
            tokens.append(int(successor[tokens[-1] - 4] if follows else draw.integers(4, VOCABULARY)))
        starts = np.arange(0, size, 12)
        documents.append(EncodedDocument(input_ids=np.array(tokens), sentence_starts=starts, num_bytes=int(size)))
    return gather(documents)


def fit(kind, device, *, folder=None, resume=False, objective=None, **settings):
    """Train a small model on the device; every call starts with the same weights and data."""
    settings = {"steps": 30, "batch_tokens": 4096, "micro_batch_tokens": 2048, "save_every": 10, **settings}
    training = TrainingConfig(row_length=LENGTH, learning_rate=4e-3, **settings)
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=256,
        max_position_embeddings=LENGTH,
        attention="bidirectional" if kind == "bert" else "causal",
    )
    model = Model(config, OBJECTIVES[kind].heads).to(device)
    batches = PretrainingBatches(make_corpus(), OBJECTIVES[kind], training, seed=0)
    run = Run(folder=folder, fingerprint={"kind": kind}) if folder else None
    trainer = Trainer(training, OptimizerConfig(), run=run)
    return model, trainer.fit(model, batches, objective or OBJECTIVES[kind], resume=resume)


@pytest.mark.parametrize("compile_", ["off", "on"])
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_training_is_that_of_a_cpu(kind, compile_):
    _, here = fit(kind, "cuda", compile=compile_)
    _, there = fit(kind, "cpu", precision="fp32")
    ours, theirs = ([record["loss"] for record in trained.curve] for trained in (here, there))
    assert len(ours) == 30
    assert ours[-1] < ours[0] - 0.05
    assert np.abs(np.array(ours) - np.array(theirs)).max() < 0.05


@pytest.mark.parametrize("compile_", ["off", "on"])
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_an_interrupted_run_ends_as_if_it_had_not_been(kind, compile_, tmp_path):
    class Cut(Exception):
        """The run is cut off."""

    class CuttingOff:
        """The objective, until the 17th step."""

        heads, counts = OBJECTIVES[kind].heads, OBJECTIVES[kind].counts
        calls = 0

        def loss(self, model, batch):
            self.calls += 1
            if self.calls > 33:
                raise Cut
            return OBJECTIVES[kind].loss(model, batch)

    whole, _ = fit(kind, "cuda", folder=tmp_path / "whole", compile=compile_)
    with pytest.raises(Cut):
        fit(kind, "cuda", folder=tmp_path / "cut", objective=CuttingOff(), compile=compile_)
    resumed, _ = fit(kind, "cuda", folder=tmp_path / "cut", resume=True, compile=compile_)
    for (name, one), other in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other), (name, apart(one, other))


def test_compiled_layers_give_the_gradients_of_plain_ones():
    training = TrainingConfig(row_length=LENGTH, batch_tokens=2048)
    batch = next(PretrainingBatches(make_corpus(), CAUSAL, training, seed=0))[0].to(torch.device("cuda"))
    config = TransformerConfig(vocab_size=VOCABULARY, hidden_size=128, num_hidden_layers=2, num_attention_heads=2)
    torch.manual_seed(0)
    model = Model(config, CAUSAL.heads).cuda()
    found = []
    for compiles in (False, True):
        model.zero_grad()
        compiled = Compiled(model.transformer.layers) if compiles else nullcontext()
        with torch.autocast("cuda", dtype=torch.bfloat16), compiled:
            loss = CAUSAL.loss(model, batch)["causal_lm"].sum
        loss.backward()
        found.append([parameter.grad.clone() for parameter in model.parameters()])
    for one, other in zip(*found, strict=True):
        assert apart(one, other) < 0.03

"""Blocks say what the mask says, and attention over them is attention."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.nn.attention.flex_attention import create_block_mask

from bothways.batch import collate, join, row
from bothways.model import attention
from bothways.model.attention import attend, attend_slowly, attention_mask, visible
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.model.kernels import Compiled, attends_in_blocks
from bothways.model.kernels_flex import attend_in_blocks, block_mask

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without")
HEADS = {"as many": (4, 4), "grouped": (4, 2), "one": (4, 1)}


def random_sequence(rng, length):
    way = ("causal", "bidirectional")[rng.integers(2)]
    prefix = int(rng.integers(length + 1)) if way == "causal" and rng.random() < 0.5 else 0
    return row([1] * length, way, prefix=prefix)


def random_batch(seed, *, rows, length):
    """Return packed rows of causal, bidirectional and prefix sequences, some of them padded."""
    rng = np.random.default_rng(seed)
    joined = []
    for _ in range(rows):
        room, parts = int(rng.integers(1, length + 1)), []
        while room:
            size = int(min(room, rng.choice([1, 7, 60, 128, 200, length])))
            parts.append(random_sequence(rng, size))
            room -= size
        joined.append(join(parts))
    return collate(joined, length=length)


def in_blocks(batch):
    return block_mask(batch.sequence_ids, batch.reach)


def dense(batch):
    return attention_mask(batch.sequence_ids, batch.reach, batch.sequence_ids)


def make_states(batch, heads, size=16):
    rows, length = batch.input_ids.shape
    return [torch.randn(rows, count, length, size) for count in (heads[0], heads[1], heads[1])]


@pytest.mark.parametrize("length", [1, 100, 128, 129, 256, 500])
@pytest.mark.parametrize("seed", range(5))
def test_blocks_are_those_of_the_mask(length, seed):
    batch = random_batch(seed, rows=5, length=length)
    mask, blocks = dense(batch), in_blocks(batch)
    expected = create_block_mask(lambda b, h, q, k: mask[b, h, q, k], 5, 1, length, length, device="cpu")
    assert blocks.shape == expected.shape
    for name in ("kv", "full_kv", "q", "full_q"):
        for kind in ("num_blocks", "indices"):
            assert torch.equal(getattr(blocks, f"{name}_{kind}"), getattr(expected, f"{name}_{kind}")), (name, kind)


def test_some_blocks_are_empty_some_whole_and_some_in_part():
    batch = collate([join([row([1] * 256, "bidirectional"), row([1] * 256, "causal")])])
    blocks = in_blocks(batch)
    assert blocks.full_kv_num_blocks.tolist() == [[[2, 2, 0, 1]]]
    assert blocks.kv_num_blocks.tolist() == [[[0, 0, 1, 1]]]
    assert blocks.kv_indices[0, 0, 2:, 0].tolist() == [2, 3]


@pytest.mark.parametrize("seed", range(3))
def test_the_rule_inside_a_block_is_the_mask(seed):
    batch = random_batch(seed, rows=3, length=150)
    index = [torch.arange(size) for size in (3, 1, 150, 150)]
    grid = torch.meshgrid(*index, indexing="ij")
    assert torch.equal(in_blocks(batch).mask_mod(*grid), dense(batch))


@pytest.mark.parametrize("heads", HEADS)
def test_attention_over_blocks_is_attention(heads):
    for seed in range(3):
        batch = random_batch(seed, rows=3, length=200)
        states = make_states(batch, HEADS[heads])
        slow, _ = attend_slowly(*states, dense(batch))
        torch.testing.assert_close(attend_in_blocks(*states, in_blocks(batch), fused=False), slow, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_the_fused_kernel_skips_blocks_and_is_attention():
    for seed in range(3):
        batch = random_batch(seed, rows=3, length=300)
        states = make_states(batch, (4, 2))
        slow, _ = attend_slowly(*states, dense(batch))
        torch.testing.assert_close(attend(*states, in_blocks(batch)), slow, atol=1e-5, rtol=0)


def test_a_cpu_attends_with_a_mask_or_adds_it_where_products_are_narrow():
    batch, longer = random_batch(0, rows=2, length=130), random_batch(0, rows=2, length=520)

    def mask(batch, dtype=torch.float32):
        like = torch.zeros(1, dtype=dtype)
        return visible(batch.sequence_ids, batch.reach, batch.sequence_ids, like=like, head_size=64)

    assert torch.equal(mask(batch), dense(batch))
    assert torch.equal(mask(longer, torch.bfloat16), dense(longer))  # too long for products of whole matrices
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(mask(batch, torch.float64), dense(batch))
        under_autocast = mask(batch)
    for added in (under_autocast, mask(batch, torch.bfloat16)):
        assert added.dtype == torch.bfloat16
        assert torch.equal(added == 0, dense(batch))
        assert torch.equal(added == -torch.inf, ~dense(batch))


def test_a_gpu_attends_in_blocks_unless_there_is_a_cache(monkeypatch):
    monkeypatch.setattr(attention, "attends_in_blocks", lambda *_, **__: True)
    batch = random_batch(0, rows=2, length=130)
    like = torch.zeros(1)
    blocks = visible(batch.sequence_ids, batch.reach, batch.sequence_ids, like=like, head_size=64)
    assert torch.equal(blocks.to_dense(), in_blocks(batch).to_dense())
    cached = visible(batch.sequence_ids[:, 1:], batch.reach[:, 1:], batch.sequence_ids, like=like, head_size=64)
    assert torch.equal(cached, dense(batch)[:, :, 1:])


class OnGPU:
    """What is asked of hidden states on a GPU."""

    device = torch.device("cuda")

    def __init__(self, dtype):
        self.dtype = dtype


@pytest.mark.parametrize(
    ("dtype", "length", "head_size", "dropout", "able", "expected"),
    [
        (torch.bfloat16, 128, 16, 0.0, True, True),
        (torch.float16, 1024, 64, 0.0, True, True),
        (torch.float32, 128, 64, 0.0, True, False),
        (torch.bfloat16, 127, 64, 0.0, True, False),
        (torch.bfloat16, 128, 8, 0.0, True, False),
        (torch.bfloat16, 128, 64, 0.1, True, False),
        (torch.bfloat16, 128, 64, 0.0, False, False),
    ],
)
def test_when_blocks_are_used(monkeypatch, dtype, length, head_size, dropout, able, expected):
    monkeypatch.setattr("bothways.model.kernels.can_compile", lambda _: able)
    chosen = attends_in_blocks(OnGPU(dtype), length=length, head_size=head_size, dropout=dropout)
    assert chosen is expected


def test_under_autocast_the_dtype_of_products_counts(monkeypatch):
    monkeypatch.setattr("bothways.model.kernels.can_compile", lambda _: True)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: True)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda _: torch.bfloat16)
    assert attends_in_blocks(OnGPU(torch.float32), length=128, head_size=64, dropout=0.0)


def test_nothing_of_it_is_imported_on_a_cpu():
    program = (
        "import sys, torch\n"
        "from bothways.model.config import TransformerConfig\n"
        "from bothways.model.heads import Model\n"
        "from bothways.batch import collate, row\n"
        "model = Model(TransformerConfig(vocab_size=8, hidden_size=32, num_hidden_layers=1), {'language_model': 0})\n"
        "model(collate([row([1] * 130, 'causal')])).sum().backward()\n"
        "print([name for name in ('torch.nn.attention.flex_attention', 'bothways.model.kernels_flex', 'torch._inductor')"
        " if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_layers_compile_once_whatever_the_blocks():
    torch._dynamo.reset()
    config = TransformerConfig(vocab_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
    model, counter = Model(config, {}), CompileCounter()
    compiled = Compiled(model.transformer.layers, backend=counter)
    hidden_states = torch.randn(2, 200, 32)
    for seed in range(6):
        batch = random_batch(seed, rows=2, length=200)
        for layer in model.transformer.layers:
            with torch.no_grad():  # there is no backward pass on a CPU
                expected = layer(hidden_states, dense(batch), None)
                with compiled:
                    given = layer(hidden_states, in_blocks(batch), None)
            torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-5)
    assert counter.frame_count == 1

"""Faster ways to compute the same compute the same."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.nn import functional

from bothways.batch import Target, collate, join, row
from bothways.model import kernels
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.model.kernels import Compiled, can_compile, cross_entropy_in_chunks, dtype_of_products, filled_up

CPU = torch.device("cpu")
CONFIG = TransformerConfig(
    vocab_size=40, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24
)
CLOSE = {torch.float64: 1e-10, torch.float32: 1e-5}


def inputs(dtype, *, positions=23, size=8, outputs=37):
    hidden_states = torch.randn(positions, size, dtype=dtype, requires_grad=True)
    weight = torch.randn(outputs, size, dtype=dtype, requires_grad=True)
    bias = torch.randn(outputs, dtype=dtype, requires_grad=True)
    return [hidden_states, weight, bias], torch.randint(outputs, (positions,))


def plain(hidden_states, weight, bias, value):
    return functional.cross_entropy(functional.linear(hidden_states, weight, bias).float(), value, reduction="sum")


@pytest.mark.parametrize("rows", [1, 7, 23, 100, None])
@pytest.mark.parametrize("dtype", CLOSE)
def test_chunks_give_the_same_loss_and_gradients(dtype, rows):
    tensors, value = inputs(dtype)
    whole = functional.cross_entropy(functional.linear(*tensors), value, reduction="sum")
    parts = cross_entropy_in_chunks(*tensors, value, rows=rows)
    torch.testing.assert_close(parts, whole, atol=0, rtol=CLOSE[dtype])
    for one, other in zip(
        torch.autograd.grad(parts / 7, tensors), torch.autograd.grad(whole / 7, tensors), strict=True
    ):
        torch.testing.assert_close(one, other, atol=CLOSE[dtype], rtol=CLOSE[dtype])


def test_gradients_of_chunks():
    tensors, value = inputs(torch.float64, positions=5, size=3, outputs=4)
    assert torch.autograd.gradcheck(lambda *parts: cross_entropy_in_chunks(*parts, value, rows=2), tensors)


def test_chunks_need_neither_a_bias_nor_gradients_nor_targets():
    (hidden_states, weight, _), value = inputs(torch.float64)
    with torch.no_grad():
        parts = cross_entropy_in_chunks(hidden_states, weight, None, value, rows=4)
        whole = functional.cross_entropy(hidden_states @ weight.T, value, reduction="sum")
    torch.testing.assert_close(parts, whole)
    frozen = cross_entropy_in_chunks(hidden_states.detach(), weight, None, value, rows=4)
    frozen.backward()
    assert weight.grad.abs().sum() > 0
    none = cross_entropy_in_chunks(hidden_states[:0], weight, None, value[:0])
    assert none == 0
    none.backward()


def test_under_autocast_products_are_narrow_and_sums_wide():
    tensors, value = inputs(torch.float32, positions=200, size=64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole, parts = plain(*tensors, value), cross_entropy_in_chunks(*tensors, value, rows=64)
    assert parts.dtype == torch.float32
    torch.testing.assert_close(parts, whole, atol=0, rtol=1e-6)  # of the same rounded logits
    for one, other in zip(torch.autograd.grad(parts, tensors), torch.autograd.grad(whole, tensors), strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.01 * other.norm()


def test_no_chunk_stores_more_logits_than_asked(monkeypatch):
    sizes = []
    linear = functional.linear
    monkeypatch.setattr(functional, "linear", lambda *parts: sizes.append(len(parts[0])) or linear(*parts))
    tensors, value = inputs(torch.float32)
    cross_entropy_in_chunks(*tensors, value, rows=9).backward()
    assert sizes == [9, 9, 5]


@pytest.mark.parametrize("rows", [7, 20, 100])
def test_positions_without_a_value_do_not_count(rows):
    (hidden_states, weight, bias), value = inputs(torch.float64)
    wanted = cross_entropy_in_chunks(hidden_states[:20], weight, bias, value[:20])
    given = cross_entropy_in_chunks(hidden_states, weight, bias, value[:20], rows=rows)
    torch.testing.assert_close(given, wanted)
    tensors = hidden_states, weight, bias
    gradients = torch.autograd.grad(given, tensors)
    torch.testing.assert_close(gradients, torch.autograd.grad(wanted, tensors))
    assert gradients[0][20:].abs().sum() == 0 < gradients[0][:20].abs().min()


def test_few_logits_at_a_time_are_turned_into_slopes(monkeypatch):
    sizes, log_softmax = [], torch.Tensor.log_softmax

    def counted(some, *settings, **named):
        sizes.append(len(some))
        return log_softmax(some, *settings, **named)

    monkeypatch.setattr(torch.Tensor, "log_softmax", counted)
    monkeypatch.setitem(kernels.LOGITS_IN_CACHE, "cpu", 4 * 37)
    tensors, value = inputs(torch.float32)
    cross_entropy_in_chunks(*tensors, value[:22], rows=9).backward()
    assert sizes == [4, 4, 1, 4, 4, 1, 4]


def test_the_dtype_of_products():
    wide, widest = torch.zeros(1), torch.zeros(1, dtype=torch.float64)
    assert dtype_of_products(wide) == dtype_of_products(torch.zeros(1, device="meta")) == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert dtype_of_products(wide) == torch.bfloat16
        assert dtype_of_products(widest) == (widest @ widest).dtype == torch.float64


def test_products_of_a_cpu_have_few_sizes(monkeypatch):
    reader = Model(CONFIG, {"language_model": 0}).heads["language_model"]
    hidden_states, sizes, linear = torch.randn(200, 16), [], functional.linear
    for count in (0, 1, 63, 64, 65, 130):
        index, value = torch.arange(count), torch.randint(40, (count,))
        wanted = plain(hidden_states[:count], reader.decoder.weight, None, value)
        with monkeypatch.context() as patch:
            patch.setattr(functional, "linear", lambda *parts: sizes.append(len(parts[0])) or linear(*parts))
            torch.testing.assert_close(reader.cross_entropy(hidden_states, index, value), wanted)
    assert sizes == [64, 64, 64, 128, 192]
    assert filled_up(torch.tensor([5, 7])).tolist() == [5, 7] + [5] * 62


def make_batch(seed, *, length=16):
    """Return two rows with another number of targets, and other sequences, for every seed."""
    rng = torch.Generator().manual_seed(seed)
    count = 1 + seed % length
    target = Target(index=torch.arange(count).numpy(), value=torch.randint(40, (count,), generator=rng).numpy())
    split = 1 + seed % (length - 1)
    ids = torch.randint(40, (length,), generator=rng).tolist()
    packed = join([row(ids[:split], "causal"), row(ids[split:], "bidirectional")])
    return collate([row(ids, "causal", targets={"language_model": target}), packed])


def loss_of(model, batch):
    logits = model.read("language_model", model(batch), batch)
    return functional.cross_entropy(logits, batch.targets["language_model"].value, reduction="sum")


def gradients(model, batch):
    model.zero_grad()
    loss_of(model, batch).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("narrow", [False, True])
def test_twenty_steps_with_other_targets_compile_once(narrow):
    torch._dynamo.reset()
    model, counter = Model(CONFIG, {"language_model": 0}).train(), CompileCounter()
    compiled = Compiled(model.transformer.layers, backend=counter)
    for seed in range(20):
        batch = make_batch(seed)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow):
            expected = gradients(model, batch)
            with compiled:
                given = gradients(model, batch)
        torch.testing.assert_close(given, expected)
    assert counter.frame_count == 1


def test_rows_of_each_shape_are_compiled_once_and_for_themselves():
    """In whatever order they come: a run that is taken up again meets them in another one."""
    torch._dynamo.reset()
    model, counter = Model(CONFIG, {"language_model": 0}).train(), CompileCounter()
    with Compiled(model.transformer.layers, backend=counter):
        for rows in [*range(2, 12), *range(11, 1, -1)]:
            for length in (8, 16):
                batch = collate([row([1] * length, "causal")] * rows)
                model(batch).sum().backward()
    assert counter.frame_count == 20


def test_outside_the_context_nothing_is_compiled():
    torch._dynamo.reset()
    model, counter = Model(CONFIG, {"language_model": 0}).train(), CompileCounter()
    names = set(model.state_dict())
    compiled = Compiled(model.transformer.layers, backend=counter)
    with compiled:
        model(make_batch(0))
    with pytest.raises(IndexError), compiled:
        model.transformer.layers[3]
    assert counter.frame_count == 1
    model.eval()
    model(make_batch(1, length=9))
    assert counter.frame_count == 1
    assert set(model.state_dict()) == names
    assert all("forward" not in layer.__dict__ for layer in model.transformer.layers)


@pytest.mark.slow
@pytest.mark.skipif(not can_compile(CPU), reason="needs a C++ compiler")
def test_compiled_layers_compute_the_same():
    model = Model(CONFIG, {"language_model": 0}).train()
    compiled = Compiled(model.transformer.layers)
    for seed in range(3):
        expected = gradients(model, make_batch(seed))
        with compiled:
            given = gradients(model, make_batch(seed))
        torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not can_compile(CPU), reason="needs a C++ compiler")
def test_compiled_layers_compute_about_the_same_of_narrow_numbers():
    wide = replace(CONFIG, hidden_size=192, num_attention_heads=3, num_hidden_layers=2, max_position_embeddings=256)
    model, batch = Model(wide, {"language_model": 0}).train(), make_batch(100, length=256)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = gradients(model, batch)
        with Compiled(model.transformer.layers):
            given = gradients(model, batch)
    for name, gradient in expected.items():
        assert (given[name] - gradient).norm() < 0.02 * gradient.norm(), name


def test_without_a_compiler_nothing_can_be_compiled(monkeypatch):
    assert not can_compile(torch.device("meta"))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    assert not can_compile(CPU)


def test_a_compiler_may_be_named(monkeypatch, tmp_path):
    compiler = tmp_path / "mine"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", str(compiler))
    assert can_compile(CPU)


COMPILER = (
    "import torch\nfrom bothways.model.kernels import why_not_compiled\nprint(why_not_compiled(torch.device('cpu')))"
)


def said_of_compiler(home, **environment):
    """Return what a new process finds out about the compiler, where nothing has been compiled yet."""
    kept = {
        name: value for name, value in os.environ.items() if name not in ("TORCHINDUCTOR_CACHE_DIR", "XDG_CACHE_HOME")
    }
    done = subprocess.run(
        [sys.executable, "-c", COMPILER],
        env={**kept, "HOME": str(home), **environment},
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().strip()


@pytest.mark.skipif(not can_compile(CPU), reason="needs a C++ compiler")
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("exit 1", "No working C++ compiler"),
        ("echo 'a.cpp:1: fatal error: Python.h: No such file' >&2; exit 1", "Python.h"),
    ],
    ids=["none", "no headers"],
)
def test_a_compiler_that_does_not_work_is_found_out(tmp_path, answer, said):
    broken = tmp_path / "broken"
    version = 'case "$1" in --version) echo g++ 12; exit 0;; esac\n' if "error" in answer else ""
    broken.write_text(f"#!/bin/sh\n{version}{answer}\n")
    broken.chmod(0o755)
    assert said in said_of_compiler(tmp_path, CXX=str(broken))


@pytest.mark.slow
@pytest.mark.skipif(not can_compile(CPU), reason="needs a C++ compiler")
def test_what_is_compiled_is_kept_in_a_folder_of_the_user(tmp_path):
    assert said_of_compiler(tmp_path) == "None"
    [kept] = (tmp_path / ".cache" / "bothways").iterdir()
    assert any(kept.rglob("*.so"))
    assert kept.stat().st_mode & 0o777 == 0o700

"""Faster ways to compute the same: layers compiled, attention by blocks on a GPU, and cross-entropy without all the logits."""

import os
import shutil
from collections.abc import Iterable
from contextlib import AbstractContextManager
from functools import cache
from importlib.util import find_spec
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bothways.model.compiled_code import keep_compiled_apart

# Logits of a loss that are stored at a time: 2**26 are 256 MiB in float32. A CPU has smaller parts: large blocks that come and
# go leave holes in its memory. It also takes the softmax of few at a time, which stay in its cache, and multiplies matrices of
# few different sizes, since each new one is compiled, and kept (docs/experiments.md).
LOGITS_AT_ONCE = {"cpu": 2**24, "cuda": 2**26}
LOGITS_IN_CACHE = {"cpu": 2**18}  # elsewhere all that are stored
POSITIONS_ARE_MULTIPLES_OF = {"cpu": 64}  # elsewhere 1
SHORTEST_IN_BLOCKS = 128  # rows shorter than one block gain nothing
SMALLEST_HEAD_IN_BLOCKS = 16  # the smallest product of the matrix units
MOST_SHAPES = 10**6  # of rows that are compiled for: all; torch would go on without after eight


def can_compile(device: torch.device) -> bool:
    """Return whether ``torch.compile`` has what it needs: a C++ compiler, and on a GPU Triton and bf16 units."""
    compilers = [os.environ.get("CXX"), os.environ.get("CC"), "g++", "gcc", "clang++", "clang", "cc"]
    if not any(shutil.which(name) for name in compilers if name):
        return False
    if device.type != "cuda":
        return device.type == "cpu"
    return find_spec("triton") is not None and torch.cuda.get_device_capability(device) >= (8, 0)


@cache
def why_not_compiled(device: torch.device) -> str | None:
    """Return why nothing can be compiled, found out on a small function where there is a compiler; None: it works."""
    if not can_compile(device):
        needs = (
            "a C++ compiler such as g++"
            if device.type == "cpu"
            else "a C++ compiler, Triton and compute capability 8.0"
        )
        return f"it needs {needs}"
    keep_compiled_apart()
    try:
        torch.compile(lambda tensor: tensor.exp() + 1, options=_options())(torch.zeros(64, device=device))
    except (RuntimeError, OSError) as error:
        said = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        told = next((line for line in said if "error: " in line), said[0])
        return f"the compiler does not work ({told}); g++ and the headers of Python must be there"
    return None


def _options() -> dict[str, Any]:
    """Return inductor's options: of bfloat16 in vectors of 512 bits that of torch 2.13 makes gradients that are no numbers."""
    return {"cpp.simdlen": 256} if has_vectors_of_256_bits() else {}


def has_vectors_of_256_bits() -> bool:
    """Return whether the CPU has AVX2: what is compiled for it is known to be quicker."""
    return bool(torch.cpu.get_capabilities().get("avx2"))


def dtype_of_products(factor: Tensor) -> torch.dtype:
    """Return the dtype in which matrix products of a tensor are computed: under autocast that of autocast."""
    kind = factor.device.type
    cast = kind != "meta" and torch.is_autocast_enabled(kind) and factor.dtype != torch.float64
    return torch.get_autocast_dtype(kind) if cast else factor.dtype


def attends_in_blocks(like: Tensor, *, length: int, head_size: int, dropout: float) -> bool:
    """Return whether attention by blocks can be used, and is faster than with a mask.

    Args:
        like: hidden states; under autocast the dtype of its products counts.
        length: T.
        head_size: D.
        dropout: of attention weights; the kernel for blocks has none.
    """
    if like.device.type != "cuda" or dropout > 0 or not fits_in_blocks(length, head_size):
        return False
    return dtype_of_products(like) in (torch.bfloat16, torch.float16) and can_compile(like.device)


def fits_in_blocks(length: int, head_size: int) -> bool:
    """Return whether rows and heads are large enough for attention in blocks, which stores no mask."""
    return length >= SHORTEST_IN_BLOCKS and head_size >= SMALLEST_HEAD_IN_BLOCKS


class Compiled:
    """A context in which the layers of a trunk run compiled; outside it they are as they were.

    Layers are alike, so one of them is compiled for all. What varies from step to step stays outside: the mask is an input,
    and heads read as many positions as there are targets. So rows of one shape need one compilation, whatever they predict.
    Each shape has its own: code for any shape, which torch would make from the second on, sums in another order, and a run
    that is taken up again, which meets shapes in another order, would not compute as it did. Evaluation and generation, whose
    shapes differ, go on as before.
    """

    def __init__(self, layers: Iterable[nn.Module], *, backend: str = "inductor") -> None:
        """Prepare; the first pass inside the context compiles.

        Args:
            layers: modules of one class.
            backend: of ``torch.compile``.
        """
        keep_compiled_apart()
        options = _options() if backend == "inductor" else None
        self._layers = [
            (layer, torch.compile(layer.forward, dynamic=False, backend=backend, options=options)) for layer in layers
        ]
        self._limit: AbstractContextManager[None] = torch._dynamo.config.patch(
            recompile_limit=MOST_SHAPES, accumulated_recompile_limit=MOST_SHAPES
        )

    def __enter__(self) -> None:
        self._limit.__enter__()
        for layer, forward in self._layers:
            layer.__dict__["forward"] = forward

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for layer, _ in self._layers:
            layer.__dict__.pop("forward", None)
        self._limit.__exit__(kind, error, trace)


def logits_at_once(kind: str) -> int:
    """Return how many logits are stored at a time on a kind of device."""
    return LOGITS_AT_ONCE.get(kind, LOGITS_AT_ONCE["cuda"])


def filled_up(index: Tensor) -> Tensor:
    """Return the index [n], its first one repeated until there are as many as suit the matrix products of its device."""
    multiple = POSITIONS_ARE_MULTIPLES_OF.get(index.device.type, 1)
    return torch.cat([index, index[:1].expand(-len(index) % multiple)])


def cross_entropy_in_chunks(
    hidden_states: Tensor, weight: Tensor, bias: Tensor | None, value: Tensor, *, rows: int | None = None
) -> Tensor:
    """Return the summed cross-entropy of ``hidden_states @ weight.T + bias`` without ever storing all those logits.

    Gradients are made along with the loss, chunk by chunk, so that nothing is computed twice. They are rounded where those of
    whole logits are: products in the dtype of the hidden states (under autocast that of autocast), sums in float32 or better.

    Args:
        hidden_states: [m, C], m at least n; those from the n-th on do not count.
        weight: [V, C].
        bias: [V] or None.
        value: [n] of int64.
        rows: positions of a chunk; None: as many as suit the device.
    Returns:
        Scalar, in float32 or better.
    """
    kind, dtype = hidden_states.device.type, dtype_of_products(hidden_states)
    rows = rows or max(1, logits_at_once(kind) // len(weight))
    with torch.autocast(kind, enabled=False):
        total: Tensor = _CrossEntropyInChunks.apply(  # type: ignore[no-untyped-call]
            hidden_states, weight, bias, value, rows, dtype
        )
    return total


class _CrossEntropyInChunks(torch.autograd.Function):
    """With p the softmax of the logits: dL/dlogits = p − onehot(value)."""

    @staticmethod
    def forward(
        context: Any,
        hidden_states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        value: Tensor,
        rows: int,
        dtype: torch.dtype,
    ) -> Tensor:
        wide = torch.promote_types(dtype, torch.float32)
        needed = context.needs_input_grad[:3]
        inputs = (hidden_states, weight, bias)
        gradients = [
            None if part is None or not wanted else torch.zeros_like(part, dtype=wide)
            for part, wanted in zip(inputs, needed, strict=True)
        ]
        context.dtypes = [None if part is None else part.dtype for part in inputs]
        hidden_states, weight = hidden_states.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
        total = torch.zeros((), device=hidden_states.device, dtype=wide)
        for start in range(0, len(value), rows):
            part = slice(start, start + rows)
            logits = functional.linear(hidden_states[part], weight, bias)
            total += _turn_into_slopes(logits, value[part], wide)
            if any(needed):
                _add_gradients(gradients, hidden_states[part], weight, logits, part)
        context.save_for_backward(*gradients)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        made = zip(context.saved_tensors, context.dtypes, strict=True)
        scaled = [None if part is None else (part * gradient).to(dtype) for part, dtype in made]
        return (*scaled, None, None, None)


def _turn_into_slopes(logits: Tensor, value: Tensor, wide: torch.dtype) -> Tensor:
    """Return the loss L of [rows, V] logits, in a wide dtype, and put dL/dlogits in their place; rows without value have 0."""
    total = torch.zeros((), device=logits.device, dtype=wide)
    at_once = max(1, LOGITS_IN_CACHE.get(logits.device.type, logits.numel()) // logits.shape[1])
    for start in range(0, len(value), at_once):
        said = value[start : start + at_once, None]
        some = logits[start : start + len(said)]
        logs = some.log_softmax(-1, dtype=wide)
        total -= logs.gather(1, said).sum()
        some.copy_(logs.exp_().scatter_add_(1, said, torch.full_like(logs[:, :1], -1)))
    logits[len(value) :] = 0
    return total


def _add_gradients(
    gradients: list[Tensor | None], hidden_states: Tensor, weight: Tensor, slopes: Tensor, part: slice
) -> None:
    """Add what one chunk gives to the gradients of hidden states, weight and bias; ``slopes`` are [rows, V]."""
    for_hidden_states, for_weight, for_bias = gradients
    if for_hidden_states is not None:
        for_hidden_states[part] = slopes @ weight
    if for_weight is not None and slopes.dtype == for_weight.dtype:
        for_weight.addmm_(slopes.T, hidden_states)
    elif for_weight is not None:
        for_weight += slopes.T @ hidden_states
    if for_bias is not None:
        for_bias += slopes.sum(0, dtype=for_bias.dtype)

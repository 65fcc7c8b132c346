"""What the machine can do, and the settings that make torch use it well."""

import ctypes
import os
import platform
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

from bothways.model.config import TransformerConfig
from bothways.model.kernels import has_vectors_of_256_bits, why_not_compiled
from bothways.training.config import TrainingConfig
from bothways.training.distributed import current
from bothways.training.interruption import LISTENED, signals_wait
from bothways.training.schedule import total_tokens

Precision = Literal["auto", "bf16", "fp32"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
FEWEST_COMPILED_STEPS = 1000  # on a GPU: some tens of milliseconds each must earn about a minute of compilation
FEWEST_COMPILED_FLOPS = 3e14  # on a CPU, for each thread: a quarter of an hour and more, to earn a minute and a half


def keep_freed_memory() -> bool:
    """Let glibc keep large freed blocks instead of handing each back to the system; return whether it could be set.

    Training allocates and frees the same large tensors at every step. By default each of them is a system call and a page
    fault for every 4 KiB; kept blocks made whole training steps up to twice as fast (docs/experiments.md). It holds for numpy
    and torch alike, in the thread that trains; the memory of other threads still goes back once they have freed all of it.
    """
    if platform.system() != "Linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # not glibc
    # Some versions of glibc refuse a threshold above 32 MiB.
    raised = mallopt(_M_MMAP_THRESHOLD, 2**30) or mallopt(_M_MMAP_THRESHOLD, 2**25)
    return bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1) and raised)


def give_back_memory() -> None:
    """Give the system the freed blocks that are kept, for when tensors of other sizes come, which do not fit into them."""
    if platform.system() == "Linux":
        with suppress(OSError, AttributeError):  # not glibc
            ctypes.CDLL(None).malloc_trim(0)


def has_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        abilities = torch.cpu.get_capabilities()
        return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16") or abilities.get("bf16"))
    return False


def resolve_precision(precision: Precision, device: torch.device) -> Literal["bf16", "fp32"]:
    """Return what ``"auto"`` means on this device."""
    if precision == "auto":
        return "bf16" if has_bf16(device) else "fp32"
    return precision


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which a forward pass runs."""
    if resolve_precision(precision, device) == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def wants_compiled(
    training: TrainingConfig, model: TransformerConfig, device: torch.device, *, parameters: int
) -> bool:
    """Return whether a run shall compile the layers of its model (docs/scaling.md has the figures).

    ``"auto"`` compiles in runs that are long enough to earn it and have rows of few shapes: on a GPU by their steps, on a CPU
    by their operations (six for each token and weight) where layers are known to become quicker. All processes are told what
    process 0 finds.

    Args:
        training: the settings of the run.
        model: the settings of its trunk.
        device: where the model is.
        parameters: of the model.
    """
    if training.compile != "auto":
        return training.compile == "on"
    group = current()
    if training.batch_ramp_share > 0:  # every step may have rows of another shape
        wanted = False
    elif device.type == "cuda":
        wanted = training.steps >= FEWEST_COMPILED_STEPS
    else:
        quicker = has_vectors_of_256_bits() and model.gated and not (model.hidden_dropout or model.attention_dropout)
        least = FEWEST_COMPILED_FLOPS * torch.get_num_threads() * group.size
        wanted = quicker and 6 * parameters * total_tokens(training) >= least
    return group.share(wanted)


def why_not_compiled_anywhere(device: torch.device) -> str | None:
    """Return why one of the joined processes cannot compile; None: all can. What is tried for it starts compilers."""
    with signals_wait(*LISTENED):  # torch keeps the threads that start compilers, and they what they let wait
        own = why_not_compiled(device)
    return next(filter(None, current().gather(own)), None)


def default_device() -> torch.device:
    """Return the best device there is."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe_machine() -> dict[str, Any]:
    """Return what a report says of the machine."""
    device = default_device()
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if device.type == "cuda" else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "precision": resolve_precision("auto", device),
    }


def _cpu_name() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def measured_peak(precision: Literal["bf16", "fp32"]) -> float:
    """Return the FLOP/s that a large matrix product reaches on this machine: the ceiling of any training speed."""
    device = default_device()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    size = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        (left @ right)[0, 0].item()  # waits for a GPU
        best = min(best, time.perf_counter() - start)
    return float(2 * size**3 / best)

"""Whether the disk has room for the checkpoints of a run, asked before anything is trained."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from torch import nn
from torch.optim import AdamW, Optimizer

from bothways.errors import OutOfDiskError


def run_bytes(*, weights: int, state: int, keep: int) -> int:
    """Return the most that a run's folder holds: its checkpoints, one more while it is written, and ``best`` and ``last``.

    Args:
        weights: bytes of a model.
        state: bytes that a checkpoint has besides.
        keep: checkpoints that stay.
    """
    return (keep + 1) * (weights + state) + 2 * weights


def state_bytes(optimizers: Sequence[Optimizer]) -> int:
    """Return the bytes of the one or two tensors that optimizers keep of each weight."""
    return sum(
        (2 if isinstance(optimizer, AdamW) else 1) * weight.numel() * weight.element_size()
        for optimizer in optimizers
        for group in optimizer.param_groups
        for weight in group["params"]
    )


def check_room(folder: Path, model: nn.Module, optimizers: Sequence[Optimizer], *, keep: int) -> None:
    """Refuse to begin what could not be saved. What the run holds already counts as room.

    Args:
        folder: of the run; it need not be there yet.
        model: what is trained.
        optimizers: of its weights.
        keep: checkpoints that stay.
    Raises:
        OutOfDiskError: there is too little room.
    """
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    state = state_bytes(optimizers)
    needed = run_bytes(weights=weights, state=state, keep=keep)
    place = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(place).free
    held = sum(file.stat().st_size for file in folder.rglob("*.safetensors") if file.is_file())
    if free + held < needed:
        raise OutOfDiskError(
            f"{str(folder)!r} needs room for {keep + 1} checkpoints of {_amount(weights + state)} and two models of "
            f"{_amount(weights)}, {_amount(needed)} in all, and the disk has {_amount(free)} left; free some, choose another "
            "--out, or set training.keep lower"
        )


def _amount(size: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"

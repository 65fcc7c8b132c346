"""Whether the disk has room for the checkpoints of a run, asked before anything is trained."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from torch import nn
from torch.optim import AdamW, Optimizer

from bothways.errors import OutOfDiskError


def checkpoint_bytes(model: nn.Module, optimizers: Sequence[Optimizer]) -> int:
    """Return about how large a checkpoint will be: the weights, and the one or two tensors that optimizers keep of each."""
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    remembered = sum(
        (2 if isinstance(optimizer, AdamW) else 1) * weight.numel() * weight.element_size()
        for optimizer in optimizers
        for group in optimizer.param_groups
        for weight in group["params"]
    )
    return weights + remembered


def check_room(folder: Path, model: nn.Module, optimizers: Sequence[Optimizer], *, keep: int) -> None:
    """Refuse to begin what could not be saved.

    A run holds the newest ``keep`` checkpoints, one more while it is written, and the best and the last model. What the run
    holds already counts as room.

    Args:
        folder: of the run; it need not be there yet.
        model: what is trained.
        optimizers: of its weights.
        keep: checkpoints that stay.
    Raises:
        OutOfDiskError: there is too little room.
    """
    size = checkpoint_bytes(model, optimizers)
    place = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(place).free
    held = sum(file.stat().st_size for file in folder.rglob("*.safetensors") if file.is_file())
    if free + held < (keep + 2) * size:
        raise OutOfDiskError(
            f"{str(folder)!r} needs room for {keep + 2} checkpoints of {_amount(size)}, {_amount((keep + 2) * size)} in all, "
            f"and the disk has {_amount(free)} left; free some, choose another --out, or set training.keep lower"
        )


def _amount(size: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"

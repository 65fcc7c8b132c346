"""What a checkpoint remembers of a training beside weights and optimizers, and whether that may be gone on from."""

import math
from collections.abc import Mapping
from importlib import metadata
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bothways.errors import UserError


class GoingOn(NamedTuple):
    """How a run goes on from a checkpoint.

    Attributes:
        same_text: its batches go on where they stood; else they begin anew.
        same_measure: its evaluations can be compared with those before; else the best model is chosen anew.
    """

    same_text: bool = True
    same_measure: bool = True


def random_states() -> dict[str, Tensor]:
    """Return torch's random state on every device, as tensors."""
    states = {"random/cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"random/cuda/{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def restore_random_states(tensors: Mapping[str, Tensor]) -> None:
    """Put back what ``random_states`` returned, as far as the devices are there."""
    torch.set_rng_state(tensors["random/cpu"])
    for name, state in tensors.items():
        if name.startswith("random/cuda/") and int(name.rpartition("/")[2]) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state, int(name.rpartition("/")[2]))


def refuse_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> GoingOn:
    """Refuse to resume a run with another corpus, tokenizer or setting, naming each difference.

    Returns:
        That all goes on as it was.
    Raises:
        UserError: something differs.
    """
    differing = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if differing:
        parts = [f"{name} was {before.get(name)!r} and is now {now.get(name)!r}" for name in differing]
        raise UserError(f"this run cannot be resumed, because {'; '.join(parts)}; start a new run with another --out")
    return GoingOn()


def versions() -> dict[str, str]:
    """Return the versions of what decides how a run goes on to the last bit."""
    return {"bothways": metadata.version("bothways"), "torch": torch.__version__}


def other_versions(before: Mapping[str, str]) -> str:
    """Return what of ``versions`` was another one, in words; empty: nothing, or it is not known."""
    now = versions()
    return ", ".join(
        f"{name} {version} (now {now[name]})" for name, version in before.items() if now.get(name, version) != version
    )


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: what is infinite or undefined becomes ``None``, at any depth."""
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def numbers(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures that ``plain`` was given, what is undefined as such again."""
    return {name: math.nan if value is None else value for name, value in figures.items()}

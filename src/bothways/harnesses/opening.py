"""A model as a harness asks for it: by name, on a device."""

from pathlib import Path

from bothways.batch import Attention
from bothways.checkpoints.checkpoint import Loaded, load
from bothways.errors import UserError
from bothways.tasks.task import tokenizer_of
from bothways.training.machine import default_device


def open_model(
    name: str | Path,
    *,
    revision: str | None = None,
    device: str | None = None,
    attention: Attention | None = None,
    verify: bool = True,
) -> Loaded:
    """Load a model, which must have a tokenizer, and move it to a device.

    Args:
        name: a run, a folder or a hub id.
        revision: branch, tag or commit; on the Hub only.
        device: as torch names it; None: the best there is.
        attention: which way a hybrid reads; None: as its settings say.
        verify: compare the model's files with their hashes.
    Raises:
        UserError: there is no such model or device, or the model has no tokenizer.
    """
    loaded = load(name, revision=revision, attention=attention, verify=verify)
    tokenizer_of(loaded)
    try:
        loaded.model.to(device or default_device())
    except (RuntimeError, AssertionError) as error:  # torch's ways to say that it does not know, or have, a device
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(
            f"the model cannot be put on the device {device!r}: {reason}; legal: cpu, cuda, cuda:0 …"
        ) from None
    loaded.model.eval()
    return loaded


def missing(library: str, extra: str) -> UserError:
    """Return (not raise) the error for a harness that is not installed."""
    return UserError(f"{library} is not installed; install the extra: pip install 'bothways[{extra}]'")

"""Names to modules: the folder is the registry, so adding a task, objective, metric, family or recipe is one file."""

import importlib
from functools import cache
from pathlib import Path
from types import ModuleType

from bothways.errors import unknown

_PACKAGE = Path(__file__).parent

# What the names in a folder are called in messages, where the folder's own name does not say it.
_KINDS = {"checkpoints/huggingface": "Hugging Face family"}


@cache
def names(folder: str) -> tuple[str, ...]:
    """Return the names that can be found in a folder of the package, sorted.

    Args:
        folder: a folder below the package, such as ``"tasks"`` or ``"checkpoints/huggingface"``. Files whose name
            starts with ``_`` are left out, and so is the contract that a folder is named after (``tasks/task.py``).
    """
    assert (_PACKAGE / folder).is_dir(), folder
    stems = {file.stem for file in (_PACKAGE / folder).glob("*.py")}
    return tuple(sorted(stem for stem in stems if not stem.startswith("_") and stem != folder[:-1]))


def find(folder: str, name: str) -> ModuleType:
    """Return the module of that name; ``-`` and ``_`` are the same.

    Raises:
        UserError: nothing of that name is in the folder; the message lists what is, and the nearest.
    """
    stem = str(name).replace("-", "_")
    if stem not in names(folder):
        raise unknown(_KINDS.get(folder, folder.removesuffix("s")), name, names(folder))
    return module(f"{folder.replace('/', '.')}.{stem}")


def module(path: str) -> ModuleType:
    """Return the module at a dotted path below the package, imported when it is first asked for."""
    return importlib.import_module(f"bothways.{path}")

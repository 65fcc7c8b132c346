"""Names to modules: the folder is the registry, so adding a task, objective, metric, family or recipe is one file."""

import importlib
from functools import cache
from pathlib import Path
from types import ModuleType

from bothways.errors import unknown

_PACKAGE = Path(__file__).parent


@cache
def names(folder: str) -> tuple[str, ...]:
    """Return the names that can be found in a folder of the package, sorted.

    Args:
        folder: a folder below the package, such as ``"tasks"`` or ``"checkpoints/huggingface"``.
    """
    files = (_PACKAGE / folder).glob("*.py")
    return tuple(sorted(file.stem for file in files if not file.stem.startswith("_") and file.stem != folder[:-1]))


def find(folder: str, name: str) -> ModuleType:
    """Return the module of that name; ``-`` and ``_`` are the same.

    Raises:
        UserError: nothing of that name is in the folder; the message lists what is, and the nearest.
    """
    stem = str(name).replace("-", "_")
    if stem not in names(folder):
        raise unknown(folder.split("/")[-1].rstrip("s"), name, names(folder))
    return importlib.import_module(f"bothways.{folder.replace('/', '.')}.{stem}")

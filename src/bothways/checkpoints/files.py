"""Small things about files in a folder of which one trusts nothing."""

import re
import stat
from pathlib import Path
from typing import Any

from bothways.config import read_json
from bothways.errors import UserError

JSON_LIMIT = 16 * 2**20  # bytes of a JSON file that we are willing to read
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def is_plain_name(name: object) -> bool:
    """Whether this names a file in the folder itself: no path, no ``..``, nothing hidden."""
    return isinstance(name, str) and _PLAIN.fullmatch(name) is not None


def is_plain_path(name: object) -> bool:
    """Whether this names a file in the folder itself or in one directly below it."""
    parts = name.split("/") if isinstance(name, str) else []
    return 1 <= len(parts) <= 2 and all(map(is_plain_name, parts))


def is_regular(file: Path) -> bool:
    """Whether this is a regular file and no link: what is read must lie in the folder itself.

    The cache of the Hugging Face Hub is the exception: its snapshots are links to the blobs beside them.
    """
    try:
        mode = file.lstat().st_mode
        if stat.S_ISLNK(mode):
            blobs = file.parent.resolve().parent.parent / "blobs"
            return file.is_file() and file.resolve().parent == blobs
    except OSError:
        return False
    return stat.S_ISREG(mode)


def read_object(file: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        UserError: it is missing, too large, not valid, or something else than an object.
    """
    if file.exists() and not file.is_file():
        raise UserError(f"{str(file)!r} is not a file")
    if file.exists() and file.stat().st_size > JSON_LIMIT:
        raise UserError(f"{str(file)!r} is larger than the {JSON_LIMIT // 2**20} MiB that it may have")
    values = read_json(file)
    if not isinstance(values, dict):
        raise UserError(f"{str(file)!r} must hold a JSON object, not {type(values).__name__}")
    return values

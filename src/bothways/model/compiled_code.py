"""Where torch keeps the code that it compiles: with the user, where nobody else can put any, and for this kind of processor."""

import atexit
import hashlib
import os
import platform
import shutil
import stat
import tempfile
from pathlib import Path

FOLDER = "TORCHINDUCTOR_CACHE_DIR"


def keep_compiled_apart() -> None:
    """Name a folder of the user's own to torch, unless one is named already.

    Torch would take one below /tmp with a name that is easy to guess: whoever makes it first can put code into it that is then
    run. Where the user has no folder that is safe, one is made for this process alone. Must come before torch compiles, since
    that names its own choice.
    """
    if FOLDER in os.environ:
        return
    folder = _own_folder()
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="bothways-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[FOLDER] = str(folder)


def _own_folder() -> Path | None:
    """Return the folder in the user's cache, made if need be; None: there is none that nobody else can write to."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        parent = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
        folder = parent / "bothways" / f"compiled-{_processor()}"
        for each in (folder.parent, folder):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except (OSError, RuntimeError):  # RuntimeError: no home
        return None
    if not stat.S_ISDIR(found.st_mode):
        return None
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o077):
        return None
    return folder


def _processor() -> str:
    """Return a short name for what the processor can do: torch's own key for what it keeps does not tell processors apart."""
    flags = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        flags += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        pass  # not Linux
    return hashlib.sha256(flags.encode()).hexdigest()[:8]

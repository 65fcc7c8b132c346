"""Output folders and files: never half-written, never somebody else's."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

from bothways.errors import OutOfDiskError, UserError
from bothways.evaluation.run_summary import read_run
from bothways.training.distributed import Group

LOCK = ".lock"  # held while a run writes into its folder; it stays, and means nothing by itself
FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def building(out: str | Path) -> Iterator[Path]:
    """Give a temporary folder that becomes ``out`` when the block ends well, and is removed when it does not.

    Raises:
        UserError: ``out`` is there and not empty, or cannot be made.
        OutOfDiskError: no room is left.
    """
    out = Path(out)
    check_free(out)
    temporary = out.parent / f".tmp-{out.name}-{uuid4().hex[:8]}"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if out.exists():
            (out / LOCK).unlink(missing_ok=True)
            out.rmdir()
        temporary.rename(out)
    except OSError as error:
        raise os_error(error, out) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_free(out: Path, *, kind: str | None = None) -> None:
    """Refuse a folder that holds something, a path that is a file, and a place where no folder can be made.

    Args:
        out: the folder.
        kind: of the run that shall begin there, if it is one: ``"pretraining"``, or the name of a task.
    Raises:
        UserError: it does.
    """
    try:
        if out.is_dir() and any(inside.name != LOCK for inside in out.iterdir()):
            if kind and _interrupted(out, kind):
                raise UserError(
                    f"the folder {str(out)!r} holds an interrupted run; go on with it by --resume, name a new one with --out, "
                    "or remove it"
                )
            raise UserError(f"the folder {str(out)!r} is not empty; name a new one with --out, or remove it")
        if out.exists() and not out.is_dir():
            raise UserError(f"{str(out)!r} is a file; name a folder with --out")
        there = next(folder for folder in (out, *out.parents) if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise UserError(f"{str(out)!r} cannot be made, since {str(there)!r} is no folder that you may write to")
    except OSError as error:
        raise os_error(error, out) from None


def _interrupted(folder: Path, kind: str) -> bool:
    """Return whether a folder holds a run of a kind that ``--resume`` goes on with."""
    try:
        run = read_run(folder, name=folder.name, running=is_held(folder), recipes={})
    except (UserError, OSError):
        return False
    return (run.kind, run.state) == (kind, "interrupted")


def is_held(folder: Path) -> bool:
    """Return whether a process writes into a run's folder now."""
    import fcntl

    try:
        with (folder / LOCK).open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    except OSError:
        pass  # it was never held, or nobody may look
    return False


def check_file(out: Path) -> None:
    """Refuse a path at which no file can be written, before work is done that would be lost.

    Raises:
        UserError: it is a folder, or lies in one that is not there.
    """
    try:
        if out.is_dir():
            raise UserError(f"{str(out)!r} is a folder; name a file with --out")
        if not out.parent.is_dir():
            raise UserError(f"there is no folder {str(out.parent)!r} to write {out.name!r} into; make it first")
    except OSError as error:
        raise os_error(error, out) from None


def write_file(out: Path, text: str) -> None:
    """Write a text file.

    Raises:
        UserError: it cannot be written.
        OutOfDiskError: no room is left.
    """
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise os_error(error, out) from None


def os_error(error: OSError, out: Path) -> Exception:
    """Return the error that a user understands for one of the system's."""
    if error.errno in FULL:
        return OutOfDiskError(
            f"there is no room left to write {str(out)!r}; free some, or name another disk with --out"
        )
    return UserError(f"{str(out)!r} cannot be written: {error.strerror or error}")


@contextmanager
def locked_by_first(folder: Path, group: Group) -> Iterator[None]:
    """Let process 0 of a group hold a run's folder for the length of a block; see ``locked``.

    Raises:
        UserError: in all processes.
    """
    with ExitStack() as stack:
        with group.agreeing():
            if group.first:
                stack.enter_context(locked(folder))
        yield


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a run's folder and hold it for the length of a block, so that no second run writes into it.

    Raises:
        UserError: another process holds it, or it cannot be made.
    """
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("w")
    except OSError as error:
        raise os_error(error, folder) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another run is writing to {str(folder)!r}; wait for it, or name another --out") from None
        try:
            yield
        except OSError as error:
            raise (os_error(error, folder) if error.errno in FULL else error) from None
        finally:
            if _holds_only_the_lock(folder):  # nothing came of it
                shutil.rmtree(folder, ignore_errors=True)


def _holds_only_the_lock(folder: Path) -> bool:
    return folder.is_dir() and [path.name for path in folder.iterdir()] == [LOCK]

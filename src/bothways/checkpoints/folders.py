"""Folders that are written whole or not at all, and the checkpoints of a run."""

import errno
import itertools
import os
import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from bothways.checkpoints.manifest import MANIFEST, verify_manifest, write_manifest
from bothways.checkpoints.refusals import FAILING, FULL
from bothways.errors import DamagedFileError, OutOfDiskError, UnwritableError, UserError
from bothways.progress import note

# What a folder of ours may hold and a loader will read.
USED = (
    "config.json",
    "config.bidirectional.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "training.safetensors",
    "state.json",
)
_STEP = re.compile(r"step-(0|[1-9][0-9]{0,17})")
_LEFT_OVER = re.compile(r"\.(tmp|old)-(.+)-[0-9a-f]{32}")
_REFUSED = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOTDIR)


def write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Write a folder so that a crash at any moment leaves the old one, the new one, or both, and never half of one.

    Args:
        target: the folder; one of ours that is already there is replaced.
        write: writes the files into the empty folder it is given; the manifest is added after it.
    Raises:
        OutOfDiskError: there is no room, or the disk fails; what was there before is whole.
        UnwritableError: the place cannot be written.
        UserError: something else is there.
    """
    temporary = _beside(target, "tmp")
    try:
        _check_replaceable(target)
        temporary.mkdir(parents=True)
        write(temporary)
        _sync(temporary)
        write_manifest(temporary)
        _sync(temporary)
        _move_in(temporary, target)
    except Exception as error:
        explained = _explain(error, target)
        if explained is error:
            raise
        raise explained from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Delete a folder of ours so that a crash at any moment leaves it whole, or leaves what ``clean`` ends."""
    doomed = _beside(folder, "tmp")
    os.replace(folder, doomed)
    shutil.rmtree(doomed)


def set_aside(folder: Path, name: str) -> Path:
    """Give a folder of ours another name beside it, with a number where that name is taken, and return where it is now.

    Raises:
        OutOfDiskError: the disk fails; it has its old name.
        UnwritableError: the place cannot be written.
    """
    numbered = (folder.with_name(name if number == 1 else f"{name}-{number}") for number in itertools.count(1))
    target = next(place for place in numbered if not os.path.lexists(place))
    try:
        os.replace(folder, target)
        _sync_one(target.parent)
    except OSError as error:
        raise _explain(error, target) from error
    return target


def _beside(target: Path, kind: str) -> Path:
    return target.parent / f".{kind}-{target.name}-{uuid.uuid4().hex}"


def _check_replaceable(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UserError(f"{str(target)!r} is not a folder; choose another place")
    if target.exists() and any(target.iterdir()) and not (target / MANIFEST).is_file() and not _is_damaged_step(target):
        raise UserError(
            f"{str(target)!r} holds something else than a checkpoint, and is not replaced; choose another place"
        )


def _is_damaged_step(folder: Path) -> bool:
    """Whether this was a checkpoint of a run: a run that was resumed from an earlier one comes by here again."""
    ours = folder.parent.name == "checkpoints" and _STEP.fullmatch(folder.name) is not None
    return ours and all(path.name in (*USED, MANIFEST) for path in folder.iterdir())


def _sync(folder: Path) -> None:
    """Make the files and the folder last through a power failure."""
    for path in (*sorted(folder.rglob("*")), folder):
        _sync_one(path)


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move_in(temporary: Path, target: Path) -> None:
    """Put the new folder in the place of the old one; ``clean`` ends what a crash between the two moves leaves."""
    old = _beside(target, "old")
    replaces = target.exists() and any(target.iterdir())
    if replaces:
        os.replace(target, old)
    try:
        os.replace(temporary, target)
    except BaseException:
        if replaces:
            os.replace(old, target)
        raise
    _sync_one(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _explain(error: Exception, target: Path) -> Exception:
    """Return the error that says what the system's error means for the user."""
    # The libraries written in Rust report the system's number in the text only.
    in_text = re.search(r"\(os error (\d+)\)", str(error))
    number = error.errno if isinstance(error, OSError) else int(in_text[1]) if in_text else None
    if number in FULL:
        return OutOfDiskError(
            f"there is no room to write {str(target)!r}; what was saved before is whole. Free some disk"
        )
    if number in FAILING:
        return OutOfDiskError(
            f"the disk fails to write {str(target)!r} ({os.strerror(number)}); what was saved before is whole"
        )
    if number in _REFUSED:
        return UnwritableError(f"{str(target)!r} cannot be written: {os.strerror(number)}")
    return error


def checkpoints_in(run_folder: str | Path) -> list[Path]:
    """Return the complete checkpoints ``checkpoints/step-N`` of a run, by N; each is verified."""
    return [folder for folder in _steps(Path(run_folder)) if _fault(folder) is None]


def newest_complete(run_folder: str | Path) -> Path | None:
    """Return the newest checkpoint of a run that is complete, and note which newer ones are not."""
    for folder in reversed(_steps(Path(run_folder))):
        fault = _fault(folder)
        if fault is None:
            return folder
        note(f"{folder} is passed over: {fault}")
    return None


def _steps(run_folder: Path) -> list[Path]:
    found = [(_STEP.fullmatch(folder.name), folder) for folder in _listing(run_folder / "checkpoints")]
    steps = {int(match[1]): folder for match, folder in found if match and folder.is_dir() and not folder.is_symlink()}
    return [steps[step] for step in sorted(steps)]


def _listing(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _fault(folder: Path) -> str | None:
    """Return what is wrong with a checkpoint, or None."""
    try:
        verify_manifest(folder, USED)
    except (DamagedFileError, OSError) as error:
        return str(error)
    return None


def clean(run_folder: str | Path) -> None:
    """Remove what interrupted saves left in a run; put back a folder that had made room for one that never came."""
    run_folder = Path(run_folder)
    for path in (*_listing(run_folder), *_listing(run_folder / "checkpoints")):
        match = _LEFT_OVER.fullmatch(path.name)
        if not match or path.is_symlink():
            continue
        kind, name = match.groups()
        if not path.is_dir():  # a picture that was being drawn anew
            path.unlink()
        elif kind == "old" and not (path.parent / name).exists():
            os.replace(path, path.parent / name)
        else:
            shutil.rmtree(path)

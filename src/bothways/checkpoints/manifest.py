"""The manifest of a folder: size and SHA-256 of each file, so that no changed byte is ever used."""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from bothways.checkpoints.files import is_plain_path, is_regular, read_object
from bothways.errors import DamagedFileError, UserError

MANIFEST = "manifest.json"
VERSION = 1


def write_manifest(folder: Path) -> None:
    """Write the manifest of all files that are in a folder."""
    files = {
        file.relative_to(folder).as_posix(): {"size": file.stat().st_size, "sha256": _sha256(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file != folder / MANIFEST
    }
    assert all(map(is_plain_path, files)), sorted(files)
    # Without a last line break: cut short by a single byte, it is no JSON any more.
    (folder / MANIFEST).write_text(json.dumps({"version": VERSION, "files": files}, indent=2), encoding="utf-8")


def verify_manifest(folder: Path, used: Collection[str]) -> None:
    """Check every file that the manifest lists.

    Args:
        folder: holds a manifest.
        used: names of files that will be read where they exist, so that the manifest must list them.
    Raises:
        DamagedFileError: the manifest is missing or makes no sense, or a file is missing, not regular, not listed, or
            of another size or hash; the message names it, with what was expected and what is there.
    """
    listed = _read(folder / MANIFEST)
    for name in used:
        if name not in listed and (folder / name).exists():
            raise DamagedFileError(f"{str(folder / name)!r} is not in {MANIFEST}: it was not part of this checkpoint")
    for name, expected in listed.items():
        below = folder / name.partition("/")[0] if "/" in name else None
        _verify_file(folder / name, expected, reached=below is None or not below.is_symlink())


def listed(folder: Path) -> list[str]:
    """Return the names that a folder's manifest lists, whatever they are; none, where there is no manifest to be read."""
    if not (folder / MANIFEST).is_file():
        return []
    try:
        files = read_object(folder / MANIFEST).get("files")
    except UserError:
        return []
    return list(files) if isinstance(files, Mapping) else []


def _read(file: Path) -> Mapping[str, Mapping[str, Any]]:
    """Return name to size and hash."""
    if not is_regular(file):
        raise DamagedFileError(f"there is no {str(file)!r}: this checkpoint was never finished, or lost a file since")
    try:
        values = read_object(file)
    except UserError as error:
        raise DamagedFileError(str(error)) from None
    files = values.get("files")
    if values.get("version") != VERSION:
        raise DamagedFileError(
            f"{str(file)!r} has version {values.get('version')!r}, and this bothways reads {VERSION}: damaged, or of a "
            "newer bothways"
        )
    if not isinstance(files, Mapping) or not all(is_plain_path(name) and _is_entry(files[name]) for name in files):
        raise DamagedFileError(
            f"{str(file)!r} must list names of files in its own folder or one below it, each with a size and a sha256"
        )
    return files


def _is_entry(entry: object) -> bool:
    return isinstance(entry, Mapping) and isinstance(entry.get("size"), int) and isinstance(entry.get("sha256"), str)


def _verify_file(file: Path, expected: Mapping[str, Any], *, reached: bool) -> None:
    """Check a file that is ``reached`` without leaving the folder by a link."""
    if not reached or not is_regular(file):
        state = "is not a regular file" if file.is_symlink() or file.exists() else "is missing"
        raise DamagedFileError(f"{str(file)!r} {state}, and {MANIFEST} expects {expected['size']} bytes there")
    size = file.stat().st_size
    if size != expected["size"]:
        raise DamagedFileError(f"{str(file)!r} is damaged: expected {expected['size']} bytes, it has {size}")
    sha256 = _sha256(file)
    if sha256 != expected["sha256"]:
        raise DamagedFileError(f"{str(file)!r} is damaged: expected SHA-256 {expected['sha256']}, it has {sha256}")


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()

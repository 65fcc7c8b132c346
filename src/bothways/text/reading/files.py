"""Finds the files of a corpus, in an order that is the same on every machine.

Given are files, folders, globs, data sets that ``datasets`` saved into a folder, and names of data sets on the Hugging
Face hub. ``unpacking.open_file`` opens what is found here.
"""

import fnmatch
import glob
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from bothways.errors import UserError
from bothways.progress import note

Paths = str | Path | Sequence[str | Path]

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
ARROW, HUB = ".arrow", "hub"  # what the files of a saved data set end in; the format of a data set on the hub
STDIN = "<stdin>"
_UNPACKABLE = (".parquet", ARROW)  # packed on the inside, and read from several places at once
_ARCHIVES = {".zip": "unzip", ".tar": "tar -xf", ".tgz": "tar -xf", ".7z": "7z x", ".rar": "unrar x"}
_RECORDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ARROW)
_SAVED = {"state.json", "dataset_info.json"}  # what ``datasets`` writes beside the .arrow files of a saved data set
_CARD = re.compile(r"((.*[._-])?(readme|license|licence|citation)([._-]\w+)?|dataset_?card)\.(md|txt)", re.IGNORECASE)
_DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """A file to read."""

    path: Path
    name: str
    """The same on every machine: the file's own name or, for a file found in a folder, ``folder/path/below.txt``."""
    format: str
    """Suffix in lower case, compression left out: ``.jsonl`` of ``a.JSONL.gz``."""
    compression: str
    """``.gz``, ``.bz2``, ``.xz``, ``.zst`` or nothing."""
    size: int
    """In bytes, as it lies on disk."""

    @property
    def shown(self) -> str:
        """What a message calls it."""
        return STDIN if self.name == STDIN else _legible(str(self.path))


class _Found(NamedTuple):
    path: Path
    name: str
    format: str
    compression: str


def find_files(paths: Paths, formats: Iterable[str]) -> tuple[list[SourceFile], dict[str, int]]:
    """Return the files to read, and how many of each other suffix were passed over in folders and globs.

    - Folders are searched to the bottom and their files sorted by path; hidden files are left out and links to folders
      are not followed, since they can go in circles.
    - A path that does not exist and holds ``*``, ``?`` or ``[`` is a glob, ``**`` stands for folders at any depth.
    - A folder that ``datasets`` saved, wherever it lies, gives the .arrow files that its ``state.json`` names.
    - ``owner/name`` that does not exist, in a folder ``owner`` that does not either, is a data set on the hub.
    - A README, licence or citation (.md, .txt) in a folder that holds records too, or whose folders below do, describes
      the data and is no document: it is passed over as ``data set card``, as are ``dataset_info.json`` and its like.
    - A file that is met twice, by whatever path or link, is read once.

    Raises:
        UserError: a path is missing, cannot be read, is a pipe, socket or device, or has a suffix that is not legal;
            or a folder holds no file to read, or a glob matches none.
    """
    legal = set(formats)
    given = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    if not given:
        raise UserError("no file or folder to read was given")
    found: list[_Found] = []
    skipped: Counter[str] = Counter()
    for path in given:
        found += _given(path, legal, skipped)
    return _once_each(found), dict(sorted(skipped.items()))


def _given(path: Path, legal: set[str], skipped: Counter[str]) -> list[_Found]:
    if "\0" not in str(path) and not os.path.lexists(path):
        if glob.has_magic(str(path)):
            return _matching(path, legal, skipped)
        if HUB in legal and _is_hub_name(path, legal):
            return [_Found(path, path.as_posix(), HUB, "")]
    if stat.S_ISDIR(status_of(path).st_mode):
        return _in_folder(path, legal, skipped)
    return [_given_file(path, path.name, legal)]


def _is_hub_name(path: Path, legal: set[str]) -> bool:
    named = _HUB_NAME.fullmatch(str(path)) is not None
    return named and not path.parent.exists() and suffixes(path.name)[0] not in legal


def status_of(path: Path) -> os.stat_result:
    """Return ``os.stat``, or raise ``UserError`` in words."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        what = "is a link to nothing" if path.is_symlink() else "does not exist"
        raise UserError(f"{str(path)!r} {what}") from None
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> UserError:
    """Return (not raise) the error for a file that the system or a library could not read."""
    reason = str(getattr(error, "strerror", None) or error).strip().split("\n")[0]
    return UserError(f"{str(path)!r} cannot be read: {reason}")


def _once_each(found: Sequence[_Found]) -> list[SourceFile]:
    seen: dict[tuple[int, int], Path] = {}
    files = []
    for path, name, form, compression in found:
        size = 0
        if form != HUB:
            status = status_of(path)
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{str(path)!r} is a pipe, socket or device; only files and folders are read")
            first = seen.setdefault((status.st_dev, status.st_ino), path)
            if first is not path:
                note(f"{path} is the same file as {first}: read once")
                continue
            size = status.st_size
        files.append(SourceFile(path=path, name=_legible(name), format=form, compression=compression, size=size))
    return files


def _legible(name: str) -> str:
    """Return a file's name as text that can be written; bytes of it that are not UTF-8 are shown as ``\\xff``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _given_file(path: Path, name: str, legal: set[str]) -> _Found:
    suffix, compression = suffixes(path.name)
    if tool := _ARCHIVES.get(suffix):
        raise UserError(f"{str(path)!r} is an archive, which is not read; unpack it with `{tool}` and give the folder")
    if suffix in _UNPACKABLE and compression:
        raise UserError(f"{str(path)!r}: {suffix} is packed on the inside; unpack the {compression} around it first")
    if suffix not in legal:
        raise UserError(f"{str(path)!r} has the suffix {suffix + compression!r}; {_legal_suffixes(legal)}")
    return _Found(path, name, suffix, compression)


def suffixes(name: str) -> tuple[str, str]:
    """Return format and compression, as ``.jsonl`` and ``.gz`` of ``a.JSONL.gz``."""
    path = PurePosixPath(name.lower())
    compression = path.suffix if path.suffix in COMPRESSIONS else ""
    return PurePosixPath(path.stem if compression else path.name).suffix, compression


def _legal_suffixes(legal: set[str]) -> str:
    named = ", ".join(sorted(legal - {HUB}))
    return f"files that can be read end in {named}, with or without {', '.join(COMPRESSIONS)} after it"


# Folders


def _in_folder(folder: Path, legal: set[str], skipped: Counter[str]) -> list[_Found]:
    return _choose(folder, _sorted(_walk(folder)), legal, skipped, f"folder {str(folder)!r} holds")


def _sorted(paths: Iterable[str]) -> list[str]:
    return sorted(paths, key=lambda path: path.split(os.sep))


def _choose(folder: Path, below: Sequence[str], legal: set[str], skipped: Counter[str], where: str) -> list[_Found]:
    """Return those files (paths below the folder) that are read; the others are counted and noted."""
    root = folder.resolve().name
    with_records = _folders_with_records(below)
    found: list[_Found] = []
    others: Counter[str] = Counter()
    for path in below:
        parent, _, own = path.rpartition(os.sep)
        suffix, compression = suffixes(own)
        if own in _DESCRIPTIONS or (parent in with_records and _CARD.fullmatch(own)):
            others["data set card"] += 1
        elif suffix in legal and not (suffix in _UNPACKABLE and compression):
            found.append(_Found(folder / path, (PurePosixPath(root) / Path(path)).as_posix(), suffix, compression))
        else:
            others[suffix + compression or "no suffix"] += 1
    kinds = ", ".join(f"{kind} ({number})" for kind, number in sorted(others.items()))
    if not found:
        raise UserError(f"{where} {kinds or 'no files'}: nothing to read; {_legal_suffixes(legal)}")
    if others:
        note(f"{folder}: files that are not read are left out: {kinds}")
    skipped.update(others)
    return found


def _folders_with_records(below: Iterable[str]) -> set[str]:
    """Return the folders that hold files of records, and all folders above these."""
    folders: set[str] = set()
    for path in below:
        folder, _, own = path.rpartition(os.sep)
        if suffixes(own)[0] in _RECORDS and own not in _DESCRIPTIONS:
            while folder not in folders:
                folders.add(folder)
                folder = folder.rpartition(os.sep)[0]
    return folders


def _walk(folder: Path) -> Iterator[str]:
    """Yield the path below the folder of every file that is not hidden."""

    def refuse(error: OSError) -> None:
        raise unreadable(Path(error.filename), error) from None

    for where, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for link in (path for path in (Path(where, name) for name in folders) if path.is_symlink()):
            note(f"{link} is a link to a folder and is not followed")
        below = os.path.relpath(where, folder)
        start = "" if below == os.curdir else below + os.sep
        if set(names) >= _SAVED:
            names = [*_saved_files(Path(where)), *sorted(_SAVED)]
        yield from (start + name for name in names if not name.startswith("."))


def _saved_files(folder: Path) -> list[str]:
    """Return the names of the .arrow files of a data set that ``datasets`` saved into a folder."""
    try:
        state = json.loads((folder / "state.json").read_bytes())
        names = [entry["filename"] for entry in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{str(folder)!r} is no data set as save_to_disk writes it: state.json is damaged") from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(ARROW):
            raise UserError(f"{str(folder / 'state.json')!r} names {name!r}, which is no .arrow file of this folder")
    return names


# Globs


def _matching(pattern: Path, legal: set[str], skipped: Counter[str]) -> list[_Found]:
    """Return what a glob matches; a folder that it matches is read to the bottom, unless ``**`` does that already."""
    fixed = Path(*_until_magic(pattern.parts))
    deep = "**" in pattern.parts
    below = _below(fixed, pattern.parts[len(fixed.parts) :]) if deep else _shallow(fixed, pattern)
    files: list[str] = []
    for path in below:
        is_folder = (fixed / path).is_dir()
        files += [os.path.join(path, found) for found in _walk(fixed / path)] if is_folder else [path]
    if not files:
        raise UserError(f"{str(pattern)!r} does not exist and, as a glob, matches no file")
    return _choose(fixed, _sorted(set(files)), legal, skipped, f"{str(pattern)!r} matches")


def _until_magic(parts: Sequence[str]) -> list[str]:
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return list(parts[:first])


def _shallow(fixed: Path, pattern: Path) -> list[str]:
    return [os.path.relpath(path, fixed) for path in glob.glob(str(pattern))]


def _below(fixed: Path, parts: Sequence[str]) -> list[str]:
    """Match ``**`` without following links to folders, which ``glob.glob`` does in circles."""
    if not fixed.is_dir():
        return []
    return [path for path in _walk(fixed) if _fits(Path(path).parts, parts)]


def _fits(path: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return bool(path) and (len(pattern) == 1 or any(_fits(path[at:], pattern[1:]) for at in range(len(path))))
    return bool(path) and fnmatch.fnmatchcase(path[0], pattern[0]) and _fits(path[1:], pattern[1:])

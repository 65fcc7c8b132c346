"""Finds the files of a corpus, in an order that is the same on every machine, and opens them as streams of bytes."""

import bz2
import gzip
import lzma
import os
import stat
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BufferedReader, RawIOBase
from pathlib import Path, PurePosixPath
from typing import Any

from bothways.errors import UserError
from bothways.progress import note

Paths = str | Path | Sequence[str | Path]

_OPENERS: dict[str, Callable[..., Any]] = {
    "": partial(open, buffering=0),
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}
_LATER = {".zst": "unpack it first, for example with `zstd -d`", ".parquet": "convert it to .jsonl first"}
_BOMB_BYTES, _BOMB_RATIO = 64 << 20, 200  # text packs 3 to 20 times smaller; far beyond that it is no corpus
_HEAD = 4096  # bytes looked at to tell text from other things
_UTF16 = (b"\xff\xfe", b"\xfe\xff")  # UTF-32 starts with these or with a NUL


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file to read."""

    path: Path
    name: str
    """The same on every machine: the file's own name or, for a file found in a folder, ``folder/path/below.txt``."""
    format: str
    """Suffix in lower case, compression left out: ``.jsonl`` of ``a.JSONL.gz``."""
    compression: str
    """``.gz``, ``.bz2``, ``.xz`` or nothing."""


def find_files(paths: Paths, formats: Iterable[str]) -> tuple[list[SourceFile], dict[str, int]]:
    """Return the files to read, and how many of each other suffix were passed over in folders.

    Folders are searched to the bottom and their files sorted by path; hidden files are left out and links to folders
    are not followed, since they can go in circles. A file that is met twice, by whatever path or link, is read once.

    Raises:
        UserError: a path is missing, cannot be read, is a pipe, socket or device, or has a suffix that is not legal;
            or a folder holds no file to read.
    """
    legal = set(formats)
    given = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    if not given:
        raise UserError("no file or folder to read was given")
    files: list[SourceFile] = []
    skipped: Counter[str] = Counter()
    for path in given:
        if stat.S_ISDIR(_status(path).st_mode):
            files += _in_folder(path, legal, skipped)
        else:
            files.append(_given_file(path, legal))
    return _once_each(files), dict(skipped)


@contextmanager
def open_file(file: SourceFile, count: Callable[[int], None]) -> Iterator[BufferedReader]:
    """Open for reading, unpacked; ``count`` is told the bytes as they are read.

    Raises:
        UserError: the file cannot be read or unpacked, is not text, or unpacks to over 200 times its size.
    """
    limit = max(_BOMB_BYTES, _BOMB_RATIO * _status(file.path).st_size) if file.compression else float("inf")
    try:
        with _OPENERS[file.compression](file.path, "rb") as inner:
            counted: Any = _Counted(inner, count, limit)
            stream = BufferedReader(counted, 1 << 20)
            head = stream.peek(_HEAD)[:_HEAD]
            if head.startswith(_UTF16) or b"\0" in head:
                raise UserError(f"{str(file.path)!r} looks like a binary or UTF-16 file; save it as UTF-8 text")
            yield stream
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise _unreadable(file.path, error) from None


class _Counted(RawIOBase):
    """Counts what is read, and refuses to inflate a compression bomb."""

    def __init__(self, inner: Any, count: Callable[[int], None], limit: float) -> None:
        self._inner, self._count, self._room = inner, count, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size: int = self._inner.readinto(buffer)
        self._count(size)
        self._room -= size
        if self._room < 0:
            raise UserError(f"{self._inner.name!r} unpacks to over {_BOMB_RATIO} times its size; that is no corpus")
        return size


def _status(path: Path) -> os.stat_result:
    try:
        return os.stat(path)
    except FileNotFoundError:
        what = "is a link to nothing" if path.is_symlink() else "does not exist"
        raise UserError(f"{str(path)!r} {what}") from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{str(path)!r} cannot be read: {getattr(error, 'strerror', None) or error}")


def _once_each(files: Sequence[SourceFile]) -> list[SourceFile]:
    seen: dict[tuple[int, int], SourceFile] = {}
    for file in files:
        status = _status(file.path)
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{str(file.path)!r} is a pipe, socket or device; only files and folders are read")
        first = seen.setdefault((status.st_dev, status.st_ino), file)
        if first is not file:
            note(f"{file.path} is the same file as {first.path}: read once")
    return list(seen.values())


def _given_file(path: Path, legal: set[str]) -> SourceFile:
    _refuse_later_format(path)
    suffix, compression = _suffixes(path.name)
    if suffix not in legal:
        raise UserError(f"{str(path)!r} has the suffix {suffix + compression!r}; {_legal_suffixes(legal)}")
    return SourceFile(path=path, name=path.name, format=suffix, compression=compression)


def _in_folder(folder: Path, legal: set[str], skipped: Counter[str]) -> list[SourceFile]:
    found: list[SourceFile] = []
    others: Counter[str] = Counter()
    root = folder.resolve().name
    for below in sorted((path.relative_to(folder) for path in _walk(folder)), key=lambda path: path.parts):
        _refuse_later_format(folder / below)
        suffix, compression = _suffixes(below.name)
        if suffix in legal:
            name = (root / below).as_posix()
            found.append(SourceFile(path=folder / below, name=name, format=suffix, compression=compression))
        else:
            others[suffix + compression or "no suffix"] += 1
    kinds = ", ".join(f"{kind} ({number})" for kind, number in sorted(others.items()))
    if not found:
        raise UserError(
            f"folder {str(folder)!r} holds {kinds or 'no files'}: nothing to read; {_legal_suffixes(legal)}"
        )
    if others:
        note(f"{folder}: files that are not read are left out: {kinds}")
    skipped.update(others)
    return found


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise _unreadable(Path(error.filename), error) from None

    for where, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for link in (path for path in (Path(where, name) for name in folders) if path.is_symlink()):
            note(f"{link} is a link to a folder and is not followed")
        yield from (Path(where, name) for name in names if not name.startswith("."))


def _suffixes(name: str) -> tuple[str, str]:
    """Return format and compression, as ``.jsonl`` and ``.gz`` of ``a.JSONL.gz``."""
    path = PurePosixPath(name.lower())
    compression = path.suffix if path.suffix in _OPENERS else ""
    return PurePosixPath(path.stem if compression else path.name).suffix, compression


def _refuse_later_format(path: Path) -> None:
    if remedy := _LATER.get(path.suffix.lower()):
        raise UserError(f"{str(path)!r} is of a format that is not read yet; {remedy}")


def _legal_suffixes(legal: set[str]) -> str:
    return f"files that can be read end in {', '.join(sorted(legal))}, with or without .gz, .bz2 or .xz after it"

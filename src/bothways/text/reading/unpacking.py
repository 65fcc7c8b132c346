"""Opens a file of a corpus as a stream of bytes, unpacked: damaged, changing, misnamed and hostile files are refused."""

import bz2
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader, RawIOBase
from typing import Any, Protocol

from bothways.errors import UserError
from bothways.text.reading.files import HUB, SourceFile, unreadable

BUFFER = 1 << 20  # bytes read at a time
_BOMB_BYTES, _BOMB_RATIO = 64 << 20, 200  # text packs 3 to 20 times smaller; far beyond that it is no corpus
_MOST_MEMORY = 128 << 20  # of an unpacker's window; what `zstd --ultra -22` and `xz -9` need lies within it
_PACKED_CHUNK = 1 << 16
_ZSTD_CHUNK = 1 << 10  # of packed bytes: 4 can stand for a block of 128 KiB, and all that they stand for comes at once
_HEAD = 4096  # bytes looked at to tell text from other things
_NULS = 10  # a file with one NUL in so many bytes of its head is no text; a stray NUL is a bad line

_MAGIC = {
    ".gz": (b"\x1f\x8b",),
    ".bz2": tuple(b"BZh%d%s" % (level, rest) for level in range(1, 10) for rest in (b"1AY&SY", b"\x17rE8P\x90")),
    ".xz": (b"\xfd7zXZ\0",),
    ".zst": (b"\x28\xb5\x2f\xfd", *(bytes([first]) + b"\x2a\x4d\x18" for first in range(0x50, 0x60))),
    ".zip": (b"PK\x03\x04", b"PK\x05\x06"),
    ".parquet": (b"PAR1\x15",),
}
_LONGEST_MAGIC = 10
_PADDING = (".gz", ".xz")  # formats that may end in zero bytes
_BINARY = (".parquet", ".arrow")


class _Unpacker(Protocol):
    """What ``bz2`` and ``lzma`` offer."""

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...


@contextmanager
def open_file(
    file: SourceFile, count: Callable[[int], None], *, start: int = 0, stop: int | None = None
) -> Iterator[BufferedReader]:
    """Open for reading, unpacked; ``count`` is told the bytes as they are read.

    Args:
        start, stop: the range of bytes to read; of a plain file only. ``stop`` is the end of the file if None.
    Raises:
        UserError: the file cannot be read or unpacked, is not text, unpacks to over 200 times its size, or has changed
            since it was found.
    """
    if file.format == HUB:
        yield BufferedReader(_Nothing())
        return
    try:
        with open(file.path, "rb", buffering=0) as raw:
            before = _state(raw.fileno())
            if before[0] != file.size:
                raise _changed(file)
            if file.format in _BINARY:
                yield BufferedReader(raw, BUFFER)
                count(file.size)
            else:
                raw.seek(start)
                counted: Any = _counted(file, raw, count, (file.size if stop is None else stop) - start)
                stream = BufferedReader(counted, BUFFER)
                if not start:
                    check_head(file.shown, stream.peek(_HEAD)[:_HEAD])
                yield stream
            if _state(raw.fileno()) != before:
                raise _changed(file)
    except (OSError, zlib.error, lzma.LZMAError) as error:
        raise unreadable(file.path, error) from None


def _state(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns


def _changed(file: SourceFile) -> UserError:
    return UserError(f"{file.shown!r} was changed while it was being read; read a copy that nothing else writes to")


def check_head(shown: str, head: bytes) -> None:
    """Refuse what is not UTF-8 text, by its first bytes.

    Raises:
        UserError: names what it is and the remedy.
    """
    if kind := next((kind for kind, magics in _MAGIC.items() if head.startswith(magics)), ""):
        raise UserError(f"{shown!r} holds {kind} data, which its name does not say; unpack it or name it so")
    if encoding := _wide_encoding(head):
        raise UserError(f"{shown!r} looks like {encoding}, not UTF-8 text; convert it, or leave it out")


def _wide_encoding(head: bytes) -> str:
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "a UTF-32 file"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "a UTF-16 file"
    nuls = [head[place::4].count(b"\0") for place in range(4)]
    if sum(nuls) * _NULS < len(head) or not sum(nuls):
        return ""
    quarter = -(-len(head) // 4)
    if quarter and sorted(nuls)[1] >= quarter and not min(nuls):
        return "a UTF-32 file without its mark"
    if sum(nuls) >= quarter > 0 and (nuls[0] + nuls[2] == 0 or nuls[1] + nuls[3] == 0):
        return "a UTF-16 file without its mark"
    return "a binary file"


class _Nothing(RawIOBase):
    """What a data set on the hub, which is no file, has to read."""

    def readable(self) -> bool:
        return True


def _counted(file: SourceFile, raw: RawIOBase, count: Callable[[int], None], size: int) -> RawIOBase:
    if not file.compression:
        return _Counted(file, raw, count, size)
    limit = max(_BOMB_BYTES, _BOMB_RATIO * file.size)
    return _Counted(file, _Unpacked(file, raw), count, limit)


class _Counted(RawIOBase):
    """Counts what is read, ends a plain file where it should end, and refuses to inflate a compression bomb."""

    def __init__(self, file: SourceFile, inner: RawIOBase, count: Callable[[int], None], room: int) -> None:
        self._file, self._inner, self._count, self._room = file, inner, count, room

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        plain = not self._file.compression
        size: int = self._inner.readinto(memoryview(buffer)[: self._room] if plain else buffer)
        if plain and not size and self._room:
            raise _changed(self._file)
        self._count(size)
        self._room -= size
        if self._room < 0:
            raise UserError(f"{self._file.shown!r} unpacks to over {_BOMB_RATIO} times its size; that is no corpus")
        return size


class _Unpacked(RawIOBase):
    """The content of a packed file, which may have several members one behind the other."""

    def __init__(self, file: SourceFile, raw: RawIOBase) -> None:
        self._file, self._raw = file, raw
        self._chunk = _ZSTD_CHUNK if file.compression == ".zst" else _PACKED_CHUNK
        self._begin = _beginner(file.compression)
        self._unpacker: _Unpacker | None = None
        self._packed = b""  # read and not yet unpacked
        self._ready = memoryview(b"")  # unpacked and not yet handed on
        self._members = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            if self._unpacker is None or self._unpacker.eof:
                if not self._next_member():
                    return 0
            else:
                self._ready = memoryview(self._unpack(len(buffer)))
        taken = self._ready[: len(buffer)]
        buffer[: len(taken)] = taken
        self._ready = self._ready[len(taken) :]
        return len(taken)

    def _take(self) -> bytes:
        """Return a chunk of packed bytes, empty at the end."""
        if not self._packed:
            self._packed = self._raw.read(_PACKED_CHUNK) or b""
        taken, self._packed = self._packed[: self._chunk], self._packed[self._chunk :]
        return taken

    def _unpack(self, most: int) -> bytes:
        assert self._unpacker is not None
        hungry = self._unpacker.needs_input
        data = self._take() if hungry else b""
        try:
            unpacked = self._unpacker.decompress(data, most)
        except (OSError, zlib.error, lzma.LZMAError) as error:
            raise self._damaged(str(error)) from None
        except Exception as error:  # zstandard.ZstdError, not imported for files of other kinds
            raise self._damaged(str(error)) from None
        if self._unpacker.eof:
            self._packed = self._unpacker.unused_data + self._packed
        elif hungry and not data and not unpacked:
            raise self._damaged("it ends too early; it was cut off")
        return unpacked

    def _next_member(self) -> bool:
        """Begin the next member, if there is one."""
        kind = self._file.compression
        if self._members and kind in _PADDING:
            self._packed = self._packed.lstrip(b"\0")
        while len(self._packed) < _LONGEST_MAGIC and (more := self._raw.read(_PACKED_CHUNK)):
            self._packed += more
            if self._members and kind in _PADDING:
                self._packed = self._packed.lstrip(b"\0")
        if not self._packed and self._members:
            return False
        if not self._packed.startswith(_MAGIC[kind]):
            if self._members:
                raise self._damaged("something that is not packed follows its packed content")
            raise self._damaged(f"its content is not packed as {kind}; name it after what it holds")
        self._unpacker = self._begin()
        self._members += 1
        return True

    def _damaged(self, what: str) -> UserError:
        explained = next((words for known, words in _EXPLAINED.items() if known in what), what)
        return UserError(f"{self._file.shown!r} cannot be read as {self._file.compression}: {explained}")


_EXPLAINED = {
    "incorrect data check": "its checksum is wrong, so it is damaged",
    "incorrect length check": "its checksum is wrong, so it is damaged",
    "CRC": "its checksum is wrong, so it is damaged",
    "checksum": "its checksum is wrong, so it is damaged",
    "Invalid data stream": "it is damaged",
    "Dictionary": "it needs the dictionary that it was packed with; unpack it with `zstd -d -D DICTIONARY` first",
    "too much memory": "it needs over 128 MiB of memory to unpack; unpack it with `zstd -d --long=31` first",
    "Memory usage limit": "it needs over 128 MiB of memory to unpack; unpack it with `xz -d` first",
}


def _beginner(compression: str) -> Callable[[], _Unpacker]:
    """Return what makes an unpacker for one member."""
    if compression == ".gz":
        return _Gzip
    if compression == ".bz2":
        return bz2.BZ2Decompressor
    if compression == ".xz":
        return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_MEMORY)
    import zstandard

    context = zstandard.ZstdDecompressor(max_window_size=_MOST_MEMORY)
    return lambda: _Zstandard(context.decompressobj())


class _Gzip:
    """One member of a .gz file."""

    needs_input = True

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(31)  # 31: with the header and the checksum of gzip

    def decompress(self, data: bytes, most: int = -1, /) -> bytes:
        unpacked = self._inner.decompress(self._inner.unconsumed_tail + data, most)
        self.needs_input = not self._inner.unconsumed_tail
        return unpacked

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


class _Zstandard:
    """One frame of a .zst file; it gives all that the packed bytes stand for, whatever ``most`` is."""

    needs_input = True

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def decompress(self, data: bytes, most: int = -1, /) -> bytes:  # noqa: ARG002
        return self._inner.decompress(data) if data else b""

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

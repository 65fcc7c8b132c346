"""One reader per file format: from a stream of bytes to rows, each with its place. Readers report problems, judge none.

A line ends at ``\\n`` and nowhere else: ``str.splitlines`` and text mode would also split at U+2028, U+0085 or
``\\x0b``, which are ordinary characters of web text. No line is held beyond 16 MiB.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BufferedReader, BytesIO
from typing import Any, NamedTuple

from bothways.errors import UserError
from bothways.text.reading.files import SourceFile

LINE_LIMIT = 16 << 20  # bytes of a line, its newline left out; a longer one is rejected and never held
MOST_JSON = 64 << 20  # bytes of a .json file, which is held whole
_BLOCK = 1 << 18  # bytes of text taken at a time
_SURROGATES = re.compile("[\ud800-\udfff]")
_ENOUGH = 2048  # bytes looked at on both sides of a broken one to guess its encoding


class SourceRow(NamedTuple):
    """One record, or what is left of it.

    ``values`` without ``problem`` is a sound row, with one a row in which U+FFFD stands for broken characters; neither
    is a blank line; ``problem`` alone is a row that cannot be read.
    """

    line: int
    """Counted from 1: where the row starts or, if bytes of it are broken, where the first of these is."""
    offset: int | None
    """In bytes from the start of the unpacked file, of the same place; None if rows have no such place."""
    values: dict[str, Any] | None = None
    problem: str = ""
    kind: str = ""
    """Of the problem, in few words: what a report counts by."""
    lines: int = 1
    """Lines that a row that cannot be read has taken with it."""


class Block(NamedTuple):
    """Whole sound lines of a text file."""

    text: str
    lines: int
    blank: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """A file that is being read, or a range of one."""

    file: SourceFile
    stream: BufferedReader
    offset: int = 0
    """Bytes before the stream, which are counted in places."""
    lines: int = 0
    """Lines before the stream, which are counted in places."""
    columns: tuple[str, ...] = ()
    """All that is needed of formats that can be read by column; empty for all."""
    delimiter: str | None = None
    """Between the cells of .csv; None for the comma."""


Reader = Callable[[Opened], Iterator[SourceRow]]


class Line(NamedTuple):
    """One line, decoded."""

    number: int
    offset: int
    """Of its first byte."""
    text: str
    """Empty if the line is too long."""
    problem: str
    kind: str
    place: int
    """Offset of the first broken byte or, without one, of the line."""
    size: int


TOO_LONG = "line too long"
_NUL, _NOT_UTF8, _NOT_JSON = "NUL byte", "not UTF-8", "not JSON"


def lines_of(opened: Opened) -> Iterator[Line]:
    """Yield the lines; broken bytes are lone surrogates in them until ``mend``."""
    stream = opened.stream
    offset, number = _skip_mark(opened), opened.lines
    for data in iter(partial(stream.readline, LINE_LIMIT + 1), b""):
        number += 1
        size = len(data)
        if size > LINE_LIMIT and not data.endswith(b"\n"):
            size += _pass_over(stream)
            yield Line(number, offset, "", _too_long(size), TOO_LONG, offset, size)
        else:
            text, problem, kind, place = decode(data)
            yield Line(number, offset, text, problem, kind, offset + place, size)
        offset += size


def _skip_mark(opened: Opened) -> int:
    """Pass over a UTF-8 byte order mark and return the offset of what follows."""
    at_start = not opened.offset and opened.stream.peek(3).startswith(b"\xef\xbb\xbf")
    return opened.offset + (len(opened.stream.read(3)) if at_start else 0)


def _pass_over(stream: BufferedReader) -> int:
    """Read to the end of a line without holding it, and return the bytes passed."""
    size = 0
    for data in iter(partial(stream.readline, _BLOCK), b""):
        size += len(data)
        if data.endswith(b"\n"):
            break
    return size


def _too_long(size: int) -> str:
    return f"a line of {size:,} bytes is over the {LINE_LIMIT >> 20} MiB that one may have"


def decode(data: bytes) -> tuple[str, str, str, int]:
    """Return text, problem ("" if none), its kind and its place; broken bytes become lone surrogates until ``mend``."""
    try:
        if b"\0" not in data:
            return data.decode("utf-8"), "", "", 0
        problem, kind, place = "holds a NUL byte", _NUL, data.index(b"\0")
    except UnicodeDecodeError as error:
        kind, place = _NOT_UTF8, error.start
        problem = f"byte 0x{data[place]:02x} is not valid UTF-8{_guess(data, place)}"
    return data.replace(b"\0", b"\xff").decode("utf-8", "surrogateescape"), problem, kind, place


def _guess(data: bytes, place: int) -> str:
    """Return what the bytes around a broken one look like, if they look like something."""
    near = data[max(0, place - _ENOUGH) : place + _ENOUGH]
    high = re.findall(rb"[\x80-\xff]+", near)
    sound = sum(character > "\x7f" for character in near.decode("utf-8", "ignore"))
    if sound * 4 > sum(map(len, high)):
        return ""  # most of it is UTF-8
    chinese = b"".join(high).decode("gb18030", "replace")
    if max(map(len, high)) >= 4 and re.fullmatch("[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef\u2010-\u2026]+", chinese):
        return ", and the text looks like GBK: convert it with `iconv -f GB18030 -t UTF-8`"
    if re.search(rb"[A-Za-z][\xc0-\xff](?![\x80-\xff])", near) or re.search(rb"[\x91-\x94\xa0](?![\x80-\xff])", near):
        return ", and the text looks like Latin-1: convert it with `iconv -f WINDOWS-1252 -t UTF-8`"
    return ""


def mend(text: str) -> str:
    """Put U+FFFD in place of broken characters."""
    return _SURROGATES.sub("\ufffd", text)


# Text


def read_text(opened: Opened) -> Iterator[Block | SourceRow]:
    """Yield blocks of sound lines, and of the others each as a row with the column ``text``; CRLF becomes LF."""
    stream, offset, number = opened.stream, _skip_mark(opened), opened.lines
    while data := stream.read(_BLOCK):
        size = 0
        if not data.endswith(b"\n"):
            data, size = _to_line_end(data, stream)
        block = _sound_block(data)
        if block is None:
            yield from _line_by_line(data, offset, number)
        elif block.lines:
            yield block
        offset += len(data)
        number += block.lines if block else data.count(b"\n") + (not data.endswith(b"\n"))
        if size:
            number += 1
            yield SourceRow(number, offset, None, _too_long(size), TOO_LONG)
            offset += size


def _to_line_end(data: bytes, stream: BufferedReader) -> tuple[bytes, int]:
    """Read on to the end of the last line; return the whole lines, and the size of the last if it is too long."""
    start = data.rfind(b"\n") + 1
    more = stream.readline(LINE_LIMIT + 1)
    last = len(data) - start + len(more)
    if last - more.endswith(b"\n") > LINE_LIMIT:
        return data[:start], last + (0 if more.endswith(b"\n") else _pass_over(stream))
    return data + more, 0


def _sound_block(data: bytes) -> Block | None:
    if b"\0" in data:
        return None
    try:
        text = data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return None
    lines = text.split("\n")
    if not lines[-1]:
        del lines[-1]
    return Block(text, len(lines), len(lines) - sum(map(bool, map(str.strip, lines))))


def _line_by_line(data: bytes, offset: int, number: int) -> Iterator[Block | SourceRow]:
    for each in BytesIO(data):
        number += 1
        text, problem, kind, place = decode(each)
        text = text.replace("\r\n", "\n")
        if problem:
            yield SourceRow(number, offset + place, {"text": mend(text)}, problem, kind)
        else:
            yield Block(text, 1, int(not text.strip()))
        offset += len(each)


# JSON


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key is repeated")
    return values


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)


def read_json_lines(opened: Opened) -> Iterator[SourceRow]:
    """Yield a row for every line."""
    scan: Callable[[str, int], tuple[Any, int]] = _DECODER.scan_once  # type: ignore[attr-defined]  # undocumented
    readline, stream = opened.stream.readline, opened.stream
    offset, number = _skip_mark(opened), opened.lines
    for data in iter(partial(readline, LINE_LIMIT + 1), b""):
        number += 1
        size = len(data)
        if size > LINE_LIMIT and not data.endswith(b"\n"):
            size += _pass_over(stream)
            yield SourceRow(number, offset, None, _too_long(size), TOO_LONG)
            offset += size
            continue
        if data in (b"\n", b"\r\n"):
            yield SourceRow(number, offset)
            offset += size
            continue
        try:  # first as if the line were sound, since nearly all are
            text = data.decode("utf-8")
            value, end = scan(text, 0)
            sound = type(value) is dict and text[end:] in ("\n", "\r\n", "") and not _may_hold_surrogate(text)
        except (ValueError, StopIteration, RecursionError):
            sound = False
        if sound:
            yield SourceRow(number, offset, value)
        else:
            yield _json_line(data, number, offset)
        offset += size


def _json_line(data: bytes, number: int, offset: int) -> SourceRow:
    text, problem, kind, place = decode(data)
    if not text.strip(" \t\r\n"):
        return SourceRow(number, offset)
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        problem = problem or f"not one JSON object on one line: {_reason(error)}"
        return SourceRow(number, offset + place, None, problem, kind or _NOT_JSON)
    return _object_row(value, text, problem, kind, line=number, offset=offset + place)


def read_json(opened: Opened) -> Iterator[SourceRow]:
    """Yield a row for every object of a list, or for the one object there is. The whole file is held in memory.

    Raises:
        UserError: the file is over 64 MiB, or of broken syntax, after which nothing in it can be trusted.
    """
    offset, line, before = _skip_mark(opened), 1, 0
    data = opened.stream.read(MOST_JSON + 1)
    if len(data) > MOST_JSON:
        raise UserError(
            f"{opened.file.shown!r} is a .json file of over {MOST_JSON >> 20} MiB, which would have to be held whole; "
            f"convert it to .jsonl, for example with `jq -c '.[]' FILE.json > FILE.jsonl`"
        )
    text, problem, kind, _ = decode(data)
    try:
        for start, end, value in _json_values(text):
            passed = text[before:start]
            offset += len(passed.encode("utf-8", "surrogateescape"))
            line += passed.count("\n")
            before = start
            yield _object_row(value, text[start:end], problem, kind, line=line, offset=offset)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{opened.file.shown!r} is not valid JSON: {problem or error}") from None


def _object_row(value: Any, raw: str, problem: str, kind: str, *, line: int, offset: int) -> SourceRow:
    if not isinstance(value, dict):
        found = "null" if value is None else type(value).__name__
        return SourceRow(line, offset, None, f"a JSON object is needed, not {found}", "not an object")
    if problem or _may_hold_surrogate(raw):
        plain = json.dumps(value, ensure_ascii=False)
        broken = _SURROGATES.search(plain)
        value = json.loads(mend(plain)) if broken else value
        problem = (problem or "half of a surrogate pair is not valid Unicode") if broken else ""
        kind = (kind or "half a surrogate pair") if broken else ""
    return SourceRow(line, offset, value, problem, kind)


def _may_hold_surrogate(raw: str) -> bool:
    """Whether half of a surrogate pair can be in sound JSON; searching its values is saved where none can."""
    return "\\u" in raw and ("\\ud" in raw or "\\uD" in raw)


def _json_values(text: str) -> Iterator[tuple[int, int, Any]]:
    """Yield start, end and value of every item of a list, or of the one value that is not in a list."""
    start = _skip_space(text, 0)
    if not text.startswith("[", start):
        yield start, len(text), _DECODER.decode(text)
        return
    end = start = _skip_space(text, start + 1)
    mark = "]" if text.startswith("]", start) else ","
    while mark == ",":
        value, end = _DECODER.raw_decode(text, start)
        yield start, end, value
        end = _skip_space(text, end)
        mark, start = text[end : end + 1], _skip_space(text, end + 1)
    if mark != "]":
        raise json.JSONDecodeError("the list neither goes on with ',' nor ends with ']'", text, end)
    if _skip_space(text, end + 1) < len(text):
        raise json.JSONDecodeError("something follows the end of the list", text, end + 1)


def _skip_space(text: str, start: int) -> int:
    while start < len(text) and text[start] in " \t\r\n":
        start += 1
    return start


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return (
        f"{error.msg.removesuffix(' at')} at column {error.colno}"
        if isinstance(error, json.JSONDecodeError)
        else str(error)
    )

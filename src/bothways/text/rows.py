"""One reader per file format: from a stream of bytes to rows, each with its place. Readers report problems, judge none.

A line ends at ``\\n`` and nowhere else: ``str.splitlines`` and text mode would also split at U+2028, U+0085 or
``\\x0b``, which are ordinary characters of web text.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from typing import Any

from bothways.errors import UserError
from bothways.text.files import SourceFile

_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceRow:
    """One record, or what is left of it.

    ``values`` without ``problem`` is a sound row, with one a row in which U+FFFD stands for broken characters; neither
    is a blank line; ``problem`` alone is a row that cannot be read.
    """

    line: int
    """Counted from 1: where the row starts or, if bytes of it are broken, where the first of these is."""
    offset: int
    """In bytes from the start of the unpacked file, of the same place."""
    values: dict[str, Any] | None = None
    problem: str = ""
    lines: int = 1
    """Lines that a row that cannot be read has taken with it."""


Reader = Callable[[SourceFile, BufferedReader], Iterator[SourceRow]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    number: int
    offset: int
    text: str
    problem: str
    problem_offset: int


def _lines(stream: BufferedReader) -> Iterator[_Line]:
    offset = _skip_mark(stream)
    for number, data in enumerate(stream, start=1):
        text, problem, place = _decode(data)
        yield _Line(number=number, offset=offset, text=text, problem=problem, problem_offset=offset + place)
        offset += len(data)


def _skip_mark(stream: BufferedReader) -> int:
    """Pass over a UTF-8 byte order mark and return its length."""
    return len(stream.read(3)) if stream.peek(3).startswith(b"\xef\xbb\xbf") else 0


def _decode(data: bytes) -> tuple[str, str, int]:
    """Return text, problem ("" if none) and its place; broken bytes become lone surrogates until ``_mend``."""
    try:
        if b"\0" not in data:
            return data.decode("utf-8"), "", 0
        problem, place = "holds a NUL byte", data.index(b"\0")
    except UnicodeDecodeError as error:
        problem, place = f"byte 0x{data[error.start]:02x} is not valid UTF-8", error.start
    return data.replace(b"\0", b"\xff").decode("utf-8", "surrogateescape"), problem, place


def _mend(text: str) -> str:
    return _SURROGATES.sub("\ufffd", text)


def read_text(_: SourceFile, stream: BufferedReader) -> Iterator[SourceRow]:
    """Yield the whole file as one row with the column ``text``; CRLF becomes LF."""
    start = _skip_mark(stream)
    data = stream.read()
    text, problem, place = _decode(data)
    line = 1 + data.count(b"\n", 0, place)
    yield SourceRow(
        line=line, offset=start + place, values={"text": _mend(text).replace("\r\n", "\n")}, problem=problem
    )


# JSON


def read_json_lines(_: SourceFile, stream: BufferedReader) -> Iterator[SourceRow]:
    """Yield a row for every line."""
    for line in _lines(stream):
        if not line.text.strip(" \t\r\n"):
            yield SourceRow(line=line.number, offset=line.offset)
            continue
        try:
            value = _DECODER.decode(line.text)
        except (ValueError, RecursionError) as error:
            problem = line.problem or f"not one JSON object on one line: {_reason(error)}"
            yield SourceRow(line=line.number, offset=line.problem_offset, problem=problem)
        else:
            yield _object_row(value, line.text, line.problem, line=line.number, offset=line.problem_offset)


def read_json(file: SourceFile, stream: BufferedReader) -> Iterator[SourceRow]:
    """Yield a row for every object of a list, or for the one object there is. The whole file is held in memory.

    Raises:
        UserError: broken syntax, after which nothing in the file can be trusted.
    """
    offset, line, before = _skip_mark(stream), 1, 0
    text, problem, _ = _decode(stream.read())
    try:
        for start, end, value in _json_values(text):
            passed = text[before:start]
            offset += len(passed.encode("utf-8", "surrogateescape"))
            line += passed.count("\n")
            before = start
            yield _object_row(value, text[start:end], problem, line=line, offset=offset)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{str(file.path)!r} is not valid JSON: {problem or error}") from None


def _object_row(value: Any, raw: str, problem: str, *, line: int, offset: int) -> SourceRow:
    if not isinstance(value, dict):
        kind = "null" if value is None else type(value).__name__
        return SourceRow(line=line, offset=offset, problem=f"a JSON object is needed, not {kind}")
    if problem or "\\ud" in raw or "\\uD" in raw:  # otherwise no surrogate can be in it, and searching is saved
        plain = json.dumps(value, ensure_ascii=False)
        broken = _SURROGATES.search(plain)
        value = json.loads(_mend(plain)) if broken else value
        problem = (problem or "half of a surrogate pair is not valid Unicode") if broken else ""
    return SourceRow(line=line, offset=offset, values=value, problem=problem)


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
    return f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key is repeated")
    return values


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)


# Tables


class _Taken:
    """Hands lines to a table reader and remembers those that went into the present row."""

    def __init__(self, stream: BufferedReader) -> None:
        self._lines = _lines(stream)
        self.row: list[_Line] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.row.append(next(self._lines))
        return self.row[-1].text

    def broken(self) -> _Line | None:
        """Return the first line of the row whose bytes are not text."""
        return next((line for line in self.row if line.problem), None)


def read_csv(file: SourceFile, stream: BufferedReader) -> Iterator[SourceRow]:
    """Yield a row for every row below the header; every cell is text as it stands, ``NA`` and ``007`` too.

    Raises:
        UserError: the first line is no header.
    """
    csv.field_size_limit(2**31 - 1)  # the default refuses documents over 128 KiB; more overflows a C long on Windows
    taken = _Taken(stream)
    # Strict, so that a quote left open is an error and does not silently take in the rest of the file.
    return _table(file, taken, csv.reader(taken, strict=True))


def read_tsv(file: SourceFile, stream: BufferedReader) -> Iterator[SourceRow]:
    """Yield a row for every line below the header, its cells parted by tabs, as in ``read_csv``.

    Quotes are ordinary characters, as published data sets use them; only a cell that a CSV writer must have quoted,
    because it holds quotes and all of them are doubled, is unquoted.
    """
    taken = _Taken(stream)
    return _table(file, taken, (_tsv_cells(line.removesuffix("\n").removesuffix("\r")) for line in taken))


def _tsv_cells(line: str) -> list[str]:
    return [_unquote(cell) for cell in line.split("\t")] if line else []


def _unquote(cell: str) -> str:
    inside = cell[1:-1]
    quoted = cell == f'"{inside}"' and '""' in inside and '"' not in inside.replace('""', "")
    return inside.replace('""', '"') if quoted else cell


def _table(file: SourceFile, taken: _Taken, rows: Iterator[list[str]]) -> Iterator[SourceRow]:
    header = _header(file, taken, rows)
    while True:
        taken.row.clear()
        cells: list[str] = []
        problem = ""
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"not a CSV row: {error}"
        yield _table_row(header, cells, problem, taken)


def _table_row(header: list[str], cells: list[str], problem: str, taken: _Taken) -> SourceRow:
    broken = taken.broken()
    place = broken or taken.row[0]
    if cells and len(cells) != len(header):
        problem = f"{len(cells)} cells, where the header has {len(header)}"
    if problem or not cells:
        return SourceRow(line=place.number, offset=place.problem_offset, problem=problem, lines=len(taken.row))
    values = {name: _mend(cell) if broken else cell for name, cell in zip(header, cells, strict=True)}
    return SourceRow(line=place.number, offset=place.problem_offset, values=values, problem=place.problem)


def _header(file: SourceFile, taken: _Taken, rows: Iterator[list[str]]) -> list[str]:
    problem = "it is empty"
    header: list[str] = []
    try:
        header = next(rows, [])
    except csv.Error as error:
        problem = str(error)
    if broken := taken.broken():
        problem = broken.problem
    if not header or broken:
        raise UserError(f"{str(file.path)!r} must begin with a line that names the columns; {problem}")
    if len(set(header)) < len(header):
        raise UserError(f"{str(file.path)!r} names a column twice: {', '.join(header)}")
    return header


RECORD_READERS: dict[str, Reader] = {
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_tsv,
}
"""Formats whose rows have columns."""

READERS: dict[str, Reader] = {".txt": read_text, ".md": read_text, **RECORD_READERS}
"""All formats."""

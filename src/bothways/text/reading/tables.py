"""Readers of .csv and .tsv: every cell is text as it stands, ``NA`` and ``007`` too."""

import csv
from collections.abc import Iterator

from bothways.errors import UserError
from bothways.text.reading.rows import LINE_LIMIT, TOO_LONG, Line, Opened, SourceRow, lines_of, mend

_BAD_ROW = "not a CSV row"


class _RowTooLong(Exception):
    """A row that has taken more than a line may have."""


class _Taken:
    """Hands lines to a table reader and remembers those that went into the present row."""

    def __init__(self, opened: Opened) -> None:
        self._lines = lines_of(opened)
        self.row: list[Line] = []
        self._size = 0

    def begin_row(self) -> None:
        """Forget the lines of the row before."""
        self.row.clear()
        self._size = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._size += line.size
        if line.kind == TOO_LONG or (self.row and self._size > LINE_LIMIT):
            self.row.append(line._replace(text=""))
            raise _RowTooLong
        self.row.append(line)
        return line.text

    def broken(self) -> Line | None:
        """Return the first line of the row whose bytes are not text."""
        return next((line for line in self.row if line.problem), None)


def read_csv(opened: Opened) -> Iterator[SourceRow]:
    """Yield a row for every row below the header.

    A row may have as many bytes as a line of other formats: a quote that is never closed takes 16 MiB at most, which
    are rejected, and reading goes on at the next line.

    Raises:
        UserError: the first line is no header, or its one cell shows that another delimiter is meant.
    """
    csv.field_size_limit(2**31 - 1)  # the default refuses documents over 128 KiB; more overflows a C long on Windows
    taken = _Taken(opened)
    # Strict, so that a quote left open is an error and does not silently take in the rest of the file.
    rows = csv.reader(taken, strict=True, delimiter=opened.delimiter or ",")
    header = _header(opened, taken, rows)
    if opened.delimiter is None and len(header) == 1:
        for mark, name in ((";", "';'"), ("\t", "a tab")):
            if mark in header[0]:
                raise UserError(
                    f"{opened.file.shown!r} names one column, {header[0]!r}, and seems to be delimited by {name}, not "
                    f"by ','; declare the delimiter (--delimiter), or the comma if that is the name"
                )
    return _table(header, taken, rows)


def read_tsv(opened: Opened) -> Iterator[SourceRow]:
    """Yield a row for every line below the header, its cells parted by tabs.

    Quotes are ordinary characters, as published data sets use them; only a cell that a CSV writer must have quoted,
    because it holds quotes and all of them are doubled, is unquoted.
    """
    taken = _Taken(opened)
    rows = _TsvRows(taken)
    return _table(_header(opened, taken, rows), taken, rows)


class _TsvRows:
    """The rows of a .tsv; like ``csv.reader``, it goes on after an exception."""

    def __init__(self, taken: _Taken) -> None:
        self._taken = taken

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        line = next(self._taken).removesuffix("\n").removesuffix("\r")
        return [_unquote(cell) for cell in line.split("\t")] if line else []


def _unquote(cell: str) -> str:
    if not cell.startswith('"'):
        return cell
    inside = cell[1:-1]
    quoted = cell == f'"{inside}"' and '""' in inside and '"' not in inside.replace('""', "")
    return inside.replace('""', '"') if quoted else cell


def _table(header: list[str], taken: _Taken, rows: Iterator[list[str]]) -> Iterator[SourceRow]:
    while True:
        taken.begin_row()
        cells: list[str] = []
        problem = kind = ""
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            problem, kind = f"not a CSV row: {error}", _BAD_ROW
        except _RowTooLong:
            last = taken.row[-1]
            problem = last.problem or f"a row that has not ended after {LINE_LIMIT >> 20} MiB; is a quote left open?"
            kind = TOO_LONG
        yield _table_row(header, cells, problem, kind, taken)


def _table_row(header: list[str], cells: list[str], problem: str, kind: str, taken: _Taken) -> SourceRow:
    broken = None if kind == TOO_LONG else taken.broken()
    place = broken or taken.row[0]
    if cells and len(cells) != len(header):
        problem, kind = f"{len(cells)} cells, where the header has {len(header)}", "wrong number of cells"
    if problem or not cells:
        return SourceRow(place.number, place.place, None, problem, kind, len(taken.row))
    if broken:
        cells = [mend(cell) for cell in cells]
    return SourceRow(place.number, place.place, dict(zip(header, cells, strict=True)), place.problem, place.kind)


def _header(opened: Opened, taken: _Taken, rows: Iterator[list[str]]) -> list[str]:
    problem = "it is empty"
    header: list[str] = []
    try:
        header = next(rows, [])
    except csv.Error as error:
        problem = str(error)
    except _RowTooLong:
        problem = f"none ends within {LINE_LIMIT >> 20} MiB"
    broken = taken.broken()
    if broken and broken.kind != TOO_LONG:
        problem = broken.problem
    if not header or broken:
        raise UserError(f"{opened.file.shown!r} must begin with a line that names the columns; {problem}")
    if len(set(header)) < len(header):
        raise UserError(f"{opened.file.shown!r} names a column twice: {', '.join(header)}")
    return header

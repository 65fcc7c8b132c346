"""Laying sequences side by side in rows, so that next to no position is padding.

Peers pad every sequence to the longest of its batch; on sentences that wastes more than half of the work.
"""

from collections.abc import Iterable, Iterator, Sequence

from bothways.batch import Row, join
from bothways.errors import UserError


def pack(rows: Sequence[Row], length: int) -> list[Row]:
    """Join whole sequences to rows of at most ``length`` positions, as ``group`` says.

    Raises:
        UserError: a sequence is longer than ``length``.
    """
    return [join([rows[index] for index in numbers]) for numbers in group([len(row) for row in rows], length)]


def group(sizes: Sequence[int], length: int) -> list[list[int]]:
    """Return which sequences lie together in rows of at most ``length``: longest first, each into the fullest row that fits.

    Source: best-fit decreasing, Johnson 1974.

    Raises:
        UserError: a sequence is longer than ``length``.
    """
    room: list[list[int]] = [[] for _ in range(length + 1)]  # how much is free → which rows
    contents: list[list[int]] = []
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        size = sizes[index]
        if size > length:
            raise UserError(f"a sequence of {size} tokens does not fit a row of {length}")
        free = next((free for free in range(size, length + 1) if room[free]), None)
        if free is None:
            target, free = len(contents), length
            contents.append([])
        else:
            target = room[free].pop()
        contents[target].append(index)
        room[free - size].append(target)
    return [sorted(numbers) for numbers in contents]


def fill(rows: Iterable[Row], length: int) -> Iterator[list[Row]]:
    """Share causal sequences out in order among rows of exactly ``length``, cutting where a row ends; only the last is shorter.

    What is cut off goes on in the next row as a sequence of its own. Every target is kept.

    Yields:
        The sequences of a row, to be joined.
    """
    parts: list[Row] = []
    used = 0
    for sequence in rows:
        start = 0
        while start < len(sequence):
            stop = min(len(sequence), start + length - used)
            parts.append(sequence.cut(start, stop))
            used, start = used + stop - start, stop
            if used == length:
                yield parts
                parts, used = [], 0
    if parts:
        yield parts

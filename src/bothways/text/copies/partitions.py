"""Tables on disk that are larger than memory: rows in order over several files, and records divided by their keys."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bothways.errors import DamagedFileError

Records = NDArray[np.uint64]  # [records, columns]

_BUFFER_BYTES = 8 << 20  # held before partitions are written to, so that they are opened seldom


class Rows:
    """A table whose rows lie in one flat file for each part, numbered through all parts.

    Args:
        paths: of the files.
        bounds: [parts + 1] number of the first row of each part, and that of all rows.
        dtype: of one number.
        columns: numbers of a row.
    Raises:
        DamagedFileError: a file is missing or is not as long as its rows.
    """

    def __init__(self, paths: Sequence[Path], bounds: NDArray[np.int64], dtype: np.dtype[Any], columns: int) -> None:
        self._paths, self._bounds, self._dtype, self._columns = paths, bounds, dtype, columns
        self._row_bytes = dtype.itemsize * columns
        for path, rows in zip(paths, np.diff(bounds).tolist(), strict=True):
            if not path.is_file():
                raise DamagedFileError(f"there is no file {str(path)!r}: this part has not been fingerprinted")
            if path.stat().st_size != rows * self._row_bytes:
                raise DamagedFileError(f"{str(path)!r} does not hold {rows:,} rows of {self._row_bytes} bytes")

    def chunks(self, most_bytes: int = _BUFFER_BYTES) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield all rows in order, some at a time, with the number of the first: [rows, columns]."""
        rows = max(1, most_bytes // self._row_bytes)
        for path, first, stop in zip(self._paths, self._bounds.tolist(), self._bounds[1:].tolist(), strict=False):
            with path.open("rb") as file:
                for start in range(first, stop, rows):
                    count = min(rows, stop - start)
                    yield start, np.fromfile(file, self._dtype, count * self._columns).reshape(count, self._columns)

    def at(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of these numbers: [numbers, columns]."""
        order = np.argsort(numbers, kind="stable")
        rows = np.empty((len(numbers), self._columns), self._dtype)
        parts = np.searchsorted(self._bounds, numbers[order], side="right") - 1
        for part in np.unique(parts).tolist():
            chosen = order[np.searchsorted(parts, part) : np.searchsorted(parts, part, side="right")]
            # Read, not mapped: pages that are mapped count as our memory, and each row would bring some.
            with self._paths[part].open("rb", buffering=0) as file:
                for place in chosen.tolist():
                    file.seek(int(numbers[place] - self._bounds[part]) * self._row_bytes)
                    rows[place] = np.frombuffer(file.read(self._row_bytes), self._dtype)
        return rows


class Partitions:
    """Records divided over files by a number that the writer gives each; within a file they keep their order.

    Args:
        folder: where the files go.
        name: that their names begin with.
        columns: 64-bit numbers of a record.
        number: how many files.
    """

    def __init__(self, folder: Path, name: str, *, columns: int, number: int) -> None:
        self._paths = [folder / f"{name}-{partition:05}.bin" for partition in range(number)]
        self._columns = columns
        self._held: list[tuple[Records, NDArray[np.int64]]] = []
        self._held_records = 0
        self.crowded = 0

    def __len__(self) -> int:
        return len(self._paths)

    def write(self, records: Records, partitions: NDArray[np.int64]) -> None:
        """Add records, [records, columns], each to its partition."""
        self._held.append((records, partitions))
        self._held_records += len(records)
        if self._held_records * (self._columns + 1) * 8 >= _BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is held back; needed before reading."""
        if self._held_records:
            records = np.concatenate([records for records, _ in self._held])
            partitions = np.concatenate([partitions for _, partitions in self._held])
            order = np.argsort(partitions, kind="stable")
            records, partitions = records[order], partitions[order]
            for rows in np.split(records, np.flatnonzero(np.diff(partitions)) + 1):
                number, partitions = partitions[0], partitions[len(rows) :]
                with self._paths[number].open("ab") as file:
                    file.write(np.ascontiguousarray(rows, "<u8").tobytes())
        self._held, self._held_records = [], 0

    def bytes_of(self, partition: int) -> int:
        """Return the size of a partition."""
        path = self._paths[partition]
        return path.stat().st_size if path.exists() else 0

    def blocks(self, partition: int, most_bytes: int) -> Iterator[Records]:
        """Yield the records of a partition, as many at a time as are in so many bytes."""
        if not self._paths[partition].exists():
            return
        records = max(1, most_bytes // (8 * self._columns))
        with self._paths[partition].open("rb") as file:
            while len(block := np.fromfile(file, "<u8", records * self._columns)):
                yield block.reshape(-1, self._columns).astype(np.uint64, copy=False)

    def remove(self, partition: int) -> None:
        """Delete a partition."""
        self._paths[partition].unlink(missing_ok=True)

    def matches(self, partition: int, *, keys: int, most: int, at_once: int) -> Iterator[tuple[Records, Records]]:
        """Yield pairs of an earlier and a later record that are equal in their first columns.

        Each record is paired with the first ``most`` of those before it; ``crowded`` counts those that had more before
        them. However large a partition has become because one key repeats, memory is a few times ``at_once``: of the
        records already read only those that may be met again stay, and of each key only the first ones.

        Args:
            partition: which.
            keys: how many columns must be equal.
            most: earlier records that one is paired with.
            at_once: bytes read at a time.
        """
        held = np.zeros((0, self._columns), np.uint64)
        repeated = self._repeated(partition, at_once)
        for block in self.blocks(partition, at_once):
            records = np.concatenate((held, block[repeated[_slot(block, len(repeated))]]))
            order = np.lexsort(records.T[keys - 1 :: -1])  # stable
            is_new = order >= len(held)
            records = records[order]
            ranks = _ranks(records[:, :keys])
            self.crowded += int((is_new & (ranks > most)).sum())
            for before in range(most):
                at = np.flatnonzero(is_new & (ranks > before))
                if not len(at):
                    break
                yield records[at - ranks[at] + before], records[at]
            held = records[ranks <= most]  # one more than needed, to know who is crowded

    def _repeated(self, partition: int, at_once: int) -> NDArray[np.bool_]:
        """Mark the slots, by the lower half of the first column, that more than one record falls into.

        Most keys are there once, and most of those are alone in their slot: they need not be sorted.
        """
        slots = 1 << max(10, (4 * at_once // (8 * self._columns)).bit_length() - 1)
        counts = np.zeros(slots, np.int64)
        for block in self.blocks(partition, at_once):
            counts += np.bincount(_slot(block, slots), minlength=slots)
        return counts > 1


def _slot(records: Records, slots: int) -> NDArray[np.int64]:
    return (records[:, 0] & np.uint64(slots - 1)).astype(np.int64)


def partition_of(hashes: NDArray[np.uint64], number: int) -> NDArray[np.int64]:
    """Return a partition for each 64-bit hash, by its upper half: equal shares."""
    return (((hashes >> np.uint64(32)) * np.uint64(number)) >> np.uint64(32)).astype(np.int64)


def _ranks(keys: Records) -> NDArray[np.int64]:
    """Return how many equal rows stand before each row of sorted rows."""
    places = np.arange(len(keys))
    differs = np.ones(len(keys), np.bool_)
    differs[1:] = (keys[1:] != keys[:-1]).any(axis=1)
    return places - np.maximum.accumulate(np.where(differs, places, 0))

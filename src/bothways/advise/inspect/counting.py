"""Counters of bounded size: what is counted may be any number of documents, and each class says how much it keeps."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from heapq import heappush, heappushpop
from typing import Any

SHARES = {"p5": 0.05, "median": 0.5, "p95": 0.95}
EXACT = 64  # numbers below this have bins of their own
_STEPS = 32  # bins of each doubling above: a quantile is at most 3 % too small


class Distribution:
    """How whole numbers are distributed: at most some 2,000 bins, whatever their number and size."""

    def __init__(self) -> None:
        self.count, self.total, self.smallest, self.largest = 0, 0, 0, 0
        self._bins: Counter[int] = Counter()

    def add(self, value: int, times: int = 1) -> None:
        """Count a number that is at least 0."""
        self.smallest = value if not self.count else min(self.smallest, value)
        self.largest = max(self.largest, value)
        self.count += times
        self.total += value * times
        shift = max(0, value.bit_length() - 6)
        self._bins[_STEPS * shift + (value >> shift)] += times

    def add_all(self, values: Iterable[int]) -> None:
        """Count several."""
        for value in values:
            self.add(value)

    @property
    def mean(self) -> float:
        """The mean; 0 of nothing."""
        return self.total / self.count if self.count else 0.0

    def quantile(self, share: float) -> int:
        """Return the number below which lies about that share of all; exact below 64, else up to 3 % too small."""
        passed = 0
        for index in sorted(self._bins):
            passed += self._bins[index]
            if passed >= share * self.count:
                return min(max(_low(index), self.smallest), self.largest)
        return 0

    def bars(self) -> list[tuple[int, int, int]]:
        """Return ``(from, up to but not including, count)`` of bars that widen: 0 1 2 3 4 6 8 12 16 24 …, none left out."""
        if not self.count:
            return []
        heights: Counter[int] = Counter()
        for index, number in self._bins.items():
            heights[_bar(_low(index))] += number
        found, start = [], _bar(self.smallest)
        while start <= _bar(self.largest):
            found.append((start, _after(start), heights[start]))
            start = _after(start)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        values: dict[str, Any] = {"count": self.count, "mean": round(self.mean, 2), "smallest": self.smallest}
        values |= {name: self.quantile(share) for name, share in SHARES.items()}
        return {**values, "largest": self.largest, "bars": [list(bar) for bar in self.bars()]}


def _low(index: int) -> int:
    """Return the smallest number of a bin."""
    if index < EXACT:
        return index
    shift = index // _STEPS - 1
    return (index - _STEPS * shift) << shift


def _bar(value: int) -> int:
    """Return where the bar of a number begins."""
    if value < 4:
        return value
    shift = value.bit_length() - 2
    return value >> shift << shift


def _after(start: int) -> int:
    """Return where the next bar begins."""
    return start + 1 if start < 4 else start + (1 << (start.bit_length() - 2))


class Frequent:
    """The commonest of any number of strings, by lossy counting: at most ``limit`` strings are kept.

    Where strings had to be dropped, a count may be too small by ``missed``, never too large.
    """

    def __init__(self, limit: int = 100_000) -> None:
        self.seen, self.missed = 0, 0
        self._limit = limit
        self._counts: Counter[str] = Counter()

    def add_all(self, strings: Sequence[str]) -> None:
        """Count strings."""
        self.seen += len(strings)
        self._counts.update(strings)
        if len(self._counts) > self._limit:
            self._drop()

    def _drop(self) -> None:
        """Drop the rarest half, the same ones on every machine: of equally rare ones those that came later."""
        kept = self._counts.most_common(self._limit // 2)
        self.missed += self._counts.most_common()[len(kept)][1]
        self._counts = Counter(dict(kept))

    @property
    def distinct(self) -> int | None:
        """How many different strings there are; None where some were dropped."""
        return None if self.missed else len(self._counts)

    @property
    def repeated(self) -> int:
        """How many strings had been seen before, at least."""
        return sum(number - 1 for number in self._counts.values())

    def top(self, count: int) -> list[tuple[str, int]]:
        """Return the commonest that were seen more than once, with how often, at least."""
        ranked = sorted(self._counts.most_common(count * 4), key=lambda found: (-found[1], found[0]))
        return [(string, number) for string, number in ranked[:count] if number > 1]


class Reservoir:
    """A fair sample of any number of items, the same for the same seed and items."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self.items: list[Any] = []
        self._size, self._seen = size, 0
        self._random = random.Random(seed)

    def add(self, item: Any) -> None:
        """Offer an item."""
        self._seen += 1
        if len(self.items) < self._size:
            self.items.append(item)
        elif (place := self._random.randrange(self._seen)) < self._size:
            self.items[place] = item


class Worst:
    """The few items with the largest values; of equal ones those that came first."""

    def __init__(self, size: int = 5) -> None:
        self._size, self._seen = size, 0
        self._heap: list[tuple[float, int, Any]] = []

    def wants(self, value: float) -> bool:
        """Whether an item of that value would be kept."""
        return len(self._heap) < self._size or value > self._heap[0][0]

    def add(self, value: float, item: Any) -> None:
        """Offer an item."""
        self._seen += 1
        entry = (value, -self._seen, item)  # no two are equal, so items are never compared
        if len(self._heap) < self._size:
            heappush(self._heap, entry)
        else:
            heappushpop(self._heap, entry)

    def items(self) -> list[tuple[float, Any]]:
        """Return value and item, the worst first."""
        return [(value, item) for value, _, item in sorted(self._heap, reverse=True)]

"""Finds boilerplate: lines that stand in many documents of a corpus (menus, notices, signatures of a site).

Two passes over the corpus in bounded memory. The first proposes candidates (Misra & Gries 1982, "Finding repeated
elements"; merged as in Agarwal et al. 2012, "Mergeable Summaries"), the second counts these exactly:

    proposed = merge_line_counts(propose_lines(texts) for each part)
    counts = merge_line_counts(count_lines(texts, proposed) for each part)
    boilerplate = boilerplate_lines(counts, min_documents)

The lines found do not depend on how the corpus was cut into parts or in which order these are merged, although the
proposals do: with ``capacity`` candidates, every line that stands in more than ``lines / (capacity + 1)`` documents is
proposed for certain, and ``boilerplate_lines`` returns none that stands in fewer.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from bothways.errors import UserError

CAPACITY = 200_000  # candidates; at 100 bytes each some 60 MB while they are merged

_SHORTEST = 20  # bytes of UTF-8, 7 Chinese characters: "Yes." and "CHAPTER I." are no boilerplate
_LONGEST = 200  # characters: a paragraph is no boilerplate


@dataclass(kw_only=True)
class LineCounts:
    """In how many documents lines stand: candidates with lower bounds (``exact`` false), or exact counts."""

    documents: int = 0
    lines: int = 0
    """Sum over the documents of the number of different lines of each; only lines that may be boilerplate."""
    counts: dict[str, int] = field(default_factory=dict)
    exact: bool = False
    capacity: int = CAPACITY

    def add(self, other: "LineCounts") -> None:
        """Add the counts of other documents."""
        assert (self.exact, self.capacity) == (other.exact, other.capacity)
        self.documents += other.documents
        self.lines += other.lines
        for line, count in other.counts.items():
            self.counts[line] = self.counts.get(line, 0) + count
        if not self.exact:
            self._prune(self.capacity)

    def count(self, text: str) -> None:
        """Count one more document while proposing."""
        lines = _lines(text)
        self.documents += 1
        self.lines += len(lines)
        for line in lines:
            self.counts[line] = self.counts.get(line, 0) + 1
            if len(self.counts) > 2 * self.capacity:
                self._prune(self.capacity)

    def _prune(self, size: int) -> None:
        """Lower all counts by the largest one that leaves at most ``size`` lines above zero.

        This takes at least ``size + 1`` times as much from the sum of all counts as from any one of them, so that no
        count is ever lowered by more than ``lines / (size + 1)`` in total.
        """
        if len(self.counts) <= size:
            return
        excess = sorted(self.counts.values(), reverse=True)[size]
        self.counts = {line: count - excess for line, count in self.counts.items() if count > excess}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "documents": self.documents,
            "lines": self.lines,
            "counts": dict(sorted(self.counts.items())),
            "exact": self.exact,
            "capacity": self.capacity,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "LineCounts":
        """Read what ``to_dict`` returned."""
        return cls(**values)


def propose_lines(texts: Iterable[str], *, capacity: int = CAPACITY) -> LineCounts:
    """First pass: return at most ``capacity`` candidates of one part of the corpus.

    Args:
        texts: cleaned documents (see ``Cleaner``), so that a line is spelled here as it will be when it is looked up.
        capacity: the same for all parts.
    """
    if capacity < 1:
        raise UserError(f"capacity is a number of lines of at least 1, not {capacity}")
    proposed = LineCounts(capacity=capacity)
    for text in texts:
        proposed.count(text)
    proposed._prune(capacity)
    return proposed


def count_lines(texts: Iterable[str], proposed: LineCounts) -> LineCounts:
    """Second pass: count the proposed lines exactly in one part of the corpus, the same documents as before."""
    candidates = proposed.counts.keys()
    result = LineCounts(exact=True, capacity=proposed.capacity)
    counts: Counter[str] = Counter()
    for text in texts:
        lines = _lines(text)
        result.documents += 1
        result.lines += len(lines)
        counts.update(lines & candidates)
    result.counts = dict(counts)
    return result


def merge_line_counts(parts: Iterable[LineCounts]) -> LineCounts:
    """Merge the counts of all parts, in any order; the first one is added to in place.

    Raises:
        UserError: there are no parts.
    """

    total: LineCounts | None = None
    for part in parts:
        if total is None:
            total = part
        else:
            total.add(part)
    if total is None:
        raise UserError("there are no parts whose lines could be merged; give at least one")
    return total


def boilerplate_lines(counts: LineCounts, min_documents: int) -> frozenset[str]:
    """Return the lines that stand in at least ``min_documents`` documents, and in enough to be found for certain.

    Args:
        counts: of the second pass, all parts merged.
        min_documents: at least 2; raised to ``certain_documents(counts)`` where that is more.
    """
    assert counts.exact, "the second pass is missing: count_lines"
    if min_documents < 2:
        raise UserError(f"min_documents must be at least 2, not {min_documents}: every line stands in one document")
    least = max(min_documents, certain_documents(counts))
    return frozenset(line for line, count in counts.counts.items() if count >= least)


def certain_documents(counts: LineCounts) -> int:
    """Return the number of documents from which on no line can be missed."""
    return counts.lines // (counts.capacity + 1) + 1


def _lines(text: str) -> set[str]:
    """Return the different lines of a document that may be boilerplate, without the white space around them."""
    return {
        line
        for line in map(str.strip, text.split("\n"))
        if len(line) <= _LONGEST and len(line.encode("utf-8", "surrogatepass")) >= _SHORTEST
    }

"""What the doctor warns of: each finding is one sentence with its numbers and, after the semicolon, the remedy."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "note"]
LEAST_SHOWN = 0.01  # per cent
LEVELS: tuple[Level, ...] = ("error", "warning", "note")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that should be known before training.

    An ``error`` will stop a later step or make its result worthless, a ``warning`` will cost quality, a ``note`` is
    worth knowing.
    """

    level: Level
    topic: str
    """What it is about, in a word or two."""
    fact: str
    """What was found, with its numbers."""
    remedy: str
    """What to do about it."""

    def __str__(self) -> str:
        return f"{self.fact}; {self.remedy}."

    def to_dict(self) -> dict[str, str]:
        """Return plain values."""
        return {"level": self.level, "topic": self.topic, "fact": self.fact, "remedy": self.remedy}


def error(topic: str, fact: str, remedy: str) -> Finding:
    """Return what will stop a later step."""
    return Finding(level="error", topic=topic, fact=fact, remedy=remedy)


def warning(topic: str, fact: str, remedy: str) -> Finding:
    """Return what will cost quality."""
    return Finding(level="warning", topic=topic, fact=fact, remedy=remedy)


def remark(topic: str, fact: str, remedy: str) -> Finding:
    """Return what is worth knowing."""
    return Finding(level="note", topic=topic, fact=fact, remedy=remedy)


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings by level, the gravest first, and else in the order in which they were made."""
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def counted(number: float, what: str) -> str:
    """Return a number and its noun: ``1 line``, ``2,000 lines``, ``3 copies``."""
    plural = what[:-1] + "ies" if what.endswith("y") else what + ("es" if what.endswith(("s", "x", "ch")) else "s")
    return f"{number:,.0f} {what if number == 1 else plural}"


def share(part: float, whole: float) -> str:
    """Return a share as a percentage: ``0.05 %``, ``12 %``."""
    per_cent = 100 * part / whole if whole else 0.0
    if 0 < per_cent < LEAST_SHOWN:
        return f"under {LEAST_SHOWN} %"
    return f"{per_cent:.0f} %" if per_cent >= 10 or not per_cent else f"{per_cent:.2g} %"

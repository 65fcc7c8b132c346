"""Progress without printing: long loops report here, and whoever owns the screen decides what is shown.

The library calls ``track`` and ``note``. They cost nothing until the command line, or a call such as ``fit`` that a
person waits for, wraps its work in ``display()``: a live bar on a terminal, a line now and then without one, always on
stderr.
"""

import math
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

Item = TypeVar("Item")
SEPARATOR = " · "  # between the parts of a detail, where a line may end


class Reporter(Protocol):
    """What a screen must offer."""

    def begin(self, description: str, total: float | None) -> int:
        """Open a bar and return its key."""

    def advance(self, key: int, amount: float, detail: str, value: float | None = None) -> None:
        """Move a bar on; ``detail`` is short free text (loss, rate), ``value`` the next point of a little curve."""

    def end(self, key: int) -> None:
        """Close a bar."""

    def note(self, text: str) -> None:
        """Show one line that stays."""


_reporter: ContextVar[Reporter | None] = ContextVar("reporter", default=None)


def note(text: str) -> None:
    """Show one line that stays on the screen, if there is one."""
    if reporter := _reporter.get():
        reporter.note(text)


class Bar:
    """One bar; ``advance`` moves it. Does nothing when nobody watches."""

    def __init__(self, description: str, total: float | None) -> None:
        self._reporter = _reporter.get()
        self._key = self._reporter.begin(description, total) if self._reporter else 0

    def advance(self, amount: float = 1, detail: str = "", value: float | None = None) -> None:
        """Move on by an amount.

        Args:
            amount: how far.
            detail: replaces the short text under the bar, if given; lines end between parts that `` · `` separates.
            value: the next point of the little curve beside the bar, such as a loss.
        """
        if self._reporter:
            self._reporter.advance(self._key, amount, detail, *(() if value is None else (value,)))

    def end(self) -> None:
        """Take the bar off the screen."""
        if self._reporter:
            self._reporter.end(self._key)


@contextmanager
def bar(description: str, total: float | None = None) -> Iterator[Bar]:
    """Open a bar for the length of a ``with`` block."""
    opened = Bar(description, total)
    try:
        yield opened
    finally:
        opened.end()


def track(items: Iterable[Item], description: str, total: float | None = None) -> Iterator[Item]:
    """Pass ``items`` through and move a bar on by one for each."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with bar(description, total) as opened:
        for item in items:
            yield item
            opened.advance()


def speaks() -> bool:
    """Return whether this process talks to the user: of those that torchrun has started together, only the first does."""
    return os.environ.get("RANK", "0") == "0" or os.environ.get("WORLD_SIZE", "1") == "1"


@contextmanager
def display(enabled: bool = True) -> Iterator[None]:
    """Show progress on stderr for the length of a ``with`` block; inside another ``display`` it adds nothing."""
    if not enabled or _reporter.get() is not None:
        yield
        return
    reporter: _Terminal | _Lines = _Terminal() if sys.stderr.isatty() else _Lines()
    token = _reporter.set(reporter)
    try:
        with reporter:
            yield
    finally:
        _reporter.reset(token)


def sparkline(values: Sequence[float], width: int) -> str:
    """Return a curve of at most ``width`` characters, the lowest value at the bottom; what is not finite is a gap.

    >>> sparkline([8, 6, 4, 3, 2, 1], 6)
    '█▆▄▃▂▁'
    """
    if width < 1 or not values:
        return ""
    size = max(1.0, len(values) / width)  # values of one character
    starts = [round(at * size) for at in range(min(width, len(values)) + 1)]
    means = [_mean(values[start:end]) for start, end in pairwise(starts)]
    finite = [mean for mean in means if math.isfinite(mean)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    return "".join(
        _LEVELS[round((mean - low) / (high - low) * 7) if high > low else 0] if math.isfinite(mean) else " "
        for mean in means
    )


_LEVELS = "▁▂▃▄▅▆▇█"


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


@dataclass
class _State:
    """Where a bar stands."""

    description: str
    total: float | None
    done: float = 0.0
    detail: str = ""
    values: list[float] = field(default_factory=list)  # of the curve, each of ``stride`` that were reported
    waiting: list[float] = field(default_factory=list)  # for the next of these
    stride: int = 1
    times: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=100))  # when, done

    MOST_VALUES = 512

    def advance(self, amount: float, detail: str, value: float | None) -> None:
        self.done += amount
        self.detail = detail or self.detail
        # From after the first step on: a run that goes on jumps to where it stood, and the first step is slow.
        self.times.append((time.monotonic(), self.done))
        if value is not None:
            self._add(value)

    def _add(self, value: float) -> None:
        """Add a point to the curve; of many, each is the mean of as many values as every other."""
        self.waiting.append(value)
        if len(self.waiting) == self.stride:
            self.values.append(_mean(self.waiting))
            self.waiting = []
        if len(self.values) == self.MOST_VALUES:
            self.values = [_mean(self.values[at : at + 2]) for at in range(0, len(self.values), 2)]
            self.stride *= 2

    def left(self) -> float | None:
        """Return the seconds that are left, at the speed of the last steps; None: it cannot be told."""
        if not self.total or len(self.times) < 2:
            return None
        (start, first), (now, last) = self.times[0], self.times[-1]
        return (self.total - self.done) * (now - start) / (last - first) if last > first else None


def _duration(seconds: float) -> str:
    """Return ``2 d 03:04:05`` or ``3:04:05`` or ``4:05``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour:02}:{minute:02}:{second:02}"
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def _counted(state: _State) -> str:
    return f"{state.done:,.0f}/{state.total:,.0f}" if state.total else f"{state.done:,.0f}"


class _Terminal:
    """Live bars by rich: a line for where it stands, and one or two for how it goes."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True, width=None if os.environ.get("COLUMNS") != "0" else 80)
        self._bars: dict[int, _State] = {}
        self._next_key = 0
        self._live = Live(_Bars(self._bars), console=console, transient=True, refresh_per_second=10)

    def __enter__(self) -> None:
        self._live.start()

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def begin(self, description: str, total: float | None) -> int:
        self._next_key += 1
        self._bars[self._next_key] = _State(description, total)
        return self._next_key

    def advance(self, key: int, amount: float, detail: str, value: float | None = None) -> None:
        self._bars[key].advance(amount, detail, value)

    def end(self, key: int) -> None:
        self._bars.pop(key, None)

    def note(self, text: str) -> None:
        self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Bars:
    """All bars as rich draws them, as wide as the terminal is at that moment."""

    MOST_DETAIL_LINES = 2

    def __init__(self, bars: dict[int, _State]) -> None:
        self._bars = bars

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        width = options.max_width - 1  # a full line makes some terminals begin another
        for state in list(self._bars.values()):  # the thread that draws is not the one that counts
            yield from _draw(state, width, self.MOST_DETAIL_LINES)


def _draw(state: _State, width: int, detail_lines: int) -> "Iterator[RenderableType]":
    """Yield the lines of a bar: what is least needed goes first where it is narrow (curve, then bar, then words)."""
    from rich.columns import Columns
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    left = state.left()
    words = f"{_counted(state)}{f' {_duration(left)} left' if left is not None else ''}"
    if len(state.description) + 1 + len(words) > width:
        words = _counted(state)
    room = width - len(state.description) - len(words) - 2
    bar_width = min(24, room)
    parts: list[RenderableType] = [Text(state.description)]  # Text: "[MASK]" is no colour
    if bar_width >= 4:
        parts.append(ProgressBar(total=state.total, completed=state.done, width=bar_width, pulse=not state.total))
    parts.append(Text(words, style="green"))
    curve = sparkline(state.values, min(24, room - bar_width - 1)) if room - bar_width > 5 else ""
    if len(state.values) > 1 and curve:
        parts.append(Text(curve, style="cyan"))
    yield Columns(parts, padding=(0, 1), expand=False) if room >= 0 else _cut(f"{state.description} {words}", width)
    for line in _lines(state.detail, width - 2)[:detail_lines]:
        yield _cut("  " + line, width, style="bright_black")


def _cut(line: str, width: int, style: str = "") -> "RenderableType":
    from rich.text import Text

    text = Text(line, no_wrap=True, style=style)
    text.truncate(width, overflow="ellipsis")
    return text


def _lines(detail: str, width: int) -> list[str]:
    """Return a detail on lines that end between its parts."""
    lines: list[str] = []
    for part in detail.split(SEPARATOR) if detail else ():
        if lines and len(lines[-1]) + len(SEPARATOR) + len(part) <= width:
            lines[-1] += SEPARATOR + part
        else:
            lines.append(part)
    return lines


class _Lines:
    """Without a terminal: a line when a bar has moved and some seconds have passed."""

    SECONDS = 10.0

    def __init__(self) -> None:
        self._bars: dict[int, _State] = {}
        self._next_key = 0
        self._last = time.monotonic()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self, description: str, total: float | None) -> int:
        self._next_key += 1
        self._bars[self._next_key] = _State(description, total)
        return self._next_key

    def advance(self, key: int, amount: float, detail: str, value: float | None = None) -> None:
        state = self._bars[key]
        state.advance(amount, detail, value)
        if time.monotonic() - self._last >= self.SECONDS:
            self._last = time.monotonic()
            of = f" of {state.total:,.0f}" if state.total else ""
            left = state.left() or 0.0
            remains = f" ({_duration(left)} left)" if left >= 60 else ""
            self.note(f"{state.description}: {state.done:,.0f}{of}{remains} {state.detail}".rstrip())

    def end(self, key: int) -> None:
        del self._bars[key]

    def note(self, text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

"""Progress without printing: long loops report here, and whoever owns the screen decides what is shown.

The library calls ``track`` and ``note``. They cost nothing until the command line, or a call such as ``fit`` that a
person waits for, wraps its work in ``display()``: a live bar on a terminal, a line now and then without one, always on
stderr.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Reporter(Protocol):
    """What a screen must offer."""

    def begin(self, description: str, total: float | None) -> int:
        """Open a bar and return its key."""

    def advance(self, key: int, amount: float, detail: str) -> None:
        """Move a bar on; ``detail`` is short free text (loss, rate, time left)."""

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

    def advance(self, amount: float = 1, detail: str = "") -> None:
        """Move on by an amount; ``detail`` replaces the short text beside the bar, if given."""
        if self._reporter:
            self._reporter.advance(self._key, amount, detail)

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


class _Terminal:
    """Live bars by rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),  # "[MASK]" is text here, not a colour
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=Console(stderr=True, width=None if os.environ.get("COLUMNS") != "0" else 80),
            transient=True,
        )

    def __enter__(self) -> None:
        self._progress.start()

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, description: str, total: float | None) -> int:
        return self._progress.add_task(description, total=total, detail="")

    def advance(self, key: int, amount: float, detail: str) -> None:
        from rich.progress import TaskID

        self._progress.advance(TaskID(key), amount)
        if detail:
            self._progress.update(TaskID(key), detail=detail)

    def end(self, key: int) -> None:
        from rich.progress import TaskID

        self._progress.remove_task(TaskID(key))

    def note(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Lines:
    """Without a terminal: a line when a bar has moved and some seconds have passed."""

    SECONDS = 10.0

    def __init__(self) -> None:
        self._bars: dict[int, tuple[str, float | None, float]] = {}
        self._next_key = 0
        self._last = time.monotonic()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self, description: str, total: float | None) -> int:
        self._next_key += 1
        self._bars[self._next_key] = (description, total, 0.0)
        return self._next_key

    def advance(self, key: int, amount: float, detail: str) -> None:
        description, total, done = self._bars[key]
        done += amount
        self._bars[key] = (description, total, done)
        if time.monotonic() - self._last >= self.SECONDS:
            self._last = time.monotonic()
            self.note(f"{description}: {done:,.0f}{f' of {total:,.0f}' if total else ''} {detail}".rstrip())

    def end(self, key: int) -> None:
        del self._bars[key]

    def note(self, text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

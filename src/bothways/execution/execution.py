"""The one call that maps a function over work items, whatever runs it: this process, local processes, a cluster.

An engine is a module of this folder with ``run(function, items, *, workers)`` and ``cores()``. ``run`` owes to whoever calls:

- results in the order of the items, whichever is done first;
- patience: no more than twice as many items are taken from ``items`` as there are workers, beyond those answered;
- the failure that comes first in the order of the items, as itself, once the results before it have been given;
- nothing left running when the iterator has ended, failed or been closed.

What the function owes: it is found by name in a module (or is a ``functools.partial`` of such a function), items and
results are small plain values, large data goes through files in a folder that all workers see, and a file is written under
another name and renamed when it is whole: a worker may be killed at any point, and a cluster runs its item again elsewhere.
"""

from collections.abc import Callable, Iterable, Iterator, Sized
from types import ModuleType
from typing import TypeVar

from bothways import discover
from bothways.errors import BothwaysError, UserError, unknown
from bothways.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")


class LostWorkerError(BothwaysError):
    """A worker process came to an end in the middle of an item: killed, out of memory or crashed."""


def map_items(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    engine: str = "local",
    describe: str,
) -> Iterator[Result]:
    """Return an iterator of ``function(item)`` for each item, in the order of the items.

    Nothing runs before the first result is asked for. What the function reports to ``bothways.progress`` is seen only where
    it runs in this process.

    Args:
        function: what to do with an item; see the top of this module for what it must keep to.
        items: small plain values; an iterator is taken from as results are given, never exhausted ahead.
        workers: how many items are worked on at once. With 1 the local engine runs in this process.
        engine: the name of a module of this folder, such as ``"local"``.
        describe: what the progress bar says; it moves by one for each item.

    Raises:
        UserError: there is no such engine, or ``workers`` is below 1. The iterator raises what ``function`` raises and, too:
        UserError: workers cannot find the function, the engine's library is not installed, or there is no cluster.
        LostWorkerError: a worker was killed or crashed.
    """
    if workers < 1:
        raise UserError(f"the number of workers must be 1 or more, not {workers}")
    run = find(engine).run
    total = len(items) if isinstance(items, Sized) else None
    return track(run(function, items, workers=workers), describe, total)


def engines() -> tuple[str, ...]:
    """Return the names of the engines."""
    return tuple(name for name in discover.names("execution") if name != "execution")


def find(engine: str) -> ModuleType:
    """Return the engine of that name.

    Raises:
        UserError: there is none; the message lists those there are.
    """
    if engine not in engines():
        raise unknown("engine", engine, engines())
    return discover.module(f"execution.{engine}")


def default_workers(engine: str = "local") -> int:
    """Return how many items an engine can work on at once: the cores that this process, or all of a cluster, may use."""
    cores: int = find(engine).cores()
    return cores


def shown(item: object) -> str:
    """Return an item for a message, cut to a length that can be read."""
    text = repr(item)
    return text if len(text) <= 200 else f"{text[:200]}…"

"""Calls to somewhere else, a thread for each worker, and their results in order."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


def in_order(
    call: Callable[[Any], Any], items: Iterable[Any], *, workers: int, stop: Callable[[], None]
) -> Iterator[Any]:
    """Yield ``call(item)`` for each item as ``bothways.execution.execution`` promises it.

    Args:
        call: blocks until another process has done an item; called by up to ``workers`` threads at once.
        items: taken from only as results are given.
        workers: how many calls run at once.
        stop: makes the calls that are still running return or raise soon, however they do, and those that begin from then
            on raise; called once, at the end.
    """
    source = iter(items)
    of_source: Exception | None = None
    in_flight: deque[Future[Any]] = deque()
    with _Calls(call, workers, stop) as calls:
        while not calls.failed:
            try:
                item = next(source)
            except StopIteration:
                break
            except Exception as error:  # it comes after the results and failures of the items before it
                of_source = error
                break
            in_flight.append(calls.submit(item))
            while in_flight and (in_flight[0].done() or len(in_flight) >= 2 * workers):
                yield in_flight.popleft().result()
        while in_flight:
            yield in_flight.popleft().result()
        if of_source:
            raise of_source


class _Calls:
    """Threads that make the calls, until the first of them fails or the ``with`` block is left."""

    def __init__(self, call: Callable[[Any], Any], workers: int, stop: Callable[[], None]) -> None:
        self._call = call
        self._stop = stop
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="bothways-worker")
        self._lock = threading.Lock()
        self._submitted = 0
        self._first_failure: float = float("inf")  # number of an item

    def __enter__(self) -> "_Calls":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._threads.shutdown(cancel_futures=True)

    @property
    def failed(self) -> bool:
        """Whether an item has failed, so that those after it need not be done."""
        return self._first_failure < float("inf")

    def submit(self, item: Any) -> Future[Any]:
        """Let the next free thread see to an item."""
        self._submitted += 1
        return self._threads.submit(self._run, self._submitted, item)

    def _run(self, number: int, item: Any) -> Any:
        if number > self._first_failure:
            return None  # nobody will ask: the failure before it ends the iteration
        try:
            return self._call(item)
        except BaseException:  # noted here, and raised
            with self._lock:
                self._first_failure = min(self._first_failure, number)
            raise

"""A Ray cluster that is already running: this machine's, or the one that ``RAY_ADDRESS`` names.

Every node needs the same bothways and sees the same folders under the same paths. Ray runs an item again, up to three times,
when the worker or the node that it was on is lost.
"""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

from bothways.errors import UserError
from bothways.execution import _worker
from bothways.execution._ordering import in_order
from bothways.execution.execution import LostWorkerError, shown

RETRIES = 3  # of an item whose worker was lost; an error that the function raises is never retried


def run(function: Callable[[Any], Any], items: Iterable[Any], *, workers: int) -> Iterator[Any]:
    """Yield the results in order; each item is a Ray task that takes one core.

    Raises:
        UserError: Ray is not installed, or no cluster is running.
        LostWorkerError: the cluster gave an item up.
    """
    _worker.require_importable(function)
    tasks = _Tasks(_connected(), function)
    yield from in_order(tasks.call, items, workers=workers, stop=tasks.cancel)


def cores() -> int:
    """Return how many cores the cluster has now."""
    return max(1, int(_connected().cluster_resources().get("CPU", 1)))


def _connected() -> ModuleType:
    """Return the library, connected to the cluster; it stays connected, as its workers stay warm, until this process ends."""
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # seconds, not minutes, until Ray says that nobody answers
    try:
        import ray
    except ModuleNotFoundError:
        raise UserError("the engine 'ray' needs Ray; install it with: pip install 'bothways[cluster]'") from None
    if ray.is_initialized():
        return ray
    of_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address="auto", logging_level=logging.ERROR, log_to_driver=False)
    except ConnectionError:
        named = os.environ.get("RAY_ADDRESS")
        where = f"at RAY_ADDRESS, which is {named!r}" if named else "on this machine, and RAY_ADDRESS names no other"
        raise UserError(
            f"no Ray cluster answers {where}; start one with `ray start --head`, or use the engine 'local'"
        ) from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, of_sigterm)  # ray.init put its own there, which exits with another code
    return ray


class _Tasks:
    """Items as Ray tasks."""

    def __init__(self, ray: ModuleType, function: Callable[[Any], Any]) -> None:
        self._ray = ray
        self._function = function
        self._folder = os.getcwd()
        self._answer = ray.remote(_worker.answer_in).options(
            num_cpus=1, max_retries=RETRIES, runtime_env={"env_vars": _worker.ENVIRONMENT}
        )
        self._running: set[Any] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def call(self, item: Any) -> Any:
        """Let the cluster do an item."""
        request = _worker.request(self._function, item)
        with self._lock:
            if self._stopped:
                raise LostWorkerError("the work was stopped")
            task = self._answer.remote(self._folder, request)
            self._running.add(task)
        try:
            answer = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            why = str(error).strip().partition("\n")[0]
            raise LostWorkerError(f"the cluster gave up on {shown(item)}: {why}") from error
        finally:
            self._running.discard(task)
        return _worker.result(answer)

    def cancel(self) -> None:
        """Kill the workers of the tasks that are still running and begin no more."""
        with self._lock:
            self._stopped = True
            for task in list(self._running):
                self._ray.cancel(task, force=True)

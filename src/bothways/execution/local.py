"""Processes of this machine (Linux or macOS)."""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from bothways.execution import _worker
from bothways.execution._ordering import in_order
from bothways.execution.execution import LostWorkerError, shown


def run(function: Callable[[Any], Any], items: Iterable[Any], *, workers: int) -> Iterator[Any]:
    """Yield the results in order; with one worker, all of it happens in this process."""
    if workers == 1:
        yield from map(function, items)
        return
    _worker.require_importable(function)
    processes = _Processes(function)
    try:
        yield from in_order(processes.call, items, workers=workers, stop=processes.kill)
    finally:
        processes.close()


def cores() -> int:
    """Return how many cores this process may use: its affinity, and the quota of its container, rounded down."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        count = os.cpu_count() or 1
    return max(1, min(count, int(_quota())))


def _quota(root: Path = Path("/sys/fs/cgroup")) -> float:
    """Return how many cores the control group of a container grants; a very large number where none is set."""
    for names in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):  # version 2, version 1
        try:
            quota, period = " ".join((root / name).read_text(encoding="ascii") for name in names).split()
            if float(quota) > 0:
                return float(quota) / float(period)
        except (OSError, ValueError):  # no such file; "max": no limit
            continue
    return sys.maxsize


class _Processes:
    """Worker processes: as many as there are calls at once, each started when it is first needed."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function
        self._started: list[_Process] = []
        self._idle: deque[_Process] = deque()
        self._lock = threading.Lock()
        self._stopped = False

    def call(self, item: Any) -> Any:
        """Let a free process do an item."""
        process = self._free()
        answer = process.ask(_worker.request(self._function, item), item)
        self._idle.append(process)
        return _worker.result(answer)

    def _free(self) -> "_Process":
        with suppress(IndexError):
            return self._idle.pop()
        with self._lock:
            if self._stopped:
                raise LostWorkerError("the work was stopped")
            self._started.append(_Process())
            return self._started[-1]

    def kill(self) -> None:
        """Kill all processes and start no more."""
        with self._lock:
            self._stopped = True
            for process in self._started:
                process.kill()

    def close(self) -> None:
        """Wait for the end of killed processes and let go of their pipes."""
        for process in self._started:
            process.close()


class _Process:
    """One worker process, seen from here."""

    def __init__(self) -> None:
        # In a process group of its own Ctrl-C does not reach it: this process kills it, or its stdin ends with this process.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _worker.COMMAND, *map(str, sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **_worker.ENVIRONMENT},
            process_group=0,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._requests, self._answers = self._process.stdin, self._process.stdout

    def ask(self, request: bytes, item: Any) -> bytes:
        """Return the answer to a request; ``item`` is for the message, should there be none."""
        try:
            _worker.write(self._requests, request)
            return _worker.read(self._answers)
        except (EOFError, ConnectionError):  # BrokenPipeError is one
            raise LostWorkerError(self._last_words(item)) from None

    def _last_words(self, item: Any) -> str:
        """Say what became of a process that does not answer any more."""
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return (
                f"a worker process was killed while it worked on {shown(item)}, most likely because the machine ran out of "
                "memory; try again with fewer workers"
            )
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return f"a worker process ended {how} while it worked on {shown(item)}; try again with one worker to see more"

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Wait for the end of the process and let go of its pipes."""
        self._process.kill()  # again, in case that a second Ctrl-C came before the first kill
        self._process.wait()
        for stream in (self._requests, self._answers):
            with suppress(OSError):  # what was not written any more
                stream.close()

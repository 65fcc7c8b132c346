"""Whether the machine is quiet, and what it can do."""

import os
import resource
import time
from pathlib import Path


def busy_seconds() -> float:
    """Return the seconds of all cores that were not idle since the machine started; 0 where that is not told."""
    try:
        values = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except OSError:
        return 0.0
    return (sum(values) - values[3] - values[4]) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    """Return the processor seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def others(watch_seconds: float = 3.0) -> float:
    """Return how many cores others keep busy at the moment."""
    before, own = busy_seconds(), own_seconds()
    time.sleep(watch_seconds)
    return max(0.0, busy_seconds() - before - (own_seconds() - own)) / watch_seconds


class Watch:
    """Measures how many cores others kept busy while something ran: ``with Watch() as watch``, then ``watch.others``."""

    def __enter__(self) -> "Watch":
        self._busy, self._own, self._start = busy_seconds(), own_seconds(), time.perf_counter()
        self.others = 0.0
        return self

    def __exit__(self, *_: object) -> None:
        busy, own = busy_seconds() - self._busy, own_seconds() - self._own
        self.others = max(0.0, busy - own) / max(1e-9, time.perf_counter() - self._start)

"""Ctrl-C and SIGTERM: finish the step, save, leave. The same signal again leaves at once, except while saving.

Under torchrun that is so of Ctrl-C alone.
"""

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from bothways.errors import BothwaysError
from bothways.progress import note

LISTENED = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BothwaysError):
    """Training was asked to stop, and has saved what it had."""

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class StopRequest:
    """Whether a signal has come, and which was the first."""

    def __init__(self, *, listening: bool = True) -> None:
        self.signal_number = 0
        self._listening, self._saving = listening, False

    def __bool__(self) -> bool:
        return self.signal_number != 0

    def hear(self, number: int, _: FrameType | None) -> None:
        """Note a signal; outside of saving, the next of its kind is left to the system, which ends the process.

        A torchrun that is sent SIGTERM passes it on to processes that may have been sent it as well: that is once, not twice.
        """
        self.signal_number = self.signal_number or number
        if number == signal.SIGTERM and "TORCHELASTIC_RUN_ID" in os.environ:
            _say("Leaving after this step")
        elif self._saving:
            _say("Saving; leaving when that is done")
        else:
            signal.signal(number, signal.SIG_DFL)
            _say("Leaving after this step; the same signal again leaves at once, and loses the step")

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Only note every signal for the length of a ``with`` block."""
        self._saving = True
        before = {number: signal.signal(number, self.hear) for number in LISTENED} if self._listening else {}
        try:
            yield
        finally:
            self._saving = False
            for number, handler in before.items():
                signal.signal(number, handler)


def _say(text: str) -> None:
    with suppress(RuntimeError):  # the signal came in the middle of another line, which cannot be interrupted
        note(text)


@contextmanager
def listen() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a request that the loop asks for; outside the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield StopRequest(listening=False)
        return
    request = StopRequest()
    before = {number: signal.signal(number, request.hear) for number in LISTENED}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_wait(*numbers: int) -> Iterator[None]:
    """Let signals wait for the length of a ``with`` block, here and, for good, in processes that are started meanwhile.

    SIGTERM goes from a scheduler to every process of a job, and Ctrl-C from a terminal: to compilers, too, for which torch
    would then wait without end, or which would have failed.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows, where nothing sends them so
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class JointStop(StopRequest):
    """A request to stop that several processes follow at the same step, though only one may have heard it."""

    def __init__(self, own: StopRequest) -> None:
        super().__init__(listening=False)
        self._own = own

    @property
    def heard(self) -> int:
        """The signal that this very process has heard; 0: none."""
        return self._own.signal_number

    def decide(self, heard: Iterable[float]) -> None:
        """Stop if any process has heard a signal, by the first one's; all processes must be given the same.

        Args:
            heard: by each process.
        """
        self.signal_number = self.signal_number or next((int(number) for number in heard if number), 0)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Only note every signal for the length of a ``with`` block."""
        with self._own.saving():
            yield

"""What a worker does: it answers a request ``(function, item)`` with the result or with the error that was raised.

A local worker is a Python process that takes requests on its stdin and gives answers on its stdout until stdin ends. It is
started by ``bothways.execution.local`` with a plain command rather than through ``multiprocessing``, which would run the
user's own script a second time in each worker, from the top, if the script forgot to guard against it. Both ends belong to
the same person, so values travel in the form that ``multiprocessing`` gives them.
"""

import os
import threading
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.reduction import ForkingPickler
from queue import SimpleQueue
from typing import IO, Any

from bothways.errors import BothwaysError, UserError

# What a new interpreter runs; its arguments are the paths on which the parent process finds modules.
COMMAND = "import sys; sys.path[:] = sys.argv[1:]; from bothways.execution._worker import serve; serve()"

# Each worker is one core's worth: libraries that would start threads of their own are held to one.
ENVIRONMENT = {
    "RAYON_NUM_THREADS": "1",
    "FASTOKENS_BPE_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


def require_importable(function: Callable[..., Any]) -> None:
    """Refuse a function that another process cannot find.

    Raises:
        UserError: it is a lambda, a function within a function, or lives in the script itself.
    """
    while isinstance(function, partial):
        function = function.func
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", repr(function))
    if module in (None, "__main__") or "<" in name:
        raise UserError(
            f"other processes cannot find {name} by its name; put it at the top level of a module of its own"
        )


def request(function: Callable[[Any], Any], item: Any) -> bytes:
    """Return what ``answer`` takes."""
    return bytes(ForkingPickler.dumps((function, item)))


def answer(request: bytes) -> bytes:
    """Do what a request asks for, in the worker, and return what ``result`` takes."""
    try:
        function, item = ForkingPickler.loads(request)
        return bytes(ForkingPickler.dumps((True, function(item))))
    except Exception as error:
        return _failure(error)


def answer_in(folder: str, request: bytes) -> bytes:
    """Do as ``answer`` does in a folder, so that relative paths mean what they mean to the process that asks."""
    try:
        os.chdir(folder)
    except OSError as error:
        return _failure(error)
    return answer(request)


def result(answer: bytes) -> Any:
    """Return the result that a worker sent, or raise the error that it sent."""
    succeeded, value = ForkingPickler.loads(answer)
    if succeeded:
        return value
    raise value


def _failure(error: Exception) -> bytes:
    """Return an answer that raises the error again, with the traceback as a note where it may be a bug of ours."""
    trace = f"It was raised in a worker process:\n{traceback.format_exc().rstrip()}"
    if not isinstance(error, BothwaysError):
        error.add_note(trace)
    try:
        data = bytes(ForkingPickler.dumps((False, error)))
        ForkingPickler.loads(data)  # some exceptions can be sent but not received
        return data
    except Exception:  # of the error itself, which its own code fails to carry over: its name and words go instead
        stand_in = RuntimeError(f"{type(error).__name__}: {error}")
        stand_in.add_note(trace)
        return bytes(ForkingPickler.dumps((False, stand_in)))


def write(stream: IO[bytes], data: bytes) -> None:
    """Write one message: its length in 8 bytes, then itself."""
    stream.write(len(data).to_bytes(8, "little"))
    stream.write(data)
    stream.flush()


def read(stream: IO[bytes]) -> bytes:
    """Read one message.

    Raises:
        EOFError: the other side has gone.
    """
    header = stream.read(8)
    data = stream.read(int.from_bytes(header, "little"))
    if len(header) < 8 or len(data) < int.from_bytes(header, "little"):
        raise EOFError
    return data


def serve() -> None:
    """Answer requests for as long as the parent process lives."""
    nothing = os.open(os.devnull, os.O_RDWR)  # first: where stderr is closed this takes its number
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # whatever the function prints must not get between the answers
    waiting: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests, waiting), daemon=True).start()
    while True:
        write(answers, answer(waiting.get()))


def _listen(requests: IO[bytes], waiting: SimpleQueue[bytes]) -> None:
    """Pass requests on, and end the process at once, whatever it is doing, when the parent process is gone."""
    try:
        while True:
            waiting.put(read(requests))
    finally:
        os._exit(1)

"""What the tests give to workers: functions of a module that other processes can import."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from bothways.errors import DamagedFileError, OutOfDiskError, UserError
from bothways.execution.execution import map_items

ERRORS = {error.__name__: error for error in (UserError, DamagedFileError, OutOfDiskError, ValueError, MemoryError)}


class OneWayError(Exception):
    """It can be sent but not received: its arguments are not those that it passes on."""

    def __init__(self, name, reason):
        super().__init__(f"{name}: {reason}")


def double(number):
    return number * 2


def later(item):
    seconds, value = item
    time.sleep(seconds)
    return value


def fail(item):
    """Sleep, then fail if the item says how."""
    seconds, error, message = item
    time.sleep(seconds)
    if error:
        raise ERRORS[error](message)
    return message


def fail_one_way(item):
    raise OneWayError(item, "no reason")


def unsendable(item):
    return threading.Lock() if item else item


def killed(item, *, folder):
    """Kill the own process by the signal that the item names, if any, the first time."""
    number, signal_number = item
    first = folder / f"{number}.first"
    if signal_number and not first.exists():
        first.touch()
        os.kill(os.getpid(), signal_number)
    return number


def killed_always(item):
    number, signal_number = item
    if signal_number:
        os.kill(os.getpid(), signal_number)
    return number


def leave(code):
    os._exit(code)


def mark(item, *, folder, seconds=0.0):
    """Leave a file named as the item that holds the process id, then take some time."""
    (folder / f"{item}.tmp").write_text(str(os.getpid()), encoding="utf-8")
    (folder / f"{item}.tmp").rename(folder / f"{item}.pid")
    time.sleep(seconds)
    return os.getpid()


def process_group(_):
    return os.getpgrp()


def surroundings(name):
    """Return an environment variable, after having misused both streams that the worker talks through."""
    sys.stdout.write("chatter on stdout\n")
    os.write(1, b"more chatter\n")
    assert sys.stdin.read() == ""
    return os.environ.get(name)


def nested(count):
    return list(map_items(double, range(count), workers=2, describe="inner"))


def shard(part, *, folder):
    """Do as a stage does: read a file, write another, return a few numbers."""
    text = Path(part).read_text(encoding="utf-8")
    target = folder / f"{Path(part).name}.bin"
    partial = target.with_suffix(f".{os.getpid()}.tmp")
    partial.write_bytes(text[::-1].encode("utf-8"))
    partial.replace(target)
    return {"part": Path(part).name, "characters": len(text), "share": len(text) / 7, "words": {"a": text.count("a")}}


def among_others(item):
    """Leave a mark and stay for a minute; ``quick`` and ``kill`` wait for marks and end their item or their process."""
    name, folder, marks = item
    if name != "quick":
        mark(name, folder=folder)
    while name in ("quick", "kill") and len(list(folder.glob("*.pid"))) < marks:
        time.sleep(0.01)
    if name == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if name != "quick":
        time.sleep(60)
    return name


def touch_and_wait(item):
    """Create a file, wait until another is there, and fail if the item says so."""
    mine, awaited, error = item
    if mine:
        Path(mine).touch()
    while awaited and not Path(awaited).exists():
        time.sleep(0.01)
    if error:
        raise ValueError(error)

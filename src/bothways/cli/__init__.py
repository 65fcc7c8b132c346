"""The command line: each verb is the Python call of the same name, its result on stdout, all else on stderr.

Exit codes: 0 done; 2 a user's mistake; 3 a damaged file; 4 training met non-finite values; 5 out of disk; 6 another process
of the same run was lost; 130 and 143 interrupted (Ctrl-C, SIGTERM); 141 whoever read the output has gone.
"""

import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from bothways import progress
from bothways.cli import elsewhere  # noqa: F401  (adds its verbs)
from bothways.cli.grammar import explain
from bothways.cli.verbs import command
from bothways.errors import BothwaysError, OutOfDiskError, UserError

NO_MEMORY = re.compile("can't allocate memory|out of memory")  # torch's words for it, on the CPU and on a GPU


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    A mistake becomes one sentence on stderr; only an error of ours, a bug, shows its traceback.

    Args:
        arguments: the words after ``bothways``; None: those of this process.
    """
    prepare_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words:
        sys.stderr.write(command.get_help(click.Context(command, info_name="bothways")) + "\n")
        return UserError.exit_code
    try:
        with sigterm_as_exit():
            with command.make_context("bothways", words) as context:
                command.invoke(context)
            sys.stdout.flush()
        return 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.UsageError as error:
        return fail(explain(error), UserError.exit_code) if progress.speaks() else UserError.exit_code
    except BothwaysError as error:
        return error.exit_code if error.told_elsewhere else fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return fail("interrupted", 128 + signal.SIGINT)
    except OSError as error:
        return fail_of_system(error)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not NO_MEMORY.search(str(error)):
            raise
        return fail("there is not enough memory for this; choose smaller sizes", UserError.exit_code)


def prepare_streams() -> None:
    """Make any text printable, whatever the locale, and closed streams harmless."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """Let SIGTERM end the process as Ctrl-C does, so that what is half-written is cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def fail(message: str, exit_code: int) -> int:
    """Say why on stderr and return the exit code."""
    sys.stderr.write(f"Error: {message}\n")
    return exit_code


def fail_of_system(error: OSError) -> int:
    """Return the exit code for what the system refused; raise what it should not have."""
    if isinstance(error, BrokenPipeError):
        # What is still in the buffer must not be tried again when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return fail(f"there is no room left on the disk to write {error.filename or 'to'}", OutOfDiskError.exit_code)
    raise error

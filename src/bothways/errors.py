"""The few ways in which bothways refuses: each error knows the exit code that the command line gives it.

A message is one clear sentence (two at most) that names the thing, the legal values and the remedy.
"""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

LONGEST = 4000  # characters of a message: it may quote a file that anybody has written
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and newline; a terminal would obey them


class BothwaysError(Exception):
    """Base of every error that bothways raises on purpose; its message is safe to print, whatever it quotes.

    Attributes:
        exit_code: of the command line.
        told_elsewhere: another process of the same run tells the user.
    """

    exit_code = 1
    told_elsewhere = False

    def __init__(self, *message: object) -> None:
        """Keep the message, with control characters spelt out and an endless middle cut."""
        super().__init__(*(_safe(part) if isinstance(part, str) else part for part in message))


class UserError(BothwaysError, ValueError):
    """A user's mistake: a bad file, flag, setting or request."""

    exit_code = 2


class UnwritableError(UserError):
    """A place does not let itself be written."""


class DamagedFileError(BothwaysError):
    """A stored file does not hold what its manifest promises."""

    exit_code = 3


class NonFiniteError(BothwaysError):
    """Training met an infinite or undefined loss or gradient and stopped before it reached the weights."""

    exit_code = 4


class OutOfDiskError(BothwaysError):
    """There is no room left to save; what was saved before is whole."""

    exit_code = 5


class PeerLostError(BothwaysError):
    """Another process of the run has ended, or does not answer."""

    exit_code = 6


def _safe(text: str) -> str:
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} […] {text[-LONGEST // 4 :]}"
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def shown(name: object, most: int = 100) -> str:
    """Return a name as a message quotes it: on one line, and cut where it is endless.

    >>> shown("a\\nb"), shown("a" * 200, most=3)
    ('a\\\\nb', 'aaa…')
    """
    text = str(name)
    text = text if len(text) <= most else f"{text[:most]}…"
    return text if text.isprintable() else repr(text)[1:-1]


def unknown(kind: str, name: object, legal: Iterable[str]) -> UserError:
    """Return (not raise) the error for a name that does not exist, listing the legal ones and the nearest.

    The last part of a dotted name is known alone, too.

    >>> str(unknown("task", "clasification", ["classification", "retrieval"]))
    "unknown task 'clasification'; legal: classification, retrieval. Did you mean 'classification'?"
    """
    names, asked = sorted(legal), shown(name)
    meant = " or ".join(repr(known) for known in _nearest(asked.lower(), names))
    hint = f" Did you mean {meant}?" if meant else ""
    return UserError(f"unknown {kind} {asked!r}; legal: {', '.join(names) or 'none'}.{hint}")


def _nearest(name: str, names: Sequence[str]) -> list[str]:
    """Return the names that were probably meant: those with this last part, else the one that is spelt most alike."""
    whole = {known: known.lower() for known in names}
    last = {known: text.rpartition(".")[2] for known, text in whole.items()}
    if same := [known for known, text in last.items() if text == name]:
        return same
    for texts in (whole, last):
        if near := get_close_matches(name, texts.values(), n=1):
            return [known for known, text in texts.items() if [text] == near]
    return []

"""The few ways in which bothways refuses: each error knows the exit code that the command line gives it.

A message is one clear sentence (two at most) that names the thing, the legal values and the remedy.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class BothwaysError(Exception):
    """Base of every error that bothways raises on purpose.

    Attributes:
        exit_code: of the command line.
        told_elsewhere: another process of the same run tells the user.
    """

    exit_code = 1
    told_elsewhere = False


class UserError(BothwaysError, ValueError):
    """A user's mistake: a bad file, flag, setting or request."""

    exit_code = 2


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


def unknown(kind: str, name: object, legal: Iterable[str]) -> UserError:
    """Return (not raise) the error for a name that does not exist, listing the legal ones and the nearest.

    The last part of a dotted name is known alone, too.

    >>> str(unknown("task", "clasification", ["classification", "retrieval"]))
    "unknown task 'clasification'; legal: classification, retrieval. Did you mean 'classification'?"
    """
    names = sorted(legal)
    meant = " or ".join(repr(known) for known in _nearest(str(name).lower(), names))
    hint = f" Did you mean {meant}?" if meant else ""
    return UserError(f"unknown {kind} {str(name)!r}; legal: {', '.join(names) or 'none'}.{hint}")


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

"""How the disk and the Hugging Face Hub refuse, in words that both directions share."""

import errno
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FAILING = (errno.EIO, errno.EROFS)  # a disk that has errors, and one that the system made read-only because of them


def endpoint() -> str:
    """Return what the Hub is called in a sentence; a mirror with its address."""
    from huggingface_hub import constants

    mirror = constants.ENDPOINT.rstrip("/")
    return "the Hugging Face Hub" + ("" if mirror == "https://huggingface.co" else f" at {mirror}")


def in_one_line(error: Exception) -> str:
    """Return the message of a library on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def is_of_network(error: Exception) -> bool:
    """Whether a server could not be reached, or went away, or we are told to ask none."""
    from huggingface_hub import errors

    # What the library asks the network with has had other names; all its errors are below the first base of this one.
    return isinstance(error, (errors.HfHubHTTPError.__bases__[0], ConnectionError, TimeoutError))


def status(error: Any) -> str:
    """Return what the Hub's refusal by number means."""
    number = error.response.status_code
    if number == 429:
        return "answers that there were too many requests; wait, or get more by `hf auth login`"
    if number >= 500:
        return f"answers {number}, an error of its own; try again later"
    return f"answers {number}: {in_one_line(error)}"

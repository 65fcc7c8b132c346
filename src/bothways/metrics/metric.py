"""What every metric keeps to; the other files of this folder are one metric each, found by the file's name.

A metric is a pure function with the name of its module. It takes plain Python values (``predictions`` and
``references`` of equal length, or ``rankings`` and ``relevant``), gives a number or a named result, and refuses empty
or unequal input, since a number from nothing misleads. ``HIGHER_IS_BETTER`` beside it is True, False, or None where no
direction is better. Libraries that are slow to import are imported inside the function.
"""

from collections.abc import Sequence, Sized
from typing import Any

from bothways.errors import UserError


def check_items(name: str, items: Sized) -> None:
    """Refuse an empty collection, and a string where a list of items belongs.

    Raises:
        UserError: with ``name`` in the sentence.
    """
    if isinstance(items, str):
        raise UserError(f"{name} must be a list of items, not one string")
    if len(items) == 0:
        raise UserError(f"{name} is empty; there is nothing to score")


def check_pairs(predictions: Sequence[Any], references: Sequence[Any]) -> None:
    """Refuse predictions and references that cannot be paired one to one.

    Raises:
        UserError: either is empty or a single string, or their lengths differ.
    """
    check_items("predictions", predictions)
    check_items("references", references)
    if len(predictions) != len(references):
        raise UserError(
            f"each prediction needs one reference, but there are {len(predictions)} predictions "
            f"and {len(references)} references"
        )

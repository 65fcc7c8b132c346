"""Labels, as users have them: whole numbers, booleans or text, in a list, an array, a tensor or a column of a table."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bothways.errors import UserError

Label = bool | int | str

KINDS: dict[str, type[Label]] = {"bool": bool, "int": int, "str": str}
SHOWN = 10  # classes that a message lists


def read_labels(labels: Any) -> list[Label]:
    """Return labels as plain Python values, all of one type.

    Raises:
        UserError: there is none, one is missing or of another type, or they are not one for each text.
    """
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        raise UserError(f"labels must be a list with one label for each text, not {labels!r}")
    plain = [_plain(label, number) for number, label in enumerate(as_list(labels))]
    if not plain:
        raise UserError("there is not one label")
    kinds = {type(label): label for label in plain}
    if len(kinds) > 1:
        found = ", ".join(f"{label!r} ({kind.__name__})" for kind, label in kinds.items())
        raise UserError(f"labels must all be of one type, and there are {found}")
    return plain


def as_list(values: Any) -> list[Any]:
    """Return the items of a list, array, tensor, column or generator."""
    return list(values.tolist() if hasattr(values, "tolist") else values)


def is_missing(value: Any) -> bool:
    """Whether a value stands for none, as tables mark it: None, NaN, or pandas' NA."""
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and math.isnan(value))


def _plain(label: Any, number: int) -> Label:
    label = label.item() if hasattr(label, "item") and np.ndim(label) == 0 else label
    if isinstance(label, bool | int | str):
        return label
    if is_missing(label):
        raise UserError(f"labels[{number}] is missing ({label}); leave that example out or label it")
    if np.ndim(label):
        raise UserError(f"labels must be one for each text, and labels[{number}] is {label!r}")
    raise UserError(f"labels must be whole numbers, booleans or text, and labels[{number}] is {label!r}")


def two_or_more(labels: Sequence[Label]) -> tuple[Label, ...]:
    """Return the classes among labels, sorted.

    Raises:
        UserError: there is only one.
    """
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise UserError(f"all {len(labels)} labels are {classes[0]!r}; a classifier needs at least two classes")
    return tuple(classes)


def reading_of(labels: Sequence[Label], known: tuple[Label, ...] | None) -> tuple[Label, ...] | None:
    """Return known classes in the type of the labels, or None if a label is none of them.

    Whole numbers can stand for classes that have names: for names that are numbers, else for their positions from 0.
    """
    wanted = set(labels)
    kind = type(labels[0])
    return next((classes for classes in _readings(known or (), kind) if wanted <= set(classes)), None)


def _readings(known: tuple[Label, ...], kind: type) -> Iterator[tuple[Label, ...]]:
    if not known:
        return
    if type(known[0]) is kind:
        yield known
    elif kind is int and all(isinstance(label, str) and label.removeprefix("-").isdecimal() for label in known):
        yield tuple(map(int, known))
    elif kind is int:
        yield tuple(range(len(known)))


def positions(labels: Sequence[Label], classes: tuple[Label, ...]) -> NDArray[np.int64]:
    """Return the class of each label, as its position among the classes: [n].

    Raises:
        UserError: a label is none of them.
    """
    reading = reading_of(labels, classes)
    if reading is None:
        number, odd = next((n, label) for n, label in enumerate(labels) if not reading_of([label], classes))
        raise UserError(f"labels[{number}] is {odd!r}, which is no class of this model; its classes: {listed(classes)}")
    index = {label: position for position, label in enumerate(reading)}
    return np.array([index[label] for label in labels], dtype=np.int64)


def listed(classes: Sequence[Label]) -> str:
    """Return classes as a message shows them."""
    more = f" and {len(classes) - SHOWN} more" if len(classes) > SHOWN else ""
    return ", ".join(map(repr, classes[:SHOWN])) + more


def held_out(labels: Sequence[Label], share: float, seed: int, *, most: int | None = None) -> NDArray[np.bool_]:
    """Return which examples to hold out: of each class the same share, and of none the last one: [n].

    Args:
        labels: of the examples.
        share: of the examples.
        seed: the same one gives the same choice.
        most: of all classes together, about.
    """
    share = share if most is None else min(share, most / len(labels))
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), dtype=np.bool_)
    values = np.array([str(label) for label in labels])
    for label, count in sorted(Counter(values.tolist()).items()):
        index = rng.permutation(np.flatnonzero(values == label))
        chosen[index[: min(count - 1, round(share * count))]] = True
    return chosen

"""Confusion matrix: which class is taken for which."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from bothways.errors import UserError
from bothways.metrics.metric import check_pairs

HIGHER_IS_BETTER = None


@dataclass(frozen=True, kw_only=True)
class ConfusionMatrix:
    """Counts of (true class, predicted class).

    Attributes:
        labels: the classes, in the order of rows and columns.
        counts: ``counts[i][j]`` items of class ``labels[i]`` were predicted as ``labels[j]``.
    """

    labels: tuple[Any, ...]
    counts: tuple[tuple[int, ...], ...]


def confusion_matrix(
    predictions: Sequence[Hashable], references: Sequence[Hashable], *, labels: Sequence[Hashable] | None = None
) -> ConfusionMatrix:
    """Return the count of every pair of true and predicted class; rows are true, as in scikit-learn.

    Args:
        predictions: one label for each item.
        references: the true labels, in the same order.
        labels: the classes in the order wanted; by default all that occur, sorted.
    Raises:
        UserError: empty input, unequal lengths, or a label that ``labels`` lacks.
    """
    check_pairs(predictions, references)
    found = set(predictions) | set(references)
    order: list[Any] = sorted(found, key=_sort_key) if labels is None else list(labels)
    if missing := found.difference(order):
        raise UserError(f"labels lacks {', '.join(sorted(map(repr, missing)))}, which the data contain")
    pairs = Counter(zip(references, predictions, strict=True))
    return ConfusionMatrix(
        labels=tuple(order), counts=tuple(tuple(pairs[true, guess] for guess in order) for true in order)
    )


def _sort_key(label: Any) -> tuple[str, Any]:
    return (type(label).__name__, label)  # labels of one type in their own order, and no error if types are mixed

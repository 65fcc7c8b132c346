"""Accuracy: the share of predictions that equal their reference."""

from collections.abc import Hashable, Sequence

from bothways.metrics.metric import check_pairs

HIGHER_IS_BETTER = True


def accuracy(predictions: Sequence[Hashable], references: Sequence[Hashable]) -> float:
    """Return the share of predictions that equal their reference, from 0 to 1, as scikit-learn's ``accuracy_score``.

    Args:
        predictions: one label for each item.
        references: the true labels, in the same order.
    Raises:
        UserError: empty input or unequal lengths.
    """
    check_pairs(predictions, references)
    return sum(a == b for a, b in zip(predictions, references, strict=True)) / len(references)

"""Macro F1: the plain mean of the F1 of every class, so that a rare class counts as much as a frequent one."""

from collections.abc import Hashable, Sequence

from bothways.metrics.metric import check_pairs

HIGHER_IS_BETTER = True


def macro_f1(predictions: Sequence[Hashable], references: Sequence[Hashable]) -> float:
    """Return the mean over classes of F1 = 2·TP / (2·TP + FP + FN), from 0 to 1, by scikit-learn's ``f1_score``.

    The classes are all labels of either list; one that was predicted but never true, or the reverse, has F1 0.

    Args:
        predictions: one label for each item; all of one type.
        references: the true labels, in the same order.
    Raises:
        UserError: empty input or unequal lengths.
    """
    check_pairs(predictions, references)
    from sklearn.metrics import f1_score

    return float(f1_score(references, predictions, average="macro", zero_division=0))

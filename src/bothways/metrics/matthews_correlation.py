"""Matthews correlation: how far predictions and truth go together beyond chance, whatever the balance of classes."""

from collections.abc import Hashable, Sequence

from bothways.metrics.metric import check_pairs

HIGHER_IS_BETTER = True


def matthews_correlation(predictions: Sequence[Hashable], references: Sequence[Hashable]) -> float:
    """Return Matthews' (1975) correlation in Gorodkin's (2004) form for many classes, by scikit-learn.

    It lies between -1 and 1: 1 is perfect, 0 is what chance gives. It is also 0 where predictions or references hold
    one class only, since nothing can go together with what does not vary.

    Args:
        predictions: one label for each item; all of one type.
        references: the true labels, in the same order.
    Raises:
        UserError: empty input or unequal lengths.
    """
    check_pairs(predictions, references)
    if len({*predictions, *references}) == 1:
        return 0.0  # scikit-learn's answer too, but it warns of it
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(references, predictions))

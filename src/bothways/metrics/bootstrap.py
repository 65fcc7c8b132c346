"""Bootstrap: how far a score would move had other items of the same kind been drawn for the test."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bothways.errors import UserError
from bothways.metrics.metric import check_items

HIGHER_IS_BETTER = None


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A score with its confidence interval.

    Attributes:
        value: the score on the items themselves.
        low, high: the interval's ends.
    """

    value: float
    low: float
    high: float


def bootstrap(
    values: Sequence[Any],
    *,
    statistic: Callable[[Sequence[Any]], float] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return a score and its percentile bootstrap interval (Efron, 1979).

    As many items as there are get drawn with replacement, ``resamples`` times; the middle ``level`` of the scores of
    these draws is the interval. The items must be independent: one for each question or document, not for each token.
    Where all draws score 1, or all 0, they say nothing, and the interval is that of ``all_alike``.

    >>> pairs = list(zip(predictions, references))  # doctest: +SKIP
    >>> bootstrap(pairs, statistic=lambda drawn: macro_f1(*zip(*drawn)))  # doctest: +SKIP

    Args:
        values: the score of each item; with ``statistic``, anything that stands for an item.
        statistic: the score of a list of items, for metrics that are no mean over items; by default the mean.
        resamples: how often to draw.
        seed: of the draws; the same seed gives the same interval.
        level: the share of draws inside the interval.
    Raises:
        UserError: no values, one that is not finite, ``resamples`` below 1, or ``level`` outside 0 to 1.
    """
    check_items("values", values)
    if resamples < 1:
        raise UserError(f"resamples must be at least 1, not {resamples}")
    if not 0 < level < 1:
        raise UserError(f"level must lie between 0 and 1, such as 0.95, not {level}")
    import numpy as np

    generator = np.random.default_rng(seed)
    draws = (generator.integers(len(values), size=len(values)) for _ in range(resamples))
    if statistic is None:
        array = np.asarray(values, dtype=np.float64)
        if not np.isfinite(array).all():
            raise UserError("values must be finite numbers; an item without a score cannot enter a mean")
        value = float(array.mean())
        scores = [float(array[draw].mean()) for draw in draws]
    else:
        value = statistic(values)
        scores = [statistic([values[index] for index in draw]) for draw in draws]
    if value in (0.0, 1.0) and {*scores} == {value}:
        return all_alike(value, len(values), level=level)
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=float(low), high=float(high))


def all_alike(value: float, items: int, *, level: float = 0.95) -> Interval:
    """Return the interval of a share of which all items are right (1), or all wrong (0): that of Clopper and Pearson (1934).

    It ends at the share of right answers at which so many right ones in a row are as rare as half of what ``level`` leaves.
    It holds for any mean of scores between 0 and 1 as well, since such a mean is at least the share of the ones.

    >>> round(all_alike(1.0, 9).low, 3)
    0.664

    Args:
        value: 1.0 or 0.0.
        items: how many there are.
        level: of the interval, as in ``bootstrap``.
    """
    reach = float(((1 - level) / 2) ** (1 / items))
    return Interval(value=value, low=reach, high=1.0) if value else Interval(value=value, low=0.0, high=1 - reach)

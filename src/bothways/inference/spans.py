"""From how well each token begins or ends an answer to the answers themselves."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Found:
    """An answer among candidate tokens.

    Attributes:
        first, last: its candidates, by number.
        score: the logarithm of its probability: of its first token, times that of its last.
    """

    first: int
    last: int
    score: float


def best_spans(
    starts: NDArray[np.floating], ends: NDArray[np.floating], parts: NDArray[np.int64], *, longest: int, most: int = 20
) -> list[Found]:
    """Return the likeliest answers, best first, each of at most ``longest`` tokens and within one part.

    Args:
        starts: [n] log-probability of each candidate to be an answer's first token, the candidates of a part in order.
        ends: [n] the same of the last.
        parts: [n] which part of the passage a candidate lies in.
        longest: tokens of an answer.
        most: how many answers at most.
    """
    found = []
    reach = min(longest, len(starts))
    for first in np.argsort(-starts, kind="stable")[: max(most, 1)].tolist():
        stop = min(first + reach, len(starts))
        inside = parts[first:stop] == parts[first]
        scores = np.where(inside, starts[first] + ends[first:stop], -np.inf)
        found += [
            Found(first=first, last=first + int(place), score=float(scores[place]))
            for place in np.argsort(-scores, kind="stable")[:most]
            if np.isfinite(scores[place])
        ]
    return sorted(found, key=lambda each: -each.score)[:most]

"""What loss to expect of a model of some size after some text: a scaling law, fitted to runs of our own recipes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

LEAST_BATCH, MOST_BATCH = 2048, 2**19  # tokens of a step
BATCH_FACTOR = 3.0  # 8,192 tokens a step were better than 16,384 in runs of 6.5 million tokens (docs/experiments.md)


@dataclass(frozen=True, kw_only=True)
class Law:
    """L(N, D) = E + A / N^a + B / D^b, the loss of N weights that have read D tokens (Hoffmann et al. 2022, equation 2).

    Attributes:
        floor: E, what no model gets below.
        size_factor, size_power: A and a.
        data_factor, data_power: B and b.
        bytes_per_token: of the text that it was fitted on; the loss on text with longer tokens is higher in proportion.
        worth_of_repeats: R*, after how many readings more of the same text another one has lost most of its worth
            (Muennighoff et al. 2023, where it is 15.4).
        source: what it was fitted on.
    """

    floor: float
    size_factor: float
    size_power: float
    data_factor: float
    data_power: float
    bytes_per_token: float
    worth_of_repeats: float = 15.4
    source: str

    def loss(self, parameters: float, effective_tokens: float) -> float:
        """Return the loss in nats per predicted token, on text like that of the fit."""
        of_size = self.size_factor / parameters**self.size_power
        return self.floor + of_size + self.data_factor / max(1.0, effective_tokens) ** self.data_power

    def effective_tokens(self, parts: Sequence[tuple[float, int]]) -> float:
        """Return how many tokens of fresh text are worth as much as what is read.

        With U tokens of text read 1 + R times: U + U · R* · (1 - exp(-R / R*)).

        Args:
            parts: for each corpus the tokens that are read and those that it has.
        """
        return math.fsum(self._effective(read, unique) for read, unique in parts)

    def _effective(self, read: float, unique: int) -> float:
        if read <= unique:
            return read
        repeats = (read - unique) / unique
        return unique * (1 + self.worth_of_repeats * -math.expm1(-repeats / self.worth_of_repeats))


# By family, from bench/scaling.py.
LAWS = {
    "gpt": Law(
        floor=1.5561,
        size_factor=12.86,
        size_power=0.1829,
        data_factor=18.448,
        data_power=0.1447,
        bytes_per_token=3.8585,
        source="a fit to ten runs of 1.2 to 15 M weights and 1 to 70 M tokens of English books, which it is off by 0.6% on "
        "average",
    ),
}


def law_of(family: str) -> Law:
    """Return the law of a family; that of the GPTs, and it says so, where none was fitted for it.

    The curves of masked prediction have another height, which matters little for the choice between sizes.
    """
    if family in LAWS:
        return LAWS[family]
    law = LAWS["gpt"]
    return replace(law, source=f"{law.source}; it was not fitted for {family}, whose losses have another height")


def batch_for(tokens: float, row_length: int) -> int:
    """Return the tokens of a step for a run of so many tokens: whole rows, a power of two of them.

    Larger steps pay off in longer runs: the batch beyond which more tokens a step are wasted grows about with the square root
    of the tokens of a run and hardly with the size of the model (Zhang et al. 2024, "How does critical batch size scale in
    pre-training?").
    """
    wished = min(MOST_BATCH, max(LEAST_BATCH, BATCH_FACTOR * math.sqrt(tokens)))
    return row_length * 2 ** max(0, round(math.log2(wished / row_length)))

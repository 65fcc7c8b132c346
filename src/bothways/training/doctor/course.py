"""The records of a run as arrays, and what can be read off noisy losses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Records = Sequence[Mapping[str, float]]
Values = NDArray[np.float64]

LANGUAGE_LOSSES = ("causal_lm", "masked_lm")
PAIR_LOSSES = ("next_sentence", "sentence_order")
LEAST_DOCUMENTS = 4  # behind a loss that is compared with that of others
SMOOTHED = 5  # records of which the median is taken
_NORMAL = 1.4826  # standard deviations of a normal distribution in its median absolute deviation


@dataclass(frozen=True, kw_only=True)
class Trend:
    """A line through the losses of some records.

    Attributes:
        mean: of the losses.
        fall: how far the line falls from the first to the last record; negative: it rises.
        error: one standard error of ``fall``.
    """

    mean: float
    fall: float
    error: float


class Course:
    """What was logged of a training, oldest first; records whose loss is not finite are left out.

    Attributes:
        not_finite: records in which a loss or the gradient norm is not finite.
        skipped: steps that the trainer left out, as far as it logs that.
        loss_name: of the losses; steps of a hybrid that have none of it are left out, too.
        steps, tokens, losses, pair_losses, gradient_norms: [records] ``losses`` are the language model's, in nats.
    """

    def __init__(self, records: Records, *, begun_tokens: int = 0) -> None:
        """Take it apart.

        Args:
            records: see ``LossDoctor``.
            begun_tokens: read before them, of other text.
        """
        known = (name for name in LANGUAGE_LOSSES if any(name in record for record in records))
        self.loss_name = next(known, "loss")
        finite = [record for record in records if np.isfinite(record.get(self.loss_name, np.nan))]
        judged = (self.loss_name, "loss", "gradient_norm")
        self.not_finite = sum(not all(np.isfinite(record.get(name, 0.0)) for name in judged) for record in records)
        self.skipped = max((int(record.get("skipped", 0)) for record in records), default=0)
        self.steps = _column(finite, "step")
        self.tokens = _column(finite, "tokens") - begun_tokens
        self.losses = _column(finite, self.loss_name)
        self.gradient_norms = _column(finite, "gradient_norm")
        pairs = next((name for name in PAIR_LOSSES if finite and name in finite[-1]), "")
        self.pair_losses = _column(finite, pairs)

    def __len__(self) -> int:
        return len(self.losses)

    @property
    def step(self) -> int:
        """The last step that was logged."""
        return int(self.steps[-1]) if len(self) else 0

    @property
    def smooth(self) -> Values:
        """[records - 4] the median of each five losses in a row."""
        if len(self) < SMOOTHED:
            return np.zeros(0)
        return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(self.losses, SMOOTHED), axis=-1))

    @property
    def level(self) -> float:
        """Where the loss stands now, noise taken out."""
        return float(np.median(self.losses[-SMOOTHED:]))

    @property
    def noise(self) -> float:
        """Standard deviation of a logged loss around its course, from the differences of neighbours; 0 for too few."""
        if len(self) < 2 * SMOOTHED:
            return 0.0
        differences = np.diff(self.losses[-40:])
        return float(_NORMAL * np.median(np.abs(differences - np.median(differences))) / np.sqrt(2))

    def documents_behind(self, tokens_per_document: float) -> float:
        """Return from about how many documents ``level`` is, given their size; infinitely many where that is not known.

        A record is of one step, and steps that follow each other may be of one long document.
        """
        if not tokens_per_document:
            return np.inf
        if len(self) <= SMOOTHED:
            return 0.0
        of_a_step = (self.tokens[-1] - self.tokens[-2]) / max(1.0, self.steps[-1] - self.steps[-2])
        apart = float(self.tokens[-1] - self.tokens[-1 - SMOOTHED]) / tokens_per_document
        return min(apart, SMOOTHED * max(1.0, float(of_a_step) / tokens_per_document))

    def level_at(self, step: float) -> float:
        """Return where the loss stood at a step: the median of the last records up to it."""
        until = self.losses[: int(np.searchsorted(self.steps, step, side="right"))]
        return float(np.median(until[-SMOOTHED:])) if len(until) else float("nan")

    def trend(self, first: int) -> Trend:
        """Return the line through the losses of all records from one on; of at least three."""
        values = self.losses[first:]
        places = np.linspace(-0.5, 0.5, len(values))
        slope = float(places @ values / (places @ places))
        rest = values - values.mean() - slope * places
        error = float(np.sqrt(rest @ rest / (len(values) - 2) / (places @ places)))
        return Trend(mean=float(values.mean()), fall=-slope, error=error)


def _column(records: Records, name: str) -> Values:
    """[records] the values of a name, not a number where a record has none."""
    return np.array([record.get(name, np.nan) for record in records], dtype=np.float64)

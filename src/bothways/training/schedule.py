"""The learning rate over time, as a share of its peak."""

import math

from bothways.training.config import TrainingConfig


def share_at(step: int, config: TrainingConfig) -> float:
    """Return the share of the learning rate that step number ``step`` (from 0) is taken with.

    ``warmup_stable_decay``: up in a line, level, down in a line (Hu et al. 2024). ``cosine``: up in a line, down along half a
    cosine. ``linear``: up and down in lines. ``constant``: up in a line, then level.
    """
    warmup = round(config.warmup_share * config.steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, config.steps - warmup)
    floor = config.final_share
    match config.schedule:
        case "constant":
            return 1.0
        case "cosine":
            return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2
        case "linear":
            return floor + (1 - floor) * (1 - done)
        case "warmup_stable_decay":
            decay = max(1, round(config.decay_share * config.steps))
            return floor + (1 - floor) * min(1.0, (config.steps - step) / decay)

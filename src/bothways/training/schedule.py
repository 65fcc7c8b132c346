"""What changes while a model learns: the learning rate, the tokens of a step and the tokens of a row."""

import math

from bothways.training.config import TrainingConfig

SHORTEST_ROW = 32  # of a length ramp
_MOST_SUMMED = 10_000  # steps
LENGTHS = 3  # that rows have in turn, where they grow
_FIRST_BATCH = 0.25  # of batch_tokens, where batches grow


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


def done_at(step: int, config: TrainingConfig) -> float:
    """Return the share of all steps that lie before this one, at most 1."""
    return min(1.0, step / max(1, config.steps))


def batch_tokens_at(step: int, config: TrainingConfig) -> int:
    """Return the tokens of a step, padding included; a step has whole rows, and at least one."""
    ramp = config.batch_ramp_share * config.steps
    if step >= ramp:
        return config.batch_tokens
    return round(config.batch_tokens * (_FIRST_BATCH + (1 - _FIRST_BATCH) * step / ramp))


def row_length_at(step: int, config: TrainingConfig) -> int:
    """Return the tokens of rows that are begun at a step: a quarter and then half of the full length, where it grows."""
    ramp = config.length_ramp_share * config.steps
    if step >= ramp:
        return config.row_length
    divisor = 4 if step < ramp / 2 else 2
    return min(config.row_length, max(SHORTEST_ROW, config.row_length // divisor))


def total_tokens(config: TrainingConfig) -> int:
    """Return about how many tokens a run sees, padding included: rows count with their full length."""
    growing = min(config.steps, math.ceil(config.batch_ramp_share * config.steps))
    every = max(1, growing // _MOST_SUMMED)  # of very long ramps so many steps stand for all
    rows = every * sum(_rows_at(step, config) for step in range(0, growing, every)) if growing else 0
    return (rows + (config.steps - growing) * _rows_at(config.steps, config)) * config.row_length


def _rows_at(step: int, config: TrainingConfig) -> int:
    return max(1, batch_tokens_at(step, config) // config.row_length)

"""Choosing the next token: pure functions on logits.

Shapes: B rows, V tokens of the vocabulary.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bothways.config import Config
from bothways.errors import NonFiniteError, UserError

History = Sequence[Sequence[int]]
"""The token ids of every row so far, prompt first."""

Processor = Callable[[Tensor, History], Tensor]
"""What may change logits before a token is chosen, a watermark say: (logits [B, V], history) to logits [B, V].

Row i of the result must depend on row i alone: rows leave a batch when they end.
"""


@dataclass(frozen=True, kw_only=True)
class Sampling(Config):
    """How the next token is chosen; the default takes the likeliest."""

    temperature: float = 0.0  # logits are divided by it: under 1 bolder, over 1 wilder; 0: greedy
    top_k: int = 0  # only the k likeliest tokens; 0: all
    top_p: float = 1.0  # only the likeliest tokens that together reach this probability
    repetition_penalty: float = 1.0  # over 1: tokens of the text so far, but for those that end it, become less likely

    def __post_init__(self) -> None:
        if self.temperature != 0 and not 0.001 <= self.temperature <= 1000:
            raise UserError(f"temperature must be 0 (greedy) or from 0.001 to 1000, not {self.temperature}")
        if self.top_k < 0:
            raise UserError(f"top_k must be 0 (all tokens) or more, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if not 0.01 <= self.repetition_penalty <= 100:
            raise UserError(f"repetition_penalty must be from 0.01 to 100 (1: none), not {self.repetition_penalty}")


GREEDY = Sampling()


def choose(
    logits: Tensor,
    history: History,
    sampling: Sampling,
    generators: Sequence[torch.Generator],
    processors: Sequence[Processor] = (),
    stop_ids: Collection[int] = (),
) -> Tensor:
    """Return the next token of every row.

    The repetition penalty comes first, then the processors in their order, then temperature, top_k and top_p.

    Args:
        logits: [B, V].
        history: token ids of each row so far.
        sampling: how to choose.
        generators: one a row, so that what a row draws does not depend on the rows beside it; greedy draws nothing.
        processors: what else may change the logits.
        stop_ids: tokens that end a text, which may have begun it, too: to repeat them is no fault.
    Returns:
        int64 [B].
    Raises:
        NonFiniteError: a row has no finite best logit.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    logits = penalize_repetition(logits, history, sampling.repetition_penalty, spared=stop_ids)
    for process in processors:
        logits = process(logits, history)
    if not logits.amax(dim=-1).isfinite().all():
        raise NonFiniteError(
            "no next token has a finite score: the weights are damaged, training diverged, or a processor forbids all"
        )
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = keep_top_p(keep_top_k(logits / sampling.temperature, sampling.top_k), sampling.top_p).softmax(-1)
    return draw(probabilities, generators)


def penalize_repetition(logits: Tensor, history: History, penalty: float, *, spared: Collection[int] = ()) -> Tensor:
    """Divide positive logits of tokens in the row's history by the penalty, multiply negative ones; some are spared.

    Source: Keskar et al. 2019 (CTRL), section 4.1, with the sign rule that is now usual.
    """
    if penalty == 1:
        return logits
    logits = logits.clone()
    for scores, ids in zip(logits, history, strict=True):
        seen = torch.tensor(sorted({*ids}.difference(spared)), dtype=torch.int64, device=logits.device)
        scores[seen] = torch.where(scores[seen] > 0, scores[seen] / penalty, scores[seen] * penalty)
    return logits


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Set all but the k largest logits of each row to -∞; 0 keeps all. Source: Fan et al. 2018."""
    if k == 0 or k >= logits.shape[-1]:
        return logits
    top = logits.topk(k)
    return torch.full_like(logits, -math.inf).scatter(-1, top.indices, top.values)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the fewest likeliest tokens whose probabilities reach p, and set the others to -∞.

    Source: Holtzman et al. 2019 (nucleus sampling).
    """
    if p == 1:
        return logits
    ordered = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = ordered.values.softmax(-1)
    likelier = probabilities.cumsum(-1) - probabilities  # what the tokens before this one reach together
    kept = ordered.values.masked_fill(likelier >= p, -math.inf)
    return torch.full_like(logits, -math.inf).scatter(-1, ordered.indices, kept)


def draw(probabilities: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw one token [B] from each row of [B, V] with the row's own generator."""
    drawn = [
        torch.multinomial(row, 1, generator=generator) for row, generator in zip(probabilities, generators, strict=True)
    ]
    return torch.cat(drawn)


def forbid(ids: Collection[int], vocab_size: int) -> Processor:
    """Return a processor that makes tokens impossible.

    Raises:
        UserError: an id is not of the vocabulary, or no token is left.
    """
    for token in ids:
        if not 0 <= token < vocab_size:
            raise UserError(f"token {token} is forbidden, but the vocabulary has only 0 to {vocab_size - 1}")
    if len(set(ids)) == vocab_size:
        raise UserError("every token of the vocabulary is forbidden, so there is nothing to generate")
    index = torch.tensor(sorted(set(ids)), dtype=torch.int64)

    def process(logits: Tensor, _: History) -> Tensor:
        return logits.index_fill(-1, index.to(logits.device), -math.inf)

    return process

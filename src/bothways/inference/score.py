"""How likely a model finds each token of a text.

GPT says it in one pass, token after token; BERT is asked about one hidden token at a time; a hybrid can be asked both
ways. All values are in nats, and no value depends on what else is read with it, but for the rounding of float32 (about
1e-6) or bfloat16 (some hundredths).
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from bothways.batch import Batch, Row, row
from bothways.errors import UserError
from bothways.inference.reading import ANSWERS, SHIFTED, Precision, ask, check_sequences, read, require_head, split
from bothways.model.heads import Model

_AT_ONCE = 256  # positions whose logits over the whole vocabulary are in memory together: so many stay in a CPU's cache


def log_likelihoods(
    model: Model, sequences: Sequence[ArrayLike], *, batch_tokens: int = 8192, precision: Precision = "fp32"
) -> list[NDArray[np.floating]]:
    """Return log p(token | tokens before it) for every token but the first, which has nothing before it.

    Args:
        model: a causal one, or a hybrid.
        sequences: token ids; begin them with the token that begins a text, or the first word is not scored.
        batch_tokens: about how many tokens go through the model at once.
        precision: ``"fp32"`` or ``"bf16"``.
    Returns:
        For each sequence of T tokens the values [T - 1] of tokens 1 to T - 1.
    Raises:
        UserError: the model only reads both ways, or a sequence is empty, too long, or no list of its token ids.
    """
    _require_left_to_right(model)
    checked = check_sequences(model, sequences, "sequences")
    firsts = np.cumsum([0, *(len(ids) - 1 for ids in checked)]).tolist()

    def make_row(number: int) -> Row:
        ids = checked[number]
        return row(ids, "causal", targets=ask(np.arange(len(ids) - 1), firsts[number]))

    def next_token(hidden_states: Tensor, batch: Batch, index: Tensor) -> Tensor:
        return _log_probabilities(model, hidden_states, batch, index, batch.input_ids.flatten()[index + 1])

    lengths = [len(ids) for ids in checked]
    values = read(model, next_token, lengths=lengths, make_row=make_row, batch_tokens=batch_tokens, precision=precision)
    return split(values, [len(ids) - 1 for ids in checked])


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a model says of n tokens that follow others.

    Attributes:
        log_likelihoods: [n], of each token after all before it.
        greedy: whether all of them are what greedy choice would have written.
    """

    log_likelihoods: NDArray[np.floating]
    greedy: bool


def score_continuations(
    model: Model,
    contexts: Sequence[ArrayLike],
    continuations: Sequence[ArrayLike],
    *,
    batch_tokens: int = 8192,
    precision: Precision = "fp32",
) -> list[Scored]:
    """Return how likely each continuation is after its context.

    The last token is only asked for, not read, so that a context and its continuation may have one token more than the
    model reads. What reads the same tokens is read once: a question whose answers are single tokens, say.

    Args:
        model: a causal one, or a hybrid.
        contexts: token ids, at least one each.
        continuations: token ids, at least one each; as many as contexts.
        batch_tokens: about how many tokens go through the model at once.
        precision: ``"fp32"`` or ``"bf16"``.
    Raises:
        UserError: the model only reads both ways, or a sequence is empty, too long, or no list of its token ids.
    """
    _require_left_to_right(model)
    before = check_sequences(model, contexts, "contexts")
    after = check_sequences(model, continuations, "continuations")
    joined = [np.concatenate([one, other[:-1]]) for one, other in zip(before, after, strict=True)]
    inputs = check_sequences(model, joined, "contexts with continuations")
    alike: dict[bytes, list[int]] = {}  # what is read, to the numbers of those who read it
    for number, ids in enumerate(inputs):
        alike.setdefault(ids.tobytes(), []).append(number)
    groups = list(alike.values())
    order = [number for group in groups for number in group]
    firsts = np.cumsum([0, *(sum(len(after[number]) for number in group) for group in groups)]).tolist()
    wanted = torch.from_numpy(np.concatenate([np.zeros(0, dtype=np.int64), *(after[number] for number in order)]))

    def make_row(at: int) -> Row:
        positions = [np.arange(len(before[number]) - 1, len(inputs[number])) for number in groups[at]]
        return row(inputs[groups[at][0]], "causal", targets=ask(np.concatenate(positions), firsts[at]))

    def next_token(hidden_states: Tensor, batch: Batch, index: Tensor) -> Tensor:
        tokens = wanted[batch.targets[ANSWERS].value.cpu()].to(index.device)
        return _scores(model, hidden_states, batch, index, tokens)

    lengths = [len(inputs[group[0]]) for group in groups]
    values = read(model, next_token, lengths=lengths, make_row=make_row, batch_tokens=batch_tokens, precision=precision)
    parts = dict(zip(order, split(values, [len(after[number]) for number in order]), strict=True))
    return [
        Scored(log_likelihoods=parts[number][:, 0], greedy=bool(parts[number][:, 1].all()))
        for number in range(len(inputs))
    ]


def pseudo_log_likelihoods(
    model: Model,
    sequences: Sequence[ArrayLike],
    mask_id: int,
    *,
    frame: tuple[int, int] = (0, 0),
    continues: Sequence[ArrayLike] | None = None,
    batch_tokens: int = 8192,
    precision: Precision = "fp32",
) -> list[NDArray[np.floating]]:
    """Return log p(token | other tokens) for every token: one masked copy of the text for each.

    A model that is ``shifted`` says a token at the position before it, and is read there.

    Of a word of several tokens, the others all but give away the hidden one: a rare name would seem likely. So, where
    ``continues`` tells the words, the rest of the word, to the right of the token, is hidden with it.

    Args:
        model: a bidirectional one, or a hybrid.
        sequences: token ids, framed as in training ([CLS] … [SEP]).
        mask_id: the id of [MASK].
        frame: how many tokens at the beginning and at the end of each sequence are never hidden, and have no value.
        continues: for each sequence bool [T], whether a token goes on with the word of the token before it.
        batch_tokens: about how many tokens go through the model at once.
        precision: ``"fp32"`` or ``"bf16"``.
    Returns:
        For each sequence of T tokens the values of its tokens, [T] less the frame.
    Raises:
        UserError: the model only reads from left to right, or it is ``shifted`` and the frame begins with nothing; a
            sequence is empty, too long, shorter than its frame, or no list of the model's token ids.

    Sources: Salazar et al. 2020, equation 1; with ``continues`` Kauf & Ivanova 2023, PLL-word-l2r.
    """
    if model.config.attention == "causal" and not model.config.hybrid:
        raise UserError("a causal model cannot see what follows a masked token; ask for log-likelihoods instead")
    require_head(model, "language_model")
    checked = check_sequences(model, sequences, "sequences")
    check_sequences(model, [[mask_id]], "mask_id")
    before, after = frame
    if model.shifted and before == 0:
        raise UserError(f"frame must begin with at least one token: {SHIFTED}, and there is none before the first")
    counts = [len(ids) - before - after for ids in checked]
    if min(counts, default=0) < 0:
        number = next(number for number, count in enumerate(counts) if count < 0)
        raise UserError(
            f"sequences[{number}] has {len(checked[number])} tokens, fewer than its frame of {before + after}"
        )
    firsts = np.cumsum([0, *counts]).tolist()
    stops = [_stops(ids, None if continues is None else continues[at], after) for at, ids in enumerate(checked)]
    inner = [ids[before : len(ids) - after] for ids in checked]
    original = torch.from_numpy(np.concatenate([np.zeros(0, dtype=np.int64), *inner]))

    def make_row(copy: int) -> Row:
        number = bisect_right(firsts, copy) - 1
        position = copy - firsts[number] + before
        ids = checked[number].copy()
        ids[position : stops[number][position]] = mask_id
        return row(ids, "bidirectional", targets=ask(np.array([position - model.shifted]), copy))

    def hidden_token(hidden_states: Tensor, batch: Batch, index: Tensor) -> Tensor:
        tokens = original[batch.targets[ANSWERS].value.cpu()].to(index.device)
        return _log_probabilities(model, hidden_states, batch, index, tokens)

    lengths = [len(ids) for ids, count in zip(checked, counts, strict=True) for _ in range(count)]
    values = read(
        model, hidden_token, lengths=lengths, make_row=make_row, batch_tokens=batch_tokens, precision=precision
    )
    return split(values, counts)


def _stops(ids: NDArray[np.int64], continues: ArrayLike | None, after: int) -> NDArray[np.int64]:
    """Return for each position the one before which masking ends: the end of its word, and never inside the frame."""
    index = np.arange(len(ids))
    if continues is None:
        return index + 1
    going_on = np.asarray(continues, dtype=bool)
    assert going_on.shape == ids.shape, (going_on.shape, ids.shape)
    begins = np.append(np.flatnonzero(~going_on), len(ids))
    ends = begins[np.searchsorted(begins, index, side="right")]
    return np.maximum(np.minimum(ends, len(ids) - after), index + 1)


def _require_left_to_right(model: Model) -> None:
    if model.config.attention == "bidirectional" and not model.config.hybrid:
        raise UserError(
            "a bidirectional model sees the token it should predict; ask for pseudo-log-likelihoods instead"
        )
    require_head(model, "language_model")


def _log_probabilities(model: Model, hidden_states: Tensor, batch: Batch, index: Tensor, tokens: Tensor) -> Tensor:
    """Return log p [n] of tokens [n] at positions [n]."""
    parts = []
    for logits, token in _logits(model, hidden_states, batch, index, tokens):
        parts.append(-functional.cross_entropy(logits, token, reduction="none"))
    return torch.cat(parts)


def _scores(model: Model, hidden_states: Tensor, batch: Batch, index: Tensor, tokens: Tensor) -> Tensor:
    """Return log p of tokens [n] at positions [n], and 1 where the token is the likeliest, else 0: [n, 2]."""
    parts = []
    for logits, token in _logits(model, hidden_states, batch, index, tokens):
        values = -functional.cross_entropy(logits, token, reduction="none")
        parts.append(torch.stack([values, (logits.argmax(dim=-1) == token).to(values.dtype)], dim=-1))
    return torch.cat(parts)


def _logits(
    model: Model, hidden_states: Tensor, batch: Batch, index: Tensor, tokens: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits, in float32 or better, of so many positions that they fit into the cache, with their tokens."""
    for at, token in zip(torch.split(index, _AT_ONCE), torch.split(tokens, _AT_ONCE), strict=True):
        logits = model.heads["language_model"](hidden_states, batch, at)
        yield logits.to(torch.promote_types(logits.dtype, torch.float32)), token

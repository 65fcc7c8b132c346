"""How likely a model finds each token of a text.

GPT says it in one pass, token after token; BERT is asked about one hidden token at a time. All values are in nats.
"""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from bothways.batch import Batch, Row, row
from bothways.errors import UserError
from bothways.inference.reading import ANSWERS, Precision, ask, check_sequences, read, require_head, split
from bothways.model.heads import Model

_AT_ONCE = 1024  # positions whose logits over the whole vocabulary are in memory together


def log_likelihoods(
    model: Model, sequences: Sequence[ArrayLike], *, batch_tokens: int = 8192, precision: Precision = "fp32"
) -> list[NDArray[np.floating]]:
    """Return log p(token | tokens before it) for every token but the first, which has nothing before it.

    Args:
        model: a causal one.
        sequences: token ids; begin them with the token that begins a text, or the first word is not scored.
        batch_tokens: about how many tokens go through the model at once.
        precision: ``"fp32"`` or ``"bf16"``.
    Returns:
        For each sequence of T tokens the values [T - 1] of tokens 1 to T - 1.
    Raises:
        UserError: the model is bidirectional, or a sequence is empty, too long, or no list of its token ids.
    """
    if model.config.attention == "bidirectional":
        raise UserError(
            "a bidirectional model sees the token it should predict; ask for pseudo-log-likelihoods instead"
        )
    require_head(model, "language_model")
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


def pseudo_log_likelihoods(
    model: Model,
    sequences: Sequence[ArrayLike],
    mask_id: int,
    *,
    batch_tokens: int = 8192,
    precision: Precision = "fp32",
) -> list[NDArray[np.floating]]:
    """Return log p(token | all other tokens) for every token: one masked copy of the text for each.

    Args:
        model: a bidirectional one.
        sequences: token ids, framed as in training ([CLS] … [SEP]); the frame is scored as well.
        mask_id: the id of [MASK].
        batch_tokens: about how many tokens go through the model at once.
        precision: ``"fp32"`` or ``"bf16"``.
    Returns:
        For each sequence of T tokens the values [T].
    Raises:
        UserError: the model is causal, or a sequence is empty, too long, or no list of its token ids.

    Source: Salazar et al. 2020, equation 1.
    """
    if model.config.attention == "causal":
        raise UserError("a causal model cannot see what follows a masked token; ask for log-likelihoods instead")
    require_head(model, "language_model")
    checked = check_sequences(model, sequences, "sequences")
    check_sequences(model, [[mask_id]], "mask_id")
    firsts = np.cumsum([0, *map(len, checked)]).tolist()
    original = torch.from_numpy(np.concatenate([np.zeros(0, dtype=np.int64), *checked]))

    def make_row(copy: int) -> Row:
        number = bisect_right(firsts, copy) - 1
        position = copy - firsts[number]
        ids = checked[number].copy()
        ids[position] = mask_id
        return row(ids, "bidirectional", targets=ask(np.array([position]), copy))

    def hidden_token(hidden_states: Tensor, batch: Batch, index: Tensor) -> Tensor:
        tokens = original[batch.targets[ANSWERS].value.cpu()].to(index.device)
        return _log_probabilities(model, hidden_states, batch, index, tokens)

    lengths = [len(ids) for ids in checked for _ in ids]
    values = read(
        model, hidden_token, lengths=lengths, make_row=make_row, batch_tokens=batch_tokens, precision=precision
    )
    return split(values, list(map(len, checked)))


def _log_probabilities(model: Model, hidden_states: Tensor, batch: Batch, index: Tensor, tokens: Tensor) -> Tensor:
    """Return log p [n] of tokens [n] at positions [n]."""
    parts = []
    for at, token in zip(torch.split(index, _AT_ONCE), torch.split(tokens, _AT_ONCE), strict=True):
        logits = model.heads["language_model"](hidden_states, batch, at)
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        parts.append(-functional.cross_entropy(wide, token, reduction="none"))
    return torch.cat(parts)

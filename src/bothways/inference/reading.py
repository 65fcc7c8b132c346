"""How inference reads: checked token ids, sequences of like length side by side, a model left as it was found.

Shapes: B rows, T positions, N = B·T, C = hidden_size, n answers, k numbers an answer.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from bothways.batch import Batch, Row, Target, collate, row
from bothways.errors import UserError, unknown
from bothways.model.heads import Model
from bothways.progress import track
from bothways.text.packing import pack

Precision = Literal["fp32", "bf16"]

Reader = Callable[[Tensor, Batch, Tensor], Tensor]
"""What answers from hidden states, as heads do: ([N, C], batch, index [n]) to [n, k]."""

ANSWERS = "answers"
"""The name under which a row says where it is read and which numbers its answers have."""

SHIFTED = "this model says a hidden token at the position before it"


@contextmanager
def evaluating(model: Model, precision: Precision) -> Iterator[None]:
    """Switch dropout and gradients off for the length of a ``with`` block, and put every module back after it.

    Args:
        model: the model that is read.
        precision: ``"fp32"``: as the weights are; ``"bf16"``: matrix products in bfloat16.
    Raises:
        UserError: another precision.
    """
    if precision not in get_args(Precision):
        raise unknown("precision", precision, get_args(Precision))
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    low = precision == "bf16"
    try:
        with torch.inference_mode(), torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=low):
            yield
    finally:
        for module, training in modes:
            module.training = training


def require_head(model: Model, head: str) -> None:
    """Raise the user's error where a model lacks a head."""
    if head not in model.heads:
        raise unknown("head of this model:", head, model.heads)


def check_sequences(model: Model, sequences: Sequence[ArrayLike], name: str) -> list[NDArray[np.int64]]:
    """Return every sequence as int64 [T].

    Args:
        model: says how many tokens there are and how many it reads at once.
        sequences: token ids.
        name: what messages call the list.
    Raises:
        UserError: a sequence is empty, too long, or holds anything but token ids of the model.
    """
    return [_check(model, sequence, f"{name}[{number}]") for number, sequence in enumerate(sequences)]


def _check(model: Model, sequence: ArrayLike, name: str) -> NDArray[np.int64]:
    ids = _as_array(sequence)
    limit, vocab_size = model.config.max_position_embeddings, model.config.vocab_size
    if ids.ndim == 1 and len(ids) == 0:
        raise UserError(f"{name} has no tokens; give at least one, such as the token that begins a text")
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise UserError(f"{name} must be a list of token ids (whole numbers), not {sequence!r}")
    if len(ids) > limit:
        raise UserError(f"{name} has {len(ids)} tokens, but the model reads at most {limit}; shorten or split it")
    if ids.min() < 0 or ids.max() >= vocab_size:
        wrong = int(ids[(ids < 0) | (ids >= vocab_size)][0])
        raise UserError(f"{name} holds token id {wrong}, but the model knows only 0 to {vocab_size - 1}")
    return ids.astype(np.int64)


def _as_array(sequence: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(sequence)
    except (ValueError, TypeError, RuntimeError):  # lists of unequal length, a tensor that numpy cannot have
        return np.array(None)


def group_by_length(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Return indices in groups of like length, longest first, so that a lack of memory shows at once.

    Args:
        lengths: tokens of each item.
        batch_tokens: the most tokens of a group; a longer item is a group of its own.
    Raises:
        UserError: ``batch_tokens`` is not positive.
    """
    if batch_tokens < 1:
        raise UserError(f"batch_tokens must be at least 1, not {batch_tokens}")
    groups: list[list[int]] = []
    used = batch_tokens
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        used += lengths[index]
        if used > batch_tokens:
            groups.append([])
            used = lengths[index]
        groups[-1].append(index)
    return groups


def ask(index: NDArray[Any], first: int) -> dict[str, Target[NDArray[Any]]]:
    """Return the targets of a row that is read at positions [n]; in ``read``, answer number ``first`` is its first."""
    return {ANSWERS: Target(index=index, value=np.arange(first, first + len(index)))}


def read(
    model: Model,
    reader: Reader,
    *,
    lengths: Sequence[int],
    make_row: Callable[[int], Row],
    batch_tokens: int,
    precision: Precision,
) -> NDArray[Any]:
    """Return all answers [n, k], in float32 or better, in the order that their targets number them.

    Args:
        model: whose trunk reads.
        reader: turns hidden states into answers.
        lengths: tokens of each row.
        make_row: index to row, with the targets of ``ask``. Rows are made when their turn comes, since a thousand
            masked copies of a text need not be in memory together.
        batch_tokens: about how many tokens go through the model at once.
        precision: see ``evaluating``.
    """
    numbers, answers = [], []
    groups = group_by_length(lengths, batch_tokens) or [[]]
    with evaluating(model, precision):
        for group in track(groups, "reading"):
            # No answers still have a shape, [0, k], which only the reader knows: it is asked nothing about one token.
            rows = [make_row(index) for index in group] or [row([0], "causal", targets=ask(np.arange(0), 0))]
            batch = collate(pack(rows, max(map(len, rows)))).to(model.device)
            target = batch.targets[ANSWERS]
            answer = reader(model(batch).flatten(0, 1), batch, target.index)
            answers.append(answer.to(torch.promote_types(answer.dtype, torch.float32)).cpu().numpy())
            numbers.append(target.value.cpu().numpy())
    return np.concatenate(answers)[np.argsort(np.concatenate(numbers))]


def split(answers: NDArray[Any], counts: Sequence[int]) -> list[NDArray[Any]]:
    """Return the answers [n, …] in pieces of so many each."""
    stops = np.cumsum(counts, dtype=np.int64)
    return [answers[stop - count : stop] for stop, count in zip(stops, counts, strict=True)]

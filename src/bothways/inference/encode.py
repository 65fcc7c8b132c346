"""Token ids to vectors, to the scores of a head, and to hidden states: sequences lie side by side, without padding.

Shapes: n sequences, T tokens of one, C = hidden_size.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bothways.batch import Row, row
from bothways.errors import UserError
from bothways.inference.reading import SHIFTED, Precision, Reader, ask, check_sequences, read, require_head, split
from bothways.model.heads import EmbeddingHead, Model

Sequences = Sequence[ArrayLike | Row]
"""Token ids, attended to as the model's settings say; or rows of one sequence, where segments or a prefix matter."""

Positions = list[NDArray[np.int64]]


def encode(
    model: Model, sequences: Sequences, *, batch_tokens: int = 8192, precision: Precision = "fp32"
) -> NDArray[np.float32]:
    """Return a unit vector for each sequence, the mean of its hidden states: float32 [n, C].

    Args:
        model: its trunk is read; it need not have an embedding head, which has no weights.
        sequences: n of them.
        batch_tokens: about how many tokens go through the model at once.
        precision: ``"fp32"`` or ``"bf16"``.
    Raises:
        UserError: a sequence is empty, too long, or no list of the model's token ids.
    """
    rows = _rows(model, sequences)
    vectors = _read(model, EmbeddingHead(model.config, 0), rows, _one_token(rows, "mean"), batch_tokens, precision)
    return vectors.astype(np.float32, copy=False)


def read_head(
    model: Model, head: str, sequences: Sequences, *, batch_tokens: int = 8192, precision: Precision = "fp32"
) -> NDArray[Any]:
    """Return what a head says of each whole sequence, as classification does: logits [n, outputs].

    The head reads the first token, the last, or the mean of all, as ``model.config.pooling`` says.

    Raises:
        UserError: the model has no such head, or as ``encode``.
    """
    require_head(model, head)
    rows = _rows(model, sequences)
    return _read(model, model.heads[head], rows, _one_token(rows, model.config.pooling), batch_tokens, precision)


def read_tokens(
    model: Model,
    head: str,
    sequences: Sequences,
    *,
    positions: Sequence[Sequence[int]] | None = None,
    batch_tokens: int = 8192,
    precision: Precision = "fp32",
) -> list[NDArray[Any]]:
    """Return what a head says of single tokens, as spans and masked words need: logits [T, outputs] for each sequence.

    The language model head of a model that is ``shifted`` is read at the position before each token, where the token's
    sequence is read both ways: that is where the model says it.

    Args:
        model: must have the head.
        head: its name.
        sequences: n of them.
        positions: for each sequence, which tokens are read, from 0; by default all of them.
        batch_tokens: about how many tokens go through the model at once.
        precision: ``"fp32"`` or ``"bf16"``.
    Raises:
        UserError: the model has no such head, a position lies outside its sequence, is the first one where the one before
            it would be read, or as ``encode``.
    """
    require_head(model, head)
    rows = _rows(model, sequences)
    chosen = _every_token(rows) if positions is None else _check_positions(rows, positions)
    if head == "language_model" and model.shifted:
        chosen = _before(model, rows, chosen)
    answers = _read(model, model.heads[head], rows, chosen, batch_tokens, precision)
    return split(answers, list(map(len, chosen)))


def token_states(
    model: Model, sequences: Sequences, *, batch_tokens: int = 8192, precision: Precision = "fp32"
) -> list[NDArray[Any]]:
    """Return the last hidden states [T, C] of each sequence: features for a model of one's own.

    Raises:
        UserError: as ``encode``.
    """
    rows = _rows(model, sequences)
    positions = _every_token(rows)
    states = _read(model, lambda states, _, index: states[index], rows, positions, batch_tokens, precision)
    return split(states, list(map(len, rows)))


def _rows(model: Model, sequences: Sequences) -> list[Row]:
    """Return every sequence as a row of its own, checked."""
    assert not any(part.sequence_ids.any() for part in sequences if isinstance(part, Row)), "one sequence a row"
    inputs = [part.input_ids if isinstance(part, Row) else part for part in sequences]
    checked = check_sequences(model, inputs, "sequences")
    return [
        part if isinstance(part, Row) else row(ids, model.config.attention)
        for part, ids in zip(sequences, checked, strict=True)
    ]


def _one_token(rows: Sequence[Row], pooling: str) -> Positions:
    """Return where a whole sequence is read: at its end, or at its start, which stands for the mean, too."""
    return [np.array([len(part) - 1 if pooling == "last" else 0]) for part in rows]


def _every_token(rows: Sequence[Row]) -> Positions:
    return [np.arange(len(part)) for part in rows]


def _check_positions(rows: Sequence[Row], positions: Sequence[Sequence[int]]) -> Positions:
    if len(positions) != len(rows):
        raise UserError(f"there are {len(rows)} sequences, but positions for {len(positions)}")
    for number, (part, wanted) in enumerate(zip(rows, positions, strict=True)):
        for position in wanted:
            if not 0 <= position < len(part):
                raise UserError(f"positions[{number}] names token {position} of a sequence of {len(part)} (from 0)")
    return [np.asarray(wanted, dtype=np.int64) for wanted in positions]


def _before(model: Model, rows: Sequence[Row], positions: Positions) -> Positions:
    """Return the positions before those of sequences that are read both ways.

    Raises:
        UserError: there is none before the first.
    """
    read = []
    for number, (part, wanted) in enumerate(zip(rows, positions, strict=True)):
        alone = len(part) == 1  # the token sees all there is, whichever way the model reads
        both_ways = model.config.attention == "bidirectional" if alone else bool((part.reach == len(part) - 1).all())
        if both_ways and not wanted.all():
            raise UserError(f"{SHIFTED}, so token 0 of sequences[{number}] cannot be asked for; name other positions")
        read.append(wanted - both_ways)
    return read


def _read(
    model: Model, reader: Reader, rows: Sequence[Row], positions: Positions, batch_tokens: int, precision: Precision
) -> NDArray[Any]:
    """Return the answers [n, outputs] at all positions of all rows, in that order."""
    firsts = np.cumsum([0, *map(len, positions)]).tolist()

    def make_row(number: int) -> Row:
        return replace(rows[number], targets=ask(positions[number], firsts[number]))

    return read(
        model,
        reader,
        lengths=[len(part) for part in rows],
        make_row=make_row,
        batch_tokens=batch_tokens,
        precision=precision,
    )

"""The one thing that crosses from text to tensors, and what an objective and a loss are.

Shapes, here and everywhere: B rows of a batch, T positions of a row, n targets.

A ``Row`` is one sequence, or several packed side by side, as numpy arrays. ``pack`` (text/packing) joins rows,
``collate`` stacks them into a ``Batch`` of tensors. ``sequence_ids`` and ``reach`` say all there is to say about
attention: token t may see token k when both have the same sequence id and ``k <= reach[t]``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Attention = Literal["causal", "bidirectional"]
Array = TypeVar("Array", NDArray[Any], Tensor)
PADDING = -1  # the sequence id of positions that belong to nothing


@dataclass(frozen=True, kw_only=True, eq=False)
class Target(Generic[Array]):
    """What one head must read and predict.

    Attributes:
        index: [n] positions whose hidden states the head reads: within the row, or into the flattened [B·T] of a batch.
        value: [n] what it must say there: a token id, a class or a number; [n, classes] for multi-hot rows.
        group: [n] or None: which targets belong together (the two sides of a pair, the spans of a passage).
    """

    index: Array
    value: Array
    group: Array | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One row of a batch before it becomes tensors; all arrays are int64 [T]. ``row`` is the usual way to make one.

    Attributes:
        input_ids: token ids.
        position_ids: position within the token's own sequence, from 0.
        sequence_ids: which sequence of this row the token belongs to, from 0.
        reach: the last index of this row that the token may see.
        token_type_ids: BERT's segment (0 or 1), or None where the model has none.
        targets: head name to what it must predict.
        omitted: tokens of the text that found no place in the row.
    """

    input_ids: NDArray[Any]
    position_ids: NDArray[Any]
    sequence_ids: NDArray[Any]
    reach: NDArray[Any]
    token_type_ids: NDArray[Any] | None = None
    targets: Mapping[str, Target[NDArray[Any]]] = field(default_factory=dict)
    omitted: int = 0

    def __len__(self) -> int:
        return len(self.input_ids)

    def cut(self, start: int, stop: int) -> "Row":
        """Return part of a one-sequence causal row as a sequence of its own, with the targets that fall inside."""
        assert 0 <= start < stop <= len(self), (start, stop, len(self))
        targets = {}
        for head, target in self.targets.items():
            inside = (target.index >= start) & (target.index < stop)
            group = None if target.group is None else target.group[inside]
            targets[head] = Target(index=target.index[inside] - start, value=target.value[inside], group=group)
        return Row(
            input_ids=self.input_ids[start:stop],
            position_ids=np.arange(stop - start, dtype=np.int64),
            sequence_ids=self.sequence_ids[start:stop],
            reach=np.minimum(self.reach[start:stop], stop - 1) - start,
            token_type_ids=None if self.token_type_ids is None else self.token_type_ids[start:stop],
            targets=targets,
        )


def row(
    input_ids: Sequence[int] | NDArray[Any],
    attention: Attention,
    *,
    prefix: int = 0,
    token_type_ids: Sequence[int] | NDArray[Any] | None = None,
    targets: Mapping[str, Target[NDArray[Any]]] | None = None,
    omitted: int = 0,
) -> Row:
    """Make the row of one sequence.

    Args:
        input_ids: [T] token ids.
        attention: ``"causal"``: a token sees itself and what came before; ``"bidirectional"``: the whole sequence.
        prefix: in a causal sequence, how many leading tokens see each other fully (a prefix language model).
        token_type_ids: [T] or None.
        targets: head name to target.
        omitted: tokens of the text that are not among these.
    """
    length = len(input_ids)
    assert attention == "causal" or prefix == 0, "a prefix means nothing in a bidirectional sequence"
    assert token_type_ids is None or len(token_type_ids) == length, (len(token_type_ids), length)
    index = np.arange(length, dtype=np.int64)
    seen = min(prefix, length) if attention == "causal" else length  # how many tokens every token sees
    return Row(
        input_ids=np.asarray(input_ids, dtype=np.int64),
        position_ids=index,
        sequence_ids=np.zeros(length, dtype=np.int64),
        reach=np.maximum(index, seen - 1),
        token_type_ids=None if token_type_ids is None else np.asarray(token_type_ids, dtype=np.int64),
        targets=targets or {},
        omitted=omitted,
    )


def join(rows: Sequence[Row]) -> Row:
    """Lay rows side by side as one row; their sequences stay invisible to each other."""
    if len(rows) == 1:
        return rows[0]
    lengths = [len(part) for part in rows]
    starts = np.cumsum([0, *lengths[:-1]])
    sequences = np.cumsum([0, *(int(part.sequence_ids.max(initial=-1)) + 1 for part in rows[:-1])])
    return Row(
        input_ids=np.concatenate([part.input_ids for part in rows]),
        position_ids=np.concatenate([part.position_ids for part in rows]),
        sequence_ids=np.concatenate([part.sequence_ids + first for part, first in zip(rows, sequences, strict=True)]),
        reach=np.concatenate([part.reach + start for part, start in zip(rows, starts, strict=True)]),
        token_type_ids=_join_token_types(rows),
        targets=_join_targets(rows, starts),
        omitted=sum(part.omitted for part in rows),
    )


def _join_token_types(rows: Sequence[Row]) -> NDArray[Any] | None:
    """Concatenate the segments; a row without any lies in segment 0, as BERT reads it."""
    if all(part.token_type_ids is None for part in rows):
        return None
    return np.concatenate(
        [np.zeros(len(part), dtype=np.int64) if part.token_type_ids is None else part.token_type_ids for part in rows]
    )


def _join_targets(rows: Sequence[Row], starts: NDArray[Any]) -> dict[str, Target[NDArray[Any]]]:
    """Concatenate the targets of each head, moving indices by ``starts`` and keeping groups apart."""
    joined = {}
    for head in {head: None for part in rows for head in part.targets}:
        parts = [(part.targets[head], start) for part, start in zip(rows, starts, strict=True) if head in part.targets]
        groups: list[NDArray[Any]] = []
        first = 0
        for target, _ in parts:
            if target.group is not None:
                groups.append(target.group + first)
                first += int(target.group.max(initial=-1)) + 1
        index = np.concatenate([target.index + start for target, start in parts])
        assert not groups or sum(map(len, groups)) == len(index), f"some targets of {head} have groups, some have none"
        joined[head] = Target(
            index=index,
            value=np.concatenate([target.value for target, _ in parts]),
            group=np.concatenate(groups) if groups else None,
        )
    return joined


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Rows as tensors: all that a model, an objective or the trainer ever sees. ``targets`` is empty at inference.

    Attributes:
        input_ids, position_ids, sequence_ids, reach: int64 [B, T]; see ``Row``. Padding has sequence id -1.
        token_type_ids: int64 [B, T] or None.
        targets: head name to ``Target`` with ``index`` into the flattened [B·T] positions.
    """

    input_ids: Tensor
    position_ids: Tensor
    sequence_ids: Tensor
    reach: Tensor
    token_type_ids: Tensor | None = None
    targets: Mapping[str, Target[Tensor]] = field(default_factory=dict)

    @property
    def num_tokens(self) -> int:
        """Real tokens, padding left out."""
        return int((self.sequence_ids != PADDING).sum())

    def to(self, device: torch.device | str) -> Self:
        """Return the batch on a device."""

        def move(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.to(device, non_blocking=True)

        targets = {
            head: Target(index=target.index.to(device), value=target.value.to(device), group=move(target.group))
            for head, target in self.targets.items()
        }
        tensors = {
            name: move(getattr(self, name)) for name in ("position_ids", "sequence_ids", "reach", "token_type_ids")
        }
        return replace(self, input_ids=self.input_ids.to(device), targets=targets, **tensors)  # type: ignore[arg-type]


def collate(rows: Sequence[Row], *, length: int | None = None) -> Batch:
    """Stack rows into a batch.

    Args:
        rows: at least one row.
        length: T; by default that of the longest row. A padded position sees only padding before it, so that no softmax
            is ever empty.
    """
    longest = max(len(part) for part in rows)
    length = length or longest
    assert longest <= length, f"a row of {longest} tokens does not fit {length}"
    shape = (len(rows), length)
    input_ids, position_ids, token_types = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    sequence_ids = np.full(shape, PADDING, dtype=np.int64)
    reach = np.tile(np.arange(length), (len(rows), 1))
    for at, part in enumerate(rows):
        stop = len(part)
        input_ids[at, :stop], position_ids[at, :stop] = part.input_ids, part.position_ids
        sequence_ids[at, :stop], reach[at, :stop] = part.sequence_ids, part.reach
        if part.token_type_ids is not None:
            token_types[at, :stop] = part.token_type_ids
    targets = _join_targets(rows, np.arange(len(rows)) * length)
    return Batch(
        input_ids=torch.from_numpy(input_ids),
        position_ids=torch.from_numpy(position_ids),
        sequence_ids=torch.from_numpy(sequence_ids),
        reach=torch.from_numpy(reach),
        token_type_ids=torch.from_numpy(token_types) if any(part.token_type_ids is not None for part in rows) else None,
        targets={head: _tensors(target) for head, target in targets.items()},
    )


def _tensors(target: Target[NDArray[Any]]) -> Target[Tensor]:
    group = None if target.group is None else torch.from_numpy(target.group)
    return Target(index=torch.from_numpy(target.index), value=torch.from_numpy(target.value), group=group)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """One named loss, not yet divided, so that means over micro-batches and ranks come out exact.

    Attributes:
        sum: scalar tensor, the sum over ``count`` targets.
        count: how many targets were summed.
        weight: its share in the total that is minimised.
    """

    sum: Tensor
    count: int
    weight: float = 1.0


class Objective(Protocol):
    """What training minimises. Knows heads and targets; knows nothing of optimizers, steps or devices."""

    @property
    def heads(self) -> Mapping[str, int]:
        """The heads it reads, each with its output size (0: the head's own default)."""

    def loss(self, model: Any, batch: Batch) -> dict[str, Loss]:
        """Return its losses by name for one batch."""

    def counts(self, batch: Batch) -> dict[str, int]:
        """Return, before any forward pass, the ``count`` that each loss of ``loss(model, batch)`` will have."""

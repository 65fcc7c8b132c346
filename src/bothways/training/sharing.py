"""How the processes of a run share the rows of a step, so that the data are the same however many there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bothways.batch import Batch, Objective
from bothways.errors import UserError
from bothways.training.batches import Batches, Position
from bothways.training.distributed import Group


class SharedBatches:
    """The part of each step that is one process's: every so many-th row, beginning with its own number.

    All processes read all rows, so that position and order are those of one process.

    Attributes:
        spare: a row of the newest step, the same one in all processes, for one that has none to take part with.
    """

    spare: Batch

    def __init__(self, batches: Any, group: Group) -> None:
        """Wrap batches, wherever they stand.

        Args:
            batches: ``DivisibleBatches``, the same in all processes.
            group: the processes.
        Raises:
            UserError: the batches come whole only.
        """
        if not hasattr(batches, "next_rows"):
            raise UserError(f"{type(batches).__name__} cannot be shared by {group.size} processes; start only one")
        self._batches, self._group = batches, group

    @property
    def position(self) -> Position:
        """Where the next step begins, for all processes."""
        return self._batches.position

    def seek(self, position: Position) -> None:
        """Go to a position."""
        self._batches.seek(position)

    def __next__(self) -> list[Batch]:
        """Return this process's batches of the next step; there may be none.

        Raises:
            UserError: the steps cannot be shared.
        """
        rows = self._batches.next_rows()
        self.spare = self._batches.collate(rows[:1])[0]
        mine = rows[self._group.rank :: self._group.size]
        return self._batches.collate(mine) if mine else []


def shared(batches: Batches, group: Group) -> Batches:
    """Return a process's part of batches; alone it is all of them."""
    return batches if group.alone else SharedBatches(batches, group)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one process has to do in a step.

    Attributes:
        batches: on the device of the model.
        idle: so many of the batches, the last ones, count for nothing: all processes take equally many passes, since they
            do things together in each.
        counts: of each loss, in all processes: what its sum is divided by.
        tokens: real tokens, in all processes.
    """

    batches: list[Batch]
    idle: int
    counts: dict[str, int]
    tokens: int


def next_work(batches: Batches, objective: Objective, device: torch.device, group: Group) -> Work:
    """Return what this process has to do in the next step; one message says how much the others have."""
    own = [batch.to(device) for batch in next(batches)]
    counts = _sum_counts(objective, own)
    tokens = sum(batch.num_tokens for batch in own)
    if not isinstance(batches, SharedBatches):
        return Work(batches=own, idle=0, counts=counts, tokens=tokens)
    names = list(objective.counts(batches.spare))
    rows = group.table([len(own), tokens, *(counts.get(name, 0) for name in names)])
    most, tokens = (int(figure) for figure in (max(row[0] for row in rows), sum(row[1] for row in rows)))
    idle = most - len(own)
    return Work(
        batches=own + [batches.spare.to(device)] * idle,
        idle=idle,
        counts={name: int(sum(row[place] for row in rows)) for place, name in enumerate(names, start=2)},
        tokens=tokens,
    )


def _sum_counts(objective: Objective, batches: Sequence[Batch]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for batch in batches:
        for name, count in objective.counts(batch).items():
            counts[name] = counts.get(name, 0) + count
    return counts

"""Muon's iterations shared by the processes of a run: each does those of some matrices, and all get the results.

| weights | what is sent |
|---|---|
| whole in every process (DDP) | the orthogonal matrices, from whoever made each to all |
| in parts (FSDP2) | the parts of each matrix to whoever makes it orthogonal, and its parts back |

A matrix goes through the iterations in one process alone and whole, so that all processes hold the same bits of it.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, distributed

from bothways.training.distributed import Group
from bothways.training.parallel import rows_of

Orthogonal = Callable[[list[Tensor]], list[Tensor]]  # matrices to their nearest orthogonal ones, in the same order


def owners(shapes: Sequence[tuple[int, ...]], size: int) -> list[list[int]]:
    """Return for each of so many processes the numbers of its matrices: dear ones first, each to who has least to do."""
    cost = [min(shape) ** 2 * max(shape) for shape in shapes]
    found: list[list[int]] = [[] for _ in range(size)]
    load = [0] * size
    for number in sorted(range(len(shapes)), key=lambda number: -cost[number]):
        rank = load.index(min(load))
        found[rank].append(number)
        load[rank] += cost[number]
    return [sorted(numbers) for numbers in found]


def share_whole(matrices: list[Tensor], orthogonal: Orthogonal, dtype: torch.dtype, group: Group) -> list[Tensor]:
    """Return all matrices orthogonal; each process makes some of them so.

    Args:
        matrices: the same in all processes.
        orthogonal: the iterations.
        dtype: of what they return.
        group: the processes.
    """
    of_each = owners([tuple(matrix.shape) for matrix in matrices], group.size)
    mine = orthogonal([matrices[number] for number in of_each[group.rank]])
    most = max(sum(matrices[number].numel() for number in numbers) for numbers in of_each)
    sent = torch.zeros(most, dtype=dtype, device=matrices[0].device)
    if mine:
        flat = torch.cat([update.reshape(-1) for update in mine])
        sent[: len(flat)] = flat
    found: dict[int, Tensor] = {}
    for numbers, received in zip(of_each, group.all_gather(sent), strict=True):
        sizes = [matrices[number].numel() for number in numbers]
        pieces = torch.split(received[: sum(sizes)], sizes)
        found |= {number: piece.view(matrices[number].shape) for number, piece in zip(numbers, pieces, strict=True)}
    return [found[number] for number in range(len(matrices))]


def share_parts(
    parts: list[Tensor], rows: Sequence[int], orthogonal: Orthogonal, dtype: torch.dtype, group: Group
) -> list[Tensor]:
    """Return this process's parts of all matrices, made orthogonal as wholes.

    Args:
        parts: of each matrix the rows that this process holds; there may be none.
        rows: of each whole matrix.
        orthogonal: the iterations.
        dtype: of what they return.
        group: the processes.
    """
    columns = [part.shape[1] for part in parts]
    of_each = owners(list(zip(rows, columns, strict=True)), group.size)

    def size(number: int, rank: int) -> int:
        first, last = rows_of(rows[number], rank, group.size)
        return (last - first) * columns[number]

    mine = of_each[group.rank]
    here = [[size(number, group.rank) for number in numbers] for numbers in of_each]  # of this process's parts
    there = [[size(number, rank) for number in mine] for rank in range(group.size)]  # of this process's matrices
    out = torch.cat([parts[number].reshape(-1) for numbers in of_each for number in numbers])
    gathered = _exchange(out, here, there)
    whole = [
        torch.cat([pieces[place] for pieces in gathered]).view(rows[number], columns[number])
        for place, number in enumerate(mine)
    ]
    made = [update.reshape(-1) for update in orthogonal(whole)]
    cut = [torch.split(matrix, [sizes[place] for sizes in there]) for place, matrix in enumerate(made)]
    back = [pieces[rank] for rank in range(group.size) for pieces in cut]
    received = _exchange(torch.cat(back) if back else out.new_zeros(0, dtype=dtype), there, here)
    found = {
        number: piece.view(parts[number].shape)
        for numbers, pieces in zip(of_each, received, strict=True)
        for number, piece in zip(numbers, pieces, strict=True)
    }
    return [found[number] for number in range(len(parts))]


def _exchange(out: Tensor, sent: list[list[int]], expected: list[list[int]]) -> list[tuple[Tensor, ...]]:
    """Send pieces to all processes, and return what each has sent: pieces of the expected sizes."""
    amounts = [sum(sizes) for sizes in expected]
    received = out.new_empty(sum(amounts))
    distributed.all_to_all_single(received, out, amounts, [sum(sizes) for sizes in sent])
    return [torch.split(pieces, sizes) for pieces, sizes in zip(torch.split(received, amounts), expected, strict=True)]


def sum_over(tensor: Tensor) -> Tensor:
    """Return a tensor summed over all processes."""
    distributed.all_reduce(tensor)
    return tensor

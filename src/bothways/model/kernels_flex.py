"""Attention over blocks of 128 × 128 for a GPU: a block in which nobody sees anybody costs nothing, and no mask is stored.

Imported only where a GPU attends: it brings the compiler along.

Source: Dong et al. 2024 (FlexAttention). Shapes: B rows, T positions, N = ⌈T / 128⌉ blocks, H heads, D size of a head.
"""

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from bothways.model.attention import default_reach
from bothways.model.compiled_code import keep_compiled_apart

BLOCK = 128

keep_compiled_apart()
_compiled = torch.compile(flex_attention)  # nothing is compiled before its first call


def block_mask(sequence_ids: Tensor, reach: Tensor, *, window: int | None = None) -> BlockMask:
    """Return who may see whom, by blocks.

    Each token sees a run of neighbours, from the start of its sequence to its reach, so two numbers a token tell which blocks
    are empty, which are wholly visible and which must be looked into: B·T·N flags, where a mask has B·T·T.

    Args:
        sequence_ids: [B, T], each sequence contiguous.
        reach: [B, T].
        window: positions that are seen to each side; None: all.
    """
    rows, length = sequence_ids.shape
    near = length if window is None else window
    first, last = _visible_run(sequence_ids, reach, near)
    missing = -length % BLOCK  # positions that fill the last block see nothing
    first = functional.pad(first, (0, missing), value=length).view(rows, -1, BLOCK, 1)
    last = functional.pad(last, (0, missing), value=-1).view(rows, -1, BLOCK, 1)
    start = torch.arange(0, length, BLOCK, device=reach.device)
    stop = start + BLOCK - 1
    some = ((first <= stop) & (last >= start)).any(2)[:, None]  # [B, 1, N, N]
    every = ((first <= start) & (last >= stop)).all(2)[:, None]
    ids, limit = sequence_ids.int(), reach.int()

    def may_see(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:  # noqa: ARG001  (heads are alike)
        return (ids[row, query] == ids[row, key]) & (key <= limit[row, query]) & ((query - key).abs() <= near)

    return BlockMask.from_kv_blocks(
        *_listed(some & ~every), *_listed(every), BLOCK_SIZE=BLOCK, mask_mod=may_see, seq_lengths=(length, length)
    )


def attend_in_blocks(query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, *, fused: bool = True) -> Tensor:
    """Attend where the blocks say.

    Args:
        query: [B, H, T, D].
        key, value: [B, H or fewer, T, D].
        mask: of these rows.
        fused: by the compiled kernel; without it all scores are stored, which is right for small tests alone.
    Returns:
        [B, H, T, D].
    """
    kernel = _compiled if fused and not torch.compiler.is_compiling() else flex_attention
    mixed = kernel(query, key, value, block_mask=mask, enable_gqa=query.shape[1] != key.shape[1])
    assert isinstance(mixed, Tensor)
    return mixed


def _visible_run(sequence_ids: Tensor, reach: Tensor, near: int) -> tuple[Tensor, Tensor]:
    """Return the first and the last position that each token sees, both [B, T]."""
    index = torch.arange(sequence_ids.shape[1], device=sequence_ids.device).expand_as(sequence_ids)
    continues = functional.pad(sequence_ids[:, 1:] == sequence_ids[:, :-1], (1, 0))
    first = index.masked_fill(continues, 0).cummax(dim=1).values
    last = torch.minimum(reach, default_reach(sequence_ids, "bidirectional"))
    return torch.maximum(first, index - near), torch.minimum(last, index + near)


def _listed(flags: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many of [B, 1, N, N] flags each row of blocks has, [B, 1, N], and their columns, set ones first."""
    ordered = flags.int().argsort(dim=-1, descending=True, stable=True)
    return flags.sum(-1, dtype=torch.int32), ordered.int()

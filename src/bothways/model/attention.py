"""Who may see whom, and softmax(QKᵀ/√d_k)V: the fast kernels, and the slow one that shows every number.

Shapes: B rows, T query and S key positions, H heads, D size of a head.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

import torch
from torch import Tensor
from torch.nn import functional

from bothways.batch import Attention
from bothways.model.kernels import attends_in_blocks, dtype_of_products

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

# Who may see whom, [B, 1, T, S]: true, or 0 to be added to the scores where others have -inf; or the blocks of a GPU.
Mask = Union[Tensor, "BlockMask"]

LONGEST_WHOLE = 512  # keys up to which a CPU attends by whole matrix products


@dataclass(frozen=True)
class Window:
    """How near a token must be to be seen. Where a cache leaves gaps between columns, positions alone tell.

    Attributes:
        size: positions that are seen to each side.
        query_position_ids: [B, T].
        key_position_ids: [B, S].
    """

    size: int
    query_position_ids: Tensor
    key_position_ids: Tensor


def attention_mask(
    query_sequence_ids: Tensor, reach: Tensor, key_sequence_ids: Tensor, *, window: Window | None = None
) -> Tensor:
    """Return which keys each query may see: same sequence, not beyond its reach, and not outside a window.

    The query and the key side come separately, so that a cache may hold more keys than there are new queries.

    Args:
        query_sequence_ids: [B, T].
        reach: [B, T] index of the last visible key.
        key_sequence_ids: [B, S].
        window: None: all are seen.
    Returns:
        bool [B, 1, T, S], true where visible.
    """
    same = query_sequence_ids[:, :, None] == key_sequence_ids[:, None, :]
    keys = torch.arange(key_sequence_ids.shape[1], device=reach.device)
    seen = same & (keys <= reach[:, :, None])
    if window is not None:
        distance = window.query_position_ids[:, :, None] - window.key_position_ids[:, None, :]
        seen &= distance.abs() <= window.size
    return seen[:, None]


def visible(
    query_sequence_ids: Tensor,
    reach: Tensor,
    key_sequence_ids: Tensor,
    *,
    like: Tensor,
    head_size: int,
    dropout: float = 0.0,
    window: Window | None = None,
) -> Mask:
    """Return who may see whom in the form that ``attend`` is fastest with.

    Those are blocks on a GPU, what to add to scores on a CPU that multiplies whole matrices, or else ``attention_mask``.

    Args:
        query_sequence_ids: [B, T].
        reach: [B, T] index of the last visible key.
        key_sequence_ids: [B, S]; the very tensor of the queries where there is no cache.
        like: hidden states that will attend, for their device and dtype.
        head_size: D.
        dropout: probability of dropping an attention weight.
        window: None: all are seen.
    """
    alone = key_sequence_ids is query_sequence_ids
    if alone and attends_in_blocks(like, length=reach.shape[1], head_size=head_size, dropout=dropout):
        from bothways.model.kernels_flex import block_mask

        return block_mask(query_sequence_ids, reach, window=window.size if window else None)
    mask = attention_mask(query_sequence_ids, reach, key_sequence_ids, window=window)
    return to_add(mask) if attends_by_whole_products(like, keys=mask.shape[-1]) else mask


def to_add(mask: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Return what to add to scores where a mask is true, 0, and where it is not, -inf."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -math.inf)


def attends_by_whole_products(like: Tensor, *, keys: int) -> bool:
    """Return whether attention is fastest by products of whole matrices.

    On a CPU the fused kernel multiplies small tiles; whole products are two to three times faster until the weights
    [B, H, T, S] no longer fit the cache (docs/experiments.md).
    """
    return like.device.type == "cpu" and dtype_of_products(like) == torch.bfloat16 and keys <= LONGEST_WHOLE


def default_reach(sequence_ids: Tensor, attention: Attention) -> Tensor:
    """Return the reach that a purely causal or bidirectional model gives to packed rows.

    Args:
        sequence_ids: [B, T], each sequence contiguous.
    Returns:
        int64 [B, T]: the token's own index, or the last index of its sequence.
    """
    batch, length = sequence_ids.shape
    index = torch.arange(length, device=sequence_ids.device).expand(batch, length)
    if attention == "causal":
        return index
    ends = torch.ones_like(sequence_ids, dtype=torch.bool)
    ends[:, :-1] = sequence_ids[:, 1:] != sequence_ids[:, :-1]
    last = torch.where(ends, index, length)
    return last.flip(1).cummin(dim=1).values.flip(1)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Mask, dropout: float = 0.0) -> Tensor:
    """Attend with the fastest way there is for the device and the shape.

    Args:
        query: [B, H, T, D].
        key, value: [B, H or fewer, S, D]; fewer heads are shared by groups of query heads.
        mask: as ``visible`` or ``attention_mask`` gives it.
        dropout: probability of dropping an attention weight; 0 with blocks.
    Returns:
        [B, H, T, D].
    """
    if not isinstance(mask, Tensor):
        from bothways.model.kernels_flex import attend_in_blocks

        return attend_in_blocks(query, key, value, mask)
    key, value = _share_heads(query, key), _share_heads(query, value)
    if mask.dtype != torch.bool:
        scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(-2, -1)
        return functional.dropout((scores + mask).softmax(dim=-1), dropout) @ value
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)


def attend_slowly(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Attend as the equation is written, and return the weights too: for tests and explanations.

    Source: Vaswani et al. 2017, equation 1.

    Returns:
        [B, H, T, D] and the weights [B, H, T, S].
    """
    key, value = _share_heads(query, key), _share_heads(query, value)
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    weights = scores.masked_fill(~mask, -math.inf).softmax(dim=-1)
    return weights @ value, weights


def _share_heads(query: Tensor, shared: Tensor) -> Tensor:
    groups = query.shape[1] // shared.shape[1]
    return shared if groups == 1 else shared.repeat_interleave(groups, dim=1)

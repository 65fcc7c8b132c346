"""Keys and values of the tokens already read, so that generating one token costs one token."""

import torch
from torch import Tensor

from bothways.batch import PADDING
from bothways.model.config import TransformerConfig


class Cache:
    """Preallocated keys and values of every layer, with the sequence and position ids that masks need.

    Columns are shared by all rows: a row whose prompt is shorter leaves columns of padding, which nothing sees.
    """

    def __init__(
        self, config: TransformerConfig, batch_size: int, capacity: int, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (config.num_hidden_layers, 2, batch_size, config.key_value_heads, capacity, config.size_of_head)
        self._states = torch.zeros(shape, device=device, dtype=dtype)
        self._sequence_ids = torch.full((batch_size, capacity), PADDING, device=device)
        self._position_ids = torch.zeros_like(self._sequence_ids)
        self._start = 0
        self.length = 0

    def extend(self, sequence_ids: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Make room for [B, T] new tokens and return the sequence and position ids [B, S] of all columns in use."""
        self._start, self.length = self.length, self.length + sequence_ids.shape[1]
        assert self.length <= self._sequence_ids.shape[1], "the cache is full"
        self._sequence_ids[:, self._start : self.length] = sequence_ids
        self._position_ids[:, self._start : self.length] = position_ids
        return self._sequence_ids[:, : self.length], self._position_ids[:, : self.length]

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new [B, H, T, D] keys and values of a layer and return all of its [B, H, S, D]."""
        states = self._states[layer]
        states[0, :, :, self._start : self.length] = key
        states[1, :, :, self._start : self.length] = value
        return states[0, :, :, : self.length], states[1, :, :, : self.length]

    def keep(self, rows: Tensor) -> None:
        """Keep (or repeat, or reorder) rows: finished ones leave, beams branch."""
        self._states = self._states[:, :, rows]
        self._sequence_ids, self._position_ids = self._sequence_ids[rows], self._position_ids[rows]

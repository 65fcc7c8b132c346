"""Weight names: ours against those of a published family, by one table that is read in both directions.

A table names modules; their ``weight`` and ``bias`` follow. ``#`` stands for the number of a layer.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Size, Tensor

_LAYER = re.compile(r"\.layers\.(\d+)\.")


class Entry(NamedTuple):
    """One line of a table.

    Attributes:
        theirs: name of a module, or of one weight, in the published file.
        ours: the module it is here; or several, which the file stacks along their outputs.
        transposed: the file keeps [inputs, outputs] where a linear layer has [outputs, inputs].
    """

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False


class Source(NamedTuple):
    """Where some of our weights are in a published file; an ``Entry`` filled in."""

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False

    def join(self, tensors: Sequence[Tensor]) -> Tensor:
        """Turn our tensors, in the order of ``ours``, into theirs."""
        return self._turn(torch.cat(list(tensors)) if len(tensors) > 1 else tensors[0])

    def split(self, tensor: Tensor, shapes: Mapping[str, Size]) -> dict[str, Tensor]:
        """Turn their tensor into ours, by name."""
        sizes = [shapes[name][0] for name in self.ours]
        parts = self._turn(tensor).split(sizes)  # type: ignore[no-untyped-call]
        if len(parts) > 1:  # parts of one tensor would keep all of it alive
            parts = [part.clone() for part in parts]
        return {name: part.contiguous() for name, part in zip(self.ours, parts, strict=True)}

    def shape(self, shapes: Mapping[str, Size]) -> tuple[int, ...]:
        """Return the shape that their tensor must have, from the shapes of ours."""
        first, *rest = (shapes[name] for name in self.ours)
        stacked = (first[0] + sum(shape[0] for shape in rest), *first[1:])
        return stacked[::-1] if self.transposed else stacked

    def _turn(self, tensor: Tensor) -> Tensor:
        return tensor.T if self.transposed and tensor.dim() == 2 else tensor


def entries(table: Mapping[str, str], *, transposed: bool = False) -> tuple[Entry, ...]:
    """Return the lines of a table.

    Args:
        table: their name to ours; several of ours are separated by spaces.
        transposed: see ``Entry``.
    """
    return tuple(Entry(theirs, tuple(ours.split()), transposed) for theirs, ours in table.items())


def locate(table: Iterable[Entry], weights: Iterable[str]) -> list[Source]:
    """Say where each of our weights is in a published file; what the table does not name keeps our own name.

    >>> locate(entries({"h.#.ln": "transformer.layers.#.mlp_norm"}), ["transformer.layers.3.mlp_norm.bias"])
    [Source(theirs='h.3.ln.bias', ours=('transformer.layers.3.mlp_norm.bias',), transposed=False)]
    """
    by_ours = {ours: entry for entry in table for ours in entry.ours}
    found: dict[str, Source] = {}
    for weight in weights:
        source = _fill_in(by_ours, weight)
        found[source.theirs] = source
    return list(found.values())


def _fill_in(by_ours: Mapping[str, Entry], weight: str) -> Source:
    layer = _LAYER.search(weight)
    number = layer[1] if layer else ""
    pattern = _LAYER.sub(".layers.#.", weight)
    if entry := by_ours.get(pattern):  # a weight that is named alone goes before its module
        leaf = ""
    else:
        module, _, leaf = pattern.rpartition(".")
        entry, leaf = by_ours.get(module), f".{leaf}"
    if entry is None:
        return Source(weight, (weight,))
    theirs, *ours = (name.replace("#", number) + leaf for name in (entry.theirs, *entry.ours))
    return Source(theirs, tuple(ours), entry.transposed)

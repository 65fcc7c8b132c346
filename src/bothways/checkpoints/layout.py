"""Which stored tensor is which weight of a model, and an account of every tensor that is there or should be."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Size
from torch.overrides import TorchFunctionMode

from bothways.checkpoints.family import Family
from bothways.checkpoints.names import Source, locate
from bothways.checkpoints.tensors import Stored
from bothways.errors import UserError, shown
from bothways.model.config import TransformerConfig
from bothways.model.heads import CLASSES, HEADS, Model

DECODER = "heads.language_model.decoder.weight"
_QUICK = 64  # layers that are built in no time
_LEGACY = {"gamma": "weight", "beta": "bias"}  # what a layer norm's weights were called in BERT's first files


class Layout:
    """Where the weights of a trunk, and of every head that it could have, are in stored tensors.

    Attributes:
        trunk: sources of the trunk's weights.
        heads: head to sources of its weights, whether they are stored or not.
        tied: where a file may hold a copy of the embeddings as the decoder; None if it is no copy.
    """

    def __init__(
        self, stored: Stored, family: Family, config: TransformerConfig, architectures: Sequence[str] = ()
    ) -> None:
        """Look at what is there.

        Args:
            stored: tensors under the family's names.
            family: of the tensors.
            config: settings of the trunk.
            architectures: Hugging Face's classes that the file says it is of.
        Raises:
            UserError: there are far more layers than tensors.
        """
        _check_layers(config, sum(1 for _ in stored))
        weights = list(weight_shapes(config, dict.fromkeys(HEADS, 0)))
        self.stored, self.family = stored, family
        self.trunk = locate(family.names(config, ()), _below("transformer.", weights))
        heads = {head: locate(family.names(config, (head,)), _below(f"heads.{head}.", weights)) for head in HEADS}
        self.tied = None if DECODER in weights else locate(family.names(config, ()), [DECODER])[0]
        self._ignored = re.compile("|".join(family.IGNORED) or r"(?!)")
        stored.rename(self._canonical(_theirs(self.trunk, *heads.values())))
        # A head that the family has no place for was stored under our own names.
        self.heads = {head: [part for source in found for part in self._kept(source)] for head, found in heads.items()}
        self._settle(_named_heads(architectures))

    def _canonical(self, known: set[str]) -> Callable[[str], str]:
        """Return what turns an old or shortened name into that of the table."""
        prefix = self.family.PREFIX
        bare = not any(name.startswith(prefix) for name in self.stored)

        def canonical(name: str) -> str:
            module, _, leaf = name.rpartition(".")
            name = f"{module}.{_LEGACY[leaf]}" if leaf in _LEGACY else name
            known_in_full = prefix + name in known or self._ignored.fullmatch(prefix + name)
            return prefix + name if bare and known_in_full else name

        return canonical

    def _kept(self, source: Source) -> list[Source]:
        under_our_names = [Source(name, (name,)) for name in source.ours]
        return under_our_names if all(name in self.stored for name in source.ours) else [source]

    def _settle(self, named: Collection[str]) -> None:
        """Give tensors that several heads could be to one of them: that which is named, else that which explains most."""

        def worth(head: str) -> tuple[bool, int]:
            return head in named, len(self.heads[head])

        whole = [
            head for head, sources in self.heads.items() if sources and len(self._present(sources)) == len(sources)
        ]
        for head in whole:
            mine = _theirs(self.own(head))
            rivals = [other for other in whole if other != head and mine & _theirs(self.own(other))]
            if any((worth(other), whole.index(head)) > (worth(head), whole.index(other)) for other in rivals):
                names = [name for source in self.heads[head] for name in source.ours]
                self.heads[head] = [Source(name, (name,)) for name in names]

    def own(self, head: str) -> list[Source]:
        """Return the sources of what this head says, not of what it may share with others, as BERT's pooler."""
        last = (f"heads.{head}.output.", f"heads.{head}.decoder.")
        return [source for source in self.heads[head] if source.ours[0].startswith(last)]

    def stored_heads(self) -> list[str]:
        """Return the heads of which every weight is stored; one without any weight cannot be seen."""
        tied = {"language_model"} if self.tied else set()
        return [
            head
            for head, sources in self.heads.items()
            if (sources or head in tied) and all(source.theirs in self.stored for source in sources)
        ]

    def outputs(self, head: str) -> int:
        """Return how many outputs the stored head has; 0 if that cannot be told."""
        name = f"heads.{head}.output.weight"
        return next((self.stored.shape(s.theirs)[0] for s in self._present(self.heads[head]) if s.ours == (name,)), 0)

    def is_new(self, head: str, asked: int) -> bool:
        """Whether nothing of the head itself is stored, or it is stored with other outputs than are asked for."""
        own, outputs = self.own(head), self.outputs(head)
        return bool(own) and (not self._present(own) or bool(asked and outputs and asked != outputs))

    def sources(self, head: str, asked: int) -> list[Source]:
        """Return the sources to read for a head; of a new one, those it shares and that are stored."""
        if not self.is_new(head, asked):
            return self.heads[head]
        return [source for source in self._present(self.heads[head]) if source not in self.own(head)]

    def _present(self, sources: Iterable[Source]) -> list[Source]:
        return [source for source in sources if source.theirs in self.stored]

    def unused(self, taken: Sequence[Source]) -> tuple[str, ...]:
        """Return the stored tensors of heads that are not among those taken."""
        return tuple(sorted(_theirs(*self.heads.values()) & set(self.stored) - _theirs(taken)))

    def ignored(self) -> tuple[str, ...]:
        """Return the stored tensors that are no weights, once ``check`` has found that there are no others."""
        return tuple(sorted(set(self.stored) - self._known()))

    def _known(self) -> set[str]:
        return _theirs(self.trunk, *self.heads.values(), [self.tied] if self.tied else [])

    def check(self, sources: Sequence[Source], shapes: Mapping[str, Size]) -> None:
        """Account for every tensor.

        Args:
            sources: all that will be read.
            shapes: our weights' names to their shapes.
        Raises:
            UserError: lists what is missing, unexpected or of the wrong shape.
        """
        known = self._known()
        problems = {
            "missing": [source.theirs for source in sources if source.theirs not in self.stored],
            "unexpected": [name for name in self.stored if name not in known and not self._ignored.fullmatch(name)],
            "wrong shape": [
                f"{source.theirs} is {list(self.stored.shape(source.theirs))}, not {list(source.shape(shapes))}"
                for source in self._present(sources)
                if self.stored.shape(source.theirs) != source.shape(shapes)
            ],
        }
        if any(problems.values()):
            found = "; ".join(f"{kind}: {_some(names)}" for kind, names in problems.items() if names)
            raise UserError(f"the weights do not fit config.json ({self.family.MODEL_TYPE}): {found}")


class _Unfilled(TorchFunctionMode):
    """Leaves out initialisation: for weights without memory it does nothing, and torch takes a second to do it."""

    _FILLS = ("normal_", "uniform_", "kaiming_uniform_", "ones_", "zeros_", "fill_", "zero_")

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function.__name__ in self._FILLS:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return function(*args, **kwargs)


def outline(config: TransformerConfig, heads: Mapping[str, int]) -> Model:
    """Return a model whose weights have shapes and no memory."""
    with torch.device("meta"), _Unfilled():
        return Model(config, heads)


def weight_shapes(config: TransformerConfig, heads: Mapping[str, int]) -> dict[str, Size]:
    """Return the shape of every weight of such a model, a tied one once."""
    return {name: weight.shape for name, weight in outline(config, heads).named_parameters()}


def _check_layers(config: TransformerConfig, tensors: int) -> None:
    """Refuse far more layers than there are tensors before they are built, which would take a while.

    Raises:
        UserError: there are.
    """
    if config.num_hidden_layers > max(tensors, _QUICK):
        raise UserError(
            f"the weights do not fit config.json: it says {config.num_hidden_layers} layers, and there are {tensors} tensors"
        )


def _below(prefix: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(prefix)]


def _named_heads(architectures: Sequence[str]) -> set[str]:
    return {head for end, head in CLASSES.items() for name in architectures if name.endswith(end)}


def _theirs(*groups: Iterable[Source]) -> set[str]:
    return {source.theirs for group in groups for source in group}


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(shown, names[:most])) + more

"""A model's weights into a published family's tensors, and back."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bothways.checkpoints.family import Family
from bothways.checkpoints.layout import DECODER, Layout, outline, weight_shapes
from bothways.checkpoints.names import locate
from bothways.checkpoints.tensors import Stored
from bothways.errors import NonFiniteError, UserError, unknown
from bothways.model.config import TransformerConfig
from bothways.model.heads import HEADS, Model


class Fitted(NamedTuple):
    """A model with stored weights.

    Attributes:
        model: in float32, on the CPU.
        new_heads: heads of which nothing is stored, or another number of outputs than was asked for: they are fresh.
        unused: stored tensors of heads that were not asked for.
        ignored: stored tensors that are no weights.
    """

    model: Model
    new_heads: tuple[str, ...]
    unused: tuple[str, ...]
    ignored: tuple[str, ...]


def outputs(model: Model) -> dict[str, int]:
    """Return the heads of a model and the number of outputs of each; 0 where the head's kind decides."""
    return {name: _outputs(head) for name, head in model.heads.items()}


def _outputs(head: nn.Module) -> int:
    layer = getattr(head, "output", None)
    return layer.out_features if isinstance(layer, nn.Linear) else getattr(head, "outputs", 0)


def to_tensors(model: Model, family: Family) -> dict[str, Tensor]:
    """Return a model's weights under a family's names and in its layout; a tied decoder is left out.

    Raises:
        NonFiniteError: a weight is infinite or undefined: such a model is not worth keeping.
    """
    weights = dict(model.named_parameters())
    assert set(weights) == set(weight_shapes(model.config, outputs(model))), "these are not the weights of such a model"
    for name, weight in weights.items():
        if not torch.isfinite(weight).all():
            raise NonFiniteError(f"the weight {name!r} holds infinite or undefined numbers; the model is not saved")
    sources = locate(family.names(model.config, tuple(model.heads)), weights)
    return {source.theirs: source.join([weights[name].detach() for name in source.ours]) for source in sources}


def from_tensors(
    stored: Stored,
    family: Family,
    config: TransformerConfig,
    heads: Mapping[str, int] | None,
    *,
    architectures: Sequence[str] = (),
) -> Fitted:
    """Build a model from stored tensors.

    Args:
        stored: tensors under the family's names.
        family: of the tensors.
        config: settings of the trunk.
        heads: name to number of outputs (0: as many as are stored); None: the heads that are stored.
        architectures: Hugging Face's classes that the file says it is of.
    Raises:
        UserError: a tensor is missing, unexpected or of the wrong shape, or there is no such head.
    """
    layout = Layout(stored, family, config, architectures)
    heads = dict.fromkeys(layout.stored_heads(), 0) if heads is None else heads
    for name in heads:
        if name not in HEADS:
            raise unknown("head", name, HEADS)
    sizes = {name: asked or layout.outputs(name) for name, asked in heads.items()}
    new_heads = tuple(name for name, asked in heads.items() if layout.is_new(name, asked))
    sources = [*layout.trunk, *(source for name, asked in heads.items() for source in layout.sources(name, asked))]
    shapes = weight_shapes(config, sizes)
    layout.check(sources, shapes)
    weights: dict[str, Tensor] = {}
    for source in sources:
        weights |= source.split(stored.read_weight(source.theirs), shapes)
    _check_tied(layout, weights["transformer.embed_tokens.weight"])
    model = _build(config, sizes, new_heads, weights)
    return Fitted(model, new_heads, layout.unused(sources), layout.ignored())


def _check_tied(layout: Layout, embeddings: Tensor) -> None:
    """Refuse a decoder that differs from the embeddings to which ``config.json`` ties it."""
    name = layout.tied.theirs if layout.tied else ""
    if name in layout.stored and not torch.equal(layout.stored.read_weight(name), embeddings):
        raise UserError(
            f"config.json ties the decoder to the embeddings, and {name} differs from them; if it is a decoder of "
            'its own, set "tie_word_embeddings" to false'
        )


def _build(
    config: TransformerConfig, sizes: Mapping[str, int], new_heads: Collection[str], weights: Mapping[str, Tensor]
) -> Model:
    """Build a model around weights. Only new heads draw random numbers."""
    parameters = {name: nn.Parameter(weight) for name, weight in weights.items()}
    model = outline(config, {name: size for name, size in sizes.items() if name not in new_heads})
    if config.tie_word_embeddings and "language_model" in model.heads:
        parameters[DECODER] = parameters["transformer.embed_tokens.weight"]
    shared = {name: parameters.pop(name) for head in new_heads for name in weights if name.startswith(f"heads.{head}.")}
    model.load_state_dict(parameters, strict=True, assign=True)
    for head in new_heads:
        model.add_head(head, sizes[head])
    model.load_state_dict(shared, strict=False)
    return model

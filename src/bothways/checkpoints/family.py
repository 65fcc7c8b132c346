"""What a published family of models must say about itself, and which family holds a given trunk.

One file a family, in the folder ``huggingface``; the folder is the registry.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, cast

from bothways.checkpoints.names import Entry
from bothways.discover import find
from bothways.discover import names as found
from bothways.errors import unknown
from bothways.model.config import TransformerConfig

_FOLDER = "checkpoints/huggingface"


class Family(Protocol):
    """The surface of each module in ``huggingface``.

    Attributes:
        MODEL_TYPE: how ``config.json`` names the family.
        PREFIX: what the names of trunk weights begin with; files that hold a bare trunk may leave it out.
        IGNORED: patterns of tensors that old files hold and that are no weights.
    """

    MODEL_TYPE: str
    PREFIX: str
    IGNORED: Sequence[str]

    def read_config(self, values: Mapping[str, Any]) -> TransformerConfig:
        """Return the settings of the trunk that a ``config.json`` describes, or raise ``UserError``."""

    def write_config(self, config: TransformerConfig, heads: Mapping[str, int]) -> dict[str, Any]:
        """Return Hugging Face's ``config.json`` for a trunk and its heads (name to number of outputs)."""

    def represents(self, config: TransformerConfig) -> bool:
        """Whether the family computes exactly what this trunk computes."""

    def names(self, config: TransformerConfig, heads: Collection[str]) -> Sequence[Entry]:
        """Return the table of names for a trunk with these heads; what it leaves out keeps our own names."""


def families() -> list[Family]:
    """Return every family, the one that holds any trunk last."""
    modules = [cast("Family", find(_FOLDER, name)) for name in found(_FOLDER)]
    return sorted(modules, key=lambda family: family.MODEL_TYPE == "bothways")


def family_of(model_type: object) -> Family:
    """Return the family that a ``config.json`` names.

    Raises:
        UserError: there is no such family here; the known ones are listed.
    """
    known = {family.MODEL_TYPE: family for family in families()}
    if not isinstance(model_type, str) or model_type not in known:
        raise unknown("model_type in config.json", model_type, known)
    return known[model_type]


def family_for(config: TransformerConfig) -> Family:
    """Return the family whose files hold this trunk."""
    return next(family for family in families() if family.represents(config))

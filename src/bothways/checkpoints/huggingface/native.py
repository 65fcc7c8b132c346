"""Any trunk at all, under our own names: for what no published family computes."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from bothways.checkpoints.names import Entry
from bothways.checkpoints.settings import read_settings
from bothways.model.config import TransformerConfig

MODEL_TYPE = "bothways"
PREFIX = "transformer."
IGNORED = ()


def read_config(values: Mapping[str, Any]) -> TransformerConfig:
    """Return the settings of the trunk.

    Raises:
        UserError: a value that is no legal one.
    """
    return read_settings(values, {field.name: field.name for field in dataclasses.fields(TransformerConfig)})


def write_config(config: TransformerConfig, heads: Mapping[str, int]) -> dict[str, Any]:  # noqa: ARG001
    """Return a ``config.json`` in the shape of Hugging Face's."""
    return {"architectures": ["BothwaysModel"], "model_type": MODEL_TYPE, **config.to_dict()}


def represents(config: TransformerConfig) -> bool:  # noqa: ARG001
    """Whether it computes what this trunk computes: always."""
    return True


def names(config: TransformerConfig, heads: Collection[str]) -> tuple[Entry, ...]:  # noqa: ARG001
    """Return the table of names: none differs."""
    return ()

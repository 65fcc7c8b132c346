"""XLM-RoBERTa: RoBERTa in a hundred languages, and under a name of its own.

Reference: Conneau et al. 2020.
"""

from collections.abc import Mapping
from typing import Any

from bothways.checkpoints.huggingface import roberta
from bothways.model.config import TransformerConfig

MODEL_TYPE = "xlm-roberta"
PREFIX, IGNORED = roberta.PREFIX, roberta.IGNORED
read_config, names = roberta.read_config, roberta.names


def write_config(config: TransformerConfig, heads: Mapping[str, int]) -> dict[str, Any]:
    """Return Hugging Face's ``config.json`` for a trunk and its heads."""
    return roberta.write(config, heads, MODEL_TYPE, "XLMRoberta")


def represents(config: TransformerConfig) -> bool:  # noqa: ARG001
    """Leave every trunk that it could hold to RoBERTa."""
    return False

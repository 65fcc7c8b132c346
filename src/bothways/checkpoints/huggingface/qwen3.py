"""Qwen3: Llama with queries and keys that are normed, head by head.

Reference: Yang et al. 2025.
"""

from collections.abc import Collection, Mapping
from typing import Any

from bothways.checkpoints.huggingface import llama
from bothways.checkpoints.names import Entry, entries
from bothways.checkpoints.settings import refuse, survives
from bothways.errors import UserError
from bothways.model.config import TransformerConfig

MODEL_TYPE = "qwen3"
PREFIX, IGNORED = llama.PREFIX, llama.IGNORED

SUPPORTED = {"use_sliding_window": False, "attention_bias": False}
NORMS = entries(
    {
        "model.layers.#.self_attn.q_norm": "transformer.layers.#.attention.q_norm",
        "model.layers.#.self_attn.k_norm": "transformer.layers.#.attention.k_norm",
    }
)


def read_config(values: Mapping[str, Any]) -> TransformerConfig:
    """Return the settings of the trunk.

    Raises:
        UserError: a value that is no legal one, or that asks for something else than this trunk computes.
    """
    refuse(values, SUPPORTED)
    kinds = values.get("layer_types") or ()
    if not isinstance(kinds, list | tuple) or set(map(str, kinds)) - {"full_attention"}:
        raise UserError("config.json: layer_types must be 'full_attention' throughout; windows are not supported")
    defaults = {"head_dim": 128, "max_position_embeddings": 32768}
    return llama.read_trunk({**defaults, **values}, bias=False, qk_norm=True, attention="causal", pooling="last")


def write_config(config: TransformerConfig, heads: Mapping[str, int]) -> dict[str, Any]:
    """Return Hugging Face's ``config.json`` for a trunk and its heads."""
    return {
        **llama.write_trunk(config),
        "architectures": [f"Qwen3{llama.kind_of(config, heads)}"],
        "model_type": MODEL_TYPE,
        "attention_bias": config.bias,
        "use_sliding_window": False,
    }


def represents(config: TransformerConfig) -> bool:
    """Whether Qwen3 computes what this trunk computes."""
    return survives(config, write_config, read_config)


def names(config: TransformerConfig, heads: Collection[str]) -> tuple[Entry, ...]:
    """Return the table of names for a trunk with these heads."""
    return llama.names(config, heads) + NORMS

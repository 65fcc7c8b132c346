"""ModernBERT as a GPT, as the pairs of Ettin have it.

Reference: Weller et al. 2025.
"""

from collections.abc import Collection, Mapping
from typing import Any

from bothways.checkpoints.huggingface import modernbert
from bothways.checkpoints.names import Entry, entries
from bothways.checkpoints.settings import survives
from bothways.model.config import TransformerConfig

MODEL_TYPE = "modernbert-decoder"
PREFIX, IGNORED = modernbert.PREFIX, modernbert.IGNORED

APART = entries(
    {
        "model.layers.#.attn.q_proj": "transformer.layers.#.attention.q_proj",
        "model.layers.#.attn.k_proj": "transformer.layers.#.attention.k_proj",
        "model.layers.#.attn.v_proj": "transformer.layers.#.attention.v_proj",
    }
)


def read_config(values: Mapping[str, Any]) -> TransformerConfig:
    """Return the settings of the trunk; its window counts the token itself.

    Raises:
        UserError: a value that is no legal one, or that asks for something else than this trunk computes.
    """
    window = modernbert.read_window(values) - 1
    return modernbert.read_trunk(values, attention="causal", pooling="last", local_window=window)


def write_config(config: TransformerConfig, heads: Mapping[str, int]) -> dict[str, Any]:
    """Return Hugging Face's ``config.json`` for a trunk and its heads."""
    reader = _reader_of(config, heads)
    kinds = {"classification": "ForSequenceClassification", "language_model": "ForCausalLM"}
    return {
        "architectures": [f"ModernBertDecoder{kinds.get(reader or '', 'Model')}"],
        "model_type": MODEL_TYPE,
        **modernbert.write_trunk(config),
        "local_attention": 2 * (config.local_window + 1),
        **dict.fromkeys(("pad_token_id", "bos_token_id", "cls_token_id", "sep_token_id"), 0),  # it takes no null
    }


def represents(config: TransformerConfig) -> bool:
    """Whether ModernBERT's decoder computes what this trunk computes."""
    return survives(config, write_config, read_config)


def names(config: TransformerConfig, heads: Collection[str]) -> tuple[Entry, ...]:
    """Return the table of names for a trunk with these heads."""
    reader = _reader_of(config, heads)
    module = "lm_head" if reader == "language_model" else "head"
    return modernbert.COMMON + APART + modernbert.read_by(reader, module)


def _reader_of(config: TransformerConfig, heads: Collection[str]) -> str | None:
    """Return the head that has a place in a file: classes only where their last layer has a bias, as ours always has."""
    able = [head for head in heads if head == "language_model" or (head == "classification" and config.head_bias)]
    return modernbert.reader_of(config, able)

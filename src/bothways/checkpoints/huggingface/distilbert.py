"""DistilBERT: BERT without token types, taught by a larger one.

Reference: Sanh et al. 2019.
"""

from collections.abc import Collection, Mapping
from typing import Any

from bothways.checkpoints.huggingface import bert
from bothways.checkpoints.names import Entry, entries
from bothways.checkpoints.settings import read_choice, read_settings, survives
from bothways.model.config import TransformerConfig

MODEL_TYPE = "distilbert"
PREFIX = "distilbert."
IGNORED = (r"distilbert\.embeddings\.position_ids",)

FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "max_position_embeddings": "max_position_embeddings",
    "tie_word_embeddings": "tie_word_embeddings",
    "hidden_dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "initializer_range": "initializer_range",
}
DEFAULTS = {"dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072, "dropout": 0.1, "attention_dropout": 0.1}
ACTIVATIONS = {"gelu": "gelu"}
NORM_EPS = 1e-12  # it has no setting for it

NAMES = entries(
    {
        "distilbert.embeddings.word_embeddings": "transformer.embed_tokens",
        "distilbert.embeddings.position_embeddings": "transformer.embed_positions",
        "distilbert.embeddings.LayerNorm": "transformer.embed_norm",
        "distilbert.transformer.layer.#.attention.q_lin": "transformer.layers.#.attention.q_proj",
        "distilbert.transformer.layer.#.attention.k_lin": "transformer.layers.#.attention.k_proj",
        "distilbert.transformer.layer.#.attention.v_lin": "transformer.layers.#.attention.v_proj",
        "distilbert.transformer.layer.#.attention.out_lin": "transformer.layers.#.attention.o_proj",
        "distilbert.transformer.layer.#.sa_layer_norm": "transformer.layers.#.attention_norm",
        "distilbert.transformer.layer.#.ffn.lin1": "transformer.layers.#.mlp.up_proj",
        "distilbert.transformer.layer.#.ffn.lin2": "transformer.layers.#.mlp.down_proj",
        "distilbert.transformer.layer.#.output_layer_norm": "transformer.layers.#.mlp_norm",
        "vocab_transform": "heads.language_model.transform.0",
        "vocab_layer_norm": "heads.language_model.transform.2",
        "vocab_projector": "heads.language_model.decoder",
        "qa_outputs": "heads.span.output",
    }
)
CLASSES = entries({"pre_classifier": "heads.classification.dense", "classifier": "heads.classification.output"})
TOKENS = entries({"classifier": "heads.token_classification.output"})


def read_config(values: Mapping[str, Any]) -> TransformerConfig:
    """Return the settings of the trunk.

    Raises:
        UserError: a value that is no legal one, or that asks for something else than this trunk computes.
    """
    return read_settings(
        {**DEFAULTS, **values},
        FIELDS,
        attention="bidirectional",
        position="learned",
        norm="layer",
        norm_position="post",
        norm_eps=NORM_EPS,
        activation=read_choice(values, "activation", ACTIVATIONS, "gelu"),
        bias=True,
        head_transform=True,
        pooling="first",
        pooler="relu",
    )


def write_config(config: TransformerConfig, heads: Mapping[str, int]) -> dict[str, Any]:
    """Return Hugging Face's ``config.json`` for a trunk and its heads."""
    return {
        "architectures": [f"DistilBert{bert.kind_of(heads, pools=pools(config))}"],
        "model_type": MODEL_TYPE,
        **{theirs: getattr(config, ours) for ours, theirs in FIELDS.items()},
        "activation": config.activation,
    }


def represents(config: TransformerConfig) -> bool:
    """Whether DistilBERT computes what this trunk computes."""
    return survives(config, write_config, read_config)


def pools(config: TransformerConfig) -> bool:
    """Whether heads read a sequence as DistilBERT does: dense and ReLU over the first token."""
    return config.pooler == "relu" and config.pooling == "first"


def names(config: TransformerConfig, heads: Collection[str]) -> tuple[Entry, ...]:
    """Return the table of names for a trunk with these heads."""
    return NAMES + (CLASSES if "classification" in heads and pools(config) else TOKENS)

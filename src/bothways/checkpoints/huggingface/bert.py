"""BERT: learned positions, token types, layer norm last.

Reference: Devlin et al. 2018.
"""

from collections.abc import Collection, Mapping
from typing import Any

from bothways.checkpoints.names import Entry, entries
from bothways.checkpoints.settings import read_choice, read_settings, refuse, survives
from bothways.errors import UserError
from bothways.model.config import TransformerConfig

MODEL_TYPE = "bert"
PREFIX = "bert."
IGNORED = (
    r"bert\.embeddings\.position_ids",  # 0, 1, 2, … as old files keep them
    r"cls\.predictions\.(decoder\.)?bias",  # the decoder's bias has two names; the table takes the one that is used
)

FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "max_position_embeddings",
    "type_vocab_size": "type_vocab_size",
    "norm_eps": "layer_norm_eps",
    "tie_word_embeddings": "tie_word_embeddings",
    "hidden_dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "initializer_range": "initializer_range",
}
ACTIVATIONS = {"gelu": "gelu"}  # the head's transform has it too, and ours is exact GELU
SUPPORTED = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}

NAMES = entries(
    {
        "bert.embeddings.word_embeddings": "transformer.embed_tokens",
        "bert.embeddings.position_embeddings": "transformer.embed_positions",
        "bert.embeddings.token_type_embeddings": "transformer.embed_types",
        "bert.embeddings.LayerNorm": "transformer.embed_norm",
        "bert.encoder.layer.#.attention.self.query": "transformer.layers.#.attention.q_proj",
        "bert.encoder.layer.#.attention.self.key": "transformer.layers.#.attention.k_proj",
        "bert.encoder.layer.#.attention.self.value": "transformer.layers.#.attention.v_proj",
        "bert.encoder.layer.#.attention.output.dense": "transformer.layers.#.attention.o_proj",
        "bert.encoder.layer.#.attention.output.LayerNorm": "transformer.layers.#.attention_norm",
        "bert.encoder.layer.#.intermediate.dense": "transformer.layers.#.mlp.up_proj",
        "bert.encoder.layer.#.output.dense": "transformer.layers.#.mlp.down_proj",
        "bert.encoder.layer.#.output.LayerNorm": "transformer.layers.#.mlp_norm",
        "cls.predictions.transform.dense": "heads.language_model.transform.0",
        "cls.predictions.transform.LayerNorm": "heads.language_model.transform.2",
        "cls.predictions.decoder": "heads.language_model.decoder",
        "qa_outputs": "heads.span.output",
    }
)
TIED = entries({"cls.predictions.bias": "heads.language_model.decoder.bias"})
POOLED = entries({"cls.seq_relationship": "heads.next_sentence.output", "classifier": "heads.classification.output"})
TOKENS = entries({"classifier": "heads.token_classification.output"})


def read_config(values: Mapping[str, Any]) -> TransformerConfig:
    """Return the settings of the trunk; its hidden dropout is the classifier's too, as it is in BERT by default.

    Raises:
        UserError: a value that is no legal one, or that asks for something else than this trunk computes.
    """
    return read_trunk(values)


def read_trunk(values: Mapping[str, Any], **fixed: Any) -> TransformerConfig:
    """Return the settings of a trunk of this kind."""
    refuse(values, SUPPORTED)
    defaults = {
        "layer_norm_eps": 1e-12,
        "type_vocab_size": 2,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
    }  # where the file is silent
    config = read_settings(
        {**defaults, **values},
        FIELDS,
        attention="bidirectional",
        position="learned",
        norm="layer",
        norm_position="post",
        activation=read_choice(values, "hidden_act", ACTIVATIONS, "gelu"),
        bias=True,
        head_transform=True,
        pooling="first",
        pooler="tanh",
        **fixed,
    )
    if config.type_vocab_size == 0:
        raise UserError(
            f"config.json: type_vocab_size must be at least 1 in a {values.get('model_type', 'bert')} model"
        )
    return config


def write_config(config: TransformerConfig, heads: Mapping[str, int]) -> dict[str, Any]:
    """Return Hugging Face's ``config.json`` for a trunk and its heads."""
    return {"architectures": [_architecture(config, heads)], "model_type": MODEL_TYPE, **write_trunk(config)}


def write_trunk(config: TransformerConfig) -> dict[str, Any]:
    """Return the settings of a trunk of this kind."""
    return {
        **{theirs: getattr(config, ours) for ours, theirs in FIELDS.items()},
        "hidden_act": config.activation,
    }


def kind_of(heads: Collection[str], *, pools: bool) -> str:
    """Return how the class for these heads is called after the name of its family.

    Args:
        heads: of the model.
        pools: sequences are read as the family reads them.
    """
    kinds = {
        "ForSequenceClassification": "classification" in heads and pools,
        "ForTokenClassification": "token_classification" in heads,
        "ForQuestionAnswering": "span" in heads,
        "ForMaskedLM": "language_model" in heads,
    }
    return next((kind for kind, fits in kinds.items() if fits), "Model")


def _architecture(config: TransformerConfig, heads: Collection[str]) -> str:
    pairs = "next_sentence" in heads and pools(config)
    kind = kind_of(heads, pools=pools(config))
    if kind == "ForMaskedLM" and pairs:
        kind = "ForPreTraining"
    if kind == "Model" and pairs:
        kind = "ForNextSentencePrediction"
    return f"Bert{kind}"


def represents(config: TransformerConfig) -> bool:
    """Whether BERT computes what this trunk computes."""
    return survives(config, write_config, read_config)


def pools(config: TransformerConfig) -> bool:
    """Whether heads read a sequence as BERT does: dense and tanh over the first token."""
    return config.pooler == "tanh" and config.pooling == "first"


def names(config: TransformerConfig, heads: Collection[str]) -> tuple[Entry, ...]:
    """Return the table of names for a trunk with these heads; BERT has one pooler, the classifier's first."""
    tied = TIED if config.tie_word_embeddings else ()
    if "token_classification" in heads and "classification" not in heads:
        tied += TOKENS
    if not pools(config):
        return NAMES + tied
    head = "classification" if "classification" in heads else "next_sentence"
    return NAMES + tied + POOLED + entries({"bert.pooler.dense": f"heads.{head}.dense"})

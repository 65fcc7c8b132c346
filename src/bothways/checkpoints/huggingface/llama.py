"""Llama: our modern trunk as a GPT. Rotary positions, RMS norm first, gated feed-forward.

Reference: Touvron et al. 2023.
"""

from collections.abc import Collection, Mapping
from typing import Any

from bothways.checkpoints.names import Entry, entries
from bothways.checkpoints.settings import divided_by_heads, read_choice, read_settings, refuse, survives
from bothways.errors import UserError
from bothways.model.config import TransformerConfig

MODEL_TYPE = "llama"
PREFIX = "model."
IGNORED = (r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq",)

FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "num_key_value_heads": "num_key_value_heads",
    "head_size": "head_dim",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "max_position_embeddings",
    "norm_eps": "rms_norm_eps",
    "tie_word_embeddings": "tie_word_embeddings",
    "attention_dropout": "attention_dropout",
    "initializer_range": "initializer_range",
}
ACTIVATIONS = {"silu": "swiglu", "swish": "swiglu", "gelu": "geglu"}

NAMES = entries(
    {
        "model.embed_tokens": "transformer.embed_tokens",
        "model.layers.#.input_layernorm": "transformer.layers.#.attention_norm",
        "model.layers.#.self_attn.q_proj": "transformer.layers.#.attention.q_proj",
        "model.layers.#.self_attn.k_proj": "transformer.layers.#.attention.k_proj",
        "model.layers.#.self_attn.v_proj": "transformer.layers.#.attention.v_proj",
        "model.layers.#.self_attn.o_proj": "transformer.layers.#.attention.o_proj",
        "model.layers.#.post_attention_layernorm": "transformer.layers.#.mlp_norm",
        "model.layers.#.mlp.gate_proj": "transformer.layers.#.mlp.gate_proj",
        "model.layers.#.mlp.up_proj": "transformer.layers.#.mlp.up_proj",
        "model.layers.#.mlp.down_proj": "transformer.layers.#.mlp.down_proj",
        "model.norm": "transformer.norm",
        "lm_head": "heads.language_model.decoder",
    }
)
CLASSES = entries({"score": "heads.classification.output"})
TOKENS = entries({"score": "heads.token_classification.output"})


def read_config(values: Mapping[str, Any]) -> TransformerConfig:
    """Return the settings of the trunk.

    Raises:
        UserError: a value that is no legal one, or that asks for something else than this trunk computes.
    """
    if values.get("attention_bias", False) != values.get("mlp_bias", False):
        raise UserError(
            "config.json: attention_bias and mlp_bias must be the same: all linear layers have biases, or none"
        )
    bias = values.get("attention_bias", False)
    return read_trunk(values, bias=bias, attention="causal", pooling="last")


def read_trunk(values: Mapping[str, Any], **fixed: Any) -> TransformerConfig:
    """Return the settings of a trunk of this kind, causal or not."""
    defaults = {"norm_eps": 1e-6, "tie_word_embeddings": False}  # of Hugging Face's class, where the file is silent
    activation = read_choice(values, "hidden_act", ACTIVATIONS, "silu")
    absent = {ours: value for ours, value in defaults.items() if FIELDS[ours] not in values}
    config = read_settings(
        values, FIELDS, activation=activation, rope_theta=read_rope_theta(values), **{**absent, **fixed}
    )
    return divided_by_heads(config)


def read_rope_theta(values: Mapping[str, Any]) -> Any:
    """Return the base of the rotary angles, which newer files keep in ``rope_parameters``.

    Raises:
        UserError: the angles are scaled in some way, which this trunk does not do.
    """
    theta = values.get("rope_theta")
    for name in ("rope_parameters", "rope_scaling"):
        rope = values.get(name) or {}
        if not isinstance(rope, Mapping):
            raise UserError(f"config.json: {name} must be a JSON object, not {rope!r}")
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default":
            raise UserError(
                f"config.json: {name} has the type {kind!r}; only unscaled rotary positions ('default') are supported"
            )
        refuse(rope, {"partial_rotary_factor": 1.0})
        theta = rope.get("rope_theta", theta)
    refuse(values, {"partial_rotary_factor": 1.0})
    return 10_000.0 if theta is None else theta


def write_config(config: TransformerConfig, heads: Mapping[str, int]) -> dict[str, Any]:
    """Return Hugging Face's ``config.json`` for a trunk and its heads."""
    bias = {"attention_bias": config.bias, "mlp_bias": config.bias}
    return {
        "architectures": [f"Llama{kind_of(config, heads)}"],
        "model_type": MODEL_TYPE,
        **write_trunk(config),
        **bias,
    }


def kind_of(config: TransformerConfig, heads: Collection[str]) -> str:
    """Return how the class for a causal trunk with these heads is called after the name of its family."""
    kinds = {
        "ForSequenceClassification": classes(config, heads),
        "ForTokenClassification": "token_classification" in heads,
        "ForCausalLM": "language_model" in heads,
    }
    return next((kind for kind, fits in kinds.items() if fits), "Model")


def write_trunk(config: TransformerConfig) -> dict[str, Any]:
    """Return the settings of a trunk of this kind, causal or not, in both spellings of the rotary base."""
    activation = next((theirs for theirs, ours in ACTIVATIONS.items() if ours == config.activation), None)
    return {
        **{theirs: getattr(config, ours) for ours, theirs in FIELDS.items()},
        "num_key_value_heads": config.key_value_heads,
        "head_dim": config.size_of_head,
        "hidden_act": activation,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
    }


def represents(config: TransformerConfig) -> bool:
    """Whether Llama computes what this trunk computes."""
    return survives(config, write_config, read_config)


def classes(config: TransformerConfig, heads: Collection[str]) -> bool:
    """Whether there is a classification head of Llama's kind: one matrix over the last token."""
    return "classification" in heads and config.pooler == "none" and config.pooling == "last"


def names(config: TransformerConfig, heads: Collection[str]) -> tuple[Entry, ...]:
    """Return the table of names for a trunk with these heads."""
    return NAMES + (CLASSES if classes(config, heads) else TOKENS)

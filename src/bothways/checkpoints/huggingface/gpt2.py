"""GPT-2: learned positions, layer norm first. Its linear layers are stored transposed, with q, k and v in one.

Reference: Radford et al. 2019.
"""

from collections.abc import Collection, Mapping
from typing import Any

from bothways.checkpoints.names import Entry, entries
from bothways.checkpoints.settings import read_choice, read_settings, refuse, survives
from bothways.model.config import TransformerConfig

MODEL_TYPE = "gpt2"
PREFIX = "transformer."
IGNORED = (r"transformer\.h\.\d+\.attn\.(masked_)?bias",)  # the causal mask of old files

FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "max_position_embeddings": "n_positions",
    "norm_eps": "layer_norm_epsilon",
    "tie_word_embeddings": "tie_word_embeddings",
    "hidden_dropout": "resid_pdrop",
    "attention_dropout": "attn_pdrop",
    "initializer_range": "initializer_range",
}
ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu2": "relu2"}
SUPPORTED = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}

NAMES = entries(
    {
        "transformer.wte": "transformer.embed_tokens",
        "transformer.wpe": "transformer.embed_positions",
        "transformer.h.#.ln_1": "transformer.layers.#.attention_norm",
        "transformer.h.#.ln_2": "transformer.layers.#.mlp_norm",
        "transformer.ln_f": "transformer.norm",
        "lm_head": "heads.language_model.decoder",
        "qa_outputs": "heads.span.output",
    }
) + entries(
    {
        "transformer.h.#.attn.c_attn": "transformer.layers.#.attention.q_proj transformer.layers.#.attention.k_proj "
        "transformer.layers.#.attention.v_proj",
        "transformer.h.#.attn.c_proj": "transformer.layers.#.attention.o_proj",
        "transformer.h.#.mlp.c_fc": "transformer.layers.#.mlp.up_proj",
        "transformer.h.#.mlp.c_proj": "transformer.layers.#.mlp.down_proj",
    },
    transposed=True,
)
CLASSES = entries({"score": "heads.classification.output"})


def read_config(values: Mapping[str, Any]) -> TransformerConfig:
    """Return the settings of the trunk. Of GPT-2's dropouts, that of the embeddings follows that of the residual.

    Raises:
        UserError: a value that is no legal one, or that asks for something else than this trunk computes.
    """
    refuse(values, SUPPORTED)
    defaults = {"layer_norm_epsilon": 1e-5, "resid_pdrop": 0.1, "attn_pdrop": 0.1}  # where the file is silent
    values = {**defaults, **values}
    if values.get("n_inner") is None and isinstance(values.get("n_embd"), int):
        values["n_inner"] = 4 * values["n_embd"]
    return read_settings(
        values,
        FIELDS,
        attention="causal",
        position="learned",
        norm="layer",
        activation=read_choice(values, "activation_function", ACTIVATIONS, "gelu_new"),
        bias=True,
    )


def write_config(config: TransformerConfig, heads: Mapping[str, int]) -> dict[str, Any]:
    """Return Hugging Face's ``config.json`` for a trunk and its heads."""
    return {
        "architectures": [_architecture(config, heads)],
        "model_type": MODEL_TYPE,
        **{theirs: getattr(config, ours) for ours, theirs in FIELDS.items()},
        "activation_function": next(
            (theirs for theirs, ours in ACTIVATIONS.items() if ours == config.activation), None
        ),
        "embd_pdrop": config.hidden_dropout,
    }


def _architecture(config: TransformerConfig, heads: Mapping[str, int]) -> str:
    if classes(config, heads):
        return "GPT2ForSequenceClassification"
    if "span" in heads:
        return "GPT2ForQuestionAnswering"
    return "GPT2LMHeadModel" if "language_model" in heads else "GPT2Model"


def represents(config: TransformerConfig) -> bool:
    """Whether GPT-2 computes what this trunk computes."""
    return survives(config, write_config, read_config)


def classes(config: TransformerConfig, heads: Collection[str]) -> bool:
    """Whether there is a classification head of GPT-2's kind: one matrix over the last token."""
    return "classification" in heads and config.pooler == "none" and config.pooling == "last"


def names(config: TransformerConfig, heads: Collection[str]) -> tuple[Entry, ...]:
    """Return the table of names for a trunk with these heads."""
    return NAMES + (CLASSES if classes(config, heads) else ())

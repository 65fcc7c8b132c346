"""ModernBERT: rotary positions, layer norm first and without biases, most layers seeing only what is near.

Reference: Warner et al. 2024.
"""

from collections.abc import Collection, Mapping
from typing import Any

from bothways.checkpoints.names import Entry, entries
from bothways.checkpoints.settings import divided_by_heads, read_choice, read_settings, refuse, survives
from bothways.errors import UserError
from bothways.model.config import TransformerConfig

MODEL_TYPE = "modernbert"
PREFIX = "model."
IGNORED = ()

FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "max_position_embeddings",
    "norm_eps": "norm_eps",
    "norm_bias": "norm_bias",
    "head_bias": "classifier_bias",
    "tie_word_embeddings": "tie_word_embeddings",
    "attention_dropout": "attention_dropout",
    "initializer_range": "initializer_range",
}
DEFAULTS = {
    "vocab_size": 50368,
    "hidden_size": 768,
    "num_hidden_layers": 22,
    "num_attention_heads": 12,
    "intermediate_size": 1152,
    "max_position_embeddings": 8192,
    "norm_eps": 1e-5,
    "norm_bias": False,
    "classifier_bias": False,
}  # of Hugging Face's class, where the file is silent
SUPPORTED = {"classifier_activation": "gelu", "decoder_bias": True, "attention_bias": False, "mlp_bias": False}
ACTIVATIONS = {"gelu": "geglu"}
POOLING = {"cls": "first", "mean": "mean"}
THETAS = {"full_attention": ("global_rope_theta", 160_000.0), "sliding_attention": ("local_rope_theta", 10_000.0)}

COMMON = entries(
    {
        "model.embeddings.tok_embeddings": "transformer.embed_tokens",
        "model.embeddings.norm": "transformer.embed_norm",
        "model.layers.#.attn_norm": "transformer.layers.#.attention_norm",
        "model.layers.#.attn.Wo": "transformer.layers.#.attention.o_proj",
        "model.layers.#.mlp_norm": "transformer.layers.#.mlp_norm",
        "model.layers.#.mlp.Wi": "transformer.layers.#.mlp.gate_proj transformer.layers.#.mlp.up_proj",
        "model.layers.#.mlp.Wo": "transformer.layers.#.mlp.down_proj",
        "model.final_norm": "transformer.norm",
        "decoder": "heads.language_model.decoder",
    }
)
JOINED = entries(
    {
        "model.layers.#.attn.Wqkv": "transformer.layers.#.attention.q_proj transformer.layers.#.attention.k_proj "
        "transformer.layers.#.attention.v_proj"
    }
)
READERS = (
    "classification",
    "token_classification",
    "span",
    "language_model",
)  # the first that is there is saved as such


def read_config(values: Mapping[str, Any]) -> TransformerConfig:
    """Return the settings of the trunk.

    Raises:
        UserError: a value that is no legal one, or that asks for something else than this trunk computes.
    """
    pooling = read_choice(values, "classifier_pooling", POOLING, "cls")
    return read_trunk(values, attention="bidirectional", pooling=pooling, local_window=read_window(values))


def read_trunk(values: Mapping[str, Any], **fixed: Any) -> TransformerConfig:
    """Return the settings of a trunk of this kind, causal or not."""
    refuse(values, SUPPORTED)
    values = {**DEFAULTS, **values}
    thetas = _read_thetas(values)
    config = read_settings(
        values,
        FIELDS,
        activation=read_choice(values, "hidden_activation", ACTIVATIONS, "gelu"),
        norm="layer",
        norm_embeddings=True,
        head_transform=True,
        pooler="transform",
        rope_theta=thetas["full_attention"],
        local_rope_theta=thetas["sliding_attention"],
        global_every=_read_pattern(values),
        hidden_dropout=values.get("classifier_dropout", 0.0),
        **fixed,
    )
    return divided_by_heads(config)


def read_window(values: Mapping[str, Any]) -> int:
    """Return half of ``local_attention``: how far a token of a local layer sees to one side, or nearly.

    Raises:
        UserError: it is no whole number of at least two.
    """
    window = values.get("local_attention", 128)
    if not isinstance(window, int) or isinstance(window, bool) or window < 2:
        raise UserError(f"config.json: local_attention must be a whole number of at least 2, not {window!r}")
    return window // 2


def _read_pattern(values: Mapping[str, Any]) -> int:
    """Return every how many layers one sees everything.

    Raises:
        UserError: the layers are in no such order.
    """
    kinds = values.get("layer_types")
    every = values.get("global_attn_every_n_layers", 3)
    if kinds is None:
        return every  # checked with the other numbers
    if not isinstance(kinds, list) or not kinds or set(map(str, kinds)) - set(THETAS):
        raise UserError(f"config.json: layer_types must be a list of {' and '.join(map(repr, THETAS))}, not {kinds!r}")
    full = [layer for layer, kind in enumerate(kinds) if kind == "full_attention"]
    every = full[1] if len(full) > 1 else len(kinds)
    if len(kinds) != values["num_hidden_layers"] or full != list(range(0, len(kinds), every)):
        raise UserError(
            "config.json: layer_types must name each of num_hidden_layers layers, and every so many-th of them, from "
            f"the first one on, must be 'full_attention', not {kinds!r}"
        )
    return every


def _read_thetas(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the base of the rotary angles of each kind of layer, from either spelling.

    Raises:
        UserError: the angles are scaled in some way, which this trunk does not do.
    """
    parameters = values.get("rope_parameters") or {}
    if not isinstance(parameters, Mapping) or values.get("rope_scaling"):
        raise UserError("config.json: rope_parameters must map kinds of layers to unscaled rotary angles")
    thetas = {}
    for kind, (name, usual) in THETAS.items():
        rope = parameters.get(kind) or {}
        if not isinstance(rope, Mapping) or rope.get("rope_type", "default") != "default":
            raise UserError(f"config.json: rope_parameters.{kind} must be unscaled ('default'), not {rope!r}")
        thetas[kind] = rope.get("rope_theta", values.get(name, usual))
    return thetas


def write_config(config: TransformerConfig, heads: Mapping[str, int]) -> dict[str, Any]:
    """Return Hugging Face's ``config.json`` for a trunk and its heads."""
    kinds = {"token_classification": "TokenClassification", "span": "QuestionAnswering", "language_model": "MaskedLM"}
    kinds = {"classification": "SequenceClassification", **kinds}
    reader = reader_of(config, heads)
    return {
        "architectures": [f"ModernBertFor{kinds[reader]}" if reader else "ModernBertModel"],
        "model_type": MODEL_TYPE,
        **write_trunk(config),
        "classifier_pooling": "mean" if config.pooling == "mean" else "cls",
        "local_attention": 2 * config.local_window,
    }


def write_trunk(config: TransformerConfig) -> dict[str, Any]:
    """Return the settings of a trunk of this kind, causal or not, in both spellings."""
    layers = range(config.num_hidden_layers)
    thetas = {"full_attention": config.rope_theta, "sliding_attention": config.local_rope_theta}
    return {
        **{theirs: getattr(config, ours) for ours, theirs in FIELDS.items()},
        "hidden_activation": next((name for name, ours in ACTIVATIONS.items() if ours == config.activation), None),
        "classifier_dropout": config.hidden_dropout,
        "layer_types": ["sliding_attention" if config.is_local(layer) else "full_attention" for layer in layers],
        "global_attn_every_n_layers": config.global_every,
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in thetas.items()},
        **{name: thetas[kind] for kind, (name, _) in THETAS.items()},
    }


def represents(config: TransformerConfig) -> bool:
    """Whether ModernBERT computes what this trunk computes."""
    return survives(config, write_config, read_config)


def reader_of(config: TransformerConfig, heads: Collection[str]) -> str | None:
    """Return the one head that reads through the dense layer and norm that a file has room for."""
    able = [head for head in READERS if head == "language_model" or config.pooler == "transform"]
    return next((head for head in able if head in heads), None)


def read_by(head: str | None, module: str) -> tuple[Entry, ...]:
    """Return the names of a head's dense layer and norm, and of its classes."""
    if head is None:
        return ()
    table = {f"{module}.dense": f"heads.{head}.transform.0", f"{module}.norm": f"heads.{head}.transform.2"}
    classes = {} if head == "language_model" else {"classifier": f"heads.{head}.output"}
    return entries(table | classes)


def names(config: TransformerConfig, heads: Collection[str]) -> tuple[Entry, ...]:
    """Return the table of names for a trunk with these heads."""
    return COMMON + JOINED + read_by(reader_of(config, heads), "head")

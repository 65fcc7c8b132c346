"""Settings of the trunk, read from a ``config.json`` that anyone may have written."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bothways.errors import UserError, unknown
from bothways.model.config import TransformerConfig

# Smallest and largest whole number that a config.json may give: wide enough for any published model, and narrow enough
# that a wrong digit is refused before anything is built.
LIMITS = {
    "vocab_size": (1, 10**8),
    "hidden_size": (1, 10**6),
    "num_hidden_layers": (1, 10**4),
    "num_attention_heads": (1, 10**5),
    "num_key_value_heads": (1, 10**5),
    "head_size": (1, 10**5),
    "intermediate_size": (1, 10**7),
    "max_position_embeddings": (1, 10**9),
    "type_vocab_size": (0, 10**6),
    "position_offset": (0, 10**6),
    "local_window": (0, 10**9),
    "global_every": (1, 10**4),
}
NULLABLE = ("num_key_value_heads", "head_size")

# What may differ without changing what a trunk computes: it matters to training, or to heads that are not there yet.
FREE = ("hidden_dropout", "attention_dropout", "initializer_range", "pooling", "pooler", "hybrid")


def read_settings(values: Mapping[str, Any], fields: Mapping[str, str], **fixed: Any) -> TransformerConfig:
    """Build the settings of the trunk.

    Args:
        values: what ``config.json`` holds.
        fields: our name of a setting to theirs. One that is absent takes our default, if there is one.
        fixed: settings that the family itself decides.
    Raises:
        UserError: a value of the wrong type or out of bounds, or a needed one that is absent.
    """
    found = {ours: values[theirs] for ours, theirs in fields.items() if theirs in values}
    found = {**found, **fixed}
    for ours, (low, high) in LIMITS.items():
        if ours in found and not (found[ours] is None and ours in NULLABLE):
            _check_whole(fields.get(ours, ours), found[ours], low, high)
    config = TransformerConfig.from_dict(found, where="config.json: ")
    for name in ("norm_eps", "rope_theta", "local_rope_theta"):
        if getattr(config, name) <= 0:
            raise UserError(f"config.json: {fields.get(name, name)} must be above 0, not {getattr(config, name)}")
    return config


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise UserError(f"config.json: {name} must be a whole number from {low} to {high:,}, not {value!r}")


def read_choice(values: Mapping[str, Any], name: str, legal: Mapping[str, str], default: str) -> str:
    """Return our word for the value of a setting, such as an activation.

    Raises:
        UserError: a value that is not among the legal ones, which are listed.
    """
    value = values.get(name, default)
    if not isinstance(value, str) or value not in legal:
        raise unknown(f"{name} in config.json", value, legal)
    return legal[value]


def refuse(values: Mapping[str, Any], legal: Mapping[str, Any]) -> None:
    """Refuse settings under which the family computes something else than our trunk does.

    Args:
        values: what ``config.json`` holds.
        legal: name to the one value that we compute; an absent setting has it.
    """
    for name, value in legal.items():
        if values.get(name, value) != value:
            raise UserError(f"config.json: {name} = {values[name]!r} is not supported; supported: {value!r}")


def divided_by_heads(config: TransformerConfig) -> TransformerConfig:
    """Return the settings of a family in which heads share the hidden size evenly.

    Raises:
        UserError: they do not.
    """
    if config.hidden_size % config.num_attention_heads:
        raise UserError(
            f"config.json: hidden_size ({config.hidden_size}) must be a multiple of num_attention_heads "
            f"({config.num_attention_heads})"
        )
    return config


def survives(
    config: TransformerConfig,
    write_config: Callable[[TransformerConfig, Mapping[str, int]], Mapping[str, Any]],
    read_config: Callable[[Mapping[str, Any]], TransformerConfig],
) -> bool:
    """Whether a family's ``config.json`` says all that the trunk computes: written and read back, it is the same."""
    try:
        return _computes(read_config(write_config(config, {}))) == _computes(config)
    except UserError:
        return False


def _computes(config: TransformerConfig) -> dict[str, Any]:
    """Return what decides the function of a trunk, implied sizes spelled out."""
    values = {name: value for name, value in config.to_dict().items() if name not in FREE}
    values |= {"head_size": config.size_of_head, "num_key_value_heads": config.key_value_heads}
    values["global_every"] = min(config.global_every, config.num_hidden_layers)
    for name in _without_meaning(config):
        del values[name]
    return values


def _without_meaning(config: TransformerConfig) -> Iterator[str]:
    """Yield the settings that change nothing in this trunk."""
    local = any(map(config.is_local, range(config.num_hidden_layers)))
    if not local:
        yield from ("local_window", "global_every")
    if not local or config.position == "learned":
        yield "local_rope_theta"
    yield "rope_theta" if config.position == "learned" else "position_offset"
    if config.norm == "rms":
        yield "norm_bias"
    if config.norm_position == "post":
        yield "norm_embeddings"
    if not config.head_transform:
        yield "head_bias"


def left_over(config: TransformerConfig, read: TransformerConfig) -> dict[str, Any]:
    """Return the settings that a family has no place for, given what comes back from its ``config.json``."""
    assert _computes(config) == _computes(read), "this family cannot hold this trunk"
    back = read.to_dict()
    return {name: value for name, value in config.to_dict().items() if back[name] != value}


def put_back(read: TransformerConfig, settings: object) -> TransformerConfig:
    """Apply what ``left_over`` kept.

    Raises:
        UserError: these settings would change what the trunk computes, which ``config.json`` itself decides.
    """
    if not settings:
        return read
    if not isinstance(settings, Mapping):
        raise UserError(f"config.json: bothways.settings must be a JSON object, not {settings!r}")
    config = TransformerConfig.from_dict({**read.to_dict(), **settings}, where="config.json: bothways.settings.")
    if _computes(config) != _computes(read):
        raise UserError(
            f"config.json: bothways.settings contradicts the rest of the file; it may hold {', '.join(FREE)}"
        )
    return config

"""What an arm computes, counted the same way for all: the products that its model needs, whatever else it does."""

from collections.abc import Mapping
from typing import Any

from bothways.experiment import Experiment
from bothways.model.config import TransformerConfig
from bothways.model.flops import training_flops
from bothways.recipes.recipe import recipe

MASKED = 0.15


def our_experiment(family: str, size: str, vocab_size: int, settings: tuple[str, ...]) -> Experiment:
    """Return our settings with the vocabulary of the text."""
    experiment: Experiment = recipe(f"{family}-{size}")
    return experiment.override([f"model.vocab_size={vocab_size}", *settings])


def shape_of(experiment: Experiment) -> dict[str, int]:
    """Return the sizes that the peers share with us; their feed-forward layers are four times as wide as the rest."""
    model = experiment.model
    return {
        "vocab_size": model.vocab_size,
        "hidden_size": model.hidden_size,
        "layers": model.num_hidden_layers,
        "heads": model.num_attention_heads,
    }


def peer_config(family: str, shape: Mapping[str, int]) -> TransformerConfig:
    """Return the trunk of a peer: GPT-2's or BERT's."""
    return TransformerConfig(
        vocab_size=shape["vocab_size"],
        hidden_size=shape["hidden_size"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        intermediate_size=4 * shape["hidden_size"],
        activation="gelu",
        head_transform=family == "bert",
    )


def operations(result: Mapping[str, Any], experiment: Experiment) -> float:
    """Return the floating point operations of a whole training; masked models need the vocabulary at hidden tokens only."""
    ours, masked = result["peer"] == "bothways", result["family"] == "bert"
    config = experiment.model if ours else peer_config(result["family"], shape_of(experiment))
    share = (experiment.objective.mask_share if ours else MASKED) if masked else 1.0
    tokens = result["tokens"]
    return training_flops(config, tokens=tokens, predicted=round(share * tokens), context=round(result["context"]))

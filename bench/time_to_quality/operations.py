"""What an arm computes, counted the same way for all: the products that its model needs, whatever else it does."""

from collections.abc import Mapping
from typing import Any

from bothways.experiment import Experiment
from bothways.model.config import TransformerConfig
from bothways.model.flops import training_flops
from bothways.recipes.recipe import recipe

MASKED = 0.15


# Of the peers: hidden size, layers and heads, so that with 8,192 tokens they have as many parameters as our recipe of a size.
SHAPES = {"tiny": (96, 4, 3), "mini": (256, 4, 4), "small": (384, 6, 6)}


def our_experiment(family: str, size: str, vocab_size: int, settings: tuple[str, ...]) -> Experiment:
    """Return our settings with the vocabulary of the text."""
    experiment: Experiment = recipe(f"{family}-{size}")
    return experiment.override([f"model.vocab_size={vocab_size}", *settings])


def shape_of(size: str, vocab_size: int) -> dict[str, int]:
    """Return the sizes of the peers; their feed-forward layers are four times as wide as the rest."""
    hidden_size, layers, heads = SHAPES[size]
    return {"vocab_size": vocab_size, "hidden_size": hidden_size, "layers": layers, "heads": heads}


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


def operations(result: Mapping[str, Any], vocab_size: int) -> float:
    """Return the floating point operations of a whole training; masked models need the vocabulary at hidden tokens only.

    Ours are counted step by step by the run itself, since its rows and the share of hidden tokens change on the way.
    """
    if result["peer"] == "bothways":
        return float(result["flops"])
    config = peer_config(result["family"], shape_of(result["size"], vocab_size))
    tokens = result["tokens"]
    predicted = round((MASKED if result["family"] == "bert" else 1.0) * tokens)
    return training_flops(config, tokens=tokens, predicted=predicted, context=round(result["context"]))

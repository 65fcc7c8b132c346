"""EuroBERT: our modern trunk as a BERT. The weights of Llama, reading in both directions.

Reference: Boizard et al. 2025.
"""

from collections.abc import Collection, Mapping
from typing import Any

from bothways.checkpoints.huggingface import llama
from bothways.checkpoints.names import Entry, entries
from bothways.checkpoints.settings import read_choice, refuse, survives
from bothways.errors import UserError
from bothways.model.config import TransformerConfig

MODEL_TYPE = "eurobert"
PREFIX = llama.PREFIX
IGNORED = llama.IGNORED

POOLING = {"bos": "first", "mean": "mean"}
CLASSES = entries({"dense": "heads.classification.dense", "classifier": "heads.classification.output"})


def read_config(values: Mapping[str, Any]) -> TransformerConfig:
    """Return the settings of the trunk.

    Raises:
        UserError: a value that is no legal one, or that asks for something else than this trunk computes.
    """
    # With biases, EuroBERT's decoder has one too, which only our head with a transform has.
    refuse(values, {"attention_bias": False, "mlp_bias": False})
    defaults = {} if "rms_norm_eps" in values else {"norm_eps": 1e-5}
    pooling = _read_pooling(values)
    return llama.read_trunk(values, bias=False, attention="bidirectional", pooling=pooling, pooler="gelu", **defaults)


def _read_pooling(values: Mapping[str, Any]) -> str:
    """Read how classes are read off; ``late``, the default, means nothing until there is a classifier."""
    if values.get("classifier_pooling", "late") != "late":
        return read_choice(values, "classifier_pooling", POOLING, "mean")
    if "EuroBertForSequenceClassification" in (values.get("architectures") or ()):
        raise UserError(
            "config.json: classifier_pooling 'late' (classes averaged over all tokens) is not supported for a "
            f"classifier; supported: {', '.join(POOLING)}"
        )
    return "mean"


def write_config(config: TransformerConfig, heads: Mapping[str, int]) -> dict[str, Any]:
    """Return Hugging Face's ``config.json`` for a trunk and its heads."""
    kind = (
        "ForSequenceClassification"
        if classes(config, heads)
        else "ForMaskedLM"
        if "language_model" in heads
        else "Model"
    )
    return {
        "architectures": [f"EuroBert{kind}"],
        "model_type": MODEL_TYPE,
        **llama.write_trunk(config),
        "attention_bias": config.bias,
        "mlp_bias": config.bias,
        "classifier_pooling": "bos" if config.pooling == "first" else "mean",
    }


def represents(config: TransformerConfig) -> bool:
    """Whether EuroBERT computes what this trunk computes."""
    return survives(config, write_config, read_config)


def classes(config: TransformerConfig, heads: Collection[str]) -> bool:
    """Whether there is a classification head of EuroBERT's kind: dense and GELU over the first token or the mean."""
    return "classification" in heads and config.pooler == "gelu" and config.pooling in POOLING.values()


def names(config: TransformerConfig, heads: Collection[str]) -> tuple[Entry, ...]:
    """Return the table of names for a trunk with these heads."""
    return llama.NAMES + (CLASSES if classes(config, heads) else ())

"""RoBERTa: BERT without next sentences, its positions counted from two, and classes read off another head.

Reference: Liu et al. 2019.
"""

from collections.abc import Collection, Mapping
from typing import Any

from bothways.checkpoints.huggingface import bert
from bothways.checkpoints.names import Entry, entries
from bothways.checkpoints.settings import survives
from bothways.errors import UserError
from bothways.model.config import TransformerConfig

MODEL_TYPE = "roberta"
PREFIX = "roberta."
IGNORED = (
    r"roberta\.embeddings\.position_ids",
    r"lm_head\.(decoder\.)?bias",  # the decoder's bias has two names; the table takes the one that is used
    r"roberta\.pooler\.dense\.(weight|bias)",  # in old files; no head of RoBERTa reads it
)
PADDING = 1  # the id of the padding token, after which positions are counted

TRUNK = {theirs: ours for theirs, (ours,), _ in bert.NAMES if theirs.startswith("bert.")}
HEADS = {
    "lm_head.dense": "heads.language_model.transform.0",
    "lm_head.layer_norm": "heads.language_model.transform.2",
    "lm_head.decoder": "heads.language_model.decoder",
    "qa_outputs": "heads.span.output",
}
NAMES = entries({theirs.replace("bert.", PREFIX, 1): ours for theirs, ours in TRUNK.items()} | HEADS)
TIED = entries({"lm_head.bias": "heads.language_model.decoder.bias"})
CLASSES = entries(
    {"classifier.dense": "heads.classification.dense", "classifier.out_proj": "heads.classification.output"}
)
TOKENS = entries({"classifier": "heads.token_classification.output"})


def read_config(values: Mapping[str, Any]) -> TransformerConfig:
    """Return the settings of the trunk.

    Raises:
        UserError: a value that is no legal one, or that asks for something else than this trunk computes.
    """
    if values.get("pad_token_id", PADDING) != PADDING:
        raise UserError(
            f"config.json: pad_token_id = {values['pad_token_id']!r} is not supported: positions begin after it; "
            f"supported: {PADDING}"
        )
    offset = PADDING + 1
    rows = values.get("max_position_embeddings", 512)
    if not isinstance(rows, int) or isinstance(rows, bool) or rows <= offset:
        raise UserError(f"config.json: max_position_embeddings must be a whole number above {offset}, not {rows!r}")
    return bert.read_trunk({**values, "max_position_embeddings": rows - offset}, position_offset=offset)


def write_config(config: TransformerConfig, heads: Mapping[str, int]) -> dict[str, Any]:
    """Return Hugging Face's ``config.json`` for a trunk and its heads."""
    return write(config, heads, MODEL_TYPE, "Roberta")


def write(config: TransformerConfig, heads: Mapping[str, int], model_type: str, name: str) -> dict[str, Any]:
    """Return the ``config.json`` of RoBERTa or of a family that differs from it in name alone."""
    return {
        **bert.write_trunk(config),
        "architectures": [f"{name}{bert.kind_of(heads, pools=bert.pools(config))}"],
        "model_type": model_type,
        "max_position_embeddings": config.position_offset + config.max_position_embeddings,
        "pad_token_id": PADDING,
    }


def represents(config: TransformerConfig) -> bool:
    """Whether RoBERTa computes what this trunk computes."""
    return survives(config, write_config, read_config)


def names(config: TransformerConfig, heads: Collection[str]) -> tuple[Entry, ...]:
    """Return the table of names for a trunk with these heads."""
    tied = TIED if config.tie_word_embeddings else ()
    if "classification" in heads and bert.pools(config):
        return NAMES + tied + CLASSES
    return NAMES + tied + TOKENS

"""The format of sentence-transformers: a trunk whose hidden states are averaged to one unit vector a text."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bothways.checkpoints.checkpoint import Loaded
from bothways.errors import UserError
from bothways.exports import hf
from bothways.exports.export import Answers, one_by_one

PRECISIONS = {"fp32": 1e-4}
NEEDS = {"sentence_transformers": "sentence-transformers"}
LIBRARY = "sentence-transformers"

_MODULES = ("Transformer", "Pooling", "Normalize")


def refuse(loaded: Loaded) -> None:
    """Refuse a trunk that no published family computes, and a model without a tokenizer."""
    hf.refuse(loaded)
    if loaded.tokenizer is None:
        raise UserError("sentence-transformers reads texts, and this model has no tokenizer")


def write(loaded: Loaded, folder: Path, precision: str) -> None:
    """Write Hugging Face's files, and what says how its hidden states become vectors."""
    hf.write(loaded, folder, precision)
    places = ["", *(f"{number}_{name}" for number, name in enumerate(_MODULES[1:], start=1))]
    modules = [
        {"idx": number, "name": str(number), "path": place, "type": f"sentence_transformers.models.{name}"}
        for number, (name, place) in enumerate(zip(_MODULES, places, strict=True))
    ]
    pooling = {"word_embedding_dimension": loaded.model.config.hidden_size, "pooling_mode_mean_tokens": True}
    files: dict[str, Any] = {
        "modules.json": modules,
        "sentence_bert_config.json": {
            "max_seq_length": loaded.model.config.max_position_embeddings,
            "do_lower_case": False,
        },
        "config_sentence_transformers.json": {"similarity_fn_name": "cosine"},
        f"{places[1]}/config.json": pooling,
        f"{places[2]}/config.json": {},
    }
    for name, values in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def answers(folder: Path, loaded: Loaded, sequences: Sequence[Sequence[int]]) -> Answers:  # noqa: ARG001
    """Ask sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    with hf.quiet():
        model = SentenceTransformer(str(folder), device="cpu", trust_remote_code=False)

    def ask(sequence: Sequence[int]) -> Mapping[str, Any]:
        ids = torch.tensor([sequence])
        with torch.inference_mode():
            said = model({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
        return {"embedding": said["sentence_embedding"][0].numpy()}

    return one_by_one(ask, sequences)


def tokenize(folder: Path, texts: Sequence[str]) -> list[list[int]]:
    """Ask the tokenizer that ``transformers``, and with it sentence-transformers, makes of the folder."""
    return hf.tokenize(folder, texts)


def usage(loaded: Loaded) -> str:  # noqa: ARG001
    """With its one class."""
    return (
        "```python\nfrom sentence_transformers import SentenceTransformer\n\n"
        'model = SentenceTransformer(".")\nvectors = model.encode(["A text.", "Another one."])\n```'
    )

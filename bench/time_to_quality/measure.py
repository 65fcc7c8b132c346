"""The one evaluator of all arms, in float32, in a process of its own: ``python -m time_to_quality.measure JOB``."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from time_to_quality import heldout

BATCH = 16
Logits = Callable[[Tensor, Tensor], Tensor]  # ids [B, T] and lengths [B] to [B, T, vocabulary]


def ours(folder: Path) -> Logits:
    """Read a model of bothways."""
    from bothways.batch import collate, row
    from bothways.checkpoints.checkpoint import load

    model = load(folder).model.eval()

    def logits(ids: Tensor, lengths: Tensor) -> Tensor:
        rows = [row(one[:length].numpy(), model.config.attention) for one, length in zip(ids, lengths, strict=True)]
        batch = collate(rows, length=ids.shape[1])
        every = torch.arange(ids.numel())
        return model.read("language_model", model(batch), batch, every).view(*ids.shape, -1)

    return logits


def nanogpt(folder: Path, checkout: Path) -> Logits:
    """Read a ``ckpt.pt`` that nanoGPT's train.py wrote in this very run, tensors and plain values alone (``weights_only``)."""
    sys.path.insert(0, str(checkout))
    from model import GPT, GPTConfig

    stored = torch.load(folder / "ckpt.pt", map_location="cpu", weights_only=True)
    model = GPT(GPTConfig(**stored["model_args"]))
    model.load_state_dict(stored["model"])
    model.eval()
    return lambda ids, _: model(ids, ids)[0]  # with targets it gives the scores at all positions


def transformers_gpt(folder: Path) -> Logits:
    """Read Trainer's GPT."""
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    return lambda ids, _: model(input_ids=ids).logits


def transformers_bert(folder: Path) -> Logits:
    """Read Trainer's BERT."""
    from transformers import BertForMaskedLM

    model = BertForMaskedLM.from_pretrained(folder).eval()

    def logits(ids: Tensor, lengths: Tensor) -> Tensor:
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        return model(input_ids=ids, attention_mask=mask).logits

    return logits


@torch.no_grad()
def loss(logits: Logits, stored: dict[str, Any]) -> float:
    """Return bits per byte where the bytes are known, else nats per token."""
    nats = count = 0.0
    for start in range(0, len(stored["ids"]), BATCH):
        part = slice(start, start + BATCH)
        lengths = torch.from_numpy(stored["lengths"][part])
        longest = int(lengths.max())
        ids, said = (torch.from_numpy(np.ascontiguousarray(stored[key][part, :longest])) for key in ("ids", "said"))
        chosen = said != heldout.NOTHING
        scores = logits(ids, lengths)[chosen].float()
        nats += float(functional.cross_entropy(scores, said[chosen], reduction="sum").double())
        count += int(chosen.sum())
    size = float(stored["num_bytes"])
    return nats / count if math.isnan(size) else nats / math.log(2) / size


def reader(job: dict[str, Any]) -> Logits:
    """Return the model of a job as a function."""
    folder = Path(job["model"])
    match job["peer"], job["family"]:
        case "bothways", _:
            return ours(folder)
        case "nanogpt", _:
            return nanogpt(folder, Path(job["checkout"]))
        case _, "gpt":
            return transformers_gpt(folder)
        case _:
            return transformers_bert(folder)


def main() -> None:
    """Measure a model as a job says."""
    job = json.loads(Path(sys.argv[1]).read_text())
    logits = reader(job)
    found = {name: loss(logits, heldout.load(Path(job["heldout"]) / f"{name}.npz")) for name in job["figures"]}
    Path(job["out"]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()

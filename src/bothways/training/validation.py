"""How well a model predicts held-out targets: exact sums over all of them, then one division."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

from bothways.batch import Batch
from bothways.metrics.bits_per_byte import bits_per_byte
from bothways.metrics.perplexity import perplexity
from bothways.model.heads import Model
from bothways.model.kernels import logits_at_once
from bothways.training.distributed import current
from bothways.training.machine import Precision, autocast


@torch.no_grad()
def validate(
    model: Model, batches: Sequence[Batch], *, precision: Precision = "auto", num_bytes: int | None = None
) -> dict[str, float]:
    """Return the loss and the accuracy of every head that the batches have targets for.

    Where several processes have been joined, all of them must ask at once: each measures a share of the batches.

    Args:
        model: is put to evaluation mode and back.
        batches: their targets are token ids or classes.
        precision: of the forward pass.
        num_bytes: UTF-8 bytes of the text that the targets cover whole: bits per byte can then be told.
    Returns:
        ``loss`` (nats per token of the language model head, or of the only head), ``accuracy``, and for each further head
        ``HEAD_accuracy``; with ``num_bytes`` also ``bits_per_byte`` and ``perplexity``.
    """
    was_training = model.training
    model.eval()
    nats: dict[str, float] = {}
    correct: dict[str, int] = {}
    count: dict[str, int] = {}
    group, at_once = current(), max(1, logits_at_once(model.device.type) // model.config.vocab_size)
    for batch in batches[group.rank :: group.size]:
        batch = batch.to(model.device)
        with autocast(precision, model.device):
            hidden_states = model(batch)
        for head, target in batch.targets.items():
            for index, value in zip(
                *(torch.split(part, at_once) for part in (target.index, target.value)), strict=True
            ):
                with autocast(precision, model.device):
                    logits = model.read(head, hidden_states, batch, index)
                nats[head] = nats.get(head, 0.0) + float(functional.cross_entropy(logits, value, reduction="sum"))
                correct[head] = correct.get(head, 0) + int((logits.argmax(-1) == value).sum())
            count[head] = count.get(head, 0) + len(target.value)
    model.train(was_training)
    if not group.alone:
        parts: list[list[dict[str, Any]]] = group.gather([nats, correct, count])
        nats, correct, count = (_sum([part[place] for part in parts]) for place in range(3))
    return _figures(nats, correct, count, num_bytes)


def _sum(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    heads = {head: None for part in parts for head in part}
    return {head: sum(part.get(head, 0) for part in parts) for head in heads}


def _figures(
    nats: Mapping[str, float], correct: Mapping[str, int], count: Mapping[str, int], num_bytes: int | None
) -> dict[str, float]:
    main = "language_model" if "language_model" in nats else next(iter(nats))
    figures = {"loss": nats[main] / count[main], "accuracy": correct[main] / count[main]}
    figures |= {f"{head}_accuracy": correct[head] / count[head] for head in nats if head != main}
    if num_bytes:
        figures["bits_per_byte"] = bits_per_byte(nats=nats[main], num_bytes=num_bytes)
        figures["perplexity"] = perplexity(nats=nats[main], num_tokens=count[main])
    return figures

"""Where an answer begins and ends in a passage: extractive question answering."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bothways.batch import Batch, Loss
from bothways.model.heads import Model


@dataclass(frozen=True, kw_only=True)
class Span:
    """Cross-entropy of the first and of the last token among all tokens of the passage.

    | input | shape | meaning |
    |---|---|---|
    | ``targets["span"].index`` | [n] | every position of a passage that may begin or end an answer |
    | ``targets["span"].value`` | [n, 2] | 1 at the answer's first (column 0) and last (column 1) token, else 0 |
    | ``targets["span"].group`` | [n] | which passage the position belongs to, from 0 without gaps |

    An unanswerable question has its answer at [CLS], which is then among its positions. Several right answers share the
    probability. Source: Devlin et al. 2018, section 4.2.
    """

    @property
    def heads(self) -> Mapping[str, int]:
        """The span head."""
        return {"span": 2}

    def loss(self, model: Model, batch: Batch) -> dict[str, Loss]:
        """Return the loss named ``span``: the mean of both ends' losses, summed over passages."""
        target = batch.targets["span"]
        assert target.group is not None, "span targets say which passage they belong to"
        logits = model.read("span", model(batch), batch)
        groups = int(target.group.max()) + 1
        hits = logits.masked_fill(target.value == 0, -torch.inf)
        nats = log_sum_exp(logits, target.group, groups) - log_sum_exp(hits, target.group, groups)
        return {"span": Loss(sum=nats.sum() / 2, count=groups)}

    def counts(self, batch: Batch) -> dict[str, int]:
        """Return the number of passages."""
        group = batch.targets["span"].group
        assert group is not None, "span targets say which passage they belong to"
        return {"span": int(group.max()) + 1}


def log_sum_exp(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Return log Σ exp of [n, k] values within each group, [groups, k]."""
    index = group[:, None].expand_as(values)
    top = values.new_full((groups, values.shape[1]), -torch.inf).scatter_reduce(0, index, values.detach(), "amax")
    total = torch.zeros_like(top).scatter_add(0, index, (values - top.gather(0, index)).exp())
    return total.log() + top

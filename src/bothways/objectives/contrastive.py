"""Texts that belong together are made alike, and unlike all others of the batch: how retrieval is learnt."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional

from bothways.batch import Batch, Loss, Row, Target, join
from bothways.model.heads import Model


@dataclass(frozen=True, kw_only=True)
class Contrastive:
    """Softmax over cosine similarities of each query with every document of the batch (InfoNCE, in-batch negatives).

    | input | shape | meaning |
    |---|---|---|
    | ``targets["embedding"].index`` | [n] | a position of each text |
    | ``targets["embedding"].value`` | [n] | 0: a query; 1: its document; 2: a document that does not answer it |
    | ``targets["embedding"].group`` | [n] | which pair the text belongs to; every group has one query and one document |

    Larger batches give more negatives and better models. ``both_ways`` adds the loss of finding the query for a document.
    Source: van den Oord et al. 2018; as in sentence-transformers' MultipleNegativesRankingLoss, with scale 20.
    """

    scale: float = 20.0
    both_ways: bool = True

    @property
    def heads(self) -> Mapping[str, int]:
        """The embedding head, which has no weights."""
        return {"embedding": 0}

    def loss(self, model: Model, batch: Batch) -> dict[str, Loss]:
        """Return the loss named ``contrastive``, summed over queries."""
        target = batch.targets["embedding"]
        assert target.group is not None, "contrastive targets say which pair they belong to"
        vectors = model.read("embedding", model(batch), batch)
        queries = target.value == 0
        order = target.group[queries].argsort()
        query = vectors[queries][order]
        side, group = target.value[~queries], target.group[~queries]
        place = (side * (len(target.group) + 1) + group).argsort()  # each query's own document first, in the same order
        similarity = self.scale * query @ vectors[~queries][place].T
        answer = torch.arange(len(query), device=similarity.device)
        total = functional.cross_entropy(similarity, answer, reduction="sum")
        if self.both_ways:
            back = functional.cross_entropy(similarity[:, : len(query)].T, answer, reduction="sum")
            total = (total + back) / 2
        return {"contrastive": Loss(sum=total, count=len(query))}

    def counts(self, batch: Batch) -> dict[str, int]:
        """Return the number of pairs."""
        return {"contrastive": int((batch.targets["embedding"].value == 0).sum())}


def pair(query: Row, document: Row) -> Row:
    """Return a query and its document as two sequences of one row, which belong together."""
    index = np.array([len(query) - 1, len(query) + len(document) - 1])
    target = Target(index=index, value=np.array([0, 1]), group=np.zeros(2, dtype=np.int64))
    return replace(join([query, document]), targets={"embedding": target})

"""One class, or several, for each sequence."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch.nn import functional

from bothways.batch import Batch, Loss
from bothways.model.heads import Model


@dataclass(frozen=True, kw_only=True)
class Classification:
    """Cross-entropy over classes; with ``multi_label`` an independent yes or no for each.

    | input | shape | meaning |
    |---|---|---|
    | ``targets["classification"].index`` | [n] | a position of each sequence (its first or last; see ``pool``) |
    | ``targets["classification"].value`` | [n] or [n, classes] | class number, or a multi-hot row |
    """

    num_labels: int
    multi_label: bool = False
    label_smoothing: float = 0.0

    @property
    def heads(self) -> Mapping[str, int]:
        """The classification head, with an output for each class."""
        return {"classification": self.num_labels}

    def loss(self, model: Model, batch: Batch) -> dict[str, Loss]:
        """Return the loss named ``classification``, summed over sequences."""
        target = batch.targets["classification"]
        logits = model.read("classification", model(batch), batch)
        if self.multi_label:
            total = functional.binary_cross_entropy_with_logits(logits, target.value.to(logits), reduction="sum")
        else:
            total = functional.cross_entropy(
                logits, target.value, reduction="sum", label_smoothing=self.label_smoothing
            )
        return {"classification": Loss(sum=total, count=len(target.index))}

    def counts(self, batch: Batch) -> dict[str, int]:
        """Return the number of sequences."""
        return {"classification": len(batch.targets["classification"].index)}

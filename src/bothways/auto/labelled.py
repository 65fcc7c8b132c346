"""What the Auto classes share whose heads say classes, of texts or of tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from bothways.auto.labels import KINDS, Label, listed, reading_of, two_or_more
from bothways.auto.pretrained import Pretrained
from bothways.auto.tokenizer import AutoTokenizer
from bothways.checkpoints.checkpoint import Loaded
from bothways.checkpoints.weights import outputs
from bothways.errors import UserError
from bothways.model.heads import Model
from bothways.progress import note

LABEL_TYPE = "label_type"  # in config.json, where labels are text: what they were; null: the head is untrained


class Labelled(Pretrained):
    """A model whose head says classes, of texts or of tokens."""

    def __init__(
        self,
        model: Model,
        *,
        tokenizer: AutoTokenizer | None = None,
        labels: Sequence[Label] | None = None,
        num_labels: int | None = None,
    ) -> None:
        """Put together what ``from_pretrained`` loads.

        Args:
            model: has the head.
            tokenizer: of the model.
            labels: of the head's outputs, in their order; None: the head is untrained.
            num_labels: outputs of the head, where they were chosen and labels 0, 1, 2, … shall keep them.
        """
        super().__init__(model, tokenizer=tokenizer)
        self._labels = None if labels is None else tuple(labels)
        self._num_labels = num_labels

    @classmethod
    def from_pretrained(
        cls, name_or_folder: str | Path, *, revision: str | None = None, num_labels: int | None = None
    ) -> Self:
        """Load a model onto the best device there is.

        Args:
            name_or_folder: a run, a folder, or the name of a model on the Hugging Face Hub, which is downloaded unless
                it is cached.
            revision: branch, tag or commit; on the Hub only.
            num_labels: classes of a new head; None: those of the stored head, or without one those that ``fit`` finds.
        Raises:
            UserError: there is no such model.
        """
        if num_labels is not None and (not isinstance(num_labels, int) or num_labels < 2):
            raise UserError(f"num_labels must be a whole number of at least 2, not {num_labels!r}")
        loaded, tokenizer = cls._load(name_or_folder, revision=revision, outputs=num_labels or 0)
        labels = _stored_labels(loaded, str(cls.HEAD))
        return cls(loaded.model, tokenizer=tokenizer, labels=labels, num_labels=num_labels)

    @property
    def labels(self) -> tuple[Label, ...] | None:
        """The labels that can be predicted, in the order of the probabilities; None before the first ``fit``."""
        return self._labels

    @property
    def classes_(self) -> NDArray[Any]:
        """The labels as an array [k], under scikit-learn's name for them; there is none before the first ``fit``."""
        if self._labels is None:
            raise AttributeError("classes_ is there after fit")
        return np.array(self._labels)

    def _details(self) -> dict[str, Any]:
        """Return the labels, and of what type they were."""
        labels = [str(label) for label in self._labels] if self._labels else None
        kind = type(self._labels[0]).__name__ if self._labels else None
        return {"labels": labels, "details": {LABEL_TYPE: kind}}

    def _classes_for(self, labels: Sequence[Label]) -> tuple[Label, ...]:
        """Return the classes that the head will have: those it has, if the labels are among them."""
        found = two_or_more(labels)
        chosen = tuple(range(self._num_labels)) if self._num_labels else None
        return reading_of(labels, self._labels or chosen) or found

    def _become(self, classes: tuple[Label, ...], seed: int) -> None:
        """Give the model the classes, and a new head unless its own is trained for them."""
        head = str(self.HEAD)
        before, known = outputs(self.model)[head], self._labels
        continues = known is not None and reading_of(classes, known) == classes
        if not continues:
            _replace_head(self.model, head, len(classes), seed)
            if known is not None:
                note(f"the head knew {listed(known)}; a new one learns {listed(classes)}")
            elif before != len(classes):
                note(f"the head had {before} outputs; a new one has {len(classes)}, one for each of {listed(classes)}")
        self._labels = classes

    def _check_fitted(self) -> tuple[Label, ...]:
        if self._labels is None:
            raise UserError("the classification head is new and untrained; call fit first")
        return self._labels

    def __repr__(self) -> str:
        labels = listed(self._labels) if self._labels else "not fitted yet"
        return f"{type(self).__name__}({self.num_parameters():,} parameters; labels: {labels})"


def _replace_head(model: Model, head: str, outputs: int, seed: int) -> None:
    """Give a model fresh weights for so many classes; the pooler before them, which was pretrained, stays."""
    before = model.heads[head]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model.add_head(head, outputs)
    for name in ("dense", "transform"):
        if hasattr(before, name):
            setattr(model.heads[head], name, getattr(before, name))


def _stored_labels(loaded: Loaded, head: str) -> tuple[Label, ...] | None:
    """Return the labels of a stored head; None if it is new, was saved untrained, or answers something else."""
    size = outputs(loaded.model)[head]
    single = loaded.config.get("problem_type") in (None, "single_label_classification")
    kind = loaded.config.get(LABEL_TYPE, "")
    if loaded.new_heads or size < 2 or not single or kind is None:
        return None
    if loaded.labels is None:
        return tuple(f"LABEL_{index}" for index in range(size)) if kind == "str" else tuple(range(size))
    if kind not in KINDS:
        return loaded.labels
    return tuple(name == "True" if kind == "bool" else KINDS[kind](name) for name in loaded.labels)

"""``AutoModelForSequenceClassification``: a pretrained GPT or BERT that is fitted to labels as in scikit-learn.

Shapes: n texts, k classes.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bothways.auto.examples import Examples, read_examples, read_rows
from bothways.auto.fitting import Options, fit_rows, share_to_hold_out, two
from bothways.auto.labelled import Labelled
from bothways.auto.labels import held_out, positions
from bothways.batch import Row, Target
from bothways.errors import UserError
from bothways.inference.encode import read_head
from bothways.metrics.accuracy import accuracy
from bothways.metrics.macro_f1 import macro_f1
from bothways.model.config import TransformerConfig
from bothways.objectives.classification import Classification
from bothways.progress import display, note
from bothways.tasks.task import precision_of, softmax

HEAD = "classification"


class AutoModelForSequenceClassification(Labelled):
    """A text classifier."""

    HEAD: ClassVar[str | None] = HEAD

    def fit(
        self,
        inputs: Any,
        labels: Any,
        *,
        validation: tuple[Any, Any] | float | None = None,
        epochs: float = 3,
        batch_size: int = 32,
        learning_rate: float | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> Self:
        """Fine-tune the whole model. A second ``fit`` goes on from where the first one ended.

        A head that does not fit the labels is replaced by a new one, and that is said. The same inputs, settings and
        seed give the same model on the same machine. Torch's random generators are left as they were.

        Args:
            inputs: encodings, as our tokenizer or that of transformers returns them, or raw texts; n of them, in any
                list, array, column or generator. Padding costs nothing. Texts longer than the model reads are cut,
                which is said; encodings too long are an error.
            labels: [n] whole numbers, booleans or text; predictions are of the same type.
            validation: the inputs and labels that the best epoch is chosen by, or the share of the examples to hold
                out for that; None: a tenth (2,000 at most) where there are at least 200 examples, else none; 0: none.
            epochs: how often every example is seen.
            batch_size: examples of one step.
            learning_rate: None: half that of its pretraining, where that is known, else by its width: 5e-5 for BERT-base.
            seed: of the order of examples, of dropout, of the new head and of what is held out.
            progress: show it.
        Returns:
            The model itself.
        Raises:
            UserError: the inputs or labels cannot be used, or do not fit each other; the message says where and why.
            NonFiniteError: the learning rate was far too high.
        """
        options = Options(
            validation=validation, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, seed=seed
        )
        settings = options.settings(self.model)
        with display(progress):
            examples = self._examples(inputs, labels)
            training, validating = self._split(examples, validation, seed)
            classes = self._classes_for(training.labels)
            learnt, measured = (
                _with_classes(part.rows, positions(part.labels, classes), self.model.config) if part.rows else []
                for part in (training, validating)
            )
            self._become(classes, seed)
            self.trained = fit_rows(self.model, Classification(num_labels=len(classes)), learnt, measured, settings)
        return self

    def predict(self, inputs: Any, *, progress: bool = True) -> NDArray[Any]:
        """Return the most probable label of each text, [n], in the type of the labels that the model was fitted to.

        Args:
            inputs: as ``fit`` takes them.
            progress: show it where it takes long.
        Raises:
            UserError: the model has not been fitted, or the inputs cannot be read.
        """
        chosen = self.predict_proba(inputs, progress=progress).argmax(axis=-1)
        return np.asarray(self.classes_[chosen])

    def predict_proba(self, inputs: Any, *, progress: bool = True) -> NDArray[np.float64]:
        """Return the probability of each label for each text, [n, k], in the order of ``labels``."""
        self._check_fitted()
        with display(progress):
            rows = read_rows(inputs, self.tokenizer, self.model)
            return softmax(read_head(self.model, HEAD, rows, precision=precision_of(self.model)))

    def score(self, inputs: Any, labels: Any, *, progress: bool = True) -> float:
        """Return the accuracy: the share of texts whose label is predicted.

        Raises:
            UserError: as ``predict``, or a label is none of the model's.
        """
        return self.evaluate(inputs, labels, progress=progress)["accuracy"]

    def evaluate(self, inputs: Any, labels: Any, *, progress: bool = True) -> dict[str, float]:
        """Return ``accuracy`` and ``macro_f1``, the mean over classes of their F1; see ``score``."""
        classes = self._check_fitted()
        with display(progress):
            examples = self._examples(inputs, labels)
            expected = positions(examples.labels, classes).tolist()
            logits = read_head(self.model, HEAD, examples.rows, precision=precision_of(self.model))
        predicted = logits.argmax(axis=-1).tolist()
        return {"accuracy": accuracy(predicted, expected), "macro_f1": macro_f1(predicted, expected)}

    def _examples(self, inputs: Any, labels: Any) -> Examples:
        return read_examples(inputs, labels, self.tokenizer, self.model)

    def _split(self, examples: Examples, validation: Any, seed: int) -> tuple[Examples, Examples]:
        """Return what to learn from and what to validate on, which may be empty."""
        if isinstance(validation, tuple | list):
            return examples, self._examples(*two(validation))
        count = len(examples.rows)
        share, most = share_to_hold_out(count, validation)
        out = held_out(examples.labels, share, seed, most=most)
        if validation and not out.any():
            raise UserError(f"validation={share} of {count} examples is less than one of each class; hold out more")
        if out.any():
            note(f"{out.sum():,} of {count:,} examples are held out to choose the best epoch by")
        return examples.where(~out), examples.where(out)

    def _read_at(self, real: Tensor) -> Tensor:
        """Return a position of each text: its last token, or its first, which stands for the mean, too."""
        places = real.int().flip(1).argmax(1) if self.model.config.pooling == "last" else real.int().argmax(1)
        last = real.shape[1] - 1
        places = last - places if self.model.config.pooling == "last" else places
        return places + torch.arange(len(real), device=real.device) * real.shape[1]


def _with_classes(rows: Sequence[Row], classes: NDArray[np.int64], config: TransformerConfig) -> list[Row]:
    """Return rows of one sequence with their classes [n] as targets, read where the model's settings say."""
    return [
        replace(
            row, targets={HEAD: Target(index=np.array([len(row) - 1 if config.pooling == "last" else 0]), value=value)}
        )
        for row, value in zip(rows, classes[:, None], strict=True)
    ]

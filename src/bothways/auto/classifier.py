"""``AutoModelForSequenceClassification``: a pretrained GPT or BERT that is fitted to labels as in scikit-learn.

Shapes: n texts, k classes.
"""

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from bothways.auto.examples import Examples, read_examples, read_rows
from bothways.auto.fitting import HEAD, default_learning_rate, fit_rows, replace_head, with_classes
from bothways.auto.labels import KINDS, Label, held_out, listed, positions, reading_of, two_or_more
from bothways.auto.tokenizer import AutoTokenizer
from bothways.checkpoints.checkpoint import Loaded, load, save_checkpoint
from bothways.checkpoints.weights import outputs
from bothways.errors import UserError
from bothways.finetuning import Finetuning
from bothways.inference.encode import read_head
from bothways.metrics.accuracy import accuracy
from bothways.model.heads import Model
from bothways.objectives.classification import Classification
from bothways.progress import display, note
from bothways.tasks.task import precision_of, softmax
from bothways.training.machine import default_device
from bothways.training.trainer import Trained

FEWEST = 200  # examples from which on some are held out without being asked for
SHARE = 0.1  # of the examples
MOST = 2000  # examples to hold out: the standard error of an accuracy is then under 1.2 points

LABEL_TYPE = "label_type"  # in config.json, where labels are text: what they were; null: the head is untrained


class AutoModelForSequenceClassification:
    """A text classifier.

    Attributes:
        model: trunk and classification head.
        tokenizer: for raw texts; None if the checkpoint has none.
        trained: what came of the last ``fit``: steps, seconds, each epoch's validation; None before.
    """

    def __init__(
        self,
        model: Model,
        *,
        tokenizer: AutoTokenizer | None = None,
        labels: tuple[Label, ...] | None = None,
        num_labels: int | None = None,
    ) -> None:
        """Put together what ``from_pretrained`` loads.

        Args:
            model: has a classification head.
            tokenizer: of the model.
            labels: of the head's outputs, in their order; None: the head is untrained.
            num_labels: outputs of the head, where they were chosen and labels 0, 1, 2, … shall keep them.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.trained: Trained | None = None
        self._labels = labels
        self._num_labels = num_labels

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, *, num_labels: int | None = None) -> Self:
        """Load a model onto the best device there is.

        Args:
            name_or_folder: a run, a folder, or the name of a model on the Hugging Face Hub, which is downloaded unless
                it is cached.
            num_labels: classes of a new head; None: those of the stored head, or without one those that ``fit`` finds.
        Raises:
            UserError: there is no such model.
        """
        if num_labels is not None and (not isinstance(num_labels, int) or num_labels < 2):
            raise UserError(f"num_labels must be a whole number of at least 2, not {num_labels!r}")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            loaded = load(name_or_folder, heads={HEAD: num_labels or 0}, attention="bidirectional")
        tokenizer = AutoTokenizer.of_model(loaded.tokenizer, loaded.folder) if loaded.tokenizer else None
        model = loaded.model.eval().to(default_device())
        return cls(model, tokenizer=tokenizer, labels=_stored_labels(loaded), num_labels=num_labels)

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
            learning_rate: None: by the width of the model, 5e-5 for BERT-base.
            seed: of the order of examples, of dropout, of the new head and of what is held out.
            progress: show it.
        Returns:
            The model itself.
        Raises:
            UserError: the inputs or labels cannot be used, or do not fit each other; the message says where and why.
            NonFiniteError: the learning rate was far too high.
        """
        rate = default_learning_rate(self.model.config) if learning_rate is None else learning_rate
        settings = _settings(epochs, batch_size, rate, seed)
        with display(progress):
            examples = self._examples(inputs, labels)
            training, validating = self._split(examples, validation, seed)
            classes = self._classes_for(training.labels)
            learnt, measured = (
                with_classes(part.rows, positions(part.labels, classes), self.model.config) if part.rows else []
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
        classes = self._check_fitted()
        with display(progress):
            examples = self._examples(inputs, labels)
            expected = positions(examples.labels, classes)
            logits = read_head(self.model, HEAD, examples.rows, precision=precision_of(self.model))
        return accuracy(logits.argmax(axis=-1).tolist(), expected.tolist())

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model, its tokenizer and its labels, so that ``from_pretrained``, or transformers, reads them.

        Raises:
            UserError: the folder cannot be written, or holds something else.
            OutOfDiskError: there is no room.
        """
        labels = [str(label) for label in self._labels] if self._labels else None
        kind = type(self._labels[0]).__name__ if self._labels else None
        tokenizer = self.tokenizer.tokenizer if self.tokenizer else None
        save_checkpoint(folder, self.model, tokenizer=tokenizer, labels=labels, details={LABEL_TYPE: kind})

    def to(self, device: str | torch.device) -> Self:
        """Move the model to a device and return it."""
        self.model.to(device)
        return self

    def num_parameters(self) -> int:
        """Return the number of weights, the head's included."""
        return self.model.num_parameters()

    def __repr__(self) -> str:
        labels = listed(self._labels) if self._labels else "not fitted yet"
        return f"{type(self).__name__}({self.num_parameters():,} parameters; labels: {labels})"

    def _examples(self, inputs: Any, labels: Any) -> Examples:
        return read_examples(inputs, labels, self.tokenizer, self.model)

    def _split(self, examples: Examples, validation: Any, seed: int) -> tuple[Examples, Examples]:
        """Return what to learn from and what to validate on, which may be empty."""
        if isinstance(validation, tuple | list):
            if len(validation) != 2:
                raise UserError(f"validation must be two things, the inputs and the labels, not {len(validation)}")
            return examples, self._examples(*validation)
        count = len(examples.rows)
        share = (SHARE if count >= FEWEST else 0.0) if validation is None else validation
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
            raise UserError(f"validation must be inputs with labels, or a share from 0 to less than 1, not {share!r}")
        out = held_out(examples.labels, share, seed, most=MOST if validation is None else None)
        if validation and not out.any():
            raise UserError(f"validation={share} of {count} examples is less than one of each class; hold out more")
        if out.any():
            note(f"{out.sum():,} of {count:,} examples are held out to choose the best epoch by")
        return examples.where(~out), examples.where(out)

    def _classes_for(self, labels: list[Label]) -> tuple[Label, ...]:
        """Return the classes that the head will have: those it has, if the labels are among them."""
        found = two_or_more(labels)
        chosen = tuple(range(self._num_labels)) if self._num_labels else None
        return reading_of(labels, self._labels or chosen) or found

    def _become(self, classes: tuple[Label, ...], seed: int) -> None:
        """Give the model the classes, and a new head unless its own is trained for them."""
        before, known = outputs(self.model)[HEAD], self._labels
        continues = known is not None and reading_of(classes, known) == classes
        if not continues:
            replace_head(self.model, len(classes), seed)
            if known is not None:
                note(f"the head knew {listed(known)}; a new one learns {listed(classes)}")
            elif before != len(classes):
                note(f"the head had {before} outputs; a new one has {len(classes)}, one for each of {listed(classes)}")
        self._labels = classes

    def _check_fitted(self) -> tuple[Label, ...]:
        if self._labels is None:
            raise UserError("the classification head is new and untrained; call fit first")
        return self._labels


def _settings(epochs: float, batch_size: int, learning_rate: float, seed: int) -> Finetuning:
    values = {"learning_rate": learning_rate, "schedule": "linear", "warmup_share": 0.1, "steps": 0}
    settings = Finetuning.from_dict({"epochs": epochs, "batch_size": batch_size, "seed": seed, "training": values})
    if not 0 <= settings.seed < 2**32:
        raise UserError(f"seed must be between 0 and 2**32 - 1, not {seed}")
    return settings


def _stored_labels(loaded: Loaded) -> tuple[Label, ...] | None:
    """Return the labels of a stored head; None if it is new, was saved untrained, or answers something else."""
    size = outputs(loaded.model)[HEAD]
    single = loaded.config.get("problem_type") in (None, "single_label_classification")
    kind = loaded.config.get(LABEL_TYPE, "")
    if loaded.new_heads or size < 2 or not single or kind is None:
        return None
    if loaded.labels is None:
        return tuple(f"LABEL_{index}" for index in range(size)) if kind == "str" else tuple(range(size))
    if kind not in KINDS:
        return loaded.labels
    return tuple(name == "True" if kind == "bool" else KINDS[kind](name) for name in loaded.labels)

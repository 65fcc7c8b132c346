"""Which class a text belongs to: its topic, its sentiment."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from bothways.batch import Row
from bothways.checkpoints.checkpoint import Loaded
from bothways.errors import UserError
from bothways.inference.encode import read_head
from bothways.metrics.accuracy import accuracy
from bothways.metrics.macro_f1 import macro_f1
from bothways.model.config import TransformerConfig
from bothways.objectives.classification import Classification as ClassificationObjective
from bothways.tasks.task import Example, Prediction, Task, precision_of, softmax, text_row, tokenizer_of
from bothways.text.tokenizing.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """A text in, a label and the probability of each out."""

    INPUTS: ClassVar[Mapping[str, str]] = {"text": "the text to classify"}
    ANSWERS: ClassVar[Mapping[str, str]] = {"label": "the name of its class"}
    MONITOR: ClassVar[str] = "accuracy"
    BASELINE: ClassVar[str] = "always the commonest label of the examples themselves"

    labels: tuple[str, ...] = ()
    max_length: int = 256

    def fitted_to(self, examples: Sequence[Example]) -> Self:
        """Take the labels from the examples, sorted."""
        counts = Counter(example["label"] for example in examples)
        if len(counts) < 2:
            only = next(iter(counts), "none")
            raise UserError(f"classification needs at least two labels, and all {len(examples)} examples have {only!r}")
        if single := sorted(label for label, count in counts.items() if count == 1):
            raise UserError(
                f"{len(single):,} of {len(counts):,} labels have only one example, such as {single[0]!r} (1 of "
                f"{len(examples):,}); give at least two of each, or leave those examples out"
            )
        return replace(self, labels=tuple(sorted(counts)))

    def restored(self, labels: Sequence[str] | None) -> Self:
        """Take the labels from the checkpoint."""
        if not labels:
            raise UserError("this model has no classes; fine-tune it first: bothways finetune classification")
        return replace(self, labels=tuple(labels))

    def objective(self) -> ClassificationObjective:
        """Cross-entropy over the labels."""
        return ClassificationObjective(num_labels=len(self.labels))

    def render(self, example: Example, tokenizer: Tokenizer, config: TransformerConfig) -> Row:
        """The text, with its class as the target."""
        if example["label"] not in self.labels:
            raise UserError(f"the label {example['label']!r} is not among those learnt: {', '.join(self.labels)}")
        value = self.labels.index(example["label"])
        targets = {"classification": value}
        return text_row(example["text"], tokenizer, config, max_length=self.max_length, targets=targets)

    def predict(self, loaded: Loaded, examples: Sequence[Example], *, seed: int = 0) -> list[Prediction]:  # noqa: ARG002
        """Return ``label`` and ``probabilities``."""
        model, tokenizer = loaded.model, tokenizer_of(loaded)
        rows = [text_row(example["text"], tokenizer, model.config, max_length=self.max_length) for example in examples]
        probabilities = softmax(read_head(model, "classification", rows, precision=precision_of(model)))
        return [
            {
                "label": self.labels[int(row.argmax())],
                "probabilities": dict(zip(self.labels, map(float, row), strict=True)),
            }
            for row in probabilities
        ]

    def measure(self, predictions: Sequence[Prediction], examples: Sequence[Example]) -> dict[str, float]:
        """Return accuracy and macro F1."""
        predicted = [prediction["label"] for prediction in predictions]
        expected = [example["label"] for example in examples]
        return {"accuracy": accuracy(predicted, expected), "macro_f1": macro_f1(predicted, expected)}

    def measure_each(self, predictions: Sequence[Prediction], examples: Sequence[Example]) -> dict[str, list[float]]:
        """Return 1 for each right label, else 0, as ``accuracy``."""
        pairs = zip(predictions, examples, strict=True)
        return {"accuracy": [float(prediction["label"] == example["label"]) for prediction, example in pairs]}

    def baseline(self, examples: Sequence[Example]) -> list[Prediction]:
        """Give the commonest label to all."""
        [(commonest, _)] = Counter(example["label"] for example in examples).most_common(1)
        return [{"label": commonest} for _ in examples]

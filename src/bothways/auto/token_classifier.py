"""``AutoModelForTokenClassification``: a class for each word, as for names of people and places, or parts of speech.

Shapes: n texts, W words of one, T tokens of one, k classes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from bothways.auto.encodings import Encodings
from bothways.auto.examples import read_rows
from bothways.auto.fitting import Options, fit_rows, split, two
from bothways.auto.labelled import Labelled
from bothways.auto.labels import Label, as_list, positions, read_labels
from bothways.auto.tokenizer import AutoTokenizer
from bothways.batch import Row, Target
from bothways.errors import UserError
from bothways.inference.encode import read_tokens
from bothways.metrics.accuracy import accuracy
from bothways.metrics.entity_f1 import entity_f1
from bothways.objectives.token_classification import TokenClassification
from bothways.progress import display, note
from bothways.tasks.task import precision_of, softmax

HEAD = "token_classification"
UNKNOWN = "□"
IGNORED = -100  # a label by which Hugging Face's scripts mark tokens that have none


@dataclass(frozen=True, kw_only=True)
class Window:
    """A part of a text as the model reads it.

    Attributes:
        text: the number of the text.
        row: the tokens, framed.
        units: [m] the words (or tokens) of the text that are told here.
        index: [m] the token of the row that tells each of them.
    """

    text: int
    row: Row
    units: NDArray[np.int64]
    index: NDArray[np.int64]


class AutoModelForTokenClassification(Labelled):
    """A tagger of words.

    Texts are lists of words, or of Chinese characters; a text longer than the model reads is read in parts that overlap,
    and each word is told where most stands around it. Encodings, as transformers' scripts make them, have a label for each
    token, and -100 for those without one.
    """

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

        Args:
            inputs: n lists of words, or encodings.
            labels: n lists, with a label for each word, or for each token of encodings.
            validation, epochs, batch_size, learning_rate, seed, progress: as for a classifier of texts.
        Returns:
            The model itself.
        Raises:
            UserError: the inputs or labels cannot be used, or do not fit each other; the message says where and why.
        """
        options = Options(
            validation=validation, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, seed=seed
        )
        settings = options.settings(self.model)
        with display(progress):
            examples = self._read(inputs, labels)
            classes = self._classes_for([label for _, tags in examples for label in tags.values()])
            learnt, measured = split(examples, options, lambda given: self._read(*two(given)))
            rows, others = (_with_targets(part, classes) for part in (learnt, measured))
            self._become(classes, seed)
            self.trained = fit_rows(self.model, TokenClassification(num_labels=len(classes)), rows, others, settings)
        return self

    def predict(self, inputs: Any, *, progress: bool = True) -> list[list[Label]]:
        """Return the most probable label of each word of each text, or of each token of encodings, padding left out.

        Args:
            inputs: as ``fit`` takes them.
            progress: show it where it takes long.
        Raises:
            UserError: the model has not been fitted, or the inputs cannot be read.
        """
        classes = self._check_fitted()
        return [
            [classes[index] for index in each.argmax(axis=-1)] for each in self.predict_proba(inputs, progress=progress)
        ]

    def predict_proba(self, inputs: Any, *, progress: bool = True) -> list[NDArray[np.float64]]:
        """Return the probability of each label for each word of each text: n arrays [W, k]."""
        return [each[~np.isnan(each[:, 0])] for each in self._told(inputs, progress=progress)]

    def score(self, inputs: Any, labels: Any, *, progress: bool = True) -> float:
        """Return the accuracy: the share of words, or of tokens that have a label, whose label is predicted.

        Where most words are no name, that is high for who finds none: see ``evaluate``.

        Raises:
            UserError: as ``predict``, or a label is none of the model's.
        """
        return self.evaluate(inputs, labels, progress=progress)["accuracy"]

    def evaluate(self, inputs: Any, labels: Any, *, progress: bool = True) -> dict[str, float]:
        """Return ``accuracy`` and, of labels that are text, ``f1``, ``precision`` and ``recall`` of whole entities."""
        classes = self._check_fitted()
        with display(progress):
            examples = self._read(inputs, labels)
        positions([label for _, tags in examples for label in tags.values()], classes)
        told = self._told(inputs, progress=progress)
        right = [list(tags.values()) for _, tags in examples if tags]
        said = [
            [classes[int(each[unit].argmax())] for unit in tags]
            for each, (_, tags) in zip(told, examples, strict=True)
            if tags
        ]
        figures = {"accuracy": accuracy([*chain(*said)], [*chain(*right)])}
        if isinstance(classes[0], str):
            found = entity_f1(said, [[str(label) for label in each] for each in right])  # type: ignore[arg-type]
            figures |= {"f1": found.f1, "precision": found.precision, "recall": found.recall}
        return figures

    def _told(self, inputs: Any, *, progress: bool) -> list[NDArray[np.float64]]:
        """Return the probabilities of each word, or of each token of encodings, where padding has none (NaN)."""
        classes = self._check_fitted()
        with display(progress):
            counts, windows = self._windows(inputs)
            answers = read_tokens(
                self.model,
                HEAD,
                [window.row for window in windows],
                positions=[window.index.tolist() for window in windows],
                precision=precision_of(self.model),
            )
        told = [np.full((count, len(classes)), np.nan) for count in counts]
        for window, answer in zip(windows, answers, strict=True):
            told[window.text][window.units] = softmax(answer)
        return told

    def _read(self, inputs: Any, labels: Any) -> list[tuple[list[Window], dict[int, Label]]]:
        """Return for each text its windows, and the label of each of its words that has one."""
        counts, windows = self._windows(inputs)
        tags = _read_tags(labels, counts)
        examples: list[tuple[list[Window], dict[int, Label]]] = [([], each) for each in tags]
        for window in windows:
            examples[window.text][0].append(window)
        return examples

    def _windows(self, inputs: Any) -> tuple[list[int], list[Window]]:
        """Return how many words, or tokens, each text has, and how they are read."""
        if isinstance(inputs, Mapping):
            return self._of_encodings(inputs)
        if isinstance(inputs, str) or not isinstance(inputs, Iterable):
            raise UserError("give lists of words, such as [['Anna', 'lives', 'in', 'Oslo']], or encodings")
        texts = as_list(inputs)
        if texts and all(isinstance(text, Mapping) for text in texts):
            return self._of_encodings({name: [text[name] for text in texts] for name in texts[0]})
        return self._of_words(texts)

    def _of_encodings(self, encodings: Mapping[str, Any]) -> tuple[list[int], list[Window]]:
        rows = read_rows(encodings, self.tokenizer, self.model)
        masks = encodings.get("attention_mask")
        kept = [np.arange(len(row)) for row in rows]
        counts = list(map(len, rows))
        if masks is not None:
            columns = [np.asarray(mask.detach().cpu() if hasattr(mask, "detach") else mask) for mask in masks]
            columns = [np.asarray(masks)] if np.ndim(columns[0]) == 0 else columns
            kept, counts = [np.flatnonzero(mask) for mask in columns], list(map(len, columns))
        return counts, [
            Window(text=number, row=row, units=units, index=np.arange(len(row)))
            for number, (row, units) in enumerate(zip(rows, kept, strict=True))
        ]

    def _of_words(self, texts: Sequence[Any]) -> tuple[list[int], list[Window]]:
        if self.tokenizer is None:
            raise UserError("this model comes without a tokenizer, so it reads encodings only, and no words")
        if not texts:
            raise UserError("there is not one example")
        for number, text in enumerate(texts):
            if isinstance(text, str) or not isinstance(text, Iterable):
                raise UserError(f"inputs[{number}] must be a list of words, not {text!r}")
        encodings = _encode_words([list(text) for text in texts], self.tokenizer)
        rows = read_rows(encodings, self.tokenizer, self.model)
        source = encodings.overflow_to_sample_mapping
        causal = self.model.config.attention == "causal"
        told = [_told_at(encodings, number, last=causal) for number in range(len(rows))]
        best: list[dict[int, int]] = [{} for _ in texts]  # of each text: word to the row that has most around it
        for number, places in enumerate(told):
            for word, at in places.items():
                other = best[source[number]].get(word)
                if other is None or _room(at, rows[number]) > _room(told[other][word], rows[other]):
                    best[source[number]][word] = number
        return list(map(len, texts)), [
            Window(text=source[number], row=row, units=np.array(units, dtype=np.int64), index=np.array(index))
            for number, row in enumerate(rows)
            for units in [[word for word in told[number] if best[source[number]][word] == number]]
            for index in [np.array([told[number][word] for word in units], dtype=np.int64)]
        ]


def _encode_words(texts: Sequence[list[Any]], tokenizer: AutoTokenizer) -> Encodings:
    """Encode lists of words so that each word has a token.

    Of some, such as a lone variation selector, a tokenizer keeps nothing: they are read as a sign that it does not know.
    """
    split = partial(tokenizer, texts, is_split_into_words=True)
    whole, lost = split(), 0
    for row, words in enumerate(texts):
        for number in set(range(len(words))) - set(whole.word_ids(row)):
            words[number] = UNKNOWN
            lost += 1
    if lost:
        note(f"{lost:,} words are read as {UNKNOWN!r}, since the tokenizer keeps nothing of them")
    limit = tokenizer.model_max_length
    return split(
        truncation=limit is not None, stride=0 if limit is None else limit // 4, return_overflowing_tokens=True
    )


def _told_at(encodings: Encodings, number: int, *, last: bool) -> dict[int, int]:
    """Return the words of a row, each with the token that tells it: its first, or its last, by which a GPT has read it."""
    found: dict[int, int] = {}
    for at, word in enumerate(encodings.word_ids(number)):
        if word is not None and (last or word not in found):
            found[word] = at
    return found


def _room(at: int, row: Row) -> int:
    """Return how much stands around a token, on the side where there is less of it."""
    return min(at, len(row) - 1 - at)


def _read_tags(labels: Any, counts: Sequence[int]) -> list[dict[int, Label]]:
    """Return each text's labels, by the number of the word or token that has one."""
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        raise UserError(f"labels must be a list with the labels of each text, not {labels!r}")
    lists = [as_list(each) if isinstance(each, Iterable) and not isinstance(each, str) else each for each in labels]
    if len(lists) != len(counts):
        raise UserError(f"there are {len(counts)} inputs and {len(lists)} lists of labels; each input needs one")
    for number, (each, count) in enumerate(zip(lists, counts, strict=True)):
        if not isinstance(each, list):
            raise UserError(f"labels[{number}] must be a list with a label for each word, not {each!r}")
        if len(each) != count:
            raise UserError(f"inputs[{number}] has {count} words or tokens, and labels[{number}] {len(each)} labels")
    kept = [
        (text, unit, label) for text, each in enumerate(lists) for unit, label in enumerate(each) if label != IGNORED
    ]
    if not kept:
        raise UserError(f"not one word has a label; {IGNORED} marks those without")
    tags: list[dict[int, Label]] = [{} for _ in counts]
    for (text, unit, _), label in zip(kept, read_labels([label for *_, label in kept]), strict=True):
        tags[text][unit] = label
    return tags


def _with_targets(examples: Sequence[tuple[list[Window], dict[int, Label]]], classes: tuple[Label, ...]) -> list[Row]:
    """Return the rows in which words with labels are told, with the classes as targets."""
    rows = []
    for windows, tags in examples:
        for window in windows:
            chosen = [place for place, unit in enumerate(window.units.tolist()) if unit in tags]
            if not chosen:
                continue
            value = positions([tags[int(window.units[place])] for place in chosen], classes)
            rows.append(replace(window.row, targets={HEAD: Target(index=window.index[chosen], value=value)}))
    return rows

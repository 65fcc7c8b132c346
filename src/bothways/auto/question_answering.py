"""``AutoModelForQuestionAnswering``: the answer to a question as it stands in a passage.

Shapes: n questions, W parts of a passage, m candidate tokens of all its parts.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from bothways.auto.examples import read_rows
from bothways.auto.fitting import Options, fit_rows, split, two
from bothways.auto.labels import as_list
from bothways.auto.pretrained import Pretrained
from bothways.batch import Row, Target
from bothways.errors import UserError
from bothways.inference.encode import read_tokens
from bothways.inference.spans import best_spans
from bothways.metrics.exact_match import exact_match
from bothways.metrics.token_f1 import token_f1
from bothways.objectives.span import Span
from bothways.progress import display, note
from bothways.tasks.task import precision_of

HEAD = "span"
NO_ANSWER = "answers_none"  # in config.json: the model was fitted to questions without an answer, too
LONGEST = 30  # tokens of an answer
OVERLAP = 128  # tokens that the parts of a long passage have in common, at most
_FORMS = "its text, '' where there is none, or a dictionary with 'text' and 'answer_start', as SQuAD has them"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer in its passage.

    Attributes:
        text: the words; empty: the passage does not say.
        start, end: where they begin and end in the passage, in characters; both 0 where there is none.
        score: its probability.
    """

    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A question with a part of its passage.

    Attributes:
        row: the tokens, framed.
        index: [m] the tokens that may begin or end an answer, [CLS] before them all.
        spans: [m, 2] where each lies in the passage, in characters.
    """

    row: Row
    index: NDArray[np.int64]
    spans: NDArray[np.int64]


class AutoModelForQuestionAnswering(Pretrained):
    """A reader that points at answers.

    A passage longer than the model reads is read in parts that overlap.
    """

    HEAD: ClassVar[str | None] = HEAD

    def __init__(self, model: Any, *, tokenizer: Any = None, fitted: bool = False, answers_none: bool = False) -> None:
        """Put together what ``from_pretrained`` loads.

        Args:
            model: has the head.
            tokenizer: of the model.
            fitted: whether the head has learnt to answer.
            answers_none: whether it has learnt that a passage may not say.
        """
        super().__init__(model, tokenizer=tokenizer)
        self.fitted = fitted
        self.answers_none = answers_none

    @classmethod
    def from_pretrained(cls, name_or_folder: Any, *, revision: str | None = None) -> Self:
        """Load a model onto the best device there is; a head that is not stored is new, and ``fit`` trains it.

        Raises:
            UserError: there is no such model.
        """
        loaded, tokenizer = cls._load(name_or_folder, revision=revision)
        none = loaded.config.get(NO_ANSWER, False)
        untrained = bool(loaded.new_heads) or none is None
        return cls(loaded.model, tokenizer=tokenizer, fitted=not untrained, answers_none=bool(none))

    def _details(self) -> dict[str, Any]:
        return {"details": {NO_ANSWER: self.answers_none if self.fitted else None}}

    def fit(
        self,
        inputs: Any,
        answers: Any,
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
            inputs: n pairs (question, passage).
            answers: n answers: each its text, which stands in the passage (its first place is taken); ``""`` where the
                passage does not say; or, as SQuAD has them, a dictionary with ``text`` and ``answer_start``.
            validation, epochs, batch_size, learning_rate, seed, progress: as for a classifier of texts.
        Returns:
            The model itself.
        Raises:
            UserError: inputs or answers cannot be used, or do not fit each other; the message says where and why.
        """
        options = Options(
            validation=validation, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, seed=seed
        )
        settings = options.settings(self.model)
        with display(progress):
            rows, none = self._rows(inputs, answers)
            learnt, measured = split(rows, options, lambda given: self._rows(*two(given))[0])
            self.trained = fit_rows(self.model, Span(), _flat(learnt), _flat(measured), settings)
            self.fitted = True
            self.answers_none = self.answers_none or none
        return self

    def predict(self, inputs: Any, *, progress: bool = True) -> list[str]:
        """Return the answer to each question, as it stands in its passage; ``""`` where the passage does not say.

        Args:
            inputs: n pairs (question, passage), or one.
            progress: show it where it takes long.
        Raises:
            UserError: the model has not been fitted, or the inputs cannot be read.
        """
        return [found[0].text for found in self.predict_answers(inputs, progress=progress)]

    def predict_answers(
        self, inputs: Any, *, top_k: int = 1, longest: int = LONGEST, none: bool | None = None, progress: bool = True
    ) -> list[list[Answer]]:
        """Return the likeliest answers to each question, best first, with their places and probabilities.

        Args:
            inputs: n pairs (question, passage), or one.
            top_k: how many.
            longest: most tokens of an answer.
            none: whether "the passage does not say" is an answer; None: if the model has learnt of such questions.
            progress: show it where it takes long.
        """
        if not self.fitted:
            raise UserError("the head that finds answers is new and untrained; call fit first")
        for name, value in (("top_k", top_k), ("longest", longest)):
            if value < 1:
                raise UserError(f"{name} must be at least 1, not {value}")
        allowed = self.answers_none if none is None else none
        pairs = _read_pairs(inputs)
        with display(progress):
            examples = self._parts(pairs)
            parts = [part for each in examples for part in each]
            said = iter(
                read_tokens(
                    self.model,
                    HEAD,
                    [part.row for part in parts],
                    positions=[part.index.tolist() for part in parts],
                    precision=precision_of(self.model),
                )
            )
            return [
                _answers(passage, each, [next(said) for _ in each], top_k, longest, allowed)
                for (_, passage), each in zip(pairs, examples, strict=True)
            ]

    def score(self, inputs: Any, answers: Any, *, progress: bool = True) -> float:
        """Return the mean F1 of the words that given and right answers share, as SQuAD and CMRC 2018 count them."""
        return self.evaluate(inputs, answers, progress=progress)["f1"]

    def evaluate(self, inputs: Any, answers: Any, *, progress: bool = True) -> dict[str, float]:
        """Return ``exact_match`` and ``f1``; of several right answers (SQuAD's lists of ``text``) the best match counts."""
        right = [_texts(answer, number) for number, answer in enumerate(as_list(answers))]
        given = self.predict(inputs, progress=progress)
        if len(given) != len(right):
            raise UserError(f"there are {len(given)} questions and {len(right)} answers; each question needs one")
        return {"exact_match": exact_match(given, right), "f1": token_f1(given, right)}

    def _rows(self, inputs: Any, answers: Any) -> tuple[list[list[Row]], bool]:
        """Return the parts of each passage with their answers, and whether there is a question without one."""
        pairs = _read_pairs(inputs)
        found = as_list(answers)
        if len(pairs) != len(found):
            raise UserError(f"there are {len(pairs)} questions and {len(found)} answers; each question needs one")
        places = [
            _place(answer, passage, number)
            for number, (answer, (_, passage)) in enumerate(zip(found, pairs, strict=True))
        ]
        rows = [_with_answers(parts, place) for parts, place in zip(self._parts(pairs), places, strict=True)]
        return rows, not all(places)

    def _parts(self, pairs: Sequence[tuple[str, str]]) -> list[list[_Part]]:
        """Return each question with the parts of its passage."""
        if self.tokenizer is None:
            raise UserError("this model comes without a tokenizer, and answers can only be found in texts")
        limit = min(self.tokenizer.model_max_length or math.inf, self.model.config.max_position_embeddings)
        questions, passages = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        longest = int(limit) // 2
        asked = self.tokenizer(questions, add_special_tokens=False)
        if too_long := sum(len(ids) > longest for ids in asked.input_ids):
            note(f"{too_long:,} of {len(pairs):,} questions have more than {longest} tokens and are cut to that")
            ends = [asked.offsets(number)[:longest][-1][1] for number in range(len(pairs))]
            questions = [question[:end] for question, end in zip(questions, ends, strict=True)]
        room = int(limit) - max(min(len(ids), longest) for ids in asked.input_ids) - 8
        encodings = self.tokenizer(
            questions,
            passages,
            truncation="only_second",
            max_length=int(limit),
            stride=max(0, min(OVERLAP, room // 2)),
            return_overflowing_tokens=True,
        )
        rows = read_rows(encodings, self.tokenizer, self.model)
        parts: list[list[_Part]] = [[] for _ in pairs]
        for number, (row, source) in enumerate(zip(rows, encodings.overflow_to_sample_mapping, strict=True)):
            sides = encodings.sequence_ids(number)
            index = np.array([0, *(at for at, side in enumerate(sides) if side == 1 and at > 0)])
            spans = np.array(encodings.offsets(number))[index]
            spans[0] = 0
            parts[source].append(_Part(row=row, index=index, spans=spans))
        return parts


def _read_pairs(inputs: Any) -> list[tuple[str, str]]:
    """Return pairs of question and passage."""
    if isinstance(inputs, Mapping) and {"question", "context"} <= set(inputs):
        sides = [[side] if isinstance(side, str) else as_list(side) for side in (inputs["question"], inputs["context"])]
        items = list(zip(*sides, strict=True)) if len(sides[0]) == len(sides[1]) else []
    elif isinstance(inputs, tuple) and len(inputs) == 2 and all(isinstance(text, str) for text in inputs):
        items = [inputs]
    elif isinstance(inputs, str | Mapping) or not isinstance(inputs, Iterable):
        items = []
    else:
        items = as_list(inputs)
    if not items:
        raise UserError(
            "give pairs (question, passage), or a dictionary of as many under 'question' and under 'context'"
        )
    for number, pair in enumerate(items):
        whole = isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
        if not whole or not all(text.strip() for text in pair):
            raise UserError(f"inputs[{number}] must be a pair (question, passage) of texts, not {pair!r}")
    return [(str(question), str(passage)) for question, passage in items]


def _texts(answer: Any, number: int) -> list[str]:
    """Return all right answers to a question; none is the empty text."""
    texts = answer.get("text") if isinstance(answer, Mapping) else answer
    found = [texts] if isinstance(texts, str) else as_list(texts) if isinstance(texts, Iterable) else [None]
    right = [text for text in found if isinstance(text, str)]
    if len(right) < len(found):
        raise UserError(f"answers[{number}] must be {_FORMS}, not {answer!r}")
    return right or [""]


def _place(answer: Any, passage: str, number: int) -> tuple[int, int] | None:
    """Return where an answer begins and ends in its passage; None: there is none.

    Raises:
        UserError: it does not stand there.
    """
    text = _texts(answer, number)[0]
    if not text.strip():
        return None
    starts = answer.get("answer_start") if isinstance(answer, Mapping) else None
    starts = as_list(starts) if isinstance(starts, Iterable) else [passage.find(text) if starts is None else starts]
    start = int(starts[0]) if starts else passage.find(text)
    if start < 0 or passage[start : start + len(text)] != text:
        raise UserError(
            f"answers[{number}] is {text!r}, which the passage does not say"
            + (f" at character {start}" if start >= 0 else "")
            + "; give it letter for letter"
        )
    return start, start + len(text)


def _with_answers(parts: Sequence[_Part], place: tuple[int, int] | None) -> list[Row]:
    """Return the rows of a passage's parts, each with the answer as its target: at [CLS] where it does not hold it."""
    rows = []
    for part in parts:
        value = np.zeros((len(part.index), 2), dtype=np.int64)
        first, last = _tokens(part.spans, place)
        value[first, 0] = value[last, 1] = 1
        target = Target(index=part.index, value=value, group=np.zeros(len(part.index), dtype=np.int64))
        rows.append(replace(part.row, targets={HEAD: target}))
    return rows


def _tokens(spans: NDArray[np.int64], place: tuple[int, int] | None) -> tuple[int, int]:
    """Return the candidates that begin and end an answer; those of [CLS] where it does not lie in this part whole."""
    if place is None:
        return 0, 0
    inside = np.flatnonzero((spans[:, 0] < place[1]) & (spans[:, 1] > place[0]))
    inside = inside[inside > 0]
    if not len(inside) or spans[inside[0], 0] > place[0] or spans[inside[-1], 1] < place[1]:
        return 0, 0
    return int(inside[0]), int(inside[-1])


def _flat(groups: Iterable[Sequence[Row]]) -> list[Row]:
    return [row for group in groups for row in group]


def _answers(
    passage: str, parts: Sequence[_Part], said: Sequence[NDArray[Any]], top_k: int, longest: int, none: bool
) -> list[Answer]:
    """Return the likeliest answers; the parts of a passage are told together, "none" by the part that is least sure."""
    numbers = np.concatenate([np.full(len(part.index) - 1, number) for number, part in enumerate(parts)])
    spans = np.concatenate([part.spans[1:] for part in parts])
    logits = np.concatenate([np.asarray(each, np.float64)[1:] for each in said])
    nowhere = np.min([np.asarray(each, np.float64)[0] for each in said], axis=0)
    every = np.concatenate([logits, nowhere[None]])
    every = every - every.max(axis=0)
    probable = every - np.log(np.exp(every).sum(axis=0))
    found = [
        _answer(passage, int(spans[each.first, 0]), int(spans[each.last, 1]), each.score)
        for each in best_spans(probable[:-1, 0], probable[:-1, 1], numbers, longest=longest, most=top_k + 20)
    ]
    if none or not found:
        found.append(Answer(text="", start=0, end=0, score=math.exp(float(probable[-1].sum()))))
    best: dict[tuple[int, int], Answer] = {}  # where parts overlap, both may hold an answer
    for each in sorted(found, key=lambda each: -each.score):
        best.setdefault((each.start, each.end), each)
    return list(best.values())[:top_k]


def _answer(passage: str, start: int, end: int, score: float) -> Answer:
    """Return what stands somewhere, without the white space around it that some tokens hold."""
    text = passage[start:end]
    start += len(text) - len(text.lstrip())
    return Answer(text=text.strip(), start=start, end=start + len(text.strip()), score=math.exp(score))

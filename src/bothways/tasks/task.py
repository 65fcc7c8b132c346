"""What a task is: examples with named columns, how they become rows to learn from, how answers are found and judged."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from bothways import discover
from bothways.batch import Attention, Objective, Row, Target, row
from bothways.checkpoints.checkpoint import Loaded
from bothways.errors import UserError
from bothways.inference.generate import Generated, generate
from bothways.inference.sampling import Sampling
from bothways.metrics.bootstrap import Interval
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.objectives.causal_lm import CausalLM
from bothways.text.reading.documents import Record
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.training.machine import resolve_precision

Way = Attention | Literal["both"]  # both: a hybrid reads one way, then the other, and the two count together
Example = Mapping[str, Any]  # a column's name to its value
Prediction = dict[str, Any]


class Task(Protocol):
    """One file of this folder; its class is named as the file, in CamelCase, derives from this, and needs no arguments.

    Attributes:
        INPUTS: columns that prediction needs, each with what it means.
        ANSWERS: columns that training and evaluation need besides.
        ATTENTION: which models can do it; None: all.
        MONITOR: the figure that tells which checkpoint is the best; more is better.
        PACKS_ALL: the loss compares all examples of a step, so they go through the model together.
        BASELINE: what ``baseline`` does, in a few words.
        ALIASES: other names under which a column may stand in a file.
        TRAINABLE: false: models are measured by it and never trained for it; ``objective`` and ``render`` refuse.
    """

    INPUTS: ClassVar[Mapping[str, str]]
    ANSWERS: ClassVar[Mapping[str, str]]
    ATTENTION: ClassVar[Attention | None] = None
    MONITOR: ClassVar[str]
    PACKS_ALL: ClassVar[bool] = False
    BASELINE: ClassVar[str]
    ALIASES: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    TRAINABLE: ClassVar[bool] = True

    def fitted_to(self, examples: Sequence[Example]) -> Self:  # noqa: ARG002
        """Return the task with what it learns of the training examples before training: the labels, say.

        Raises:
            UserError: they do not suffice.
        """
        return self

    def restored(self, labels: Sequence[str] | None) -> Self:  # noqa: ARG002
        """Return the task as it was when a checkpoint was saved."""
        return self

    def by_both_ways(self) -> Self:
        """Return the task as a hybrid does it that reads from the left and from both sides, and is asked about both.

        Raises:
            UserError: it reads in one way at a time.
        """
        raise UserError("this task is done by a model that reads one way at a time: causal or bidirectional, not both")

    def objective(self) -> Objective:
        """Return what training minimises."""

    def heads(self) -> Mapping[str, int]:
        """Return the heads that the task reads, each with its number of outputs (0: as stored)."""
        return self.objective().heads

    def render(self, example: Example, tokenizer: Tokenizer, config: TransformerConfig) -> Row:
        """Return an example as a row with its targets, cut to what the model can hold; ``omitted`` says how much is cut."""

    def predict(self, loaded: Loaded, examples: Sequence[Example], *, seed: int = 0) -> list[Prediction]:
        """Return the model's answer to each example; its answer columns are not looked at."""

    def measure(self, predictions: Sequence[Prediction], examples: Sequence[Example]) -> dict[str, float]:
        """Return the task's figures: the means of the examples' own, if they are no others."""
        return {name: sum(each) / len(each) for name, each in self.measure_each(predictions, examples).items()}

    def measure_each(self, predictions: Sequence[Prediction], examples: Sequence[Example]) -> dict[str, list[float]]:
        """Return each example's own score, for the figures that are means of them."""

    def intervals(
        self,
        predictions: Sequence[Prediction],  # noqa: ARG002
        examples: Sequence[Example],  # noqa: ARG002
        *,
        seed: int = 0,  # noqa: ARG002
    ) -> dict[str, Interval] | None:
        """Return every figure with its 95 % interval, or None: draw whole examples, as for most tasks."""
        return None

    def baseline(self, examples: Sequence[Example]) -> list[Prediction]:
        """Return the predictions of something that has learnt nothing."""


def get_task(name: str) -> Task:
    """Return the task of that name.

    Raises:
        UserError: there is none; the message lists those that exist.
    """
    module = discover.find("tasks", name)
    task: Task = getattr(module, "".join(word.capitalize() for word in module.__name__.rpartition(".")[2].split("_")))()
    return task


def check_examples(task: Task, records: Iterable[Record], *, answers: bool) -> list[Example]:
    """Return the records as examples, their columns checked and named as the task names them.

    Raises:
        UserError: there are none, or one lacks a column or has something other than text in it.
    """
    columns = {**task.INPUTS, **(task.ANSWERS if answers else {})}
    examples: list[Example] = []
    for record in records:
        for column, others in task.ALIASES.items():
            found = next((other for other in others if other in record.values), None)
            if column not in record.values and found is not None:
                record.values[column] = record.values.pop(found)
        for column, meaning in columns.items():
            value = record.values.get(column)
            if isinstance(value, int | float) and not isinstance(value, bool) and column == "label":
                record.values[column] = value = str(value)
            if not isinstance(value, str) or not value.strip():
                raise UserError(f"{record.source}: the column {column!r} ({meaning}) {_fault(record.values, column)}")
        examples.append(record.values)
    if not examples:
        raise UserError(f"there is not one example; a file needs the columns {', '.join(columns)}")
    return examples


def _fault(values: Mapping[str, Any], column: str) -> str:
    """Return what is wrong with a column that does not hold a text."""
    if column not in values:
        return f"is missing; there are: {', '.join(values)}"
    kind = "null" if values[column] is None else type(values[column]).__name__
    return "is empty" if isinstance(values[column], str) else f"must hold text, and holds {kind}"


def check_attention(task: Task, name: str, config: TransformerConfig) -> None:
    """Refuse a model that reads in the wrong direction.

    Raises:
        UserError: it does.
    """
    if task.ATTENTION and config.attention != task.ATTENTION:
        kind = "GPT (causal)" if task.ATTENTION == "causal" else "BERT (bidirectional)"
        raise UserError(f"{name} needs a {kind} model, and this one is {config.attention}")


@dataclass(frozen=True)
class Prompt:
    """What a GPT writes after.

    Attributes:
        ids: its tokens, the start token first.
        omitted: tokens of the text that found no place.
    """

    ids: list[int]
    omitted: int


def text_row(
    text: str,
    tokenizer: Tokenizer,
    config: TransformerConfig,
    *,
    max_length: int,
    targets: Mapping[str, Any] | None = None,
) -> Row:
    """Return a text as BERT (``[CLS] text [SEP]``) or GPT (``text``, after a start token if there is one) reads it.

    Args:
        text: cut at the end where it is too long.
        tokenizer, config: of the model.
        max_length: most tokens, the frame included.
        targets: for each head that reads the whole text, the value it must say.
    """
    special = tokenizer.special_ids
    first, last = ("cls", "sep") if config.attention == "bidirectional" else ("bos", "none")
    before = [special[first]] if first in special else []
    after = [special[last]] if last in special else []
    room = min(max_length, config.max_position_embeddings) - len(before) - len(after)
    encoded = tokenizer.encode(text)
    ids = [*before, *encoded[:room], *after]
    if not ids:
        raise UserError("an empty text cannot be read by this model, which has no start token")
    index = np.array([len(ids) - 1 if config.pooling == "last" else 0])
    made = {head: Target(index=index, value=np.array([value])) for head, value in (targets or {}).items()}
    return row(ids, config.attention, token_type_ids=np.zeros(len(ids)), targets=made, omitted=len(encoded[room:]))


def answer_row(prompt: Prompt, answer: Sequence[int], tokenizer: Tokenizer, *, room: int) -> Row:
    """Return a prompt and what must be written after it, up to the end token; an answer that is cut is not ended.

    Args:
        prompt: begins with the start token.
        answer: all of it.
        tokenizer: of the model.
        room: tokens of the answer that are read; what comes after the last of them is predicted, too.
    """
    objective = CausalLM(bos_id=prompt.ids[0], eos_id=tokenizer.special_id("eos"))
    ids = [np.asarray(part, dtype=np.int64) for part in (answer[: room + 1], prompt.ids[1:])]
    made = objective.sequence(ids[0], prompt=ids[1], ends=len(answer) <= room)
    return replace(made, omitted=prompt.omitted + len(answer[room + 1 :]))


def write(
    loaded: Loaded, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, sampling: Sampling, seed: int = 0
) -> list[str]:
    """Return what a GPT writes after each prompt, up to its end of text or turn; other special tokens are never written.

    Args:
        loaded: the model and its tokenizer.
        prompts: token ids.
        max_new_tokens, sampling, seed: see ``inference.generate``.
    """
    tokenizer = tokenizer_of(loaded)
    written = continue_prompts(
        loaded.model, tokenizer, prompts, max_new_tokens=max_new_tokens, sampling=sampling, seed=seed
    )
    return [tokenizer.decode(answer.ids) for answer in written]


def continue_prompts(
    model: Model,
    tokenizer: Tokenizer | None,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    sampling: Sampling,
    seed: int = 0,
) -> list[Generated]:
    """Return the tokens of ``write``; without a tokenizer no token ends a text, and any may be written."""
    special = tokenizer.special_ids if tokenizer else {}
    stop = {special[role] for role in ("eos", "eot") if role in special}
    return generate(
        model,
        prompts,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        stop_ids=stop,
        forbidden_ids=set(special.values()) - stop,
        seed=seed,
        precision=precision_of(model),
    )


def tokenizer_of(loaded: Loaded) -> Tokenizer:
    """Return the tokenizer that a model came with.

    Raises:
        UserError: it came without one.
    """
    if loaded.tokenizer is None:
        raise UserError("this model comes without a tokenizer, so no text can be given to it")
    return loaded.tokenizer


def precision_of(model: Model) -> Literal["bf16", "fp32"]:
    """Return the precision in which predictions are computed on the model's device."""
    return resolve_precision("auto", model.device)


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Return probabilities over the last axis."""
    wide = logits.astype(np.float64)
    weights = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))

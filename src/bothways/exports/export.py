"""What a format must say about itself, and the check that each export ends with: both programs say the same.

Shapes: n sequences, T tokens of one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from bothways.checkpoints.checkpoint import Loaded
from bothways.checkpoints.folders import write_folder
from bothways.discover import find
from bothways.discover import names as found
from bothways.errors import BothwaysError, UserError, unknown
from bothways.inference.encode import encode, read_head, read_tokens

_FOLDER = "exports"
Answers = Mapping[str, Sequence[NDArray[Any]]]  # head, or "embedding", to what is said of each sequence
_TEXTS = (
    "The old man looked at the sea, and the sea looked back at him.",
    "Numbers: 3.14159, 1984, and 70%.",
    "我们今天去北京，明天回来。",
)


class DifferentError(BothwaysError):
    """Another program says something else than the model does, so that the export is not kept."""

    exit_code = 1


class Format(Protocol):
    """The surface of each module in ``exports``.

    Attributes:
        PRECISIONS: what weights may be stored as, to the largest difference that is borne, in standard deviations of what
            the model says; the first one is the default.
        NEEDS: modules that the export needs, and its check, each with the extra that brings it.
    """

    PRECISIONS: Mapping[str, float]
    NEEDS: Mapping[str, str]

    def refuse(self, loaded: Loaded) -> None:
        """Raise ``UserError`` where the format has no place for a model."""

    def write(self, loaded: Loaded, folder: Path, precision: str) -> None:
        """Write all files of the format into an empty folder."""

    def answers(self, folder: Path, loaded: Loaded, sequences: Sequence[Sequence[int]]) -> Answers:
        """Return what the other program says of sequences of token ids, under our names of heads.

        A format whose program cannot be asked for all that the heads say has a function ``ours``, which returns what it is
        compared with, too.
        """


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far two programs are from each other.

    Attributes:
        head: whose answers.
        largest: the largest absolute difference.
        spread: the standard deviation of what the model says.
    """

    head: str
    largest: float
    spread: float

    @property
    def relative(self) -> float:
        """The largest difference in standard deviations."""
        return self.largest / self.spread if self.spread else float("inf") if self.largest else 0.0


def format_of(name: str) -> Format:
    """Return a format by name.

    Raises:
        UserError: there is none; those there are, are listed.
    """
    return cast("Format", find(_FOLDER, name))


def format_names() -> tuple[str, ...]:
    """Return the names of all formats, as they are typed."""
    return tuple(name.replace("_", "-") for name in found(_FOLDER))


def export_model(loaded: Loaded, name: str, folder: Path, *, precision: str | None = None) -> list[Difference]:
    """Write a model in a format, and compare what both programs say; what differs is not kept.

    Args:
        loaded: the model.
        name: of the format.
        folder: where to; an earlier export is replaced.
        precision: of the weights; None: the format's usual one.
    Returns:
        How far the two are apart, by head.
    Raises:
        UserError: there is no such format or precision, it cannot hold the model, or a library is missing.
        DifferentError: the two differ by more than the format bears.
    """
    form = format_of(name)
    chosen = precision or next(iter(form.PRECISIONS))
    if chosen not in form.PRECISIONS:
        raise unknown(f"precision of {name}", chosen, form.PRECISIONS)
    missing = {extra for module, extra in form.NEEDS.items() if find_spec(module) is None}
    if missing:
        raise UserError(f"to export to {name} install the extra: pip install 'bothways[{','.join(sorted(missing))}]'")
    form.refuse(loaded)
    differences: list[Difference] = []

    def write(into: Path) -> None:
        form.write(loaded, into, chosen)
        sequences = probes(loaded)
        ours = getattr(form, "ours", said)
        differences.extend(compare(ours(loaded, sequences), form.answers(into, loaded, sequences)))
        worst = max(differences, key=lambda each: each.relative)
        if not worst.relative <= form.PRECISIONS[chosen]:  # undefined numbers, too
            raise DifferentError(
                f"{name} says something else than the model: {worst.head} differs by up to {worst.largest:.3g}, where "
                f"{form.PRECISIONS[chosen] * worst.spread:.3g} is borne; nothing was written"
            )

    write_folder(folder, write)
    return differences


def probes(loaded: Loaded) -> list[list[int]]:
    """Return sequences of different lengths that both programs are asked about: texts, framed, and any tokens at all."""
    limit = min(loaded.model.config.max_position_embeddings, 128)
    draw = np.random.default_rng(0)
    special = set(loaded.tokenizer.special_ids.values()) if loaded.tokenizer else {0, 1, 2}
    plain = [index for index in range(loaded.model.config.vocab_size) if index not in special]
    anything = [draw.choice(plain, size=min(size, limit)).tolist() for size in (1, 7, 40, limit)]
    texts = [loaded.tokenizer.encode(text)[:limit] for text in _TEXTS] if loaded.tokenizer else []
    return [*filter(None, texts), *anything]


def said(loaded: Loaded, sequences: Sequence[Sequence[int]]) -> dict[str, list[NDArray[Any]]]:
    """Return what each head of the model says here, and the sequences' vectors."""
    answers: dict[str, list[NDArray[Any]]] = {"embedding": list(encode(loaded.model, sequences))}
    for head in loaded.model.heads:
        if head in ("classification", "next_sentence"):
            answers[head] = list(read_head(loaded.model, head, sequences))
        elif head != "embedding":
            answers[head] = read_tokens(loaded.model, head, sequences)
    return answers


def compare(ours: Answers, theirs: Answers) -> list[Difference]:
    """Return how far what both say is apart, for each head that the other program has.

    Raises:
        DifferentError: the other program says nothing, or something of another shape.
    """
    if not theirs:
        raise DifferentError("the other program says nothing that could be compared")
    differences = []
    for head, answers in theirs.items():
        shapes = [(np.shape(one), np.shape(other)) for one, other in zip(ours[head], answers, strict=True)]
        if any(one != other for one, other in shapes):
            raise DifferentError(f"{head}: the other program's answers have other shapes: {shapes}")
        largest = max(
            float(np.abs(np.asarray(one, np.float64) - other).max())
            for one, other in zip(ours[head], answers, strict=True)
        )
        spread = float(np.concatenate([np.ravel(one) for one in ours[head]]).std())
        differences.append(Difference(head=head, largest=largest, spread=spread))
    return differences


def one_by_one(ask: Callable[[Sequence[int]], Mapping[str, Any]], sequences: Sequence[Sequence[int]]) -> Answers:
    """Ask about each sequence alone, without padding, and collect the answers by head."""
    each = [ask(sequence) for sequence in sequences]
    return {head: [np.asarray(answers[head]) for answers in each] for head in each[0]}

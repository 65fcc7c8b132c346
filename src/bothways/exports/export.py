"""What a format must say about itself, and the check that each export ends with: both programs say the same.

Where the other program cuts text into tokens itself, it must cut it alike, too.

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
from bothways.exports._texts import ORDINARY, texts_for
from bothways.inference.encode import encode, read_head, read_tokens
from bothways.progress import note
from bothways.text.tokenizing.tokenizer import Tokenizer

_FOLDER = "exports"
_OTHERWISE = 0.1  # the largest share of extraordinary texts that another program may cut otherwise
Answers = Mapping[str, Sequence[NDArray[Any]]]  # head, or "embedding", to what is said of each sequence


class DifferentError(BothwaysError):
    """Another program says something else than the model does, so that the export is not kept."""

    exit_code = 1


class Format(Protocol):
    """The surface of each module in ``exports``.

    Attributes:
        PRECISIONS: what weights may be stored as, to the largest difference that is borne, in standard deviations of what
            the model says; the first one is the default.
        NEEDS: modules that the export needs, and its check, each with the extra that brings it.
        LIBRARY: what the Hugging Face Hub calls what opens it.
    """

    PRECISIONS: Mapping[str, float]
    NEEDS: Mapping[str, str]
    LIBRARY: str

    def refuse(self, loaded: Loaded) -> None:
        """Raise ``UserError`` where the format has no place for a model."""

    def write(self, loaded: Loaded, folder: Path, precision: str) -> None:
        """Write all files of the format into an empty folder."""

    def answers(self, folder: Path, loaded: Loaded, sequences: Sequence[Sequence[int]]) -> Answers:
        """Return what the other program says of sequences of token ids, under our names of heads.

        A format whose program cannot be asked for all that the heads say has a function ``ours``, which returns what it is
        compared with, too. One whose program cuts texts itself has a function ``tokenize`` (folder, texts), which returns
        the ids of each with the frame that the program puts around it. One that computes some models less exactly than others
        has a function ``tolerance`` (loaded, precision) beside ``PRECISIONS``.
        """

    def usage(self, loaded: Loaded) -> str:
        """Return Markdown that says, with code, how what was written is used; the folder is the current one."""


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


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written, and how it was checked.

    Attributes:
        format: its name.
        precision: of the weights.
        tolerance: the largest difference that was borne, in standard deviations of what the model says.
        sequences: of token ids that both programs were asked about.
        differences: how far the two are apart, by head.
        texts: that both programs cut into tokens; 0: the other one cuts none, or there is no tokenizer.
        otherwise: those that the other one cuts otherwise, all of them out of the ordinary.
        left_out: heads of the model with which the other one does not answer.
    """

    format: str
    precision: str
    tolerance: float
    sequences: int
    differences: list[Difference]
    texts: int = 0
    otherwise: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def format_of(name: str) -> Format:
    """Return a format by name.

    Raises:
        UserError: there is none; those there are, are listed.
    """
    return cast("Format", find(_FOLDER, name))


def format_names() -> tuple[str, ...]:
    """Return the names of all formats, as they are typed."""
    return tuple(name.replace("_", "-") for name in found(_FOLDER))


def export_model(
    loaded: Loaded,
    name: str,
    folder: Path,
    *,
    precision: str | None = None,
    describe: Callable[[Path, Exported], None] | None = None,
) -> Exported:
    """Write a model in a format, and compare what both programs say; what differs is not kept.

    Args:
        loaded: the model.
        name: of the format.
        folder: where to; an earlier export is replaced.
        precision: of the weights; None: the format's usual one.
        describe: writes what it has to say of an export into its folder.
    Returns:
        How far the two are apart.
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
    written: list[Exported] = []

    def write(into: Path) -> None:
        form.write(loaded, into, chosen)
        written.append(_check(form, loaded, into, name=name, precision=chosen))
        if describe is not None:
            describe(into, written[0])

    write_folder(folder, write)
    return written[0]


def _check(form: Format, loaded: Loaded, folder: Path, *, name: str, precision: str) -> Exported:
    """Return how far what was written is from the model.

    Raises:
        DifferentError: farther than the format bears.
    """
    sequences = probes(loaded)
    tolerance = form.tolerance(loaded, precision) if hasattr(form, "tolerance") else form.PRECISIONS[precision]
    differences = compare(getattr(form, "ours", said)(loaded, sequences), form.answers(folder, loaded, sequences))
    worst = max(differences, key=lambda each: each.relative)
    if not worst.relative <= tolerance:  # undefined numbers, too
        raise DifferentError(
            f"{name} says something else than the model: {worst.head} differs by up to {worst.largest:.3g}, where "
            f"{tolerance * worst.spread:.3g} is borne; nothing was written"
        )
    left_out = sorted(set(loaded.model.heads) - {each.head for each in differences})
    if left_out:
        note(f"{name} does not answer with the model's {' and '.join(left_out)}")
    texts: list[str] = []
    otherwise: list[str] = []
    if loaded.tokenizer is not None and hasattr(form, "tokenize"):
        texts = texts_for(loaded.tokenizer)
        otherwise = cut_otherwise(loaded.tokenizer, texts, form.tokenize(folder, texts))
        _bear(otherwise, len(texts), name)
    return Exported(
        format=name,
        precision=precision,
        tolerance=tolerance,
        sequences=len(sequences),
        differences=differences,
        texts=len(texts),
        otherwise=tuple(otherwise),
        left_out=tuple(left_out),
    )


def cut_otherwise(tokenizer: Tokenizer, texts: Sequence[str], theirs: Sequence[Sequence[int]]) -> list[str]:
    """Return the texts of which another program makes other token ids, the frame of special tokens included."""
    tokenizer.backend.encode_special_tokens = True  # text is text, whatever it spells
    ours = [encoding.ids for encoding in tokenizer.backend.encode_batch(list(texts))]
    return [text for text, one, other in zip(texts, ours, theirs, strict=True) if one != list(other)]


def _bear(otherwise: Sequence[str], texts: int, name: str) -> None:
    """Refuse texts that are cut otherwise, but for a few that are out of the ordinary.

    Raises:
        DifferentError: an ordinary one is cut otherwise, or too many.
    """
    ordinary = [text for text in otherwise if text in ORDINARY]
    if ordinary or len(otherwise) > _OTHERWISE * texts:
        raise DifferentError(
            f"{name} cuts {len(otherwise)} of {texts} texts into other tokens than the model's tokenizer does, "
            f"{(ordinary or otherwise)[0][:80]!r} among them; nothing was written"
        )
    if otherwise:
        first = ", ".join(repr(text[:40]) for text in otherwise[:3])
        note(
            f"{name} cuts {len(otherwise)} of {texts} unusual texts into other tokens than the tokenizer does: {first}"
        )


def probes(loaded: Loaded) -> list[list[int]]:
    """Return sequences of different lengths that both programs are asked about: texts, framed, and any tokens at all."""
    limit = min(loaded.model.config.max_position_embeddings, 128)
    draw = np.random.default_rng(0)
    special = set(loaded.tokenizer.special_ids.values()) if loaded.tokenizer else {0, 1, 2}
    plain = [index for index in range(loaded.model.config.vocab_size) if index not in special]
    anything = [draw.choice(plain, size=min(size, limit)).tolist() for size in (1, 7, 40, limit)]
    texts = [loaded.tokenizer.encode(text)[:limit] for text in ORDINARY[:3]] if loaded.tokenizer else []
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

"""``bothways export``: a model in the format of another program, and the proof that both say the same."""

from collections.abc import Iterator
from pathlib import Path

from bothways.batch import Attention
from bothways.checkpoints.checkpoint import load
from bothways.errors import UserError
from bothways.evaluation.export_card import write_export_card
from bothways.exports.export import Exported, export_model, format_of


def export(
    model: str | Path,
    *,
    format: str = "hf",  # noqa: A002
    out: str | Path,
    precision: str | None = None,
    attention: Attention | None = None,
    verify: bool = True,
) -> Exported:
    """Write a model for another program, with a model card.

    Args:
        model: a run, a folder or ``owner/name[@revision]`` on the Hugging Face Hub.
        format: one of the files in ``exports``.
        out: the folder to make; an earlier export there is replaced.
        precision: of the weights; None: the format's usual one.
        attention: which way a hybrid reads; None: from left to right.
        verify: compare the model's files with their hashes.
    Returns:
        How far what the other program says is from what the model says, by head, and which texts it cuts otherwise.
    Raises:
        UserError: there is no such format, it cannot hold the model, a library is missing, or a model of a run is where the
            export shall be.
        DifferentError: the two programs do not say the same; nothing is kept.
    """
    form = format_of(format)
    loaded = load(model, attention=attention, verify=verify)
    _refuse_place(Path(out), loaded.folder)

    def describe(into: Path, exported: Exported) -> None:
        write_export_card(
            into,
            loaded=loaded,
            format=format,
            library=form.LIBRARY,
            usage=form.usage(loaded),
            comparison=list(comparison(exported)),
        )

    return export_model(loaded, format, Path(out), precision=precision, describe=describe)


def _refuse_place(out: Path, model: Path) -> None:
    """Refuse to replace the model itself, or any model of a run: they look like earlier exports.

    Raises:
        UserError: that is what is there.
    """
    place, model = out.resolve(), model.resolve()
    if place == model or place in model.parents:
        raise UserError(f"{str(out)!r} holds the model that is to be exported; choose another folder")
    in_run = (place.parent / "experiment.json").exists() and place.name.startswith(("best", "last", "checkpoints"))
    if place.exists() and (in_run or place.parent.name == "checkpoints"):
        raise UserError(f"{str(out)!r} is part of a run, and is not replaced; choose another folder")


def comparison(exported: Exported) -> Iterator[str]:
    """Yield how an export was compared with its model, as paragraphs of Markdown."""
    yield (
        f"Weights are stored as {exported.precision}. When it was exported, it and bothways were asked about the same "
        f"{exported.sequences} sequences of tokens. A largest difference of {exported.tolerance:g} standard deviations of what "
        "the model says was borne."
    )
    lines = ["head", "largest difference", "standard deviation", "ratio"], ["---"] * 4
    rows = [
        [each.head, *(f"{value:.3g}" for value in (each.largest, each.spread, each.relative))]
        for each in exported.differences
    ]
    yield "\n".join("| " + " | ".join(line) + " |" for line in (*lines, *rows))
    if exported.left_out:
        yield f"Heads of the model with which it does not answer: {', '.join(exported.left_out)}."
    if exported.texts:
        yield f"Of {exported.texts} texts, it cuts {exported.texts - len(exported.otherwise)} into the same tokens." + (
            " The others have characters or words that are out of the ordinary." if exported.otherwise else ""
        )

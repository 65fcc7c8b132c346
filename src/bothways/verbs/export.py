"""``bothways export``: a model in the format of another program, and the proof that both say the same."""

from pathlib import Path

from bothways.checkpoints.checkpoint import load
from bothways.exports.export import Difference, export_model


def export(
    model: str | Path,
    *,
    format: str = "hf",  # noqa: A002
    out: str | Path,
    precision: str | None = None,
    verify: bool = True,
) -> list[Difference]:
    """Write a model for another program.

    Args:
        model: a run, a folder or ``owner/name[@revision]`` on the Hugging Face Hub.
        format: one of the files in ``exports``.
        out: the folder to make; an earlier export there is replaced.
        precision: of the weights; None: the format's usual one.
        verify: compare the model's files with their hashes.
    Returns:
        How far what the other program says is from what the model says, by head.
    Raises:
        UserError: there is no such format, it cannot hold the model, or a library is missing.
        DifferentError: the two programs do not say the same; nothing is kept.
    """
    loaded = load(model, verify=verify)
    return export_model(loaded, format, Path(out), precision=precision)

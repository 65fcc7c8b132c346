"""``bothways convert-pickle``: weights that torch.save wrote, as safetensors, without trusting the file."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bothways.checkpoints.checkpoint import CONFIG, Loaded, load_checkpoint
from bothways.checkpoints.pickles import Unpickled, convert
from bothways.errors import BothwaysError
from bothways.verbs.folders import check_free


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The model that the new folder holds.

    Attributes:
        family: as ``config.json`` names it.
        parameters: how many numbers it learns.
        heads: names of its heads.
        ignored: stored tensors that are no weights, such as numbered positions or a mask.
    """

    family: str
    parameters: int
    heads: tuple[str, ...]
    ignored: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What came of a conversion.

    Attributes:
        out: the new folder.
        found: what the files hold.
        opened: the model, if bothways can open it.
        refused: why not, if it cannot.
    """

    out: Path
    found: Unpickled
    opened: Opened | None
    refused: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        found = {**asdict(self.found), "files": [str(file) for file in self.found.files]}
        opened = asdict(self.opened) if self.opened else None
        return {"out": str(self.out), **found, "opened": opened, "refused": self.refused}

    def sentences(self) -> Iterator[str]:
        """Yield what a person is told."""
        found = self.found
        yield f"{self.out}: {found.tensors:,} tensors of {', '.join(file.name for file in found.files)}"
        told = {
            "Taken from below, or without": found.unwrapped,
            "Left out, since they are no tensors": found.left_out,
            "Copied": found.copied,
            "Not copied, since they are links, too large or no files": found.not_copied,
        }
        for what, names in told.items():
            if names:
                more = f" and {len(names) - 20:,} more" if len(names) > 20 else ""
                yield f"{what}: {', '.join(names[:20])}{more}"
        if self.opened:
            heads = ", ".join(self.opened.heads) or "none"
            yield f"It opens: {self.opened.family}, {self.opened.parameters:,} parameters, heads: {heads}"
            if names := self.opened.ignored:
                yield f"Ignored, since they are no weights: {len(names):,} tensors such as {names[0]}"
        else:
            yield f"bothways cannot open it: {self.refused}"


def convert_pickle(file: str | Path, *, out: str | Path) -> Converted:
    """Turn weights that torch.save wrote into a folder of safetensors.

    The file is opened in a process of its own, which takes tensors and nothing else from it and runs nothing. What
    ``config.json`` and a tokenizer are beside it is copied, and the new folder is opened to see whether it is a model.

    Args:
        file: ``pytorch_model.bin`` or another file of torch.save (.pt, .pth, .ckpt), or the folder of one, or of several
            with their index.
        out: the folder to make.
    Raises:
        UserError: there is no such file, or ``out`` is there already.
        DamagedFileError: the file holds something else than tensors by name, or is damaged. Nothing is written.
    """
    out = Path(out)
    check_free(out)
    found = convert(Path(file), out)
    opened, refused = None, None
    if CONFIG in found.copied:
        try:
            opened = _opened(load_checkpoint(out))
        except BothwaysError as error:
            refused = str(error)
    else:
        refused = f"there was no {CONFIG} beside the weights; copy it into {str(out)!r}, and remove manifest.json there"
    return Converted(out=out, found=found, opened=opened, refused=refused)


def _opened(loaded: Loaded) -> Opened:
    return Opened(
        family=str(loaded.config["model_type"]),
        parameters=loaded.model.num_parameters(),
        heads=tuple(loaded.model.heads),
        ignored=(*loaded.ignored, *loaded.unused),
    )

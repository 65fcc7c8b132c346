"""From what a user calls a model to the folder that holds it: a run, a folder, or a name on the Hugging Face Hub."""

import re
from difflib import get_close_matches
from pathlib import Path

from bothways.checkpoints.folders import newest_complete
from bothways.checkpoints.tensors import weight_files
from bothways.errors import UserError
from bothways.progress import note

_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
_WANTED = ["*.safetensors", "*.json", "*.txt"]  # no code, no pickle


def resolve(name_or_folder: str | Path, revision: str | None = None) -> Path:
    """Return the folder of a model.

    Args:
        name_or_folder: a run (its ``best``, else ``last``, else its newest complete checkpoint), a folder with
            ``config.json``, a ``.gguf`` file, or the name of a model on the Hugging Face Hub, which is downloaded unless
            it is cached.
        revision: branch, tag or commit; on the Hub only.
    Raises:
        UserError: there is no such model, or it cannot be had; the message says what to do.
    """
    folder = Path(name_or_folder).expanduser()
    if folder.exists():
        if revision is not None:
            raise UserError(f"{str(folder)!r} is a local folder, which has no revision {revision!r}")
        return _in_folder(folder)
    if isinstance(name_or_folder, Path) or not _HUB_ID.fullmatch(name_or_folder):
        raise UserError(f"there is no folder {str(name_or_folder)!r}")
    return _from_hub(name_or_folder, revision)


def _in_folder(folder: Path) -> Path:
    if not folder.is_dir():
        if folder.suffix == ".gguf":
            return folder
        raise UserError(f"{str(folder)!r} is a file; a model is a folder with config.json and model.safetensors")
    for name in ("best", "last"):
        if (folder / name / "config.json").is_file():
            return folder / name
    if (folder / "checkpoints").is_dir():
        newest = newest_complete(folder)
        if newest is None:
            raise UserError(f"the run {str(folder)!r} has no complete checkpoint")
        return newest
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{str(folder)!r} is no model: it has neither config.json nor, as a run has, best/, last/ or checkpoints/"
        )
    return folder


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import errors, snapshot_download

    note(f"looking for {name} on the Hugging Face Hub")
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=_WANTED, ignore_patterns=["*/*"]))
    except errors.RevisionNotFoundError:
        raise UserError(f"{name!r} on the Hugging Face Hub has no revision {revision!r}") from None
    except errors.GatedRepoError:
        raise UserError(
            f"{name!r} asks for consent on the Hugging Face Hub; give it there, then `hf auth login`"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"there is no folder {name!r}, and no public model of that name on the Hugging Face Hub"
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        raise UserError(
            f"there is no folder {name!r}, the Hugging Face Hub cannot be reached, and its cache on this machine does "
            f"not hold that model{_cached_like(name)}"
        ) from None
    except Exception as error:  # of the network, the disk or the name: the libraries below raise many kinds
        raise UserError(f"there is no folder {name!r}, and the Hugging Face Hub did not give it: {error}") from None
    weight_files(folder)
    return folder


def _cached_like(name: str) -> str:
    """Return a hint at cached models, the nearest name first."""
    from huggingface_hub import constants

    cached = [
        folder.name.split("--", 1)[1].replace("--", "/") for folder in Path(constants.HF_HUB_CACHE).glob("models--*")
    ]
    near = get_close_matches(name, cached, n=3, cutoff=0.3) or sorted(cached)[:3]
    return f"; cached: {', '.join(near)}" if near else ""

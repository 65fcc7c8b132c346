"""From what a user calls a model to the folder that holds it: a run, a folder, or a name on the Hugging Face Hub."""

import re
from difflib import get_close_matches
from pathlib import Path

from bothways.checkpoints.downloading import fetch
from bothways.checkpoints.folders import newest_complete
from bothways.checkpoints.refusals import FAILING, FULL, endpoint, in_one_line, is_of_network, status
from bothways.checkpoints.tensors import weight_files
from bothways.errors import BothwaysError, OutOfDiskError, UserError
from bothways.progress import note
from bothways.text.tokenizing.files import is_tokenizer

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)?"
_ON_THE_HUB = re.compile(
    rf"(?P<name>{NAME})(?::(?P<file>[A-Za-z0-9_][A-Za-z0-9._-]*\.gguf))?(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/-]*))?"
)


def resolve(name_or_folder: str | Path, revision: str | None = None, *, weights: bool = True) -> Path:
    """Return the folder of a model.

    Args:
        name_or_folder: a run (its ``best``, else ``last``, else its newest complete checkpoint), a folder with
            ``config.json``, a ``.gguf`` file, or the name of a model on the Hugging Face Hub, which is downloaded unless
            it is cached: ``owner/name``, ``owner/name@revision``, ``owner/name:file.gguf``.
        revision: branch, tag or commit; on the Hub only.
        weights: whether they are needed; without them only the small files of a model on the Hub are downloaded.
    Raises:
        UserError: there is no such model, or it cannot be had; the message says what to do.
        DamagedFileError: what the Hub sent is not what it says it is.
        OutOfDiskError: the disk has no room for what is downloaded.
    """
    folder = Path(name_or_folder).expanduser()
    named = None if isinstance(name_or_folder, Path) else _ON_THE_HUB.fullmatch(name_or_folder)
    if named and named["revision"] and not folder.exists():
        if revision not in (None, named["revision"]):
            raise UserError(f"{name_or_folder!r} and revision {revision!r} name two revisions; give one")
        revision = named["revision"]
        folder = Path(named["name"]).expanduser()
    if folder.exists():
        if revision is not None:
            raise UserError(f"{str(folder)!r} is a local folder, which has no revision {revision!r}")
        return _in_folder(folder)
    if named is None or ".." in (revision or ""):
        raise UserError(f"there is no folder {str(name_or_folder)!r}")
    return _from_hub(named["name"], revision, weights=weights, file=named["file"])


def tokenizer_place(name_or_path: str | Path, revision: str | None = None) -> Path:
    """Return where a tokenizer lies: the file or folder of one, a corpus, a run, or a model that has one.

    Args:
        name_or_path: of it.
        revision: branch, tag or commit; on the Hub only.
    Raises:
        UserError: it is a name, and there is no such model.
    """
    path = Path(name_or_path).expanduser()
    return path if revision is None and is_tokenizer(path) else resolve(name_or_path, revision, weights=False)


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


def _from_hub(name: str, revision: str | None, *, weights: bool, file: str | None) -> Path:
    note(f"looking for {name} on {endpoint()}")
    try:
        folder = fetch(name, revision, weights=weights, file=file)
    except BothwaysError:
        raise
    except Exception as error:  # of the network, the disk or the name: the libraries below raise many kinds
        raise _explain(error, name, revision) from None
    if weights and not file:
        weight_files(folder)
    return folder


def _explain(error: Exception, name: str, revision: str | None) -> BothwaysError:
    """Return the sentence for what kept a model from being loaded, with its remedy."""
    from huggingface_hub import errors

    nothing = f"there is no folder {name!r}"
    match error:
        case errors.RevisionNotFoundError():
            return UserError(f"{name!r} on {endpoint()} has no revision {revision!r}{_revisions(name)}")
        case errors.GatedRepoError():
            return UserError(
                f"{name!r} asks for consent on {endpoint()}; give it there, then `hf auth login` or set HF_TOKEN"
            )
        case errors.RepositoryNotFoundError():
            return UserError(
                f"{nothing}, and no model of that name on {endpoint()} that you may see; for a private one, "
                "`hf auth login` or set HF_TOKEN"
            )
        case OSError(errno=number) if number in (*FULL, *FAILING):
            return OutOfDiskError(
                f"the disk cannot take {name!r} ({error.strerror}); make room, or set HF_HOME to a folder that has it. "
                "What came so far is kept"
            )
        case errors.HfHubHTTPError() if error.response.status_code == 401:
            return UserError(
                f"{endpoint()} does not accept your token; `hf auth login`, or set HF_TOKEN to a valid one"
            )
        case errors.LocalEntryNotFoundError() | errors.HfHubHTTPError():
            return UserError(f"{nothing}, {_why_not(error)}{_cached_like(name)}")
        case _ if is_of_network(error):
            return UserError(f"{nothing}, {_why_not(error)}{_cached_like(name)}")
    return UserError(f"{nothing}, and {endpoint()} did not give it: {in_one_line(error)}")


def _why_not(error: Exception) -> str:
    """Return why the Hub gave nothing, and that the cache holds too little to do without it."""
    from huggingface_hub import constants, errors

    cached = "its cache on this machine does not hold that model"
    if type(error) is not errors.LocalEntryNotFoundError:
        cached = "its cache on this machine holds only a part of that model, which is kept"
    answer = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) else error
    if isinstance(answer, errors.HfHubHTTPError):
        return f"{endpoint()} {status(answer)}, and {cached}"
    offline = " (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else ""
    return f"{endpoint()} cannot be reached{offline}, and {cached}"


def _revisions(name: str) -> str:
    """Return the branches and tags that there are, as far as the Hub says."""
    from huggingface_hub import HfApi

    try:
        refs = HfApi().list_repo_refs(name)
    except Exception:  # it is a hint to a mistake that is known already
        return ""
    return f"; it has {', '.join(each.name for each in (*refs.branches, *refs.tags))}"


def _cached_like(name: str) -> str:
    """Return a hint at cached models, the nearest name first."""
    from huggingface_hub import constants

    cached = [
        folder.name.split("--", 1)[1].replace("--", "/") for folder in Path(constants.HF_HUB_CACHE).glob("models--*")
    ]
    near = get_close_matches(name, cached, n=3, cutoff=0.3) or sorted(cached)[:3]
    return f"; cached: {', '.join(near)}" if near else ""

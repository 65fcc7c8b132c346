"""From a folder of ours to a model on the Hugging Face Hub: what others load, and nothing of what training left."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bothways.checkpoints.downloading import SETTINGS, TOKENIZER, quiet_library
from bothways.checkpoints.folders import USED
from bothways.checkpoints.hub import NAME, resolve
from bothways.checkpoints.manifest import MANIFEST, listed, verify_manifest
from bothways.checkpoints.refusals import endpoint, in_one_line, is_of_network, status
from bothways.checkpoints.tensors import INDEX, WEIGHTS, weight_files
from bothways.errors import BothwaysError, UserError
from bothways.progress import bar, note

CARD = ("README.md", "loss.svg")  # the model card, and the picture that it shows
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")


def push(
    folder: str | Path,
    name: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    message: str = "Upload a model of bothways",
) -> str:
    """Publish a model on the Hugging Face Hub, in one commit, which also removes what an earlier model left there.

    Args:
        folder: a run (see ``resolve``; its model card goes along) or the folder of a model.
        name: ``owner/name``; the repository is made if there is none.
        private: whether a repository that is made can be seen by its owner alone; None: as the owner's account has it.
        revision: branch, which is made if there is none; None: the main branch.
        message: of the commit.
    Returns:
        The address of the commit.
    Raises:
        UserError: there is no such model, it cannot be published, or the Hub refuses; the message says what to do.
        DamagedFileError: a file of the model is damaged.
    """
    folder = Path(folder).expanduser()
    place = resolve(folder)
    if "/" not in name or not re.fullmatch(NAME, name):
        raise UserError(f"{name!r} is no name for a model on the Hugging Face Hub; it has the form owner/name")
    files = _files(place, card=place if folder.samefile(place) else folder)
    note(f"{place} goes to {name} on {endpoint()}: {', '.join(sorted(files))}")
    try:
        with quiet_library():
            return _upload(files, name, private=private, revision=revision, message=message)
    except BothwaysError:
        raise
    except Exception as error:  # of the network or of the Hub: the libraries below raise many kinds
        cause = error.__cause__ if isinstance(error, RuntimeError) else None  # of a file that could not be sent
        raise UserError(_explain(cause if isinstance(cause, Exception) else error, name, revision)) from None


def _files(place: Path, *, card: Path) -> dict[str, Path]:
    """Return name on the Hub to file, of all that is published."""
    if not place.is_dir():
        raise UserError(f"{str(place)!r} is a file; what is published is a folder with config.json and {WEIGHTS}")
    weights = weight_files(place)
    names = [*SETTINGS, *TOKENIZER, *([] if weights[0].name == WEIGHTS else [INDEX])]
    files = {file.name: file for file in weights}
    files |= {name: place / name for name in names if (place / name).is_file()}
    if (place / MANIFEST).is_file():
        verify_manifest(place, USED)
        if set(listed(place)) <= set(files):  # a checkpoint's lists its training state, too, and would not fit
            files[MANIFEST] = place / MANIFEST
    cards = [(where, name) for name in CARD for where in (place, card) if (where / name).is_file()]
    return {**files, **{name: where / name for where, name in reversed(cards)}}


def _upload(files: Mapping[str, Path], name: str, *, private: bool | None, revision: str | None, message: str) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    hub = HfApi()
    hub.create_repo(name, private=private, exist_ok=True)
    if private and not hub.repo_info(name).private:
        raise UserError(
            f"{name!r} is there already, and everybody can see it; make it private on {endpoint()}, or choose another name"
        )
    if revision is not None:
        hub.create_branch(name, branch=revision, exist_ok=True)
    stale = [
        each for each in hub.list_repo_files(name, revision=revision) if _is_of_a_model(each) and each not in files
    ]
    changes: Sequence[Any] = [
        *(CommitOperationAdd(path_in_repo=each, path_or_fileobj=file) for each, file in files.items()),
        *(CommitOperationDelete(path_in_repo=each) for each in stale),
    ]
    with bar(f"Uploading {name} ({sum(file.stat().st_size for file in files.values()):,} bytes)"):
        return str(hub.create_commit(name, changes, commit_message=message, revision=revision).commit_url)


def _is_of_a_model(name: str) -> bool:
    """Whether a file of the repository would be read together with those that replace it."""
    return name in (*SETTINGS, *TOKENIZER, WEIGHTS, INDEX, MANIFEST) or _SHARD.fullmatch(name) is not None


def _explain(error: Exception, name: str, revision: str | None) -> str:
    """Return the sentence for what kept a model from being published, with its remedy."""
    from huggingface_hub import errors, get_token

    log_in = "`hf auth login`, or set HF_TOKEN to a token that may write (https://huggingface.co/settings/tokens)"
    code = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    match error:
        case _ if get_token() is None and code in (401, 403, 404):
            return f"{name!r} was not published, since {endpoint()} does not know you: {log_in}"
        case errors.RevisionNotFoundError():
            return f"{name!r} on {endpoint()} has no branch {revision!r}, and none of that name can be made"
        case _ if code == 401:
            return f"{name!r} was not published, since {endpoint()} does not accept your token: {log_in}"
        case _ if code in (403, 404):
            return (
                f"{name!r} was not published, since your token may not write there: name an owner of yours, or {log_in}"
            )
        case _ if code:
            return f"{name!r} was not published: {endpoint()} {status(error)}"
        case _ if is_of_network(error):
            return f"{name!r} was not published: {endpoint()} cannot be reached; the same call tries it again"
    return f"{name!r} was not published: {in_one_line(error)}"

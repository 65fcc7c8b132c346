"""From a name on the Hugging Face Hub to the folder in its cache that holds what a model needs, and nothing else.

Settings and tokenizers come through ``huggingface_hub``. Weights come by plain HTTP into the same cache: a download that
broke off goes on where it stopped, also in another process, and what came is compared with the hash that the Hub names,
once. Source: ``huggingface_hub``'s guide "Understand caching" for the folders ``blobs``, ``snapshots`` and ``.locks``.
"""

import hashlib
import logging
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bothways.checkpoints.files import is_plain_name
from bothways.checkpoints.manifest import MANIFEST, listed
from bothways.checkpoints.refusals import FAILING, FULL, endpoint
from bothways.checkpoints.tensors import INDEX, PICKLES, WEIGHTS, shard_names
from bothways.errors import DamagedFileError, UserError
from bothways.progress import Bar, bar, note

TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)
SETTINGS = ("config.json", "config.bidirectional.json", "generation_config.json")
NO_WEIGHTS = ("training_args", "optimizer", "scheduler", "scaler", "rng_state")  # pickles that training leaves
TRIES = 5  # that bring nothing, one after the other
SECONDS_TO_WAIT = 0.5  # after a break; twice as long after each try that brought nothing
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One commit of a model on the Hub, as far as it is in the cache.

    Attributes:
        name: of the model.
        folder: ``snapshots/COMMIT`` in the cache.
    """

    name: str
    folder: Path

    @property
    def commit(self) -> str:
        """The hash of the commit."""
        return self.folder.name

    @property
    def repository(self) -> Path:
        """The folder of the model in the cache."""
        return self.folder.parents[1]


def fetch(name: str, revision: str | None, *, weights: bool = True, file: str | None = None) -> Path:
    """Return the folder of a model of the Hub, or one GGUF file of it; what is cached already is not asked for again.

    A commit that is cached costs no request, and a branch or tag one, by which it is found out whether it has moved.

    Args:
        name: of the model.
        revision: branch, tag or commit; None: the main branch.
        weights: without them the settings and the tokenizer come alone.
        file: a ``.gguf`` file, which is then what is returned.
    Raises:
        UserError: the repository has no weights that can be read.
        DamagedFileError: what came is not what the Hub says it is; it is deleted.
        OSError: the Hub refuses or cannot be reached, in one of the many kinds of ``huggingface_hub``; or the disk does.
    """
    from huggingface_hub import snapshot_download

    with quiet_library():
        small = [*SETTINGS, *TOKENIZER, INDEX, MANIFEST]
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=small))
        snapshot = Snapshot(name=name, folder=folder)
        if file:
            _bring(snapshot, [file])
            return folder / file
        if weights:
            _bring(snapshot, _weights(folder))
            _bring(snapshot, filter(is_plain_name, listed(folder)), needed=False)  # or the manifest would not hold
        return folder


@contextmanager
def quiet_library() -> Iterator[None]:
    """Keep bars and warnings of ``huggingface_hub`` off the screen: what there is to say is said by us."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )
    from huggingface_hub.utils import (
        logging as library_log,
    )

    bars, verbosity = not are_progress_bars_disabled(), library_log.get_verbosity()
    library_log.set_verbosity(logging.ERROR)
    if bars:
        disable_progress_bars()
    try:
        yield
    finally:
        library_log.set_verbosity(verbosity)
        if bars:
            enable_progress_bars()


def _weights(folder: Path) -> list[str]:
    """Return the names of the files that hold the weights."""
    shards = not (folder / WEIGHTS).is_file() and (folder / INDEX).is_file()
    return shard_names(folder) if shards else [WEIGHTS]


def _bring(snapshot: Snapshot, names: Iterable[str], *, needed: bool = True) -> None:
    """Download what is not there yet of some files.

    Raises:
        UserError: one that is needed is not there.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    sources = {}
    for name in names:
        try:
            if not (snapshot.folder / name).exists():
                sources[name] = _locate(snapshot, name)
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            if needed:
                raise UserError(_what_there_is(snapshot, name)) from None
    if not sources:
        return
    total = sum(source.size for source in sources.values() if source)
    with bar(f"Downloading {snapshot.name} (bytes)", total=total or None) as shown:
        for name, source in sources.items():
            if source:
                _download(snapshot, source, shown)
            hf_hub_download(snapshot.name, name, revision=snapshot.commit)  # from the blob, where there is one


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Where a file is on the Hub.

    Attributes:
        name: of the file.
        url: of the file.
        size: in bytes.
        sha256: of the file.
    """

    name: str
    url: str
    size: int
    sha256: str


def _locate(snapshot: Snapshot, name: str) -> _Source | None:
    """Ask where a file is; None: the Hub names no SHA-256 of it, as of small files, so that the library fetches it."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(snapshot.name, name, revision=snapshot.commit)
    found = get_hf_file_metadata(url)
    if not found.etag or found.size is None or not _SHA256.fullmatch(found.etag):
        return None
    return _Source(name=name, url=url, size=found.size, sha256=found.etag)


def _what_there_is(snapshot: Snapshot, name: str) -> str:
    """Return the sentence for a file that a repository does not have, by what it has instead."""
    from huggingface_hub import HfApi

    listing = HfApi().list_repo_files(snapshot.name, revision=snapshot.commit)
    files = sorted(file for file in listing if "/" not in file)
    lacks = f"{snapshot.name!r} on {endpoint()} has no {name}"
    if name == WEIGHTS:
        if ggufs := [file for file in files if file.endswith(".gguf")]:
            return f"{lacks}, but {', '.join(ggufs)}; name one, as in {snapshot.name}:{ggufs[0]}"
        if pickles := [file for file in files if file.endswith(PICKLES) and not file.startswith(NO_WEIGHTS)]:
            return f"{lacks}, only {', '.join(pickles)}: {_by_way_of_pickles(snapshot, pickles)}"
    return f"{lacks}; it has {', '.join(files) or 'no files'}"


def _by_way_of_pickles(snapshot: Snapshot, pickles: Sequence[str]) -> str:
    kind = "a pickle, which may run code when it is opened" if len(pickles) == 1 else "pickles, which may run code"
    place = "FOLDER" if any(name.startswith("pytorch_model") for name in pickles) else f"FOLDER/{pickles[0]}"
    patterns = " ".join(f'--include "{pattern}"' for pattern in ("*.json", "*.txt", *pickles))
    return (
        f"{kind}. `hf download {snapshot.name} --revision {snapshot.commit} {patterns} --local-dir FOLDER` fetches what "
        f"is needed, and `bothways convert-pickle {place} --out MODEL` converts it in a process of its own"
    )


def _download(snapshot: Snapshot, source: _Source, shown: Bar) -> None:
    """Download a file into the cache's ``blobs``, from where an earlier download of it stopped.

    Raises:
        DamagedFileError: its bytes are not those that the Hub names; they are deleted.
    """
    from huggingface_hub.utils import WeakFileLock

    blob = snapshot.repository / "blobs" / source.sha256
    partial = blob.with_name(f"{blob.name}.incomplete")
    lock = snapshot.repository.parent / ".locks" / snapshot.repository.name / f"{blob.name}.lock"  # the library's, too
    for folder in (blob.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if blob.exists():
            shown.advance(source.size)
            return
        with partial.open("ab") as file:
            if file.tell() > source.size:
                _empty(file)
            shown.advance(file.tell())
            _fill(file, source, shown)
        _check(partial, source, snapshot)
        partial.replace(blob)


def _fill(file: BinaryIO, source: _Source, shown: Bar) -> None:
    """Append what is missing, and try again when the connection breaks off.

    Raises:
        OSError: of ``huggingface_hub``: nothing more came, time and again, or the disk refuses.
    """
    failed = 0
    while (have := file.tell()) < source.size:
        problem: Exception = DamagedFileError(
            f"the server has only {have:,} of the {source.size:,} bytes of {source.name}"
        )
        try:
            _append(file, source, shown)
        except Exception as error:  # the library below has many kinds
            if not _may_pass(error):
                raise
            problem = error
        failed = 0 if file.tell() > have else failed + 1
        if failed == TRIES:
            raise problem
        if file.tell() < source.size:
            note(
                f"the download of {source.name} broke off at {file.tell():,} of {source.size:,} bytes and goes on there"
            )
            time.sleep(SECONDS_TO_WAIT * 2**failed)


def _append(file: BinaryIO, source: _Source, shown: Bar) -> None:
    """Ask for what is missing, and write what comes at once, so that a break loses nothing."""
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    have = file.tell()
    headers = {
        **build_hf_headers(),
        "Accept-Encoding": "identity",
    }  # the token goes to no other server that we are led to
    if have:
        headers["Range"] = f"bytes={have}-"
    with get_session().stream("GET", source.url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as answer:
        if have and answer.status_code in (
            200,
            416,
        ):  # it cannot go on in the middle, or what we have is something else
            _empty(file)
            shown.advance(-have)
        hf_raise_for_status(answer)
        for chunk in answer.iter_bytes():
            file.write(chunk)
            file.flush()  # so that nothing is lost when the process is killed
            shown.advance(len(chunk))


def _empty(file: BinaryIO) -> None:
    file.truncate(0)
    file.seek(0)


def _may_pass(error: Exception) -> bool:
    """Whether it is the network's error, or the server's, so that it is worth while to try again."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (416, 429) or error.response.status_code >= 500
    here = isinstance(error, OSError) and error.errno in (*FULL, *FAILING)
    return not here and not isinstance(error, OfflineModeIsEnabled)


def _check(partial: Path, source: _Source, snapshot: Snapshot) -> None:
    with partial.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != source.sha256:
        partial.unlink()
        raise DamagedFileError(
            f"{source.name} of {snapshot.name!r} did not come as the Hugging Face Hub says it is (SHA-256 "
            f"{source.sha256}, not {found}), and was deleted; try again, or another server by HF_ENDPOINT"
        )

"""Old files of weights, which are pickles, turned into a folder of safetensors by a process of their own.

``unpickling.py`` is that process, and the only one that ever opens such a file.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bothways.checkpoints.files import JSON_LIMIT, is_plain_name, is_regular, read_object
from bothways.checkpoints.folders import write_folder
from bothways.checkpoints.tensors import INDEX, PICKLE, PICKLE_INDEX, WEIGHTS, StoredTensors
from bothways.errors import DamagedFileError, OutOfDiskError, UserError, shown

# What may be copied from beside a pickle: settings and vocabularies, no code and no template; bytes that each may have.
BESIDE = {
    **dict.fromkeys(("config.json", "generation_config.json"), JSON_LIMIT),
    **dict.fromkeys(("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"), JSON_LIMIT),
    **dict.fromkeys(("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt"), 64 * 2**20),
}
PROGRAM = Path(__file__).with_name("unpickling.py")
# Isolated, Python does not look where a user alone has installed torch: the place where it is comes last.
_START = "import runpy, sys; sys.path.append(sys.argv.pop(1)); runpy.run_path(sys.argv.pop(1), run_name='__main__')"
_PATIENCE = 120  # seconds that any file may take
_SPEED = 5 * 2**20  # bytes of it a second, at the least
_MOST_SAID = 64 * 2**20  # bytes that the process may say: names that were left out
_WAYS = {error.exit_code: error for error in (UserError, DamagedFileError, OutOfDiskError)}


@dataclass(frozen=True, kw_only=True)
class Unpickled:
    """What came out of the files.

    Attributes:
        files: that were converted.
        tensors: how many they hold.
        unwrapped: keys and prefixes that were around the names of tensors, and are gone.
        left_out: names of what is no tensor.
        copied: files from beside them.
        not_copied: files from beside them that are no regular ones, or too large.
    """

    files: tuple[Path, ...]
    tensors: int
    unwrapped: tuple[str, ...]
    left_out: tuple[str, ...]
    copied: tuple[str, ...]
    not_copied: tuple[str, ...]


def convert(source: Path, target: Path) -> Unpickled:
    """Write a folder with the tensors of a pickle, or of a folder of pickles, and with what lies beside them.

    Raises:
        UserError: there is no such file, the folder cannot be written, or there is not enough memory.
        DamagedFileError: a file holds something else than tensors by name, or is damaged. Nothing is written.
        OutOfDiskError: there is no room.
    """
    files = pickles_of(source)
    beside = {name: files[0].parent / name for name in BESIDE if os.path.lexists(files[0].parent / name)}
    copied = [name for name, file in beside.items() if is_regular(file) and file.stat().st_size <= BESIDE[name]]
    said: list[Mapping[str, Any]] = []

    def write(into: Path) -> None:
        several = len(files) > 1
        names = [
            f"model-{n:05}-of-{len(files):05}.safetensors" if several else WEIGHTS for n in range(1, len(files) + 1)
        ]
        said.extend(_unpickle(file, into / name) for file, name in zip(files, names, strict=True))
        if several:
            taken_off = any(each["unwrapped"] for each in said)
            _write_index(into, names, None if taken_off else read_object(source / PICKLE_INDEX)["weight_map"])
        for name in copied:
            (into / name).write_bytes(beside[name].read_bytes())

    write_folder(target, write)
    return Unpickled(
        files=tuple(files),
        tensors=sum(each["tensors"] for each in said),
        unwrapped=tuple(dict.fromkeys(step for each in said for step in each["unwrapped"])),
        left_out=tuple(dict.fromkeys(name for each in said for name in each["left_out"])),
        copied=tuple(copied),
        not_copied=tuple(name for name in beside if name not in copied),
    )


def pickles_of(source: Path) -> list[Path]:
    """Return the files that belong to what a user named.

    Raises:
        UserError: there is nothing, or the file is one part of several.
        DamagedFileError: the index of a folder makes no sense, or names a file that is not there.
    """
    if source.is_dir():
        if is_regular(source / PICKLE):
            return [source / PICKLE]
        if is_regular(source / PICKLE_INDEX):
            return [source / name for name in _parts(source / PICKLE_INDEX)]
        raise UserError(
            f"{str(source)!r} has neither {PICKLE} nor {PICKLE_INDEX}; name the file that holds the weights"
        )
    if not source.exists():
        raise UserError(f"there is no file {str(source)!r}")
    if not source.is_file():
        raise UserError(f"{str(source)!r} is no file")
    if source.suffix in (".safetensors", ".gguf", ".json"):
        raise UserError(f"{str(source)!r} is no pickle; name a file that torch.save wrote, such as {PICKLE}")
    index = source.with_name(PICKLE_INDEX)
    if is_regular(index) and source.name in (parts := _parts(index)):
        raise UserError(
            f"{str(source)!r} is one of {len(parts)} files of a model; name their folder {str(source.parent)!r}"
        )
    return [source]


def _parts(index: Path) -> list[str]:
    names = read_object(index).get("weight_map")
    if not isinstance(names, Mapping) or not names or not all(map(is_plain_name, names.values())):
        raise DamagedFileError(f"{str(index)!r} must have a weight_map from tensors to names of files beside it")
    parts = sorted(set(names.values()))
    for name in parts:
        if not is_regular(index.parent / name):
            raise DamagedFileError(f"there is no {str(index.parent / name)!r}, which {index.name} names")
    return parts


def _write_index(folder: Path, names: Sequence[str], promised: Collection[str] | None) -> None:
    """Write which tensor is in which file.

    Raises:
        DamagedFileError: two files hold a tensor of the same name, or they hold others than were promised.
    """
    held = set(StoredTensors([folder / name for name in names]))
    if promised is not None and (odd := sorted(held ^ set(promised))):
        raise DamagedFileError(f"{PICKLE_INDEX} and the files that it names disagree on the tensor {shown(odd[0])!r}")
    shards = {tensor: name for name in names for tensor in StoredTensors([folder / name])}
    size = sum((folder / name).stat().st_size for name in names)
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(shards.items()))}
    (folder / INDEX).write_text(json.dumps(index, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _unpickle(file: Path, target: Path) -> dict[str, Any]:
    """Start the process that opens one file, and return what it says.

    Raises:
        UserError: there is not enough memory, torch is too old, or nobody may read the file.
        DamagedFileError: it holds something else than tensors by name, or is damaged.
        OutOfDiskError: there is no room.
    """
    target.touch()
    mode = target.stat().st_mode  # safetensors would let nobody else read the file, whatever the user's umask
    # Isolated: neither the folder where we are nor the environment names a place of modules.
    start = [sys.executable, "-I", "-c", _START, str(Path(torch.__file__).parents[1]), str(PROGRAM)]
    words = [*start, str(file.resolve()), str(target.resolve())]
    patience = _PATIENCE + file.stat().st_size / _SPEED
    with tempfile.TemporaryFile() as answer:
        try:
            code = subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=answer, stderr=subprocess.DEVNULL, timeout=patience, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            raise DamagedFileError(
                f"{str(file)!r} was given up after {patience:.0f} seconds: it takes too long"
            ) from None
        answer.seek(0)
        said = _heard(answer.read(_MOST_SAID))
    if code == 0 and is_regular(target) and _is_account(said):
        target.chmod(mode)
        return said
    if code == -signal.SIGKILL:
        raise UserError(f"{str(file)!r} needs more memory than there is, or its process was killed")
    if code in _WAYS and isinstance(said.get("error"), str):
        raise _WAYS[code](f"{str(file)!r} {said['error']}")
    raise DamagedFileError(f"{str(file)!r} cannot be opened: the process that tried ended with code {code}")


def _heard(answer: bytes) -> dict[str, Any]:
    """Return what the process says; one that a hostile file has taken over may say anything."""
    try:
        said = json.loads(answer)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _is_account(said: Mapping[str, Any]) -> bool:
    lists = [said.get(name) for name in ("unwrapped", "left_out")]
    texts = all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists)
    return texts and type(said.get("tensors")) is int

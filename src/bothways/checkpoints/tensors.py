"""Tensors in a folder: one safetensors file, or several with an index; nothing else is ever read."""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bothways.checkpoints.files import is_plain_name, read_object
from bothways.errors import DamagedFileError, UserError, shown

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLE = "pytorch_model.bin"
PICKLE_INDEX = "pytorch_model.bin.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_FLOATS = ("F64", "F32", "F16", "BF16")
_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class Stored(Protocol):
    """Tensors by name, whatever they are stored in."""

    def rename(self, new_name: Callable[[str], str]) -> None:
        """Know every tensor by another name from here on."""

    def __contains__(self, name: object) -> bool: ...

    def __iter__(self) -> Iterator[str]: ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""

    def read_weight(self, name: str) -> Tensor:
        """Return a weight in float32."""


class StoredTensors:
    """The tensors of one or more safetensors files by name; a tensor is read when it is asked for."""

    def __init__(self, files: list[Path]) -> None:
        """Open the files.

        Raises:
            DamagedFileError: a file is not valid, or two hold a tensor of the same name.
        """
        self._files: dict[str, Path] = {}
        self._handles: dict[Path, Any] = {}
        self._starts: dict[Path, dict[str, int]] = {}
        for file in files:
            self._handles[file] = _open(file)
            for name in self._handles[file].keys():  # noqa: SIM118 - no mapping, whatever it looks like
                if name in self._files:
                    raise DamagedFileError(
                        f"the tensor {shown(name)!r} is in {str(self._files[name])!r} and in {str(file)!r}"
                    )
                self._files[name] = file
        self._stored_as = {name: name for name in self._files}

    def rename(self, new_name: Callable[[str], str]) -> None:
        """Know every tensor by another name from here on.

        Raises:
            UserError: two tensors would have the same name.
        """
        renamed: dict[str, str] = {}
        for name, stored in self._stored_as.items():
            if new_name(name) in renamed:
                names = f"{shown(renamed[new_name(name)])!r} and {shown(stored)!r}"
                raise UserError(f"the tensors {names} are one and the same weight")
            renamed[new_name(name)] = stored
        self._stored_as = renamed

    def __contains__(self, name: object) -> bool:
        return name in self._stored_as

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored_as)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return tuple(self._slice(name).get_shape())

    def read(self, name: str) -> Tensor:
        """Return a tensor as it is stored, in memory of its own: what we hold must not change with the file, or vanish with it.

        Raises:
            DamagedFileError: the file has become shorter.
        """
        stored, found = self._stored_as[name], self._slice(name)
        file, kind = self._files[stored], found.get_dtype()
        if kind not in _TYPES:  # one that has no use here
            mapped: Tensor = self._handles[file].get_tensor(stored)
            return mapped.clone()
        tensor = torch.empty(found.get_shape(), dtype=_TYPES[kind])
        if tensor.numel():
            self._fill(tensor, file, stored)
        return tensor

    def _fill(self, tensor: Tensor, file: Path, stored: str) -> None:
        """Read a tensor straight into its place: pages of the mapped file would be held beside it."""
        if file not in self._starts:
            self._starts[file] = _starts(file)
        room: Any = memoryview(tensor.reshape(-1).view(torch.uint8).numpy().data)
        with file.open("rb") as opened:
            opened.seek(self._starts[file][stored])
            if opened.readinto(room) != len(room):
                raise DamagedFileError(f"{str(file)!r} ends within the tensor {stored!r}")

    def read_weight(self, name: str) -> Tensor:
        """Return a weight in float32, whatever floating type it is stored in.

        Raises:
            UserError: it is stored as whole numbers, or in a format that needs a scale beside it.
            DamagedFileError: it holds an infinite or undefined number.
        """
        kind = self._slice(name).get_dtype()
        if kind not in _FLOATS:
            raise UserError(f"the tensor {name!r} is stored as {kind}; a weight must be one of {', '.join(_FLOATS)}")
        weight = self.read(name).float()
        if weight.numel() and not torch.stack(weight.aminmax()).isfinite().all():  # without a copy, as isfinite makes
            file = self._files[self._stored_as[name]]
            raise DamagedFileError(f"the tensor {name!r} in {str(file)!r} holds infinite or undefined numbers")
        return weight

    def _slice(self, name: str) -> Any:
        stored = self._stored_as[name]
        return self._handles[self._files[stored]].get_slice(stored)


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold a model's weights.

    Raises:
        UserError: there are none, perhaps because the folder holds pickles.
        DamagedFileError: the index names a file that is not there.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        return _shards(folder)
    if pickles := sorted(file.name for file in folder.glob("*") if file.suffix in PICKLES):
        more = f" and {len(pickles) - 3} more" if len(pickles) > 3 else ""
        named = folder if any((folder / name).is_file() for name in (PICKLE, PICKLE_INDEX)) else folder / pickles[0]
        raise UserError(
            f"{str(folder)!r} has no {WEIGHTS}, only {', '.join(pickles[:3])}{more}: a pickle, which may run code when it is "
            f"opened. `bothways convert-pickle {shlex.quote(str(named))} --out FOLDER` converts it in a process of its own"
        )
    raise UserError(f"{str(folder)!r} has no {WEIGHTS}")


def shard_names(folder: Path) -> list[str]:
    """Return the names of the files that the index names.

    Raises:
        DamagedFileError: it makes no sense.
    """
    return sorted(set(_read_index(folder).values()))


def _read_index(folder: Path) -> Mapping[str, str]:
    """Return tensor to name of its file."""
    shards = read_object(folder / INDEX).get("weight_map")
    if not isinstance(shards, Mapping) or not shards or not all(map(is_plain_name, shards.values())):
        raise DamagedFileError(
            f"{str(folder / INDEX)!r} must have a weight_map from tensors to names of files beside it"
        )
    return shards


def _shards(folder: Path) -> list[Path]:
    shards = _read_index(folder)
    files = [folder / name for name in sorted(set(shards.values()))]
    for file in files:
        if not file.is_file():
            raise DamagedFileError(f"there is no {str(file)!r}, which {INDEX} names")
    held = set(StoredTensors(files))
    if held != set(shards):
        odd = sorted(held ^ set(shards))
        raise DamagedFileError(f"{INDEX} and the files in {str(folder)!r} disagree on the tensor {shown(odd[0])!r}")
    return files


def _starts(file: Path) -> dict[str, int]:
    """Return the position at which each tensor of a file begins; the library has checked the file when it was opened.

    Source: the format of safetensors: eight bytes with the length of a JSON object, the object, the tensors.
    """
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        values = json.loads(opened.read(length))
    return {name: 8 + length + value["data_offsets"][0] for name, value in values.items() if name != "__metadata__"}


def _open(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise DamagedFileError(f"{str(file)!r} is not a valid safetensors file: {error}") from None


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Return every tensor of a file, as it is stored.

    Raises:
        DamagedFileError: the file is not valid.
    """
    stored = StoredTensors([file])
    return {name: stored.read(name) for name in stored}


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, which may be on any device and of any layout."""
    file.touch()
    mode = file.stat().st_mode  # the library would let nobody else read the file, whatever the user's umask
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(plain, file, metadata={"format": "pt"})
    file.chmod(mode)

"""The only place that loads a pickle: a program of its own, which nothing imports and ``pickles.py`` starts.

It is given a file that ``torch.save`` wrote and writes the tensors of its state dict as safetensors. It runs in isolated
mode, knows nothing of the package, lets torch load weights only, and may start no process and open no connection. What it
has to say is one line of JSON on its standard output, also where it refuses (exit codes: 2 a user's mistake, 3 damage,
5 a full disk).
"""

import contextlib
import json
import os
import re
import sys
import warnings
import zipfile
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

OLDEST = (2, 10)  # torch that loads weights only without known weaknesses
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")  # keys under which trainers keep the state dict
PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile
LIGHTNING = "model."  # what a module of Lightning usually calls the model that it trains
FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "subprocess.",
    "socket.",
    "ctypes.",
    "pty.",
)
SHARING = 8  # how many times the file the tensors may be: several names of one tensor become several tensors
SHOWN = 80  # characters of a name, or of a reason, that are told
MOST_NAMES = 20
USER, DAMAGED, FULL = 2, 3, 5


class RefusedError(Exception):
    """Why a file is not converted; the sentence goes on after its name."""

    def __init__(self, reason: str, code: int = DAMAGED) -> None:
        super().__init__(reason)
        self.code = code


def main(source: str, target: str) -> int:
    """Convert a file, say what was found, and return the exit code."""
    try:
        said, code = convert(source, target), 0
    except RefusedError as refused:
        said, code = {"error": str(refused)}, refused.code
    except Exception as error:
        if isinstance(error, MemoryError) or re.search("can't allocate memory|out of memory", str(error)):
            said, code = {"error": "needs more memory than there is"}, USER
        elif re.search(r"\(os error (28|122|27)\)", str(error)):  # as safetensors tells it
            said, code = {"error": "cannot be converted: there is no room left to write it"}, FULL
        elif isinstance(error, PermissionError):
            said, code = {"error": "cannot be read: permission denied"}, USER
        else:
            said, code = {"error": why(error)}, DAMAGED
    sys.stdout.write(json.dumps(said) + "\n")
    return code


def convert(source: str, target: str) -> dict[str, Any]:
    """Write the tensors of a file.

    Raises:
        RefusedError: it holds none, or something else too.
    """
    if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < OLDEST:
        raise RefusedError(
            f"is only opened by torch {'.'.join(map(str, OLDEST))} or newer, which is safe against hostile files, and "
            f"this is {torch.__version__}",
            USER,
        )
    size = os.path.getsize(source)
    guard()
    with open(source, "rb") as opened:
        zipped = opened.read(4) == b"PK\x03\x04"
    if zipped:
        check_zip(source, size)
    loaded = torch.load(source, map_location="cpu", weights_only=True, mmap=zipped)
    state, steps, left_out = unwrap(loaded)
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    left_out += [name for name in state if name not in tensors]
    if not tensors:
        raise RefusedError(f"holds no tensors by name; it holds {told(list(state))}")
    tensors, prefixes = without_prefixes(tensors, lightning="state_dict" in steps)
    save(tensors, target, size)
    return {"tensors": len(tensors), "unwrapped": [*steps, *prefixes], "left_out": [each[:SHOWN] for each in left_out]}


def guard() -> None:
    """Let this process start no other one and open no connection from here on, whoever asks for it."""

    def refuse(event: str, _: object) -> None:
        if event.startswith(FORBIDDEN):
            raise RefusedError(f"asks for {event}, which weights do not need; nothing was run")

    sys.addaudithook(refuse)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # whatever fills the memory, it is this process that has to go


def check_zip(source: str, size: int) -> None:
    """Refuse an archive that would unpack to more than it is: torch stores its files as they are, and each once."""
    with zipfile.ZipFile(source) as archive:
        entries = archive.infolist()
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise RefusedError("is a TorchScript archive, which holds code; save the model's state_dict() instead")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise RefusedError("is a compressed archive, which torch.save does not write")
    if sum(entry.file_size for entry in entries) > size:
        raise RefusedError("is an archive whose files are larger than itself")


def unwrap(loaded: Any) -> tuple[dict[str, Any], list[str], list[str]]:
    """Return the state dict, the keys under which it was, and what was beside it.

    Raises:
        RefusedError: there is none.
    """
    steps: list[str] = []
    left_out: list[str] = []
    while True:
        if not isinstance(loaded, dict):
            raise RefusedError(f"holds {type(loaded).__name__} where a state dict, tensors by name, should be")
        # The dictionary may be of a class whose methods its file has replaced: only dict's own are asked.
        values = dict(dict.items(loaded))
        if not all(isinstance(name, str) for name in values):
            raise RefusedError("has names of tensors that are no text")
        key = next((key for key in WRAPPERS if isinstance(values.get(key), dict)), None)
        if key is None:
            return values, steps, left_out
        if len(steps) >= len(WRAPPERS):
            raise RefusedError(f"is nested too deep: {'.'.join(steps)}")
        steps.append(key)
        left_out += [name for name in values if name != key]
        loaded = values[key]


def without_prefixes(tensors: dict[str, Tensor], *, lightning: bool) -> tuple[dict[str, Tensor], list[str]]:
    """Take off what trainers put before every name."""
    removed: list[str] = []
    while prefix := next((each for each in PREFIXES if all(name.startswith(each) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        removed.append(prefix)
    if lightning and all(name.startswith(LIGHTNING) for name in tensors):
        tensors = {name.removeprefix(LIGHTNING): tensor for name, tensor in tensors.items()}
        removed.append(LIGHTNING)
    return tensors, removed


def save(tensors: dict[str, Tensor], target: str, size: int) -> None:
    """Write tensors, each in memory of its own.

    Raises:
        RefusedError: one is no plain tensor, or is larger than what the file holds of it.
    """
    total = 0
    for name, tensor in tensors.items():
        check(name, tensor, size)
        total += tensor.numel() * tensor.element_size()
    if total > SHARING * size:
        raise RefusedError(
            f"names the same numbers again and again: its tensors would be {total} bytes, and it has {size}"
        )
    plain: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        tensor = tensor.detach().resolve_conj().resolve_neg().contiguous()
        plain[name] = tensor.clone() if place in taken else tensor
        taken.add(place)
    save_file(plain, target, metadata={"format": "pt"})


def check(name: str, tensor: Tensor, size: int) -> None:
    """Refuse what is no plain tensor that the file really holds."""
    if not name or name == "__metadata__" or len(name) > 1000:
        raise RefusedError(f"has a tensor of the name {name[:SHOWN]!r}, which safetensors cannot hold")
    if type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.layout != torch.strided or tensor.is_quantized:
        raise RefusedError(f"holds {name[:SHOWN]!r}, which is sparse, quantized or of a class of its own")
    if tensor.device.type != "cpu" or tensor.is_complex():
        raise RefusedError(f"holds {name[:SHOWN]!r} as {tensor.device.type} {tensor.dtype}, which is no weight")
    if (
        tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()
        or max(tensor.shape, default=0) > size
    ):
        raise RefusedError(f"says that {name[:SHOWN]!r} is {list(tensor.shape)[:8]}, and does not hold so many numbers")


def why(error: Exception) -> str:
    """Return what a person can use of a library's error: its first sentence, never its advice to trust the file."""
    text = str(error)
    if asked := re.search(r"GLOBAL (\S+) (?:was not|whose)", text):
        return f"asks for {asked[1][:SHOWN]}, which weights do not need; nothing was run"
    if "legacy .tar" in text:
        return "is of the oldest format (.tar), which torch cannot open safely"
    lines = [line.strip() for line in text.splitlines() if " " in line.strip() and "weights_only" not in line]
    detail = f" ({lines[0].rstrip('.')})" if lines and len(lines[0]) < 2 * SHOWN else ""
    return f"is not a file of weights that torch.save wrote, or is damaged{detail}"


def told(names: list[str]) -> str:
    """Return some names as text."""
    more = ", …" if len(names) > MOST_NAMES else ""
    return ", ".join(repr(name[:SHOWN]) for name in names[:MOST_NAMES]) + more or "nothing"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main(*sys.argv[1:]))

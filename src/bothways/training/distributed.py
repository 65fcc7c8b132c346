"""The processes of a run that torchrun (or Ray Train) has started: what one of them knows, all of them know.

A process alone is a group of one, in which nothing is ever sent. Values cross as JSON and tensors as they are; nothing is
pickled. Whatever decides how training goes on must be the same in all processes, or they would wait for each other for ever:
it is decided by what ``gather`` or ``share`` returned, never by what a process alone has seen.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from uuid import uuid4

import torch
from torch import Tensor, distributed
from torch.distributed.rendezvous import rendezvous

from bothways import errors
from bothways.errors import BothwaysError, DamagedFileError, PeerLostError, UserError

Value = TypeVar("Value")
PATIENCE = 600.0  # seconds that processes wait for each other
_START = "bothways/start"  # in the store of the processes that have been started together
# What gloo and NCCL say when another process has ended or does not answer.
_LOST = re.compile(
    "gloo|nccl|connection (closed|reset|refused)|timed out|timeout|pair closure|broken pipe|recvValue|sendBytes",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Group:
    """The processes of a run, as seen by one of them.

    Attributes:
        rank: which one this is, from 0. Process 0 writes all files and speaks for the others.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def alone(self) -> bool:
        """Whether there is only one process."""
        return self.size == 1

    @property
    def machines(self) -> int:
        """On how many machines they run, each with as many as this one has, as torchrun and Ray Train tell; else one."""
        here = os.environ.get("LOCAL_WORLD_SIZE", "")
        return -(-self.size // int(here)) if here.isdecimal() and int(here) else 1

    @property
    def first(self) -> bool:
        """Whether this is process 0."""
        return self.rank == 0

    def share(self, value: Value) -> Value:
        """Return the value of process 0, in all of them: plain values, as JSON holds them."""
        if self.alone:
            return value
        data = _to_bytes(value) if self.first else torch.zeros(0, dtype=torch.uint8)
        length = self.broadcast(torch.tensor([len(data)], dtype=torch.int64))
        if not self.first:
            data = torch.zeros(int(length), dtype=torch.uint8)
        return _from_bytes(self.broadcast(data))

    def gather(self, value: Value) -> list[Value]:
        """Return the values of all processes, in the order of their ranks, in all of them: plain values."""
        if self.alone:
            return [value]
        data = _to_bytes(value)
        lengths = [int(length) for length in self.all_gather(torch.tensor([len(data)]))]
        padded = torch.zeros(max(lengths), dtype=torch.uint8)
        padded[: len(data)] = data
        return [_from_bytes(found[:length]) for found, length in zip(self.all_gather(padded), lengths, strict=True)]

    def table(self, numbers: Sequence[float]) -> list[list[float]]:
        """Return as many numbers of each process, in the order of their ranks; one message, for every step."""
        if self.alone:
            return [list(numbers)]
        return [row.tolist() for row in self.all_gather(torch.tensor(numbers, dtype=torch.float64))]

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        """Return the tensors of all processes, which have one shape, in the order of their ranks."""
        if self.alone:
            return [tensor]
        sent = tensor.to(_messenger(tensor.device)).contiguous()
        found = [torch.empty_like(sent) for _ in range(self.size)]
        distributed.all_gather(found, sent)
        return [each.to(tensor.device) for each in found]

    def broadcast(self, tensor: Tensor) -> Tensor:
        """Give a tensor the values that it has in process 0, and return it."""
        if self.alone:
            return tensor
        sent = tensor.detach().to(_messenger(tensor.device)).contiguous()
        distributed.broadcast(sent, src=0)
        with torch.no_grad():
            return tensor.copy_(sent)

    def share_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors that process 0 has, in all of them; what the others give is not looked at."""
        if self.alone:
            return dict(tensors)
        known = self.share([(name, tuple(each.shape), str(each.dtype)) for name, each in tensors.items()])
        found = {}
        for name, shape, dtype in known:
            empty = None if self.first else torch.empty(shape, dtype=getattr(torch, dtype.removeprefix("torch.")))
            found[name] = self.broadcast(tensors[name] if empty is None else empty)
        return found

    def first_only(self, action: Callable[[], Value]) -> Value:
        """Let process 0 do something, and return what came of it in all of them: a plain value.

        Raises:
            BothwaysError: what process 0 refused with, in all of them.
        """
        value: Any = None
        with self.agreeing():
            if self.first:
                value = action()
        return self.share(value)

    @contextmanager
    def agreeing(self) -> Iterator[None]:
        """Make a refusal in one process, within a ``with`` block, one in all; the first that has it tells it.

        Raises:
            BothwaysError: in any of them.
        """
        if self.alone:
            yield
            return
        mine: BothwaysError | None = None
        try:
            yield
        except BothwaysError as refused:
            mine = refused
        found = self.gather(None if mine is None else [type(mine).__name__, str(mine)])
        teller = next((rank for rank, said in enumerate(found) if said), None)
        if teller is None:
            return
        error = mine or _again(*(found[teller] or ()))
        error.told_elsewhere = self.rank != teller
        raise error

    @contextmanager
    def speaking_once(self) -> Iterator[None]:
        """Mark what all processes refuse with alike as told by process 0."""
        try:
            yield
        except (PeerLostError, DamagedFileError):
            raise
        except BothwaysError as error:
            error.told_elsewhere = error.told_elsewhere or not self.first
            raise


def _to_bytes(value: Any) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def _from_bytes(data: Tensor) -> Any:
    return json.loads(bytes(data.tolist()))


def _messenger(device: torch.device) -> torch.device:
    """Return the device by which a tensor travels: its own, where its kind has a way to the other processes."""
    ways = distributed.get_backend_config()
    if f"{device.type}:" in ways:
        return device
    return torch.device("cuda" if device.type == "cpu" else "cpu")  # whoever made the group gave it one of them alone


def _again(kind: str, message: str) -> BothwaysError:
    """Return the error of another process."""
    found = getattr(errors, kind, BothwaysError)
    return found(message)


def current() -> Group:
    """Return the processes that this one belongs to, once they have been joined; else this one alone."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return Group()
    return Group(rank=distributed.get_rank(), size=distributed.get_world_size())


@contextmanager
def joined(patience: float = PATIENCE) -> Iterator[Group]:
    """Join the processes that torchrun has started with this one, for the length of a ``with`` block.

    Alone nothing is done; a group that is there already, as Ray Train makes it, is taken and left as it is.

    Args:
        patience: seconds after which a process that does not answer counts as lost.
    Raises:
        PeerLostError: another process has ended or does not answer.
    """
    if distributed.is_available() and distributed.is_initialized():
        with _losing_peers():
            yield current()
        return
    if not distributed.is_available() or "RANK" not in os.environ or os.environ.get("WORLD_SIZE", "1") == "1":
        yield Group()
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        _take_gpu(int(os.environ.get("LOCAL_RANK", "0")))
    with _losing_peers():
        _begin_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timedelta(seconds=patience))
        try:
            yield current()
        except PeerLostError:
            raise  # what is left of the group may wait for the one that is gone
        except BaseException:
            distributed.destroy_process_group()
            raise
        distributed.destroy_process_group()


def _begin_group(backend: str, patience: timedelta) -> None:
    """Make the group of the processes that torchrun has started.

    Its agents keep one store from restart to restart. Addresses of processes that are gone would be found in it, so each
    start has names of its own there.
    """
    store, rank, size = next(rendezvous("env://", timeout=patience))
    store.set_timeout(patience)
    own = distributed.PrefixStore(_agree_on_a_name(store, rank, size, patience), store)  # type: ignore[attr-defined]
    distributed.init_process_group(backend, timeout=patience, store=own, rank=rank, world_size=size)


def _agree_on_a_name(store: Any, rank: int, size: int, patience: timedelta) -> str:
    """Return a name that only the processes of this very start know.

    How often each agent has restarted is no such name: agents of several machines count differently. So process 0 says a name,
    every other one answers it with a token of its own, and process 0 shows all tokens: who does not find its own among them
    has read the name of an earlier start, and looks again.
    """
    own = uuid4().hex
    if rank == 0:
        store.set(_START, own)
        tokens = [store.get(f"{own}/{other}").decode() for other in range(1, size)]
        store.set(f"{own}/all", json.dumps(tokens))
        return own
    asked = time.monotonic()
    while time.monotonic() - asked < patience.total_seconds():
        name: str = store.get(_START).decode()
        store.set(f"{name}/{rank}", own)
        if store.check([f"{name}/all"]) and own in json.loads(store.get(f"{name}/all")):
            return name
        time.sleep(0.05)
    raise RuntimeError(f"timed out after {patience} without an answer by process 0")


def _take_gpu(number: int) -> None:
    """Make the GPU of a process the one that it uses.

    Raises:
        UserError: there are fewer.
    """
    gpus = torch.cuda.device_count()
    if number >= gpus:
        raise UserError(f"this machine has {gpus} GPUs, fewer than processes; give torchrun --nproc-per-node {gpus}")
    torch.cuda.set_device(number)


@contextmanager
def _losing_peers() -> Iterator[None]:
    """Turn what the loss of another process looks like into words."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, BothwaysError) or not _LOST.search(str(error)):
            raise
        lost = PeerLostError(
            "another process of this run has ended or does not answer (torchrun tells below which failed first); the same "
            f"command with --resume goes on from the newest checkpoint [{str(error).strip().splitlines()[0][:200]}]"
        )
        lost.told_elsewhere = os.environ.get("RANK", "0") != "0"
        raise lost from error

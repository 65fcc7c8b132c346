"""How the processes of a run hold a model: alone, each a whole one (DDP), or each a part of it (FSDP2).

Gradients are summed over processes, never averaged: losses are divided by their counts in all of them already.

Sources: Li et al. 2020 (PyTorch Distributed: DDP); Zhao et al. 2023 (FSDP); ``torch.distributed.fsdp.fully_shard``.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, distributed, nn
from torch.futures import Future

from bothways.batch import Batch, Objective
from bothways.model.heads import Model
from bothways.training.distributed import Group


class Pass(nn.Module):
    """One forward pass, losses included: what all processes do together must begin and end within a module."""

    def __init__(self, model: Model, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Batch, counts: Mapping[str, int], share: float = 1.0) -> dict[str, Tensor]:
        """Return what a batch adds to each mean loss of the step, and as ``loss`` to their weighted sum.

        Args:
            batch: on the model's device.
            counts: what the sum of each loss is divided by.
            share: 0: the batch counts for nothing.
        """
        total = torch.zeros((), device=batch.input_ids.device)
        means: dict[str, Tensor] = {}
        for name, loss in self.objective.loss(self.model, batch).items():
            means[name] = loss.sum / max(1, counts[name])
            total = total + loss.weight * means[name]
        return {**means, "loss": total if share == 1.0 else total * share}


class Held(Protocol):
    """A model as a process holds it while it learns."""

    model: Model  # whose weights the optimizers change; what is not held whole are DTensors

    def run(self, batch: Batch, counts: Mapping[str, int], share: float) -> dict[str, Tensor]:
        """Do a forward pass; see ``Pass``."""

    def summing(self, now: bool) -> Any:
        """Return the context of a forward and a backward pass after which gradients are summed, or are not yet."""

    def collect(self) -> None:
        """Give the model that was handed over the weights as they are by now, in all processes."""

    def spread(self) -> None:
        """Take over the weights that the model has in process 0."""


def hold(model: Model, objective: Objective, sharding: Literal["none", "full"], group: Group) -> Held:
    """Return the model as this process of a group holds it."""
    if group.alone:
        return Alone(model, objective)
    for tensor in model.state_dict().values():
        group.broadcast(tensor)
    return Whole(model, objective, group) if sharding == "none" else Part(model, objective, group)


class Alone:
    """One process: a model as it is."""

    def __init__(self, model: Model, objective: Objective) -> None:
        self.model = model
        self._pass = Pass(model, objective)

    def run(self, batch: Batch, counts: Mapping[str, int], share: float) -> dict[str, Tensor]:
        """Do a forward pass."""
        means: dict[str, Tensor] = self._pass(batch, counts, share)
        return means

    def summing(self, now: bool) -> Any:  # noqa: ARG002 - alone there is nothing to sum
        """Do nothing."""
        return nullcontext()

    def collect(self) -> None:
        """Do nothing."""

    def spread(self) -> None:
        """Do nothing."""


class Whole:
    """Every process has all weights, and sums the gradients with the others while it goes back through the model."""

    def __init__(self, model: Model, objective: Objective, group: Group) -> None:
        self.model, self._group, self._settled = model, group, False
        self._replica = nn.parallel.DistributedDataParallel(
            Pass(model, objective),
            device_ids=[model.device] if model.device.type == "cuda" else None,
            find_unused_parameters=bool(set(model.heads) - set(objective.heads)),  # nobody waits for their gradients
            gradient_as_bucket_view=True,
        )
        self._replica.register_comm_hook(None, _sum_gradients)

    def run(self, batch: Batch, counts: Mapping[str, int], share: float) -> dict[str, Tensor]:
        """Do a forward pass."""
        if not self._settled:
            self._settle(batch, counts)
        means: dict[str, Tensor] = self._replica(batch, counts, share)
        return means

    def _settle(self, batch: Batch, counts: Mapping[str, int]) -> None:
        """Go forth and back once for nothing, before the first pass of a process that begins a run or takes it up again.

        After its first pass DDP lays gradients out anew. Three and more processes sum them in an order that depends on where
        they lie, so the first step would be another one than in a run that has not stopped.
        """
        self._settled = True
        synced, self._replica.require_backward_grad_sync = self._replica.require_backward_grad_sync, True
        with torch.random.fork_rng():
            nothing = self._replica(batch, counts, 0.0)["loss"]
            with torch.autocast(self.model.device.type, enabled=False):
                nothing.backward()
        self._replica.require_backward_grad_sync = synced
        self._replica.zero_grad(set_to_none=True)

    def summing(self, now: bool) -> Any:
        """Return the context of a pass."""
        return nullcontext() if now else self._replica.no_sync()

    def collect(self) -> None:
        """Do nothing: the weights are those of the model."""

    def spread(self) -> None:
        """Take over the weights of process 0."""
        for tensor in self.model.state_dict().values():
            self._group.broadcast(tensor)


def _sum_gradients(_: None, bucket: distributed.GradBucket) -> Future[Tensor]:  # type: ignore[name-defined]
    work = distributed.all_reduce(bucket.buffer(), async_op=True)
    summed: Future[Tensor] = work.get_future().then(lambda done: done.value()[0])
    return summed


class Part:
    """Every process has a part of each weight, of its gradient and of what the optimizer remembers of it.

    Weights come together layer by layer while they are needed. The model that was handed over stays whole beside it, for
    evaluation and saving, and has the weights of the last ``collect``.
    """

    def __init__(self, model: Model, objective: Objective, group: Group) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard

        self._whole, self._group = model, group
        self.model = copy.deepcopy(model)
        mesh = init_device_mesh(model.device.type, (group.size,))
        self._pass = Pass(self.model, objective)
        for module in (*self.model.transformer.layers, self._pass):
            fully_shard(module, mesh=mesh)
            assert isinstance(module, FSDPModule)
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)

    def run(self, batch: Batch, counts: Mapping[str, int], share: float) -> dict[str, Tensor]:
        """Do a forward pass."""
        means: dict[str, Tensor] = self._pass(batch, counts, share)
        return means

    @contextmanager
    def summing(self, now: bool) -> Iterator[None]:
        """Return the context of a pass."""
        self._pass.set_requires_gradient_sync(now)  # type: ignore[operator]
        yield

    @torch.no_grad()
    def collect(self) -> None:
        """Give the model that was handed over the weights as they are by now."""
        parts = dict(self.model.named_parameters())
        for name, weight in self._whole.named_parameters():
            weight.copy_(whole(parts[name]))

    @torch.no_grad()
    def spread(self) -> None:
        """Take over the weights of process 0."""
        parts = dict(self.model.named_parameters())
        for name, weight in self._whole.named_parameters():
            local(parts[name]).copy_(part_of(self._group.broadcast(weight), parts[name]))


def is_part(tensor: Tensor) -> bool:
    """Return whether this process holds some of the rows of a tensor only."""
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def local(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor: all of it, or its part."""
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor; all processes must ask for it at once."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part_of(tensor: Tensor, like: Tensor) -> Tensor:
    """Return what this process holds of a whole tensor if it is held like another: some of the rows, or all."""
    from torch.distributed.tensor import DTensor

    if not isinstance(like, DTensor):
        return tensor
    first, last = rows_of(len(tensor), like.device_mesh.get_local_rank(), like.device_mesh.size())
    return tensor[first:last]


def part(tensor: Tensor, like: Tensor, rows: int) -> Tensor:
    """Return the tensor of which this process holds these rows, spread as another one is.

    Args:
        tensor: what this process holds of it.
        like: spread over the rows, or not at all.
        rows: of the whole tensor.
    """
    from torch.distributed.tensor import DTensor

    if not isinstance(like, DTensor):
        return tensor
    shape = torch.Size((rows, *tensor.shape[1:]))
    return DTensor.from_local(
        tensor,
        like.device_mesh,
        like.placements,
        run_check=False,
        shape=shape,
        stride=torch.empty(shape, device="meta").stride(),
    )


def rows_of(rows: int, rank: int, size: int) -> tuple[int, int]:
    """Return the first row that a process holds of so many, and the one after its last."""
    most = -(-rows // size)
    return min(rank * most, rows), min((rank + 1) * most, rows)

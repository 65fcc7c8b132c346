"""Optimizers by name, their learning rates, and their state as named tensors.

Muon takes the matrices of the trunk; embeddings, heads, norms and biases are AdamW's. The steps of both are equally large, so
that one ``learning_rate`` serves them.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from bothways.training.config import OptimizerConfig
from bothways.training.machine import has_bf16
from bothways.training.muon import Muon
from bothways.training.parallel import part, part_of, whole


def make_optimizers(model: nn.Module, config: OptimizerConfig) -> list[Optimizer]:
    """Return the optimizers of all weights that learn; each group says by ``scale`` what multiple of the rate it takes."""
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    matrices = [parameter for name, parameter in named.items() if _is_trunk_matrix(name, parameter)]
    embeddings = [parameter for name, parameter in named.items() if ".embed_" in name and parameter.dim() == 2]
    taken = {id(parameter) for parameter in (*matrices, *embeddings)}
    others = [parameter for parameter in named.values() if id(parameter) not in taken]
    adamw_groups = [
        {"params": embeddings, "weight_decay": 0.0, "scale": config.embedding_scale},
        {"params": [parameter for parameter in others if parameter.dim() == 2], "weight_decay": config.weight_decay},
        {"params": [parameter for parameter in others if parameter.dim() != 2], "weight_decay": 0.0},
    ]
    optimizers: list[Optimizer] = []
    if config.name == "muon" and matrices:
        muon = Muon(
            matrices,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            iterations=config.iterations,
            row_beta=config.row_beta,
            dtype=torch.bfloat16 if has_bf16(matrices[0].device) else torch.float32,
        )
        optimizers.append(muon)
    else:
        adamw_groups.append({"params": matrices, "weight_decay": config.weight_decay})
    groups = [group for group in adamw_groups if group["params"]]
    if groups:
        optimizers.append(AdamW(groups, betas=(config.beta1, config.beta2), eps=config.eps, fused=True))
    return optimizers


def set_learning_rate(optimizers: Iterable[Optimizer], learning_rate: float) -> None:
    """Give every group its multiple of the learning rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * group.get("scale", 1.0)


def state_tensors(optimizers: Iterable[Optimizer], model: nn.Module) -> dict[str, Tensor]:
    """Return all that the optimizers remember, as ``optimizer/WEIGHT/NAME`` to tensor, each whole.

    Where weights are held in parts, all processes must ask at once.
    """
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"optimizer/{names[parameter]}/{key}": whole(torch.as_tensor(value))
        for optimizer in optimizers
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def restore_state(optimizers: Iterable[Optimizer], model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what ``state_tensors`` returned."""
    parameters = dict(model.named_parameters())
    owners = {
        parameter: optimizer for optimizer in optimizers for g in optimizer.param_groups for parameter in g["params"]
    }
    for name, tensor in tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "optimizer":
            weight, _, key = rest.rpartition("/")
            parameter = parameters[weight]
            tensor = tensor.to(parameter.device)
            held = part(part_of(tensor, parameter).clone(), parameter, len(tensor)) if tensor.dim() else tensor.clone()
            owners[parameter].state[parameter][key] = held


def _is_trunk_matrix(name: str, parameter: Tensor) -> bool:
    return name.startswith("transformer.layers.") and parameter.dim() == 2

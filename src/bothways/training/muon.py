"""Muon: momentum whose matrices are made orthogonal, so that every direction of a weight learns equally fast.

Sources: Jordan 2024 (Muon); Liu et al. 2025 (its steps as large as AdamW's); Amsel et al. 2025 (the coefficients); Boissin et
al. 2025 (rows scaled first, which saves an iteration); Li et al. 2025 (NorMuon: rows evened out).
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from bothways.training.distributed import current
from bothways.training.muon_sharing import share_parts, share_whole, sum_over
from bothways.training.parallel import is_part, local, part

# Of the polynomial a·x + b·x³ + c·x⁵ of each iteration: applied one after the other, they bring all singular values from
# 0.001 to 1 near one, and the last k of them those from a larger value on.
COEFFICIENTS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
_SAFETY = 1.01  # singular values stay below one, whatever rounding does


class Muon(Optimizer):
    """Takes matrices alone. Those of one shape, turned or not, go through the iterations as one batch of products."""

    def __init__(
        self,
        matrices: Iterable[Tensor],
        *,
        momentum: float,
        weight_decay: float,
        iterations: int = 3,
        row_beta: float = 0.0,
        dtype: torch.dtype = torch.bfloat16,
        lr: float = 1e-3,
    ) -> None:
        """Set up.

        Args:
            matrices: weights of two dimensions.
            momentum: share of the old momentum that is kept; Nesterov's is used.
            weight_decay: times the learning rate: the share of a weight that goes at each step.
            iterations: fewer are quicker and leave small singular values smaller.
            row_beta: of the mean of squares of each row, by whose root the row is divided; 0: rows are left alone.
            dtype: of the iterations.
            lr: the learning rate, in AdamW's units: an update has a root mean square of a fifth of it.
        """
        assert 1 <= iterations <= len(COEFFICIENTS), iterations
        self.iterations, self.dtype = iterations, dtype
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "row_beta": row_beta}
        super().__init__(matrices, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take one step with the gradients that are there."""
        assert closure is None, "this optimizer never asks for the loss again"
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            updates = self.updates(weights, group["momentum"], group["row_beta"])
            held = [local(weight) for weight in weights]
            torch._foreach_mul_(held, 1 - group["lr"] * group["weight_decay"])
            for weight, here, update in zip(weights, held, updates, strict=True):
                size = 0.2 * math.sqrt(max(weight.shape))
                here.add_(update, alpha=-group["lr"] * size)

    def updates(self, weights: list[Tensor], momentum: float, row_beta: float) -> list[Tensor]:
        """Advance the momenta and return them orthogonal, in the order of the weights: what this process holds of them."""
        gradients = [local(weight.grad) for weight in weights if weight.grad is not None]
        momenta = [local(self.remembered(weight, "momentum_buffer", weight.shape[1])) for weight in weights]
        if not weights:
            return []
        torch._foreach_lerp_(momenta, gradients, 1 - momentum)
        ahead = self.shared(weights, list(torch._foreach_lerp(gradients, momenta, momentum)))
        if not row_beta:
            return ahead
        return [self.evened(weight, update, row_beta) for weight, update in zip(weights, ahead, strict=True)]

    def shared(self, weights: list[Tensor], ahead: list[Tensor]) -> list[Tensor]:
        """Return momenta orthogonal; where there are several processes, each does its share of the iterations."""
        group = current()
        if group.alone:
            return self.orthogonal(ahead)
        if is_part(weights[0]):
            return share_parts(ahead, [len(weight) for weight in weights], self.orthogonal, self.dtype, group)
        return share_whole(ahead, self.orthogonal, self.dtype, group)

    def orthogonal(self, matrices: list[Tensor]) -> list[Tensor]:
        """Return matrices orthogonal, those of one shape made so together."""
        found: dict[int, Tensor] = {}
        for numbers in same_shapes(matrices):
            wide = torch.stack([_wide(matrices[number]) for number in numbers])
            for number, update in zip(numbers, orthogonalize(wide, self.iterations, self.dtype), strict=True):
                found[number] = update.mT if _is_tall(matrices[number]) else update
        return [found[number] for number in range(len(matrices))]

    def evened(self, weight: Tensor, update: Tensor, beta: float) -> Tensor:
        """Divide each row of an update by the root of its running mean square, its size as a whole unchanged."""
        squares = local(self.remembered(weight, "row_squares", 1))
        wide = update.to(weight.dtype)
        squares.lerp_(wide.square().mean(1, keepdim=True), 1 - beta)
        even = wide * squares.clamp_min(1e-10).rsqrt()
        norms = torch.stack([wide.norm(), even.norm()])
        if is_part(weight):
            norms = sum_over(norms.square()).sqrt()
        return even * (norms[0] / norms[1].clamp_min(1e-10))

    def remembered(self, weight: Tensor, name: str, columns: int) -> Tensor:
        """Return what the optimizer remembers of each row of a weight, zeros at first."""
        state = self.state[weight]
        if name not in state:
            here = local(weight)
            state[name] = part(here.new_zeros((len(here), columns)), weight, len(weight))
        return state[name]


def same_shapes(weights: list[Tensor]) -> list[list[int]]:
    """Return the numbers of the weights that have one shape, or the same one turned, together."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, weight in enumerate(weights):
        groups.setdefault(tuple(sorted(weight.shape)), []).append(number)
    return list(groups.values())


def orthogonalize(matrices: Tensor, iterations: int, dtype: torch.dtype) -> Tensor:
    """Return the nearest orthogonal matrices, roughly: all singular values near one.

    A row is first divided by the root of the sum of its products with all rows, which leaves no singular value above one and
    few far below it.

    Args:
        matrices: [k, m, n] with m ≤ n.
        iterations: of the polynomial.
        dtype: that the products are computed in.
    Returns:
        [k, m, n] in ``dtype``.
    """
    norms = torch.linalg.vector_norm(matrices, dim=(1, 2), keepdim=True)
    x = (matrices / norms.clamp_min(1e-7)).to(dtype)
    square = x @ x.mT
    sums = square.abs().sum(-1, keepdim=True, dtype=torch.promote_types(dtype, torch.float32))
    scale = sums.clamp_min(1e-14).rsqrt() / _SAFETY
    x, square = (x * scale).to(dtype), (square * scale * scale.mT).to(dtype)
    for number, (a, b, c) in enumerate(COEFFICIENTS[-iterations:]):
        square = x @ x.mT if number else square
        polynomial = torch.baddbmm(square, square, square, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x


def _is_tall(matrix: Tensor) -> bool:
    return matrix.shape[0] > matrix.shape[1]


def _wide(matrix: Tensor) -> Tensor:
    return matrix.mT if _is_tall(matrix) else matrix

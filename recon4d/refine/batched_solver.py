"""The linear systems of many frames at once, in PyTorch: `smooth_solver` on grids (F, H, W)."""

from __future__ import annotations

import torch
from torch import Tensor

UNASKED = 10  # rounds between two questions whether all frames are done: each has to wait for the GPU


def sums(values: Tensor) -> Tensor:
    """Sums (F,) float64 over all but the first axis."""
    return values.flatten(1).sum(1, dtype=torch.float64)


def solve(
    diagonal: Tensor, right: Tensor, down: Tensor, target: Tensor, tolerance: float = 1e-3, rounds: int = 200
) -> Tensor:
    """What `smooth_solver.solve` answers for each frame; each stops where it would alone."""
    right, down = right[..., :-1], down[:, :-1]
    whole = diagonal.clone()
    for part, springs in (
        (whole[..., :-1], right),
        (whole[..., 1:], right),
        (whole[:, :-1], down),
        (whole[:, 1:], down),
    ):
        part += springs
    scale = torch.where(whole > 0, 1 / whole, 0)
    step, residual, way = torch.zeros_like(target), target.clone(), target * scale
    power = sums(residual * way)
    enough = tolerance * tolerance * power
    going = power > enough
    for count in range(rounds):
        if count % UNASKED == 0 and not bool(going.any()):
            break
        image = _apply(diagonal, right, down, way)
        bend = sums(way * image)
        going = going & (power > enough) & (bend > 0)
        pace = _each(going, power / bend, target)
        step.addcmul_(pace, way)
        residual.addcmul_(pace, image, value=-1)
        guess = scale * residual
        before, power = power, sums(residual * guess)
        way = torch.addcmul(guess, _each(going, power / before, target), way)
    return step


def _each(going: Tensor, values: Tensor, like: Tensor) -> Tensor:
    """A factor for each frame, 0 for those at rest."""
    return torch.where(going, values, 0).to(like.dtype)[:, None, None]


def _apply(diagonal: Tensor, right: Tensor, down: Tensor, values: Tensor) -> Tensor:
    out = diagonal * values
    pull = right * (values[..., :-1] - values[..., 1:])
    out[..., :-1] += pull
    out[..., 1:] -= pull
    pull = down * (values[:, :-1] - values[:, 1:])
    out[:, :-1] += pull
    out[:, 1:] -= pull
    return out

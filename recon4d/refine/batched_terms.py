"""The terms of many frames' energies at once, in PyTorch: those of `looks`, `window_match` and `terms`.

Formulas and their reasons are there; here they are written once more, for grids (F, H, W) of frames and (F, V, H, W) of
what the frames' views show.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from recon4d.refine.batched_solver import sums
from recon4d.refine.looks import HIDDEN, LEAST_AHEAD, ONE_SURFACE
from recon4d.refine.terms import RANGE
from recon4d.refine.window_match import FLOOR, LEAST_SEEN


class Table(NamedTuple):
    """All pictures and surfaces that a batch looks at, one after the other: each (P * h * w,), of one size (h, w)."""

    grey: Tensor
    x: Tensor
    weight: Tensor  # of the square of a residual to x, see `looks.heard`


class Warps(NamedTuple):
    """The views of each frame. One that turns and shifts by zero sees nothing: so frames with fewer are filled up."""

    first: Tensor  # (F, V, 1, 1) int64, its first pixel in the table
    turn: Tensor  # (F, V, 3, 3), see `photo_cost.pixel_warp`
    shift: Tensor  # (F, V, 3)


class Looks(NamedTuple):
    """What views show (F, V, H, W), and the term of their depth: energies (F,) float64, sums over them (F, H, W)."""

    warped: Tensor  # grey levels, NaN where not seen
    slope: Tensor  # d warped / d x; anything where not seen
    energy: Tensor
    gradient: Tensor
    hessian: Tensor
    agreeing: Tensor


class Likeness(NamedTuple):
    """As `window_match.Likeness`, but sums over the views (F, H, W) and energies (F,) float64."""

    energy: Tensor
    gradient: Tensor
    hessian: Tensor
    zncc: Tensor
    seen: Tensor


class Said(NamedTuple):
    """What opinions add: energies (F,) float64, grids (F, H, W)."""

    energy: Tensor
    gradient: Tensor
    hessian: Tensor


class Held(NamedTuple):
    """What springs add, and their strength as they are stretched: energies (F,) float64, grids (F, H, W)."""

    energy: Tensor
    gradient: Tensor
    right: Tensor
    down: Tensor


def look(x: Tensor, static: Tensor, table: Table, warps: Warps, cut: float, visible: Tensor, keep: bool) -> Looks:
    """Carry frames into their views; see `looks.land_row`, `looks.depth_row` and `looks.picture_row`.

    Args:
        cut: of the residuals, see `looks.Robust`.
        visible: (F, V, H, W) uint8: 1 the picture is seen, 3 the view's surface is the same one as well.
        keep: whether that is given; otherwise it is found and written.
    """
    rows, columns = x.shape[-2:]
    u, v, nz, du, dv, along = _carried(x, warps)
    inside = (nz > LEAST_AHEAD) & (u >= 0) & (v >= 0) & (u < columns - 1) & (v < rows - 1)  # False with any NaN
    u, v = (torch.where(inside, place, 0) for place in (u, v))
    left, top = u.long(), v.long()
    a, b = u - left, v - top
    places = warps.first + top * columns + left
    corners = 0, 1, columns, columns + 1
    p, q, r, s = surface = [table.x[places + corner] for corner in corners]
    nearest = torch.where(b < 0.5, torch.where(a < 0.5, p, q), torch.where(a < 0.5, r, s))
    low = torch.minimum(torch.minimum(p, q), torch.minimum(r, s))
    high = torch.maximum(torch.maximum(p, q), torch.maximum(r, s))
    whole = high - low < ONE_SURFACE  # False with any NaN
    found, fx, fy = _bilinear(surface, a, b)
    found, fx, fy = torch.where(whole, found, nearest), torch.where(whole, fx, 0), torch.where(whole, fy, 0)
    expected = x[:, None] - torch.log(nz)
    if not keep:
        hidden = nearest > expected + HIDDEN  # False where it has no depth
        visible.copy_((inside & ~hidden) * (1 + 2 * whole.byte()))
    value, gx, gy = _bilinear([table.grey[places + corner] for corner in corners], a, b)
    warped, slope = torch.where(inside & (visible > 0), value, math.nan), gx * du + gy * dv

    weight = table.weight[places + (b >= 0.5) * columns + (a >= 0.5)]
    away = expected - found
    share = static[:, None]
    told = inside & (visible > 1) & (share > 0) & (weight >= 0) & torch.isfinite(away)
    weight = torch.where(told, weight, 0)
    away = torch.where(told, away, 0)
    change = torch.where(told, along - fx * du - fy * dv, 0)
    squares = weight * away * away
    over = cut**2 / (cut**2 + squares)
    pull = share * weight * over * over * change
    agreeing = (told & (squares < cut**2)).sum(1).to(x.dtype)
    energy = sums(0.5 * share * squares * over)
    return Looks(warped, slope, energy, (pull * away).sum(1), (pull * change).sum(1), agreeing)


def _carried(x: Tensor, warps: Warps) -> tuple[Tensor, ...]:
    """Places in the views (first pixel centre at 0), depth there over depth here; how they and x move with x.

    All (F, V, H, W); d(n)/dx = d * shift for (u, v, 1) ~ n.
    """
    height, width = x.shape[-2:]
    fx = torch.arange(width, dtype=x.dtype, device=x.device) + 0.5
    fy = torch.arange(height, dtype=x.dtype, device=x.device)[:, None] + 0.5
    d = torch.exp(x)[:, None]
    turn, shift = warps.turn[..., None, None], warps.shift[..., None, None]
    sx, sy, sz = shift.unbind(2)
    nx, ny, nz = (
        turn[:, :, k, 0] * fx + turn[:, :, k, 1] * fy + turn[:, :, k, 2] + d * shift[:, :, k] for k in range(3)
    )
    u, v, pace = nx / nz, ny / nz, d / nz
    return u - 0.5, v - 0.5, nz, pace * (sx - u * sz), pace * (sy - v * sz), 1 - pace * sz


def _bilinear(corners: list[Tensor], a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    p, q, r, s = corners
    upper, lower = p + a * (q - p), r + a * (s - r)
    return upper + b * (lower - upper), (q - p) + b * ((s - r) - (q - p)), lower - upper


def likeness(own: Tensor, warped: Tensor, slope: Tensor, share: Tensor, radius: int, cut: float) -> Likeness:
    """Windows of the frames (F, H, W) against what their views show there; see `window_match.likeness`."""
    side = 2 * radius + 1

    def box(values: Tensor) -> Tensor:
        across = torch.nn.functional.avg_pool2d(values, (1, side), 1, (0, radius), divisor_override=1)
        return torch.nn.functional.avg_pool2d(across, (side, 1), 1, (radius, 0), divisor_override=1)

    seen = torch.isfinite(warped) & torch.isfinite(own)[:, None]
    o, w = torch.where(seen, own[:, None] - 128, 0), torch.where(seen, warped - 128, 0)
    n = box(seen.to(own.dtype))
    enough = n >= LEAST_SEEN * side * side
    per = 1 / n.clamp(min=1)
    mo, mw = box(o) * per, box(w) * per
    so = torch.rsqrt((box(o * o) * per - mo * mo).clamp(min=0) + FLOOR)
    sw = torch.rsqrt((box(w * w) * per - mw * mw).clamp(min=0) + FLOOR)
    zncc = (box(o * w) * per - mo * mw) * so * sw
    counted = torch.where(enough, share[:, None], 0)
    cost = 1 - zncc
    over = cut / (cut + cost)
    k = counted * over * over * per * sw
    both, itself = k * so, k * zncc * sw
    slope = torch.where(seen, slope, 0)
    gradient = (box(both * mo - itself * mw) - o * box(both) + w * box(itself)) * slope
    return Likeness(
        sums(counted * cost * over),
        gradient.sum(1),
        (slope * slope * box(k * sw)).sum(1),
        torch.where(enough, zncc, 0).sum(1),
        enough.sum(1),
    )


def opine(x: Tensor, said: Tensor, sigma: Tensor, chance: Tensor, share: float) -> Said:
    """Opinions (F, K, H, W); see `terms.opine`. In logs, for exp(-s^2 / 2) is 0 too soon where all is float32."""
    here = x[:, None]
    spoken = (chance > 0) & torch.isfinite(here)
    off = torch.where(spoken, here - said, 0)
    size, p = torch.where(spoken, sigma, 1), torch.where(spoken, chance, 1)
    away = off / size
    mistake = torch.log((1 - p) * size * (math.sqrt(2 * math.pi) / RANGE))  # -inf where it is none for certain
    sure = torch.log(p)
    right = sure - 0.5 * away * away
    total = torch.where(spoken, torch.logaddexp(sure, mistake) - torch.logaddexp(right, mistake), 0)
    weight = torch.where(spoken, share * torch.sigmoid(right - mistake) / (size * size), 0)
    return Said(share * sums(total), (weight * off).sum(1), weight.sum(1))


def springs(delta: Tensor, right: Tensor, down: Tensor, jump: float) -> Held:
    """See `terms.springs`; all (F, H, W)."""
    gradient, right_now, down_now = (torch.zeros_like(delta) for _ in range(3))
    energy = 0.0
    c2 = jump * jump
    for axis, strength, now in ((2, right, right_now), (1, down, down_now)):
        size = delta.shape[axis] - 1
        stretch = delta.narrow(axis, 0, size) - delta.narrow(axis, 1, size)
        whole = strength.narrow(axis, 0, size)
        tied = (whole > 0) & torch.isfinite(stretch)
        stretch, whole = torch.where(tied, stretch, 0), torch.where(tied, whole, 0)
        over = c2 / (c2 + stretch * stretch)
        k = whole * over * over
        now.narrow(axis, 0, size).copy_(k)
        gradient.narrow(axis, 0, size).add_(k * stretch)
        gradient.narrow(axis, 1, size).sub_(k * stretch)
        energy = energy + 0.5 * sums(whole * stretch * stretch * over)
    return Held(energy, gradient, right_now, down_now)

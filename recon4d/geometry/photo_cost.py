"""How well a picture looks the same in other views, at every pixel and for every depth on a list: the matching cost.

A plane sweep asks about depths far apart, a refinement about depths close to a surface that is known already: both give
`Labels`, a surface of inverse depth and steps away from it. Windows follow that surface, so that a slanted prior is
matched with slanted windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

VARIANCE_FLOOR = 4.0  # grey levels squared: what has less contrast than the camera's noise looks like nothing
NUMERIC = {"contract", "arcp", "nsz"}  # not nnan: NaN marks what a view does not see


@dataclass(frozen=True)
class GreyView:
    """A grey picture and the camera that took it."""

    grey: np.ndarray  # (H, W) float32, grey levels 0..255
    camera: Camera  # of this size
    cam_from_world: Rigid3

    def __post_init__(self) -> None:
        object.__setattr__(self, "grey", np.ascontiguousarray(self.grey, dtype=np.float32))
        if self.grey.shape != self.camera.shape:
            raise ValueError(f"GreyView: the picture is {self.grey.shape}, its camera {self.camera.shape}")


@dataclass(frozen=True)
class Labels:
    """Depths to ask about: inverse depth ``base + k * step`` for k = 0 .. count - 1."""

    base: np.ndarray  # (H, W) float32, inverse scene units
    step: float  # inverse scene units
    count: int

    @classmethod
    def sweep(cls, shape: tuple[int, int], near: float, far: float, count: int) -> Labels:
        """Planes parallel to the picture, evenly spaced in inverse depth, from ``far`` (label 0) to ``near``."""
        base = np.full(shape, 1.0 / far, dtype=np.float32)
        return cls(base, (1.0 / near - 1.0 / far) / (count - 1), count)

    @classmethod
    def band(cls, surface: np.ndarray, step: float, count: int) -> Labels:
        """Surfaces parallel to ``surface`` (H, W) z-depth, scene units, which is the middle label."""
        return cls((1.0 / surface - step * (count // 2)).astype(np.float32), step, count)

    def inverse_depth(self, label: np.ndarray) -> np.ndarray:
        """Inverse depth (H, W) of labels (H, W), which may lie between whole ones."""
        return self.base + np.float32(self.step) * label


def photo_costs(
    reference: GreyView,
    others: Sequence[GreyView],
    labels: Labels,
    radius: int = 2,
    visible: Sequence[np.ndarray | None] | None = None,
) -> np.ndarray:
    """Matching cost of every pixel and label: 1 - ZNCC over a square window, mean over the views that see it.

    Args:
        reference: (H, W), the picture whose pixels are asked about.
        others: views to compare with, of any size.
        labels: (H, W) and K depths.
        radius: of the window, pixels.
        visible: per view, (H, W) bool or float on the reference picture, or None: how much the view counts at a
            pixel, 0 where something is known to stand between them.

    Returns:
        (H, W, K) float32, 0 (the same) .. 1 (unlike); 1 where no other view that counts sees the whole window.

    Raises:
        ValueError: labels or ``visible`` do not match the picture, or a window below one pixel.

    Source: zero-mean normalised cross-correlation with a floor on the variances, so that flat windows match nothing.
    """
    height, width = reference.grey.shape
    weights = _weights(reference, others, labels, radius, visible)
    total = np.zeros((labels.count, height, width), dtype=np.float32)
    seen = np.zeros((labels.count, height, width), dtype=np.float32)
    grey = reference.grey - np.float32(128)
    mean, inverse_std = _statistics(grey, radius)
    for other, weight in zip(others, weights):
        turn, shift = pixel_warp(reference, other)
        _add_view(
            grey, mean, inverse_std, other.grey, weight, turn, shift, labels.base, labels.step, radius, total, seen
        )
    costs = np.empty((height, width, labels.count), dtype=np.float32)
    _average(total, seen, costs)
    return costs


def _weights(reference, others, labels, radius, visible):
    """Checked arguments of `photo_costs`; the weight (H, W) float32 of every view."""
    shape = reference.grey.shape
    if labels.base.shape != shape:
        raise ValueError(f"photo_costs: the labels are {labels.base.shape}, the picture {shape}")
    if radius < 0:
        raise ValueError(f"photo_costs: a window of radius {radius} has no pixel")
    if visible is None:
        visible = [None] * len(others)
    if len(visible) != len(others):
        raise ValueError(f"photo_costs: {len(visible)} grids say what {len(others)} views see")
    everywhere = np.ones(shape, dtype=np.float32)
    weights = [everywhere if grid is None else np.ascontiguousarray(grid, dtype=np.float32) for grid in visible]
    for weight in weights:
        if weight.shape != shape:
            raise ValueError(f"photo_costs: what a view sees is {weight.shape}, the picture {shape}")
    return weights


def pixel_warp(reference: GreyView, other: GreyView) -> tuple[np.ndarray, np.ndarray]:
    """Where a pixel at inverse depth d lies in another view: (x', y', 1) ~ turn @ (x, y, 1) + d * shift.

    Returns:
        turn (3, 3), shift (3,), both float32, pixels with first centre (0.5, 0.5).
    """
    other_from_reference = other.cam_from_world @ reference.cam_from_world.inverse()
    k = other.camera.matrix
    turn = k @ other_from_reference.rotation @ np.linalg.inv(reference.camera.matrix)
    return turn.astype(np.float32), (k @ other_from_reference.translation).astype(np.float32)


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _statistics(grey, radius):
    """Mean and 1 / standard deviation of the window of every pixel, cut off at the border."""
    height, width = grey.shape
    mean = np.empty((height, width), dtype=np.float32)
    inverse_std = np.empty((height, width), dtype=np.float32)
    for y in range(height):
        top, bottom = max(0, y - radius), min(height, y + radius + 1)
        for x in range(width):
            left, right = max(0, x - radius), min(width, x + radius + 1)
            s, ss = np.float32(0), np.float32(0)
            for r in range(top, bottom):
                for c in range(left, right):
                    g = grey[r, c]
                    s += g
                    ss += g * g
            n = np.float32((bottom - top) * (right - left))
            m = s / n
            mean[y, x] = m
            inverse_std[y, x] = np.float32(1) / np.sqrt(max(ss / n - m * m, np.float32(0)) + np.float32(VARIANCE_FLOOR))
    return mean, inverse_std


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _add_view(grey, mean, inverse_std, other, weight, turn, shift, base, step, radius, total, seen):
    """Add one view's costs to ``total`` (K, H, W) and its weight to ``seen`` where it sees the whole window."""
    count, height, width = total.shape
    size = 2 * radius + 1
    padded = width + 2 * radius
    warped = np.zeros(padded, dtype=np.float32)  # zeros beyond the border add nothing to a window
    own = np.zeros(padded, dtype=np.float32)
    sums = np.zeros((3, size, width), dtype=np.float32)  # a ring of rows, summed along x: other, other^2, other * own
    per_column = np.empty(width, dtype=np.float32)
    for x in range(width):
        per_column[x] = np.float32(1) / np.float32(min(width, x + radius + 1) - max(0, x - radius))
    for k in range(count):
        away = np.float32(step * k)
        sums[:] = 0
        for y in range(height + radius):
            slot = y % size
            if y < height:
                _warp_row(other, turn, shift, base[y], away, np.float32(y) + np.float32(0.5), warped[radius:])
                own[radius : radius + width] = grey[y]
                _sum_along(warped, own, size, sums[0, slot], sums[1, slot], sums[2, slot])
            else:
                sums[:, slot] = 0
            row = y - radius
            if row >= 0:
                per_row = np.float32(1) / np.float32(min(height, row + radius + 1) - max(0, row - radius))
                own_look = (mean[row], inverse_std[row], weight[row])
                _add_row(sums, per_row, per_column, own_look, total[k, row], seen[k, row])


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _warp_row(other, turn, shift, base, away, y, warped):
    """Grey levels (bilinear, minus 128) of the other view at a row of pixels; NaN where it does not see them."""
    height, width = other.shape
    flat = other.ravel()
    ax, ay, az = turn[0, 1] * y + turn[0, 2], turn[1, 1] * y + turn[1, 2], turn[2, 1] * y + turn[2, 2]
    half = np.float32(0.5)
    right, bottom = np.float32(width - 1), np.float32(height - 1)
    for i in range(len(base)):
        x = np.float32(i) + half
        d = base[i] + away
        z = turn[2, 0] * x + az + d * shift[2]
        over = np.float32(1) / z
        u = (turn[0, 0] * x + ax + d * shift[0]) * over - half
        v = (turn[1, 0] * x + ay + d * shift[1]) * over - half
        inside = (z > 0) & (d > 0) & (u >= 0) & (v >= 0) & (u < right) & (v < bottom)
        u = u if inside else np.float32(0)
        v = v if inside else np.float32(0)
        column, row = np.int32(u), np.int32(v)
        fu, fv = u - np.float32(column), v - np.float32(row)
        at = np.uint32(row * width + column)
        below = np.uint32(at + width)
        upper = flat[at] + fu * (flat[at + np.uint32(1)] - flat[at])
        lower = flat[below] + fu * (flat[below + np.uint32(1)] - flat[below])
        value = upper + fv * (lower - upper) - np.float32(128)
        warped[i] = value if inside else np.float32(np.nan)


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _sum_along(warped, own, size, s, ss, so):
    """Sums of other, other^2 and other * own over ``size`` pixels along a row."""
    for x in range(len(s)):
        s[x] = 0
        ss[x] = 0
        so[x] = 0
    for j in range(size):
        for x in range(len(s)):
            value = warped[x + j]
            s[x] += value
            ss[x] += value * value
            so[x] += value * own[x + j]


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _add_row(sums, per_row, per_column, own_look, total, seen):
    mean, inverse_std, weight = own_look
    size = sums.shape[1]
    floor = np.float32(VARIANCE_FLOOR)
    for x in range(len(total)):
        s, ss, so = np.float32(0), np.float32(0), np.float32(0)
        for j in range(size):
            s += sums[0, j, x]
            ss += sums[1, j, x]
            so += sums[2, j, x]
        n = per_row * per_column[x]
        m = s * n
        variance = max(ss * n - m * m, np.float32(0)) + floor
        zncc = (so * n - m * mean[x]) * inverse_std[x] / np.sqrt(variance)
        cost = min(max(np.float32(1) - zncc, np.float32(0)), np.float32(1))
        known = zncc == zncc
        total[x] += weight[x] * cost if known else np.float32(0)
        seen[x] += weight[x] if known else np.float32(0)


@njit(cache=True, nogil=True)
def _average(total, seen, costs):
    count, height, width = total.shape
    for y in range(height):
        for k in range(count):
            for x in range(width):
                n = seen[k, y, x]
                costs[y, x, k] = total[k, y, x] / n if n > 0 else np.float32(1)

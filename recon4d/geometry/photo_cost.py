"""How well a picture looks the same in other views, at every pixel and for every depth on a list: the matching cost.

A plane sweep asks about depths far apart, a refinement about depths close to a surface that is known already: both give
`Labels`, a surface of inverse depth and steps away from it. Windows follow that surface, so that a slanted prior is
matched with slanted windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numba import njit

from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

VARIANCE_FLOOR = 4.0  # grey levels squared: what has less contrast than the camera's noise looks like nothing
LARGEST = 2**24  # pixels of a picture: up to here float32 counts them exactly
CHUNK = 32  # pixels of a row that the compiled loops take at once; what is left over is slow
BLOCK = 16  # labels moved from planes to pixels at once: a line of the cache
NUMERIC = {"contract", "arcp", "nsz"}  # not nnan: NaN marks what a view does not see


class Posed(Protocol):
    """A picture of any kind, as far as it matters where it was taken and with what."""

    @property
    def camera(self) -> Camera: ...

    @property
    def cam_from_world(self) -> Rigid3: ...


@dataclass(frozen=True)
class GreyView:
    """A grey picture and the camera that took it.

    NaN marks pixels nobody wants matched, such as those of a mask: a view does not see anything there.
    """

    grey: np.ndarray  # (H, W) float32, grey levels 0..255 or NaN
    camera: Camera  # of this size
    cam_from_world: Rigid3

    def __post_init__(self) -> None:
        object.__setattr__(self, "grey", np.ascontiguousarray(self.grey, dtype=np.float32))
        if self.grey.shape != self.camera.shape:
            raise ValueError(f"GreyView: the picture is {self.grey.shape}, its camera {self.camera.shape}")
        if self.grey.size > LARGEST:
            raise ValueError(f"GreyView: {self.grey.size} pixels are more than {LARGEST}")


@dataclass(frozen=True)
class Labels:
    """Depths to ask about: inverse depth ``base + k * step`` for k = 0 .. count - 1."""

    base: np.ndarray  # (H, W) float32, inverse scene units
    step: float  # inverse scene units
    count: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", np.ascontiguousarray(self.base, dtype=np.float32))
        if self.base.ndim != 2 or self.count < 1:
            raise ValueError(
                f"Labels: {self.count} labels on a surface {self.base.shape}; (H, W) and at least 1 needed"
            )

    @classmethod
    def sweep(cls, shape: tuple[int, int], near: float, far: float, count: int) -> Labels:
        """Planes parallel to the picture, evenly spaced in inverse depth, from ``far`` (label 0) to ``near``.

        Raises:
            ValueError: not 0 < near < far, or fewer than two planes.
        """
        if not (0 < near < far and count >= 2):
            raise ValueError(f"Labels.sweep: {count} planes from {near} to {far}; two, and 0 < near < far, are needed")
        base = np.full(shape, 1.0 / far, dtype=np.float32)
        return cls(base, (1.0 / near - 1.0 / far) / (count - 1), count)

    @classmethod
    def band(cls, surface: np.ndarray, step: float, count: int) -> Labels:
        """Surfaces beside ``surface`` (H, W) inverse depth, inverse scene units, which is the middle label."""
        return cls((surface - step * (count // 2)).astype(np.float32), step, count)

    def inverse_depth(self, label: np.ndarray) -> np.ndarray:
        """Inverse depth (H, W) of labels (H, W), which may lie between whole ones."""
        return self.base + np.float32(self.step) * label


class _Own(NamedTuple):
    """What is known of the reference picture before another view is asked."""

    padded: np.ndarray  # (H, W + 2 radius) grey levels minus 128, zeros beyond the border
    mean: np.ndarray  # (H, W) of the window
    inverse_std: np.ndarray  # (H, W) of the window
    share: np.ndarray  # (W,) 1 / columns of the window, cut off at the border


class _Other(NamedTuple):
    """A view to compare with; `pixel_warp` says what ``turn`` and ``shift`` are."""

    grey: np.ndarray  # of any size
    turn: np.ndarray  # (3, 3)
    shift: np.ndarray  # (3,)


def photo_costs(reference: GreyView, others: Sequence[GreyView], labels: Labels, radius: int = 2) -> np.ndarray:
    """Matching cost of every pixel and label: 1 - ZNCC over a square window, mean over the views that see it.

    Args:
        reference: (H, W), the picture whose pixels are asked about, without NaN.
        others: views to compare with, of any size from 2 x 2. Where they hold NaN they see nothing.
        labels: (H, W) and K depths.
        radius: of the window, pixels.

    Returns:
        (H, W, K) float32, 0 (the same) .. 1 (unlike); 1 where no other view sees the whole window.

    Raises:
        ValueError: labels do not match the picture, it holds NaN, or a window or a view has too few pixels.

    Source: zero-mean normalised cross-correlation with a floor on the variances, so that flat windows match nothing.
    """
    _check(reference, others, labels, radius)
    height, width = reference.grey.shape
    own = _own(reference.grey, radius)
    views = [_Other(view.grey, *pixel_warp(reference, view)) for view in others]
    window = (0,) * (2 * radius + 1)
    costs = np.empty((height, width, labels.count), dtype=np.float32)
    block = np.empty((min(BLOCK, labels.count), height, width), dtype=np.float32)
    total, seen = np.empty((2, height, width), dtype=np.float32)  # of one label: small enough for the cache
    for first in range(0, labels.count, BLOCK):
        planes = block[: labels.count - first]
        for k, plane in enumerate(planes, first):
            total[:] = seen[:] = 0
            for view in views:
                _add_view(own, view, (labels.base, np.float32(labels.step * k)), window, total, seen)
            plane[:] = 1
            np.divide(total, seen, out=plane, where=seen > 0)
        costs[:, :, first : first + BLOCK] = np.moveaxis(planes, 0, 2)
    return costs


def _check(reference, others, labels, radius):
    shape = reference.grey.shape
    if labels.base.shape != shape:
        raise ValueError(f"photo_costs: the labels are {labels.base.shape}, the picture {shape}")
    if not np.isfinite(reference.grey).all():
        raise ValueError("photo_costs: the picture asked about has pixels that are no number; only others may")
    if radius < 0:
        raise ValueError(f"photo_costs: a window of radius {radius} has no pixel")
    for view in others:
        if min(view.grey.shape) < 2:
            raise ValueError(f"photo_costs: a view of {view.grey.shape} pixels has none to read between")


def _own(grey, radius):
    grey = grey - np.float32(128)  # small numbers, so that their squares stay exact
    mean, inverse_std = _statistics(grey, radius)
    x = np.arange(grey.shape[1])
    columns = np.minimum(x + radius + 1, len(x)) - np.maximum(x - radius, 0)
    padded = np.pad(grey, ((0, 0), (radius, radius)))
    return _Own(padded, mean, inverse_std, (1 / columns).astype(np.float32))


def pixel_warp(reference: Posed, other: Posed) -> tuple[np.ndarray, np.ndarray]:
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


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy")
def _add_view(own, other, depths, window, total, seen):
    """Add one view's costs for one label to ``total`` (H, W), and 1 to ``seen``, where it sees the whole window.

    Rows are warped one after the other; their sums along x wait in a ring until the window's last row is there. Only
    the span of a row that the view sees is worked on: often less than half.

    Args:
        depths: base (H, W) and what the label adds to it, inverse scene units.
        window: a tuple as long as the window is wide; its length is known to the compiler, which unrolls the sums.
    """
    base, away = depths
    height, width = total.shape
    size = len(window)
    radius = size // 2
    place = np.empty(width, dtype=np.int32)
    beyond = np.empty((2, width), dtype=np.float32)
    warped = np.zeros(width + 2 * radius, dtype=np.float32)  # zeros beyond the border add nothing to a window
    ring = np.zeros((3, size, width), dtype=np.float32)  # other, other^2, other * own
    begin, end = np.zeros(size, dtype=np.int64), np.full(size, width)  # the spans of the rows of the ring
    sums = np.empty((3, width), dtype=np.float32)
    for y in range(height + radius):
        slot = y % size
        if y < height:
            _project_row(other, base[y], away, y, place, beyond[0], beyond[1])
            left, right = _span(beyond[0])
            _sample_row(other.grey, place[left:right], beyond[0, left:], beyond[1, left:], warped[left + radius :])
            warped[left : left + radius] = np.float32(0) if left == 0 else np.float32(np.nan)
            warped[right + radius : right + 2 * radius] = np.float32(0) if right == width else np.float32(np.nan)
            begin[slot], end[slot] = left, right
            _sum_along(
                warped[left:],
                own.padded[y, left:],
                window,
                ring[0, slot, left:right],
                ring[1, slot, left:],
                ring[2, slot, left:],
            )
        else:
            ring[:, slot] = 0
            begin[slot], end[slot] = 0, width
        row = y - radius
        first, last = begin.max(), end.min()
        if row < 0 or first >= last:
            continue
        for i in range(3):
            _sum_down(ring[i], np.uint64(first), window, sums[i, : last - first])
        share = np.float32(1) / np.float32(min(height, row + radius + 1) - max(0, row - radius))
        look = (own.mean[row, first:], own.inverse_std[row, first:])
        _add_row(sums, share, own.share[first:], look, total[row, first:last], seen[row, first:last])


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy")
def _project_row(other, base, away, y, place, fu, fv):
    """Where a row of pixels lies in the other view: between the pixel ``place`` of the flat picture and the next ones.

    The fractions are ``fu`` to the right, ``fv`` downwards; ``fu`` is NaN where the view does not see the pixel.
    """
    turn, shift = other.turn, other.shift
    height, width = other.grey.shape
    stride, right, bottom = np.float32(width), np.float32(width - 1), np.float32(height - 1)
    half = np.float32(0.5)
    y = np.float32(y) + half
    ax, ay, az = turn[0, 1] * y + turn[0, 2], turn[1, 1] * y + turn[1, 2], turn[2, 1] * y + turn[2, 2]
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
        column, row = np.floor(u), np.floor(v)
        place[i] = np.int32(row * stride + column)  # whole numbers, see LARGEST
        fu[i] = u - column if inside else np.float32(np.nan)
        fv[i] = v - row


@njit(cache=True, nogil=True)
def _span(values):
    """First and one past the last that is not NaN, widened to multiples of CHUNK; empty where all of it is."""
    left, right = len(values), 0
    for start in range(0, len(values), CHUNK):
        if _any_known(values[start : start + CHUNK]):
            left, right = min(left, start), min(start + CHUNK, len(values))
    return left, max(left, right)


@njit(cache=True, nogil=True)
def _any_known(values):
    count = 0
    for x in range(len(values)):
        count += values[x] == values[x]
    return count > 0


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _sample_row(grey, place, fu, fv, warped):
    """Grey levels (bilinear, minus 128); indices are unsigned, as those below 0 would have to be tested for."""
    flat, width = grey.ravel(), np.uint32(grey.shape[1])
    for i in range(len(place)):
        at = np.uint32(place[i])
        below = np.uint32(at + width)
        upper = flat[at] + fu[i] * (flat[at + np.uint32(1)] - flat[at])
        lower = flat[below] + fu[i] * (flat[below + np.uint32(1)] - flat[below])
        warped[i] = upper + fv[i] * (lower - upper) - np.float32(128)


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _sum_along(warped, own, window, s, ss, so):
    """Sums of other, other^2 and other * own over the window's width."""
    for x in range(len(s)):
        a, b, c = np.float32(0), np.float32(0), np.float32(0)
        for j in range(len(window)):
            value = warped[x + j]
            a += value
            b += value * value
            c += value * own[x + j]
        s[x], ss[x], so[x] = a, b, c


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _sum_down(rows, start, window, sums):
    """Sums of the rows of the ring from column ``start`` on."""
    for x in range(len(sums)):
        s = np.float32(0)
        for j in range(len(window)):
            s += rows[j, start + np.uint64(x)]
        sums[x] = s


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy")
def _add_row(sums, share, shares, look, total, seen):
    mean, inverse_std = look
    floor = np.float32(VARIANCE_FLOOR)
    for x in range(len(total)):
        n = share * shares[x]
        m = sums[0, x] * n
        variance = max(sums[1, x] * n - m * m, np.float32(0)) + floor
        zncc = (sums[2, x] * n - m * mean[x]) * inverse_std[x] / np.sqrt(variance)
        cost = min(max(np.float32(1) - zncc, np.float32(0)), np.float32(1))
        known = zncc == zncc
        total[x] += cost if known else np.float32(0)
        seen[x] += np.float32(1) if known else np.float32(0)

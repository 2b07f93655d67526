"""How a frame at its depth looks in another view, and where that view has its surface: residuals and derivatives.

Unknown is x, the log of inverse depth, of every pixel: an error of scale is then a constant, near and far weigh alike,
depth is positive whatever x, and a pixel's place in another view moves with x by a closed formula.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

HIDDEN = 0.04  # of x: a view that has something so much nearer there does not see the pixel's surface
ONE_SURFACE = 0.04  # of x: four pixels of another view farther apart are of two surfaces
LEAST_AHEAD = 1e-6  # of depth in a view over depth in the frame: less is not in front of it
NUMERIC = {"contract", "arcp", "nsz", "reassoc"}  # not nnan: NaN marks what a view does not see


class Robust(NamedTuple):
    """What residuals of the two terms count."""

    depth: float  # factor on the precision of the other view's depth
    cut: float  # standard deviations beyond which a residual counts little (Geman-McClure)
    noise: float  # variance of x that is added to that of the other view's depth: poses, sampling


def heard(precision: np.ndarray, robust: Robust) -> np.ndarray:
    """Weight of the square of a residual to a view's depth, from 1 / variance of that; -1 where that is 0."""
    some = precision > 0
    weight = robust.depth / (1 / np.where(some, precision, 1) + robust.noise)
    return np.where(some, weight, -1).astype(precision.dtype)


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy", inline="always")
def _bilinear(grid, left, top, a, b):
    """Value between four pixels, and its derivatives to the right and down."""
    p, q = grid[top, left], grid[top, left + 1]
    r, s = grid[top + 1, left], grid[top + 1, left + 1]
    upper, lower = p + a * (q - p), r + a * (s - r)
    return upper + b * (lower - upper), (q - p) + b * ((s - r) - (q - p)), lower - upper


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy")
def land_row(inverse, ahead, pixels, view, known, place, landed, change):
    """Where a row of pixels lies in a view, and how that moves with x.

    Args:
        inverse, ahead: (W,) inverse depth, and depth in the view over depth in the frame (NaN: not in front of it).
        pixels: x (W,) and y of the pixels' centres.
        view: its ``grey``, ``turn`` and ``shift``.
        known: whether (W,) ``visible`` is given: what that says is not seen, is not.
        place: (2, W) int32, written: pixels of the flat picture, up and left of where the pixel lies, and the nearest;
            0 where the view does not have it.
        landed: (2, W), written: how far right of and below the first; NaN where the view does not have it.
        change: (3, W), written: of the place to the right, down, and of log inverse depth.
    """
    columns, y = pixels
    keep, visible = known
    turn, shift = view.turn, view.shift
    one = ahead.dtype.type(1)
    half, zero, unknown = one / 2, one * 0, one * np.float32(np.nan)
    stride, right, bottom = one * view.grey.shape[1], one * (view.grey.shape[1] - 1), one * (view.grey.shape[0] - 1)
    ax, ay = turn[0, 1] * y + turn[0, 2], turn[1, 1] * y + turn[1, 2]
    for i in range(len(columns)):
        over = one / ahead[i]
        u = (turn[0, 0] * columns[i] + ax + inverse[i] * shift[0]) * over
        v = (turn[1, 0] * columns[i] + ay + inverse[i] * shift[1]) * over
        # d(n)/dx = inverse * shift for (u, v, 1) ~ n, so du/dx = inverse * (shift_x - u shift_z) / n_z.
        pace = inverse[i] * over
        change[0, i] = pace * (shift[0] - u * shift[2])
        change[1, i] = pace * (shift[1] - v * shift[2])
        change[2, i] = one - pace * shift[2]
        u, v = u - half, v - half
        inside = (u >= zero) & (v >= zero) & (u < right) & (v < bottom) & ((not keep) | (visible[i] != 0))
        u = u if inside else zero
        v = v if inside else zero
        column, row = np.floor(u), np.floor(v)
        place[0, i] = np.int32(row * stride + column)  # whole numbers, see photo_cost.LARGEST
        place[1, i] = np.int32(np.floor(v + half) * stride + np.floor(u + half))
        landed[0, i] = u - column if inside else unknown
        landed[1, i] = v - row if inside else unknown


@njit(cache=True, nogil=True)
def read_row(grid, place, corners):
    """The four pixels around the place of each pixel of a row, written to ``corners`` (4, W).

    Loops that read here and there are not made parallel by the compiler; all others are.
    """
    flat, width = grid.ravel(), np.uint32(grid.shape[1])
    for i in range(place.shape[1]):
        at = np.uint32(place[0, i])
        below = np.uint32(at + width)
        corners[0, i] = flat[at]
        corners[1, i] = flat[at + np.uint32(1)]
        corners[2, i] = flat[below]
        corners[3, i] = flat[below + np.uint32(1)]


@njit(cache=True, nogil=True)
def read_nearest(grid, place, nearest):
    """The pixel nearest to the place of each of a row, written to ``nearest`` (W,)."""
    flat = grid.ravel()
    for i in range(place.shape[1]):
        nearest[i] = flat[np.uint32(place[1, i])]


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy")
def depth_row(row, view, robust, where, known, sums):
    """Add a row's residuals to a view's depth to (W,) gradient, hessian and count; return their energy.

    Args:
        row: (W,) each: x, log of ``ahead``, and how far each pixel takes part.
        view: its x at the four corners (4, W), and its weight (W,), see `heard`.
        where: ``landed`` and ``change`` as `land_row` has written them.
        known: whether (W,) ``visible`` is given, and that; otherwise it is written.
    """
    x, away, static = row
    corners, heard_with = view
    landed, change = where
    keep, visible = known
    gradient, hessian, counts = sums
    zero, one = x.dtype.type(0), x.dtype.type(1)
    half, hidden_by, one_surface = one / 2, x.dtype.type(HIDDEN), x.dtype.type(ONE_SURFACE)
    cut2 = robust.cut * robust.cut
    energy = zero
    for i in range(len(x)):
        p, q, r, s = corners[0, i], corners[1, i], corners[2, i], corners[3, i]
        a, b = landed[0, i], landed[1, i]
        upper, lower = (q if a >= half else p), (s if a >= half else r)
        nearest = lower if b >= half else upper
        low, high = min(min(p, q), min(r, s)), max(max(p, q), max(r, s))
        whole = (high - low < one_surface) & (p + q + r + s == p + q + r + s)  # False with any NaN
        expected = x[i] - away[i]
        hidden = nearest > expected + hidden_by  # False where the view has no depth
        state = visible[i] if keep else (np.uint8(0) if hidden else np.uint8(3) if whole else np.uint8(1))
        state = state if a == a else np.uint8(0)
        visible[i] = visible[i] if keep else state
        upper, lower = p + a * (q - p), r + a * (s - r)
        found = upper + b * (lower - upper) if whole else nearest
        fx = (q - p) + b * ((s - r) - (q - p)) if whole else zero
        fy = lower - upper if whole else zero
        apart = expected - found
        told = (state >= 2) & (heard_with[i] >= zero) & (static[i] > zero) & (apart == apart)
        apart = apart if told else zero
        moved = change[2, i] - fx * change[0, i] - fy * change[1, i] if told else zero
        weight = static[i] * heard_with[i] if told else zero
        squares = heard_with[i] * apart * apart
        over = cut2 / (cut2 + squares)
        pull = weight * over * over * moved
        hessian[i] += pull * moved
        gradient[i] += pull * apart
        energy += half * weight * apart * apart * over
        counts[i] += one if told & (squares < cut2) else zero
    return energy


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def picture_row(own, corners, landed, change, visible, shown, known):
    """Grey levels (less 128) of the frame, of the view, and the latter's change with x: all 0 where not both are known.

    Args:
        own: (W,) grey levels of the frame.
        corners: (4, W) of the view.
        landed, change: what `land_row` has written.
        visible: (W,) uint8, odd where the picture is seen.
        shown: (3, W), written.
        known: (W,), written: 1 where both are, otherwise 0.
    """
    zero, one = own.dtype.type(0), own.dtype.type(1)
    middle = one * 128
    for i in range(len(own)):
        p, q, r, s = corners[0, i], corners[1, i], corners[2, i], corners[3, i]
        a, b = landed[0, i], landed[1, i]
        upper, lower = p + a * (q - p), r + a * (s - r)
        value = upper + b * (lower - upper)
        slope = ((q - p) + b * ((s - r) - (q - p))) * change[0, i] + (lower - upper) * change[1, i]
        both = (visible[i] & np.uint8(1) != 0) & (value == value) & (own[i] == own[i])
        shown[0, i] = own[i] - middle if both else zero
        shown[1, i] = value - middle if both else zero
        shown[2, i] = slope if both else zero
        known[i] = one if both else zero

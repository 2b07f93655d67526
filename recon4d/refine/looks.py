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
NUMERIC = {"contract", "arcp", "nsz"}  # not nnan: NaN marks what a view does not see


class Robust(NamedTuple):
    """What residuals of the two terms count."""

    depth: float  # factor on the precision of the other view's depth
    cut: float  # standard deviations beyond which a residual counts little (Geman-McClure)
    noise: float  # variance of x that is added to that of the other view's depth: poses, sampling


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy", inline="always")
def _carried(x, column, row, turn, shift):
    """Place (first pixel centre at 0) and log inverse depth in the other view, and how they change with x."""
    fx, fy, d = column + 0.5, row + 0.5, np.exp(x)
    nx = turn[0, 0] * fx + turn[0, 1] * fy + turn[0, 2] + d * shift[0]
    ny = turn[1, 0] * fx + turn[1, 1] * fy + turn[1, 2] + d * shift[1]
    nz = turn[2, 0] * fx + turn[2, 1] * fy + turn[2, 2] + d * shift[2]
    u, v = nx / nz, ny / nz
    # d(n)/dx = d * shift, so du/dx = d * (shift_x - u shift_z) / n_z.
    du, dv = d * (shift[0] - u * shift[2]) / nz, d * (shift[1] - v * shift[2]) / nz
    return u - 0.5, v - 0.5, nz, du, dv, 1.0 - d * shift[2] / nz


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy", inline="always")
def _bilinear(grid, left, top, a, b):
    """Value between four pixels, and its derivatives to the right and down."""
    p, q = grid[top, left], grid[top, left + 1]
    r, s = grid[top + 1, left], grid[top + 1, left + 1]
    upper, lower = p + a * (q - p), r + a * (s - r)
    return upper + b * (lower - upper), (q - p) + b * ((s - r) - (q - p)), lower - upper


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy")
def look(x, static, view, robust, keep, visible, warped, slope, hessian, gradient, counts):
    """Carry a frame into another view: what that shows there, and the term of its depth; return the term's energy.

    Args:
        x: (H, W) log inverse depth, NaN where a pixel has none.
        static: (H, W) 0..1, how far each pixel takes part.
        view: picture (h, w) grey levels or NaN, its own x (h, w) or NaN, 1 / variance of that (h, w), 0 where it is not
            to be listened to, and turn (3, 3), shift (3,) of `pixel_warp`.
        robust: see `Robust`.
        keep: whether ``visible`` is given; otherwise it is found and written. Energies compare only under one of it.
        visible: (H, W) uint8: 1 the picture is seen, 2 the other view's surface is the same one, 3 both.
        warped, slope: (H, W), written: the view's picture at the pixel, NaN where not seen, and its change with x.
        hessian, gradient: (H, W), added to: Gauss-Newton with the weights of the residuals as they are.
        counts: (H, W), 1 added where the view's depth agrees to within the cut.
    """
    picture, other, precision, turn, shift = view
    factor, cut, noise = robust
    height, width = x.shape
    rows, columns = picture.shape
    cut2, zero = cut * cut, x.dtype.type(0)
    energy = 0.0
    for row in range(height):
        for column in range(width):
            here = x[row, column]
            warped[row, column] = np.nan
            slope[row, column] = 0
            if here != here or (keep and visible[row, column] == 0):
                if not keep:
                    visible[row, column] = 0
                continue
            u, v, nz, du, dv, along = _carried(here, column, row, turn, shift)
            if not keep:
                visible[row, column] = 0
            if not (nz > 1e-6 and u >= 0 and v >= 0 and u < columns - 1 and v < rows - 1):
                continue
            left, top = int(u), int(v)
            a, b = u - left, v - top
            expected = here - np.log(nz)
            p, q = other[top, left], other[top, left + 1]
            r, s = other[top + 1, left], other[top + 1, left + 1]
            nearest = other[int(v + 0.5), int(u + 0.5)]
            low, high = min(min(p, q), min(r, s)), max(max(p, q), max(r, s))
            whole = high - low < ONE_SURFACE  # False with any NaN
            found, fx, fy = nearest, zero, zero
            if whole:
                found, fx, fy = _bilinear(other, left, top, a, b)
            if keep:
                state = visible[row, column]
            else:
                hidden = nearest > expected + HIDDEN  # False where it has no depth
                state = 0 if hidden else 1 + 2 * whole
                visible[row, column] = state
            share = static[row, column]
            if state & 1:
                value, gx, gy = _bilinear(picture, left, top, a, b)
                if value == value:
                    warped[row, column] = value
                    slope[row, column] = gx * du + gy * dv
            if state & 2 and share > 0:
                sure = precision[int(v + 0.5), int(u + 0.5)]
                away = expected - found
                if sure > 0 and away == away:
                    sure = factor / (1.0 / sure + noise)
                    change = along - fx * du - fy * dv
                    over = 1.0 / (cut2 + sure * away * away)
                    weight = share * sure * (cut2 * over) * (cut2 * over)
                    hessian[row, column] += weight * change * change
                    gradient[row, column] += weight * change * away
                    energy += share * 0.5 * cut2 * sure * away * away * over
                    counts[row, column] += 1 if sure * away * away < cut2 else 0
    return energy

"""The linear system of one step: pixels with their own data, tied to their neighbours by springs."""

from __future__ import annotations

import numpy as np
from numba import njit

NUMERIC = {"contract", "arcp", "nsz", "reassoc"}


def solve(
    diagonal: np.ndarray,
    right: np.ndarray,
    down: np.ndarray,
    target: np.ndarray,
    tolerance: float = 1e-3,
    rounds: int = 200,
) -> np.ndarray:
    """The grid s with  diagonal * s + L s = target,  L the Laplacian of springs between neighbouring pixels.

    Args:
        diagonal: (H, W) float, >= 0. A pixel with 0 that no spring ties to one with more stays at 0.
        right, down: (H, W) float, >= 0, strength of the spring to the next pixel; that of the last column or row is
            not read.
        target: (H, W) float.
        tolerance: of the residual, relative to the target's.
        rounds: of conjugate gradients, at most.

    Source: conjugate gradients with the diagonal as preconditioner (Golub and Van Loan, section 11.5).
    """
    return _conjugate_gradients(diagonal, right, down, target, tolerance, rounds)


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy")
def _conjugate_gradients(diagonal, right, down, target, tolerance, rounds):
    height, width = diagonal.shape
    step = np.zeros_like(target)
    scale = np.empty_like(target)
    for y in range(height):
        for x in range(width):
            whole = diagonal[y, x]
            if x > 0:
                whole += right[y, x - 1]
            if x < width - 1:
                whole += right[y, x]
            if y > 0:
                whole += down[y - 1, x]
            if y < height - 1:
                whole += down[y, x]
            scale[y, x] = 1 / whole if whole > 0 else 0
    residual = target.copy()
    way = residual * scale
    image = np.empty_like(target)
    power = _dot3(residual, scale, residual)
    enough = tolerance * tolerance * power
    for _ in range(rounds):
        if not power > enough:
            break
        _apply(diagonal, right, down, way, image)
        bend = _dot(way, image)
        if not bend > 0:
            break
        pace = power / bend
        _advance(step, residual, way, image, target.dtype.type(pace))
        before, power = power, _dot3(residual, scale, residual)
        _turn(way, residual, scale, target.dtype.type(power / before))
    return step


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _apply(diagonal, right, down, values, out):
    height, width = values.shape
    for y in range(height):
        for x in range(width):
            out[y, x] = diagonal[y, x] * values[y, x]
        for x in range(width - 1):
            pull = right[y, x] * (values[y, x] - values[y, x + 1])
            out[y, x] += pull
            out[y, x + 1] -= pull
    for y in range(height - 1):
        for x in range(width):
            pull = down[y, x] * (values[y, x] - values[y + 1, x])
            out[y, x] += pull
            out[y + 1, x] -= pull


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _dot(a, b):
    total = 0.0
    for y in range(a.shape[0]):
        row = a.dtype.type(0)
        for x in range(a.shape[1]):
            row += a[y, x] * b[y, x]
        total += row
    return total


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _dot3(a, b, c):
    total = 0.0
    for y in range(a.shape[0]):
        row = a.dtype.type(0)
        for x in range(a.shape[1]):
            row += a[y, x] * b[y, x] * c[y, x]
        total += row
    return total


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _advance(step, residual, way, image, pace):
    for y in range(step.shape[0]):
        for x in range(step.shape[1]):
            step[y, x] += pace * way[y, x]
            residual[y, x] -= pace * image[y, x]


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _turn(way, residual, scale, share):
    for y in range(way.shape[0]):
        for x in range(way.shape[1]):
            way[y, x] = scale[y, x] * residual[y, x] + share * way[y, x]

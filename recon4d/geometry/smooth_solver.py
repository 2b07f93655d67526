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
    kind = target.dtype
    # Measured in units of 1 / root of its diagonal, the matrix has ones there: nothing is left of the preconditioner.
    root, across, below = _scaled(diagonal, right, down)
    step, residual = np.zeros_like(target), target * root
    way, image = np.zeros((height + 2, width + 2), dtype=kind), np.empty_like(target)
    share, power = kind.type(0), 0.0
    for y in range(height):
        power += _square(residual[y])
    enough = tolerance * tolerance * power
    for _ in range(rounds):
        if not power > enough:
            break
        bend = 0.0
        _turn(way[1, 1:], residual[0], share)
        for y in range(height):
            if y + 1 < height:
                _turn(way[y + 2, 1:], residual[y + 1], share)
            springs = across[y], across[y, 1:], below[y], below[y + 1]
            bend += _apply(springs, way[y], way[y + 1], way[y + 2], image[y])
        if not bend > 0:
            break
        pace = kind.type(power / bend)
        before, power = power, 0.0
        for y in range(height):
            power += _advance(step[y], residual[y], way[y + 1, 1:], image[y], pace)
        share = kind.type(power / before)
    return step * root


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy")
def _scaled(diagonal, right, down):
    """1 / root of the matrix's diagonal, and springs to the left and above in units of it.

    Borders of springs without strength spare the loops the question where the picture ends.
    """
    height, width = diagonal.shape
    kind = diagonal.dtype
    across, below = np.zeros((height, width + 1), dtype=kind), np.zeros((height + 1, width), dtype=kind)
    across[:, 1:width] = right[:, : width - 1]
    below[1:height] = down[: height - 1]
    root = np.empty_like(diagonal)
    for y in range(height):
        for x in range(width):
            whole = diagonal[y, x] + across[y, x] + across[y, x + 1] + below[y, x] + below[y + 1, x]
            root[y, x] = 1 / np.sqrt(whole) if whole > 0 else 0
    for y in range(height):
        for x in range(1, width):
            across[y, x] *= root[y, x - 1] * root[y, x]
        if y > 0:
            for x in range(width):
                below[y, x] *= root[y - 1, x] * root[y, x]
    return root, across, below


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _square(row):
    total = row.dtype.type(0)
    for x in range(len(row)):
        total += row[x] * row[x]
    return total


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _turn(way, residual, share):
    for x in range(len(residual)):
        way[x] = residual[x] + share * way[x]


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _apply(springs, above, way, below, image):
    """A row of the system's matrix times ``way``, rows of which begin a pixel further left; returns way . image."""
    to_left, to_right, to_above, to_below = springs
    total = image.dtype.type(0)
    for x in range(len(image)):
        here = way[x + 1]
        value = here - to_left[x] * way[x] - to_right[x] * way[x + 2]
        value -= to_above[x] * above[x + 1] + to_below[x] * below[x + 1]
        image[x] = value
        total += here * value
    return total


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _advance(step, residual, way, image, pace):
    """One step along ``way``; returns the square of what is left of the residual."""
    total = step.dtype.type(0)
    for x in range(len(step)):
        step[x] += pace * way[x]
        left = residual[x] - pace * image[x]
        residual[x] = left
        total += left * left
    return total

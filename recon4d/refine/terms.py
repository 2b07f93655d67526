"""The terms of a frame's energy that need no other view: what is known of its depth, and the shape of its prior."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

NUMERIC = {"contract", "arcp", "nsz"}
RANGE = 2.0  # of x: a mistaken opinion is anywhere in there


@dataclass(frozen=True)
class Opinion:
    """What something else says of a frame's depth: a stereo match, a sensor, sparse points, other frames."""

    x: np.ndarray  # (H, W) float, log inverse depth
    sigma: np.ndarray  # (H, W) float, standard deviation of x where it is no mistake
    chance: np.ndarray  # (H, W) float, 0..1: that it is none; 0 where nothing is said


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy")
def opine(x, opinion, share, hessian, gradient):
    """Add an opinion's term at ``x`` to the sums of every pixel; return its energy.

    The energy of a pixel is that of a mixture, -log(p exp(-s^2 / 2) + (1 - p) k), with s the difference in standard
    deviations and k what a mistake spread over `RANGE` has there, less its value at s = 0. Far opinions do not pull.

    Args:
        opinion: x, sigma, chance of an `Opinion`.
        share: of a pixel's word that is its own: neighbours err together.
    """
    said, sigma, chance = opinion
    height, width = x.shape
    total = 0.0
    for row in range(height):
        for column in range(width):
            p, here = chance[row, column], x[row, column]
            if not (p > 0) or here != here:
                continue
            size = sigma[row, column]
            away = (here - said[row, column]) / size
            mistake = (1 - p) * size * math.sqrt(2 * math.pi) / RANGE
            right = p * math.exp(-0.5 * away * away)
            weight = share * right / (right + mistake) / (size * size)
            hessian[row, column] += weight
            gradient[row, column] += weight * (here - said[row, column])
            total += share * (math.log(p + mistake) - math.log(right + mistake))
    return total


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy")
def springs(delta, right, down, jump, right_now, down_now, gradient):
    """Strength of the springs at ``delta`` (robust), their pull added to ``gradient``; return their energy.

    The energy of a spring of strength k stretched by s is  k c^2 s^2 / (2 (c^2 + s^2)): beyond c = ``jump`` it gives
    way, as it must where the prior has a ramp and the truth a step.

    Args:
        delta: (H, W) x minus the prior's, NaN where there is none.
        right, down: (H, W) strength of the springs to the next pixel, 0 where cut.
        right_now, down_now: (H, W), written: strength under the robust weight.
    """
    height, width = delta.shape
    c2 = jump * jump
    total = 0.0
    for row in range(height):
        for column in range(width):
            right_now[row, column] = 0
            down_now[row, column] = 0
            here = delta[row, column]
            if column < width - 1 and right[row, column] > 0:
                s = here - delta[row, column + 1]
                if s == s:
                    over = c2 / (c2 + s * s)
                    k = right[row, column] * over * over
                    right_now[row, column] = k
                    gradient[row, column] += k * s
                    gradient[row, column + 1] -= k * s
                    total += 0.5 * right[row, column] * s * s * over
            if row < height - 1 and down[row, column] > 0:
                s = here - delta[row + 1, column]
                if s == s:
                    over = c2 / (c2 + s * s)
                    k = down[row, column] * over * over
                    down_now[row, column] = k
                    gradient[row, column] += k * s
                    gradient[row + 1, column] -= k * s
                    total += 0.5 * down[row, column] * s * s * over
    return total

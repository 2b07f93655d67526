"""Semi-global matching: a cost per pixel and label becomes a surface that changes little but jumps where it must."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

MARGIN_SKIP = 2  # labels next to the best one do not count as another answer
NUMERIC = {"contract", "arcp", "nsz", "nnan", "ninf"}


@dataclass(frozen=True)
class Smoothness:
    """What changes between neighbouring pixels cost, in units of the matching cost (0..1)."""

    small: float  # one label
    large: float  # more; divided by 1 + |grey step| / edge
    edge: float  # grey levels


@dataclass(frozen=True)
class Choice:
    """The best label of every pixel."""

    label: np.ndarray  # (H, W) float32, sub-label by a parabola
    margin: np.ndarray  # (H, W) float32: how much worse the best other answer is, summed over the eight paths


def semi_global(costs: np.ndarray, grey: np.ndarray, smoothness: Smoothness) -> Choice:
    """Minimise cost plus smoothness along eight paths to each pixel.

    Args:
        costs: (H, W, K) float32, 0..1, two labels or more.
        grey: (H, W) float32, finite grey levels; jumps cost less where it has edges.

    Returns:
        Labels and margins; a margin is infinite where every label is next to the best one.

    Raises:
        ValueError: shapes that do not match, or fewer than two labels.

    Source: Hirschmueller, Stereo processing by semiglobal matching and mutual information, PAMI 2008, eq. 13 to 15.
    """
    if costs.ndim != 3 or costs.shape[2] < 2:
        raise ValueError(f"semi_global: costs are {costs.shape}; (H, W, K) with K of at least 2 is needed")
    shape = costs.shape[:2]
    if grey.shape != shape:
        raise ValueError(f"semi_global: the picture is {grey.shape}, the costs are of {shape} pixels")
    costs, grey = (np.ascontiguousarray(values, dtype=np.float32) for values in (costs, grey))
    total = np.zeros_like(costs)
    settings = (np.float32(smoothness.small), np.float32(smoothness.large), np.float32(smoothness.edge))
    _paths(costs, grey, settings, 1, total)
    _paths(costs, grey, settings, -1, total)
    label, margin = _choose(total)
    return Choice(label, margin)


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _paths(costs, grey, settings, way, total):
    """Four of the eight paths: from the pixel before in the row, and the three in the row before (after, for -1)."""
    height, width, count = costs.shape
    small, large, edge = settings
    before = np.zeros((3, width, count), dtype=np.float32)  # the row before, one plane per direction
    now = np.zeros((3, width, count), dtype=np.float32)
    lowest_before = np.zeros((3, width), dtype=np.float32)
    lowest_now = np.zeros((3, width), dtype=np.float32)
    along = np.zeros((2, count), dtype=np.float32)  # within the row
    for step in range(height):
        y = step if way > 0 else height - 1 - step
        first = 0 if way > 0 else width - 1
        lowest_along = np.float32(0)
        for i in range(width):
            x = first + way * i
            cost, out = costs[y, x], total[y, x]
            source, target = along[i % 2], along[(i + 1) % 2]
            if i == 0:
                lowest_along = _start(cost, target, out)
            else:
                jump = large / (np.float32(1) + abs(grey[y, x] - grey[y, x - way]) / edge)
                lowest_along = _extend(cost, source, lowest_along, small, max(jump, small), target, out)
            for direction in range(3):
                column = x - way * (direction - 1)
                if step == 0 or column < 0 or column >= width:
                    lowest_now[direction, x] = _start(cost, now[direction, x], out)
                else:
                    jump = large / (np.float32(1) + abs(grey[y, x] - grey[y - way, column]) / edge)
                    lowest_now[direction, x] = _extend(
                        cost,
                        before[direction, column],
                        lowest_before[direction, column],
                        small,
                        max(jump, small),
                        now[direction, x],
                        out,
                    )
        before, now = now, before
        lowest_before, lowest_now = lowest_now, lowest_before


@njit(cache=True, nogil=True, fastmath=NUMERIC, inline="always")
def _start(cost, target, out):
    lowest = np.float32(1e30)
    for k in range(len(cost)):
        value = cost[k]
        target[k] = value
        out[k] += value
        lowest = min(lowest, value)
    return lowest


@njit(cache=True, nogil=True, fastmath=NUMERIC, inline="always")
def _extend(cost, source, lowest_source, small, jump, target, out):
    """One step along a path (eq. 13); what is the same for all labels is taken off, so that sums stay small."""
    count = len(cost)
    ceiling = lowest_source + jump
    last = count - 1
    target[0] = cost[0] + min(min(source[0], source[1] + small), ceiling) - lowest_source
    target[last] = cost[last] + min(min(source[last], source[last - 1] + small), ceiling) - lowest_source
    for k in range(1, last):
        best = min(min(source[k], min(source[k - 1], source[k + 1]) + small), ceiling)
        target[k] = cost[k] + best - lowest_source
    lowest = np.float32(1e30)
    for k in range(count):
        value = target[k]
        out[k] += value
        lowest = min(lowest, value)
    return lowest


@njit(cache=True, nogil=True)
def _choose(total):
    height, width, count = total.shape
    label = np.empty((height, width), dtype=np.float32)
    margin = np.empty((height, width), dtype=np.float32)
    for y in range(height):
        for x in range(width):
            sums = total[y, x]
            best = 0
            for k in range(1, count):
                if sums[k] < sums[best]:
                    best = k
            second = np.float32(np.inf)
            for k in range(count):
                if abs(k - best) > MARGIN_SKIP and sums[k] < second:
                    second = sums[k]
            margin[y, x] = second - sums[best]
            offset = np.float32(0)
            if 0 < best < count - 1:
                bend = sums[best - 1] - 2 * sums[best] + sums[best + 1]
                if bend > 0:
                    offset = np.float32(0.5) * (sums[best - 1] - sums[best + 1]) / bend
            label[y, x] = best + offset
    return label, margin

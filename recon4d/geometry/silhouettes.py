"""Depth steps put where the picture changes: matching windows make what is near a little too large."""

from __future__ import annotations

import numpy as np
from numba import njit

STEP = 1.05  # ratio of inverse depth between neighbouring pixels
DOUBTED_PX = 2.5  # so close to a step, depth is that of a window as often as the pixel's own
MOVED_PX = 3.0  # so far from a step, pixels may change sides
REACH_PX = 6  # where they look for what they belong to
SPREAD_PX = 4.0
COLOUR = 20.0  # grey levels, all channels together, over which likeness falls to 1 / e
DOUBTED_WEIGHT = 0.1
NUMERIC = {"contract", "arcp", "nsz"}


def snapped_to_picture(inverse_depth: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """Depth in which pixels close to a step belong to the side whose colour they have.

    Args:
        inverse_depth: (H, W) float32 > 0.
        rgb: (H, W, 3) uint8.

    Returns:
        (H, W) float32: near steps the weighted median of the surroundings, weights by likeness of colour, distance and
        distance from the step; elsewhere unchanged.

    Source: Ma et al., Constant time weighted median filtering for stereo matching and beyond, ICCV 2013 (the weights).
    """
    import cv2

    distance = distance_to_step(inverse_depth)
    weight = np.where(distance > DOUBTED_PX, np.float32(1), np.float32(DOUBTED_WEIGHT))
    picture = cv2.GaussianBlur(rgb, (0, 0), 0.7).astype(np.float32)
    return _snap(np.ascontiguousarray(inverse_depth), picture, distance <= MOVED_PX, weight)


def distance_to_step(inverse_depth: np.ndarray) -> np.ndarray:
    """(H, W) float32: pixels from each pixel to the nearest depth step."""
    import cv2

    window = np.ones((3, 3), dtype=np.uint8)
    flat = cv2.dilate(inverse_depth, window) <= STEP * cv2.erode(inverse_depth, window)
    if flat.all():
        return np.full(inverse_depth.shape, np.inf, dtype=np.float32)
    return cv2.distanceTransform(flat.astype(np.uint8), cv2.DIST_L2, 3)


@njit(cache=True, nogil=True, fastmath=NUMERIC)
def _snap(inverse_depth, picture, moved, weight):
    height, width = inverse_depth.shape
    out = inverse_depth.copy()
    values = np.empty((2 * REACH_PX + 1) ** 2, dtype=np.float32)
    weights = np.empty_like(values)
    for y in range(height):
        for x in range(width):
            if not moved[y, x]:
                continue
            n, total = 0, np.float32(0)
            for row in range(max(0, y - REACH_PX), min(height, y + REACH_PX + 1)):
                for column in range(max(0, x - REACH_PX), min(width, x + REACH_PX + 1)):
                    unlike = np.float32(0)
                    for channel in range(3):
                        unlike += abs(picture[row, column, channel] - picture[y, x, channel])
                    away = np.float32((row - y) ** 2 + (column - x) ** 2)
                    likeness = np.exp(-unlike / np.float32(COLOUR) - away / np.float32(2 * SPREAD_PX**2))
                    values[n] = inverse_depth[row, column]
                    weights[n] = likeness * weight[row, column]
                    total += weights[n]
                    n += 1
            reached = np.float32(0)
            for k in np.argsort(values[:n]):
                reached += weights[k]
                if reached >= np.float32(0.5) * total:
                    out[y, x] = values[k]
                    break
    return out

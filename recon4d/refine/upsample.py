"""From the working size to the picture's: steps go where the fine picture has them, relief stays that of the prior."""

from __future__ import annotations

import numpy as np
from numba import njit

ONE_SURFACE = 0.03  # of log inverse depth: four coarse pixels farther apart are of two surfaces
DETAIL = 0.03  # of log inverse depth: as far the fine prior may differ from its coarse pixels to be taken for relief
COLOR_SIGMA = 12.0  # grey levels, mean of the channels
NUMERIC = {"contract", "arcp", "nsz"}


def upsample(
    x: np.ndarray, values: np.ndarray, coarse: tuple[np.ndarray, np.ndarray], fine: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Log inverse depth, and something that goes with it, on the fine grid.

    A fine pixel lies between four coarse ones. Are they of two surfaces, it goes with those of its own colour. To their
    mean is added what the fine prior differs from the coarse one there: relief too fine for the working size.

    Args:
        x: (h, w) float32, NaN where there is none.
        values: (h, w) float32, taken over with the same weights.
        coarse: prior (h, w) float32 log inverse depth, and picture (h, w, 3) uint8.
        fine: the same of the picture's own size (H, W).

    Returns:
        x and values, (H, W) float32; NaN where none of the coarse pixels has depth.
    """
    prior, rgb = coarse
    fine_prior, fine_rgb = fine
    out, carried = np.empty_like(fine_prior), np.empty_like(fine_prior)
    _upsample(x, values, prior, rgb, fine_prior, fine_rgb, out, carried)
    return out, carried


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy")
def _upsample(x, values, prior, rgb, fine_prior, fine_rgb, out, carried):
    height, width = x.shape
    rows, columns = out.shape
    depth, detail, extra, weight = np.empty(4), np.empty(4), np.empty(4), np.empty(4)
    for row in range(rows):
        v = min(max((row + 0.5) * height / rows - 0.5, 0.0), height - 1.0)
        top = min(int(v), max(height - 2, 0))
        for column in range(columns):
            u = min(max((column + 0.5) * width / columns - 0.5, 0.0), width - 1.0)
            left = min(int(u), max(width - 2, 0))
            a, b = u - left, v - top
            best, best_weight = 0, -1.0
            for k in range(4):
                y, c = min(top + k // 2, height - 1), min(left + k % 2, width - 1)
                weight[k] = 0.0
                if x[y, c] != x[y, c]:
                    continue
                depth[k], extra[k] = x[y, c], values[y, c]
                away = 0.0
                for channel in range(3):
                    away += abs(np.float64(rgb[y, c, channel]) - np.float64(fine_rgb[row, column, channel])) / 3
                place = (a if k % 2 else 1 - a) * (b if k // 2 else 1 - b)
                weight[k] = (place + 1e-3) * np.exp(-0.5 * (away / COLOR_SIGMA) ** 2) + 1e-9
                relief = fine_prior[row, column] - prior[y, c]
                detail[k] = relief if abs(relief) < DETAIL else np.nan
                if weight[k] > best_weight:
                    best, best_weight = k, weight[k]
            if best_weight < 0:
                out[row, column] = carried[row, column] = np.nan
                continue
            total, mean, other, fine_total, fine_mean = 0.0, 0.0, 0.0, 0.0, 0.0
            for k in range(4):
                if weight[k] > 0 and abs(depth[k] - depth[best]) < ONE_SURFACE:
                    # Colour has chosen the surface; on it the place alone counts, so that a plane stays one.
                    place = (a if k % 2 else 1 - a) * (b if k // 2 else 1 - b) + 1e-6
                    total += place
                    mean += place * depth[k]
                    other += place * extra[k]
                    if detail[k] == detail[k]:
                        fine_total += place
                        fine_mean += place * (depth[k] + detail[k])
            out[row, column] = fine_mean / fine_total if fine_total > 0 else mean / total
            carried[row, column] = other / total

"""The prior's surface as springs between pixels: strong along surfaces, weak where the depth or the picture steps."""

from __future__ import annotations

import numpy as np

from recon4d.geometry.resample import resize_grid
from recon4d.scene.depth import SceneDepth

DEPTH_STEP = 0.03  # of log inverse depth: a change of the prior from pixel to pixel that makes a silhouette likely
COLOR_STEP = 10.0  # grey levels, mean of the channels
STEP_APART = 0.02  # relative, from the mean of four pixels to the nearest of them
LEAST_BY_DEPTH, LEAST_BY_COLOR = 1e-3, 0.1  # what is left of a spring


def prior_springs(x: np.ndarray, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Strength 0..1 of the springs to the next pixel on the right and below, (H, W) float32 each.

    Args:
        x: (H, W) log inverse depth of the prior, NaN where it has none: no spring ends there.
        rgb: (H, W, 3) uint8.
    """
    import cv2

    # Blocks of compression look like edges in a plain wall; this takes them out and leaves the real ones.
    calm = cv2.bilateralFilter(rgb, 7, 25, 3).astype(np.float32)
    right, down = np.zeros_like(x, dtype=np.float32), np.zeros_like(x, dtype=np.float32)
    right[:, :-1] = _strength(x[:, 1:] - x[:, :-1], calm[:, 1:] - calm[:, :-1])
    down[:-1] = _strength(x[1:] - x[:-1], calm[1:] - calm[:-1])
    return right, down


def _strength(step: np.ndarray, color_step: np.ndarray) -> np.ndarray:
    by_depth = np.exp(-np.abs(step) / DEPTH_STEP) + LEAST_BY_DEPTH
    by_color = np.exp(-np.abs(color_step).mean(axis=-1) / COLOR_STEP) + LEAST_BY_COLOR
    return np.nan_to_num(by_depth * by_color)


def prior_at(surface: SceneDepth, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """A frame's prior at the working size: log inverse depth, NaN where there is none, and its standard deviation.

    Between four pixels of one surface lies their mean (of inverse depth), at a step the nearest of them: a mean of two
    surfaces is on none.
    """
    valid = surface.valid
    inverse = np.where(valid, 1 / np.where(valid, surface.depth, 1), 0).astype(np.float32)
    between, known = resize_grid(inverse, valid, width, height)
    row, column = (np.arange(n) * size // n + size // n // 2 for n, size in zip((height, width), valid.shape))
    cell = np.ix_(row, column)
    nearest, relative = inverse[cell], (surface.sigma * inverse)[cell]
    known &= valid[cell]
    away = np.abs(between - nearest) > STEP_APART * nearest
    chosen = np.where(away, nearest, between)
    x = np.where(known, np.log(np.where(known, chosen, 1)), np.nan).astype(np.float32)
    return x, np.where(known, relative, np.float32(1))

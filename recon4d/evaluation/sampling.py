"""Looking up one grid at positions of another, without inventing values at holes and silhouettes."""

from __future__ import annotations

import numpy as np

from recon4d.geometry.resample import sample_grid


def sample_whole(values: np.ndarray, valid: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bilinear values (float32), valid only where all four neighbours are (`sample_grid` takes the nearest there).

    Args:
        values: (H, W) float.
        valid: (H, W) bool.
        x, y: any one shape, pixels, first pixel centre (0.5, 0.5).
    """
    sampled, inside = sample_grid(values, valid, x, y)
    share, _ = sample_grid(valid.astype(np.float32), np.ones_like(valid), x, y)
    return sampled, inside & (share > 0.999)


def on_grid(values: np.ndarray, valid: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The same picture on (H, W) = ``shape`` pixels, by `sample_whole`; unchanged when the size is the same."""
    if values.shape == shape:
        return values, valid
    x = (np.arange(shape[1]) + 0.5) * (values.shape[1] / shape[1])
    y = (np.arange(shape[0]) + 0.5) * (values.shape[0] / shape[0])
    return sample_whole(values, valid, *np.meshgrid(x, y))


def nearest_at(values: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Values of the pixels (H, W, ...) that positions fall into; 0 for positions outside. ``x``, ``y``: pixels."""
    with np.errstate(invalid="ignore"):
        inside = (x >= 0) & (y >= 0) & (x < values.shape[1]) & (y < values.shape[0])
    column, row = np.where(inside, x, 0).astype(int), np.where(inside, y, 0).astype(int)
    found = values[row, column]
    found[~inside] = 0
    return found

"""Filling a picture of numbers smoothly from the pixels that are known, coarse to fine."""

from __future__ import annotations

import numba
import numpy as np

SWEEPS = 8  # of relaxation per level: with them the result is the membrane to about a percent of its range


def push_pull(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Numbers for all pixels: the known ones as they are, the others as a membrane hung between them.

    A linear ramp goes on exactly through holes within it, and no number leaves the range of the known ones. At the
    picture's border the membrane is free.

    Args:
        values: (H, W) float; what is not known is not read.
        known: (H, W) bool.

    Returns:
        (H, W) float32.

    Raises:
        ValueError: nothing is known.

    Source: the pyramid of Gortler et al., The Lumigraph, SIGGRAPH 1996, section 3.5; here relaxed at each level
    (Gauss-Seidel with over-relaxation on Laplace's equation), for a bare pyramid leaves steps.
    """
    if not known.any():
        raise ValueError("push_pull: no pixel is known")
    return _filled(np.where(known, values, 0).astype(np.float32), np.ascontiguousarray(known))


def _filled(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    if known.all():
        return values
    height, width = values.shape
    if max(height, width) == 1:
        return values
    coarse = _filled(*_halved(values, known))
    out = _doubled(coarse, height, width)
    out[known] = values[known]
    low, high = values[known].min(), values[known].max()
    _relax(out, known, SWEEPS, 4 * (height + width) if height * width <= 1024 else SWEEPS, low, high)
    return out


def _halved(values: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of the known of 2x2 pixels, and where there are any."""
    height, width = values.shape
    pad = ((0, height % 2), (0, width % 2))
    weight = np.pad(known, pad).astype(np.float32)
    total = np.pad(values, pad) * weight
    blocks = [a[0::2, 0::2] + a[0::2, 1::2] + a[1::2, 0::2] + a[1::2, 1::2] for a in (total, weight)]
    seen = blocks[1] > 0
    return np.where(seen, blocks[0] / np.maximum(blocks[1], 1), 0).astype(np.float32), seen


def _doubled(coarse: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear between the centres of 2x2 pixels."""
    for axis, size in ((0, height), (1, width)):
        place = (np.arange(size) + 0.5) / 2 - 0.5
        low = np.clip(np.floor(place).astype(int), 0, max(coarse.shape[axis] - 2, 0))
        high = np.minimum(low + 1, coarse.shape[axis] - 1)
        share = np.clip(place - low, 0, 1).astype(np.float32)
        share = share[:, None] if axis == 0 else share
        coarse = np.take(coarse, low, axis) * (1 - share) + np.take(coarse, high, axis) * share
    return np.ascontiguousarray(coarse, dtype=np.float32)


@numba.njit(cache=True, nogil=True)
def _relax(out, known, least, most, low, high):
    """Bring unknown pixels to the mean of their neighbours; at least and at most so many sweeps."""
    height, width = out.shape
    for sweep in range(max(least, most)):
        change = np.float32(0.0)
        for colour in range(2):
            for y in range(height):
                for x in range((y + colour) % 2, width, 2):
                    if known[y, x]:
                        continue
                    total, count = np.float32(0.0), 0
                    if y > 0:
                        total += out[y - 1, x]
                        count += 1
                    if y < height - 1:
                        total += out[y + 1, x]
                        count += 1
                    if x > 0:
                        total += out[y, x - 1]
                        count += 1
                    if x < width - 1:
                        total += out[y, x + 1]
                        count += 1
                    step = np.float32(1.3) * (total / count - out[y, x])
                    new = min(max(out[y, x] + step, low), high)
                    change = max(change, abs(new - out[y, x]))
                    out[y, x] = new
        if sweep + 1 >= least and change <= np.float32(1e-6) * max(abs(low), abs(high)):
            break

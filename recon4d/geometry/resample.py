"""Reading a grid between its pixels. Positions are (x, y) with the first pixel centre at (0.5, 0.5)."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

MANY = 100_000  # positions, from which several threads pay


def sample_grid(values: np.ndarray, valid: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values of a grid at positions: bilinear where all four neighbours are valid, else the nearest pixel.

    Args:
        values: (H, W) float.
        valid: (H, W) bool.
        x, y: any one shape, pixels. Positions outside the grid are not valid; the outer half pixel repeats the border.

    Returns:
        values (float32) and valid (bool), shaped like ``x``; 0 where not valid.
    """
    x = np.ascontiguousarray(x, dtype=np.float32)
    out = np.zeros(x.size, dtype=np.float32)
    out_valid = np.zeros(x.size, dtype=np.bool_)
    # Waking the threads costs a millisecond or more on a busy machine.
    sample = _sample_many if x.size > MANY else _sample_few
    sample(
        np.ascontiguousarray(values, dtype=np.float32),
        np.ascontiguousarray(valid, dtype=np.bool_),
        x.ravel(),
        np.ascontiguousarray(y, dtype=np.float32).ravel(),
        out,
        out_valid,
    )
    return out.reshape(x.shape), out_valid.reshape(x.shape)


def resize_grid(values: np.ndarray, valid: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """The same picture on ``width`` x ``height`` pixels, by `sample_grid`; unchanged when the size is the same."""
    if values.shape == (height, width):
        return np.asarray(values, dtype=np.float32), np.asarray(valid, dtype=bool)
    x = (np.arange(width, dtype=np.float32) + 0.5) * (values.shape[1] / width)
    y = (np.arange(height, dtype=np.float32) + 0.5) * (values.shape[0] / height)
    grid_x, grid_y = np.meshgrid(x, y)
    return sample_grid(values, valid, grid_x, grid_y)


# Two kernels about one body: numba's cache takes two dispatchers of one function for the same code.
@njit(cache=True, nogil=True)
def _sample_few(values, valid, x, y, out, out_valid):
    for i in range(x.size):
        _sample_at(i, values, valid, x, y, out, out_valid)


@njit(parallel=True, cache=True)
def _sample_many(values, valid, x, y, out, out_valid):
    for i in prange(x.size):
        _sample_at(i, values, valid, x, y, out, out_valid)


@njit(cache=True, nogil=True, inline="always")
def _sample_at(i, values, valid, x, y, out, out_valid):
    height, width = values.shape
    if not (x[i] >= 0.0 and x[i] <= width and y[i] >= 0.0 and y[i] <= height):  # also drops NaN
        return
    u = min(max(x[i] - np.float32(0.5), np.float32(0.0)), np.float32(width - 1))
    v = min(max(y[i] - np.float32(0.5), np.float32(0.0)), np.float32(height - 1))
    x0, y0 = int(u), int(v)
    x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
    a, b = u - np.float32(x0), v - np.float32(y0)
    if valid[y0, x0] and valid[y0, x1] and valid[y1, x0] and valid[y1, x1]:
        top = values[y0, x0] + a * (values[y0, x1] - values[y0, x0])
        bottom = values[y1, x0] + a * (values[y1, x1] - values[y1, x0])
        out[i] = top + b * (bottom - top)
        out_valid[i] = True
    else:
        xn, yn = x1 if a > 0.5 else x0, y1 if b > 0.5 else y0
        if valid[yn, xn]:
            out[i] = values[yn, xn]
            out_valid[i] = True

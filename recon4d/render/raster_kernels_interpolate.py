"""Attributes of vertices at pixels and their gradients, and sums that do not depend on the number of threads."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def interpolate(attr, rast, tri, first, last, out):
    """u a_0 + v a_1 + (1 - u - v) a_2 of ``attr`` (V, A) in rows ``first`` to ``last``."""
    width, channels = out.shape[1:]
    count = np.uint32(len(attr))
    for row in range(first, last):
        for column in range(width):
            t = np.int64(rast[row, column, 3]) - 1
            i = j = k = count
            if 0 <= t < len(tri):
                i, j, k = np.uint32(tri[t, 0]), np.uint32(tri[t, 1]), np.uint32(tri[t, 2])
            if i >= count or j >= count or k >= count:
                out[row, column] = 0
                continue
            u, v = rast[row, column, 0], rast[row, column, 1]
            for c in range(channels):
                last_one = attr[k, c]
                out[row, column, c] = last_one + u * (attr[i, c] - last_one) + v * (attr[j, c] - last_one)


@njit(cache=True, nogil=True)
def interpolate_backward(attr, rast, tri, grad, first, last, wanted, grad_rast, total):
    """Gradients of rows ``first`` to ``last``: to u and v, and added to ``total`` (V, A) float64.

    ``wanted`` says whether the former and the latter are asked for. Returns the first vertex written to, and one past
    the last.
    """
    width, channels = grad.shape[1:]
    wants_uv, wants_attr = wanted
    count = np.uint32(len(attr))
    begin, end = len(attr), 0
    for row in range(first, last):
        for column in range(width):
            t = np.int64(rast[row, column, 3]) - 1
            i = j = k = count
            if 0 <= t < len(tri):
                i, j, k = np.uint32(tri[t, 0]), np.uint32(tri[t, 1]), np.uint32(tri[t, 2])
            seen = i < count and j < count and k < count
            if wants_uv:
                gu, gv = 0.0, 0.0
                if seen:
                    for c in range(channels):
                        g, last_one = np.float64(grad[row, column, c]), attr[k, c]
                        gu += g * (attr[i, c] - last_one)
                        gv += g * (attr[j, c] - last_one)
                grad_rast[row, column, 0], grad_rast[row, column, 1] = gu, gv
                grad_rast[row, column, 2], grad_rast[row, column, 3] = 0, 0
            if wants_attr and seen:
                u, v = np.float64(rast[row, column, 0]), np.float64(rast[row, column, 1])
                for c in range(channels):
                    g = grad[row, column, c]
                    total[i, c] += u * g
                    total[j, c] += v * g
                    total[k, c] += (1 - u - v) * g
                begin, end = min(begin, i, j, k), max(end, i + 1, j + 1, k + 1)
    return begin, end


@njit(cache=True, nogil=True)
def sum_bands(bands, written, first, last, out):
    """Add the sums of all bands (N, V, C), one band after the other, to ``out`` and leave zeros in ``bands``.

    Args:
        written: (N, 2) first vertex that each band has written to, and one past the last; the rest is 0 already.
        first, last: the vertices to do.
    """
    for n in range(len(bands)):
        for v in range(max(first, written[n, 0]), min(last, written[n, 1])):
            for c in range(bands.shape[2]):
                out[v, c] += bands[n, v, c]
                bands[n, v, c] = 0

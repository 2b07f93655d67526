"""Where silhouettes pass between two pixel centres, what they blend, and how that changes with the vertices.

A pair of pixels is a pixel and its right (0) or lower (1) neighbour. The triangle of one of them ends between their
centres; by how much its end is off the middle decides how much of one colour the other pixel gets.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Helpers are inlined by numba: a call that hands over this many arrays costs more than what it reckons.
SLACK = 1 / 16  # pixels that an edge may lie outside its segment: as much as snapping moves it


def pair_edges(tri: np.ndarray) -> np.ndarray:
    """(T, 3) int32: for the edge opposite each corner the vertex that the triangle behind it adds, -1 for none.

    An edge joins at most two triangles; of more, the first two are joined and the others end there. Triangles with a
    negative or a repeated index join nothing.
    """
    wings = np.full(tri.shape, -1, dtype=np.int32)
    first, second = tri[:, (1, 2, 0)].astype(np.int64), tri[:, (2, 0, 1)].astype(np.int64)
    low, high = np.minimum(first, second), np.maximum(first, second)
    whole = (tri >= 0).all(axis=1) & (low != high).all(axis=1)
    place = np.flatnonzero(np.repeat(whole, 3))
    key = (low.ravel()[place] << 32) | high.ravel()[place]
    order = np.argsort(key, kind="stable")
    key, place = key[order], place[order]
    new = np.ones(len(key), dtype=bool)
    new[1:] = key[1:] != key[:-1]
    start = np.flatnonzero(new[:-1] & ~new[1:])  # the first of two or more
    one, other = place[start], place[start + 1]
    wings.ravel()[one], wings.ravel()[other] = tri.ravel()[other], tri.ravel()[one]
    return wings


@njit(cache=True, nogil=True, error_model="numpy")
def find_silhouettes(rast, pos, tri, wings, first, last, alpha, edge):
    """Fill ``alpha`` (H, W, 2) and ``edge`` (H, W, 2) int8 of the pairs that begin in rows ``first`` to ``last``.

    ``alpha`` is the share of the pair's difference in colour that is blended: to the pair's first pixel if positive,
    else to the second. ``edge`` is 0 where none is, 1 + k if the silhouette is edge k of the first pixel's triangle,
    4 + k of the second one's.
    """
    height, width = rast.shape[:2]
    for row in range(first, last):
        for column in range(width):
            for down in range(2):
                alpha[row, column, down], edge[row, column, down] = 0, 0
                r, c = row + down, column + 1 - down
                if r >= height or c >= width:
                    continue
                t, other = np.int64(rast[row, column, 3]) - 1, np.int64(rast[r, c, 3]) - 1
                if t == other:
                    continue
                second = t < 0 or (other >= 0 and rast[r, c, 2] < rast[row, column, 2])
                if second:
                    t = other
                corners = _corners(pos, tri, t)
                if corners[0] < 0:
                    continue
                k, way = _exit(pos, corners, wings, t, _pair(row, column, down, second), (height, width))
                if k >= 0:
                    edge[row, column, down] = (4 if second else 1) + k
                    alpha[row, column, down] = way - 0.5 if second else 0.5 - way


@njit(inline="always")
def _corners(pos, tri, t):
    """Vertices of a triangle, or -1 three times if it points to one that is not there."""
    if t < len(tri):
        i, j, k = np.int64(tri[t, 0]), np.int64(tri[t, 1]), np.int64(tri[t, 2])
        if 0 <= i < len(pos) and 0 <= j < len(pos) and 0 <= k < len(pos):
            return i, j, k
    return -1, -1, -1


@njit(inline="always")
def _pair(row, column, down, second):
    """From which pixel (row, column), along which axis, in which direction."""
    if not second:
        return row, column, down, 1.0
    return row + down, column + 1 - down, down, -1.0


@njit(inline="always")
def _exit(pos, corners, wings, t, pair, size):
    """Where a segment from a pixel centre to the next leaves a triangle through a silhouette.

    Returns the edge, -1 if there is none, and how far along the segment it is, 0 .. 1. Everything is reckoned with
    (x, y, w), so that no vertex needs to be in front of the camera.
    """
    row, column, down, sign = pair
    fx, fy = (2 * column + 1) / size[1] - 1, (2 * row + 1) / size[0] - 1
    along, across = (fx, fy) if down == 0 else (fy, fx)
    i, j, k = corners
    w0, w1, w2 = np.float64(pos[i, 3]), np.float64(pos[j, 3]), np.float64(pos[k, 3])
    # Relative to the pixel: t along the pair, s across it.
    t0, t1, t2 = pos[i, down] - along * w0, pos[j, down] - along * w1, pos[k, down] - along * w2
    s0, s1, s2 = pos[i, 1 - down] - across * w0, pos[j, 1 - down] - across * w1, pos[k, 1 - down] - across * w2
    sign *= size[1 - down] / 2  # pixels per ndc unit
    way0 = _way(t1, s1, w1, t2, s2, w2, sign)
    way1 = _way(t2, s2, w2, t0, s0, w0, sign)
    way2 = _way(t0, s0, w0, t1, s1, w1, sign)
    way = max(way0, way1, way2)
    found = 0 if way == way0 else (1 if way == way1 else 2)
    wing = wings[t, found]
    a, b = j if found == 0 else (k if found == 1 else i), k if found == 0 else (i if found == 1 else j)
    ta, sa, wa = pos[a, down] - along * pos[a, 3], pos[a, 1 - down] - across * pos[a, 3], np.float64(pos[a, 3])
    tb, sb, wb = pos[b, down] - along * pos[b, 3], pos[b, 1 - down] - across * pos[b, 3], np.float64(pos[b, 3])
    nt, ns, nw = sa * wb - wa * sb, wa * tb - ta * wb, ta * sb - sa * tb  # the edge's line, relative to the pixel
    if 0 <= wing < len(pos):  # asked first: inside of a surface the answer is nearly always the same
        w3 = np.float64(pos[wing, 3])
        t3, s3 = pos[wing, down] - along * w3, pos[wing, 1 - down] - across * w3
        own = t0 * (s1 * w2 - w1 * s2) + s0 * (w1 * t2 - t1 * w2) + w0 * (t1 * s2 - s1 * t2)
        if not own * (nt * t3 + ns * s3 + nw * w3) > 0:  # the surface goes on at the other side
            return -1, 0.0
    steep = abs(nt) * size[down] >= abs(ns) * size[1 - down]  # it crosses the pair rather than go along with it
    if not (steep and -SLACK <= way <= 1 + SLACK):
        return -1, 0.0
    return found, min(max(way, 0.0), 1.0)


@njit(inline="always")
def _way(ta, sa, wa, tb, sb, wb, scale):
    """How far along the pair an edge crosses its line, pixels; -inf if it does not, or behind the camera."""
    depth = wa * sb - wb * sa
    way = scale * (ta * sb - tb * sa) / depth  # reckoned in any case: cheaper than a branch nobody can foretell
    return way if ((sa < 0) != (sb < 0)) & (depth * (sb - sa) > 0) else -np.inf


@njit(cache=True, nogil=True)
def blend(color, alpha, first, last, out):
    """``color`` (H, W, C) with the blends of all four pairs of a pixel, in rows ``first`` to ``last``."""
    height, width, channels = color.shape
    for row in range(first, last):
        for column in range(width):
            for n in range(channels):
                out[row, column, n] = color[row, column, n]
            for down in range(2):
                r, c = row + down, column + 1 - down
                if r < height and c < width and alpha[row, column, down] > 0:
                    a = alpha[row, column, down]
                    for n in range(channels):
                        out[row, column, n] += a * (color[r, c, n] - color[row, column, n])
                r, c = row - down, column - 1 + down
                if r >= 0 and c >= 0 and alpha[r, c, down] < 0:
                    a = alpha[r, c, down]
                    for n in range(channels):
                        out[row, column, n] += a * (color[row, column, n] - color[r, c, n])


@njit(cache=True, nogil=True)
def blend_backward(grad, alpha, first, last, grad_color):
    """Gradient to the colours in rows ``first`` to ``last``, from all four pairs of a pixel."""
    height, width, channels = grad.shape
    for row in range(first, last):
        for column in range(width):
            for n in range(channels):
                grad_color[row, column, n] = grad[row, column, n]
            for down in range(2):
                r, c = row + down, column + 1 - down
                if r < height and c < width and alpha[row, column, down] != 0:
                    a = alpha[row, column, down]
                    for n in range(channels):
                        grad_color[row, column, n] -= a * (grad[row, column, n] if a > 0 else grad[r, c, n])
                r, c = row - down, column - 1 + down
                if r >= 0 and c >= 0 and alpha[r, c, down] != 0:
                    a = alpha[r, c, down]
                    for n in range(channels):
                        grad_color[row, column, n] += a * (grad[r, c, n] if a > 0 else grad[row, column, n])


@njit(cache=True, nogil=True, error_model="numpy")
def silhouettes_backward(pos, tri, rast, color, grad, found, boost, grad_pos):
    """Add to ``grad_pos`` (V, 4) what moving the silhouettes does to the picture.

    ``found`` is alpha and edge of `find_silhouettes`. With s = y - f w (x and y swapped for lower neighbours) of the
    edge's ends a and b, the crossing is c = (x_a s_b - x_b s_a) / (w_a s_b - w_b s_a), and alpha changes by -size / 2
    per unit of c whichever pixel the triangle belongs to. One thread: few pairs have a silhouette.
    """
    alpha, edge = found
    height, width, channels = color.shape
    for row in range(height):
        for column in range(width):
            for down in range(2):
                code = edge[row, column, down]
                if code == 0 or abs(alpha[row, column, down]) >= 0.5:
                    continue
                r, c = row + down, column + 1 - down
                g = 0.0
                for n in range(channels):
                    step = np.float64(color[r, c, n]) - color[row, column, n]
                    g += step * (grad[row, column, n] if alpha[row, column, down] > 0 else grad[r, c, n])
                t = np.int64(rast[r, c, 3] if code >= 4 else rast[row, column, 3]) - 1
                k = (code - 1) % 3
                a, b = np.int64(tri[t, (k + 1) % 3]), np.int64(tri[t, (k + 2) % 3])
                x, y = down, 1 - down
                f = (2 * row + 1) / height - 1 if down == 0 else (2 * column + 1) / width - 1
                wa, wb = np.float64(pos[a, 3]), np.float64(pos[b, 3])
                sa, sb = pos[a, y] - f * wa, pos[b, y] - f * wb
                depth = wa * sb - wb * sa
                crossing = (pos[a, x] * sb - pos[b, x] * sa) / depth
                g *= -boost * (width if down == 0 else height) / 2 / depth
                ga, gb = g * (crossing * wb - pos[b, x]), g * (pos[a, x] - crossing * wa)  # to s_a and s_b
                grad_pos[a, x] += g * sb
                grad_pos[a, y] += ga
                grad_pos[a, 3] -= g * crossing * sb + f * ga
                grad_pos[b, x] -= g * sa
                grad_pos[b, y] += gb
                grad_pos[b, 3] += g * crossing * sa - f * gb

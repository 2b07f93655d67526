"""Which triangle each pixel sees, and the gradient of where on it: the compiled loops of the CPU rasteriser.

Coverage is decided in whole numbers, on vertices snapped to 1/16 pixel, so that triangles with a common edge share its
pixels out exactly. Everything after that is float64 in registers, whatever the arrays hold: small triangles lose too
many digits in float32. A pixel's depth and triangle number are one whole number, and the smaller one wins, so that
neither the order of triangles nor that of threads matters.
"""

from __future__ import annotations

import numpy as np
from numba import njit

SHIFT = 4
FINE = 1 << SHIFT  # parts of a pixel that vertices are snapped to
REACH = 1 << 24  # snapped coordinates stay below this, so that products of their differences fit 64 bits
OUTSIDE = np.iinfo(np.int32).min  # instead of a snapped x: the vertex lies behind, beyond, or too far aside
EMPTY = np.iinfo(np.int64).max  # key of a pixel that sees nothing
NUMBER = (1 << 32) - 1  # the bits of a key that hold the triangle's number; its depth is above them
DEEP = float((1 << 30) - 1)  # depth steps per unit of z/w
MOST_CORNERS = 16  # of a triangle cut by six planes: nine at most


@njit(cache=True, nogil=True)
def _snapped(ndc, size):
    """1/16 pixels; pixel centres lie at multiples of 16. Rounded to even, counted from the picture's centre."""
    return np.rint(ndc * (FINE // 2 * size)) + FINE // 2 * (size - 1)


@njit(cache=True, nogil=True, error_model="numpy")
def snap_vertices(pos, size, first, last, xy, deep):
    """Snapped position (V, 2) int32 and depth in steps (V,) float64 of vertices ``first`` to ``last``."""
    height, width = size
    for v in range(first, last):
        x, y, z, w = np.float64(pos[v, 0]), np.float64(pos[v, 1]), np.float64(pos[v, 2]), np.float64(pos[v, 3])
        fx, fy = _snapped(x / w, width), _snapped(y / w, height)
        if w > 0 and -w <= z <= w and abs(fx) < REACH and abs(fy) < REACH:
            xy[v, 0], xy[v, 1] = np.int32(fx), np.int32(fy)
            deep[v] = (z / w + 1) * DEEP
        else:
            xy[v, 0] = OUTSIDE


@njit(cache=True, nogil=True, error_model="numpy")
def draw(pos, tri, snapped, first, last, keys):
    """Draw triangles ``first`` to ``last`` into ``keys`` (H, W) int64."""
    xy, deep = snapped
    count = np.uint32(len(pos))
    work = np.empty((2, MOST_CORNERS, 4))
    for t in range(first, last):
        i, j, k = np.uint32(tri[t, 0]), np.uint32(tri[t, 1]), np.uint32(tri[t, 2])
        if i >= count or j >= count or k >= count:  # negative ones are large here
            continue
        x0, x1, x2 = np.int64(xy[i, 0]), np.int64(xy[j, 0]), np.int64(xy[k, 0])
        if x0 == OUTSIDE or x1 == OUTSIDE or x2 == OUTSIDE:
            _draw_cut(pos, (i, j, k), t, work, keys)
            continue
        y0, y1, y2 = np.int64(xy[i, 1]), np.int64(xy[j, 1]), np.int64(xy[k, 1])
        _fill((x0, y0), (x1, y1), (x2, y2), (deep[i], deep[j], deep[k]), t, keys)


@njit(cache=True, nogil=True)
def _fill(p0, p1, p2, deep, number, keys):
    """One snapped triangle, wound either way."""
    height, width = keys.shape
    x0, y0 = p0
    x1, y1 = p1
    x2, y2 = p2
    left, right = max(0, (min(x0, x1, x2) + FINE - 1) >> SHIFT), min(width - 1, max(x0, x1, x2) >> SHIFT)
    top, bottom = max(0, (min(y0, y1, y2) + FINE - 1) >> SHIFT), min(height - 1, max(y0, y1, y2) >> SHIFT)
    if left > right or top > bottom:
        return
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    if area == 0:
        return
    d0, d1, d2 = deep
    if area < 0:
        area = -area
        x1, y1, d1, x2, y2, d2 = x2, y2, d2, x1, y1, d1
    # e0 is the (doubled) area between edge 1-2 and the pixel centre, and so on round; positive inside.
    ax, ay, bx, by, cx, cy = x2 - x1, y2 - y1, x0 - x2, y0 - y2, x1 - x0, y1 - y0
    px, py = left * FINE, top * FINE
    e0 = ax * (py - y1) - ay * (px - x1)
    e1 = bx * (py - y2) - by * (px - x2)
    e2 = cx * (py - y0) - cy * (px - x0)
    # Of the two triangles at an edge, which run along it in opposite directions, one owns what lies exactly on it.
    own0 = 0 if ay > 0 or (ay == 0 and ax < 0) else 1
    own1 = 0 if by > 0 or (by == 0 and bx < 0) else 1
    own2 = 0 if cy > 0 or (cy == 0 and cx < 0) else 1
    over = 1.0 / area
    for row in range(top, bottom + 1):
        f0, f1, f2 = e0, e1, e2
        for column in range(left, right + 1):
            if f0 >= own0 and f1 >= own1 and f2 >= own2:
                steps = np.int64((f0 * d0 + f1 * d1 + f2 * d2) * over)
                key = (steps << 32) | number
                if key < keys[row, column]:
                    keys[row, column] = key
            f0 -= ay * FINE
            f1 -= by * FINE
            f2 -= cy * FINE
        e0 += ax * FINE
        e1 += bx * FINE
        e2 += cx * FINE


@njit(cache=True, nogil=True, error_model="numpy")
def _draw_cut(pos, corners, number, work, keys):
    """A triangle that is not seen whole: cut it at the near and the far plane, and far aside, and draw what is left."""
    height, width = keys.shape
    for n in range(3):
        for c in range(4):
            work[0, n, c] = pos[corners[n], c]
            if not np.isfinite(work[0, n, c]):
                return
    count, side = 3, 0
    for plane in range(6):
        count = _cut(work[side], count, plane, (height, width), work[1 - side])
        side = 1 - side
        if count < 3:
            return
    for n in range(count):
        x, y, z, w = work[side, n]
        if not w > 0:
            return
        work[1 - side, n, 0], work[1 - side, n, 1] = _snapped(x / w, width), _snapped(y / w, height)
        work[1 - side, n, 2] = (min(max(z / w, -1.0), 1.0) + 1) * DEEP
    fan = work[1 - side]
    p0 = np.int64(fan[0, 0]), np.int64(fan[0, 1])
    for n in range(1, count - 1):
        p1 = np.int64(fan[n, 0]), np.int64(fan[n, 1])
        p2 = np.int64(fan[n + 1, 0]), np.int64(fan[n + 1, 1])
        _fill(p0, p1, p2, (fan[0, 2], fan[n, 2], fan[n + 1, 2]), number, keys)


@njit(cache=True, nogil=True)
def _inside_by(p, plane, size):
    """How far a point of clip space lies on the seen side of a plane: near, far, then far beyond the four borders."""
    if plane == 0:
        return p[3] + p[2]
    if plane == 1:
        return p[3] - p[2]
    axis = (plane - 2) // 2
    aside = p[3] * (REACH // 2 / (FINE * size[1 - axis]))
    return aside - p[axis] if plane % 2 else aside + p[axis]


@njit(cache=True, nogil=True)
def _cut(polygon, count, plane, size, out):
    """What is left of a polygon on the seen side of a plane (Sutherland-Hodgman); returns the number of corners."""
    kept = 0
    for n in range(count):
        p, q = polygon[n], polygon[(n + 1) % count]
        dp, dq = _inside_by(p, plane, size), _inside_by(q, plane, size)
        if dp >= 0:
            out[kept] = p
            kept += 1
        if (dp >= 0) != (dq >= 0):
            # Always from the inner end to the outer one, so that two triangles cut their common edge at one place.
            if dp < 0:
                p, q, dp, dq = q, p, dq, dp
            share = dp / (dp - dq)
            for c in range(4):
                out[kept, c] = p[c] + share * (q[c] - p[c])
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def _areas(pos, corners, fx, fy):
    """a_k: the parts of a triangle's area, in the plane w = 1, that belong to its vertices as seen from a pixel.

    Also q_k = (x_k - fx * w_k, y_k - fy * w_k), the vertices relative to the pixel.
    """
    i, j, k = corners
    w0, w1, w2 = np.float64(pos[i, 3]), np.float64(pos[j, 3]), np.float64(pos[k, 3])
    x0, y0 = pos[i, 0] - fx * w0, pos[i, 1] - fy * w0
    x1, y1 = pos[j, 0] - fx * w1, pos[j, 1] - fy * w1
    x2, y2 = pos[k, 0] - fx * w2, pos[k, 1] - fy * w2
    return (x1 * y2 - y1 * x2, x2 * y0 - y2 * x0, x0 * y1 - y0 * x1), (x0, y0, x1, y1, x2, y2)


@njit(cache=True, nogil=True, error_model="numpy")
def resolve(keys, pos, tri, first, last, rast):
    """u, v, z/w and number + 1 in rows ``first`` to ``last``, from the nearest of several ``keys`` (N, H, W)."""
    layers, height, width = keys.shape
    for row in range(first, last):
        fy = (2 * row + 1) / height - 1
        for column in range(width):
            key = keys[0, row, column]
            for n in range(1, layers):
                key = min(key, keys[n, row, column])
            if key == EMPTY:
                rast[row, column] = 0
                continue
            t = key & NUMBER
            fx = (2 * column + 1) / width - 1
            i, j, k = np.uint32(tri[t, 0]), np.uint32(tri[t, 1]), np.uint32(tri[t, 2])
            (a0, a1, a2), _ = _areas(pos, (i, j, k), fx, fy)
            total = a0 + a1 + a2
            over = 1 / total if total != 0 else 0.0
            u, v = min(max(a0 * over, 0.0), 1.0), min(max(a1 * over, 0.0), 1.0)
            whole = max(u + v, 1.0)
            w = pos[i, 3] * a0 + pos[j, 3] * a1 + pos[k, 3] * a2
            z = (pos[i, 2] * a0 + pos[j, 2] * a1 + pos[k, 2] * a2) / w if w != 0 else 0.0
            rast[row, column, 0] = u / whole
            rast[row, column, 1] = v / whole
            rast[row, column, 2] = min(max(z, -1.0), 1.0)
            rast[row, column, 3] = t + 1


@njit(cache=True, nogil=True, error_model="numpy")
def resolve_backward(pos, tri, rast, grad, first, last, total):
    """Add the gradients of rows ``first`` to ``last`` to x, y, w of ``total`` (V, 4) float64.

    Returns the first vertex written to, and one past the last. Source: u = a_0 / A, v = a_1 / A with A the sum of the
    a_k, hence dL/da_0 = (g_u - s) / A, dL/da_1 = (g_v - s) / A, dL/da_2 = -s / A, where s = g_u u + g_v v.
    """
    height, width = rast.shape[:2]
    count = np.uint32(len(pos))
    begin, end = len(pos), 0
    for row in range(first, last):
        fy = (2 * row + 1) / height - 1
        for column in range(width):
            t = np.int64(rast[row, column, 3]) - 1
            gu, gv = np.float64(grad[row, column, 0]), np.float64(grad[row, column, 1])
            if t < 0 or t >= len(tri) or (gu == 0 and gv == 0):
                continue
            i, j, k = np.uint32(tri[t, 0]), np.uint32(tri[t, 1]), np.uint32(tri[t, 2])
            if i >= count or j >= count or k >= count:
                continue
            fx = (2 * column + 1) / width - 1
            (a0, a1, a2), (x0, y0, x1, y1, x2, y2) = _areas(pos, (i, j, k), fx, fy)
            area = a0 + a1 + a2
            # Far outside a sliver that only its snapped corners make visible, u and v are clamped and mean nothing.
            if not 2 * abs(area) > abs(a0) + abs(a1) + abs(a2):
                continue
            s = (gu * a0 + gv * a1) / area
            g0, g1, g2 = (gu - s) / area, (gv - s) / area, -s / area
            _add(total, i, g2 * y1 - g1 * y2, g1 * x2 - g2 * x1, fx, fy)
            _add(total, j, g0 * y2 - g2 * y0, g2 * x0 - g0 * x2, fx, fy)
            _add(total, k, g1 * y0 - g0 * y1, g0 * x1 - g1 * x0, fx, fy)
            begin, end = min(begin, i, j, k), max(end, i + 1, j + 1, k + 1)
    return begin, end


@njit(cache=True, nogil=True)
def _add(total, vertex, gx, gy, fx, fy):
    total[vertex, 0] += gx
    total[vertex, 1] += gy
    total[vertex, 3] -= fx * gx + fy * gy

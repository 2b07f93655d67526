"""Depth brought from the camera that measured it to the camera whose picture it is to lie on."""

from __future__ import annotations

import numpy as np
from numba import njit

from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

SURFACE_STEP = 1.05  # neighbouring samples with a larger ratio of depth lie on two surfaces
SAME_PX = 0.05  # cameras whose pixels differ by less are one
MUCH_FINER = 1.5  # samples per pixel of the target: below, its own grid saves a second resampling to it
EDGE = 1e-9  # of a triangle's area: a pixel centre on a common edge belongs to both


def registered(depth: np.ndarray, camera: Camera, target: Camera, target_from_camera: Rigid3) -> Registered:
    """The depth as the target camera sees it, on the target's grid, or on one as fine as the depth (`finer_grid`).

    Neighbouring samples of one surface are joined by triangles, so that there are no pinholes where the target is
    finer; between two surfaces nothing is drawn, so that none is smeared over the gap. Around what is not surrounded
    by joined neighbours a sample stands for the area of its own pixel. Nearer surfaces hide farther ones.

    Args:
        depth: (h, w) z-depth, 0 where there is none.
        camera: that took it, (h, w).
        target: the camera of the picture.
        target_from_camera: in the unit of the depth.

    Returns:
        values and source on a grid that covers the target's picture; the very depth where the cameras coincide.
    """
    depth = np.ascontiguousarray(depth, dtype=np.float32)
    if depth.shape != camera.shape:
        raise ValueError(f"registered: depth is {depth.shape}, its camera {camera.shape}")
    if coincide(camera, target, target_from_camera):
        return Registered(depth, np.where(depth > 0, np.arange(depth.size).reshape(depth.shape), -1).astype(np.int32))
    grid = finer_grid(camera, target)
    values = np.full(grid.shape, np.inf)
    source = np.full(grid.shape, -1, dtype=np.int32)
    lenses = tuple(tuple(map(float, (c.fx, c.fy, c.cx, c.cy))) for c in (camera, grid))
    motion = np.ascontiguousarray(target_from_camera.matrix[:3])
    _draw(depth, (*lenses, motion), values, source, SURFACE_STEP)
    return Registered(np.where(source >= 0, values, 0).astype(np.float32), source)


class Registered:
    """Depth on the target's grid, and which sample each pixel is from."""

    def __init__(self, values: np.ndarray, source: np.ndarray) -> None:
        self.values = values  # (H, W) float32, 0 where the sensor shows nothing
        self.source = source  # (H, W) int32, index into the flat depth of the nearest sample; -1 where there is none

    def carried(self, samples: np.ndarray, fill: float = 0.0) -> np.ndarray:
        """(H, W) of what else is known of the samples (h, w), by the nearest one."""
        return np.where(self.source >= 0, samples.ravel()[np.maximum(self.source, 0)], fill).astype(samples.dtype)


def coincide(camera: Camera, target: Camera, target_from_camera: Rigid3) -> bool:
    """Whether both cameras see the same picture, of whatever size."""
    moved = np.abs(target_from_camera.matrix - np.eye(4)).max()
    same = target.resized(camera.width, camera.height)
    u = np.array([0.0, camera.width])
    v = np.array([0.0, camera.height])
    across = np.abs((u - camera.cx) / camera.fx * same.fx + same.cx - u).max()
    down = np.abs((v - camera.cy) / camera.fy * same.fy + same.cy - v).max()
    return bool(moved < 1e-6 and max(across, down) < SAME_PX)


def finer_grid(camera: Camera, target: Camera) -> Camera:
    """The target's camera on its own grid, or on one as fine as the depth where that is much finer."""
    finer = max(camera.fx / target.fx, camera.fy / target.fy)
    if finer < MUCH_FINER:
        return target
    return target.resized(round(target.width * finer), round(target.height * finer))


@njit(cache=True, nogil=True)
def _in_grid(u, v, z, cameras, out):
    """Pixel and depth in the grid of a point at pixel (u, v) and depth z of the camera; NaN where it is behind."""
    (fx, fy, cx, cy), (gfx, gfy, gcx, gcy), m = cameras
    x, y = (u - cx) / fx * z, (v - cy) / fy * z
    depth = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
    if depth > 0:
        out[0] = gfx * (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]) / depth + gcx
        out[1] = gfy * (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]) / depth + gcy
        out[2] = depth
    else:
        out[:] = np.nan


@njit(cache=True, nogil=True)
def _draw(depth, cameras, values, source, step):
    """Surfaces first, then the areas of samples at their ends, where these lie in front or on nothing."""
    height, width = depth.shape
    joined = np.zeros((height, width), dtype=np.int32)  # blocks around a sample that are surface; 4: it is surrounded
    best = np.full(values.shape, -1.0)
    corners = np.full((height, width, 3), np.nan)
    for y in range(height):
        for x in range(width):
            if depth[y, x] > 0:
                _in_grid(x + 0.5, y + 0.5, np.float64(depth[y, x]), cameras, corners[y, x])
    for y in range(height - 1):
        for x in range(width - 1):
            _draw_block(y, x, depth, corners, values, source, best, joined, step)
    alone = np.full(values.shape, np.inf)
    of_alone = np.full(values.shape, -1, dtype=np.int32)
    best[:] = -1.0
    a = np.empty((4, 3))
    for y in range(height):
        for x in range(width):
            if depth[y, x] > 0 and joined[y, x] < 4:
                z = np.float64(depth[y, x])
                _in_grid(x, y, z, cameras, a[0])
                _in_grid(x + 1, y, z, cameras, a[1])
                _in_grid(x + 1, y + 1, z, cameras, a[2])
                _in_grid(x, y + 1, z, cameras, a[3])
                number = y * width + x
                _triangle(a[0], a[1], a[2], (number, number, number), alone, of_alone, best)
                _triangle(a[0], a[2], a[3], (number, number, number), alone, of_alone, best)
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            if of_alone[y, x] >= 0 and (source[y, x] < 0 or alone[y, x] * step < values[y, x]):
                values[y, x] = alone[y, x]
                source[y, x] = of_alone[y, x]


@njit(cache=True, nogil=True)
def _joined(p, q, step):
    return p > 0 and q > 0 and max(p, q) < step * min(p, q)


@njit(cache=True, nogil=True)
def _draw_block(y, x, depth, corners, values, source, best, joined, step):
    """The one or two triangles between four samples; cut along the diagonal whose ends are nearer in depth."""
    width = depth.shape[1]
    a, b, c, d = depth[y, x], depth[y, x + 1], depth[y + 1, x], depth[y + 1, x + 1]
    first = y * width + x
    na, nb, nc, nd = first, first + 1, first + width, first + width + 1
    pa, pb, pc, pd = corners[y, x], corners[y, x + 1], corners[y + 1, x], corners[y + 1, x + 1]
    falling = abs(1 / a - 1 / d) if a > 0 and d > 0 else np.inf
    rising = abs(1 / b - 1 / c) if b > 0 and c > 0 else np.inf
    drawn = 0
    if falling <= rising:
        if _joined(a, d, step):
            if _joined(a, b, step) and _joined(b, d, step):
                _triangle(pa, pb, pd, (na, nb, nd), values, source, best)
                drawn += 1
            if _joined(a, c, step) and _joined(c, d, step):
                _triangle(pa, pd, pc, (na, nd, nc), values, source, best)
                drawn += 1
    elif _joined(b, c, step):
        if _joined(a, b, step) and _joined(a, c, step):
            _triangle(pa, pb, pc, (na, nb, nc), values, source, best)
            drawn += 1
        if _joined(b, d, step) and _joined(c, d, step):
            _triangle(pb, pd, pc, (nb, nd, nc), values, source, best)
            drawn += 1
    if drawn == 2:
        joined[y, x] += 1
        joined[y, x + 1] += 1
        joined[y + 1, x] += 1
        joined[y + 1, x + 1] += 1


@njit(cache=True, nogil=True)
def _triangle(p, q, r, numbers, values, source, best):
    """Draw one triangle, wound as in the depth picture: turned round it is a surface seen from behind, which is none.

    Depth is interpolated in its inverse, which is linear in the picture. Of two samples the nearer one counts.
    """
    doubled = (q[0] - p[0]) * (r[1] - p[1]) - (r[0] - p[0]) * (q[1] - p[1])
    if not doubled > 0:  # also drops NaN
        return
    height, width = values.shape
    left = max(0, int(np.ceil(min(p[0], q[0], r[0]) - 0.5 - EDGE)))
    right = min(width - 1, int(np.floor(max(p[0], q[0], r[0]) - 0.5 + EDGE)))
    top = max(0, int(np.ceil(min(p[1], q[1], r[1]) - 0.5 - EDGE)))
    bottom = min(height - 1, int(np.floor(max(p[1], q[1], r[1]) - 0.5 + EDGE)))
    for y in range(top, bottom + 1):
        for x in range(left, right + 1):
            u, v = x + 0.5, y + 0.5
            wp = ((q[0] - u) * (r[1] - v) - (r[0] - u) * (q[1] - v)) / doubled
            wq = ((r[0] - u) * (p[1] - v) - (p[0] - u) * (r[1] - v)) / doubled
            wr = 1 - wp - wq
            if wp < -EDGE or wq < -EDGE or wr < -EDGE:
                continue
            z = 1 / (wp / p[2] + wq / q[2] + wr / r[2])
            most = max(wp, wq, wr)
            # Along a common edge two triangles give one depth; the one with the nearer sample names it.
            if z < values[y, x] * (1 - EDGE) or (z <= values[y, x] * (1 + EDGE) and most > best[y, x]):
                values[y, x] = z
                best[y, x] = most
                source[y, x] = numbers[0] if wp == most else (numbers[1] if wq == most else numbers[2])

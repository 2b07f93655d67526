"""Exact pictures and depth of a set of solids by casting rays (numba, parallel over rows; no sums across threads).

Three tuples go through all kernels:

- ``view``: origin (3,), rotation (3, 3) world_from_cam, fx, fy, cx, cy;
- ``solids``: kinds (P,), rotations (P, 3, 3) world_from_solid, centres (P, 3), half sizes (P, 3), radius of the
  bounding ball (P,), in metres;
- ``look``: stretch (P, 3) of the material, style (P,), size of the pattern (P,) in metres, seed (P,), linear RGB
  palette (P, 4, 3).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from recon4d.synthetic.solids import MISS, ROOM, distance, hit, normal
from recon4d.synthetic.texture import colour

_LAMP = (0.25, -0.45, 0.86)  # direction to the light, world frame, z up
_OCCLUSION_M = (0.05, 0.2, 0.6)  # how far from a surface nearby solids darken it


@njit(cache=True)
def _turned(rotation, x, y, z):
    """Rotation of a vector."""
    return (
        rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * z,
        rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * z,
        rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * z,
    )


@njit(cache=True)
def _turned_back(rotation, x, y, z):
    """Inverse rotation of a vector."""
    return (
        rotation[0, 0] * x + rotation[1, 0] * y + rotation[2, 0] * z,
        rotation[0, 1] * x + rotation[1, 1] * y + rotation[2, 1] * z,
        rotation[0, 2] * x + rotation[1, 2] * y + rotation[2, 2] * z,
    )


@njit(cache=True)
def _to_local(rotation, centre, x, y, z):
    """World point in the frame of a solid."""
    return _turned_back(rotation, x - centre[0], y - centre[1], z - centre[2])


@njit(cache=True)
def _ray(view, x, y):
    """Direction, world frame, through a position in the picture; its t is z-depth."""
    _, rotation, fx, fy, cx, cy = view
    return _turned(rotation, (x - cx) / fx, (y - cy) / fy, 1.0)


@njit(cache=True)
def _solids_of_row(view, y, solids):
    """Indices of the solids that pixels of row ``y`` can see, by their bounding balls."""
    origin, rotation, _, fy, _, cy = view
    kinds, _, centres, _, reach = solids
    low, high = (y - cy) / fy, (y + 1 - cy) / fy  # the row's edges span planes through the camera
    low_length, high_length = math.sqrt(1.0 + low * low), math.sqrt(1.0 + high * high)
    seen = np.empty(len(kinds), dtype=np.int64)
    count = 0
    for i in range(len(kinds)):
        _, b, c = _to_local(rotation, origin, centres[i, 0], centres[i, 1], centres[i, 2])
        beside = (b - high * c) / high_length > reach[i] or (low * c - b) / low_length > reach[i]
        if kinds[i] == ROOM or not beside:
            seen[count] = i
            count += 1
    return seen[:count]


@njit(cache=True)
def _nearest(origin, ray, among, solids):
    """Smallest t at which a ray meets one of the solids ``among``, and which (-1: none)."""
    kinds, rotations, centres, halves, reach = solids
    dx, dy, dz = ray
    best, which = MISS, -1
    square = dx * dx + dy * dy + dz * dz
    for i in among:
        cx, cy, cz = centres[i, 0] - origin[0], centres[i, 1] - origin[1], centres[i, 2] - origin[2]
        along = cx * dx + cy * dy + cz * dz
        if (cx * cx + cy * cy + cz * cz - reach[i] * reach[i]) * square > along * along and kinds[i] != ROOM:
            continue  # passes outside the bounding ball
        ox, oy, oz = _to_local(rotations[i], centres[i], origin[0], origin[1], origin[2])
        ex, ey, ez = _turned_back(rotations[i], dx, dy, dz)
        t = hit(kinds[i], ox, oy, oz, ex, ey, ez, halves[i, 0], halves[i, 1], halves[i, 2])
        if t < best:
            best, which = t, i
    return best, which


@njit(cache=True)
def _openness(x, y, z, nx, ny, nz, solids):
    """How freely light falls on a surface point, 0..1: what lies within a hand's breadth along the normal darkens."""
    kinds, rotations, centres, halves, reach = solids
    a, b, c = _OCCLUSION_M
    near, mid, far = a, b, c
    for i in range(len(kinds)):
        dx, dy, dz = centres[i, 0] - x, centres[i, 1] - y, centres[i, 2] - z
        bound = reach[i] + 2.0 * c
        if kinds[i] != ROOM and dx * dx + dy * dy + dz * dz > bound * bound:
            continue  # too far to be nearer to any of the three points than the surface itself
        lx, ly, lz = _to_local(rotations[i], centres[i], x, y, z)
        mx, my, mz = _turned_back(rotations[i], nx, ny, nz)
        hx, hy, hz = halves[i, 0], halves[i, 1], halves[i, 2]
        near = min(near, distance(kinds[i], lx + a * mx, ly + a * my, lz + a * mz, hx, hy, hz))
        mid = min(mid, distance(kinds[i], lx + b * mx, ly + b * my, lz + b * mz, hx, hy, hz))
        far = min(far, distance(kinds[i], lx + c * mx, ly + c * my, lz + c * mz, hx, hy, hz))
    light = 1.0
    for free, reached in ((near, a), (mid, b), (far, c)):
        light *= 1.0 - 0.33 * (1.0 - max(free, 0.0) / reached)
    return light


@njit(cache=True)
def _shade(origin, ray, pixel, among, solids, look):
    """Linear RGB seen along one ray; ``pixel`` is the size of a pixel at distance t = 1."""
    kinds, rotations, centres, halves, _ = solids
    stretch, style, cell, seeds, palettes = look
    dx, dy, dz = ray
    t, i = _nearest(origin, ray, among, solids)
    px, py, pz = origin[0] + t * dx, origin[1] + t * dy, origin[2] + t * dz
    lx, ly, lz = _to_local(rotations[i], centres[i], px, py, pz)
    ax, ay, az = normal(kinds[i], lx, ly, lz, halves[i, 0], halves[i, 1], halves[i, 2])
    nx, ny, nz = _turned(rotations[i], ax, ay, az)
    slant = abs(nx * dx + ny * dy + nz * dz) / math.sqrt(dx * dx + dy * dy + dz * dz)
    footprint = t * pixel / math.sqrt(max(slant, 0.1))
    mx, my, mz = lx / stretch[i, 0], ly / stretch[i, 1], lz / stretch[i, 2]
    r, g, b = colour(style[i], mx, my, mz, cell[i], footprint, seeds[i], palettes[i])
    lamp = nx * _LAMP[0] + ny * _LAMP[1] + nz * _LAMP[2]
    light = 0.62 + 0.3 * lamp + 0.08 * lamp * lamp
    light *= _openness(px, py, pz, nx, ny, nz, solids)
    return r * light, g * light, b * light


@njit(cache=True, parallel=True)
def cast_centres(view, solids, depth, which, local):
    """Truth at pixel centres: fills z-depth ``depth`` (H, W), the index of the solid ``which`` (H, W), and the point in
    the solid's own frame ``local`` (H, W, 3)."""
    for y in prange(depth.shape[0]):
        origin, rotations, centres = view[0], solids[1], solids[2]
        among = _solids_of_row(view, y, solids)
        for x in range(depth.shape[1]):
            ray = _ray(view, x + 0.5, y + 0.5)
            t, i = _nearest(origin, ray, among, solids)
            depth[y, x], which[y, x] = t, i
            px, py, pz = origin[0] + t * ray[0], origin[1] + t * ray[1], origin[2] + t * ray[2]
            local[y, x, 0], local[y, x, 1], local[y, x, 2] = _to_local(rotations[i], centres[i], px, py, pz)


@njit(cache=True, parallel=True)
def cast_picture(view, samples, solids, look, out):
    """Fills ``out`` (H, W, 3) uint8: means of ``samples`` x ``samples`` rays in linear light, gamma 2.2."""
    for y in prange(out.shape[0]):
        among = _solids_of_row(view, y, solids)
        for x in range(out.shape[1]):
            r, g, b = 0.0, 0.0, 0.0
            for sy in range(samples):
                for sx in range(samples):
                    ray = _ray(view, x + (sx + 0.5) / samples, y + (sy + 0.5) / samples)
                    c = _shade(view[0], ray, 1.0 / view[2], among, solids, look)
                    r, g, b = r + c[0], g + c[1], b + c[2]
            for channel, value in ((0, r), (1, g), (2, b)):
                encoded = min(max(value / (samples * samples), 0.0), 1.0) ** (1.0 / 2.2)
                out[y, x, channel] = np.uint8(encoded * 255.0 + 0.5)

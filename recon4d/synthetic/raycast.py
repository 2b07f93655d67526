"""Exact pictures and depth of a set of solids by casting rays (numba, parallel over rows; no sums across threads)."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from recon4d.synthetic.solids import MISS, ROOM, distance, hit, normal
from recon4d.synthetic.texture import colour

_LAMP = (0.25, -0.45, 0.86)  # direction to the light, world frame, z up
_OCCLUSION_M = (0.05, 0.2, 0.6)  # how far from a surface nearby solids darken it


@njit(cache=True)
def _to_local(rotation, centre, x, y, z):
    """World point in the frame of a solid; ``rotation`` is world_from_local."""
    return _turned_back(rotation, x - centre[0], y - centre[1], z - centre[2])


@njit(cache=True)
def _turned_back(rotation, x, y, z):
    """Inverse rotation of a vector."""
    return (
        rotation[0, 0] * x + rotation[1, 0] * y + rotation[2, 0] * z,
        rotation[0, 1] * x + rotation[1, 1] * y + rotation[2, 1] * z,
        rotation[0, 2] * x + rotation[1, 2] * y + rotation[2, 2] * z,
    )


@njit(cache=True)
def _turned(rotation, x, y, z):
    """Rotation of a vector."""
    return (
        rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * z,
        rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * z,
        rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * z,
    )


@njit(cache=True)
def _nearest(origin, dx, dy, dz, kinds, rotations, centres, halves, reach):
    """Smallest t at which a ray meets any solid, and which (-1: none)."""
    best, which = MISS, -1
    square = dx * dx + dy * dy + dz * dz
    for i in range(len(kinds)):
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
def _openness(x, y, z, nx, ny, nz, kinds, rotations, centres, halves, reach):
    """How freely light falls on a surface point, 0..1: what lies within a hand's breadth along the normal darkens."""
    light = 1.0
    for h in _OCCLUSION_M:
        px, py, pz = x + h * nx, y + h * ny, z + h * nz
        free = h
        for i in range(len(kinds)):
            cx, cy, cz = centres[i, 0] - px, centres[i, 1] - py, centres[i, 2] - pz
            bound = reach[i] + h
            if kinds[i] != ROOM and cx * cx + cy * cy + cz * cz > bound * bound:
                continue
            qx, qy, qz = _to_local(rotations[i], centres[i], px, py, pz)
            free = min(free, distance(kinds[i], qx, qy, qz, halves[i, 0], halves[i, 1], halves[i, 2]))
        light *= 1.0 - 0.33 * (1.0 - max(free, 0.0) / h)
    return light


@njit(cache=True, parallel=True)
def cast_centres(origin, rotation, fx, fy, cx, cy, kinds, rotations, centres, halves, reach, depth, solid, local):
    """Truth at pixel centres: z-depth, index of the solid, and the point in the solid's local frame.

    ``origin`` (3,) and ``rotation`` (3, 3) are world_from_cam; ``depth`` (H, W), ``solid`` (H, W) and ``local``
    (H, W, 3) are filled.
    """
    for y in prange(depth.shape[0]):
        for x in range(depth.shape[1]):
            u, v = (x + 0.5 - cx) / fx, (y + 0.5 - cy) / fy
            dx, dy, dz = _turned(rotation, u, v, 1.0)
            t, i = _nearest(origin, dx, dy, dz, kinds, rotations, centres, halves, reach)
            depth[y, x], solid[y, x] = t, i
            px, py, pz = origin[0] + t * dx, origin[1] + t * dy, origin[2] + t * dz
            local[y, x, 0], local[y, x, 1], local[y, x, 2] = _to_local(rotations[i], centres[i], px, py, pz)


@njit(cache=True)
def _shade(origin, dx, dy, dz, pixel, kinds, rotations, centres, halves, reach, stretch, style, cell, seeds, palettes):
    """Linear RGB seen along one ray; ``pixel`` is the angle of a pixel at distance t = 1."""
    t, i = _nearest(origin, dx, dy, dz, kinds, rotations, centres, halves, reach)
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
    light *= _openness(px, py, pz, nx, ny, nz, kinds, rotations, centres, halves, reach)
    return r * light, g * light, b * light


@njit(cache=True, parallel=True)
def cast_picture(
    origin, rotation, fx, fy, cx, cy, samples, kinds, rotations, centres, halves, reach, stretch, look, out
):
    """8-bit picture, mean of ``samples`` x ``samples`` rays per pixel in linear light, encoded with gamma 2.2.

    ``look`` = (style, cell, seeds, palettes) of the solids; ``out`` (H, W, 3) uint8 is filled.
    """
    style, cell, seeds, palettes = look
    for y in prange(out.shape[0]):
        for x in range(out.shape[1]):
            r, g, b = 0.0, 0.0, 0.0
            for sy in range(samples):
                v = (y + (sy + 0.5) / samples - cy) / fy
                for sx in range(samples):
                    u = (x + (sx + 0.5) / samples - cx) / fx
                    dx, dy, dz = _turned(rotation, u, v, 1.0)
                    c = _shade(
                        origin, dx, dy, dz, 1.0 / fx, kinds, rotations, centres, halves, reach, stretch, style, cell,
                        seeds, palettes,
                    )  # fmt: skip
                    r, g, b = r + c[0], g + c[1], b + c[2]
            count = samples * samples
            for channel, value in ((0, r), (1, g), (2, b)):
                encoded = min(max(value / count, 0.0), 1.0) ** (1.0 / 2.2)
                out[y, x, channel] = np.uint8(encoded * 255.0 + 0.5)

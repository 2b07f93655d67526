"""Solid textures in material coordinates (numba kernels): they stick to a surface however it moves.

Every texture is a mix of large mottling, a pattern, and grain, without repetition, so that features are many and
unambiguous. Detail finer than the footprint of a pixel is faded out, as a lens and a sensor do.
"""

from __future__ import annotations

import math

from numba import njit, uint32

MOTTLED, DOTS, PLANKS, STRIPES, PATCHES = range(5)


@njit(cache=True)
def hash01(ix, iy, iz, seed):
    """Pseudo-random number 0..1 of a lattice point (integer mixing as in xxhash's avalanche)."""
    h = uint32(ix) * uint32(0x9E3779B1) ^ uint32(iy) * uint32(0x85EBCA77)
    h = uint32(h ^ uint32(iz) * uint32(0xC2B2AE3D) ^ uint32(seed) * uint32(0x27D4EB2F))
    h = uint32((h ^ (h >> uint32(15))) * uint32(0x85EBCA77))
    h = uint32((h ^ (h >> uint32(13))) * uint32(0xC2B2AE3D))
    h = uint32(h ^ (h >> uint32(16)))
    return h / 4294967295.0


@njit(cache=True)
def smooth(edge0, edge1, x):
    """Smooth step from 0 at edge0 to 1 at edge1."""
    t = min(max((x - edge0) / (edge1 - edge0), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


@njit(cache=True)
def value_noise(x, y, z, seed):
    """Smooth noise of unit wavelength, 0..1, from random values at lattice points."""
    ix, iy, iz = math.floor(x), math.floor(y), math.floor(z)
    fx, fy, fz = x - ix, y - iy, z - iz
    fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
    i, j, k = int(ix), int(iy), int(iz)
    total = 0.0
    for a in range(2):
        wa = fx if a else 1.0 - fx
        for b in range(2):
            wb = wa * (fy if b else 1.0 - fy)
            total += wb * ((1.0 - fz) * hash01(i + a, j + b, k, seed) + fz * hash01(i + a, j + b, k + 1, seed))
    return total


@njit(cache=True)
def fractal_noise(x, y, z, wavelength, octaves, footprint, seed):
    """Sum of octaves, about -1..1; an octave vanishes as its wavelength (metres) nears two footprints."""
    total, weight = 0.0, 1.0
    for octave in range(octaves):
        seen = smooth(1.5, 3.0, wavelength / footprint)
        if seen == 0.0:
            break
        total += weight * seen * (2.0 * value_noise(x / wavelength, y / wavelength, z / wavelength, seed + octave) - 1)
        wavelength *= 0.5
        weight *= 0.6
    return total


@njit(cache=True)
def dot_cover(x, y, z, cell, footprint, seed):
    """How much of a dot is here (0..1), and the dot's random number; one ball of random place and size per cell."""
    i, j, k = math.floor(x / cell), math.floor(y / cell), math.floor(z / cell)
    radius = cell * (0.24 + 0.2 * hash01(i, j, k, seed))
    free = cell - 2.0 * radius
    dx = x - i * cell - radius - free * hash01(i, j, k, seed + 1)
    dy = y - j * cell - radius - free * hash01(i, j, k, seed + 2)
    dz = z - k * cell - radius - free * hash01(i, j, k, seed + 3)
    soft = max(footprint, 0.06 * cell)
    cover = 1.0 - smooth(radius - soft, radius, math.sqrt(dx * dx + dy * dy + dz * dz))
    return cover * smooth(1.5, 3.0, cell / footprint), hash01(i, j, k, seed + 4)


@njit(cache=True)
def plank_tone(x, y, width, length, footprint, seed):
    """Tone of the board here (0..1) and how much of a gap between boards; boards run along x."""
    row = math.floor(y / width)
    along = x / length + hash01(int(row), 0, 0, seed)
    board = math.floor(along)
    tone = hash01(int(row), int(board), 1, seed)
    to_gap = min(y - row * width, (row + 1) * width - y, (along - board) * length, (board + 1 - along) * length)
    return tone, 1.0 - smooth(0.003, 0.003 + max(footprint, 0.003), to_gap)


@njit(cache=True)
def mix3(a, b, w):
    """Linear mix of two colours, w = 0 gives a."""
    return a[0] + (b[0] - a[0]) * w, a[1] + (b[1] - a[1]) * w, a[2] + (b[2] - a[2]) * w


@njit(cache=True)
def colour(style, x, y, z, cell, footprint, seed, palette):
    """Linear RGB at a material point (metres).

    ``cell``: size of the pattern, metres. ``footprint``: size of a pixel on the surface, metres. ``palette``: (4, 3)
    linear RGB: ground, second ground, two pattern colours.
    """
    mottle = 0.5 + 0.55 * fractal_noise(x, y, z, 4.0 * cell, 3, footprint, seed + 11)
    r = mix3(palette[0], palette[1], min(max(mottle, 0.0), 1.0))
    if style == DOTS:
        for scale in range(2):
            size = cell if scale == 0 else 0.37 * cell
            cover, which = dot_cover(x, y, z, size, footprint, seed + 31 * (scale + 1))
            pick = mix3(palette[2], palette[3], which if scale == 0 else 1.0 - which)
            r = mix3(r, pick, 0.85 * cover)
    elif style == PLANKS:
        tone, gap = plank_tone(x, y, cell, 7.0 * cell, footprint, seed)
        r = mix3(mix3(palette[0], palette[1], tone), palette[2], 0.7 * gap)
        grain = fractal_noise(0.12 * x + 7.0 * tone, y, z, 0.3 * cell, 2, footprint, seed + 5)
        r = mix3(r, palette[3], 0.35 * smooth(0.0, 0.9, grain))
    elif style == STRIPES:
        bend = 0.6 * cell * fractal_noise(x, y, z, 3.0 * cell, 2, footprint, seed + 3)
        band = fractal_noise((x + bend) / cell, 0.31, 0.77, 1.0, 2, footprint / cell, seed + 7)
        r = mix3(mix3(r, palette[2], smooth(0.1, 0.3, band)), palette[3], smooth(-0.2, -0.45, band))
    elif style == PATCHES:
        # The offset keeps cell walls off the faces of solids whose size is a multiple of the cell.
        i, j, k = math.floor(x / cell + 0.38), math.floor(y / cell + 0.38), math.floor(z / cell + 0.38)
        pick = mix3(palette[2], palette[3], hash01(i, j, k, seed))
        r = mix3(r, pick, 0.2 + 0.8 * hash01(i, j, k, seed + 1))
    grain = 1.0 + 0.22 * fractal_noise(x, y, z, 0.35 * cell, 4, footprint, seed + 23)
    return r[0] * grain, r[1] * grain, r[2] * grain

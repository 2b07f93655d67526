"""The loops of the signed distance volume: which blocks a frame touches, and what it says of their voxels."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

BLOCK = 8  # voxels along the edge of a block; with 16 most of a block's memory is empty space
AXIS_BITS = 21  # per axis in one 64-bit key: 2 million blocks along each
HALF = 1 << (AXIS_BITS - 1)
EMPTY = -1  # in a table: no key here
# 2**64 over the golden ratio, as a signed number. Source: Knuth, The Art of Computer Programming 3, 6.4.
GOLDEN = -7046029254386353131
SURFACE, THROUGH, MEASURED, VIEWS = 0, 1, 2, 3  # columns of sums


@njit(cache=True)
def block_key(x, y, z):
    """One number for a block; blocks beyond a million from the origin meet at the rim."""
    x = min(max(x, -HALF), HALF - 1) + HALF
    y = min(max(y, -HALF), HALF - 1) + HALF
    z = min(max(z, -HALF), HALF - 1) + HALF
    return (np.int64(x) << (2 * AXIS_BITS)) | (np.int64(y) << AXIS_BITS) | np.int64(z)


@njit(cache=True)
def find_place(keys, key):
    """Where a key is in a table (2**n,) of open addressing, or where it would go."""
    mask = len(keys) - 1
    place = ((key * GOLDEN) >> 32) & mask
    while keys[place] != EMPTY and keys[place] != key:
        place = (place + 1) & mask
    return place


@njit(cache=True)
def find_slot(keys, slots, x, y, z):
    """Number of the block (x, y, z), -1 where there is none."""
    place = find_place(keys, block_key(x, y, z))
    return slots[place] if keys[place] != EMPTY else -1


@njit(cache=True)
def rebuild(keys, slots, blocks, count):
    """Enter the first ``count`` rows of ``blocks`` (N, 3) into an empty table."""
    for slot in range(count):
        key = block_key(blocks[slot, 0], blocks[slot, 1], blocks[slot, 2])
        place = find_place(keys, key)
        keys[place], slots[place] = key, slot


@njit(cache=True)
def touch(depth, first_row, step, lens, world_from_cam, band, edge, keys, slots, blocks, count):
    """Enter the blocks within ``band`` of the surface along the ray of every ``step``-th pixel.

    Args:
        depth: (H, W) z-depth, 0 where there is none.
        first_row: row of pixels to begin with.
        lens: (4,) fx, fy, cx, cy.
        world_from_cam: (3, 4).
        band: before and behind the surface along z, scene units.
        edge: of a block, scene units.
        keys, slots, blocks: the table and the list it points to, changed in place. At most half of it is filled.
        count: blocks so far.

    Returns:
        The number of blocks, and the row at which there was no room for another row of pixels (H when all is done).
    """
    height, width = depth.shape
    room = min(len(blocks), len(keys) // 2)
    m = world_from_cam
    for v in range(first_row, height, step):
        needed = 0
        for u in range(0, width, step):
            if depth[v, u] > 0.0:
                needed += 1 + _pieces(band, edge, _length(u, v, lens))
        if count + needed > room:
            return count, v
        for u in range(0, width, step):
            z = depth[v, u]
            if z <= 0.0:
                continue
            rx, ry = (u + 0.5 - lens[2]) / lens[0], (v + 0.5 - lens[3]) / lens[1]
            pieces = _pieces(band, edge, _length(u, v, lens))
            for piece in range(pieces + 1):
                t = max(z - band + 2.0 * band * piece / pieces, 0.0)
                x = math.floor((t * (m[0, 0] * rx + m[0, 1] * ry + m[0, 2]) + m[0, 3]) / edge)
                y = math.floor((t * (m[1, 0] * rx + m[1, 1] * ry + m[1, 2]) + m[1, 3]) / edge)
                w = math.floor((t * (m[2, 0] * rx + m[2, 1] * ry + m[2, 2]) + m[2, 3]) / edge)
                key = block_key(x, y, w)
                place = find_place(keys, key)
                if keys[place] == EMPTY:
                    keys[place], slots[place] = key, count
                    blocks[count, 0], blocks[count, 1], blocks[count, 2] = x, y, w
                    count += 1
    return count, height


@njit(cache=True)
def _length(u, v, lens):
    """Of the pixel's ray with z = 1."""
    return math.sqrt(1.0 + ((u + 0.5 - lens[2]) / lens[0]) ** 2 + ((v + 0.5 - lens[3]) / lens[1]) ** 2)


@njit(cache=True)
def _pieces(band, edge, length):
    """Steps of at most half a block along a ray through the band."""
    return math.ceil(2.0 * band * length / (0.5 * edge))


@njit(cache=True)
def _outside(x, y, z, radius, width, height, lens):
    """Whether a sphere around (x, y, z) in the camera frame is certainly not in the picture."""
    fx, fy = lens[0], lens[1]
    side_x, side_y = max(lens[2], width - lens[2]), max(lens[3], height - lens[3])
    return (
        z < -radius
        or abs(x) * fx > side_x * z + radius * math.hypot(side_x, fx)
        or abs(y) * fy > side_y * z + radius * math.hypot(side_y, fy)
    )


@njit(parallel=True, cache=True)
def integrate(
    blocks, voxel, cam_from_world, lens, depth, weights, counts, measured, picture, gains, band, tsdf, sums, colors
):
    """Let one frame speak about all voxels it sees. Each belongs to one thread: the same bits for any number of them.

    Args:
        blocks: (N, 3) int32.
        voxel: edge, scene units; voxel (x, y, z) of a block stands for the point (8 block + (x, y, z)) voxel.
        cam_from_world: (3, 4).
        lens: (4,) fx, fy, cx, cy.
        depth: (H, W) float32, 0 where the frame says nothing.
        weights: (H, W) float32.
        counts, measured: (H, W) bool.
        picture, gains: (H, W, 3) uint8, (3,) float32 its colours are multiplied with.
        band: truncation, scene units.
        tsdf: (N, 8, 8, 8) float32 [z, y, x]: weighted mean of the distance along z in front of the surface over band.
        sums: (N, 8, 8, 8, 4) float32: weight at the surface, weight that passes through, measured part of the first,
            and the frames that count and saw it there, whatever they weigh.
        colors: (N, 8, 8, 8, 3) float32, weighted mean.

    Source: Curless and Levoy, SIGGRAPH 1996; Newcombe et al., KinectFusion, ISMAR 2011. There what passes through
    moves the mean; here it is counted apart, so that the mean is that of surfaces alone.
    """
    height, width = depth.shape
    edge, m = BLOCK * voxel, cam_from_world
    for n in prange(len(blocks)):
        bx, by, bz = blocks[n, 0] * edge, blocks[n, 1] * edge, blocks[n, 2] * edge
        x0 = m[0, 0] * bx + m[0, 1] * by + m[0, 2] * bz + m[0, 3]
        y0 = m[1, 0] * bx + m[1, 1] * by + m[1, 2] * bz + m[1, 3]
        z0 = m[2, 0] * bx + m[2, 1] * by + m[2, 2] * bz + m[2, 3]
        half = 0.5 * edge
        mx = x0 + half * (m[0, 0] + m[0, 1] + m[0, 2])
        my = y0 + half * (m[1, 0] + m[1, 1] + m[1, 2])
        mz = z0 + half * (m[2, 0] + m[2, 1] + m[2, 2])
        if _outside(mx, my, mz, math.sqrt(3.0) * half, width, height, lens):
            continue
        for k in range(BLOCK):
            for j in range(BLOCK):
                xr = x0 + voxel * (m[0, 1] * j + m[0, 2] * k)
                yr = y0 + voxel * (m[1, 1] * j + m[1, 2] * k)
                zr = z0 + voxel * (m[2, 1] * j + m[2, 2] * k)
                for i in range(BLOCK):
                    z = zr + voxel * m[2, 0] * i
                    if z <= 0.0:
                        continue
                    u = lens[0] * (xr + voxel * m[0, 0] * i) / z + lens[2]
                    v = lens[1] * (yr + voxel * m[1, 0] * i) / z + lens[3]
                    if u < 0.0 or v < 0.0 or u >= width or v >= height:
                        continue
                    pixel = int(v), int(u)
                    ahead = depth[pixel] - z
                    if depth[pixel] <= 0.0 or ahead < -band or weights[pixel] <= 0.0:
                        continue
                    if ahead > band:
                        sums[n, k, j, i, THROUGH] += weights[pixel]
                    else:
                        said = np.float32(ahead / band), weights[pixel], counts[pixel], measured[pixel]
                        _note((n, k, j, i), said, tsdf, sums)
                        _paint((n, k, j, i), pixel, weights[pixel], picture, gains, sums, colors)


@njit(cache=True)
def _note(place, said, tsdf, sums):
    """Enter what a frame says of a voxel near its surface: distance over band, weight, if it counts, if measured."""
    distance, weight, counts, measured = said
    n, k, j, i = place
    sums[n, k, j, i, SURFACE] += weight
    tsdf[place] += weight / sums[n, k, j, i, SURFACE] * (distance - tsdf[place])
    if counts:
        sums[n, k, j, i, VIEWS] += np.float32(1.0)
    if measured:
        sums[n, k, j, i, MEASURED] += weight


@njit(cache=True)
def _paint(place, pixel, weight, picture, gains, sums, colors):
    """Move a voxel's colour towards that of a pixel; its weight is in ``sums`` already."""
    n, k, j, i = place
    row, column = pixel
    share = weight / sums[n, k, j, i, SURFACE]
    for c in range(3):
        own = np.float32(picture[row, column, c]) * gains[c]
        colors[n, k, j, i, c] += share * (own - colors[n, k, j, i, c])


@njit(cache=True)
def scatter(depth, weights, lens, world_from_cam, voxel, keys, slots, row_of, sums):
    """Add a frame's points to the voxels they lie in (one thread: sums in the order of the pixels).

    Args:
        depth: (H, W) float32, 0 where there is no point.
        weights: (H, W) float32.
        row_of: (N, 8, 8, 8) int32 row of each voxel in ``sums``, -1 where points are not wanted.
        sums: (M, 4) float64: weight, and weight times the place relative to the voxel over its edge.

    Returns:
        Points with and without a voxel that wants them.
    """
    m, kept, left = world_from_cam, 0, 0
    for v in range(depth.shape[0]):
        for u in range(depth.shape[1]):
            z = depth[v, u]
            if z <= 0.0 or weights[v, u] <= 0.0:
                continue
            rx, ry = (u + 0.5 - lens[2]) / lens[0], (v + 0.5 - lens[3]) / lens[1]
            x = (z * (m[0, 0] * rx + m[0, 1] * ry + m[0, 2]) + m[0, 3]) / voxel
            y = (z * (m[1, 0] * rx + m[1, 1] * ry + m[1, 2]) + m[1, 3]) / voxel
            w = (z * (m[2, 0] * rx + m[2, 1] * ry + m[2, 2]) + m[2, 3]) / voxel
            i, j, k = math.floor(x + 0.5), math.floor(y + 0.5), math.floor(w + 0.5)
            slot = find_slot(keys, slots, i >> 3, j >> 3, k >> 3)
            row = row_of[slot, k & 7, j & 7, i & 7] if slot >= 0 else -1
            if row < 0:
                left += 1
                continue
            kept += 1
            weight = np.float64(weights[v, u])
            sums[row, 0] += weight
            sums[row, 1] += weight * (x - i)
            sums[row, 2] += weight * (y - j)
            sums[row, 3] += weight * (w - k)
    return kept, left


@njit(parallel=True, cache=True)
def gradients(voxels, tsdf, usable, keys, slots, out):
    """Slope of the signed distance at voxels (M, 3), over their usable neighbours, into ``out`` (M, 3), any length."""
    for row in prange(len(voxels)):
        for axis in range(3):
            slope, sides = 0.0, 0
            own = _value(voxels[row, 0], voxels[row, 1], voxels[row, 2], tsdf, usable, keys, slots)
            for side in (-1, 1):
                x = voxels[row, 0] + (side if axis == 0 else 0)
                y = voxels[row, 1] + (side if axis == 1 else 0)
                z = voxels[row, 2] + (side if axis == 2 else 0)
                value = _value(x, y, z, tsdf, usable, keys, slots)
                if not math.isnan(value):
                    slope += side * (value - own)
                    sides += 1
            out[row, axis] = slope / max(sides, 1)


@njit(cache=True)
def _value(x, y, z, tsdf, usable, keys, slots):
    """Signed distance at a voxel, NaN where it is not usable."""
    slot = find_slot(keys, slots, x >> 3, y >> 3, z >> 3)
    if slot < 0 or not usable[slot, z & 7, y & 7, x & 7]:
        return np.nan
    return np.float64(tsdf[slot, z & 7, y & 7, x & 7])

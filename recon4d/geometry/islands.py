"""Small pieces of surface that hang in the air, away from the rest."""

from __future__ import annotations

import numpy as np

PART = 4  # voxels along the edge of a part of a block: pieces nearer than that are one
NEXT = [(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if (x, y, z) > (0, 0, 0)]


def large_islands(blocks: np.ndarray, at_surface: np.ndarray, least: int) -> np.ndarray:
    """Voxels on, or beside, connected pieces of surface that are not small.

    Args:
        blocks: (N, 3) int, places of blocks of 8 voxels.
        at_surface: (N, 8, 8, 8) bool [z, y, x].
        least: voxels at the surface that a piece must have.

    Returns:
        (N, 8, 8, 8) bool: False in parts of 4 voxels whose piece is small; True where there is no surface.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(blocks)
    parts = at_surface.reshape(count, 2, PART, 2, PART, 2, PART).sum(axis=(2, 4, 6))  # (N, 2, 2, 2) [z, y, x]
    block, z, y, x = np.nonzero(parts)
    if len(block) == 0:
        return np.ones_like(at_surface)
    places = 2 * blocks[block].astype(np.int64) + np.stack([x, y, z], axis=1)
    places -= places.min(axis=0) - 1
    size = places.max(axis=0) + 2
    keys = _keys(places, size)
    order = np.argsort(keys)
    sorted_keys = keys[order]
    edges = []
    for step in NEXT:
        wanted = _keys(places + step, size)
        at = np.minimum(np.searchsorted(sorted_keys, wanted), len(keys) - 1)
        there = sorted_keys[at] == wanted
        edges.append(np.stack([np.flatnonzero(there), order[at[there]]]))
    a, b = np.concatenate(edges, axis=1)
    graph = coo_array((np.ones(len(a), dtype=np.int8), (a, b)), shape=(len(keys), len(keys)))
    _, piece = connected_components(graph, directed=False)
    voxels = np.bincount(piece, weights=parts[block, z, y, x])
    large = np.ones(parts.shape, dtype=bool)
    large[block, z, y, x] = voxels[piece] >= least
    return large.repeat(PART, axis=1).repeat(PART, axis=2).repeat(PART, axis=3)


def _keys(places: np.ndarray, size: np.ndarray) -> np.ndarray:
    return (places[:, 0] * size[1] + places[:, 1]) * size[2] + places[:, 2]

"""Where the depth of a clip is cut into slabs: the same edges for all frames, so that layers do not flicker."""

from __future__ import annotations

import numpy as np

ROUNDS = 100  # of k-means at most; it ends by itself much sooner
LEAST_RATIO = 1.1  # slabs whose mean depths are closer than this are one: a cut there would show, and help nobody


def depth_edges(depths: np.ndarray, k: int) -> tuple[float, ...]:
    """The depths at which up to ``k`` slabs meet, nearest first.

    Args:
        depths: (N,) z of samples pooled over the clip, scene units; others than finite positive ones do not count.
        k: slabs wanted; fewer come out where the clip has fewer distinct depths.

    Returns:
        Up to k - 1 z, scene units, rising. Slab i holds ``edge[i - 1] <= z < edge[i]``.

    Source: Lloyd's k-means in one dimension on disparity, begun at quantiles: the same samples give the same edges.
    """
    depths = np.asarray(depths, dtype=np.float64).ravel()
    disparity = np.sort(1 / depths[np.isfinite(depths) & (depths > 0)])
    if k < 2 or not len(disparity):
        return ()
    starts = _starts(disparity, k)
    cuts = [_gap_middle(disparity, start) for start in starts]
    return tuple(sorted(1 / cut for cut in cuts))


def _starts(disparity: np.ndarray, k: int) -> list[int]:
    """The first row of each group but the first, of sorted disparities."""
    total = np.concatenate([[0.0], np.cumsum(disparity)])
    centres = np.quantile(disparity, (np.arange(k) + 0.5) / k)
    bounds = _bounds(disparity, centres)
    for _ in range(ROUNDS):
        counts = np.diff(bounds)
        centres = np.diff(total[bounds])[counts > 0] / counts[counts > 0]
        settled = _bounds(disparity, centres)
        if np.array_equal(settled, bounds):
            break
        bounds = settled
    while len(bounds) > 2:  # groups that are hardly apart become one, the closest first
        centres = np.diff(total[bounds]) / np.diff(bounds)
        ratios = centres[1:] / centres[:-1]
        if ratios.min() >= LEAST_RATIO:
            break
        bounds = np.delete(bounds, int(ratios.argmin()) + 1)
    return [int(row) for row in bounds[1:-1]]


def _bounds(disparity: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(G + 1,) rows at which the groups of the nearest centres begin, and the end; no group is empty."""
    inner = np.searchsorted(disparity, (centres[1:] + centres[:-1]) / 2)
    return np.unique(np.concatenate([[0], inner, [len(disparity)]]))


def _gap_middle(disparity: np.ndarray, row: int) -> float:
    """Half the way between the last of one group and the first of the next: a cut in the gap, not along a surface."""
    return (disparity[row - 1] + disparity[row]) / 2

"""Merging points that arrive frame by frame into one mean per voxel, in memory that grows with space, not with time."""

from __future__ import annotations

import numpy as np

AXIS_BITS = 21  # per axis in one 64-bit key: 2 million voxels along each
COMPACT_AT_ROWS = 1_000_000  # about 100 MB


class VoxelMerger:
    """Weighted means of per-point columns over cubic voxels.

    Source: the running weighted average of volumetric fusion (Curless and Levoy, SIGGRAPH 1996), here of points.
    """

    def __init__(self, voxel_size: float, columns: int) -> None:
        """``voxel_size`` in scene units; every point comes with ``columns`` further numbers to be averaged."""
        if not voxel_size > 0:
            raise ValueError(f"VoxelMerger: voxel size {voxel_size} is not positive")
        self.voxel_size = voxel_size
        self._keys = [np.zeros(0, dtype=np.int64)]
        self._sums = [np.zeros((0, 5 + columns))]  # weight, frames, x, y, z, columns
        self._rows = 0

    def add(self, points: np.ndarray, weights: np.ndarray, columns: np.ndarray) -> None:
        """Add the points of one frame: points (N, 3), positive weights (N,), columns (N, C)."""
        keys, sums = _reduce(
            _keys(points, self.voxel_size),
            np.concatenate(
                [weights[:, None], np.zeros((len(points), 1)), weights[:, None] * points, weights[:, None] * columns],
                axis=1,
            ),
        )
        sums[:, 1] = 1.0  # however many of its points fell into a voxel, it is one frame's word
        self._keys.append(keys)
        self._sums.append(sums)
        self._rows += len(keys)
        if self._rows > COMPACT_AT_ROWS:
            self._compact()

    def result(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Mean points (M, 3), their weights (M,), numbers of frames (M,), mean columns (M, C), in key order."""
        self._compact()
        sums = self._sums[0]
        weights = sums[:, 0]
        means = sums[:, 2:] / np.maximum(weights, 1e-30)[:, None]
        return means[:, :3], weights, sums[:, 1].astype(np.int64), means[:, 3:]

    def _compact(self) -> None:
        keys, sums = _reduce(np.concatenate(self._keys), np.concatenate(self._sums))
        self._keys, self._sums, self._rows = [keys], [sums], 0


def _keys(points: np.ndarray, voxel_size: float) -> np.ndarray:
    cells = np.floor(np.asarray(points, dtype=np.float64) / voxel_size).astype(np.int64)
    half = 1 << (AXIS_BITS - 1)
    cells = np.clip(
        cells + half, 0, (1 << AXIS_BITS) - 1
    )  # beyond a million voxels from the origin all meet at the rim
    return (cells[:, 0] << (2 * AXIS_BITS)) | (cells[:, 1] << AXIS_BITS) | cells[:, 2]


def _reduce(keys: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum the rows of equal keys; keys come back sorted."""
    if len(keys) == 0:
        return keys, sums
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[starts], np.add.reduceat(sums[order], starts, axis=0)

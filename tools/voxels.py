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
        # Single precision halves the memory; places are summed relative to their voxel, so they lose nothing.
        self._sums = [np.zeros((0, 5 + columns), dtype=np.float32)]  # weight, frames, x, y, z in the voxel, columns
        self._rows = 0

    def add(self, points: np.ndarray, weights: np.ndarray, columns: np.ndarray) -> None:
        """Add the points of one frame: points (N, 3), positive weights (N,), columns (N, C)."""
        cells = _cells(points, self.voxel_size)
        sums = np.zeros((len(points), 5 + columns.shape[1]), dtype=np.float32)
        sums[:, 0] = weights
        sums[:, 2:5] = weights[:, None] * (points - cells * self.voxel_size)
        sums[:, 5:] = weights[:, None] * columns
        keys, sums = _reduce(_keys(cells), sums)
        sums[:, 1] = 1.0  # however many of its points fell into a voxel, it is one frame's word
        self._keys.append(keys)
        self._sums.append(sums)
        self._rows += len(keys)
        if self._rows > COMPACT_AT_ROWS:
            self._compact()

    def result(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Mean points (M, 3), their weights (M,), numbers of frames (M,), mean columns (M, C), in key order."""
        self._compact()
        keys, sums = self._keys[0], self._sums[0]
        weights = sums[:, 0]
        means = sums[:, 2:] / np.maximum(weights, 1e-30)[:, None]
        points = _cells_of_keys(keys) * self.voxel_size + means[:, :3]
        return points, weights, sums[:, 1].astype(np.int64), means[:, 3:]

    def _compact(self) -> None:
        keys, sums = _reduce(np.concatenate(self._keys), np.concatenate(self._sums))
        self._keys, self._sums, self._rows = [keys], [sums], 0


def _cells(points: np.ndarray, voxel_size: float) -> np.ndarray:
    """(N, 3) int64 voxel of each point; beyond a million voxels from the origin all meet at the rim."""
    half = 1 << (AXIS_BITS - 1)
    return np.clip(np.floor(points / voxel_size), -half, half - 1).astype(np.int64)


def _keys(cells: np.ndarray) -> np.ndarray:
    x, y, z = (cells + (1 << (AXIS_BITS - 1))).T
    return (x << (2 * AXIS_BITS)) | (y << AXIS_BITS) | z


def _cells_of_keys(keys: np.ndarray) -> np.ndarray:
    mask = (1 << AXIS_BITS) - 1
    stacked = np.stack([keys >> (2 * AXIS_BITS), (keys >> AXIS_BITS) & mask, keys & mask], axis=1)
    return stacked - (1 << (AXIS_BITS - 1))


def _reduce(keys: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum the rows of equal keys; keys come back sorted."""
    if len(keys) == 0:
        return keys, sums
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[starts], np.add.reduceat(sums[order], starts, axis=0)

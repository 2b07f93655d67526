"""A grid of patches over an object in the picture; each pixel is a blend of the four about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Patches:
    """Patches that have points, K of a grid; patch centres are ``origin + spacing * (column, row)``."""

    origin: np.ndarray  # (2,) pixels
    spacing: float  # pixels
    shape: tuple[int, int]  # rows and columns of the grid
    used: np.ndarray  # (K,) of the grid, ascending

    @classmethod
    def over(cls, pixels: np.ndarray, area_px: float, across: int, spacing_px: tuple[float, float]) -> Patches:
        """Patches over pixels (N, 2) of an object of ``area_px``, about ``across`` along its side.

        Args:
            spacing_px: least and largest spacing.
        """
        spacing = float(np.clip(np.sqrt(area_px) / across, *spacing_px))
        origin = pixels.min(axis=0) - 0.5 * spacing
        columns, rows = np.ceil((pixels.max(axis=0) - origin) / spacing).astype(int) + 1
        used = np.unique(_blend(pixels, origin, spacing, (rows, columns))[0])
        return cls(origin, spacing, (int(rows), int(columns)), used)

    def __len__(self) -> int:
        return len(self.used)

    def blend(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Patches (N, 4), 0..K-1, about pixels (N, 2) seen when the patches were laid out, and their weights (N, 4)."""
        rows, weights = _blend(pixels, self.origin, self.spacing, self.shape)
        return np.searchsorted(self.used, rows), weights

    def links(self) -> tuple[np.ndarray, np.ndarray]:
        """Neighbours right and below each other, (L,) and (L,), 0..K-1."""
        row_of = np.full(self.shape[0] * self.shape[1], -1)
        row_of[self.used] = np.arange(len(self.used))
        grid = row_of.reshape(self.shape)
        first = np.concatenate([grid[:, :-1].ravel(), grid[:-1].ravel()])
        second = np.concatenate([grid[:, 1:].ravel(), grid[1:].ravel()])
        both = (first >= 0) & (second >= 0)
        return first[both], second[both]

    def on_grid(self, values: np.ndarray) -> np.ndarray:
        """(rows, columns, ...) of values (K, ...); patches without points have those of the nearest that has some."""
        from scipy.ndimage import distance_transform_edt

        grid = np.zeros((self.shape[0] * self.shape[1], *values.shape[1:]))
        grid[self.used] = values
        empty = np.ones(self.shape, dtype=bool)
        empty.ravel()[self.used] = False
        nearest = distance_transform_edt(empty, return_distances=False, return_indices=True)
        return grid.reshape(*self.shape, *values.shape[1:])[tuple(nearest)]

    def read(self, grid: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """(N, ...) blend at any pixels (N, 2) of a grid as `on_grid` gives it; beyond its border that of the border."""
        rows, weights = _blend(pixels, self.origin, self.spacing, self.shape)
        return np.einsum("nk,nk...->n...", weights, grid.reshape(-1, *grid.shape[2:])[rows])


def laplacian(first: np.ndarray, second: np.ndarray, weight: np.ndarray, count: int) -> np.ndarray:
    """(K, K) matrix of the sum of ``weight * (v[second] - v[first])**2`` over links (L,)."""
    out = np.zeros((count, count))
    for rows, columns, sign in ((first, first, 1), (second, second, 1), (first, second, -1), (second, first, -1)):
        np.add.at(out, (rows, columns), sign * weight)
    return out


def _blend(
    pixels: np.ndarray, origin: np.ndarray, spacing: float, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Patches of the grid (N, 4) about pixels (N, 2) and their bilinear weights (N, 4)."""
    last = np.array([shape[1], shape[0]]) - 1
    at = np.clip((pixels - origin) / spacing, 0, last - 1e-6)
    low = at.astype(int)
    x, y = (at - low).T
    first = low[:, 1] * shape[1] + low[:, 0]
    rows = first[:, None] + np.array([0, 1, shape[1], shape[1] + 1])
    return rows, np.stack([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y], axis=1)

"""A smooth field of log gain over the picture: the correction that varies in space.

The field f lives on the nodes of a grid and is bilinear between them. It minimises

    sum_k w_k (f(x_k) - r_k)^2  +  sum over neighbouring nodes a, b of  s_ab (f_a - f_b)^2

with r_k = log of structure over prior at a sample. First differences neither swing nor extrapolate; the strength lies
in s, not in the size of the cells, so the grid may be fine. s falls where prior depth or brightness jump between nodes
(the bilateral part): there the correction may jump too. One banded Cholesky factorisation solves it exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.linalg import solveh_banded

LONG_SIDE = 40  # nodes along the longer side; 64 gains nothing and costs four times as much
SHORTEST_SIDE = 8
NULL_WEIGHT = 1e-9  # keeps the factorisation definite where nothing at all is known
ROUNDS = 3  # of reweighting
ROUNDS_FROM_START = 2  # where a good field is known
ROBUST_SCALE = 2.5  # in robust sigmas; Geman-McClure weights, 1 / (1 + (e / 2.5 sigma)^2)^2
MIN_SIGMA = 0.005  # log depth; structure from motion is not better than this
FEW_SAMPLES_SIGMA = 4.0  # log depth, over their number: few are followed so closely that residuals say little
EDGE_FLOOR = 0.02  # what is left of the stiffness across the strongest edge


@dataclass(frozen=True)
class FieldGrid:
    """Nodes spread evenly over a picture of ``width`` x ``height`` pixels, the outer ones on its border."""

    nodes_x: int
    nodes_y: int
    width: int
    height: int

    @classmethod
    def over(cls, width: int, height: int) -> FieldGrid:
        """The grid of usual density for a picture."""
        long = max(width, height)
        across = (max(SHORTEST_SIDE, round(LONG_SIDE * side / long)) for side in (width, height))
        return cls(*across, width, height)

    @property
    def shape(self) -> tuple[int, int]:
        """(nodes_y, nodes_x): fields are indexed like pictures."""
        return self.nodes_y, self.nodes_x

    def read(self, field: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Field values (N,) at pixel positions x, y (N,)."""
        out = np.empty(len(x))
        _read(
            np.ascontiguousarray(field, dtype=np.float64),
            np.ascontiguousarray(x, dtype=np.float64) * ((self.nodes_x - 1) / self.width),
            np.ascontiguousarray(y, dtype=np.float64) * ((self.nodes_y - 1) / self.height),
            out,
        )
        return out

    def spread(self, field: np.ndarray, width: int, height: int) -> np.ndarray:
        """(height, width) float64 field at the pixel centres of any grid that covers the picture."""
        across = _between((np.arange(width) + 0.5) * ((self.nodes_x - 1) / width), self.nodes_x)
        down = _between((np.arange(height) + 0.5) * ((self.nodes_y - 1) / height), self.nodes_y)
        return down @ np.asarray(field, dtype=np.float64) @ across.T

    def node_pixels(self, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        """Column and row of the pixel of a ``width`` x ``height`` grid under each node: (nodes_x,), (nodes_y,) int."""
        column = np.round(np.linspace(0, width - 1, self.nodes_x)).astype(int)
        row = np.round(np.linspace(0, height - 1, self.nodes_y)).astype(int)
        return column, row


def _between(position: np.ndarray, nodes: int) -> np.ndarray:
    """(N, nodes) weights of linear interpolation at positions in node units."""
    first = np.clip(position.astype(int), 0, nodes - 2)
    weights = np.zeros((len(position), nodes))
    rows = np.arange(len(position))
    weights[rows, first] = 1 - (position - first)
    weights[rows, first + 1] = position - first
    return weights


@dataclass(frozen=True)
class FieldSamples:
    """Where the field is known, and how well."""

    x: np.ndarray  # (K,) pixels
    y: np.ndarray  # (K,) pixels
    log_ratio: np.ndarray  # (K,) log of the true disparity over the prior's
    weight: np.ndarray  # (K,)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, chosen: np.ndarray) -> FieldSamples:
        return FieldSamples(self.x[chosen], self.y[chosen], self.log_ratio[chosen], self.weight[chosen])

    def joined(self, other: FieldSamples) -> FieldSamples:
        """These samples, then the others."""
        pairs = zip((self.x, self.y, self.log_ratio, self.weight), (other.x, other.y, other.log_ratio, other.weight))
        return FieldSamples(*(np.concatenate(pair) for pair in pairs))


@dataclass(frozen=True)
class Stiffness:
    """What it costs the field to change between a node and its right and lower neighbour."""

    right: np.ndarray  # (nodes_y, nodes_x), last column unused
    down: np.ndarray  # (nodes_y, nodes_x), last row unused


@dataclass(frozen=True)
class FieldStyle:
    """How stiff a field is, and how readily it gives way at edges."""

    strength: float  # of the penalty against a sample of weight 1
    depth_step: float  # log prior depth between two nodes at which the stiffness falls to 1/e
    grey_step: float  # grey levels per pixel (picture of 320 pixels) at which it falls to 1/e

    def stiffness(self, log_prior: np.ndarray, contrast: Stiffness) -> Stiffness:
        """Stiffness from log prior depth at the nodes (nodes_y, nodes_x) and the brightness contrast between them."""
        right, down = (np.full(log_prior.shape, float(self.strength)) for _ in range(2))
        right[:, :-1] *= _gives_way(np.abs(np.diff(log_prior, axis=1)), self.depth_step)
        down[:-1] *= _gives_way(np.abs(np.diff(log_prior, axis=0)), self.depth_step)
        right *= _gives_way(contrast.right, self.grey_step)
        down *= _gives_way(contrast.down, self.grey_step)
        return Stiffness(right, down)


def _gives_way(step: np.ndarray, scale: float) -> np.ndarray:
    return np.exp(-step / scale) + EDGE_FLOOR


def node_contrast(grey: np.ndarray, grid: FieldGrid) -> Stiffness:
    """Largest brightness gradient on the way from each node to its right and lower neighbour, grey levels per pixel.

    Args:
        grey: (h, w) float32, the picture reduced to about 320 pixels on its longer side and slightly blurred.
    """
    gradient_y, gradient_x = (np.abs(g) for g in np.gradient(np.asarray(grey, dtype=np.float32)))
    column, row = grid.node_pixels(grey.shape[1], grey.shape[0])
    right, down = np.zeros(grid.shape), np.zeros(grid.shape)
    # The pixel row under a node's neighbour belongs to both segments: an edge just on a node cuts both sides.
    along_x, along_y = gradient_x[row], gradient_y[:, column]
    right[:, :-1] = np.maximum(np.maximum.reduceat(along_x, column[:-1], axis=1), along_x[:, column[1:]])
    down[:-1] = np.maximum(np.maximum.reduceat(along_y, row[:-1], axis=0), along_y[row[1:]])
    return Stiffness(right, down)


def solve_field(grid: FieldGrid, samples: FieldSamples, stiffness: Stiffness) -> np.ndarray:
    """The least-squares field (nodes_y, nodes_x) of the samples with the weights they have."""
    u, v = samples.x * ((grid.nodes_x - 1) / grid.width), samples.y * ((grid.nodes_y - 1) / grid.height)
    # Unknowns run along the rows of nodes, so the band is one row and one node wide.
    banded, right = np.zeros((grid.nodes_x + 2, grid.nodes_x * grid.nodes_y)), np.zeros(grid.nodes_x * grid.nodes_y)
    _assemble(u, v, samples.weight, samples.log_ratio, stiffness.right, stiffness.down, banded, right)
    banded[0] += NULL_WEIGHT
    return solveh_banded(banded, right, overwrite_ab=True, overwrite_b=True, lower=True, check_finite=False).reshape(
        grid.shape
    )


def robust_field(
    grid: FieldGrid,
    samples: FieldSamples,
    stiffness: Stiffness,
    judged: int | None = None,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """Field (nodes_y, nodes_x) under Geman-McClure weights, by iteratively reweighted least squares.

    Args:
        judged: the robust sigma is that of the first so many samples; None or 0: of all.
        start: field (nodes_y, nodes_x) whose residuals give the first weights; None: the plain solution.
    """
    field = solve_field(grid, samples, stiffness) if start is None else start
    for _ in range(ROUNDS if start is None else ROUNDS_FROM_START):
        error, sigma = _residuals(grid, samples, field, judged)
        weight = samples.weight / (1 + (error / (ROBUST_SCALE * sigma)) ** 2) ** 2
        field = solve_field(grid, FieldSamples(samples.x, samples.y, samples.log_ratio, weight), stiffness)
    return field


def _residuals(
    grid: FieldGrid, samples: FieldSamples, field: np.ndarray, judged: int | None
) -> tuple[np.ndarray, float]:
    error = samples.log_ratio - grid.read(field, samples.x, samples.y)
    size = np.abs(error[: judged or None])
    spread = 1.4826 * float(np.median(size)) if len(size) else 0.0
    return error, max(spread, MIN_SIGMA, FEW_SAMPLES_SIGMA / max(len(size), 20))


@njit(cache=True, nogil=True)
def _corners(u, v, nodes_x, nodes_y):
    """First node (column, row) of a position's cell, and the place in the cell."""
    column, row = min(max(int(u), 0), nodes_x - 2), min(max(int(v), 0), nodes_y - 2)
    return column, row, u - column, v - row


@njit(cache=True, nogil=True)
def _read(field, u, v, out):
    nodes_y, nodes_x = field.shape
    for k in range(len(u)):
        column, row, a, b = _corners(u[k], v[k], nodes_x, nodes_y)
        top = (1 - a) * field[row, column] + a * field[row, column + 1]
        bottom = (1 - a) * field[row + 1, column] + a * field[row + 1, column + 1]
        out[k] = (1 - b) * top + b * bottom


@njit(cache=True, nogil=True)
def _assemble(u, v, weight, value, right, down, banded, rhs):
    """Normal equations, the matrix in lower banded form: banded[i - j, j] = A[i, j]."""
    nodes_y, nodes_x = right.shape
    for k in range(len(u)):
        column, row, a, b = _corners(u[k], v[k], nodes_x, nodes_y)
        first = row * nodes_x + column
        c00, c01, c10, c11 = (1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b
        w = weight[k]
        banded[0, first] += w * c00 * c00
        banded[0, first + 1] += w * c01 * c01
        banded[0, first + nodes_x] += w * c10 * c10
        banded[0, first + nodes_x + 1] += w * c11 * c11
        banded[1, first] += w * c00 * c01
        banded[1, first + nodes_x] += w * c10 * c11
        banded[nodes_x - 1, first + 1] += w * c01 * c10
        banded[nodes_x, first] += w * c00 * c10
        banded[nodes_x, first + 1] += w * c01 * c11
        banded[nodes_x + 1, first] += w * c00 * c11
        rhs[first] += w * c00 * value[k]
        rhs[first + 1] += w * c01 * value[k]
        rhs[first + nodes_x] += w * c10 * value[k]
        rhs[first + nodes_x + 1] += w * c11 * value[k]
    for row in range(nodes_y):
        for column in range(nodes_x):
            node = row * nodes_x + column
            if column < nodes_x - 1:
                s = right[row, column]
                banded[0, node] += s
                banded[0, node + 1] += s
                banded[1, node] -= s
            if row < nodes_y - 1:
                s = down[row, column]
                banded[0, node] += s
                banded[0, node + nodes_x] += s
                banded[nodes_x, node] -= s

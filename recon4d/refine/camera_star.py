"""A frame and the views it is compared with: what their cameras and the frame's depth should change to look more alike.

The unknowns of the depth are one number for each little cell of pixels, added to log inverse depth: enough pixels to be
sure of it, few enough to follow any bend. They are eliminated here, so that only the cameras are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numba import njit

from recon4d.refine.frame import RefineView
from recon4d.refine.looks import HIDDEN, NUMERIC, _bilinear
from recon4d.refine.window_match import Likeness, likeness

OWN, BOTH = (
    9,
    18,
)  # unknowns of one camera: turn (3), shift (3), log focal length, principal point (2, in focal lengths)
CELL = 4  # pixels
RADIUS, CUT = 2, 0.2  # of a window, and of 1 - ZNCC beyond which it counts little
LARGEST_STEP = 0.05  # of log inverse depth


@dataclass(frozen=True)
class Surface:
    """The depth of a frame, as far as cameras are to be found with it."""

    start: np.ndarray  # (H, W) float32, log inverse depth, NaN where there is none
    change: np.ndarray  # (cells) of the start, so far
    stiffness: np.ndarray  # (cells) 1 / variance of the change
    share: np.ndarray  # (H, W) float32 0..1, how far a pixel takes part
    judges: np.ndarray  # (H, W) float32 0 or 1: pixels the cameras are found without

    @classmethod
    def at(cls, start: np.ndarray, sigma: np.ndarray, share: np.ndarray, judges: np.ndarray) -> Surface:
        """A surface that has not changed yet; ``sigma`` (H, W), standard deviation that a pixel's change may have."""
        known = np.isfinite(start) & np.isfinite(sigma)
        stiffness = _means(np.where(known, sigma, 0), known) ** -2.0
        return cls(start, np.zeros_like(stiffness), stiffness, np.where(known, share, 0).astype(np.float32), judges)

    @property
    def x(self) -> np.ndarray:
        """(H, W) float32, log inverse depth as it is now."""
        height, width = self.start.shape
        change = np.repeat(np.repeat(self.change, CELL, axis=0), CELL, axis=1)[:height, :width]
        return (self.start + change).astype(self.start.dtype)


@dataclass(frozen=True)
class Star:
    """Quadratic energy of a frame and its views around the cameras they have; the depth is eliminated."""

    hessian: np.ndarray  # (V + 1, 9, V + 1, 9), the frame itself first
    gradient: np.ndarray  # (V + 1, 9)
    energy: float  # sum over pixels and views, of those that do not judge


class Judged(NamedTuple):
    """How unlike a frame and its views look at pixels that had no say; sums over pixels and views."""

    cost: float  # robust 1 - ZNCC
    count: float


def follow(frame: RefineView, views: Sequence[RefineView], surface: Surface, weight: float, steps: int) -> Surface:
    """The surface moved to where the frame looks most like its views, the cameras as they are."""
    for _ in range(steps):
        x = surface.x
        hessian, gradient = np.zeros_like(surface.change), np.zeros_like(surface.change)
        for view in views:
            found = _compared(frame, view, x, surface)
            pair = _pair(frame, view)
            _sum_depth(x, view.grey, pair, found.gradient, found.hessian, hessian, gradient)
        pull = weight * gradient + surface.stiffness * surface.change
        step = np.clip(-pull / (weight * hessian + surface.stiffness), -LARGEST_STEP, LARGEST_STEP)
        surface = replace(surface, change=surface.change + step)
    return surface


def judge(frame: RefineView, views: Sequence[RefineView], surface: Surface) -> Judged:
    """How unlike the pixels look that had no say."""
    cost = count = 0.0
    x, share = surface.x, surface.share * surface.judges
    for view in views:
        found = _compared(frame, view, x, surface)
        cost += _cost(found, share)
        count += float((share * found.seen).sum(dtype=np.float64))
    return Judged(cost, count)


def star(frame: RefineView, views: Sequence[RefineView], surface: Surface, weight: float) -> Star:
    """The energy of a frame with its views, quadratic in the increments of all their cameras.

    The increment (w, t) of a pose moves points of the camera's frame: x + w x x + t. Energy is  ``weight`` * sum over
    views and pixels of the robust 1 - ZNCC, plus the pull of the depth towards its start; pixels that judge are left
    out.

    Source: elimination of the structure from the normal equations, Triggs et al., Bundle Adjustment, 2000, section 6.1.
    """
    x, count = surface.x, len(views) + 1
    whole, slope = np.zeros((count, OWN, count, OWN)), np.zeros((count, OWN))
    depth, pull = np.zeros_like(surface.change), np.zeros_like(surface.change)
    ties = np.zeros((*depth.shape, count, OWN))
    speaks = 1 - surface.judges
    energy = 0.0
    for k, view in enumerate(views, 1):
        found = _compared(frame, view, x, surface)
        energy += weight * _cost(found, surface.share * speaks)
        both, both_slope = np.zeros((BOTH, BOTH)), np.zeros(BOTH)
        sums = (both, both_slope), (depth, pull), ties[:, :, 0], ties[:, :, k]
        _sum_cameras(x, view.grey, _pair(frame, view), found.gradient * speaks, found.hessian * speaks, *sums)
        both = np.triu(both) + np.triu(both, 1).T
        for a, first in ((0, 0), (k, OWN)):
            slope[a] += weight * both_slope[first : first + OWN]
            for b, second in ((0, 0), (k, OWN)):
                whole[a, :, b] += weight * both[first : first + OWN, second : second + OWN]
    flat = weight * ties.reshape(depth.size, count * OWN)
    sure = (1 / (weight * depth + surface.stiffness)).ravel()
    pull = (weight * pull + surface.stiffness * surface.change).ravel()
    whole -= ((flat * sure[:, None]).T @ flat).reshape(whole.shape)
    slope -= (flat.T @ (sure * pull)).reshape(slope.shape)
    return Star(whole, slope, energy)


def _cost(found: Likeness, share: np.ndarray) -> float:
    away = 1 - found.zncc
    return float((share * found.seen * away * CUT / (CUT + away)).sum(dtype=np.float64))


def _compared(frame: RefineView, view: RefineView, x: np.ndarray, surface: Surface) -> Likeness:
    """The likeness to a view, with derivatives by the grey level that the view shows at each pixel."""
    warped = np.empty_like(x)
    _warp(x, view.grey, view.x, _pair(frame, view), warped)
    return likeness(frame.grey, warped, np.ones_like(x), surface.share, RADIUS, CUT)


def _pair(frame: RefineView, view: RefineView) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Calibrations of both, and the rigid motion from the frame's camera to the view's."""
    motion = view.cam_from_world @ frame.cam_from_world.inverse()
    own, other = (np.array((c.fx, c.fy, c.cx, c.cy)) for c in (frame.camera, view.camera))
    return own, other, motion.rotation, motion.translation


def _means(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(cells) float64 means of the known values; 1 where there is none."""
    rows, columns = (np.arange(0, size, CELL) for size in values.shape)

    def summed(grid: np.ndarray) -> np.ndarray:
        return np.add.reduceat(np.add.reduceat(grid.astype(np.float64), rows, axis=0), columns, axis=1)

    count = summed(known)
    return np.where(count > 0, summed(values) / np.maximum(count, 1), 1.0)


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy", inline="always")
def _carried(row, column, d, pair):
    """A pixel at inverse depth d in the view's frame, times d, and its place there (first pixel centre at 0)."""
    own, other, rotation, translation = pair
    rx, ry = (column + 0.5 - own[2]) / own[0], (row + 0.5 - own[3]) / own[1]
    nx = rotation[0, 0] * rx + rotation[0, 1] * ry + rotation[0, 2] + d * translation[0]
    ny = rotation[1, 0] * rx + rotation[1, 1] * ry + rotation[1, 2] + d * translation[1]
    nz = rotation[2, 0] * rx + rotation[2, 1] * ry + rotation[2, 2] + d * translation[2]
    return nx, ny, nz, other[0] * nx / nz + other[2] - 0.5, other[1] * ny / nz + other[3] - 0.5


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy", inline="always")
def _gradient(picture, u, v):
    """Of the picture between four pixels; of the nearest four beyond its border."""
    left = min(max(int(u), 0), picture.shape[1] - 2)
    top = min(max(int(v), 0), picture.shape[0] - 2)
    _, gx, gy = _bilinear(picture, left, top, u - left, v - top)
    return gx, gy


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy")
def _warp(x, picture, other, pair, warped):
    """The view's picture at each pixel of the frame, NaN where it does not see the pixel's surface."""
    height, width = x.shape
    rows, columns = picture.shape
    for row in range(height):
        for column in range(width):
            warped[row, column] = np.nan
            here = x[row, column]
            if here != here:
                continue
            _, _, nz, u, v = _carried(row, column, np.exp(np.float64(here)), pair)
            if not (nz > 1e-6 and u >= 0 and v >= 0 and u < columns - 1 and v < rows - 1):
                continue
            if other[int(v + 0.5), int(u + 0.5)] > here - np.log(nz) + HIDDEN:
                continue
            left, top = int(u), int(v)
            warped[row, column] = _bilinear(picture, left, top, u - left, v - top)[0]


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy")
def _sum_depth(x, picture, pair, g, h, hessian, gradient):
    """Add to the cells' sums how the energy changes with the depth; ``g``, ``h`` as in `_sum_cameras`."""
    other, translation = pair[1], pair[3]
    height, width = x.shape
    for row in range(height):
        for column in range(width):
            if not (h[row, column] > 0):
                continue
            d = np.exp(np.float64(x[row, column]))
            nx, ny, nz, u, v = _carried(row, column, d, pair)
            gx, gy = _gradient(picture, u, v)
            along_x = other[0] * (translation[0] - nx / nz * translation[2])
            along_y = other[1] * (translation[1] - ny / nz * translation[2])
            slope = d * (gx * along_x + gy * along_y) / nz
            hessian[row // CELL, column // CELL] += h[row, column] * slope * slope
            gradient[row // CELL, column // CELL] += g[row, column] * slope


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy")
def slopes(row, column, d, pair, gx, gy, out):
    """How a grey level that a view shows changes with both cameras, written to ``out`` (18,), and with x, returned.

    Args:
        row, column: pixel of the frame; ``d`` its inverse depth.
        pair: see `_pair`.
        gx, gy: gradient of the view's picture where the pixel lies in it.
    """
    own, other, rotation, translation = pair
    nx, ny, nz, _, _ = _carried(row, column, d, pair)
    rx, ry = (column + 0.5 - own[2]) / own[0], (row + 0.5 - own[3]) / own[1]
    u, v = other[0] * nx / nz, other[1] * ny / nz  # from the principal point
    cx, cy = gx * other[0] / nz, gy * other[1] / nz  # by n, the point in the view's frame times d
    cz = -(gx * u + gy * v) / nz
    bx = rotation[0, 0] * cx + rotation[1, 0] * cy + rotation[2, 0] * cz  # by r, the ray in the frame's own
    by = rotation[0, 1] * cx + rotation[1, 1] * cy + rotation[2, 1] * cz
    bz = rotation[0, 2] * cx + rotation[1, 2] * cy + rotation[2, 2] * cz
    out[0], out[1], out[2] = by - ry * bz, rx * bz - bx, ry * bx - rx * by  # -(r x b)
    out[3], out[4], out[5] = -d * bx, -d * by, -d * bz
    out[6], out[7], out[8] = -(rx * bx + ry * by), -bx, -by
    out[9], out[10], out[11] = ny * cz - nz * cy, nz * cx - nx * cz, nx * cy - ny * cx  # n x c
    out[12], out[13], out[14] = d * cx, d * cy, d * cz
    out[15], out[16], out[17] = gx * u + gy * v, gx * other[0], gy * other[1]
    return d * (cx * translation[0] + cy * translation[1] + cz * translation[2])


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy")
def _sum_cameras(x, picture, pair, g, h, both, cells, own_ties, other_ties):
    """Add a view's part to the sums: of both cameras (upper triangle), of the cells, and of what ties them.

    Args:
        g, h: (H, W) derivatives of the energy by the grey level the view shows; h is 0 where a pixel has no part.
        both: hessian (18, 18) and gradient (18,) of the frame's and the view's camera.
        cells: hessian and gradient of the cells' depth.
        own_ties, other_ties: (cells, 9) mixed derivatives.
    """
    whole, slope = both
    depth, pull = cells
    height, width = x.shape
    j = np.empty(BOTH)
    for row in range(height):
        for column in range(width):
            weight = np.float64(h[row, column])
            if not (weight > 0):
                continue
            d = np.exp(np.float64(x[row, column]))
            _, _, _, u, v = _carried(row, column, d, pair)
            gx, gy = _gradient(picture, u, v)
            along = slopes(row, column, d, pair, gx, gy, j)
            r, c = row // CELL, column // CELL
            depth[r, c] += weight * along * along
            pull[r, c] += g[row, column] * along
            for a in range(BOTH):
                ja = weight * j[a]
                slope[a] += g[row, column] * j[a]
                for b in range(a, BOTH):
                    whole[a, b] += ja * j[b]
            for a in range(OWN):
                own_ties[r, c, a] += weight * along * j[a]
                other_ties[r, c, a] += weight * along * j[OWN + a]

"""Planes in a depth map, and which of them each pixel lies on: depth for walls too plain to match.

A plane in space has an inverse depth that is affine in the picture, so planes are found and compared there. What was
measured well votes; where little was measured, a pixel takes the plane of the surroundings it looks like.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

FITS_WITHIN = 0.015  # relative inverse depth: pixels on a plane
SMALLEST_SHARE = 0.004  # of the picture, weighted: smaller planes are not looked for
DRAWS = 1500  # random triples per plane
JUDGES = 1500  # pixels that judge a draw
MIN_SPREAD = 25.0  # square pixels, twice the area of a triple: thinner ones say nothing about slant
SMALLEST_REACH, DOUBLINGS = 10.0, 3.3  # a triple is drawn from a square this wide either way, pixels of 320 across
SEED = 0


@dataclass(frozen=True)
class PlaneStyle:
    """How pixels choose their plane."""

    disagreement: float = 0.05  # relative inverse depth at which a measured pixel has had enough of a plane
    change: float = 3.0  # cost of another plane next door, against 1 for a sure disagreement
    edge: float = 6.0  # grey levels: a step of this size halves that cost
    none: float = 0.15  # cost of lying on no plane where depth is sure ...
    none_unsure: float = 1.2  # ... and what it costs more where it is not


def find_planes(inverse_depth: np.ndarray, weight: np.ndarray, count: int = 24) -> np.ndarray:
    """Planes one after the other, each the one most weight lies on, from local random triples.

    Args:
        inverse_depth: (H, W) float32.
        weight: (H, W) float32, 0..1: trust in each pixel; 0 takes no part.
        count: most planes to find.

    Returns:
        (M, 3) float64, M <= count: inverse depth is a x + b y + c with x, y in pixels, first pixel centre (0.5, 0.5).

    Source: Fischler and Bolles, Random sample consensus, CACM 1981, with truncated quadratic scores (MSAC) and samples
    drawn near each other, which finds small planes between large ones.
    """
    scale = max(inverse_depth.shape) / 320
    smallest = SMALLEST_SHARE * inverse_depth.size
    return _find_planes(
        inverse_depth.astype(np.float64),
        weight.astype(np.float64),
        count,
        smallest,
        SMALLEST_REACH * scale,
        np.random.default_rng(SEED),
    )


def plane_surface(
    inverse_depth: np.ndarray, sure: np.ndarray, weight: np.ndarray, rgb: np.ndarray, style: PlaneStyle
) -> tuple[np.ndarray, np.ndarray]:
    """Put every pixel on a plane, or on none where it is measured otherwise.

    Args:
        inverse_depth: (H, W) float32, 0 where not known.
        sure: (H, W) float32, 0..1: trust in the depth.
        weight: (H, W) float32, 0..1: the same, less where the picture is plain; planes are fitted to and judged by it.
        rgb: (H, W, 3) uint8; planes change where it does.

    Returns:
        Inverse depth (H, W) float32 > 0, and the plane of each pixel (H, W) int32, 0 for none.

    Raises:
        ValueError: no pixel has a depth.
    """
    planes = find_planes(inverse_depth, np.where(weight > 0.15, weight, 0))
    height, width = inverse_depth.shape
    known = inverse_depth > 0
    if not known.any():
        raise ValueError("plane_surface: no pixel has a depth")
    lowest, highest = np.float32(np.percentile(inverse_depth[known], (0.5, 99.5)) * (0.6, 1.6))
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    answers = np.empty((height, width, 1 + len(planes)), dtype=np.float32)
    costs = np.empty_like(answers)
    answers[..., 0] = inverse_depth
    costs[..., 0] = np.where(known, style.none + style.none_unsure * (1 - sure), 4.0)
    for m, (a, b, c) in enumerate(planes, start=1):
        answers[..., m] = a * x + b * y + c
        away = np.abs(answers[..., m] - inverse_depth) / np.maximum(inverse_depth, 1e-9)
        costs[..., m] = weight * np.minimum((away / style.disagreement) ** 2, 1)
        costs[..., m][(answers[..., m] < lowest) | (answers[..., m] > highest)] = 4.0
    total = np.zeros_like(costs)
    picture = rgb.astype(np.float32)
    for way in (1, -1):
        _potts_paths(costs, picture, np.float32(style.change), np.float32(style.edge), way, total)
    label = total.argmin(axis=2)
    surface = np.take_along_axis(answers, label[..., None], axis=2)[..., 0]
    # A floor goes on to its horizon, the scene does not.
    surface = np.where(label > 0, np.clip(surface, lowest, highest), surface)
    # Where nothing is known and no plane fits either, the nearest thing to an answer is the usual depth.
    surface = np.where(surface > 0, surface, np.float32(np.median(inverse_depth[known])))
    return surface, label.astype(np.int32)


@njit(cache=True, nogil=True)
def _find_planes(inverse_depth, weight, count, smallest, reach, rng):
    width = inverse_depth.shape[1]
    left = weight.copy()
    planes = np.zeros((count, 3))
    found = 0
    for _ in range(count):
        pixels = np.flatnonzero(left.ravel() > 0)
        if len(pixels) < 3:
            break
        thinning = max(1, len(pixels) // JUDGES)
        judges = pixels[rng.integers(0, thinning) :: thinning]
        best, best_score = np.zeros(3), 0.0
        for _ in range(DRAWS):
            ok, plane = _draw(inverse_depth, left, pixels, reach, rng)
            if ok:
                score = _score(inverse_depth, left, judges, plane) * thinning
                if score > best_score:
                    best, best_score = plane, score
        if best_score < smallest:
            break
        for _ in range(3):
            best = _refit(inverse_depth, left, pixels, best)
        planes[found] = best
        found += 1
        for index in pixels:
            y, x = index // width, index % width
            if abs(_residual(best, inverse_depth, y, x)) < FITS_WITHIN:
                left[y, x] = 0
    return planes[:found]


@njit(cache=True, nogil=True)
def _residual(plane, inverse_depth, y, x):
    d = inverse_depth[y, x]
    return (plane[0] * (x + 0.5) + plane[1] * (y + 0.5) + plane[2] - d) / d


@njit(cache=True, nogil=True)
def _draw(inverse_depth, left, pixels, reach, rng):
    """A plane through three trusted pixels near each other; False when none were found or they lie on a line."""
    height, width = left.shape
    plane = np.zeros(3)
    rows, columns = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
    first = pixels[rng.integers(0, len(pixels))]
    rows[0], columns[0] = first // width, first % width
    radius = int(reach * 2.0 ** (rng.random() * DOUBLINGS))
    for k in range(1, 3):
        for _ in range(20):
            y = rows[0] + rng.integers(-radius, radius + 1)
            x = columns[0] + rng.integers(-radius, radius + 1)
            if 0 <= y < height and 0 <= x < width and left[y, x] > 0:
                rows[k], columns[k] = y, x
                break
        else:
            return False, plane
    dx1, dy1 = float(columns[1] - columns[0]), float(rows[1] - rows[0])
    dx2, dy2 = float(columns[2] - columns[0]), float(rows[2] - rows[0])
    area = dx1 * dy2 - dx2 * dy1
    if abs(area) < MIN_SPREAD:
        return False, plane
    d0 = inverse_depth[rows[0], columns[0]]
    d1, d2 = inverse_depth[rows[1], columns[1]] - d0, inverse_depth[rows[2], columns[2]] - d0
    plane[0] = (d1 * dy2 - d2 * dy1) / area
    plane[1] = (dx1 * d2 - dx2 * d1) / area
    plane[2] = d0 - plane[0] * (columns[0] + 0.5) - plane[1] * (rows[0] + 0.5)
    return True, plane


@njit(cache=True, nogil=True)
def _score(inverse_depth, left, judges, plane):
    width = left.shape[1]
    score = 0.0
    for index in judges:
        y, x = index // width, index % width
        away = _residual(plane, inverse_depth, y, x) / FITS_WITHIN
        score += left[y, x] * max(0.0, 1.0 - away * away)
    return score


@njit(cache=True, nogil=True)
def _refit(inverse_depth, left, pixels, plane):
    """Weighted least squares of relative inverse depth over the pixels on the plane."""
    width = left.shape[1]
    normal, right = np.zeros((3, 3)), np.zeros(3)
    row = np.zeros(3)
    for index in pixels:
        y, x = index // width, index % width
        away = _residual(plane, inverse_depth, y, x) / FITS_WITHIN
        if abs(away) < 1.0:
            d = inverse_depth[y, x]
            w = left[y, x] * (1.0 - away * away) / (d * d)
            row[0], row[1], row[2] = (x + 0.5) / width, (y + 0.5) / width, 1.0  # of one size: well conditioned
            for a in range(3):
                right[a] += w * row[a] * d
                for b in range(3):
                    normal[a, b] += w * row[a] * row[b]
    for a in range(3):
        normal[a, a] *= 1 + 1e-9
    if abs(np.linalg.det(normal)) < 1e-12 * normal[2, 2] ** 3:
        return plane
    solved = np.linalg.solve(normal, right)
    return np.array([solved[0] / width, solved[1] / width, solved[2]])


@njit(cache=True, nogil=True, fastmath={"contract", "arcp", "nsz", "nnan"})
def _potts_paths(costs, picture, change, edge, way, total):
    """Four of eight semi-global paths with one price for any change of label, less where the picture changes."""
    height, width, count = costs.shape
    before = np.zeros((3, width, count), dtype=np.float32)
    now = np.zeros((3, width, count), dtype=np.float32)
    along = np.zeros((2, count), dtype=np.float32)
    for step in range(height):
        y = step if way > 0 else height - 1 - step
        for i in range(width):
            x = i if way > 0 else width - 1 - i
            for direction in range(4):
                row = y if direction == 3 else y - way
                column = x - way if direction == 3 else x - way * (direction - 1)
                target = along[(i + 1) % 2] if direction == 3 else now[direction, x]
                if column < 0 or column >= width or (direction < 3 and step == 0):
                    for k in range(count):
                        target[k] = costs[y, x, k]
                        total[y, x, k] += target[k]
                    continue
                source = along[i % 2] if direction == 3 else before[direction, column]
                step_in_picture = np.float32(0)
                for channel in range(3):
                    jump = abs(picture[y, x, channel] - picture[row, column, channel])
                    step_in_picture = max(step_in_picture, jump)
                price = change / (np.float32(1) + step_in_picture / edge)
                lowest = source[0]
                for k in range(1, count):
                    lowest = min(lowest, source[k])
                for k in range(count):
                    target[k] = costs[y, x, k] + min(source[k] - lowest, price)
                    total[y, x, k] += target[k]
        before, now = now, before

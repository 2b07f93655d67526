"""Does a sparse point look the same where it should be seen? What moves, or is hidden, does not.

A point that structure from motion took from something moving lies where the epipolar geometry put it, at a wrong depth:
just beyond the frames of its track it projects beside what it was taken from. A point hidden in a frame projects onto
what hides it. Both show in the pictures, by the normalised cross-correlation of patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from recon4d.geometry.seen_points import WIDE_SPAN, SeenPoints, SparseViews, projected

HALF_PATCH = 4  # pixels of the reduced picture
ALIKE = 0.6  # correlation. Static points have 0.93 in the median and 0.6 at 10 %, points on movers 0.2 and 0.6 at 90 %
FLAT = 2.0  # grey levels: a patch that varies less tells nothing
OFFSETS = (3, 6, 10)  # frames before and after an observation in which a point is looked for
LEAST_LOOKS = 2
# The same patch looks different from another place: beyond these changes of the view nothing is concluded.
MAX_TURN_DEG, MAX_PARALLAX_DEG, MAX_ZOOM = 20.0, 10.0, 1.25


class PointLooks:
    """Patches of sparse points on the reduced pictures (h, w) uint8, slightly blurred, of a clip's frames."""

    def __init__(self, greys: Sequence[np.ndarray], views: SparseViews) -> None:
        self._greys, self._views = greys, views

    def static_points(self) -> np.ndarray:
        """(P,) bool: looks the same in frames near its track that did not track it; True where too few looks tell."""
        count = len(self._views.points)
        total, looks = np.zeros(count), np.zeros(count, dtype=int)
        for i in range(len(self._greys)):
            for j in (i + sign * offset for offset in OFFSETS for sign in (-1, 1)):
                if not 0 <= j < len(self._greys):
                    continue
                rows = np.setdiff1d(self._views.own(j).rows, self._views.own(i).rows, assume_unique=True)
                view = self._views.view(i)
                x, y, z, inside = projected(self._views.points[rows], view.cam_from_world, view.camera)
                found = self.likeness(i, j, SeenPoints(rows, x, y, z, np.zeros(len(rows)))[inside])
                told = np.isfinite(found)
                total[rows[inside][told]] += found[told]  # a row is in a frame once
                looks[rows[inside][told]] += 1
        return (looks < LEAST_LOOKS) | (total >= ALIKE * looks)

    def hidden(self, i: int, lent: SeenPoints) -> np.ndarray:
        """(K,) bool: frame ``i`` shows something else where these points project than the nearest frame that saw them.

        False where it cannot be told.
        """
        hidden, waiting = np.zeros(len(lent), dtype=bool), np.arange(len(lent))
        for j in sorted(
            range(max(0, i - WIDE_SPAN), min(len(self._greys), i + WIDE_SPAN + 1)), key=lambda j: abs(j - i)
        ):
            if j == i or not len(waiting):
                continue
            there = np.isin(lent.rows[waiting], self._views.own(j).rows, assume_unique=True)
            found = self.likeness(i, j, lent[waiting[there]])
            hidden[waiting[there]] = found < ALIKE  # NaN is not
            waiting = waiting[~there]
        return hidden

    def likeness(self, i: int, j: int, points: SeenPoints) -> np.ndarray:
        """(K,) correlation of what frame ``i`` shows at points with what frame ``j`` observed there.

        Args:
            points: pixels and depth in frame ``i``; all of them observed in frame ``j``.

        Returns:
            -1..1, NaN where it cannot be told: flat, at the border, or seen from too different a place.
        """
        out, seen = np.full(len(points), np.nan), self._views.own(j)
        if not len(points):
            return out
        a, b = self._views.view(i), self._views.view(j)
        turn = a.cam_from_world.rotation @ b.cam_from_world.rotation.T
        if np.trace(turn) < 1 + 2 * np.cos(np.radians(MAX_TURN_DEG)):
            return out
        order = np.argsort(seen.rows)
        there = seen[order[np.searchsorted(seen.rows[order], points.rows)]]
        ray_a, ray_b = (self._views.points[points.rows] - view.cam_from_world.inverse().translation for view in (a, b))
        cosine = (ray_a * ray_b).sum(axis=1) / (np.linalg.norm(ray_a, axis=1) * np.linalg.norm(ray_b, axis=1))
        zoom = (a.camera.fx / points.z) / (b.camera.fx / there.z)
        told = (cosine > np.cos(np.radians(MAX_PARALLAX_DEG))) & (np.abs(np.log(zoom)) < np.log(MAX_ZOOM))
        found = np.empty(int(told.sum()))
        _correlate(*self._patches(i, points[told]), *self._patches(j, there[told]), found)
        out[told] = found
        return out

    def _patches(self, i: int, points: SeenPoints) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        grey, camera = self._greys[i], self._views.view(i).camera
        return grey, points.x * (grey.shape[1] / camera.width), points.y * (grey.shape[0] / camera.height)


@njit(cache=True, nogil=True)
def _correlate(grey_a, x_a, y_a, grey_b, x_b, y_b, out):
    side = 2 * HALF_PATCH + 1
    a, b = np.empty(side * side), np.empty(side * side)
    for k in range(len(out)):
        if not (_patch(grey_a, x_a[k], y_a[k], a) and _patch(grey_b, x_b[k], y_b[k], b)):
            out[k] = np.nan
            continue
        mean_a, mean_b = a.mean(), b.mean()
        var_a, var_b, both = 0.0, 0.0, 0.0
        for t in range(side * side):
            u, v = a[t] - mean_a, b[t] - mean_b
            var_a += u * u
            var_b += v * v
            both += u * v
        least = side * side * FLAT * FLAT
        # What was seen must have texture; where it should be seen, a flat patch is an answer: it is not there.
        out[k] = both / np.sqrt(var_a * var_b + 1e-9) if var_b > least else np.nan


@njit(cache=True, nogil=True)
def _patch(grey, x, y, out):
    """Bilinear patch about a position (first pixel centre 0.5, 0.5); False where it leaves the picture."""
    height, width = grey.shape
    u, v = x - 0.5, y - 0.5
    column, row = int(np.floor(u)), int(np.floor(v))
    if not (
        column >= HALF_PATCH and column + HALF_PATCH + 1 < width and row >= HALF_PATCH and row + HALF_PATCH + 1 < height
    ):
        return False
    a, b = u - column, v - row
    t = 0
    for r in range(row - HALF_PATCH, row + HALF_PATCH + 1):
        for c in range(column - HALF_PATCH, column + HALF_PATCH + 1):
            top = (1 - a) * grey[r, c] + a * grey[r, c + 1]
            bottom = (1 - a) * grey[r + 1, c] + a * grey[r + 1, c + 1]
            out[t] = (1 - b) * top + b * bottom
            t += 1
    return True

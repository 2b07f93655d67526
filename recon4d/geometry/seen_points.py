"""Which sparse points a frame sees: its own, and those other frames found that are in view and not hidden."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from recon4d.scene.camera import Camera
from recon4d.scene.sparse import SparseModel
from recon4d.scene.trajectory import Trajectory, View
from recon4d.scene.transforms import Rigid3

SPAN = 10  # frames before and after whose points are lent: farther ones are hidden or wrong too often
SCARCE, WIDE_SPAN = 300, 20  # with fewer points than that, a frame is lent points of more frames
POOLED_WEIGHT = 0.5  # of a lent point against an own one
HIDING_RADIUS = 0.025  # of the longer side: a nearer point within it hides what lies ...
HIDING_STEP = 0.12  # ... more than this behind it (relative inverse depth)


@dataclass(frozen=True)
class SeenPoints:
    """Sparse points on a frame's picture."""

    rows: np.ndarray  # (K,) int, rows in `SparseModel.points`
    x: np.ndarray  # (K,) pixels of the undistorted picture
    y: np.ndarray  # (K,)
    z: np.ndarray  # (K,) z-depth, scene units
    weight: np.ndarray  # (K,) 1 for own points, less for lent ones; own ones come first

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: np.ndarray) -> SeenPoints:
        return SeenPoints(self.rows[chosen], self.x[chosen], self.y[chosen], self.z[chosen], self.weight[chosen])

    @property
    def own(self) -> np.ndarray:
        """(K,) bool: observed in this frame itself."""
        return self.weight >= 1.0


class SparseViews:
    """The trustworthy sparse points of a clip, frame by frame.

    ``usable`` (P,) says which points of the model count; points behind a camera are never seen.
    """

    def __init__(self, model: SparseModel, trajectory: Trajectory, usable: np.ndarray) -> None:
        self.points, self._usable = model.points, usable
        self._views = list(trajectory)
        self._own = [self._observed(model, view) for view in self._views]

    def _observed(self, model: SparseModel, view: View) -> SeenPoints:
        rows = model.rows.get(view.name, np.zeros(0, dtype=int))
        pixels = model.pixels.get(view.name, np.zeros((0, 2)))
        z = (view.cam_from_world @ model.points[rows])[:, 2] if len(rows) else np.zeros(0)
        seen = SeenPoints(rows, pixels[:, 0], pixels[:, 1], z, np.ones(len(rows)))
        return seen[self._usable[rows] & (z > 0)]

    def __len__(self) -> int:
        return len(self._views)

    def view(self, i: int) -> View:
        """Frame ``i`` of the trajectory."""
        return self._views[i]

    def own(self, i: int) -> SeenPoints:
        """Points observed in frame ``i``."""
        return self._own[i]

    def with_lent(self, i: int) -> SeenPoints:
        """Points observed in frame ``i``, then those of its neighbours in time that are in view and not hidden."""
        seen = self._with_lent(i, SPAN)
        return seen if len(seen) >= SCARCE else self._with_lent(i, WIDE_SPAN)

    def _with_lent(self, i: int, span: int) -> SeenPoints:
        own, view = self._own[i], self._views[i]
        near = np.zeros(len(self.points), dtype=bool)
        for j in range(max(0, i - span), min(len(self._own), i + span + 1)):
            near[self._own[j].rows] = True
        near[own.rows] = False
        rows = np.flatnonzero(near)
        x, y, z, inside = projected(self.points[rows], view.cam_from_world, view.camera)
        lent = SeenPoints(rows, x, y, z, np.full(len(rows), POOLED_WEIGHT))[inside]
        both = SeenPoints(*(np.concatenate(pair) for pair in zip(_columns(own), _columns(lent))))
        radius = HIDING_RADIUS * max(view.camera.width, view.camera.height)
        clear = not_hidden(both.x, both.y, both.z, radius)
        return both[clear | both.own]


def _columns(seen: SeenPoints) -> tuple[np.ndarray, ...]:
    return seen.rows, seen.x, seen.y, seen.z, seen.weight


def projected(
    points: np.ndarray, cam_from_world: Rigid3, camera: Camera
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pixels x, y and z-depth (N,) of world points (N, 3), and which lie before the camera and inside the picture."""
    in_cam = cam_from_world @ points
    x, y = camera.project(in_cam).T  # NaN behind the camera, so never inside
    z = in_cam[:, 2]
    inside = (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    return x, y, z, inside


def not_hidden(x: np.ndarray, y: np.ndarray, z: np.ndarray, radius: float) -> np.ndarray:
    """(N,) bool: no point within ``radius`` pixels is so much nearer that it would stand before this one."""
    clear = np.ones(len(x), dtype=np.bool_)
    if len(x):
        x, y = x - x.min(), y - y.min()
        cells_x, cells_y = int(x.max() / radius) + 1, int(y.max() / radius) + 1
        _drop_hidden(x, y, z, radius, cells_x, cells_y, clear)
    return clear


@njit(cache=True, nogil=True)
def _drop_hidden(x, y, z, radius, cells_x, cells_y, clear):
    first = np.full(cells_x * cells_y, -1, dtype=np.int64)  # linked lists of the points in each cell
    following = np.full(len(x), -1, dtype=np.int64)
    for i in range(len(x)):
        cell = int(y[i] / radius) * cells_x + int(x[i] / radius)
        following[i] = first[cell]
        first[cell] = i
    for i in range(len(x)):
        column, row = int(x[i] / radius), int(y[i] / radius)
        nearest = z[i]
        for r in range(max(0, row - 1), min(cells_y, row + 2)):
            for c in range(max(0, column - 1), min(cells_x, column + 2)):
                j = first[r * cells_x + c]
                while j >= 0:
                    if (x[j] - x[i]) ** 2 + (y[j] - y[i]) ** 2 < radius * radius and z[j] < nearest:
                        nearest = z[j]
                    j = following[j]
        clear[i] = nearest > (1 - HIDING_STEP) * z[i]

"""Points of surfaces in the world with their normals: what planes are looked for in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recon4d.scene.depth import SceneDepth
from recon4d.scene.trajectory import View

COLUMNS = 64  # of the thinned grid that surfaces are sampled on
HALF_WINDOW = 2  # samples to each side that a normal is fitted to: a twelfth of the picture across
MAX_BEND = 0.03  # root mean square relative residual of a window that counts as flat


@dataclass(frozen=True)
class WorldPoints:
    """Points of surfaces in the world, from structure and from aligned depth."""

    points: np.ndarray  # (N, 3) scene units
    weights: np.ndarray  # (N,) not negative, e.g. 1 / (number of points of the same kind)
    normals: np.ndarray  # (N, 3) unit, either sign; NaN where not known
    groups: np.ndarray  # (N,) int: errors of one group (a frame, the structure) belong together

    def __post_init__(self) -> None:
        count = len(self.points)
        for field, shape in (
            ("points", (count, 3)),
            ("weights", (count,)),
            ("normals", (count, 3)),
            ("groups", (count,)),
        ):
            array = np.asarray(getattr(self, field), dtype=np.int64 if field == "groups" else np.float64)
            if array.shape != shape:
                raise ValueError(f"WorldPoints: {field} {array.shape}, {shape} is expected")
            object.__setattr__(self, field, array)

    def __len__(self) -> int:
        return len(self.points)

    def thinned(self, count: int, seed: int = 0) -> WorldPoints:
        """At most ``count`` of the points, by chance, with the weight of all of them."""
        if len(self) <= count:
            return self
        rows = np.sort(np.random.default_rng(seed).choice(len(self), count, replace=False))
        weights = self.weights[rows] * (self.weights.sum() / max(self.weights[rows].sum(), 1e-300))
        return WorldPoints(self.points[rows], weights, self.normals[rows], self.groups[rows])

    @classmethod
    def of(cls, points: np.ndarray, normals: np.ndarray | None = None, group: int = 0) -> WorldPoints:
        """Points (N, 3) of one group, with a weight of 1 in all."""
        count = len(points)
        normals = np.full((count, 3), np.nan) if normals is None else normals
        return cls(points, np.full(count, 1.0 / max(count, 1)), normals, np.full(count, group))

    @classmethod
    def concatenate(cls, clouds: Sequence[WorldPoints]) -> WorldPoints:
        """All points in order; weights and groups stay as they are."""
        return cls(
            *(
                np.concatenate([getattr(cloud, field) for cloud in clouds])
                for field in ("points", "weights", "normals", "groups")
            )
        )


def surface_points(view: View, surface: SceneDepth, group: int, ignored: np.ndarray | None = None) -> WorldPoints:
    """An even sample of a frame's surface, with a weight of 1 in all, and normals where it is flat around the sample.

    The inverse depth of a plane n . X = 1 is linear in the ray: 1/z = n . (x, y, 1), so a normal is three sums over a
    window.

    Args:
        ignored: (H, W) bool: sky, moving things.
    """
    step = max(1, view.camera.width // COLUMNS)
    rows, columns = (slice(step // 2, None, step) for _ in range(2))
    valid = surface.valid if ignored is None else surface.valid & ~ignored
    z, valid = surface.depth[rows, columns].astype(np.float64), valid[rows, columns]
    rays = view.camera.rays()[rows, columns]
    normals = _normals(np.where(valid, 1.0 / np.where(valid, z, 1.0), 0.0), valid, rays)
    world_from_cam = view.cam_from_world.inverse()
    in_world = world_from_cam @ (rays[valid] * z[valid][:, None])
    return WorldPoints.of(in_world, normals[valid] @ world_from_cam.rotation.T, group)


def _normals(inverse: np.ndarray, valid: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """(h, w, 3) unit normals in camera axes from inverse depth (h, w); NaN where the window is not flat and whole."""
    x, y = rays[..., 0] - rays[0, 0, 0], rays[..., 1] - rays[0, 0, 1]
    count = _window_sums(valid.astype(np.float64))
    whole = count > (2 * HALF_WINDOW + 1) ** 2 - 0.5
    area = (2 * HALF_WINDOW + 1) ** 2
    mean, mean_x, mean_y = (_window_sums(v) / area for v in (inverse, x, y))
    spread_x = _window_sums(x**2) / area - mean_x**2
    spread_y = _window_sums(y**2) / area - mean_y**2
    with np.errstate(divide="ignore", invalid="ignore"):  # windows that reach over the border are dropped below
        slope_x = (_window_sums(inverse * x) / area - mean * mean_x) / spread_x
        slope_y = (_window_sums(inverse * y) / area - mean * mean_y) / spread_y
        left = _window_sums(inverse**2) / area - mean**2 - slope_x**2 * spread_x - slope_y**2 * spread_y
        flat = whole & (np.sqrt(np.maximum(left, 0.0)) < MAX_BEND * mean)
        offset = mean - slope_x * rays[..., 0] - slope_y * rays[..., 1]
        normals = np.stack([slope_x, slope_y, offset], axis=-1)
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return np.where(flat[..., None], normals, np.nan)


def _window_sums(values: np.ndarray) -> np.ndarray:
    """(h, w) sums over the window around each sample; outside the grid counts as 0."""
    side = 2 * HALF_WINDOW + 1
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (HALF_WINDOW + 1, HALF_WINDOW)
        total = np.cumsum(np.pad(values, pad), axis=axis)
        values = np.take(total, range(side, total.shape[axis]), axis) - np.take(
            total, range(total.shape[axis] - side), axis
        )
    return values

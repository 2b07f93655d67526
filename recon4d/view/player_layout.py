"""How a scene lies in space, so that the player can start with a good view and draw its grid on the floor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon4d.scene.scene4d import UpAxis
from recon4d.scene.trajectory import Trajectory

UP = {UpAxis.Z: (0.0, 0.0, 1.0), UpAxis.Y: (0.0, 1.0, 0.0), UpAxis.MODEL: (0.0, -1.0, 0.0)}
NEAR_ZERO = 0.15  # of the height of the scene: the ground that `align` levelled to, rather than the lowest points


@dataclass(frozen=True)
class Layout:
    """Delivered frame and unit."""

    up: np.ndarray  # (3,) unit vector
    centre: np.ndarray  # (3,) of what is seen, without the outermost points
    radius: float
    depth: float  # usual z-depth before the cameras
    floor: float  # height of the floor along `up`


def lay_out(points: np.ndarray, trajectory: Trajectory, up: UpAxis) -> Layout:
    """Layout of a scene.

    Args:
        points: (N, 3) of background and moving things, a sample of them will do; maybe none.
        trajectory: cameras, delivered frame and unit.
    """
    axis, centres = np.array(UP[up]), trajectory.centres
    points = np.asarray(points, dtype=np.float64)
    if not len(points):
        spread = max(float(np.ptp(centres, axis=0).max()), 1.0)
        return Layout(axis, centres.mean(axis=0), spread, spread, float((centres @ axis).min()) - spread / 2)
    low, high = np.percentile(points, [4, 96], axis=0)
    radius = max(float(np.linalg.norm(high - low)) / 2, 1e-6)
    return Layout(axis, (low + high) / 2, radius, _usual_depth(points, trajectory) or radius, _floor(points @ axis))


def _floor(heights: np.ndarray) -> float:
    low, high = np.percentile(heights, [1, 99])
    return 0.0 if abs(low) < NEAR_ZERO * max(high - low, 1e-9) else float(low)


def _usual_depth(points: np.ndarray, trajectory: Trajectory) -> float | None:
    """Median z-depth of the points that a few of the cameras see; None where they see none."""
    depths = []
    for row in np.linspace(0, len(trajectory) - 1, min(5, len(trajectory))).round().astype(int):
        view = trajectory[trajectory.names[row]]
        in_cam = view.cam_from_world @ points
        x, y = view.camera.project(in_cam).T
        with np.errstate(invalid="ignore"):
            seen = (x > 0) & (x < view.camera.width) & (y > 0) & (y < view.camera.height)
        depths.append(in_cam[seen, 2])
    together = np.concatenate(depths)
    return float(np.median(together)) if len(together) else None

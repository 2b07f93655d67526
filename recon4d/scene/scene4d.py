"""The result: one static background, what each moment adds, and the camera that saw it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from recon4d.scene.cloud import PointCloud
from recon4d.scene.trajectory import Trajectory
from recon4d.scene.transforms import Rigid3, Sim3


class UpAxis(str, Enum):
    """The axis of delivered files that points up; `MODEL` keeps the axes of structure from motion."""

    Z = "z"
    Y = "y"
    MODEL = "model"

    @property
    def from_z_up(self) -> np.ndarray:
        """(3, 3) rotation from z-up to this axis: for y-up (x, y, z) -> (x, z, -y), as glTF and Blender have it."""
        return np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]) if self is UpAxis.Y else np.eye(3)


@dataclass(frozen=True)
class Scene4D:
    """A time-indexed scene in the world frame, scene units; what moves in a frame is read when asked for."""

    static: PointCloud  # fused background
    moving: Callable[[str], PointCloud]  # name -> only what moves in that frame, maybe nothing
    trajectory: Trajectory
    metres_per_unit: float | None  # None: the size of the scene is not known
    levelled_from_scene: Rigid3 | None  # turns the world z-up; None: up is not known

    @property
    def names(self) -> tuple[str, ...]:
        return self.trajectory.names

    def frame(self, name: str) -> PointCloud:
        """All there is at the time of a frame: the background, then what moves."""
        return PointCloud.concatenate([self.static, self.moving(name)])

    @property
    def timestamps_s(self) -> np.ndarray:
        return self.trajectory.timestamps_s

    @property
    def fps(self) -> float:
        """Frames per second: the steady rate that the frames' times follow best (30 where there is only one)."""
        return frame_rate(self.timestamps_s)

    def delivered_from_scene(self, up: UpAxis = UpAxis.Z) -> Sim3:
        """What exports apply once: metres where they are known, and the wanted axis up.

        Where up is not known, the mean upward axis of the cameras stands in.
        """
        scale = self.metres_per_unit or 1.0
        if up is UpAxis.MODEL:
            return Sim3(scale, np.eye(3), np.zeros(3))
        turn = self.levelled_from_scene or self._levelled_by_cameras()
        rotation = up.from_z_up @ turn.rotation
        return Sim3(scale, rotation, scale * (up.from_z_up @ turn.translation))

    def _levelled_by_cameras(self) -> Rigid3:
        """The shortest turn that brings the cameras' mean upward axis to z."""
        x, y, z = _unit(-self.trajectory.cam_from_world.rotation[:, 1].sum(axis=0))
        if z < -1 + 1e-9:
            return Rigid3(np.diag([1.0, -1.0, -1.0]), np.zeros(3))  # opposite: every half turn is as short
        # Rodrigues' formula about (x, y, z) x (0, 0, 1) = (y, -x, 0) with cosine z.
        k = np.array([[0.0, 0.0, -x], [0.0, 0.0, -y], [x, y, 0.0]])
        return Rigid3(np.eye(3) + k + k @ k / (1 + z), np.zeros(3))


def frame_rate(timestamps_s: np.ndarray) -> float:
    """The steady rate, per second, that increasing times follow best in the least squares sense; 30 for less than two.

    The median gap alone would be wrong by up to 3 %: many containers round times to milliseconds. It only says how many
    frames each gap spans, so that dropped ones do not slow the rate.
    """
    gaps = np.diff(np.asarray(timestamps_s, dtype=np.float64))
    if not len(gaps) or np.median(gaps) <= 0:
        return 30.0
    counted = np.concatenate([[0], np.cumsum(np.maximum(np.round(gaps / np.median(gaps)), 1))])
    elapsed_s = np.concatenate([[0], np.cumsum(gaps)])
    counted, elapsed_s = counted - counted.mean(), elapsed_s - elapsed_s.mean()
    return float((counted @ counted) / (counted @ elapsed_s))


def _unit(v: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(v)
    return v / length if length > 1e-9 else np.array([0.0, -1.0, 0.0])  # cameras look all ways: the model's own up

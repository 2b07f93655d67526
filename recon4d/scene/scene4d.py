"""The result: one static background, what each moment adds, and the camera that saw it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recon4d.scene.cloud import PointCloud
from recon4d.scene.trajectory import Trajectory
from recon4d.scene.transforms import Rigid3, Sim3


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
        """Frames per second, from the median time between frames (30 where there is only one)."""
        gaps = np.diff(self.timestamps_s)
        return float(1.0 / np.median(gaps)) if len(gaps) and np.median(gaps) > 0 else 30.0

    def delivered_from_scene(self, level: bool = True) -> Sim3:
        """What exports apply once: metres where they are known, and z up where it is known and wanted."""
        scale = self.metres_per_unit or 1.0
        if not level or self.levelled_from_scene is None:
            return Sim3(scale, np.eye(3), np.zeros(3))
        turn = self.levelled_from_scene
        return Sim3(scale, turn.rotation, scale * turn.translation)

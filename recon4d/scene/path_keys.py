"""Poses that a camera path goes through, as a file or a program gives them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from recon4d.scene.transforms import Rigid3, Sim3


class PathSpace(str, Enum):
    """The coordinates that a camera path is given in."""

    DELIVERED = "delivered"  # as exports have them: metres where known, z up
    SCENE = "scene"  # as the scene folder has them, such as the trajectory of `poses`


@dataclass(frozen=True)
class PathKeys:
    """Poses and what else is known of them; None where nothing is."""

    world_from_cam: Rigid3  # batch (K,), camera axes x right, y down, z forward
    key_times: np.ndarray | None = None  # (K,) increasing, any unit: how the poses are spread; None: evenly
    tan_half_height: np.ndarray | None = None  # (K,) tangent of half the vertical field of view; None: the clip's lens
    clip_frames: np.ndarray | None = None  # (K,) moments of the clip that are shown, in its frames

    def __post_init__(self) -> None:
        count = len(self.world_from_cam)
        for field in ("key_times", "tan_half_height", "clip_frames"):
            values = getattr(self, field)
            if values is not None:
                values = np.asarray(values, dtype=np.float64)
                if values.shape != (count,):
                    raise ValueError(f"PathKeys: {field} is {values.shape}, {(count,)} is expected")
                object.__setattr__(self, field, values)
        if self.key_times is not None and not (np.diff(self.key_times) > 0).all():
            raise ValueError("the times of its poses do not increase, sort them and drop repeated ones")

    def in_scene(self, space: PathSpace, delivered_from_scene: Sim3) -> PathKeys:
        """The same cameras in scene units. ``delivered_from_scene`` is what the exports applied."""
        if space is PathSpace.SCENE:
            return self
        scene_from_given = delivered_from_scene.inverse()
        poses = self.world_from_cam
        moved = Rigid3(scene_from_given.rotation @ poses.rotation, scene_from_given @ poses.translation)
        return replace(self, world_from_cam=moved)

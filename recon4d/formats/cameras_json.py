"""`poses/cameras.json`: our own exact record of a trajectory and its undistorted cameras."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from recon4d.scene.camera import Camera
from recon4d.scene.trajectory import PoseOrigin, Trajectory
from recon4d.scene.transforms import Rigid3


def write_trajectory(path: Path, trajectory: Trajectory) -> None:
    """Write every frame's time, camera (pixels, first pixel centre 0.5, 0.5), pose and origin."""
    frames = [
        {
            "name": view.name,
            "timestamp_s": view.timestamp_s,
            "origin": view.origin.value,
            "width": view.camera.width,
            "height": view.camera.height,
            **{key: getattr(view.camera, key) for key in ("fx", "fy", "cx", "cy")},
            "cam_from_world": view.cam_from_world.matrix[:3].tolist(),
        }
        for view in trajectory
    ]
    convention = "x right, y down, z forward; cam_from_world 3x4; pixel centre of the top-left pixel is (0.5, 0.5)"
    path.write_text(json.dumps({"convention": convention, "frames": frames}, indent=1) + "\n", encoding="utf-8")


def read_trajectory(path: Path) -> Trajectory:
    """Reverse of `write_trajectory`."""
    frames = json.loads(path.read_text(encoding="utf-8"))["frames"]
    poses = np.array([frame["cam_from_world"] for frame in frames], dtype=np.float64).reshape(-1, 3, 4)
    return Trajectory(
        names=tuple(frame["name"] for frame in frames),
        timestamps_s=np.array([frame["timestamp_s"] for frame in frames]),
        cam_from_world=Rigid3(poses[:, :, :3], poses[:, :, 3]),
        cameras=tuple(
            Camera(*(int(f[key]) for key in ("width", "height")), *(f[key] for key in ("fx", "fy", "cx", "cy")))
            for f in frames
        ),
        origin=tuple(PoseOrigin(frame["origin"]) for frame in frames),
    )

"""`fuse/scene.json`, the manifest of a 4D scene, and the reader that opens everything it names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from recon4d.formats.cameras_json import read_trajectory
from recon4d.formats.ply import read_cloud
from recon4d.scene.scene4d import Scene4D
from recon4d.scene.trajectory import Trajectory
from recon4d.scene.transforms import Rigid3


def write_scene(
    path: Path, trajectory: Trajectory, metres_per_unit: float | None, levelled_from_scene: Rigid3 | None, cameras: str
) -> None:
    """Write the manifest; ``cameras`` is the path of `cameras.json` relative to the manifest's folder."""
    manifest = {
        "format": 1,
        "convention": "x right, y down, z forward (camera); lengths in scene units; colours sRGB",
        "metres_per_unit": metres_per_unit,
        "levelled_from_scene": None if levelled_from_scene is None else levelled_from_scene.matrix.tolist(),
        "names": list(trajectory.names),
        "timestamps_s": trajectory.timestamps_s.tolist(),
        "cameras": cameras,
        "static": {"cloud": "static.ply", "mesh": "static_mesh.ply"},
        "frames": "frames/{name}.ply",
        "moving": None,
        "scene_flow": None,
    }
    path.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def read_scene(path: Path) -> Scene4D:
    """The scene of a manifest; clouds of single frames are read when asked for."""
    manifest = json.loads(path.read_text(encoding="utf-8"))
    folder, turn = path.parent, manifest["levelled_from_scene"]
    return Scene4D(
        static=read_cloud(folder / manifest["static"]["cloud"]),
        frame=lambda name: read_cloud(folder / manifest["frames"].format(name=name)),
        trajectory=read_trajectory(folder / manifest["cameras"]),
        metres_per_unit=manifest["metres_per_unit"],
        levelled_from_scene=None if turn is None else Rigid3.from_matrix(np.array(turn)),
    )

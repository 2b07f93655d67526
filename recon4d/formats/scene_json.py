"""`fuse/scene.json`, the manifest of a 4D scene, and the reader that opens everything it names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from recon4d.errors import WorkspaceError
from recon4d.formats.cameras_json import read_trajectory
from recon4d.formats.ply import read_cloud
from recon4d.scene.scene4d import Scene4D
from recon4d.scene.trajectory import Trajectory
from recon4d.scene.transforms import Rigid3

FORMAT = 2  # 1 had the points of every frame instead of what moves in it
STATIC, STATIC_MESH = "static.ply", "static_mesh.ply"
MOVING, SCENE_FLOW, OBJECTS = "moving/{name}.ply", "scene_flow/{name}.npz", "objects.json"


def write_scene(
    path: Path, trajectory: Trajectory, metres_per_unit: float | None, levelled_from_scene: Rigid3 | None, cameras: str
) -> None:
    """Write the manifest; ``cameras`` is the path of `cameras.json` relative to the manifest's folder."""
    manifest = {
        "format": FORMAT,
        "convention": "x right, y down, z forward (camera); lengths in scene units; colours sRGB",
        "metres_per_unit": metres_per_unit,
        "levelled_from_scene": None if levelled_from_scene is None else levelled_from_scene.matrix.tolist(),
        "names": list(trajectory.names),
        "timestamps_s": trajectory.timestamps_s.tolist(),
        "cameras": cameras,
        "static": {"cloud": STATIC, "mesh": STATIC_MESH},
        "moving": MOVING,
        "scene_flow": SCENE_FLOW,
        "objects": OBJECTS,
    }
    path.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def read_scene(path: Path) -> Scene4D:
    """The scene of a manifest; what moves in a frame is read when asked for.

    Raises:
        WorkspaceError: the manifest is of another format.
        InputError: a file it names is missing or damaged.
    """
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if manifest["format"] != FORMAT:
        raise WorkspaceError(
            f"{path} has format {manifest['format']}, this recon4d reads format {FORMAT}: "
            "run the stage fuse again with recon4d run --out SCENE"
        )
    folder, turn = path.parent, manifest["levelled_from_scene"]
    return Scene4D(
        static=read_cloud(folder / manifest["static"]["cloud"]),
        moving=lambda name: read_cloud(folder / manifest["moving"].format(name=name)),
        trajectory=read_trajectory(folder / manifest["cameras"]),
        metres_per_unit=manifest["metres_per_unit"],
        levelled_from_scene=None if turn is None else Rigid3.from_matrix(np.array(turn)),
    )

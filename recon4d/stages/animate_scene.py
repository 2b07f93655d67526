"""The units of a scene folder for a photograph in a loop, so that exporters and viewers read it as any scene."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon4d.fill.eulerian import Loop, Still, displacement
from recon4d.progress import Progress
from recon4d.scene.cloud import PointCloud
from recon4d.scene.motion import FrameMotion
from recon4d.scene.scene_flow import SceneFlow
from recon4d.scene.trajectory import PoseOrigin, Trajectory
from recon4d.scene.transforms import Rigid3
from recon4d.stages.animate import UNIT, VERSION, AnimateOptions, load_still, names_of
from recon4d.stages.common import execute
from recon4d.workspace import StagePart, Workspace

CONFIDENCE = 0.5  # of depth that no second view has checked
MESH_STRIDE = 2  # of the background's mesh, pixels


@dataclass(frozen=True)
class OfLoop:
    """Options of the units: none of the stages' own, which would be compared with those of a recording's line."""

    made_by: str = UNIT


@dataclass(frozen=True)
class LoopScene:
    """A loop and where its frames stand in time."""

    loop: Loop
    trajectory: Trajectory
    metres_per_unit: float | None

    @property
    def still(self) -> Still:
        return self.loop.still


def write_units(workspace: Workspace, options: AnimateOptions, progress: Progress) -> None:
    """Publish poses, align, motion, mesh and fuse, made from the unit animate; what is up to date stays."""
    still = load_still(workspace)
    trajectory = still_trajectory(still, options.frames, options.fps)
    size = workspace.need(UNIT, "animate").summary["metres_per_unit"]
    made: list[LoopScene] = []  # the walk of all points takes seconds: only where a unit wants it

    def scene() -> LoopScene:
        if not made:
            made.append(LoopScene(Loop(still, options.frames), trajectory, size))
        return made[0]

    units: tuple[tuple[str, tuple[str, ...], Callable[[LoopScene, Workspace, StagePart], dict[str, object]]], ...] = (
        ("poses", (UNIT,), _poses),
        ("align", (UNIT, "poses"), _align),
        ("motion", (UNIT, "poses"), _motion),
        ("mesh", (UNIT, "align", "motion"), _mesh),
        ("fuse", (UNIT, "poses", "align", "motion", "mesh"), _fuse),
    )
    for unit, reads, work in units:
        execute(
            workspace,
            unit,
            VERSION,
            OfLoop(),
            reads,
            lambda part, work=work: work(scene(), workspace, part),
            progress,
        )


def still_trajectory(still: Still, frames: int, fps: float) -> Trajectory:
    """One camera that stands at the origin of the world."""
    return Trajectory(
        names=names_of(frames),
        timestamps_s=np.arange(frames) / fps,
        cam_from_world=Rigid3(np.tile(np.eye(3), (frames, 1, 1)), np.zeros((frames, 3))),
        cameras=(still.camera,) * frames,
        origin=(PoseOrigin.STATIC,) * frames,
    )


def _same(part: StagePart, scene: LoopScene, pattern: str, write: Callable[[Path, int], None]) -> None:
    """Write a file for each frame; those between the first and the last are one, under many names."""
    from recon4d.formats.disk import link_or_copy

    names = scene.trajectory.names
    for k, name in enumerate(names):
        path = part.path / pattern.format(name=name)
        path.parent.mkdir(exist_ok=True)
        if 1 < k < len(names) - 1:
            link_or_copy(part.path / pattern.format(name=names[1]), path)
        else:
            write(path, k)


def _poses(scene: LoopScene, workspace: Workspace, part: StagePart) -> dict[str, object]:
    from recon4d.formats.cameras_json import write_trajectory
    from recon4d.formats.disk import link_or_copy
    from recon4d.poses.models import write_model

    (part.path / "images").mkdir(exist_ok=True)
    for name in scene.trajectory.names:
        link_or_copy(workspace.unit_dir(UNIT) / "images" / f"{name}.jpg", part.path / "images" / f"{name}.jpg")
    write_trajectory(part.path / "cameras.json", scene.trajectory)
    write_model(model_without_points(scene.trajectory), part.path / "sparse")
    count = len(scene.trajectory)
    return {
        "frames": count,
        "registered": 0,
        "source": "one photograph: a static camera",
        "focal_px": scene.still.camera.fx,
    }


def model_without_points(trajectory: Trajectory) -> object:
    """The COLMAP model of cameras alone: one photograph has no structure from motion."""
    from recon4d.formats.colmap_model import model_of
    from recon4d.scene.sparse import SparseModel

    none = SparseModel(np.zeros((0, 3)), np.zeros(0), np.zeros(0, int), np.zeros(0), np.zeros((0, 3), np.uint8), {}, {})
    return model_of(none, trajectory, {name: f"{name}.jpg" for name in trajectory.names})


def _align(scene: LoopScene, workspace: Workspace, part: StagePart) -> dict[str, object]:
    from recon4d.formats.arrays import write_scene_depth

    _same(part, scene, "{name}.npz", lambda path, k: write_scene_depth(path, scene.still.mesh.surface))
    size = {"metres_per_unit": scene.metres_per_unit}
    (part.path / "scale.json").write_text(json.dumps(size) + "\n", encoding="utf-8")
    (part.path / "world_up.json").write_text('{"levelled_from_scene": null}\n', encoding="utf-8")
    return {"frames": len(scene.trajectory), "residual_median": None, "metres_per_unit": scene.metres_per_unit}


def _motion(scene: LoopScene, workspace: Workspace, part: StagePart) -> dict[str, object]:
    from recon4d.formats.arrays import write_motion

    still, last = scene.still, len(scene.trajectory) - 1
    moving, unknown = still.moving, np.full_like(still.motion, np.nan)

    def write(path: Path, k: int) -> None:
        onward, back = (unknown if k == last else still.motion), (unknown if k == 0 else -still.motion)
        write_motion(path, FrameMotion(moving, onward, back, moving))

    _same(part, scene, "{name}.npz", write)
    objects = {"objects": [{"id": 1, "names": list(scene.trajectory.names)}]}
    (part.path / "objects.json").write_text(json.dumps(objects) + "\n", encoding="utf-8")
    return {"frames": last + 1, "objects": 1, "moving_share": float(moving.mean())}


def _mesh(scene: LoopScene, workspace: Workspace, part: StagePart) -> dict[str, object]:
    """The surface on which things drift stands still, and so does its depth: it is that of the photograph throughout.

    Joints between what drifts and what stands are cut, so that exporters can take them apart.
    """
    from recon4d.formats.arrays import write_depth_mesh
    from recon4d.geometry.meshing import cut_between

    mesh = cut_between(scene.still.mesh, scene.still.moving.astype(np.int32))
    _same(part, scene, "{name}.npz", lambda path, k: write_depth_mesh(path, mesh))
    return {"frames": len(scene.trajectory)}


def _fuse(scene: LoopScene, workspace: Workspace, part: StagePart) -> dict[str, object]:
    from recon4d.formats.arrays import write_scene_flow
    from recon4d.formats.ply import write_cloud, write_mesh
    from recon4d.formats.scene_json import MOVING, OBJECTS, SCENE_FLOW, STATIC, STATIC_MESH, write_scene
    from recon4d.geometry.grid_surface import free_surface, restricted
    from recon4d.scene.mesh import TriMesh

    still, names, last = scene.still, scene.trajectory.names, len(scene.trajectory) - 1
    pixels = photograph_cloud(still)
    background = pixels[~still.moving.ravel() & still.mesh.surface.valid.ravel()]
    write_cloud(part.path / STATIC, background)
    standing = restricted(still.mesh, ~still.moving)
    surface = free_surface(standing, scene.trajectory[names[0]], MESH_STRIDE)
    colors = still.picture[surface.pixels[:, 1], surface.pixels[:, 0]]
    write_mesh(part.path / STATIC_MESH, TriMesh(surface.vertices, surface.faces, colors))
    (part.path / "moving").mkdir(exist_ok=True)
    drifting, most = pixels[still.moving.ravel()], 0
    for name in part.pending(names, "writing what drifts"):
        cloud = drifted(scene.loop, drifting, int(name))
        write_cloud(part.path / MOVING.format(name=name), cloud)
        most = max(most, len(cloud))
    flows = [scene_flow(still, sign) for sign in (1, -1)]
    unknown = [np.where(still.moving[..., None], np.float32(np.nan), flow) for flow in flows]

    def write(path: Path, k: int) -> None:
        write_scene_flow(path, SceneFlow(unknown[0] if k == last else flows[0], unknown[1] if k == 0 else flows[1]))

    _same(part, scene, SCENE_FLOW, write)
    objects = {"objects": [{"id": 1, "names": list(names), "poses": []}]}
    (part.path / OBJECTS).write_text(json.dumps(objects, indent=1) + "\n", encoding="utf-8")
    write_scene(part.path / "scene.json", scene.trajectory, scene.metres_per_unit, None, "../poses/cameras.json")
    return {
        "frames": last + 1,
        "static_points": len(background),
        "static_triangles": len(surface.faces),
        "moving_points": len(drifting),
    }


def photograph_cloud(still: Still) -> PointCloud:
    """All pixels of the photograph in the world, row by row."""
    from recon4d.geometry.meshing import grid_normals

    surface = still.mesh.surface
    points = still.camera.unproject(surface.depth.astype(np.float64))
    count = surface.depth.size
    return PointCloud(
        points=points.reshape(-1, 3),
        colors=still.picture.reshape(-1, 3),
        normals=grid_normals(points, still.mesh).reshape(-1, 3),
        confidence=np.full(count, CONFIDENCE),
        provenance=surface.provenance.ravel(),
        object_id=still.moving.ravel(),
    )


def drifted(loop: Loop, drifting: PointCloud, k: int) -> PointCloud:
    """The drifting pixels where they are in frame k; those out of the picture are left out."""
    moved = loop.chosen(k)
    inside = np.isfinite(moved[:, 0])
    z = drifting.points[:, 2]
    way = displacement(loop.still.camera, z, np.where(inside[:, None], moved, 0))
    cloud = PointCloud(
        drifting.points + way,
        drifting.colors,
        drifting.normals,
        drifting.confidence,
        drifting.provenance,
        drifting.object_id,
    )
    return cloud[inside]


def scene_flow(still: Still, sign: int) -> np.ndarray:
    """(H, W, 3) float32 ways of all pixels to the next frame (1) or the one before (-1); 0 where nothing moves."""
    moved = sign * still.motion * still.moving[..., None]
    way = displacement(still.camera, still.mesh.surface.depth.ravel(), moved.reshape(-1, 2))
    return way.reshape(*still.camera.shape, 3).astype(np.float32)

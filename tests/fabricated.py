"""A finished scene folder with exact contents, for tests of what comes after `fuse`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from recon4d.formats.arrays import write_depth_mesh, write_motion
from recon4d.formats.cameras_json import write_trajectory
from recon4d.formats.pictures import write_picture
from recon4d.formats.ply import write_cloud, write_mesh
from recon4d.formats.scene_json import MOVING, write_scene
from recon4d.geometry.grid_surface import free_surface
from recon4d.geometry.meshing import cut_silhouettes, grid_normals
from recon4d.scene.camera import Camera
from recon4d.scene.cloud import PointCloud
from recon4d.scene.depth import SceneDepth
from recon4d.scene.mesh import TriMesh
from recon4d.scene.motion import FrameMotion
from recon4d.scene.trajectory import PoseOrigin, Trajectory, View
from recon4d.scene.transforms import Rigid3
from recon4d.workspace import StageRecord, Workspace

METRES_PER_UNIT = 2.0
# World: x right, y down, z forward; the floor is the plane y = 1. Levelled: (x, y, z) -> (x, z, 1 - y), floor at 0.
LEVELLED_FROM_SCENE = Rigid3(np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), np.array([0, 0, 1.0]))
BALL, RADIUS = np.array([0.3, 0.5, 3.0]), 0.5  # what "moves", though it stays
STILL = "000003"  # in this frame nothing moves


def fabricated_trajectory(frames: int, width: int, height: int) -> Trajectory:
    """A sideways walk that keeps looking into the room; unequal steps in time."""
    poses = []
    for i in range(frames):
        angle = 0.08 * (i - (frames - 1) / 2)
        turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        centre = np.array([0.25 * i - 0.5, -0.2, 0.1 * i])
        poses.append(Rigid3(turn, -turn @ centre))
    return Trajectory(
        names=tuple(f"{3 * i:06d}" for i in range(frames)),
        timestamps_s=2.0 + 0.1 * np.arange(frames) + 0.01 * (np.arange(frames) % 2),
        cam_from_world=Rigid3(np.stack([p.rotation for p in poses]), np.stack([p.translation for p in poses])),
        cameras=(Camera(width, height, 0.8 * width, 0.8 * width, width / 2 + 1.5, height / 2 - 0.5),) * frames,
        origin=(PoseOrigin.MEASURED,) * frames,
    )


def render(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Exact picture (H, W, 3) uint8 and z-depth (H, W) of a chequered floor, a back wall and a ball."""
    world_from_cam = view.cam_from_world.inverse()
    rays, origin = view.camera.rays() @ world_from_cam.rotation.T, world_from_cam.translation
    with np.errstate(divide="ignore", invalid="ignore"):
        floor = np.where(rays[..., 1] > 0, (1.0 - origin[1]) / rays[..., 1], np.inf)
        wall = (6.0 - origin[2]) / rays[..., 2]
    a, b = (rays**2).sum(-1), (rays * (origin - BALL)).sum(-1)
    inside = b**2 - a * (((origin - BALL) ** 2).sum() - RADIUS**2)
    ball = np.where(inside > 0, (-b - np.sqrt(np.maximum(inside, 0))) / a, np.inf)
    depth = np.minimum(np.minimum(floor, wall), ball)  # rays have z = 1 in the camera: their length is the depth
    x = origin + rays * depth[..., None]
    chequer = (np.floor(2 * x[..., 0]) + np.floor(2 * x[..., 2])) % 2
    stripes = (np.floor(3 * x[..., 0]) + np.floor(3 * x[..., 1])) % 2
    colors = np.where(chequer[..., None] > 0, [196, 178, 150], [112, 98, 86])
    colors = np.where(
        (wall < floor)[..., None], np.where(stripes[..., None] > 0, [88, 120, 150], [128, 158, 184]), colors
    )
    colors = np.where(np.isfinite(ball)[..., None] & (ball <= depth)[..., None], [206, 84, 62], colors)
    return colors.astype(np.uint8), depth


def write_unit(workspace: Workspace, unit: str, fill) -> None:
    """Publish a unit whose files ``fill(folder)`` writes."""
    part = workspace.start(unit, unit)
    fill(part.path)
    workspace.publish(part, StageRecord(unit, 1, f"key of {unit}", {}, {}))


def fabricate(
    root: Path, frames: int = 4, width: int = 64, height: int = 48, known: bool = True, ball_moves: bool = False
) -> Workspace:
    """A scene with units poses, align, motion, mesh and fuse.

    Args:
        known: its size and up are known.
        ball_moves: the ball is object 1 of `motion` in all frames but `STILL`; otherwise nothing moves there.
    """
    workspace, trajectory = Workspace.create(root), fabricated_trajectory(frames, width, height)
    rendered = {view.name: render(view) for view in trajectory}

    def poses(folder: Path) -> None:
        (folder / "images").mkdir()
        for name, (picture, _) in rendered.items():
            write_picture(folder / "images" / f"{name}.jpg", picture)
        write_trajectory(folder / "cameras.json", trajectory)
        _write_model(folder / "sparse", trajectory)

    write_unit(workspace, "poses", poses)
    meshes = {}
    for view in trajectory:
        depth = rendered[view.name][1]
        surface = SceneDepth(depth, np.isfinite(depth), 0.01 * depth, np.ones(depth.shape))
        meshes[view.name] = cut_silhouettes(surface, view.camera, 1.1, 3.0)
    for unit in ("align", "mesh"):
        write_unit(
            workspace, unit, lambda folder: [write_depth_mesh(folder / f"{n}.npz", m) for n, m in meshes.items()]
        )
    unknown = np.full((height, width, 2), np.nan)

    def motion(folder: Path) -> None:
        for name in trajectory.names:
            ball = is_ball(trajectory[name], rendered[name][1]) & ball_moves & (name != STILL)
            write_motion(folder / f"{name}.npz", FrameMotion(ball, unknown, unknown, ball))

    write_unit(workspace, "motion", motion)

    def fuse(folder: Path) -> None:
        (folder / "moving").mkdir()
        clouds = [frame_cloud(view, meshes[view.name], rendered[view.name][0]) for view in trajectory]
        for name, cloud in zip(trajectory.names, clouds):
            on_ball = np.abs(np.linalg.norm(cloud.points - BALL, axis=1) - RADIUS) < 1e-3
            shown = on_ball & (name != STILL)
            moving = replace(cloud[shown], object_id=np.ones(shown.sum()))
            write_cloud(folder / MOVING.format(name=name), moving)
        write_cloud(folder / "static.ply", PointCloud.concatenate(clouds)[::2])
        first = trajectory[trajectory.names[0]]
        surface = free_surface(meshes[first.name], first)
        colors = rendered[first.name][0][surface.pixels[:, 1], surface.pixels[:, 0]]
        write_mesh(folder / "static_mesh.ply", TriMesh(surface.vertices, surface.faces, colors))
        turn, size = (LEVELLED_FROM_SCENE, METRES_PER_UNIT) if known else (None, None)
        write_scene(folder / "scene.json", trajectory, size, turn, "../poses/cameras.json")

    write_unit(workspace, "fuse", fuse)
    return workspace


def is_ball(view: View, depth: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels that show the ball."""
    points = view.cam_from_world.inverse() @ view.camera.unproject(depth.astype(np.float64)).reshape(-1, 3)
    return (np.abs(np.linalg.norm(points - BALL, axis=1) - RADIUS) < 1e-3).reshape(depth.shape)


def frame_cloud(view: View, mesh, picture: np.ndarray) -> PointCloud:
    """All pixels of a frame in the world."""
    in_cam = view.camera.unproject(mesh.surface.depth.astype(np.float64))
    world_from_cam = view.cam_from_world.inverse()
    return PointCloud(
        points=world_from_cam @ in_cam.reshape(-1, 3),
        colors=picture.reshape(-1, 3),
        normals=grid_normals(in_cam, mesh).reshape(-1, 3) @ world_from_cam.rotation.T,
        confidence=np.full(in_cam[..., 0].size, 0.75),
        provenance=mesh.surface.provenance.ravel(),
    )


def _write_model(folder: Path, trajectory: Trajectory) -> None:
    """A COLMAP model with exact observations of some points on the wall."""
    import pycolmap

    folder.mkdir()
    model = pycolmap.Reconstruction()
    camera = trajectory.cameras[0]
    model.add_camera_with_trivial_rig(
        pycolmap.Camera(
            camera_id=1,
            model="PINHOLE",
            width=camera.width,
            height=camera.height,
            params=[camera.fx, camera.fy, camera.cx, camera.cy],
        )
    )
    points = np.stack([np.linspace(-1, 1, 7), np.linspace(-0.5, 0.4, 7), np.full(7, 6.0)], axis=-1)
    for number, view in enumerate(trajectory, start=1):
        pixels = camera.project(view.cam_from_world @ points)
        pose = view.cam_from_world
        image = pycolmap.Image(
            image_id=number,
            name=f"{view.name}.jpg",
            camera_id=1,
            points2D=pycolmap.Point2DList([pycolmap.Point2D(xy) for xy in pixels]),
        )
        model.add_image_with_trivial_frame(
            image, pycolmap.Rigid3d(pycolmap.Rotation3d(pose.rotation), pose.translation)
        )
    for row, point in enumerate(points):
        track = pycolmap.Track()
        for number in range(1, len(trajectory) + 1):
            track.add_element(number, row)
        model.add_point3D(point, track, np.array([10 * row, 20, 30], dtype=np.uint8))
    model.write(str(folder))

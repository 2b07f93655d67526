"""From the scene to the arrays that are drawn, one function per thing to be seen. No viewer is needed for these."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from recon4d.geometry.grid_surface import free_surface
from recon4d.geometry.random_rows import random_rows
from recon4d.scene.camera import Camera
from recon4d.scene.cloud import PointCloud
from recon4d.scene.trajectory import Trajectory
from recon4d.scene.transforms import Rigid3
from recon4d.view.drawing import resized
from recon4d.view.live_colors import colors_of, mode_of
from recon4d.view.live_drawings import Arrows, Color, Frusta, Frustum, Grid, Lines, Points, Surface
from recon4d.view.live_scene import LiveScene
from recon4d.view.live_wish import Wish

PATH, BEFORE, NOW, FLOW = (255, 170, 40), (110, 150, 235), (255, 235, 120), (255, 240, 90)
MOST_FRUSTA = 30
THUMBNAIL = 96  # pixels across
FRUSTUM_SHARE = 0.03  # of the size of the scene
MOST_ARROWS = 400
WIRE_CORNERS = 10_000  # of a frame's mesh: more edges are one bright patch


# -- helpers -----------------------------------------------------------------------------------------------------------


def frames_together(names: tuple[str, ...], frame: str, count: int) -> list[str]:
    """The frame and ``count`` - 1 others, evenly spread over the clip; the others stay while time goes on."""
    rows = np.unique(np.linspace(0, len(names) - 1, max(count - 1, 1)).round().astype(int)) if count > 1 else []
    return [frame, *(names[row] for row in rows if names[row] != frame)][:count]


def pixel_spacing(camera: Camera, depth: float, share: float) -> float:
    """How far apart pixels lie on a surface facing the camera when ``share`` of them is drawn, unit of the depth.

    A random choice leaves larger gaps than a regular one: about half as large again.
    """
    return depth / camera.fx / np.sqrt(share) * (1.0 if share == 1 else 1.5)


def frustum(name: str, cam_from_shown: Rigid3, camera: Camera, picture: np.ndarray | None) -> Frustum:
    """A camera as the viewer draws it; a principal point off the centre is not shown."""
    shown_from_cam = cam_from_shown.inverse()
    quat_xyzw = shown_from_cam.quat_xyzw
    fov = 2 * np.arctan2(camera.height / 2, camera.fy)
    return Frustum(
        name, shown_from_cam.translation, np.roll(quat_xyzw, 1), float(fov), camera.width / camera.height, picture
    )


def _frusta(scene: LiveScene, trajectory: Trajectory, names: list[str], thumbnails: bool) -> tuple[Frustum, ...]:
    found = []
    for name in names:
        view, small = trajectory[name], None
        if thumbnails:
            size = THUMBNAIL, max(1, round(THUMBNAIL * view.camera.height / view.camera.width))
            small = resized(scene.workspace.picture(name), size)  # past the cache: it would push out what is looked at
        found.append(frustum(name, scene.shown_from_scene.apply_to_pose(view.cam_from_world), view.camera, small))
    return tuple(found)


def _spread(names: tuple[str, ...], most: int) -> list[str]:
    rows = np.unique(np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int))
    return [names[row] for row in rows]


def _path(scene: LiveScene, trajectory: Trajectory, color: Color) -> Lines:
    centres = scene.shown(trajectory.centres)
    return Lines(np.stack([centres[:-1], centres[1:]], axis=1), color, 3.0)


# -- what is drawn -----------------------------------------------------------------------------------------------------


def sparse_points(scene: LiveScene, wish: Wish) -> Points:
    """The points of structure from motion."""
    sparse = scene.sparse()
    rows = random_rows(len(sparse), scene.max_points)
    return Points(scene.shown(sparse.points[rows]), sparse.colors[rows], 0.003 * scene.size)


def cameras(scene: LiveScene, wish: Wish) -> Frusta:
    """Some cameras, evenly spread, with their pictures."""
    names = _spread(scene.names, MOST_FRUSTA)
    return Frusta(_frusta(scene, scene.trajectory, names, True), PATH, FRUSTUM_SHARE * scene.size, 1.5)


def camera_now(scene: LiveScene, wish: Wish) -> Frusta:
    """The camera of the frame, larger."""
    return Frusta(_frusta(scene, scene.trajectory, [wish.frame], True), NOW, 1.5 * FRUSTUM_SHARE * scene.size, 3.0)


def camera_path(scene: LiveScene, wish: Wish) -> Lines:
    return _path(scene, scene.trajectory, PATH)


def cameras_before(scene: LiveScene, wish: Wish) -> Frusta:
    """The cameras as structure from motion had them."""
    names = _spread(scene.names, MOST_FRUSTA)
    return Frusta(_frusta(scene, scene.before, names, False), BEFORE, FRUSTUM_SHARE * scene.size, 2.0)


def floor_grid(scene: LiveScene, wish: Wish) -> Grid:
    """Squares of a round size on the floor."""
    square = grid_square(scene)
    centre = scene.shown(scene.trajectory.centres).mean(axis=0)
    return Grid(np.array([centre[0], centre[1], scene.floor[0]]), 20 * square, square)


def grid_square(scene: LiveScene) -> float:
    """Side of the grid's squares: 1, 2 or 5 times a power of ten, such that twenty are a few times the scene."""
    power = 10.0 ** np.floor(np.log10(0.2 * scene.size))
    return float(max(mark * power for mark in (1.0, 2.0, 5.0) if mark * power <= 0.2 * scene.size * (1 + 1e-9)))


def frame_cloud(scene: LiveScene, stage: str, name: str, colors: str, most: int) -> Points:
    """The depth of one frame as points; the same pixels in all stages, so that only depth differs."""
    mode = mode_of(colors)
    view, found = scene.trajectory[name], scene.depth(stage, name)
    rows = random_rows(found.depth.size, most)
    share = len(rows) / max(found.depth.size, 1)
    rows = rows[found.valid.ravel()[rows]]
    y, x = np.divmod(rows, view.camera.width)
    z = found.depth.ravel()[rows].astype(np.float64)
    in_cam = view.camera.rays_at(x + 0.5, y + 0.5) * z[:, None]
    typical = float(np.quantile(z, 0.75)) * scene.shown_from_scene.scale if len(z) else 1.0
    points = scene.shown(view.cam_from_world.inverse() @ in_cam)
    return Points(points, mode.grid(scene, stage, name)[y, x], pixel_spacing(view.camera, typical, share))


def depth_cloud(stage: str) -> Callable[[LiveScene, Wish], Points]:
    def build(scene: LiveScene, wish: Wish) -> Points:
        most = max(1, scene.max_points // wish.together)
        parts = []
        # A frame is cached by itself: the others stay when time goes on.
        for name in frames_together(scene.names, wish.frame, wish.together):
            make = partial(frame_cloud, scene, stage, name, wish.colors, most)
            parts.append(scene.cache.get(("cloud", stage, name, wish.colors, most), make))
        return Points.joined(parts)

    return build


def frame_mesh(scene: LiveScene, wish: Wish) -> Surface:
    """The surface of the frame, cut at silhouettes, thinned to the most points."""
    mode = mode_of(wish.colors)
    mesh, view = scene.mesh(wish.frame), scene.trajectory[wish.frame]
    most = min(scene.max_points, WIRE_CORNERS) if wish.wire else scene.max_points
    stride = max(1, int(np.ceil(np.sqrt(mesh.surface.valid.sum() / most))))
    surface = free_surface(mesh, view, stride)
    x, y = surface.pixels.T
    colors = mode.grid(scene, "refine" if scene.refined else "align", wish.frame)[y, x]
    return Surface(scene.shown(surface.vertices), surface.faces, colors, wish.wire)


def static_cloud(scene: LiveScene, wish: Wish) -> Points:
    """The fused background."""
    cloud = scene.static_cloud()
    rows = random_rows(len(cloud), scene.max_points)
    return _fused(scene, cloud[rows], wish, len(rows) / max(len(cloud), 1))


def moving_cloud(scene: LiveScene, wish: Wish) -> Points:
    """What moves in the frame."""
    cloud = scene.moving_cloud(wish.frame)
    rows = random_rows(len(cloud), scene.max_points)
    return _fused(scene, cloud[rows], wish, 1.0)


def _fused(scene: LiveScene, cloud: PointCloud, wish: Wish, share: float) -> Points:
    """Points as wide as the voxels they come from, wider where only a share of them is drawn."""
    voxel = scene.workspace.record("fuse").summary.get("voxel_size")
    width = float(voxel) * scene.shown_from_scene.scale if voxel else 0.004 * scene.size
    return Points(scene.shown(cloud.points), colors_of(cloud, mode_of(wish.colors)), 0.75 * width / np.sqrt(share or 1))


def static_mesh(scene: LiveScene, wish: Wish) -> Surface:
    """The fused background as triangles."""
    mesh = scene.workspace.static_mesh()
    return Surface(scene.shown(mesh.vertices), mesh.faces, mesh.colors, wish.wire)


def scene_flow(scene: LiveScene, wish: Wish) -> Arrows:
    """Where some pixels that move are in the next frame; no arrows where nothing moves or the next is not known."""
    view, found = scene.trajectory[wish.frame], scene.depth("refine" if scene.refined else "align", wish.frame)
    flow = scene.scene_flow(wish.frame).next
    y, x = np.nonzero(found.valid & scene.motion(wish.frame).mask & np.isfinite(flow).all(axis=-1))
    rows = random_rows(len(y), MOST_ARROWS)
    y, x = y[rows], x[rows]
    in_cam = view.camera.rays_at(x + 0.5, y + 0.5) * found.depth[y, x].astype(np.float64)[:, None]
    start = view.cam_from_world.inverse() @ in_cam
    ends = np.stack([scene.shown(start), scene.shown(start + flow[y, x])], axis=1)
    return Arrows(ends, FLOW, 0.001 * scene.size)

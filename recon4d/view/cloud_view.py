"""A picture of a cloud from outside, with the path of the camera."""

from __future__ import annotations

import numpy as np

from recon4d.geometry.random_rows import random_rows
from recon4d.scene.camera import Camera
from recon4d.scene.cloud import PointCloud
from recon4d.scene.trajectory import Trajectory
from recon4d.scene.transforms import Rigid3

SHARPNESS = 2  # pictures are drawn this many times larger, then averaged down
FIELD_OF_VIEW_DEG = 45.0
SHOWN_SHARE = 0.97  # of the points that must fit into the picture; stray ones may fall outside
MAX_POINTS = 400_000  # drawn; more change nothing one can see at these sizes
PATH_COLOR, FRUSTUM_COLOR = (255, 170, 40), (255, 220, 150)


def view_cloud(
    cloud: PointCloud,
    trajectory: Trajectory,
    size: tuple[int, int],
    azimuth_deg: float = 0.0,
    elevation_deg: float = 25.0,
    up: np.ndarray | None = None,
) -> np.ndarray:
    """Picture of a cloud seen from behind and above the cameras that recorded it, looking at its middle.

    Surfaces seen from their back are left out, so that a room opens towards the viewer.

    Args:
        cloud: world frame.
        trajectory: the cameras that recorded it, world frame; their path is drawn.
        size: (width, height) of the picture, pixels.
        azimuth_deg: turn of the viewpoint to the left about the vertical, degrees.
        elevation_deg: height of the viewpoint above the horizontal; 90 is straight down.
        up: (3,) upward direction of the world; without it the mean upward axis of the cameras.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    import cv2

    from recon4d.render.points import splat_points

    width, height = size[0] * SHARPNESS, size[1] * SHARPNESS
    focal = 0.5 * height / np.tan(np.radians(FIELD_OF_VIEW_DEG) / 2)
    camera = Camera(width, height, focal, focal, width / 2, height / 2)
    cloud = cloud[random_rows(len(cloud), MAX_POINTS)] if len(cloud) > MAX_POINTS else cloud
    eye_from_world = _viewpoint(cloud, trajectory, camera, azimuth_deg, elevation_deg, up)
    in_eye = eye_from_world @ cloud.points.astype(np.float64)
    facing = np.einsum("ni,ni->n", cloud.normals @ eye_from_world.rotation.T, in_eye) <= 0  # 0: normal not known
    # 0.75: discs on a square grid just close its gaps, 1 / sqrt(2). Bounded: lone points have far neighbours.
    gap = spacing(cloud.points)
    gap = np.minimum(gap, 1.3 * np.median(gap)) if len(gap) else gap
    radii = np.clip(0.75 * gap * focal / np.maximum(in_eye[:, 2], 1e-9), 0.8, 12.0)
    picture, depth = splat_points(in_eye[facing], cloud.colors[facing], camera, radii[facing])
    picture = _shade(picture, depth)
    _draw_path(picture, trajectory, eye_from_world, camera, float(np.median(in_eye[:, 2])) if len(in_eye) else 1.0)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _viewpoint(
    cloud: PointCloud,
    trajectory: Trajectory,
    camera: Camera,
    azimuth_deg: float,
    elevation_deg: float,
    up: np.ndarray | None,
) -> Rigid3:
    """``eye_from_world`` that has the cameras and nearly all points in the picture."""
    rotations, centres = trajectory.cam_from_world.rotation, trajectory.centres
    up = -rotations[:, 1].mean(axis=0) if up is None else np.asarray(up, dtype=np.float64)
    up = up / np.linalg.norm(up)
    points = cloud.points.astype(np.float64) if len(cloud) else centres
    target = np.median(points, axis=0)
    ahead = _level(target - centres.mean(axis=0), up)
    # A camera that walked around its subject looks everywhere: any side will do, take that of its first frame.
    if np.linalg.norm(ahead) < 0.05 * np.linalg.norm(points - target, axis=1).mean():
        ahead = _level(rotations[0, 2], up)
    if np.linalg.norm(ahead) < 1e-9:
        ahead = _level(np.eye(3)[np.argmin(np.abs(up))], up)
    ahead /= np.linalg.norm(ahead)
    azimuth, elevation = np.radians([azimuth_deg, elevation_deg])
    ahead = np.cos(azimuth) * ahead + np.sin(azimuth) * np.cross(ahead, up)
    forward = np.cos(elevation) * ahead - np.sin(elevation) * up
    right = np.cross(ahead, up)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return _framed(Rigid3(rotation, -rotation @ target), camera, points, centres)


def _framed(eye_from_world: Rigid3, camera: Camera, points: np.ndarray, centres: np.ndarray) -> Rigid3:
    """Move the eye sideways and back until nearly all points and all cameras fill the picture."""
    tail = (1 - SHOWN_SHARE) / 2
    half = 0.94 * np.array([camera.width / (2 * camera.fx), camera.height / (2 * camera.fy)])
    in_eye = eye_from_world @ points[:: max(1, len(points) // 20_000)]
    cameras_in_eye = eye_from_world @ centres
    least_depth = 0.02 * (np.ptp(np.vstack([in_eye, cameras_in_eye]), axis=0).max() or 1.0)
    shift = np.zeros(3)
    for _ in range(8):  # the middle of the picture moves with the distance: settles within a few rounds
        x, x_of_cameras = in_eye + shift, cameras_in_eye + shift
        # Going back by d puts a point at depth z + d; it is inside when |x| / (z + d) is within the half angle.
        needed, of_cameras = ((np.abs(each[:, :2]) / half).max(axis=1) - each[:, 2] for each in (x, x_of_cameras))
        shift[2] += max(np.quantile(needed, SHOWN_SHARE), of_cameras.max(), least_depth - x[:, 2].max())
        x, x_of_cameras = in_eye + shift, cameras_in_eye + shift
        ahead = x[x[:, 2] > 0]
        low, high = np.quantile(ahead[:, :2] / ahead[:, 2:], [tail, 1 - tail], axis=0)
        of_cameras = x_of_cameras[:, :2] / np.maximum(x_of_cameras[:, 2:], 1e-9)
        low, high = np.minimum(low, of_cameras.min(axis=0)), np.maximum(high, of_cameras.max(axis=0))
        shift[:2] -= (low + high) / 2 * np.median(ahead[:, 2])
    return Rigid3(eye_from_world.rotation, eye_from_world.translation + shift)


def _level(direction: np.ndarray, up: np.ndarray) -> np.ndarray:
    return direction - (direction @ up) * up


def spacing(points: np.ndarray) -> np.ndarray:
    """(N,) distance of each point (N, 3) to its fourth neighbour: on a grid, to the next grid point."""
    from scipy.spatial import cKDTree

    if len(points) < 5:
        return np.zeros(len(points))
    return cKDTree(points).query(points, k=5, workers=-1)[0][:, 4]


def _shade(picture: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Darken what lies behind its surroundings in the picture, so that edges of surfaces stand out.

    Source: Boucheny, Eye-dome lighting (PhD thesis, Grenoble 2009), with one ring of neighbours.
    """
    drawn = depth > 0
    log_depth = np.log2(np.where(drawn, depth, 1.0))
    behind = np.zeros(depth.shape)
    for shift in ((0, 2), (2, 0), (0, -2), (-2, 0), (2, 2), (-2, 2), (2, -2), (-2, -2)):
        neighbour, there = np.roll(log_depth, shift, axis=(0, 1)), np.roll(drawn, shift, axis=(0, 1))
        behind += np.clip(log_depth - neighbour, 0.0, 0.1) * there  # bounded: a far background must not turn black
    return np.round(picture * np.exp(-6.0 * behind * drawn / 8)[..., None]).astype(np.uint8)


def _draw_path(
    picture: np.ndarray, trajectory: Trajectory, eye_from_world: Rigid3, camera: Camera, typical_depth: float
) -> None:
    """Line through the camera centres, and the frustum of about every fifth of the way."""
    import cv2

    line = _pixels(camera, eye_from_world @ trajectory.centres)
    if line is not None:
        cv2.polylines(picture, [line], False, PATH_COLOR, 2 * SHARPNESS, cv2.LINE_AA, shift=4)
    for name in trajectory.names[:: max(1, len(trajectory) // 5)]:
        view = trajectory[name]
        lens = view.camera
        reach = 0.04 * typical_depth
        corners = np.array([[0, 0], [lens.width, 0], [lens.width, lens.height], [0, lens.height]], dtype=np.float64)
        rays = np.column_stack([(corners - [lens.cx, lens.cy]) / [lens.fx, lens.fy], np.ones(4)])
        frustum = np.vstack([np.zeros(3), reach * rays])
        pixels = _pixels(camera, eye_from_world @ (view.cam_from_world.inverse() @ frustum))
        if pixels is None:
            continue
        edges = [pixels[[0, i]] for i in (1, 2, 3, 4)] + [pixels[[1, 2, 3, 4, 1]]]
        cv2.polylines(picture, edges, False, FRUSTUM_COLOR, SHARPNESS, cv2.LINE_AA, shift=4)


def _pixels(camera: Camera, in_eye: np.ndarray) -> np.ndarray | None:
    """Pixels as OpenCV's fixed-point integers with 4 fractional bits (whole numbers are pixel centres there)."""
    pixels = camera.project(in_eye)
    if not np.isfinite(pixels).all() or np.abs(pixels).max() > 1e6:
        return None
    return np.round((pixels - 0.5) * 16).astype(np.int32)

"""Textured planes whose pictures and depth are exact, seen by cameras beside each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon4d.refine.frame import Problem, RefineView
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

SIDEWAYS = [(0.0, 0.0, 0.0), (0.21, 0.04, 0.02), (-0.18, 0.07, -0.03), (0.05, -0.2, 0.04)]  # scene units


@dataclass(frozen=True)
class Plane:
    """normal . x = 1, where ``left`` of x = 0 only if so wanted; painted with a sum of waves."""

    normal: tuple[float, float, float]
    seed: int
    left: bool = False

    def inverse_depth(self, camera: Camera, pose: Rigid3) -> np.ndarray:
        """Along z of the camera; 0 where a pixel does not see the plane."""
        rays = camera.rays() @ pose.rotation  # world_from_cam, row vectors
        centre = pose.inverse().translation
        inverse = rays @ self.normal / (1 - centre @ self.normal)
        if self.left:
            x = centre[0] + rays[..., 0] / inverse
            inverse = np.where(x < 0, inverse, 0)
        return np.maximum(inverse, 0)

    def grey(self, points: np.ndarray) -> np.ndarray:
        """Of points (..., 3) in the world; waves of 0.12 to 0.4 scene units."""
        chance = np.random.default_rng(self.seed)
        total = np.zeros(points.shape[:-1])
        for _ in range(8):
            angle, phase = chance.uniform(0, 2 * np.pi, 2)
            wave = 2 * np.pi / chance.uniform(0.12, 0.4) * np.array([np.cos(angle), np.sin(angle), 0])
            total += np.sin(points @ wave + phase)
        return 128 + 25 * total


def camera_of(width: int, height: int) -> Camera:
    return Camera(width, height, 1.1 * width, 1.1 * width, 0.51 * width, 0.48 * height)


def pose_at(centre: tuple[float, float, float], turn: float = 0.0) -> Rigid3:
    """A camera at ``centre`` (world), looking along z, turned about y by ``turn`` radians."""
    c, s = np.cos(turn), np.sin(turn)
    rotation = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return Rigid3(rotation, -rotation @ np.array(centre))


def seen_by(planes: list[Plane], camera: Camera, pose: Rigid3, precision: float = 1e3, dtype=np.float64) -> RefineView:
    """What a camera sees of the planes: the nearest at every pixel."""
    every = np.stack([plane.inverse_depth(camera, pose) for plane in planes])
    nearest = every.argmax(axis=0)
    inverse = every.max(axis=0)
    points = pose.inverse() @ camera.unproject(1 / inverse)
    grey = np.choose(nearest, [plane.grey(points) for plane in planes])
    x = np.log(inverse)
    return RefineView(grey.astype(dtype), x.astype(dtype), np.full(x.shape, precision, dtype=dtype), camera, pose)


WALL = [Plane((0.05, -0.08, 0.45), seed=3)]
STEP = [Plane((0.02, 0.03, 0.33), seed=4), Plane((0.03, -0.02, 0.5), seed=5, left=True)]


def views_of(planes: list[Plane], size: tuple[int, int], count: int, dtype=np.float64) -> list[RefineView]:
    """The first is the frame in the middle, the others stand around it and look at the same place."""
    camera = camera_of(*size)
    poses = [pose_at(centre, 0.45 * centre[0]) for centre in SIDEWAYS[:count]]
    return [seen_by(planes, camera, pose, dtype=dtype) for pose in poses]


def problem_of(views: list[RefineView], prior: np.ndarray | None = None, **changes) -> Problem:
    """Of the first view, asking the others; springs are whole where the prior does not step."""
    own = views[0]
    x = own.x if prior is None else prior.astype(own.x.dtype)
    right, down = np.zeros_like(x), np.zeros_like(x)
    right[:, :-1] = np.abs(np.diff(x, axis=1)) < 0.05
    down[:-1] = np.abs(np.diff(x, axis=0)) < 0.05
    own = RefineView(own.grey, x, own.precision, own.camera, own.cam_from_world)
    given = {"static": np.ones_like(x), "right": right, "down": down, "views": views[1:]} | changes
    return Problem(own, **given)

"""A made clip whose depth bends: a camera passes a slanted wall over a floor, and every error is known exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from recon4d.geometry.clip_field import FrameField, FramePrior
from recon4d.geometry.gain_field import FieldGrid, FieldSamples, Stiffness
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

CAMERA = Camera(320, 240, 280.0, 280.0, 160.0, 120.0)
SMALL = 80, 60  # columns and rows of the reduced grid
PLANES = (([-0.2, 0.0, 1.0], 4.0), ([0.0, 1.0, 0.0], 1.2))  # normal n and distance d of n . x = d: wall, floor

Picture = Callable[[np.ndarray, np.ndarray], np.ndarray]  # x, y in pixels -> a number each


@dataclass
class MadeFrame:
    """One frame: where it was, and by how much (log) the prior's disparity is too small at each pixel."""

    cam_from_world: Rigid3
    error: Picture
    camera: Camera = CAMERA

    def z(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """True z-depth at pixels: the nearer of the planes."""
        camera, world_from_cam = self.camera, self.cam_from_world.inverse()
        rays = np.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, np.ones_like(x)], axis=-1)
        rays = rays @ world_from_cam.rotation.T
        found = np.full(np.shape(x), np.inf)
        for normal, distance in PLANES:
            z = (distance - world_from_cam.translation @ normal) / (rays @ normal)
            found = np.where(z > 0, np.minimum(found, z), found)
        return found

    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Centres of the reduced grid's pixels on the picture."""
        long, short = SMALL
        width, height = (long, short) if self.camera.width >= self.camera.height else (short, long)
        return np.meshgrid(
            (np.arange(width) + 0.5) * (self.camera.width / width),
            (np.arange(height) + 0.5) * (self.camera.height / height),
        )

    def prior(self, x: np.ndarray, y: np.ndarray, noise: np.ndarray | float = 0.0, **columns: object) -> FramePrior:
        """The frame as the fit sees it, with exact or noisy (log) points at pixels x, y."""
        grid_x, grid_y = self.pixels()
        none = np.zeros(FieldGrid.over(self.camera.width, self.camera.height).shape)
        given = FramePrior(
            camera=self.camera,
            cam_from_world=self.cam_from_world,
            log_disparity=(-np.log(self.z(grid_x, grid_y)) - self.error(grid_x, grid_y)).astype(np.float32),
            contrast=Stiffness(none, none),
            samples=FieldSamples(x, y, self.error(x, y) + noise, np.ones(len(x))),
            sparse=len(x),
        )
        return replace(given, **columns)

    def left(self, fitted: FrameField | None) -> np.ndarray:
        """(h, w) log error of disparity after a correction."""
        grid_x, grid_y = self.pixels()
        error = -self.error(grid_x, grid_y)
        return error if fitted is None else error + fitted.grid.spread(fitted.field, *error.shape[::-1])


def smooth_error(rng: np.random.Generator, size: float = 0.06, camera: Camera = CAMERA) -> Picture:
    """A bend of long waves, standard deviation about ``size``."""
    waves = rng.uniform(-1.5, 1.5, (4, 2)) * np.pi / max(camera.width, camera.height)
    phase = rng.uniform(0, 2 * np.pi, 4)
    return lambda x, y: size * np.sqrt(0.5) * sum(np.sin(a * x + b * y + p) for (a, b), p in zip(waves, phase))


def no_error(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.zeros(np.shape(x))


@dataclass
class BentClip:
    """Frames along a sideways path with a slow turn, each with a bend of its own and random points."""

    count: int = 9
    points: int = 40
    noise: float = 0.0
    seed: int = 0
    camera: Camera = CAMERA
    error: Callable[[np.random.Generator], Picture] | None = None
    frames: list[MadeFrame] = field(init=False)
    priors: list[FramePrior] = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.frames, self.priors = [], []
        for i in range(self.count):
            turn = 0.02 * (i - self.count / 2)
            rotation = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
            centre = np.array([0.08 * i, 0.0, 0.01 * i])
            error = smooth_error(rng, camera=self.camera) if self.error is None else self.error(rng)
            frame = MadeFrame(Rigid3(rotation, -rotation @ centre), error, self.camera)
            x, y = rng.uniform(0, self.camera.width, self.points), rng.uniform(0, self.camera.height, self.points)
            self.frames.append(frame)
            self.priors.append(frame.prior(x, y, rng.normal(0, self.noise, self.points)))

    def rms(self, fields: Sequence[FrameField | None]) -> np.ndarray:
        """(N,) root mean square log error of each frame."""
        return np.array([np.sqrt(np.mean(f.left(fitted) ** 2)) for f, fitted in zip(self.frames, fields)])

    def flicker(self, fields: Sequence[FrameField | None]) -> float:
        """By how much two neighbours in time differ (root mean square, log) about the same points of the scene."""
        found = []
        for (a, field_a), (b, field_b) in zip(zip(self.frames, fields), zip(self.frames[1:], fields[1:])):
            x, y = a.pixels()
            z = a.z(x, y)
            camera = a.camera
            in_a = np.stack([(x - camera.cx) / camera.fx * z, (y - camera.cy) / camera.fy * z, z], axis=-1)
            in_b = (b.cam_from_world @ a.cam_from_world.inverse()) @ in_a.reshape(-1, 3)
            x_b, y_b = b.camera.project(in_b).T
            inside = (x_b > 0) & (x_b < camera.width) & (y_b > 0) & (y_b < camera.height)
            error_b = field_b.grid.read(field_b.field, x_b, y_b) - b.error(x_b, y_b)
            found.append((error_b - a.left(field_a).ravel())[inside])
        return float(np.sqrt(np.mean(np.concatenate(found) ** 2)))

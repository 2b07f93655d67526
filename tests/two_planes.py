"""A textured board before a textured wall, seen by cameras side by side: exact pictures and depth of any size."""

from __future__ import annotations

import numpy as np

from recon4d.refine.frame import Problem, RefineView
from recon4d.refine.prior import prior_springs
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

SIZE = 64, 48
CAMERA = Camera(*SIZE, 56.0, 56.0, 32.0, 24.0)
BOARD_Z, HALF = 2.0, 0.42  # scene units; half of its side
WALL_Z, LEAN = 4.0, 0.3  # the wall is farther to the right
SAMPLES = 4  # rays along each side of a pixel
PLACES = [(0.0, 0.0), (0.3, 0.0), (-0.3, 0.05), (0.1, 0.25), (-0.1, -0.25), (0.25, 0.2), (-0.25, -0.2)]
GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
WAVES = np.random.default_rng(3).normal(size=(2, 12, 3))  # of board and wall: wave numbers across, down, phase


def pose(place: tuple[float, float]) -> Rigid3:
    """A camera beside the first, looking the same way."""
    return Rigid3(np.eye(3), -np.array([*place, 0.0]))


def depth(place: tuple[float, float] = (0.0, 0.0), rays: np.ndarray | None = None) -> np.ndarray:
    """z-depth (h, w), scene units, where the pixel centres of a camera look, or along other rays (..., 3)."""
    rays = CAMERA.rays() if rays is None else rays
    wall = (WALL_Z + LEAN * place[0]) / (1 - LEAN * rays[..., 0])
    across, down = place[0] + BOARD_Z * rays[..., 0], place[1] + BOARD_Z * rays[..., 1]
    return np.where(np.maximum(np.abs(across), np.abs(down)) < HALF, BOARD_Z, wall)


def picture(place: tuple[float, float]) -> np.ndarray:
    """(h, w, 3) uint8, the mean of some rays a pixel."""
    fine = CAMERA.resized(SAMPLES * SIZE[0], SAMPLES * SIZE[1])
    z = depth(place, fine.rays())
    seen = z[..., None] * fine.rays() + np.array([*place, 0.0])
    colors = np.where((z == BOARD_Z)[..., None], _colors(seen, 0, 9.0), _colors(seen, 1, 5.0))
    mean = colors.reshape(SIZE[1], SAMPLES, SIZE[0], SAMPLES, 3).mean(axis=(1, 3))
    return np.clip(np.round(mean), 0, 255).astype(np.uint8)


def _colors(points: np.ndarray, which: int, fineness: float) -> np.ndarray:
    waves = WAVES[which]
    phase = fineness * (points[..., None, 0] * waves[:, 0] + points[..., None, 1] * waves[:, 1]) + 9 * waves[:, 2]
    base = np.array([[190.0, 120, 70], [70, 110, 150]])[which]
    channels = [np.sin(phase[..., k::3]).sum(axis=-1) for k in range(3)]
    return base + 22 * np.stack(channels, axis=-1)


PICTURES = [picture(place) for place in PLACES]
TRUTH = depth().astype(np.float32)


def view(k: int, x: np.ndarray, rgb: np.ndarray | None = None) -> RefineView:
    """Camera ``k`` with a surface ``x`` of its own."""
    grey = (PICTURES[k] if rgb is None else rgb).astype(np.float32) @ GREY
    return RefineView(grey, x, np.full_like(x, 1e4), CAMERA, pose(PLACES[k]))


def problem(prior: np.ndarray) -> Problem:
    """The first camera with a prior (h, w) of x, and all others with their true surfaces."""
    others = [view(k, -np.log(depth(PLACES[k])).astype(np.float32)) for k in range(1, len(PLACES))]
    springs = prior_springs(prior, PICTURES[0])
    return Problem(view(0, prior), np.ones_like(prior), *springs, (), others)

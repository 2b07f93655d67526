"""Two textured planes before a moving camera, and squares that move on the nearer one: every flow is known."""

from __future__ import annotations

import numpy as np

from recon4d.motion.static_flow import Look
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

WIDTH, HEIGHT, FOCAL = 96, 72, 80.0
FAR, NEAR = 4.0, 2.0  # depths; the near plane begins at the middle column of the first frame
STEP = 0.05  # of the camera to the right per frame: 1 px at FAR, 2 px at NEAR
CAMERA = Camera(WIDTH, HEIGHT, FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2)
NO_POINTS = np.zeros((0, 2), dtype=np.int64)


def texture(seed: int, height: int, width: int, low: float = 40.0, high: float = 215.0) -> np.ndarray:
    """(height, width, 3) float32 smooth random colours."""
    import cv2

    noise = np.random.default_rng(seed).uniform(0, 1, (height // 3 + 2, width // 3 + 2, 3)).astype(np.float32)
    return low + (high - low) * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)


class Planes:
    """The clip; ``squares`` are (row, column, side, rows per frame, columns per frame) in pixels of the background."""

    def __init__(self, squares=(), shade=None, seed: int = 0) -> None:
        self.squares, self.shade = squares, shade
        self._far, self._near = texture(seed, HEIGHT, 3 * WIDTH), texture(seed + 1, HEIGHT, 3 * WIDTH)
        self._own = [texture(seed + 10 + k, square[2], square[2]) for k, square in enumerate(squares)]

    def square(self, k: int, frame: int) -> tuple[slice, slice]:
        """Rows and columns of a square in a frame's picture; it moves in the picture of the near plane."""
        row, column, side, down, right = self.squares[k]
        top, left = row + down * frame, column + right * frame - 2 * frame
        return slice(top, top + side), slice(left, left + side)

    def mask(self, frame: int) -> np.ndarray:
        """(H, W) bool: the squares."""
        mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
        for k in range(len(self.squares)):
            mask[self.square(k, frame)] = True
        return mask

    def look(self, frame: int, depth_factor: float = 1.0) -> Look:
        """A frame as the stage motion sees it; squares lie on the near plane."""
        picture = self._far[:, WIDTH + frame : 2 * WIDTH + frame].copy()
        depth = np.full((HEIGHT, WIDTH), FAR, dtype=np.float32)
        first = max(WIDTH // 2 - 2 * frame, 0)
        picture[:, first:] = self._near[:, WIDTH + first + 2 * frame : 2 * WIDTH + 2 * frame]
        depth[:, first:] = NEAR
        for k, colours in enumerate(self._own):
            picture[self.square(k, frame)] = colours
            depth[self.square(k, frame)] = NEAR
        if self.shade is not None:
            picture[self.shade(frame)] *= 0.75
        pose = Rigid3(np.eye(3), np.array([-STEP * frame, 0.0, 0.0]))
        near = (1 / (depth_factor * depth)).astype(np.float32)
        rgb = np.clip(np.round(picture), 0, 255).astype(np.uint8)
        known, doubt = np.ones_like(near, dtype=bool), np.full_like(near, 0.05)
        return Look(f"{frame:06d}", rgb, CAMERA, pose, near, known, doubt, NO_POINTS)

    def true_flow(self, frame: int, other: int) -> np.ndarray:
        """(H, W, 2) flow of every pixel."""
        gap = other - frame
        depth = 1 / self.look(frame).nearness
        flow = np.zeros((HEIGHT, WIDTH, 2), dtype=np.float32)
        flow[..., 0] = -gap * FOCAL * STEP / depth
        for k, (_, _, _, down, right) in enumerate(self.squares):
            flow[self.square(k, frame)] = (gap * (right - 2), gap * down)
        return flow

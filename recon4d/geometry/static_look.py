"""Does a frame look, at a given depth, as other frames do there? What does not is no part of the static scene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from recon4d.geometry.photo_cost import pixel_warp
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

HIDDEN = 1.05  # ratio of inverse depth at which a view sees something nearer instead
BLUR_PX = 1.0
AROUND = np.ones((7, 7), dtype=np.uint8)  # pixels: poses and depth may be off, so any colour from so near will do
UNLIKE = 24.0  # grey levels, mean of the channels
LEAST_VIEWS = 3  # that must see the place
SMALLEST_PX = 40  # of 320 x 240: smaller patches are noise, glints, edges


class Picture(Protocol):
    """A posed picture in colour."""

    rgb: np.ndarray
    camera: Camera
    cam_from_world: Rigid3


def looks_static(
    frame: Picture, inverse_depth: np.ndarray, others: Sequence[Picture], depths: Sequence[np.ndarray]
) -> np.ndarray:
    """(H, W) bool: False where most views that see a pixel's surface see another colour there.

    Args:
        inverse_depth: (H, W) of the static scene in the frame.
        others: views to compare with, of any size.
        depths: their inverse depth, to know where something hides the surface.
    """
    import cv2

    own = cv2.GaussianBlur(frame.rgb, (0, 0), BLUR_PX).astype(np.float32)
    differences = np.full((len(others), *inverse_depth.shape), np.nan, dtype=np.float32)
    for slot, (other, depth) in enumerate(zip(others, depths)):
        x, y, expected = _where(frame, other, inverse_depth)
        soft = cv2.GaussianBlur(other.rgb, (0, 0), BLUR_PX)
        least, most = (
            cv2.remap(edge(soft, AROUND), x, y, cv2.INTER_LINEAR).astype(np.float32) for edge in (cv2.erode, cv2.dilate)
        )
        nearest = cv2.remap(depth, x, y, cv2.INTER_NEAREST)
        inside = (x >= 0) & (y >= 0) & (x <= other.camera.width - 1) & (y <= other.camera.height - 1)
        visible = inside & (expected > 0) & (nearest < HIDDEN * expected)
        if visible.sum() < 100:
            continue
        gain = np.median(own[visible]) / max(np.median((least + most)[visible]) / 2, 1.0)
        difference = np.maximum(np.maximum(own - gain * most, gain * least - own), 0).mean(axis=2)
        differences[slot] = np.where(visible, difference, np.nan)
    return _without_specks(_usual(differences) < UNLIKE)


def _where(frame: Picture, other: Picture, inverse_depth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions in the other view (first pixel centre 0, as cv2 counts) and inverse depth there."""
    turn, shift = pixel_warp(frame, other)
    height, width = inverse_depth.shape
    x, y = np.arange(width, dtype=np.float32) + 0.5, np.arange(height, dtype=np.float32)[:, None] + 0.5
    u, v, z = (turn[row, 0] * x + turn[row, 1] * y + turn[row, 2] + inverse_depth * shift[row] for row in range(3))
    before = z > 1e-6
    z = np.where(before, z, np.float32(1))
    return np.where(before, u / z - 0.5, -1), np.where(before, v / z - 0.5, -1), np.where(before, inverse_depth / z, 0)


def _usual(differences: np.ndarray) -> np.ndarray:
    """Median over the views that see a pixel; 0 where too few do."""
    ordered = np.sort(differences, axis=0)  # NaN last
    seeing = np.isfinite(differences).sum(axis=0)
    middle = np.take_along_axis(ordered, np.maximum(seeing - 1, 0)[None] // 2, axis=0)[0]
    return np.where(seeing >= LEAST_VIEWS, middle, 0)


def _without_specks(static: np.ndarray) -> np.ndarray:
    """Patches that differ and are small or thin are taken for static."""
    import cv2

    moving = cv2.morphologyEx((~static).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), dtype=np.uint8))
    count, label, stats, _ = cv2.connectedComponentsWithStats(moving, connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= SMALLEST_PX * static.size / (320 * 240)
    large[0] = False  # the rest of the picture
    return ~large[label] if count > 1 else np.ones(static.shape, dtype=bool)

"""Does a frame look, at a given depth, as other frames do there? What does not is no part of the static scene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from recon4d.geometry.photo_cost import pixel_warp
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

HIDDEN = 1.05  # ratio of inverse depth at which a view sees something nearer instead
WINDOW_PX = 3  # side of the windows compared
SHIFTS_PX = (-2, 0, 2)  # poses and depth are a little off: the best of these counts
UNLIKE, VERY_UNLIKE = 10.0, 25.0  # grey levels, mean of the channels: a patch needs both, the second somewhere in it
TRUSTED = 0.7  # what the frame's own matching vouches for so far is static whatever its colours: exposure, reflections
LEAST_VIEWS = 3  # that must see the place
SMALLEST_SHARE = 80 / (320 * 240)  # of the picture: smaller patches are noise, glints, edges
CLOSED_PX = 9  # holes and notches in a patch so wide belong to what moves: there it happens to look like what is behind
ENOUGH_PIXELS = 100  # to tell the gain between two pictures


class Picture(Protocol):
    """A posed picture in colour."""

    rgb: np.ndarray
    camera: Camera
    cam_from_world: Rigid3


def looks_static(
    frame: Picture,
    inverse_depth: np.ndarray,
    own_trust: np.ndarray,
    others: Sequence[Picture],
    depths: Sequence[np.ndarray],
) -> np.ndarray:
    """(H, W) bool: False in patches where most views that see a pixel's surface see another colour there.

    Args:
        inverse_depth: (H, W) of the static scene in the frame.
        own_trust: (H, W) 0..1, how far the frame's own matching vouches for that depth.
        others: views to compare with, of any size, spread over time: most must have been taken while what moves in the
            frame was elsewhere.
        depths: their inverse depth, to know where something hides the surface.
    """
    import cv2

    own = cv2.GaussianBlur(frame.rgb, (0, 0), 1.0).astype(np.float32)
    differences = np.full((len(others), *inverse_depth.shape), np.nan, dtype=np.float32)
    for slot, (other, depth) in enumerate(zip(others, depths)):
        x, y, expected = _where(frame, other, inverse_depth)
        seen = cv2.remap(cv2.GaussianBlur(other.rgb, (0, 0), 1.0), x, y, cv2.INTER_LINEAR).astype(np.float32)
        nearest = cv2.remap(depth, x, y, cv2.INTER_NEAREST)
        inside = (x >= 0) & (y >= 0) & (x <= other.camera.width - 1) & (y <= other.camera.height - 1)
        visible = inside & (expected > 0) & (nearest < HIDDEN * expected)
        if visible.sum() < ENOUGH_PIXELS:
            continue
        gain = np.median(own[visible]) / max(np.median(seen[visible]), 1.0)
        differences[slot] = np.where(visible, patch_difference(own, gain * seen), np.nan)
    usual = _usual(differences)
    return ~_patches((usual > UNLIKE) & (own_trust < TRUSTED), usual > VERY_UNLIKE)


def _where(frame: Picture, other: Picture, inverse_depth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions in the other view (first pixel centre 0, as cv2 counts) and inverse depth there."""
    turn, shift = pixel_warp(frame, other)
    height, width = inverse_depth.shape
    x, y = np.arange(width, dtype=np.float32) + 0.5, np.arange(height, dtype=np.float32)[:, None] + 0.5
    u, v, z = (turn[row, 0] * x + turn[row, 1] * y + turn[row, 2] + inverse_depth * shift[row] for row in range(3))
    before = z > 1e-6
    z = np.where(before, z, np.float32(1))
    return np.where(before, u / z - 0.5, -1), np.where(before, v / z - 0.5, -1), np.where(before, inverse_depth / z, 0)


def patch_difference(
    own: np.ndarray, seen: np.ndarray, shifts_px: Sequence[int] = SHIFTS_PX, window_px: int = WINDOW_PX
) -> np.ndarray:
    """(H, W) mean absolute difference of two float pictures (H, W, 3) over a window, under the best small shift."""
    import cv2

    most = max(shifts_px)
    padded = cv2.copyMakeBorder(seen, *[most] * 4, cv2.BORDER_REPLICATE)
    height, width = own.shape[:2]
    mean, best = np.full((1, 3), 1 / 3, dtype=np.float32), None  # OpenCV's loops take an eighth of numpy's time
    for down in shifts_px:
        for right in shifts_px:
            top, left = most + down, most + right
            shifted = padded[top : top + height, left : left + width]
            difference = cv2.blur(cv2.transform(cv2.absdiff(own, shifted), mean), (window_px, window_px))
            best = difference if best is None else cv2.min(best, difference)
    return best


def _usual(differences: np.ndarray) -> np.ndarray:
    """Median over the views that see a pixel; 0 where too few do."""
    if len(differences) == 0:
        return np.zeros(differences.shape[1:], dtype=np.float32)
    ordered = np.sort(differences, axis=0)  # NaN last
    seeing = np.isfinite(differences).sum(axis=0)
    middle = np.take_along_axis(ordered, np.maximum(seeing - 1, 0)[None] // 2, axis=0)[0]
    return np.where(seeing >= LEAST_VIEWS, middle, 0)


def _patches(unlike: np.ndarray, very: np.ndarray) -> np.ndarray:
    """(H, W) bool: connected parts of ``unlike``, not thin nor small, that hold a pixel of ``very``; holes filled."""
    import cv2

    solid = cv2.morphologyEx(unlike.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), dtype=np.uint8))
    count, label, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=8)
    kept = stats[:, cv2.CC_STAT_AREA] >= SMALLEST_SHARE * unlike.size
    kept &= np.bincount(label[very], minlength=count) > 0
    kept[0] = False  # the rest of the picture
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (CLOSED_PX, CLOSED_PX))
    return cv2.morphologyEx(kept[label].astype(np.uint8), cv2.MORPH_CLOSE, disc) > 0

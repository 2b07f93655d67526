"""Where to fly: towards what is far, away from what is near.

In the spirit of the view generation of Liu et al., Infinite Nature, ICCV 2021, which balances sky and ground; ours
works on ranks of disparity instead of fixed values, so that rooms without a sky steer too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon4d.scene.camera import Camera

SIDEWAYS, UPWARDS = 0.25, 0.125  # of the picture: so far from its centre the next look may lie
NEAR = 2.0  # times the median disparity: something to stay clear of


@dataclass(frozen=True)
class Steering:
    """Directions for the next stretch, camera axes (x right, y down, z forward), unit vectors."""

    look: np.ndarray  # (3,)
    move: np.ndarray  # (3,)


def steer(depth: np.ndarray, camera: Camera) -> Steering:
    """Look to the middle of what is far; move there, pushed away from the middle of what is near.

    Args:
        depth: (H, W) z, 0 where it is not known; that counts as neither.
    """
    if depth.shape != camera.shape:
        raise ValueError(f"steer: depth is {depth.shape}, the camera {camera.shape}")
    known = depth > 0
    if not known.any():
        ahead = np.array([0.0, 0.0, 1.0])
        return Steering(ahead, ahead)
    disparity = np.where(known, 1 / np.where(known, depth, 1.0), 0.0)
    median = np.median(disparity[known])
    far = np.where(known, np.clip(1 - disparity / median, 0, 1), 0.0)
    near = np.where(known, np.clip(disparity / (NEAR * median) - 1, 0, 1), 0.0)
    aim, threat = _middle(far), _middle(near)
    bounds = np.array([SIDEWAYS, UPWARDS])
    look = np.clip(aim, -bounds, bounds)
    push = np.clip(-threat * near.mean() * 4, -bounds, bounds)  # the more of the picture is near, the stronger
    return Steering(_direction(look, camera), _direction(np.clip(look + push, -bounds, bounds), camera))


def _middle(weight: np.ndarray) -> np.ndarray:
    """(2,) weighted mean place, x and y from -0.5 to 0.5 of the picture; 0 where nothing weighs."""
    height, width = weight.shape
    x = (np.arange(width) + 0.5) / width - 0.5
    y = (np.arange(height) + 0.5) / height - 0.5
    total = weight.sum()
    return np.array([weight.sum(axis=0) @ x, weight.sum(axis=1) @ y]) / total if total > 1e-9 else np.zeros(2)


def _direction(place: np.ndarray, camera: Camera) -> np.ndarray:
    """(3,) unit vector that is ``place`` (shares of the picture) off the optical axis."""
    x, y = place[0] * camera.width / camera.fx, place[1] * camera.height / camera.fy
    return np.array([x, y, 1.0]) / np.sqrt(x * x + y * y + 1)

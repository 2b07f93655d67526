"""Which way is up, from how people hold cameras."""

from __future__ import annotations

import numpy as np

from recon4d.scene.transforms import Rigid3


def levelled_from_cameras(cam_from_world: Rigid3) -> Rigid3:
    """Turn of the world that brings its up direction to +z, from a batch of poses (N,).

    People keep the horizon level: the x axes of the cameras lie in the ground plane whatever the pitch. Up is the
    direction most at right angles to all of them; where the camera hardly turns, the mean upward axis decides.
    """
    right, down = cam_from_world.rotation[:, 0], cam_from_world.rotation[:, 1]  # rows: camera axes in the world
    mean_up = -down.mean(axis=0)
    mean_up /= max(np.linalg.norm(mean_up), 1e-12)
    spread = right.T @ right / len(right)
    # 0.005: with less turning than about 4 degrees the x axes do not fix the plane, and the mean up takes over.
    _, vectors = np.linalg.eigh(spread + 0.005 * (np.eye(3) - np.outer(mean_up, mean_up)))
    up = vectors[:, 0] * (1.0 if vectors[:, 0] @ mean_up >= 0 else -1.0)
    return Rigid3(_shortest_turn(up, np.array([0.0, 0.0, 1.0])), np.zeros(3))


def _shortest_turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rotation matrix that brings unit vector a to unit vector b by the smallest angle (Rodrigues)."""
    axis, cosine = np.cross(a, b), float(a @ b)
    if cosine < -1 + 1e-9:  # opposite: half a turn about any axis at right angles
        helper = np.eye(3)[int(np.argmin(np.abs(a)))]
        axis = np.cross(a, helper)
        axis /= np.linalg.norm(axis)
        return 2 * np.outer(axis, axis) - np.eye(3)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + cross + cross @ cross / (1 + cosine)

"""A camera path through given poses: those of a file, a keyframe editor or a program."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recon4d.fill.path_base import CameraPath
from recon4d.geometry.pose_splines import poses_between
from recon4d.scene.camera import Camera
from recon4d.scene.path_keys import PathKeys


def keyed_path(keys: PathKeys, camera: Camera, times: np.ndarray) -> CameraPath:
    """The path through all keys in ``len(times)`` pictures.

    Args:
        camera: of the output; a field of view of the keys replaces its focal length and centres it.
        times: (N,) moments of the clip, where the keys give none.
    """
    count, frames = len(keys.world_from_cam), len(times)
    key_times = np.arange(count, dtype=np.float64) if keys.key_times is None else keys.key_times
    wanted = np.linspace(key_times[0], key_times[-1], frames)
    wanted = key_times if frames == count and np.allclose(wanted, key_times) else wanted  # meets the keys exactly
    cameras = (camera,) * frames
    if keys.tan_half_height is not None:
        focal = 0.5 * camera.height / _between(key_times, keys.tan_half_height, wanted)
        middle = replace(camera, cx=camera.width / 2, cy=camera.height / 2)
        cameras = tuple(replace(middle, fx=f, fy=f) for f in focal)
    if keys.clip_frames is not None:
        times = _between(key_times, keys.clip_frames, wanted)
    return CameraPath(poses_between(key_times, keys.world_from_cam, wanted), cameras, times)


def _between(key_times: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Values between keys without overshoot (Fritsch and Carlson, SIAM J. Numer. Anal. 1980)."""
    from scipy.interpolate import PchipInterpolator

    if len(key_times) == 1:
        return np.full(len(wanted), float(values[0]))
    return PchipInterpolator(key_times, values)(wanted)

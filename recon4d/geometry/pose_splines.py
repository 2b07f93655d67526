"""Poses between poses: smooth curves through keys, and a steadied course."""

from __future__ import annotations

import numpy as np

from recon4d.scene.transforms import Rigid3

LONGEST_REACH = 4.0  # sigmas that a Gaussian is summed over


def poses_between(key_times: np.ndarray, keys: Rigid3, times: np.ndarray) -> Rigid3:
    """Poses at ``times`` (N,) on a smooth curve through ``keys`` (K,) at ``key_times`` (K,), increasing.

    Positions follow a cubic Hermite curve whose slope at a key is that of the parabola through it and its neighbours
    (Catmull-Rom for even times), rotations the cubic spline of Park and Ravani (ACM ToG 1997), both C1. Keys are met
    exactly; before the first and after the last key the pose stays.
    """
    from scipy.interpolate import CubicHermiteSpline
    from scipy.spatial.transform import Rotation, RotationSpline

    key_times, times = np.asarray(key_times, dtype=np.float64), np.asarray(times, dtype=np.float64)
    if len(key_times) != len(keys) or not (np.diff(key_times) > 0).all():
        raise ValueError(f"poses_between: {len(key_times)} times of {len(keys)} poses do not increase")
    times = np.clip(times, key_times[0], key_times[-1])
    after = np.searchsorted(key_times, times)
    is_key = key_times[after] == times
    if len(keys) == 1 or is_key.all():  # nothing lies between: no spline is needed, which long clips would pay for
        return keys[after]
    slopes = np.gradient(keys.translation, key_times, axis=0, edge_order=2 if len(keys) > 2 else 1)
    positions = CubicHermiteSpline(key_times, keys.translation, slopes)(times)
    rotations = RotationSpline(key_times, Rotation.from_matrix(keys.rotation))(times).as_matrix()
    return Rigid3(
        np.where(is_key[:, None, None], keys.rotation[after], rotations),
        np.where(is_key[:, None], keys.translation[after], positions),
    )


def steadied(poses: Rigid3, sigma: float) -> Rigid3:
    """The course of poses (N,) without its shake: Gaussian means of the neighbours.

    Args:
        sigma: width in frames; 0 gives the poses back.

    Rotations: the mean of Markley et al., JGCD 2007 (leading eigenvector of the summed outer products), which does
    not care for the signs of quaternions. Near the ends the window becomes narrower on both sides, so that the course
    does not start behind the first pose.
    """
    count = len(poses)
    if sigma <= 0 or count < 2:
        return poses
    quats, turned, moved = poses.quat_xyzw, np.empty((count, 4)), np.empty((count, 3))
    for i in range(count):
        reach = min(i, count - 1 - i, int(np.ceil(LONGEST_REACH * sigma)))
        rows = np.arange(i - reach, i + reach + 1)
        weight = np.exp(-0.5 * ((rows - i) / sigma) ** 2)
        weight /= weight.sum()
        moved[i] = weight @ poses.translation[rows]
        _, vectors = np.linalg.eigh(np.einsum("n,ni,nj->ij", weight, quats[rows], quats[rows]))
        turned[i] = vectors[:, -1]
    return Rigid3.from_quat_xyzw(turned, moved)

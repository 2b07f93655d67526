"""Poses of an RGB-D recording brought to the times of its pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.rgbd import RgbdCalibration, RgbdFrame, RgbdPoses
from recon4d.formats.rgbd_files import TOLERANCE_S
from recon4d.scene.transforms import Rigid3

LONGEST_GAP_S = 0.1  # between two poses: a hand turns a camera by some degrees in it, at a rate that hardly changes


def poses_at(
    frames: Sequence[RgbdFrame], times_s: np.ndarray, world_from_color: Rigid3, calibration: RgbdCalibration, kind: str
) -> RgbdPoses:
    """Poses at the times of the frames, between the two poses around each; frames without any near are left out.

    Args:
        times_s: (N,) seconds of the same clock as the frames.
        world_from_color: (N,) poses.

    Raises:
        InputError: the clocks do not meet.
    """
    order = np.argsort(times_s, kind="stable")
    times, poses = np.asarray(times_s, dtype=np.float64)[order], world_from_color[order]
    quats = poses.quat_xyzw
    names, rotations, centres = [], [], []
    for frame in frames:
        share = _place(times, frame.timestamp_s)
        if share is None:
            continue
        before, after, part = share
        quat = _between(quats[before], quats[after], part)
        names.append(frame.name)
        rotations.append(quat)
        centres.append((1 - part) * poses.translation[before] + part * poses.translation[after])
    if not names:
        raise InputError(
            f"poses: the times of the poses ({times[0]:.2f} to {times[-1]:.2f} s) are not those of the pictures "
            f"({frames[0].timestamp_s:.2f} to {frames[-1].timestamp_s:.2f} s): both need the same clock"
        )
    cameras = None if calibration.color is None else (calibration.color,) * len(names)
    return RgbdPoses(tuple(names), Rigid3.from_quat_xyzw(np.array(rotations), np.array(centres)), cameras, kind)


def _place(times: np.ndarray, time_s: float) -> tuple[int, int, float] | None:
    """Rows around a time and the share of the second; one row twice where it is as good as at that time."""
    after = int(np.searchsorted(times, time_s))
    if 0 < after < len(times) and times[after] - times[after - 1] <= LONGEST_GAP_S:
        gap = times[after] - times[after - 1]
        return after - 1, after, float((time_s - times[after - 1]) / gap) if gap > 0 else 0.0
    around = [row for row in (after - 1, after) if 0 <= row < len(times)]
    nearest = min(around, key=lambda row: abs(times[row] - time_s))
    return (nearest, nearest, 0.0) if abs(times[nearest] - time_s) <= TOLERANCE_S else None


def _between(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """Normalised mean of two near rotations: within 0.1 s it differs from constant turning by less than 0.01 degree."""
    return (1 - share) * first + share * (second if first @ second >= 0 else -second)


def of_color(world_from_depth: Rigid3, color_from_depth: Rigid3) -> Rigid3:
    """Poses (N,) of the colour camera from those of the depth camera."""
    count = len(world_from_depth)
    moved = color_from_depth.inverse()
    batch = Rigid3(np.broadcast_to(moved.rotation, (count, 3, 3)), np.broadcast_to(moved.translation, (count, 3)))
    return world_from_depth @ batch

"""Temporal stability: how much the estimated depth of one static surface point wavers from frame to frame.

A pixel of the middle frame of five is lifted to the world with TRUE depth and pose and looked up in all five frames.
In each, the relative error of the estimate there is  e = z_estimate / z_point - 1.  The flicker of the point is the
standard deviation of its five errors: a constant error is no flicker, a wrong scale of the clip cancels to first order.
Points count only where all five frames see them (true depth within 3 % of the point's) and have an estimate.
The mean over the points is ruled by the few that jump; the median is what the usual point does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recon4d.evaluation.sampling import sample_whole
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

SPAN = 5  # neighbouring frames
SEEN_WITHIN = 0.03  # relative; beyond, something else is in front or the truth is noise
STEP_PX = 4  # every 4th pixel both ways is as good as all of them


@dataclass(frozen=True)
class StabilityFrame:
    """What one frame contributes; all grids (H, W) of one camera, depths in the truth's unit."""

    camera: Camera
    cam_from_world: Rigid3  # true pose
    estimate: np.ndarray
    valid: np.ndarray  # bool, pixels with an estimate
    truth: np.ndarray
    known: np.ndarray  # bool, static pixels with truth


@dataclass(frozen=True)
class Flicker:
    """Of the points of one window of frames."""

    relative: float  # standard deviation of the relative error, mean over the points
    length: float  # standard deviation of the error, mean, truth's unit
    median: float  # standard deviation of the relative error, median over the points
    points: int


def surface_flicker(frames: Sequence[StabilityFrame]) -> Flicker | None:
    """Flicker about the middle of ``SPAN`` neighbouring frames, or None when no point is seen in all of them."""
    if len(frames) != SPAN:
        raise ValueError(f"surface_flicker: {len(frames)} frames, {SPAN} are needed")
    middle = frames[SPAN // 2]
    chosen = np.zeros(middle.known.shape, dtype=bool)
    chosen[STEP_PX // 2 :: STEP_PX, STEP_PX // 2 :: STEP_PX] = True
    chosen &= middle.known
    in_world = middle.cam_from_world.inverse() @ middle.camera.unproject(middle.truth.astype(np.float64))[chosen]
    relative, length = np.empty((SPAN, len(in_world))), np.empty((SPAN, len(in_world)))
    for k, frame in enumerate(frames):
        in_cam = frame.cam_from_world @ in_world
        estimate, usable = _looked_up(frame, in_cam)
        relative[k] = np.where(usable, estimate / in_cam[:, 2] - 1, np.nan)
        length[k] = relative[k] * in_cam[:, 2]
    seen = np.isfinite(relative).all(axis=0)
    if not seen.any():
        return None
    of_points = relative[:, seen].std(axis=0)
    return Flicker(
        relative=float(of_points.mean()),
        length=float(length[:, seen].std(axis=0).mean()),
        median=float(np.median(of_points)),
        points=int(seen.sum()),
    )


def _looked_up(frame: StabilityFrame, in_cam: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Estimated depth where points (N, 3) appear, and whether the frame really sees them and has an estimate."""
    x, y = frame.camera.project(in_cam).T
    truth, known = sample_whole(frame.truth, frame.known, x, y)
    estimate, valid = sample_whole(frame.estimate, frame.valid, x, y)
    with np.errstate(invalid="ignore"):
        seen = np.abs(truth - in_cam[:, 2]) < SEEN_WITHIN * in_cam[:, 2]
    return estimate, known & valid & seen & (estimate > 0)

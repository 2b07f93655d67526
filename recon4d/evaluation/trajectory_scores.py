"""Scores of a camera path against the true one, after a similarity took away the choice of world frame and unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon4d.geometry.similarity import fit_similarity
from recon4d.scene.transforms import Rigid3, Sim3


@dataclass(frozen=True)
class ErrorSummary:
    """Summary of many errors of one kind."""

    rmse: float
    mean: float
    median: float
    max: float

    @classmethod
    def of(cls, errors: np.ndarray) -> ErrorSummary:
        """From errors (N,), at least one, none negative."""
        return cls(
            float(np.sqrt((errors**2).mean())), float(errors.mean()), float(np.median(errors)), float(errors.max())
        )


@dataclass(frozen=True)
class TrajectoryScores:
    """Errors in the truth's unit (degrees for angles)."""

    truth_from_estimate: Sim3  # its scale is the length of one scene unit in the truth's unit
    poses: int
    path_length: float  # of the true path through the compared poses
    ate: ErrorSummary  # distance of camera centres
    rpe_translation: ErrorSummary  # of the motion from one compared frame to the next
    rpe_rotation_deg: ErrorSummary


def score_trajectory(estimate: Rigid3, truth: Rigid3) -> TrajectoryScores:
    """Absolute trajectory error and relative pose error after the least-squares similarity.

    Args:
        estimate: world_from_cam, batch (N,), in time order.
        truth: world_from_cam, batch (N,), row i is the same frame as row i of ``estimate``.

    Raises:
        AlignmentError: fewer than 3 poses, or all camera centres on one line.

    Source: Sturm et al., IROS 2012, with the alignment of Umeyama, PAMI 1991, on the camera centres.
    """
    truth_from_estimate = fit_similarity(estimate.translation, truth.translation)
    # Camera-to-world poses moved by a similarity: centres are scaled, axes only turned.
    aligned = Rigid3(truth_from_estimate.rotation @ estimate.rotation, truth_from_estimate @ estimate.translation)
    error = _steps(truth).inverse() @ _steps(aligned)
    return TrajectoryScores(
        truth_from_estimate=truth_from_estimate,
        poses=len(truth),
        path_length=float(np.linalg.norm(np.diff(truth.translation, axis=0), axis=1).sum()),
        ate=ErrorSummary.of(np.linalg.norm(aligned.translation - truth.translation, axis=1)),
        rpe_translation=ErrorSummary.of(np.linalg.norm(error.translation, axis=1)),
        rpe_rotation_deg=ErrorSummary.of(_angle_deg(error.rotation)),
    )


def _steps(world_from_cam: Rigid3) -> Rigid3:
    """this_from_next of neighbouring poses, batch (N - 1,)."""
    return world_from_cam[:-1].inverse() @ world_from_cam[1:]


def _angle_deg(rotation: np.ndarray) -> np.ndarray:
    """(N,) angle of rotations (N, 3, 3); by the arc tangent, which is exact for small angles where acos is not."""
    skew = rotation - np.swapaxes(rotation, 1, 2)
    sine = np.linalg.norm(skew[:, [2, 0, 1], [1, 2, 0]], axis=1) / 2
    cosine = (np.trace(rotation, axis1=1, axis2=2) - 1) / 2
    return np.degrees(np.arctan2(sine, cosine))


def match_times(
    wanted_s: np.ndarray, offered_s: np.ndarray, tolerance_s: float, shift_s: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of ``wanted_s`` (N,) and of ``offered_s`` (M,) that belong together: nearest in time, each used once.

    ``shift_s`` is added to the wanted times. Pairs further apart than ``tolerance_s`` are left out. Both results are
    (K,), sorted by wanted time.
    """
    order = np.argsort(offered_s, kind="stable")
    times, target = offered_s[order], wanted_s + shift_s
    right = np.clip(np.searchsorted(times, target), 1, max(len(times) - 1, 1))
    left = right - 1
    right = np.minimum(right, len(times) - 1)
    nearest = np.where(np.abs(times[left] - target) <= np.abs(times[right] - target), left, right)
    gap = np.abs(times[nearest] - target)
    rows = np.flatnonzero(gap <= tolerance_s)
    rows = rows[np.lexsort((gap[rows], nearest[rows]))]  # of several that want the same row the nearest gets it
    keep = np.concatenate([[True], np.diff(nearest[rows]) != 0]) if len(rows) else np.zeros(0, dtype=bool)
    rows = np.sort(rows[keep])
    return rows, order[nearest[rows]]

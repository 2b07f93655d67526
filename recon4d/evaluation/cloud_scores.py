"""Scores of a point cloud against a true one: how near its points are, and how much of the truth it covers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon4d.errors import EvaluationError
from recon4d.geometry.similarity import fit_similarity
from recon4d.scene.transforms import Sim3


@dataclass(frozen=True)
class ThresholdScores:
    """Precision and recall at one distance, and their harmonic mean."""

    distance: float  # truth's unit
    precision: float  # share of the estimated points with a true point that near
    recall: float  # share of the true points with an estimated point that near
    f_score: float


@dataclass(frozen=True)
class CloudScores:
    """Distances in the truth's unit."""

    accuracy: float  # mean distance from an estimated point to the truth
    accuracy_median: float
    completeness: float  # mean distance from a true point to the estimate
    completeness_median: float
    at: tuple[ThresholdScores, ...]
    truth_from_estimate: Sim3
    points: int
    true_points: int


def score_cloud(
    estimate: np.ndarray, truth: np.ndarray, thresholds: tuple[float, ...], truth_from_estimate: Sim3
) -> CloudScores:
    """Accuracy, completeness and F-score of points (N, 3) against true points (M, 3).

    Both clouds should be about evenly dense: these are means over points, not over surface.

    Raises:
        EvaluationError: a cloud is empty.

    Source: Knapitsch et al., Tanks and Temples, SIGGRAPH 2017 (precision, recall, F-score); Seitz et al., CVPR 2006.
    """
    from scipy.spatial import cKDTree

    if len(estimate) == 0 or len(truth) == 0:
        raise EvaluationError(f"evaluate: {len(estimate)} estimated and {len(truth)} true points, both need some")
    placed = truth_from_estimate @ np.asarray(estimate, dtype=np.float64)
    to_truth, _ = cKDTree(truth).query(placed, workers=-1)
    to_estimate, _ = cKDTree(placed).query(truth, workers=-1)
    at = []
    for distance in thresholds:
        precision, recall = float((to_truth < distance).mean()), float((to_estimate < distance).mean())
        f_score = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
        at.append(ThresholdScores(distance, precision, recall, f_score))
    return CloudScores(
        accuracy=float(to_truth.mean()),
        accuracy_median=float(np.median(to_truth)),
        completeness=float(to_estimate.mean()),
        completeness_median=float(np.median(to_estimate)),
        at=tuple(at),
        truth_from_estimate=truth_from_estimate,
        points=len(estimate),
        true_points=len(truth),
    )


def refine_similarity(
    estimate: np.ndarray, truth: np.ndarray, truth_from_estimate: Sim3, rounds: int = 40, keep: float = 0.8
) -> Sim3:
    """Iterative closest point with scale, from a good start.

    Args:
        estimate: (N, 3), scene units; at most 20 000 of them are used, evenly spaced in their order.
        truth: (M, 3), truth's unit.
        truth_from_estimate: where to start, such as the similarity of the trajectories.
        rounds: at most so many; it ends when the points no longer move.
        keep: share of the pairs, the nearest ones, that count: the rest has no partner.

    Raises:
        EvaluationError: a cloud has fewer than 3 points, or the clouds are so different that the estimate shrinks or
            grows by a quarter from its start.
        AlignmentError: the paired points lie on one line.

    Source: Besl and McKay, PAMI 1992; trimming from Chetverikov et al., ICPR 2002.
    """
    from scipy.spatial import cKDTree

    if len(estimate) < 3 or len(truth) < 3:
        raise EvaluationError(f"evaluate: {len(estimate)} estimated and {len(truth)} true points, 3 are needed")
    source = np.asarray(estimate, dtype=np.float64)[:: max(1, len(estimate) // 20_000)]
    target, found = np.asarray(truth, dtype=np.float64)[:: max(1, len(truth) // 200_000)], truth_from_estimate
    tree, size = cKDTree(target), float(np.ptp(target, axis=0).max())
    for _ in range(rounds):
        placed = found @ source
        distance, row = tree.query(placed, workers=-1)
        near = distance <= np.quantile(distance, keep)
        before, found = found, fit_similarity(source[near], target[row[near]])
        if np.abs((found @ source) - (before @ source)).max() < 1e-6 * size:
            break
    if not 0.8 < found.scale / truth_from_estimate.scale < 1.25:
        raise EvaluationError(
            f"evaluate: the cloud's scale ran away from {truth_from_estimate.scale:.4g} to {found.scale:.4g} when "
            "it was laid over the true cloud: check that both show the same place and share a frame"
        )
    return found

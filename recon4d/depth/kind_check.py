"""Do larger numbers mean farther or nearer? Depth against the z of sparse points tells by the sign of a correlation.

Ranks are compared, not values: no scale, no shift and no bend of the numbers matters, only their order. A disparity
that is read as depth turns the order round.

Source: Spearman, American Journal of Psychology 15, 1904 (rank correlation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEAST_POINTS = 25  # in a frame that has a say
LEAST_IN_ALL = 100
CLEAR = 0.5  # median correlation over the frames that counts as an answer
AGREEING = 0.8  # share of the frames with that sign


@dataclass(frozen=True)
class KindEvidence:
    """What the points of a sample of frames say."""

    correlation: float  # median over the frames of the rank correlation of numbers and z, -1..1
    agreeing: float  # share of the frames with the sign of the median
    frames: int
    points: int

    @property
    def larger_is_farther(self) -> bool | None:
        """True: z-depth; False: disparity; None: the evidence is too weak to say."""
        if self.points < LEAST_IN_ALL or abs(self.correlation) < CLEAR or self.agreeing < AGREEING:
            return None
        return self.correlation > 0


def kind_evidence(values: Sequence[np.ndarray], z: Sequence[np.ndarray]) -> KindEvidence | None:
    """Weigh the numbers at sparse points against the z of the points, frame by frame.

    Args:
        values: a source's numbers at the points of a frame, (K,) each.
        z: z-depth of the same points in the frame, (K,) each, any unit.

    Returns:
        None when no frame has `LEAST_POINTS` points.
    """
    found = [(rank_correlation(d, depth), len(d)) for d, depth in zip(values, z, strict=True) if len(d) >= LEAST_POINTS]
    if not found:
        return None
    rho, points = np.array([r for r, _ in found]), sum(count for _, count in found)
    middle = float(np.median(rho))
    return KindEvidence(middle, float(np.mean(np.sign(rho) == np.sign(middle))), len(rho), points)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's correlation of two (K,) arrays, equal numbers sharing their middle rank; 0 when one is constant."""
    ranks = [_ranks(np.asarray(x)) for x in (a, b)]
    first, second = (r - r.mean() for r in ranks)
    size = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / size) if size > 0 else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - 0.5 * (count - 1))[place.reshape(-1)]

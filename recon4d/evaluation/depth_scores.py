"""Scores of z-depth against true z-depth, per frame and for a clip.

Only one scale is ever applied to a clip (`RatioMedian` finds the median one); a scale per frame would hide drift.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class DepthScores:
    """Errors of estimated depth z against true depth g, both in the truth's unit.

    The errors are over the pixels that have both (NaN when there are none). The three shares without ``present`` are
    over ALL pixels with truth: a pixel without estimate is not within anything.
    """

    abs_rel: float  # mean |z - g| / g                                      Eigen et al., NIPS 2014
    sq_rel: float  # mean (z - g)^2 / g                                     ibid.
    rmse: float  # sqrt(mean (z - g)^2)                                     ibid.
    rmse_log: float  # sqrt(mean (ln z - ln g)^2)                           ibid.
    log10: float  # mean |log10 z - log10 g|                                Saxena et al., PAMI 2009
    delta1: float  # share with max(z/g, g/z) < 1.25                        Ladicky et al., CVPR 2014
    delta2: float  # the same with 1.25^2
    delta3: float  # the same with 1.25^3
    i_rmse: float  # sqrt(mean (1/z - 1/g)^2)                               KITTI depth benchmark, 2017
    silog: float  # 100 sqrt(mean e^2 - (mean e)^2), e = ln z - ln g        ibid.
    median_rel: float  # median |z - g| / g
    within_1_present: float  # share within 1 % of the truth, of the pixels that have both
    within_5_present: float  # share within 5 %
    within_1: float  # share within 1 %, of all pixels with truth
    within_5: float  # share within 5 %, of all pixels with truth
    completeness: float  # share of the pixels with truth that have an estimate
    pixels: float  # pixels with truth (a mean over frames need not be whole)


def score_depth(estimate: np.ndarray, valid: np.ndarray, truth: np.ndarray, known: np.ndarray) -> DepthScores | None:
    """Scores of one frame, or None when no pixel has truth.

    Args:
        estimate: (H, W) z-depth, already in the truth's unit.
        valid: (H, W) bool, pixels with an estimate; estimates that are not positive count as absent.
        truth: (H, W) z-depth.
        known: (H, W) bool, pixels with truth, all positive there.
    """
    total = int(np.count_nonzero(known))
    if total == 0:
        return None
    both = known & valid & (np.nan_to_num(estimate) > 0)
    z, g = estimate[both].astype(np.float64), truth[both].astype(np.float64)
    relative = np.abs(z - g) / g
    within_1, within_5 = int((relative < 0.01).sum()), int((relative < 0.05).sum())
    shares = {"within_1": within_1 / total, "within_5": within_5 / total, "completeness": len(z) / total}
    if len(z) == 0:
        names = [field.name for field in fields(DepthScores)]
        return DepthScores(**{**dict.fromkeys(names, np.nan), **shares, "pixels": float(total)})
    return DepthScores(
        **_errors(z, g, relative),
        within_1_present=within_1 / len(z),
        within_5_present=within_5 / len(z),
        **shares,
        pixels=float(total),
    )


def _errors(z: np.ndarray, g: np.ndarray, relative: np.ndarray) -> dict[str, float]:
    """Those scores that are means over pixels with both depths."""
    difference, log_ratio = z - g, np.log(z) - np.log(g)
    factor = np.maximum(z / g, g / z)
    values = {
        "abs_rel": relative.mean(),
        "sq_rel": (difference**2 / g).mean(),
        "rmse": np.sqrt((difference**2).mean()),
        "rmse_log": np.sqrt((log_ratio**2).mean()),
        "log10": np.abs(log_ratio).mean() / np.log(10),
        "delta1": (factor < 1.25).mean(),
        "delta2": (factor < 1.25**2).mean(),
        "delta3": (factor < 1.25**3).mean(),
        "i_rmse": np.sqrt(((1 / z - 1 / g) ** 2).mean()),
        # Rounding may take the variance of equal numbers just below 0.
        "silog": 100 * np.sqrt(max((log_ratio**2).mean() - log_ratio.mean() ** 2, 0.0)),
        "median_rel": np.median(relative),
    }
    return {name: float(value) for name, value in values.items()}


def mean_scores(frames: Iterable[DepthScores]) -> DepthScores | None:
    """Scores of a clip: the mean over its frames, each frame counting once; None without frames.

    A frame without any estimate has no error to average, but counts in completeness and the shares of all pixels.
    """
    rows = np.array([[getattr(frame, field.name) for field in fields(DepthScores)] for frame in frames])
    if len(rows) == 0:
        return None
    finite = np.isfinite(rows)
    sums, counts = np.where(finite, rows, 0.0).sum(axis=0), finite.sum(axis=0)
    return DepthScores(*(float(s / n) if n else float("nan") for s, n in zip(sums, counts)))


class RatioMedian:
    """Median of truth / estimate over all pixels of a clip, frame by frame in constant memory.

    Ratios are counted in logarithmic bins 2e-5 wide, so the median is right to 1e-5 (relative).
    """

    WIDTH = 2e-5
    REACH = 14.0  # |ln ratio|; a ratio beyond a million is no scale but a mistake

    def __init__(self) -> None:
        self._counts = np.zeros(int(2 * self.REACH / self.WIDTH) + 1, dtype=np.int64)

    def add(self, estimate: np.ndarray, valid: np.ndarray, truth: np.ndarray, known: np.ndarray) -> None:
        """Count the pixels of one frame; arguments as for `score_depth`, in any unit."""
        both = known & valid & (np.nan_to_num(estimate) > 0)
        log_ratio = np.log(truth[both].astype(np.float64)) - np.log(estimate[both].astype(np.float64))
        bins = np.rint((np.clip(log_ratio, -self.REACH, self.REACH) + self.REACH) / self.WIDTH).astype(np.int64)
        np.add.at(self._counts, bins, 1)

    def value(self) -> float | None:
        """The median ratio, or None when no pixel has both depths."""
        total = int(self._counts.sum())
        if total == 0:
            return None
        middle = int(np.searchsorted(np.cumsum(self._counts), (total + 1) / 2))
        return float(np.exp(middle * self.WIDTH - self.REACH))

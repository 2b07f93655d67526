"""Metres from a metric path of the camera: a robust similarity between its centres and those of the scene."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from recon4d.geometry.similarity import RobustSimilarity, fit_similarity_robust
from recon4d.metric.drift import scale_sigma
from recon4d.metric.scale import USELESS_SIGMA, Cue, NoCue

MAX_GAP_S = 0.5  # between neighbouring poses of the given path: over more, a straight line is no guess at all
MIN_FRAMES = 10  # fewer positions in time do not show how their errors hang together
USED_WEIGHT = 0.1  # robust weight below which a position counts as wrong: 7 standard deviations off


@dataclass(frozen=True)
class PathScale:
    """Scale of a path of N centres against another, with its errors."""

    fit: RobustSimilarity
    metres_per_unit: float  # errors in both paths alike
    metres_per_unit_exact: float  # the scene's path taken as free of error
    noise_sigma: float  # relative standard error of the scale from the residuals, slow errors included
    dilution_sigma: float  # relative: it is not known which of the two paths errs
    spread_m: float  # standard deviation of the metric centres about their mean


def positions_at(wanted_s: np.ndarray, times_s: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (K, 3) interpolated at those wanted times that have a sample within reach, and their rows (K,).

    Args:
        wanted_s: (N,) seconds.
        times_s: (M,) seconds of the samples, in any order.
        positions: (M, 3).

    A time between two samples at most `MAX_GAP_S` apart is interpolated; one on a sample needs no neighbour.
    """
    order = np.argsort(times_s, kind="stable")
    times, points = np.asarray(times_s, dtype=np.float64)[order], np.asarray(positions, dtype=np.float64)[order]
    after = np.clip(np.searchsorted(times, wanted_s), 0, len(times) - 1)
    before = np.maximum(after - 1, 0)
    gap = times[after] - times[before]
    share = np.divide(wanted_s - times[before], gap, out=np.ones(len(wanted_s)), where=gap > 0)
    nearest = np.minimum(np.abs(wanted_s - times[before]), np.abs(wanted_s - times[after]))
    inside = (wanted_s >= times[before]) & (wanted_s <= times[after]) & (gap <= MAX_GAP_S)
    rows = np.flatnonzero(inside | (nearest < 1e-3))  # a millisecond: times are written with few digits
    share = np.clip(share[rows], 0.0, 1.0)[:, None]
    return (1 - share) * points[before[rows]] + share * points[after[rows]], rows


def path_scale(centres: np.ndarray, centres_m: np.ndarray) -> PathScale:
    """Robust scale between two paths in the order of time.

    Args:
        centres: (N, 3) camera centres, world frame, scene units.
        centres_m: (N, 3) the same in metres in any frame.

    Raises:
        NoCue: fewer than 3 positions, or one of the paths does not move.
    """
    from recon4d.errors import AlignmentError

    try:
        fit = fit_similarity_robust(centres, centres_m)
    except AlignmentError as error:
        raise NoCue(f"align: the metric path gives no scale ({error})") from error
    used = fit.weights > USED_WEIGHT
    used |= used.sum() < 3  # very few: all count
    mean, mean_m = centres[used].mean(axis=0), centres_m[used].mean(axis=0)
    moved = fit.b_from_a.scale * (centres[used] - mean) @ fit.b_from_a.rotation.T
    noise = scale_sigma(moved, (centres_m - fit.b_from_a @ centres)[used])
    exact = fit.b_from_a.scale
    dilution = -math.log(max(fit.correlation2, 1e-12))
    return PathScale(
        fit=fit,
        metres_per_unit=exact * math.exp(dilution / 2),
        metres_per_unit_exact=exact,
        noise_sigma=noise,
        dilution_sigma=dilution / 2,  # both extremes at one standard deviation
        spread_m=float(np.sqrt(((centres_m[used] - mean_m) ** 2).sum(axis=1).mean())),
    )


def trajectory_cue(centres: np.ndarray, centres_m: np.ndarray, name: str) -> Cue:
    """Metres per unit from a metric trajectory, row by row (N, 3) in the order of time, as for `path_scale`.

    Raises:
        NoCue: fewer than `MIN_FRAMES` frames have a metric position, or the paths move too little for their errors.
    """
    if len(centres) < MIN_FRAMES:
        raise NoCue(
            f"align: {len(centres)} frames have a position on --metric.trajectory, {MIN_FRAMES} are needed: check its "
            "times against those in frames.csv (--metric.trajectory-offset-s shifts them)"
        )
    found = path_scale(centres, centres_m)
    sigma = math.hypot(found.noise_sigma, found.dilution_sigma)
    if sigma > USELESS_SIGMA:
        raise NoCue(
            f"align: the path of --metric.trajectory spreads by {found.spread_m:.2g} m and disagrees with the cameras "
            f"by {found.fit.sigma:.2g} m, too much for a scale: check that it is of this clip, or give another cue"
        )
    used = int((found.fit.weights > USED_WEIGHT).sum())
    detail = f"{used} of {len(centres)} frames, path spread {found.spread_m:.3g} m, residual {found.fit.sigma:.2g} m"
    return Cue(f"trajectory {name}", found.metres_per_unit, sigma, detail)

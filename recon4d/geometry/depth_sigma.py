"""How far off aligned depth is, pixel by pixel: measured on held-out points, given by two things that pixels know.

One is the distance to the nearest point the field followed: beside a point the error is the point's, far from all
points it is the prior's. The other is how much depth changes close by: at a silhouette a shift of a pixel is an error
of the whole step. The field's own covariance ranks errors no better than the distance and costs as much as the fit.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, maximum_filter, minimum_filter

from recon4d.geometry.clip_field import ClipField, FramePrior
from recon4d.geometry.field_choice import BLOCK, held_out_blocks
from recon4d.geometry.gain_field import FieldStyle

ONE_SIGMA = 0.6827
DISTANCE_BINS, LEAST_IN_BIN = 8, 20  # equally filled
FAR = 0.5  # of the longer side from any sample the correction says nothing, and the prior's own error counts
EDGE_WINDOW = 9 / 320  # of the longer side
LEAST_SIGMA = 0.003  # log depth
JUDGED_FRAMES = 6
FOLDS = 5  # of single points


@dataclass(frozen=True)
class SigmaCurve:
    """Relative standard deviation of depth against the distance to the nearest sample, without the edges' part."""

    distance: np.ndarray  # (B,) shares of the picture's longer side, rising
    sigma: np.ndarray  # (B,) log depth, never falling

    def at(self, distance: np.ndarray) -> np.ndarray:
        """Sigma at distances of any shape; beyond the last bin it stays."""
        return np.interp(distance, self.distance, self.sigma)

    @classmethod
    def constant(cls, sigma: float) -> SigmaCurve:
        return cls(np.array([0.0]), np.array([max(sigma, LEAST_SIGMA)]))


def measure_sigma(
    field: ClipField, priors: Sequence[FramePrior], style: FieldStyle | None, points: int
) -> SigmaCurve | None:
    """The curve of a clip; None where no frame has ``points`` samples of its own.

    Samples are held out singly and in blocks of two sizes, so that small and large distances are met; in each bin of
    distance sigma is such that 68 % of the errors lie within it and the edges' part together.
    """
    asked = [i for i, prior in enumerate(priors) if prior.own.sum() >= points]
    if not asked:
        return None
    found = []
    for k in np.unique(np.linspace(0, len(asked) - 1, JUDGED_FRAMES).round().astype(int)):
        prior = priors[asked[k]]
        edge = edge_sigma(prior.log_disparity)
        folds = [*single_points(prior), *held_out_blocks(prior, BLOCK), *held_out_blocks(prior, 2 * BLOCK)]
        for kept, held in folds:
            tested = held & prior.own
            error = prior.samples.log_ratio[tested]
            x, y = prior.samples.x[tested], prior.samples.y[tested]
            if style is not None:
                fitted = field.alone(asked[k], style, kept)
                error = error - fitted.grid.read(fitted.field, x, y)
            far = distance_to_samples(prior, kept)
            row, column = _cells(prior, x, y)
            found.append(np.stack([far[row, column], np.abs(error), edge[row, column]]))
    distance, error, edge = np.concatenate(found, axis=1)
    if not len(distance):
        return None
    uncorrected = np.abs(np.concatenate([priors[i].samples.log_ratio[priors[i].own] for i in asked]))
    bins = int(np.clip(len(distance) // LEAST_IN_BIN, 1, DISTANCE_BINS))
    bounds = np.quantile(distance, np.linspace(0, 1, bins + 1))
    middle, sigma = [], []
    for low, high in itertools.pairwise(bounds):
        inside = (distance >= low) & (distance <= high)
        middle.append(float(np.median(distance[inside])))
        # 68 % of e^2 - edge^2 lie below sigma^2  <=>  68 % of |e| lie within both together.
        sigma.append(float(np.quantile(error[inside] ** 2 - edge[inside] ** 2, ONE_SIGMA)))
    rising = np.maximum.accumulate(np.sqrt(np.maximum(sigma, LEAST_SIGMA**2)))
    middle, first = np.unique(middle, return_index=True)
    rising = rising[first]
    if middle[-1] < FAR:
        middle = np.append(middle, FAR)
        rising = np.append(rising, max(rising[-1], float(np.quantile(uncorrected, ONE_SIGMA))))
    return SigmaCurve(middle, rising)


def single_points(prior: FramePrior) -> list[tuple[np.ndarray, np.ndarray]]:
    """(kept, tested) masks over the samples: every fifth in turn; only the frame's own points are tested."""
    turn = np.random.default_rng(0).permutation(len(prior.samples)) % FOLDS
    return [(turn != k, (turn == k) & prior.own) for k in range(FOLDS) if ((turn == k) & prior.own).any()]


def relative_sigma(prior: FramePrior, curve: SigmaCurve) -> np.ndarray:
    """(h, w) relative standard deviation on the prior's reduced grid."""
    near = curve.at(distance_to_samples(prior, np.ones(len(prior.samples), dtype=bool)))
    return np.hypot(near, edge_sigma(prior.log_disparity))


def edge_sigma(log_disparity: np.ndarray) -> np.ndarray:
    """(h, w) half the step of log depth close by; 0 on slopes of any steepness and where depth is not known.

    Half way between the highest and the lowest value around lies a slope's own value, but not that of either side of a
    step.
    """
    size = max(3, 2 * round(EDGE_WINDOW * max(log_disparity.shape) / 2) + 1)
    known = np.isfinite(log_disparity)
    high = maximum_filter(np.where(known, log_disparity, -np.inf), size)
    low = minimum_filter(np.where(known, log_disparity, np.inf), size)
    with np.errstate(invalid="ignore"):
        return np.where(known, np.abs(0.5 * (high + low) - log_disparity), 0.0)


def distance_to_samples(prior: FramePrior, kept: np.ndarray) -> np.ndarray:
    """(h, w) distance to the nearest kept sample, shares of the picture's longer side; 1 where there is none."""
    height, width = prior.log_disparity.shape
    free = np.ones((height, width), dtype=bool)
    row, column = _cells(prior, prior.samples.x[kept], prior.samples.y[kept])
    free[row, column] = False
    if free.all():
        return np.ones((height, width))
    return distance_transform_edt(free) / max(height, width)


def _cells(prior: FramePrior, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of pixel positions on the prior's reduced grid."""
    height, width = prior.log_disparity.shape
    column = np.clip((x * (width / prior.camera.width)).astype(int), 0, width - 1)
    row = np.clip((y * (height / prior.camera.height)).astype(int), 0, height - 1)
    return row, column

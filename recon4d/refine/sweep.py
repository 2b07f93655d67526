"""A narrow plane sweep around the prior: errors too large for a gradient come into reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recon4d.geometry.photo_cost import GreyView, Labels, Posed, photo_costs, pixel_warp
from recon4d.geometry.semi_global import Smoothness, semi_global

LABELS = 32
HALF = 0.25  # of the median inverse depth: how far from the prior is looked
RADIUS = 2
SMOOTHNESS = Smoothness(small=0.3, large=12.0, edge=6.0)


class Swept(NamedTuple):
    """The surface near the prior that looks most alike in other views; all (H, W) float32."""

    x: np.ndarray  # log inverse depth
    cost: np.ndarray  # 1 - ZNCC, mean over the views
    margin: np.ndarray  # how much worse the best other answer is


def sweep(frame: GreyView, others: Sequence[GreyView], prior: np.ndarray) -> Swept:
    """Match surfaces beside the prior's with other views, and choose one that is smooth beside it.

    Smooth is what keeps its distance to the prior: that costs nothing, so the prior's relief is kept wherever the
    pictures do not say otherwise.

    Args:
        prior: (H, W) log inverse depth, NaN where there is none.
    """
    import cv2

    known = np.isfinite(prior)
    inverse = np.exp(np.where(known, prior, np.median(prior[known]))).astype(np.float32)
    reach = HALF * float(np.median(inverse))
    labels = Labels.band(inverse, 2 * reach / (LABELS - 1), LABELS)
    costs = photo_costs(frame, others, labels, RADIUS)
    calm = cv2.bilateralFilter(frame.grey, 7, 25, 3)
    choice = semi_global(costs, calm, SMOOTHNESS)
    nearest = np.clip(np.round(choice.label).astype(np.intp), 0, LABELS - 1)
    cost = np.take_along_axis(costs, nearest[..., None], axis=2)[..., 0]
    found = labels.inverse_depth(choice.label)
    # The band of what is far may reach beyond infinity.
    return Swept(np.log(np.where(found > 0, found, inverse)), cost, np.where(found > 0, choice.margin, 0))


def parallax_px(frame: Posed, others: Sequence[Posed], prior: np.ndarray) -> float:
    """By how many pixels the middle of a frame moves in the usual other view when its depth grows e-fold.

    Args:
        prior: (H, W) log inverse depth, NaN where there is none.
    """
    inverse = float(np.exp(np.nanmedian(prior)))
    middle = np.array([0.5 * prior.shape[1], 0.5 * prior.shape[0], 1.0])
    found = []
    for other in others:
        turn, shift = pixel_warp(frame, other)
        x, y, z = turn @ middle + inverse * shift
        found.append(inverse * np.hypot(shift[0] - x / z * shift[2], shift[1] - y / z * shift[2]) / abs(z))
    return max(float(np.median(found)), 1e-6)

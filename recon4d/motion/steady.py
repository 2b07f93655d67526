"""Depth of what moves, steadied over time: each frame hears the frames about it along the motion of the object.

Neighbours are carried to where the object was or will be, never held where it is: what is averaged is the error of a
point's depth, not the point's path. So nothing freezes and nothing trails.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from recon4d.geometry.resample import sample_grid
from recon4d.scene.camera import Camera

LEAST_SPREAD = 0.01  # of log depth between frames that see one surface
MOST_SPREAD = 0.05
OWN_AT_RIM = 0.25  # weight of a frame's own depth within the rim of a mask, where it is mixed with what is behind


@dataclass(frozen=True)
class Heard:
    """What one other frame says of N pixels: log of its depth over that of the pixels' points, carried there."""

    log_ratio: np.ndarray  # (N,) NaN where it does not see them
    weight: float


@dataclass(frozen=True)
class Steadied:
    """N pixels after hearing others."""

    log_change: np.ndarray  # (N,) of depth
    agreeing: np.ndarray  # (N,) int, frames that see the same surface, the own not counted
    heard: np.ndarray  # (N,) int, frames that see the object there at all
    own_counts: np.ndarray  # (N,) bool: the frame's own depth is among those that agree


def hear(x_in_cam: np.ndarray, camera: Camera, log_depth: np.ndarray, core: np.ndarray, weight: float) -> Heard:
    """What a frame says of points (N, 3) of its camera's frame, by its own depth off the rim of the object.

    Args:
        log_depth: (H, W) log of its depth, gain included; read where ``core``.
        core: (H, W) bool.
    """

    pixel = camera.project(x_in_cam)
    value, known = sample_grid(np.where(core, log_depth, 0), core, *pixel.T)
    known &= np.isfinite(pixel).all(axis=-1)
    with np.errstate(invalid="ignore"):
        return Heard(np.where(known, value - np.log(np.where(known, x_in_cam[:, 2], 1.0)), np.nan), weight)


def steady(heard: Iterable[Heard], own_weight: np.ndarray) -> Steadied:
    """Robust weighted mean of what frames say, about their weighted median.

    Args:
        own_weight: (N,) of the frame's own depth, 0 where it has none (then others alone count).
    """
    heard = list(heard)
    values = np.stack([np.where(own_weight > 0, 0.0, np.nan), *(each.log_ratio for each in heard)])
    weights = np.stack([own_weight, *(np.full(len(own_weight), each.weight) for each in heard)])
    known = np.isfinite(values)
    weights = np.where(known, weights, 0.0)
    middle = weighted_median(np.where(known, values, 0.0), weights)
    off = np.abs(np.where(known, values, np.nan) - middle)
    others = off[1:][np.isfinite(off[1:])]
    spread = np.clip(1.4826 * np.median(others) if others.size else 0.0, LEAST_SPREAD, MOST_SPREAD)
    width = 3 * spread
    robust = np.where(known, weights / (1 + (np.nan_to_num(off) / spread) ** 2 / 4), 0.0) * (np.nan_to_num(off) < width)
    total = robust.sum(axis=0)
    mean = (robust * np.where(known, values, 0.0)).sum(axis=0) / np.maximum(total, 1e-12)
    near = known & (np.nan_to_num(off) < width)
    return Steadied(
        log_change=np.where(total > 0, mean, 0.0),
        agreeing=near[1:].sum(axis=0),
        heard=known[1:].sum(axis=0),
        own_counts=near[0],
    )


def weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(N,) weighted medians of the columns of values (K, N); 0 where a column has no weight."""
    order = np.argsort(values, axis=0)
    sorted_values, sorted_weights = np.take_along_axis(values, order, 0), np.take_along_axis(weights, order, 0)
    reached = np.cumsum(sorted_weights, axis=0) >= 0.5 * sorted_weights.sum(axis=0)
    found = np.take_along_axis(sorted_values, np.argmax(reached, axis=0)[None], 0)[0]
    return np.where(weights.sum(axis=0) > 0, found, 0.0)

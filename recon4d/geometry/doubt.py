"""How far off depth may be where its source doubts it: what else is known of its errors, and the chance of a miss."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import erf

from recon4d.scene.depth import Provenance

ONE_SIGMA = 0.6827
CLOSE = 0.05  # relative: confidence is the chance to lie within this of the truth
MISS_SIGMA = 0.3  # relative standard deviation of depth that follows another surface
HALVINGS = 14
# What is not a frame's own word is less exact, even where it is right.
TIMES_USUAL = {Provenance.OTHER_FRAME: 1.5, Provenance.COMPLETED: 4.0, Provenance.GENERATED: 8.0}


def doubted_sigma(usual: np.ndarray, confidence: np.ndarray, provenance: np.ndarray) -> np.ndarray:
    """Relative standard deviation of depth, from that of good depth and what its source says of each pixel.

    A pixel is taken to be good, with errors of ``usual``, or a miss, with errors of `MISS_SIGMA`; how often it is good
    follows from its confidence. Given is the bound within which 68 % of its errors lie, times `TIMES_USUAL` where
    the depth is second-hand, up to that of a miss. Full confidence in a frame's own depth gives ``usual``.

    Args:
        usual: relative standard deviation of good depth, of any shape.
        confidence: the same shape, chance to lie within 5 % of the truth, 0..1.
        provenance: the same shape, see `Provenance`.
    """
    usual = np.array(usual, dtype=np.float64)
    times = np.ones(usual.shape)
    for origin, factor in TIMES_USUAL.items():
        times[provenance == origin] = factor
    mixed = _mixed_sigma(usual, confidence)
    return np.maximum(mixed, np.minimum(times * mixed, MISS_SIGMA))  # never better than a frame's own word


def _mixed_sigma(usual: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """The bound within which 68 % of the errors of good depth and misses together lie."""
    good_close, miss_close = erf(CLOSE / (math.sqrt(2) * usual)), math.erf(CLOSE / (math.sqrt(2) * MISS_SIGMA))
    surely = good_close <= miss_close  # no better than a miss anyway
    good = np.clip((confidence - miss_close) / np.where(surely, 1.0, good_close - miss_close), 0.0, 1.0)
    low, high = np.log(usual), np.log(np.maximum(usual, MISS_SIGMA))
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        size = np.exp(middle) / math.sqrt(2)
        inside = good * erf(size / usual) + (1 - good) * erf(size / MISS_SIGMA)
        low, high = np.where(inside < ONE_SIGMA, middle, low), np.where(inside < ONE_SIGMA, high, middle)
    return np.where(surely | (good >= 1.0), usual, np.exp(high))


def is_doubted(confidence: np.ndarray, provenance: np.ndarray) -> bool:
    """Whether `doubted_sigma` changes anything."""
    return bool((confidence < 1.0).any() or np.isin(provenance, list(TIMES_USUAL)).any())

"""How sure an answer is, by the opinions that share it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import erf

from recon4d.refine.terms import Opinion

CLOSE = 0.05  # relative: chances are those of lying within this of the truth
UNCONFIRMED = 0.3  # chance of depth that no opinion shares


def shared_chance(x: np.ndarray, opinions: Sequence[Opinion]) -> np.ndarray:
    """(H, W) float32: chance of ``x`` (NaN: none) to lie within 5 % of the truth, by the surest opinion it shares."""
    chance = np.full(x.shape, UNCONFIRMED, dtype=np.float32)
    for opinion in opinions:
        away = (x - opinion.x) / (2 * opinion.sigma)
        chance = np.maximum(chance, opinion.chance * np.exp(-0.5 * np.nan_to_num(away) ** 2))
    return np.where(np.isfinite(x), chance, np.float32(0)).astype(np.float32)


def prior_chance(sigma: np.ndarray) -> np.ndarray:
    """The same of depth that is nothing but its prior's, from the relative standard deviation that claims."""
    return erf(CLOSE / (math.sqrt(2) * np.maximum(sigma, 1e-6))).astype(np.float32)

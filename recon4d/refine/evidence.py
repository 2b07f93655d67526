"""How sure an answer is, by the opinions that share it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recon4d.refine.terms import Opinion

UNCONFIRMED = 0.3  # chance of depth that no opinion shares


def shared_chance(x: np.ndarray, opinions: Sequence[Opinion]) -> np.ndarray:
    """(H, W) float32: chance of ``x`` (NaN: none) to lie within 5 % of the truth, by the surest opinion it shares."""
    chance = np.full(x.shape, UNCONFIRMED, dtype=np.float32)
    for opinion in opinions:
        away = (x - opinion.x) / (2 * opinion.sigma)
        chance = np.maximum(chance, opinion.chance * np.exp(-0.5 * np.nan_to_num(away) ** 2))
    return np.where(np.isfinite(x), chance, np.float32(0)).astype(np.float32)

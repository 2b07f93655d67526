"""How likely a depth found by stereo is right: logistic models of the signs that tell, with measured coefficients.

`tools/fit_stereo_chances.py` fits them on clips with true depth; right means within 5 % of it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recon4d.geometry.depth_votes import Evidence

WINDOW = 7  # pixels: texture is contrast within it
PLAIN = 6.0  # grey levels, standard deviation: as much texture as none
LOOK_MODEL = (1.11, -1.50, -0.503, 2.16)  # log margin, matching cost, log contrast, 1
SETTLED_MODEL = (0.396, -1.04, -1.44, 0.019, 0.921, 0.928, -0.181)  # as `settled_features`, then 1
STEADIED_MODEL = (0.55, -2.85, -2.11, 0.233, 1.15, 0.162, -0.388)  # the same


class LookSigns(NamedTuple):
    """What a frame's own look tells of its depth."""

    margin: np.ndarray  # (H, W) of `semi_global`
    cost: np.ndarray  # (H, W) matching cost of the chosen depth, 0..1
    grey: np.ndarray  # (H, W) grey levels


class Signs(NamedTuple):
    """What the votes tell of a depth, settled or steadied."""

    evidence: Evidence
    trust: np.ndarray  # (H, W) 0..1: votes for the voted depth, where there is texture
    own: np.ndarray  # (H, W) 0..1: confidence of the frame's own answer before, where it is the same, else 0
    on_plane: np.ndarray  # (H, W) bool


def chance_of_look(signs: LookSigns) -> np.ndarray:
    """(H, W) float32: chance to lie within 5 % of the truth."""
    return _logistic(look_features(signs), LOOK_MODEL)


def chance_of_settled(signs: Signs) -> np.ndarray:
    """(H, W) float32: chance to lie within 5 % of the truth."""
    return _logistic(settled_features(signs), SETTLED_MODEL)


def chance_of_steadied(signs: Signs) -> np.ndarray:
    """(H, W) float32: chance to lie within 5 % of the truth."""
    return _logistic(settled_features(signs), STEADIED_MODEL)


def look_features(signs: LookSigns) -> np.ndarray:
    """(H, W, 3) what `LOOK_MODEL` weighs."""
    margin = np.clip(signs.margin, 1e-2, 1e3)
    return np.stack([np.log(margin), signs.cost, np.log(contrast(signs.grey) + 1)], axis=-1)


def settled_features(signs: Signs) -> np.ndarray:
    """(H, W, 6) what `SETTLED_MODEL` and `STEADIED_MODEL` weigh."""
    votes = signs.evidence
    total = votes.agreeing + votes.beyond + votes.before + 1
    columns = [np.log1p(votes.agreeing), votes.beyond / total, votes.before / total]
    return np.stack([*columns, signs.trust, signs.own, signs.on_plane.astype(np.float32)], axis=-1)


def contrast(grey: np.ndarray) -> np.ndarray:
    """Standard deviation of grey levels (H, W), or of each channel (H, W, C), around each pixel."""
    import cv2

    grey = grey.astype(np.float32)
    mean = cv2.blur(grey, (WINDOW, WINDOW))
    return np.sqrt(np.maximum(cv2.blur(grey * grey, (WINDOW, WINDOW)) - mean * mean, 0))


def texture_share(rgb: np.ndarray) -> np.ndarray:
    """(H, W) float32, 0 (plain) .. 1: how much there is to match, in the channel (H, W, 3) that has most."""
    variance = contrast(rgb).max(axis=-1) ** 2
    return variance / (variance + np.float32(PLAIN**2))


def _logistic(features: np.ndarray, model: tuple[float, ...]) -> np.ndarray:
    weights = np.array(model, dtype=np.float32)
    return (1 / (1 + np.exp(-(features.astype(np.float32) @ weights[:-1] + weights[-1])))).astype(np.float32)

"""Scores of scene flow: the displacement in the world of the surface point each pixel sees, to the next frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class FlowScores:
    """Errors of one frame, or their mean over frames; lengths in the truth's unit."""

    epe: float  # mean length of the difference (end-point error)
    epe_median: float
    strict: float  # share of the pixels wrong by less than 5 cm or 5 % (truth in metres)
    relaxed: float  # the same with 10 cm or 10 %
    truth_length: float  # mean length of the true displacement: the error of "nothing moves"
    known: float  # share of the pixels with an estimate
    pixels: float


def score_flow(estimate: np.ndarray, truth: np.ndarray, pixels: np.ndarray) -> FlowScores | None:
    """Scores of one frame over the chosen pixels, or None when none is chosen.

    Args:
        estimate: (H, W, 3) world displacement, in the truth's frame and unit; not finite counts as no motion.
        truth: (H, W, 3) world displacement, metres.
        pixels: (H, W) bool.

    Source: Liu et al., FlowNet3D, CVPR 2019 (EPE3D, Acc strict and relaxed).
    """
    if not pixels.any():
        return None
    true = truth[pixels].astype(np.float64)
    error = np.linalg.norm(np.nan_to_num(estimate[pixels].astype(np.float64)) - true, axis=1)
    length = np.linalg.norm(true, axis=1)
    return FlowScores(
        epe=float(error.mean()),
        epe_median=float(np.median(error)),
        strict=float(((error < 0.05) | (error < 0.05 * length)).mean()),
        relaxed=float(((error < 0.1) | (error < 0.1 * length)).mean()),
        truth_length=float(length.mean()),
        known=float(np.isfinite(estimate[pixels]).all(axis=1).mean()),
        pixels=float(len(error)),
    )


def mean_flow_scores(frames: Sequence[FlowScores]) -> FlowScores | None:
    """Scores of a clip: the mean over its frames; None without frames."""
    if not frames:
        return None
    return FlowScores(*(float(np.mean([getattr(frame, f.name) for frame in frames])) for f in fields(FlowScores)))

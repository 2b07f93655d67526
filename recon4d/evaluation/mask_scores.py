"""Scores of masks against true ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MaskScores:
    """How well masks overlap; None where there is nothing to divide by."""

    iou: float | None  # pixels of both over pixels of either
    precision: float | None  # of the estimate's pixels
    recall: float | None  # of the true pixels
    false_alarms: float | None  # share of the pixels outside the true mask that the estimate has


class PooledMasks:
    """Scores of all pixels of several frames together, one frame in memory at a time."""

    def __init__(self) -> None:
        self._both = self._estimated = self._true = self._pixels = 0

    def add(self, estimate: np.ndarray, truth: np.ndarray) -> None:
        """Take a frame's masks (H, W) bool. Raises ValueError when they differ in shape."""
        if estimate.shape != truth.shape:
            raise ValueError(f"PooledMasks: masks of {estimate.shape} and {truth.shape}, the same shape is expected")
        self._both += int((estimate & truth).sum())
        self._estimated += int(estimate.sum())
        self._true += int(truth.sum())
        self._pixels += truth.size

    def scores(self) -> MaskScores:
        """Of the frames taken so far."""
        wrong = self._estimated - self._both
        return MaskScores(
            iou=_share(self._both, self._true + wrong),
            precision=_share(self._both, self._estimated),
            recall=_share(self._both, self._true),
            false_alarms=_share(wrong, self._pixels - self._true),
        )


def score_mask(estimate: np.ndarray, truth: np.ndarray) -> MaskScores:
    """Scores of masks (H, W) bool."""
    return pooled_mask_scores([estimate], [truth])


def pooled_mask_scores(estimates: Iterable[np.ndarray], truths: Iterable[np.ndarray]) -> MaskScores:
    """Scores of all pixels of several frames together."""
    pooled = PooledMasks()
    for estimate, truth in zip(estimates, truths):
        pooled.add(estimate, truth)
    return pooled.scores()


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None

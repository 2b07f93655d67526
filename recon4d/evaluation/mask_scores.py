"""Scores of a mask against a true one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MaskScores:
    """How well two masks overlap; None where there is nothing to divide by."""

    iou: float | None  # pixels of both over pixels of either
    precision: float | None  # of the estimate's pixels
    recall: float | None  # of the true pixels


def score_mask(estimate: np.ndarray, truth: np.ndarray) -> MaskScores:
    """Scores of masks (H, W) bool."""
    return _from_counts(int((estimate & truth).sum()), int(estimate.sum()), int(truth.sum()))


def pooled_mask_scores(estimates: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> MaskScores:
    """Scores of all pixels of several frames together."""
    both = sum(int((estimate & truth).sum()) for estimate, truth in zip(estimates, truths))
    return _from_counts(both, sum(int(e.sum()) for e in estimates), sum(int(t.sum()) for t in truths))


def _from_counts(both: int, estimated: int, true: int) -> MaskScores:
    def share(whole: int) -> float | None:
        return both / whole if whole else None

    return MaskScores(share(estimated + true - both), share(estimated), share(true))

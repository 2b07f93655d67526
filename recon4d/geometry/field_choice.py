"""How stiff a gain field should be: decided by sparse points that are held out block by block, not by faith."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recon4d.geometry.clip_field import ClipField, FramePrior
from recon4d.geometry.gain_field import FieldStyle

# From stiff to soft. What a good prediction needs (smooth, slow bending) and what a weak one needs (follow the points,
# give way at edges) differ a hundredfold; no one of these is right for both.
STYLES = (
    FieldStyle(3.0, 0.2, 10.0),
    FieldStyle(1.0, 0.2, 10.0),
    FieldStyle(0.3, 0.2, 10.0),
    FieldStyle(0.3, 0.1, 5.0),
    FieldStyle(0.1, 0.1, 5.0),
    FieldStyle(0.03, 0.1, 5.0),
)
BLOCK = 1 / 8  # of the longer side. Single points would mislead: neighbours share their tracks and their errors
FOLDS = 3
JUDGED_FRAMES, MOST_JUDGED = 8, 24  # evenly over the clip; more where frames have few points ...
JUDGED_POINTS = 3000  # ... until they have so many
ERROR_CUT = 0.15  # log depth; beyond, a point is wrong or on another surface, and how far does not matter
NEAR_BEST = 1.035  # the stiffest so near the best: too soft costs up to 58 % and bends what moves, too stiff 5 %


@dataclass(frozen=True)
class StyleTrial:
    """Mean error, log depth, at held-out points."""

    style: FieldStyle | None  # None: no field
    error: float


def choose_style(
    field: ClipField, priors: Sequence[FramePrior], points: int
) -> tuple[FieldStyle | None, list[StyleTrial]]:
    """The stiffest style whose held-out error is within 3.5 % of the best, and all trials; no style if none helps.

    Args:
        points: frames with fewer points of their own are not asked; if all are such, there is no field.
    """
    asked = [i for i, prior in enumerate(priors) if prior.own.sum() >= points]
    if not asked:
        return None, []
    usual = float(np.median([priors[i].own.sum() for i in asked]))
    count = int(np.clip(JUDGED_POINTS / usual, JUDGED_FRAMES, MOST_JUDGED))
    asked = [asked[k] for k in np.unique(np.linspace(0, len(asked) - 1, count).round().astype(int))]
    splits = [(i, kept, tested) for i in asked for kept, tested in held_out_blocks(priors[i], BLOCK)]
    if not splits:  # all points in one corner
        return None, []
    trials = []
    for style in (None, *STYLES):
        errors = [_held_out_error(field, priors[i], i, style, kept, tested) for i, kept, tested in splits]
        trials.append(StyleTrial(style, float(np.mean(np.concatenate(errors)))))
    best = min(trial.error for trial in trials)
    return next(trial.style for trial in trials if trial.error <= NEAR_BEST * best), trials


def held_out_blocks(prior: FramePrior, share: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """(kept, tested) masks over the samples: square blocks of the picture in turn; only sparse points are tested.

    ``share`` is the blocks' side as a share of the picture's longer one.
    """
    size = share * max(prior.camera.width, prior.camera.height)
    block = (prior.samples.x / size).astype(int) + 2 * (prior.samples.y / size).astype(int)
    sparse = np.arange(len(prior.samples)) < prior.sparse
    folds = [(block % FOLDS != fold, (block % FOLDS == fold) & sparse) for fold in range(FOLDS)]
    return [(kept, tested) for kept, tested in folds if kept.any() and tested.any()]


def _held_out_error(
    field: ClipField, prior: FramePrior, i: int, style: FieldStyle | None, kept: np.ndarray, tested: np.ndarray
) -> np.ndarray:
    error = prior.samples.log_ratio[tested]
    if style is not None:
        fitted = field.alone(i, style, kept)
        error = error - fitted.grid.read(fitted.field, prior.samples.x[tested], prior.samples.y[tested])
    return np.minimum(np.abs(error), ERROR_CUT)

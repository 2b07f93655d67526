"""The protocol by which DepthCrafter (Hu et al., CVPR 2025) and its peers are compared on whole clips.

One scale and shift per clip, by ordinary least squares in disparity over all valid pixels of all frames; scores are
means over the pixels of a frame, then over the frames that have any valid pixel. Two scores of its evaluator are pooled
otherwise: log10 over all pixels of the clip, silog as the root of the mean variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from recon4d.errors import EvaluationError
from recon4d.evaluation.affine_fit import AffineFit
from recon4d.evaluation.depth_scores import DepthScores, mean_scores, score_depth

FLOOR = 1e-3  # of depth and disparity; the far end of a 0..1 disparity is clipped to it as well


def benchmark_clip(
    prediction: Sequence[np.ndarray],
    truth: Sequence[np.ndarray],
    max_depth: float,
    domain: Literal["depth", "disparity"] = "depth",
) -> DepthScores:
    """Scores of relative disparity by the benchmark's protocol.

    Args:
        prediction: T frames (h, w) of disparity, larger = nearer, any scale and shift; resized to the truth's size.
        truth: T frames (H, W) of depth in metres; not valid outside 1e-3..``max_depth``. In the domain ``disparity``
            the truth is disparity itself, and is scored as such.
        max_depth: metres; far end of the valid truth and of the aligned depth.

    Raises:
        EvaluationError: no frame has valid truth, or the fit is not determined.
    """
    if len(prediction) != len(truth):
        raise EvaluationError(f"benchmark: {len(prediction)} frames of prediction, {len(truth)} of truth")
    fit = AffineFit()
    for p, g in zip(prediction, truth):
        known = _known(g, max_depth)
        target = 1.0 / (g[known] + 1e-8) if domain == "depth" else g[known]
        fit.add(_resized(p, g.shape)[known], target)
    gain, shift = fit.solve()
    frames = []
    for p, g in zip(prediction, truth):
        aligned = np.maximum(gain * _resized(p, g.shape) + shift, FLOOR)
        estimate = np.clip(1.0 / aligned if domain == "depth" else aligned, FLOOR, max_depth)
        frames.append(score_depth(estimate, np.ones(g.shape, dtype=bool), g, _known(g, max_depth)))
    scored = [frame for frame in frames if frame is not None]
    scores = mean_scores(scored)
    assert scores is not None  # the fit would have failed before
    return replace(
        scores,
        log10=float(np.average([frame.log10 for frame in scored], weights=[frame.pixels for frame in scored])),
        silog=float(np.sqrt(np.mean([frame.silog**2 for frame in scored]))),
    )


def _known(truth: np.ndarray, max_depth: float) -> np.ndarray:
    return (truth > FLOOR) & (truth < max_depth)


def _resized(prediction: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) float64 by OpenCV's bilinear resize, as the benchmark does it."""
    import cv2

    resized = cv2.resize(prediction, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.maximum(resized, FLOOR).astype(np.float64)

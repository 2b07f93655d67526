"""The protocol by which DepthCrafter (Hu et al., CVPR 2025) and its peers are compared on whole clips.

One scale and shift per clip, by ordinary least squares in disparity over all valid pixels of all frames; scores are
means over the pixels of a frame, then over the frames that have any valid pixel. Two scores of its evaluator are pooled
otherwise: log10 over all pixels of the clip, silog as the root of the mean variance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from recon4d.errors import EvaluationError
from recon4d.evaluation.affine_fit import AffineFit
from recon4d.evaluation.depth_scores import DepthScores, mean_scores, score_depth

FLOOR = 1e-3  # of depth and disparity; the far end of a 0..1 disparity is clipped to it as well
Domain = Literal["depth", "disparity"]


@dataclass(frozen=True)
class BenchmarkFrame:
    """What is known of one frame."""

    prediction: np.ndarray  # (h, w) disparity, larger = nearer, any scale and shift; resized to the truth's size
    truth: np.ndarray  # (H, W) depth in metres, or disparity
    valid: np.ndarray | None = None  # (h, w) bool, pixels with a prediction, where not all have one


@dataclass(frozen=True)
class BenchmarkScores:
    """A clip's scores and how they came about."""

    scores: DepthScores
    gain: float  # target = gain * prediction + shift
    shift: float
    frames: int  # with any valid pixel


def benchmark_clip(
    prediction: Sequence[np.ndarray], truth: Sequence[np.ndarray], max_depth: float, domain: Domain = "depth"
) -> DepthScores:
    """`benchmark_frames` of arrays in memory.

    Args:
        prediction: T frames (h, w) of disparity.
        truth: T frames (H, W).

    Raises:
        EvaluationError: the lengths differ, no frame has valid truth, or the fit is not determined.
    """
    if len(prediction) != len(truth):
        raise EvaluationError(f"benchmark: {len(prediction)} frames of prediction, {len(truth)} of truth")
    return benchmark_frames(lambda: map(BenchmarkFrame, prediction, truth), max_depth, domain).scores


def benchmark_frames(
    frames: Callable[[], Iterable[BenchmarkFrame]], max_depth: float, domain: Domain = "depth"
) -> BenchmarkScores:
    """Scores of relative disparity by the benchmark's protocol; one frame in memory at a time.

    The protocol knows no pixels without prediction: where there are some, they are left out of fit and scores.

    Args:
        frames: called twice, for the fit and for the scores.
        max_depth: metres; far end of the valid truth and of the aligned depth. Truth is not valid outside 1e-3 to this.
        domain: disparity: the truth is disparity itself, and is scored as such.

    Raises:
        EvaluationError: no frame has valid truth, or the fit is not determined.
    """
    fit = AffineFit()
    for frame in frames():
        known = _known(frame, max_depth)
        target = 1.0 / (frame.truth[known] + 1e-8) if domain == "depth" else frame.truth[known]
        fit.add(_resized(frame)[known], target)
    gain, shift = fit.solve()
    scored, present = [], []
    for frame in frames():
        aligned = np.maximum(gain * _resized(frame) + shift, FLOOR)
        estimate = np.clip(1.0 / aligned if domain == "depth" else aligned, FLOOR, max_depth)
        valid = _predicted(frame)
        scores = score_depth(estimate, valid, frame.truth, _true(frame.truth, max_depth))
        if scores is not None:
            scored.append(scores)
            present.append(scores.completeness * scores.pixels)
    scores = mean_scores(scored)
    assert scores is not None  # the fit would have failed before
    errors = np.array([[frame.log10, frame.silog] for frame in scored])
    some = np.isfinite(errors[:, 0])
    pooled = replace(
        scores,
        log10=float(np.average(errors[some, 0], weights=np.array(present)[some])),
        silog=float(np.sqrt(np.mean(errors[some, 1] ** 2))),
    )
    return BenchmarkScores(pooled, float(gain), float(shift), len(scored))


def _known(frame: BenchmarkFrame, max_depth: float) -> np.ndarray:
    return _true(frame.truth, max_depth) & _predicted(frame)


def _true(truth: np.ndarray, max_depth: float) -> np.ndarray:
    return (truth > FLOOR) & (truth < max_depth)


def _predicted(frame: BenchmarkFrame) -> np.ndarray:
    """(H, W) bool: pixels for whose prediction only valid ones are mixed."""
    import cv2

    if frame.valid is None:
        return np.ones(frame.truth.shape, dtype=bool)
    share = cv2.resize(frame.valid.astype(np.float32), frame.truth.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return share > 1 - 1e-6


def _resized(frame: BenchmarkFrame) -> np.ndarray:
    """(H, W) float64 by OpenCV's bilinear resize, as the benchmark does it."""
    import cv2

    resized = cv2.resize(frame.prediction, frame.truth.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.maximum(resized, FLOOR).astype(np.float64)

"""Whether refinement helped, asked of views that took no part in it: where they like the prior better, it stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recon4d.refine.frame import FrameEnergy, Problem, RefineView, Style

NEAR = 0.06  # of the longer side: standard deviation of the Gaussian over which views are asked together
WHOLE = 0.5  # weight of what they say of the whole frame: it decides where plain surfaces tell nothing
LUCK = 0.008  # of ZNCC: what refinement wins over a perfect prior, by following how pictures are sampled
CLEAR = 0.006  # of ZNCC: a difference beyond that which decides
UNLIKE, ALIKE = 0.25, 0.4  # ZNCC of the whole frame at the answer: below, its poses are wrong and nothing is believed


def share_kept(problem: Problem, style: Style, x: np.ndarray, judges: list[RefineView]) -> np.ndarray:
    """(h, w) float32 0..1: how much of the way from the prior to ``x`` is to be gone.

    Judged is how alike the frame's windows look in the judging views at either depth. A view decides what it sees of
    the frame only where it sees it at both.

    Args:
        x: (h, w) log inverse depth after refinement.
        judges: views that were not compared with; without any all is kept.
    """
    import cv2

    if not judges:
        return np.ones_like(x)
    energy = FrameEnergy(replace(problem, views=judges, opinions=()), style)
    after = energy.at(x, look_again=True).alike
    before = energy.at(problem.own.x, look_again=True).alike
    both = (after != 0) & (before != 0)
    if not both.any():
        return np.zeros_like(x)
    gain = np.where(both, after - before, 0).astype(np.float32)
    size = NEAR * max(x.shape)
    weight = cv2.GaussianBlur(both.astype(np.float32), (0, 0), size)
    local = cv2.GaussianBlur(gain, (0, 0), size) / np.maximum(weight, 1e-3)
    score = local + WHOLE * float(gain[both].mean())
    believed = np.clip((float(after[both].mean()) - UNLIKE) / (ALIKE - UNLIKE), 0, 1)
    return (believed * np.clip(0.5 + 0.5 * (score - LUCK) / CLEAR, 0, 1)).astype(x.dtype)

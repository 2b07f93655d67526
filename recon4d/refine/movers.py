"""What moves: other views say nothing of its depth, so it keeps its prior's, steady along the optical flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from recon4d.geometry.dense_flow import LEAST_PX, dis_flow
from recon4d.geometry.flow_check import checked_flow, flow_map
from recon4d.refine.frame import Problem
from recon4d.refine.terms import Opinion

HELD_SIGMA, HELD_CHANCE = 0.02, 0.97  # of the prior where it moves
TEMPORAL_SIGMA, TEMPORAL_CHANCE = 0.02, 0.8  # of the mean of the frames before and after
ONE_SURFACE = 0.1  # of x, between the frames before and after


def held_at_prior(problem: Problem, moving: np.ndarray, temporal: Opinion | None) -> Problem:
    """The problem of a frame of which ``moving`` (h, w) bool is no part of the static scene."""
    still = np.where(moving, np.float32(0), np.float32(1)).astype(problem.own.x.dtype)
    opinions = [replace(opinion, chance=opinion.chance * still) for opinion in problem.opinions]
    prior, known = problem.own.x, moving & np.isfinite(problem.own.x)
    chance = np.where(known, HELD_CHANCE, 0).astype(prior.dtype)
    opinions.append(Opinion(np.nan_to_num(prior), np.full_like(prior, HELD_SIGMA), chance))
    if temporal is not None:
        opinions.append(replace(temporal, chance=temporal.chance * (1 - still)))
    return replace(problem, static=problem.static * still, opinions=opinions)


def temporal_opinion(greys: Sequence[np.ndarray], before: np.ndarray, after: np.ndarray) -> Opinion | None:
    """Where the optical flow says it: the mean of a pixel's depth in the frame before and in the one after.

    Something that nears steadily is not held back by that: its depth is the mean, too.

    Args:
        greys: pictures (h, w) of the frame before, the frame, and the one after, grey levels.
        before, after: (h, w) log inverse depth of the other two, NaN where they have none.

    Returns:
        None where the pictures are too small for a flow.
    """
    import cv2

    if min(before.shape) < LEAST_PX:
        return None

    previous, own, following = (np.nan_to_num(grey).clip(0, 255).astype(np.uint8) for grey in greys)
    seen, sure = [], np.ones(own.shape, dtype=bool)
    for other, x in ((previous, before), (following, after)):
        there = dis_flow(own, other)
        sure &= np.isfinite(checked_flow(there, dis_flow(other, own))[..., 0])
        place = flow_map(there)
        seen.append(cv2.remap(x, *place, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=np.nan))
    with np.errstate(invalid="ignore"):
        sure &= np.abs(seen[0] - seen[1]) < ONE_SURFACE  # False where either has no depth
    mean = np.where(sure, 0.5 * (seen[0] + seen[1]), 0).astype(np.float32)
    chance = np.where(sure, np.float32(TEMPORAL_CHANCE), np.float32(0))
    return Opinion(mean, np.full_like(mean, TEMPORAL_SIGMA), chance)

"""Which other frames can judge a frame: enough baseline to tell depth, enough overlap to see the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from recon4d.scene.trajectory import Trajectory

BEST_ANGLE_DEG = 5.0  # of triangulation: smaller ones cannot tell depths apart, larger ones see other surfaces
MIN_OVERLAP = 0.4


def choose_neighbours(trajectory: Trajectory, depth: np.ndarray, count: int, may_judge: np.ndarray) -> list[list[int]]:
    """For each frame up to ``count`` rows of other frames, best first.

    Args:
        trajectory: N frames.
        depth: (N,) typical z-depth per frame, scene units.
        may_judge: (N,) bool, frames whose pose is evidence; the others are never chosen.

    The score is overlap times a bell curve over the logarithm of the triangulation angle at the typical depth; a frame
    next to one already taken is passed over while there are others, so that the choice spreads. Frames of one place
    (tripod) have no angle at all: then the nearest in time are taken.
    """
    centres = trajectory.centres
    forward = trajectory.cam_from_world.rotation[:, 2]
    fov = np.array([2 * np.arctan(0.5 * c.width / c.fx) for c in trajectory.cameras])
    rows = np.arange(len(trajectory))

    def next_to(row: int) -> np.ndarray:
        return 0.5 * np.exp(-0.5 * ((rows - row) / 3.0) ** 2)

    chosen = []
    for i in range(len(trajectory)):
        target = centres[i] + depth[i] * forward[i]  # what the frame looks at
        to_target = target - centres
        distance = np.linalg.norm(to_target, axis=1)
        rays = to_target / np.maximum(distance, 1e-12)[:, None]
        angle = np.degrees(np.arccos(np.clip(rays @ rays[i], -1, 1)))
        off_axis = np.arccos(np.clip((rays * forward).sum(axis=1), -1, 1))
        turn = np.arccos(np.clip(forward @ forward[i], -1, 1))
        overlap = np.clip(1.0 - np.maximum(off_axis, 0.5 * turn) / fov[i], 0, 1)
        overlap *= np.minimum(distance, depth[i]) / np.maximum(np.maximum(distance, depth[i]), 1e-12)
        bell = np.exp(-0.5 * (np.log(np.maximum(angle, 1e-3) / BEST_ANGLE_DEG) / 1.0) ** 2)
        score = np.where(overlap >= MIN_OVERLAP, overlap * bell, 0.0)
        score[i] = 0.0
        score[~may_judge] = 0.0
        if score.max() < 1e-3:
            order = np.argsort(np.abs(np.arange(len(trajectory)) - i), kind="stable")[1:]
            chosen.append([int(j) for j in order if may_judge[j]][:count])
            continue
        chosen.append(take_apart(score, count, next_to, least=1e-3))
    return chosen


def take_apart(
    score: np.ndarray, count: int, sameness: Callable[[int], np.ndarray], first: Sequence[int] = (), least: float = 0.0
) -> list[int]:
    """Up to ``count`` rows with scores above ``least``, greedily the best ones that differ from those already taken.

    Args:
        score: (N,)
        sameness: of a taken row: (N,) share of its score each row loses.
        first: rows taken before all others.
    """
    score, taken = score.copy(), []
    first = list(first)
    while len(taken) < count and (first or score.max(initial=0.0) > least):
        best = first.pop(0) if first else int(np.argmax(score))
        taken.append(best)
        score *= 1.0 - sameness(best)
        score[best] = 0.0
    return taken

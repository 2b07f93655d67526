"""Greedy choice of some of many that score well and differ from each other: the frames a frame is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


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

"""What other frames' refined depth says of a frame, as an opinion: errors differ from frame to frame, truths do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recon4d.geometry.depth_votes import agree, collect_votes
from recon4d.geometry.photo_cost import Posed, pixel_warp
from recon4d.refine.terms import Opinion

VOTE_SIGMA = 0.01  # of x: of the mean of votes within 2 %
OWN_WEIGHT = 2.0  # of a frame's own vote against one of another frame
LEAST_SHARE, SURE_WEIGHT, MOST = 0.2, 3.0, 0.97  # of all votes; weight of votes that is enough; highest chance


@dataclass(frozen=True)
class Found:
    """The depth of a frame after a walk over the clip; all grids (h, w)."""

    x: np.ndarray  # float32, log inverse depth, NaN where there is none
    chance: np.ndarray  # float32, 0..1, to lie within 5 % of the truth
    alike: np.ndarray  # float32, ZNCC with what other views show there


def opinion_of_votes(own: Found, posed: Posed, others: Sequence[Found], theirs: Sequence[Posed]) -> Opinion:
    """The depth most frames agree on."""
    votes = collect_votes(
        _inverse(own), [_inverse(other) for other in others], [pixel_warp(other, posed) for other in theirs], OWN_WEIGHT
    )
    agreed = agree(votes)
    share = agreed.support / np.maximum(agreed.total, 1e-6)
    chance = (
        MOST * np.clip((share - LEAST_SHARE) / (1 - LEAST_SHARE), 0, 1) * np.minimum(agreed.support / SURE_WEIGHT, 1)
    )
    some = agreed.inverse_depth > 0
    x = np.log(np.where(some, agreed.inverse_depth, 1)).astype(np.float32)
    sigma = np.full_like(x, VOTE_SIGMA)
    return Opinion(x, sigma, np.where(some, chance, 0).astype(np.float32))


def _inverse(found: Found) -> tuple[np.ndarray, np.ndarray]:
    known = np.isfinite(found.x)
    inverse = np.where(known, np.exp(np.where(known, found.x, 0)), 0).astype(np.float32)
    return inverse, np.where(known, found.chance, 0).astype(np.float32)

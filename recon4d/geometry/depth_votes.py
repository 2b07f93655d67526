"""What the frames of a clip say about the depth of one of them: votes, the answer most agree on, and who contradicts.

Errors of stereo differ from frame to frame more than its truths do. A depth that frames from many places share is
right far more often than the best answer of any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

AGREES_WITHIN = 0.02  # relative difference of inverse depth: votes for one surface
SUPPORTS_WITHIN = 0.03  # the same between a vote and a surface that may have been smoothed since
MIN_CONFIDENCE = 0.4  # doubted depth does not vote
ONE_SURFACE = 0.05  # relative inverse depth of pixels that land on one: more apart, the nearer hides the farther
LEAST_PART = 1 / 16  # of a pixel: less would only widen what is near
NUMERIC = {"contract", "arcp", "nsz"}


@dataclass(frozen=True)
class Votes:
    """Depth of one frame's pixels as S frames see it."""

    inverse_depth: np.ndarray  # (S, H, W) float32, inverse scene units in the voted frame
    weight: np.ndarray  # (S, H, W) float32, 0 where a frame says nothing

    @property
    def of_others(self) -> Votes:
        """The same without the voted frame's own, which come first."""
        return Votes(self.inverse_depth[1:], self.weight[1:])


class Agreement(NamedTuple):
    """The depth with the largest weight behind it."""

    inverse_depth: np.ndarray  # (H, W) float32, 0 where nobody votes
    support: np.ndarray  # (H, W) float32: weight of the votes for it
    total: np.ndarray  # (H, W) float32: weight of all votes


class Evidence(NamedTuple):
    """Weight of the votes for a surface and against it."""

    agreeing: np.ndarray  # (H, W) float32
    beyond: np.ndarray  # (H, W) float32: they see something farther, through the surface
    before: np.ndarray  # (H, W) float32: they see something nearer


def collect_votes(
    own: tuple[np.ndarray, np.ndarray],
    others: Sequence[tuple[np.ndarray, np.ndarray]],
    warps: Sequence[tuple[np.ndarray, np.ndarray]],
    own_weight: float,
) -> Votes:
    """Bring the depth of other frames to a frame; nearer surfaces of one frame hide its farther ones.

    Args:
        own: inverse depth (H, W) and confidence (H, W) of the voted frame itself.
        others: the same of other frames, each of its own size.
        warps: per other frame the `pixel_warp` from it to the voted frame.
        own_weight: of the frame's own vote against one of another frame.

    Votes weigh confidence squared, so that two doubtful ones do not outvote a sure one.
    """
    inverse_depth, confidence = own
    shape = (1 + len(others), *inverse_depth.shape)
    values, weight = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    values[0] = inverse_depth
    weight[0] = np.where(confidence >= MIN_CONFIDENCE, own_weight * confidence**2, 0)
    for slot, ((seen, sure), (turn, shift)) in enumerate(zip(others, warps), start=1):
        _carry(seen, sure, turn, shift, values[slot], weight[slot])
    return Votes(values, weight)


def agree(votes: Votes) -> Agreement:
    """Per pixel the depth within 2 % of which the most weight lies, and the mean of that (of inverse depth)."""
    return Agreement(*_agree(votes.inverse_depth, votes.weight))


def weigh(votes: Votes, surface: np.ndarray) -> Evidence:
    """How the votes stand to a surface.

    Args:
        surface: (H, W) float32 inverse depth, inverse scene units.
    """
    return Evidence(*_weigh(votes.inverse_depth, votes.weight, surface))


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy")
def _carry(inverse_depth, confidence, turn, shift, out, weight):
    """Each pixel lands on the four pixels around it, bilinearly: so finely sampled, a slanted surface has no holes.

    What lands on a pixel from one surface is averaged. The nearest of it instead would draw all surfaces nearer, and
    more with every round.
    """
    height, width = out.shape
    landed = np.zeros(out.shape, dtype=np.float32)  # parts of pixels of the surface seen there
    half, one = np.float32(0.5), np.float32(1)
    for y in range(inverse_depth.shape[0]):
        for x in range(inverse_depth.shape[1]):
            p, d = confidence[y, x], inverse_depth[y, x]
            if p < MIN_CONFIDENCE or d <= 0:
                continue
            fx, fy = np.float32(x) + half, np.float32(y) + half
            z = turn[2, 0] * fx + turn[2, 1] * fy + turn[2, 2] + d * shift[2]  # depth there over depth here
            if z <= np.float32(1e-6):
                continue
            u = (turn[0, 0] * fx + turn[0, 1] * fy + turn[0, 2] + d * shift[0]) / z - half
            v = (turn[1, 0] * fx + turn[1, 1] * fy + turn[1, 2] + d * shift[1]) / z - half
            if u < -1 or v < -1 or u >= width or v >= height:
                continue
            near = d / z
            left, top = int(np.floor(u)), int(np.floor(v))
            for row in range(max(top, 0), min(top + 2, height)):
                for column in range(max(left, 0), min(left + 2, width)):
                    part = (one - abs(u - np.float32(column))) * (one - abs(v - np.float32(row)))
                    if part < np.float32(LEAST_PART) or near < np.float32(1 - ONE_SURFACE) * out[row, column]:
                        continue
                    if near > np.float32(1 + ONE_SURFACE) * out[row, column]:
                        landed[row, column] = 0  # what lay there is hidden
                    landed[row, column] += part
                    share = part / landed[row, column]
                    out[row, column] += share * (near - out[row, column])
                    weight[row, column] += share * (p * p - weight[row, column])


@njit(cache=True, nogil=True)
def _agree(values, weight):
    count, height, width = values.shape
    best = np.zeros((3, height, width), dtype=np.float32)
    value, share = np.empty(count, dtype=np.float32), np.empty(count, dtype=np.float32)
    for y in range(height):
        for x in range(width):
            voting, total = 0, np.float32(0)
            for s in range(count):
                if weight[s, y, x] > 0:
                    value[voting], share[voting] = values[s, y, x], weight[s, y, x]
                    total += share[voting]
                    voting += 1
            support, mean = np.float32(0), np.float32(0)
            for a in range(voting):
                tolerance = np.float32(AGREES_WITHIN) * value[a]
                inside, weighted = np.float32(0), np.float32(0)
                for b in range(voting):
                    if abs(value[b] - value[a]) <= tolerance:
                        inside += share[b]
                        weighted += share[b] * value[b]
                if inside > support:
                    support, mean = inside, weighted / inside
            best[0, y, x], best[1, y, x], best[2, y, x] = mean, support, total
    return best[0], best[1], best[2]


@njit(cache=True, nogil=True)
def _weigh(values, weight, surface):
    count, height, width = values.shape
    out = np.zeros((3, height, width), dtype=np.float32)
    for s in range(count):
        for y in range(height):
            for x in range(width):
                w = weight[s, y, x]
                if w > 0:
                    away = values[s, y, x] - surface[y, x]
                    if abs(away) <= np.float32(SUPPORTS_WITHIN) * surface[y, x]:
                        out[0, y, x] += w
                    elif away < 0:
                        out[1, y, x] += w
                    else:
                        out[2, y, x] += w
    return out[0], out[1], out[2]

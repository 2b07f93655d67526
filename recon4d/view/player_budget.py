"""How many points and how large pictures a player's page of a given size can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PICTURES_SHARE = 0.25  # of the room, for the frames of the video
STATIC_SHARE = 0.4  # of the room for points that the background may take from what moves
MARGIN = 0.97  # costs are estimated from samples
BASE64 = 4 / 3


@dataclass(frozen=True)
class PictureSetting:
    """How the frames of the video are embedded."""

    longest_px: int
    quality: int  # of JPEG


# Nobody needs the full picture beside the scene: it is there to compare.
PICTURE_SETTINGS = tuple(
    PictureSetting(*setting) for setting in ((720, 80), (560, 78), (420, 75), (320, 72), (240, 70), (160, 65))
)


@dataclass(frozen=True)
class PointsCost:
    """What the points of one layer would take, all of them."""

    counts: np.ndarray  # (K,) points of each cloud that may be written
    bytes_per_point: float  # on the page, when all are written

    @property
    def total(self) -> float:
        return float(self.counts.sum() * self.bytes_per_point)

    def most(self, room: float) -> int:
        """The bound on each cloud's points with which all take ``room`` bytes: small clouds stay whole."""
        if self.total <= room or not len(self.counts):
            return int(self.counts.max(initial=0))
        low, high = 0, int(self.counts.max())
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._cost(middle) <= room else (low, middle)
        return low

    def _cost(self, most: int) -> float:
        kept = np.minimum(self.counts, most)
        # Half as many points lie twice as far apart in Morton order: one bit more for each.
        dearer = np.log2(np.maximum(self.counts, 1) / np.maximum(kept, 1)) / 8 * BASE64
        return float((kept * (self.bytes_per_point + dearer)).sum())


@dataclass(frozen=True)
class PlayerBudget:
    """Bounds with which the page keeps to its size."""

    static_points: int
    moving_points: int  # of each frame
    pictures: PictureSetting | None  # None: no room for pictures


def share_out(room: float, static: PointsCost, moving: PointsCost, pictures: Sequence[float]) -> PlayerBudget:
    """Pictures take up to a quarter, the background up to two fifths of the rest where what moves wants it too.

    Args:
        room: bytes of the page for points and pictures together.
        pictures: bytes that all pictures take at each of `PICTURE_SETTINGS`, largest first; empty where there are none.
    """
    room = max(room, 0.0) * MARGIN
    fitting = [row for row, cost in enumerate(pictures) if cost <= PICTURES_SHARE * room]
    room -= pictures[fitting[0]] if fitting else 0.0
    for_static = min(static.total, max(STATIC_SHARE * room, room - moving.total))
    return PlayerBudget(
        static.most(for_static), moving.most(room - for_static), PICTURE_SETTINGS[fitting[0]] if fitting else None
    )


def page_bytes(packed: int) -> float:
    """Bytes on the page of so many bytes of data."""
    return packed * BASE64


def sample_rows(count: int, most: int) -> list[int]:
    """At most so many rows of ``count``, spread evenly."""
    return sorted(set(np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist())) if count else []

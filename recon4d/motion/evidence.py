"""Does a pixel move? What the flow between two frames says of it, and what all pairs of a frame say together.

A pixel moves where no static surface explains its flow and the picture shows that: its window looks like the other
frame where the flow ends, and unlike wherever a static surface could have taken it. Untextured and hidden places show
neither, and stay open. What is hidden in frames before shows in frames after: both sides have to agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from recon4d.geometry.flow_check import checked_flow
from recon4d.geometry.static_look import patch_difference
from recon4d.motion.static_flow import Look, camera_error, static_flow

SURFACE_PX = 5  # side of the window whose depths a pixel may have: silhouettes are a pixel or two off
NEARLY_ALL, NEARER_STILL = 0.99, 1.5  # quantile of nearness; times that, what has no depth may be as near as
FLOORS = 5.0  # noise floors that flow may be off
LEAST_EXCESS_PX = 0.7
EXCESS, EXCESS_SOFT = 1.0, 1 / 6  # of that, above which flow is no static surface's, and how gradually
UNLIKE, UNLIKE_SOFT = 12.0, 2.5  # grey levels, mean of the channels: windows that differ
LIKE_SOFT = 2.0  # grey levels by which the flow must explain a window better
VERY_UNLIKE, VERY_SOFT = 18.0, 4.0  # no static surface, even where the flow has lost it
SHADE = (0.6, 1.6)  # ratios of brightness that are taken for shade, not for another surface
SHADE_PX = 9  # side of the window whose brightness is compared
TAIL, TAILS, LEAST_ALONE_PX = 0.9, 8.0, 0.5  # quantile of the excess, so many times of which count without a look
FLOW_ALONE, ALONE_SOFT = 0.5, 0.5  # how much that counts; grey levels by which the flow must not explain worse
SHIFTS = (-1, 0, 1)  # pixels by which windows are tried
WINDOW_PX = 5
ONE_SIDE = 0.4  # of the evidence counts where frames before or after do not show the place


@dataclass(frozen=True)
class PairLook:
    """What one other frame says of the pixels of a frame."""

    moved: np.ndarray  # (H, W) float32, 0..1: the picture shows that it moved
    still: np.ndarray  # (H, W) float32, 0..1: it may as well stand still
    seen: np.ndarray  # (H, W) bool: the other frame shows the place
    returns: np.ndarray  # (H, W) bool: the flow comes back from there
    off: np.ndarray  # (H, W, 2) float32 flow beyond that of the nearest static surface, pixels
    floor_px: float  # one standard deviation of the flow of what stands still


@dataclass(frozen=True)
class FrameEvidence:
    """What all pairs of a frame say of its pixels; neither is high where nothing can be told."""

    moved: np.ndarray  # (H, W) float32, 0..1
    still: np.ndarray  # (H, W) float32, 0..1


def pair_look(frame: Look, other: Look, forward: np.ndarray, backward: np.ndarray) -> PairLook:
    """What the optical flow to another frame, and the pictures, say of every pixel.

    The part of the flow across the epipolar lines cannot be explained by any depth; the part along them is judged by
    the depths around a pixel: flow is explained as far as it lies beside the way from the nearest to the farthest.

    Args:
        forward, backward: (H, W, 2) optical flow to the other frame and back, pixels, NaN where it is not known.
    """
    still_flow = static_flow(frame, other, frame.nearness)
    checked = checked_flow(forward, backward)
    error = camera_error(frame, checked - still_flow)
    nearest = _explained(frame, other, forward, error.flow)
    returns = np.isfinite(checked).all(axis=-1)
    excess_px = np.linalg.norm(forward - nearest, axis=-1)
    with np.errstate(invalid="ignore"):
        excess = excess_px / max(FLOORS * error.floor_px, LEAST_EXCESS_PX)
        not_static = _sigmoid((excess - EXCESS) / EXCESS_SOFT)
    look = _Windows(frame, other, still_flow + error.flow)
    unlike = np.minimum(look.difference(still_flow + error.flow), look.difference(nearest))
    along_flow = look.difference(forward)
    better = _sigmoid((unlike - along_flow) / LIKE_SOFT)
    shown = _sigmoid((unlike - UNLIKE) / UNLIKE_SOFT)
    shown *= np.maximum(better, _sigmoid((unlike - VERY_UNLIKE) / VERY_SOFT))
    shown = np.maximum(shown, FLOW_ALONE * _by_flow(excess_px, returns) * _sigmoid((unlike - along_flow) / ALONE_SOFT))
    seen = look.inside & np.isfinite(forward).all(axis=-1) & np.isfinite(not_static)
    moved = np.where(seen, not_static * shown, 0).astype(np.float32)
    still = np.where(seen, 1 - not_static * better, 1).astype(np.float32)
    return PairLook(moved, still, seen, returns, forward - nearest, error.floor_px)


def _by_flow(excess_px: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """(H, W) 0..1: flow so far beyond what nearly all other pixels have that it needs no picture to be believed.

    Slow or plain things change a window by no more than noise; in a clip with good depth and cameras flow shows them.
    """
    if not np.isfinite(excess_px[returns]).any():
        return np.zeros(returns.shape)
    usual = np.nanquantile(excess_px[returns], TAIL)
    surely = _sigmoid((excess_px / max(TAILS * usual, LEAST_ALONE_PX) - 1) / EXCESS_SOFT)
    return np.where(returns, np.nan_to_num(surely), 0)


def frame_evidence(before: Sequence[PairLook], after: Sequence[PairLook]) -> FrameEvidence:
    """What frames before and after say together: something moved if both sides say so.

    On one side the frame that shows it best counts: slow motion shows over a long gap, fast motion over a short one.
    Where only one side shows a place, its flow has to come back, or it may be background that something hides there.
    """
    sides = [side for side in (_one_side(before), _one_side(after)) if side is not None]
    if not sides:
        raise ValueError("frame_evidence: no other frame is given")
    if len(sides) == 1:
        (only,) = sides
        return FrameEvidence(ONE_SIDE * only.returning, np.where(only.seen, ONE_SIDE * only.still, 0))
    first, second = sides
    both = first.seen & second.seen
    one_moved = ONE_SIDE * np.maximum(first.returning, second.returning)
    one_still = ONE_SIDE * np.maximum(np.where(first.seen, first.still, 0), np.where(second.seen, second.still, 0))
    return FrameEvidence(
        np.where(both, np.minimum(first.moved, second.moved), one_moved),
        np.where(both, np.maximum(first.still, second.still), one_still),
    )


@dataclass(frozen=True)
class _Side:
    """What the frames on one side say together."""

    moved: np.ndarray
    returning: np.ndarray  # the same where the flow comes back
    still: np.ndarray
    seen: np.ndarray


def _one_side(looks: Sequence[PairLook]) -> _Side | None:
    if not looks:
        return None
    return _Side(
        np.max([look.moved for look in looks], axis=0),
        np.max([look.moved * look.returns for look in looks], axis=0),
        np.min([look.still for look in looks], axis=0),
        np.any([look.seen for look in looks], axis=0),
    )


def _explained(frame: Look, other: Look, flow: np.ndarray, error: np.ndarray) -> np.ndarray:
    """(H, W, 2) the flow nearest to ``flow`` that a static surface with a depth found around the pixel would have.

    Where depth is not known that is any depth from infinity to nearer than all that is known: only what lies beside the
    epipolar line is left unexplained then.
    """
    window, near = np.ones((SURFACE_PX, SURFACE_PX), dtype=np.uint8), frame.nearness
    unknown = np.isinf(frame.doubt)
    doubt = np.where(unknown, 0, frame.doubt).astype(np.float32)
    nearest_of_all = NEARER_STILL * float(np.quantile(near[frame.known], NEARLY_ALL)) if frame.known.any() else 0.0
    least = np.where(unknown, 0, near * np.maximum(1 - doubt, 0)).astype(np.float32)
    most = np.where(unknown, np.maximum(near, nearest_of_all), near * (1 + doubt)).astype(np.float32)
    start = static_flow(frame, other, cv2.erode(least, window)) + error
    way = static_flow(frame, other, cv2.dilate(most, window)) + error - start
    with np.errstate(invalid="ignore"):
        share = ((flow - start) * way).sum(axis=-1) / np.maximum((way * way).sum(axis=-1), 1e-9)
        return (start + np.clip(share, 0, 1)[..., None] * way).astype(np.float32)


class _Windows:
    """How windows of a frame look where flows take them in another one."""

    def __init__(self, frame: Look, other: Look, usual: np.ndarray) -> None:
        self._own = cv2.GaussianBlur(frame.rgb, (0, 0), 1.0).astype(np.float32)
        self._other, self._size = cv2.GaussianBlur(other.rgb, (0, 0), 1.0), other.camera
        self._columns, self._rows = (
            np.arange(count, dtype=np.float32) for count in (frame.camera.width, frame.camera.height)
        )
        self._gain = np.float32(1)
        x, y, seen = self._at(usual), self._at_row(usual), self._read(usual)
        self.inside = (x >= 0) & (y >= 0) & (x <= self._size.width - 1) & (y <= self._size.height - 1)
        if self.inside.any():
            self._gain = np.float32(np.median(self._own[self.inside]) / max(float(np.median(seen[self.inside])), 1.0))

    def difference(self, flow: np.ndarray) -> np.ndarray:
        """(H, W) between windows of the frame and where a flow takes them, whatever shade lies on them, grey levels."""
        seen = self._read(flow)
        own_light, light = (cv2.blur(picture, (SHADE_PX, SHADE_PX)).mean(axis=2) + 4 for picture in (self._own, seen))
        seen *= np.clip(own_light / light, *SHADE)[..., None]
        return patch_difference(self._own, seen, SHIFTS, WINDOW_PX)

    def _at(self, flow: np.ndarray) -> np.ndarray:
        return np.nan_to_num(flow[..., 0] + self._columns, nan=-1e6).astype(np.float32)

    def _at_row(self, flow: np.ndarray) -> np.ndarray:
        return np.nan_to_num(flow[..., 1] + self._rows[:, None], nan=-1e6).astype(np.float32)

    def _read(self, flow: np.ndarray) -> np.ndarray:
        x, y = self._at(flow), self._at_row(flow)
        seen = cv2.remap(self._other, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return self._gain * seen.astype(np.float32)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))

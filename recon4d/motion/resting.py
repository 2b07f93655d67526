"""Objects that stand still before they move, or after: found by what their place looks like while they are there."""

from __future__ import annotations

import cv2
import numpy as np

from recon4d.geometry.flow_check import flow_map
from recon4d.geometry.static_look import patch_difference
from recon4d.motion.static_flow import Look, static_flow

ALIKE = 14.0  # grey levels: the place looks as with the object in it
CLEARER = 6.0  # grey levels by which it has to look more like that than like the place without it
LEAST_SHARE = 0.7  # of the pixels that can be judged
LEAST_PIXELS = 30
SAME_SURFACE = 1.15  # ratio of depth
UNCOVERED = 0.5  # of the place, that the object must have left for the comparison
SHIFTS, WINDOW_PX = (-2, -1, 0, 1, 2), 5


def mask_at_rest(frame: Look, with_object: Look, mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels of a frame that show what ``mask`` (h, w) covers in another, if nothing moved between them.

    The frame's own depth says where its pixels are in the other one; both depths must be about the same there.
    """
    flow = static_flow(frame, with_object, frame.nearness)
    covered, near, _ = _read(with_object, flow, mask)
    expected = _nearness_there(frame, with_object)
    with np.errstate(invalid="ignore"):
        same = (near < SAME_SURFACE * expected) & (expected < SAME_SURFACE * near)
    return covered & same


def rests_there(frame: Look, with_object: Look, without: Look, mask: np.ndarray, left: np.ndarray) -> np.ndarray | None:
    """The object's mask in a frame if it stands there as in ``with_object``; None if it does not, or cannot be told.

    Args:
        with_object: the frame next in time in which the object begins or ends to move, and its mask there (h, w) bool.
        without: a frame in which the object has left its place, with its mask ``left`` there.
    """
    there = mask_at_rest(frame, with_object, mask)
    if there.sum() < LEAST_PIXELS:
        return None
    own = cv2.GaussianBlur(frame.rgb, (0, 0), 1.0).astype(np.float32)
    flow_with = static_flow(frame, with_object, frame.nearness)
    flow_without = static_flow(frame, without, frame.nearness)
    still_covered, _, inside = _read(without, flow_without, left)
    _, _, shown = _read(with_object, flow_with, mask)
    judged = there & inside & shown & ~still_covered
    if judged.sum() < max(LEAST_PIXELS, UNCOVERED * there.sum()):
        return None
    around = ~cv2.dilate(there.astype(np.uint8), np.ones((9, 9), dtype=np.uint8)).astype(bool)
    like = _difference(own, with_object, flow_with, around & shown)
    unlike = _difference(own, without, flow_without, around & inside)
    rests = (like < ALIKE) & (unlike > like + CLEARER)
    # Where object and place look the same nothing is told; the rest must speak for the object.
    tell = judged & ((rests) | (like >= ALIKE) | (like > unlike + CLEARER))
    if rests[judged].mean() < 1 - LEAST_SHARE or rests[tell].mean() < LEAST_SHARE:
        return None
    return there


def _difference(own: np.ndarray, other: Look, flow: np.ndarray, around: np.ndarray) -> np.ndarray:
    """(H, W) grey levels, under one gain for the picture."""
    x, y = flow_map(flow)
    seen = cv2.remap(cv2.GaussianBlur(other.rgb, (0, 0), 1.0), x, y, cv2.INTER_LINEAR).astype(np.float32)
    gain = np.median(own[around]) / max(float(np.median(seen[around])), 1.0) if around.any() else 1.0
    return patch_difference(own, np.float32(gain) * seen, SHIFTS, WINDOW_PX)


def _read(other: Look, flow: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the flow leads: the mask (bool), inverse depth, and whether that is inside the picture."""
    x, y = flow_map(flow)
    covered = cv2.remap(mask.astype(np.uint8), x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT) > 0
    near = cv2.remap(other.nearness, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    height, width = mask.shape
    return covered, near, (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)


def _nearness_there(frame: Look, other: Look) -> np.ndarray:
    """(H, W) inverse depth of the frame's surface as the other camera sees it; NaN behind it."""
    other_from_frame = other.cam_from_world @ frame.cam_from_world.inverse()
    camera, (height, width) = frame.camera, frame.nearness.shape
    x = (np.arange(width) + 0.5 - camera.cx) / camera.fx
    y = (np.arange(height)[:, None] + 0.5 - camera.cy) / camera.fy
    turn = other_from_frame.rotation[2]
    z = turn[0] * x + turn[1] * y + turn[2] + other_from_frame.translation[2] * frame.nearness
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(z > 0, frame.nearness / z, np.nan)

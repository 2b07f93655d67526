"""Optical flow on top of that of the static scene."""

from __future__ import annotations

import cv2
import numpy as np

from recon4d.motion.flow import FlowSource, Frame
from recon4d.motion.static_flow import Look, static_flow


def guided_flow(source: FlowSource, frame: Look, other: Look) -> np.ndarray:
    """(H, W, 2) float32 flow from one frame to another, pixels, NaN where it is not known.

    Sources that work on any pictures are given the other one as the static scene would have it seen from here. What
    stands still has no flow left then: untextured places keep still, and fast cameras do no harm. A pixel p that is
    found at p + left in that picture has come to p + left + guide(p + left) in the true one.
    """
    if not source.on_any_pictures:
        return source.flow(Frame(frame.name, frame.rgb), Frame(other.name, other.rgb))
    guide = static_flow(frame, other, frame.nearness)
    # What is behind the other camera is seen nowhere: any place outside will do, and its flow is not known.
    height, width = guide.shape[:2]
    nowhere = -2.0 * max(*guide.shape[:2], *other.rgb.shape[:2])
    to_read = np.where(np.isfinite(guide), guide, np.float32(nowhere)).astype(np.float32)
    columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    warped = cv2.remap(
        other.rgb, to_read[..., 0] + columns, to_read[..., 1] + rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    left = source.flow(Frame(frame.name, frame.rgb), Frame(other.name, warped))
    found = np.nan_to_num(left).astype(np.float32)
    # The nearest pixel's: between surfaces of different depth there is no guide that means anything.
    there = cv2.remap(
        guide, found[..., 0] + columns, found[..., 1] + rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
    )
    return (there + left).astype(np.float32)

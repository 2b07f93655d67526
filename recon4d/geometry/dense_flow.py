"""Optical flow by OpenCV's DIS (Kroeger et al., ECCV 2016): no weights, a few milliseconds a pair."""

from __future__ import annotations

import numpy as np

LEAST_PX = 16  # of a picture's shorter side: two of its patches


def dis_flow(grey: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(H, W, 2) float32 displacement (right, down) of every pixel in a second picture. For use in any thread.

    Args:
        grey, other: (H, W) uint8 grey levels, `LEAST_PX` or more on either side.
    """
    import cv2

    # A new one each time: one that has had pictures of another size finds something else.
    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(grey, other, None)

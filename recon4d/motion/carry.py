"""Objects in frames that hardly show their motion: brought there along the flow from frames that do."""

from __future__ import annotations

import cv2
import numpy as np

from recon4d.geometry.flow_check import flow_map
from recon4d.geometry.static_look import patch_difference
from recon4d.motion.outline import outlined

ALIKE = 14.0  # grey levels: the flow has found the same surface
WINDOW_PX = 5
COVERED = 0.6  # of what is carried, that a frame must have found by itself: then it needs no help
LEAST_SHARE = 0.0003  # of the picture


def carried_numbers(numbers: np.ndarray, flow: np.ndarray, rgb: np.ndarray, rgb_there: np.ndarray) -> np.ndarray:
    """(H, W) uint16 objects of another frame, at the pixels of this one that the flow finds again there.

    Args:
        numbers: (h, w) uint16 of the other frame.
        flow: (H, W, 2) to the other frame, NaN where it does not return.
        rgb, rgb_there: (H, W, 3), (h, w, 3) uint8 pictures.
    """
    known = np.isfinite(flow).all(axis=-1)
    x, y = flow_map(flow)
    there = cv2.remap(numbers, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    seen = cv2.remap(rgb_there, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    alike = patch_difference(rgb.astype(np.float32), seen, (0,), WINDOW_PX) < ALIKE
    return np.where(known & alike, there, 0).astype(np.uint16)


def helped(own: np.ndarray, carried: np.ndarray, number: int, rgb: np.ndarray) -> np.ndarray | None:
    """(H, W) bool, an object's mask from what a frame found of it and what was carried there; None if it needs no help.

    The outline is found anew along the picture's edges, so that it does not creep from frame to frame.

    Args:
        own, carried: (H, W) uint16.
    """
    found, brought = own == number, carried == number
    if brought.sum() < LEAST_SHARE * own.size or (found & brought).sum() >= COVERED * brought.sum():
        return None
    whole = cv2.morphologyEx((found | brought).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), dtype=np.uint8))
    return (outlined(whole.astype(np.float32), rgb) > 0.5) & ((own == 0) | found)

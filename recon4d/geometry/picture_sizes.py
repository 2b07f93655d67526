"""Pictures at the size a network wants."""

from __future__ import annotations

import cv2
import numpy as np


def at_size(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(height, width, 3) float32 picture stretched to ``size`` = (width, height), values as they were."""
    picture = rgb.astype(np.float32)
    if rgb.shape[1::-1] == size:
        return picture
    shrinks = size[0] * size[1] < rgb.shape[0] * rgb.shape[1]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def padded(rgb: np.ndarray, multiple: int) -> np.ndarray:
    """The picture as float32 with its last row and column repeated until both sides divide by ``multiple``."""
    height, width = rgb.shape[:2]
    more = ((0, -height % multiple), (0, -width % multiple), (0, 0))
    return np.pad(rgb.astype(np.float32), more, mode="edge")

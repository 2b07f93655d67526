"""Frames of the video, made small for a page."""

from __future__ import annotations

import numpy as np

from recon4d.formats.pictures import encoded
from recon4d.view.player_budget import PictureSetting


def small_jpeg(picture: np.ndarray, setting: PictureSetting) -> bytes:
    """JPEG of a picture (H, W, 3) uint8 RGB, made no larger than it is and shrunk to the setting's longest side."""
    import cv2

    height, width = picture.shape[:2]
    scale = min(1.0, setting.longest_px / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA) if scale < 1 else picture
    return encoded(small, ".jpg", setting.quality)

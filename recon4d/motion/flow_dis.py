"""Optical flow by OpenCV's DIS (Kroeger et al., ECCV 2016): no weights, a few milliseconds a pair."""

from __future__ import annotations

import threading

import cv2
import numpy as np

from recon4d.errors import InputError
from recon4d.motion.flow import Frame, flow_of_equals

LEAST_PX = 16  # of a picture's shorter side: two of its patches


class DisFlow:
    """Flow between any two pictures."""

    on_any_pictures = True

    def __init__(self) -> None:
        self._own = threading.local()  # OpenCV's object holds buffers of the call

    def knows(self, source: str, target: str) -> bool:
        return True

    def flow(self, source: Frame, target: Frame) -> np.ndarray:
        for frame in (source, target):
            height, width = frame.rgb.shape[:2]
            if min(height, width) < LEAST_PX:
                raise InputError(
                    f"motion: frame {frame.name} has {width}x{height} pixels, too small for optical flow: "
                    f"{LEAST_PX} on either side are needed"
                )
        return flow_of_equals(self._estimate, source, target)

    def _estimate(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        if not hasattr(self._own, "dis"):
            self._own.dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        greys = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (source, target)]
        return self._own.dis.calc(*greys, None)

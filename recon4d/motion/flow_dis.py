"""Optical flow by OpenCV's DIS: what is taken where nobody gives another one."""

from __future__ import annotations

import cv2
import numpy as np

from recon4d.errors import InputError
from recon4d.geometry.dense_flow import LEAST_PX, dis_flow
from recon4d.motion.flow import Frame, flow_of_equals


class DisFlow:
    """Flow between any two pictures."""

    on_any_pictures = True

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
        return flow_of_equals(_estimate, source, target)


def _estimate(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    return dis_flow(*(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (source, target)))

"""Axes of other programs, and ours."""

from __future__ import annotations

from enum import Enum

import numpy as np

# OpenGL cameras have y up and z backward, ours y down and z forward. Its own inverse.
OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


class Up(Enum):
    """Which axis of the data points up."""

    Z = "z"
    Y = "y"
    MINUS_Y = "-y"  # axes of a camera, y down

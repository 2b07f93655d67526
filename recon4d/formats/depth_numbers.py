"""What programs mean by the numbers of depth pictures, where nothing else tells."""

from __future__ import annotations

import numpy as np

MILLIMETRE = 0.001
FULL_UINT16 = 65535  # what sensors write where they are blind, beside 0


def metres_of_one(dtype: np.dtype) -> float:
    """Metres that a stored 1 stands for: whole numbers are millimetres, floats metres."""
    return MILLIMETRE if dtype.kind in "ui" else 1.0


def is_blind(raw: np.ndarray) -> np.ndarray:
    """Where z as stored has all bits set (uint16): the sensor saw nothing. Same shape, bool."""
    return (raw == FULL_UINT16) & (raw.dtype == np.uint16)

"""Linear light of recorded colours: what glTF and USD expect where pictures hold sRGB."""

from __future__ import annotations

import numpy as np


def linear_from_srgb(colors: np.ndarray) -> np.ndarray:
    """Linear light 0..1, float32, of sRGB bytes of any shape. Source: IEC 61966-2-1."""
    encoded = np.arange(256) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)[colors]


def linear_from_srgb_uint16(colors: np.ndarray) -> np.ndarray:
    """Linear light, 0..65535, of sRGB bytes. 16 bits: linear bytes would merge dark tones (10 comes back as 13)."""
    table = linear_from_srgb(np.arange(256, dtype=np.uint8))
    return np.round(table.astype(np.float64) * 65535).astype(np.uint16)[colors]

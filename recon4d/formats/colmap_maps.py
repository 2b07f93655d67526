"""Depth and normal maps in COLMAP's own format: ``WIDTH&HEIGHT&CHANNELS&``, then float32 planes, row by row.

Source: COLMAP documentation, "Output format", "Dense reconstruction".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_map(path: Path, values: np.ndarray) -> None:
    """Write depth (H, W), 0 where not known, or normals (H, W, 3) in camera axes."""
    planes = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    channels, height, width = planes.shape
    with open(path, "wb") as file:
        file.write(f"{width}&{height}&{channels}&".encode("ascii"))
        file.write(np.ascontiguousarray(planes, dtype="<f4").tobytes())

"""Depth and normal maps in COLMAP's own format: ``WIDTH&HEIGHT&CHANNELS&``, then float32 planes, row by row.

Source: COLMAP documentation, "Output format", "Dense reconstruction".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recon4d.errors import InputError

_LONGEST_HEAD = 64


def write_map(path: Path, values: np.ndarray) -> None:
    """Write depth (H, W), 0 where not known, or normals (H, W, 3) in camera axes."""
    planes = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    channels, height, width = planes.shape
    with open(path, "wb") as file:
        file.write(f"{width}&{height}&{channels}&".encode("ascii"))
        file.write(np.ascontiguousarray(planes, dtype="<f4").tobytes())


def read_map(path: Path) -> np.ndarray:
    """(H, W) or (H, W, C) float32, reverse of `write_map`. Raises InputError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} is not readable ({error.strerror})") from error
    words = data[:_LONGEST_HEAD].split(b"&")
    if len(words) < 4 or not all(word.isdigit() for word in words[:3]):
        raise InputError(f"{path} is no map of COLMAP: it does not begin with WIDTH&HEIGHT&CHANNELS&")
    width, height, channels = (int(word) for word in words[:3])
    body = data[sum(len(word) + 1 for word in words[:3]) :]
    if len(body) != 4 * width * height * channels:
        raise InputError(f"{path} has {len(body)} bytes of numbers, {4 * width * height * channels} are expected")
    planes = np.frombuffer(body, dtype="<f4").reshape(channels, height, width).astype(np.float32)
    return planes[0] if channels == 1 else np.moveaxis(planes, 0, -1)

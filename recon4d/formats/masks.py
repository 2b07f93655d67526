"""Masks that users bring: which pixels of a frame to ignore."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.pictures import PICTURE_SUFFIXES


def match_masks(folder: Path, frames: Sequence[tuple[str, str]]) -> dict[str, Path]:
    """Mask file of each frame that has one, by name.

    A mask belongs to a frame when its stem is the frame's name, or the name (with or without suffix) of the file the
    frame came from.

    Args:
        frames: rows of (name, source file name).

    Raises:
        InputError: no such folder, two masks for one frame, or not one frame has a mask.
    """
    if not folder.is_dir():
        raise InputError(f"frames: there is no folder of masks {folder}: check --frames.masks")
    by_stem: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in PICTURE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in by_stem:
            raise InputError(f"frames: {by_stem[path.stem]} and {path} are masks of the same frame: take one away")
        by_stem[path.stem] = path
    found = {}
    for name, source_name in frames:
        for key in (name, source_name, Path(source_name).stem):
            if key in by_stem:
                found[name] = by_stem[key]
                break
    if not found:
        raise InputError(
            f"frames: none of the {len(by_stem)} masks in {folder} has the name of a frame "
            f"(such as {frames[0][0]}.png): name each mask after its frame"
        )
    return found


def read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8, 255 = ignore, else 0, brought to ``size`` = (width, height) by the nearest pixel.

    Raises:
        InputError: not a readable picture, of another shape than the frame, or with values that are neither near 0
            nor above 127.
    """
    import cv2

    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint8:
        raise InputError(f"frames: {path} is no readable 8-bit mask")
    values = stored if stored.ndim == 2 else stored[..., :3].max(axis=2)
    height, width = values.shape
    if abs(width / height / (size[0] / size[1]) - 1) > 0.02:
        raise InputError(
            f"frames: mask {path} is {width}x{height}, its upright frame is {size[0]}x{size[1]}: "
            "masks must have the shape of the upright frame"
        )
    if 0 < values.max() <= 127:
        raise InputError(f"frames: mask {path} goes up to {values.max()} only: 255 means ignore, 0 means use")
    ignored = np.where(values > 127, 255, 0).astype(np.uint8)
    return cv2.resize(ignored, size, interpolation=cv2.INTER_NEAREST_EXACT)

"""z-depth as 16-bit grey PNG: whole steps, 0 where nothing is known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from recon4d.formats.depth_numbers import FULL_UINT16
from recon4d.formats.pictures import write_picture

PER_METRE = 1000.0  # millimetres, as nerfstudio, ScanNet and ROS have it
LARGEST = FULL_UINT16 - 1  # all bits set means blind to some readers
LEAST_LARGEST = LARGEST // 10  # thousandths are taken where the farthest depth has at least so many


def steps_per_unit(farthest: float, in_metres: bool) -> float:
    """How many steps a unit has, so that the farthest depth fits: 1000 where it does, else 1, 2 or 5 times 10^n.

    Where the unit is not the metre, 1000 would be too coarse for a small scene; there it is left, too.

    Args:
        farthest: largest depth of all frames, > 0.
    """
    stored = PER_METRE * farthest
    if stored <= LARGEST and (in_metres or stored >= LEAST_LARGEST):
        return PER_METRE
    power = 10.0 ** math.floor(math.log10(LARGEST / farthest))
    return max(factor * power for factor in (1.0, 2.0, 5.0) if factor * power * farthest <= LARGEST)


def write_depth_png(path: Path, depth: np.ndarray, valid: np.ndarray, steps: float) -> None:
    """Write depth (H, W) where valid (H, W) bool; a valid depth is never rounded to 0."""
    stored = np.clip(np.round(depth.astype(np.float64) * steps), 1, LARGEST)
    write_picture(path, np.where(valid, stored, 0).astype(np.uint16))

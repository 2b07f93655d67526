"""Is a model to be trusted? Each refusal is one sentence with the measured number and a way on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import PosesError
from recon4d.formats.colmap_model import sparse_from_reconstruction

if TYPE_CHECKING:
    import pycolmap

# Median over the points of the largest angle between two views. The incremental mapper drops points below 1.5 degrees
# and the global one below 1, so a model of nothing but such points has this for its median.
LEAST_ANGLE_DEG = 1.6


def check_registered(found: int, frames: int, least: float, what: str) -> None:
    """Raise PosesError when less than ``least`` (0..1) of the frames has a pose; ``what`` follows "N of M frames"."""
    if found < max(least * frames, 1):
        raise PosesError(
            f"poses: {found} of {frames} frames ({found / frames:.0%}) {what}, {least:.0%} are needed "
            "(--poses.min-registered): choose frames with more overlap (--frames.stride, --frames.start, "
            "--frames.end), or --poses.source static (tripod: one marked pose) or none (depth alone)"
        )


def check_angle(model: pycolmap.Reconstruction) -> None:
    """Raise PosesError when the points of a model are hardly seen from different sides."""
    angle_deg = sparse_from_reconstruction(model).angle_deg
    median_deg = float(np.median(angle_deg)) if len(angle_deg) else 0.0
    if median_deg < LEAST_ANGLE_DEG:
        raise PosesError(
            f"poses: too little parallax: the median angle between the views of a point is {median_deg:.2f} degrees, "
            f"{LEAST_ANGLE_DEG} are needed: move the camera sideways, or use --poses.source static for a tripod (one "
            "marked pose) or none to make depth alone"
        )

"""Metres from the height of the camera above the ground."""

from __future__ import annotations

import math

import numpy as np

from recon4d.metric.scale import Cue, NoCue

HEIGHT_SIGMA = 0.05  # relative, a guess: people hold a camera 5 % higher or lower than they say


def camera_height_cue(
    plane: tuple[np.ndarray, float, float], centres: np.ndarray, height_m: float, height_sigma_m: float | None = None
) -> Cue:
    """Metres per unit when the cameras are on average ``height_m`` above the ground.

    Args:
        plane: normal (3,), any length but 0, and offset of the ground in the world frame, so that
            (normal . x + offset) / |normal| is the height above it; one standard deviation of that height, scene units.
        centres: (N, 3) camera centres, world frame, scene units.
        height_m: mean height over the clip, metres.
        height_sigma_m: its standard deviation, metres; None for `HEIGHT_SIGMA`.

    Raises:
        NoCue: the cameras do not lie clearly above the plane.
    """
    normal, offset, sigma = np.asarray(plane[0], dtype=np.float64), float(plane[1]), float(plane[2])
    heights = (centres @ normal + offset) / np.linalg.norm(normal)
    height = float(heights.mean())
    if height <= 2 * sigma:
        raise NoCue(
            f"align: the cameras are {height:.3g} ± {sigma:.2g} units above the plane found as ground, too little "
            "or too uncertain for --metric.camera-height: film more of the ground, or give another cue"
        )
    stated = HEIGHT_SIGMA if height_sigma_m is None else height_sigma_m / height_m
    detail = f"mean height {height:.4g} units above the ground, {heights.min():.4g} to {heights.max():.4g}"
    return Cue(f"camera height {height_m:g} m", height_m / height, math.hypot(sigma / height, stated), detail)

"""How far off a refined depth may still be: from the data around a pixel, the springs, and the chance of a mistake."""

from __future__ import annotations

import math

import numpy as np

from recon4d.refine.frame import Refined

WINDOW_PX = 9  # over which the data is averaged: springs carry it about so far
CHAINED = 1.5  # of the standard deviation: terms of neighbouring pixels and views err together more than is allowed for


def spread_sigma(refined: Refined, level: float) -> np.ndarray:
    """(H, W) float32 standard deviation of log inverse depth, as the energy's curvature has it.

    Where springs of strength k tie a grid together on which every pixel is held by h, one pixel's variance is that of
    the lattice,  ln(1 + 32 k / h) / (4 pi k) for large k / h, and never more than its own, 1 / h: the Green function of
    the square lattice at its origin (Economou, Green's functions in quantum physics, section 5.3.2).

    Args:
        level: the pull towards the prior, which holds every pixel a little.
    """
    import cv2

    size = (WINDOW_PX, WINDOW_PX)
    held = cv2.blur(np.nan_to_num(refined.hessian).astype(np.float32), size) + np.float32(level)
    right, down = refined.right, refined.down
    strength = 0.25 * (right + down + np.roll(right, 1, axis=1) + np.roll(down, 1, axis=0))
    strength = np.maximum(cv2.blur(strength.astype(np.float32), size), 1e-3 * held)
    variance = np.minimum(np.log1p(32 * strength / held) / (4 * math.pi * strength), 1 / held)
    return CHAINED * np.sqrt(variance)

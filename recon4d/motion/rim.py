"""The rim of an object: masks are too wide there, depth and flow are mixed with what is behind."""

from __future__ import annotations

import numpy as np

RIM_PX = 2.0  # masks, depth and flow are mixed with what is behind within so many pixels of a silhouette
LEAST_CORE = 30  # pixels; of an object with fewer off its rim all are taken
REACH_PX = 4.0  # over which an object's depth is carried on to its rim
OFF_SURFACE = 0.03  # of log depth beyond the surface near the rim: a floater, or another surface


def core_of(own: np.ndarray, log_depth: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels of an object that can be relied on: off its rim, and on the surface of those far off it.

    Args:
        own: (H, W) bool, its mask.
        log_depth: (H, W), read where ``usable`` (H, W) bool.
    """
    usable = own & usable
    core, deep = usable & off_rim(own), usable & off_rim(own, 2 * RIM_PX)
    if deep.sum() >= LEAST_CORE:
        return core & on_surface(log_depth, deep, own)
    return core if core.sum() >= LEAST_CORE else usable


def off_rim(mask: np.ndarray, rim_px: float = RIM_PX) -> np.ndarray:
    """(H, W) bool: pixels of a mask farther than ``rim_px`` from its border (that of the picture is none)."""
    import cv2

    if not mask.any():
        return mask
    padded = np.pad(mask, 1, mode="edge").astype(np.uint8)
    return (cv2.distanceTransform(padded, cv2.DIST_L2, 5) > rim_px)[1:-1, 1:-1]


def surface_beyond(log_depth: np.ndarray, core: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An object's depth carried on from its core over its mask.

    Args:
        log_depth: (H, W), read where ``core``.
        core: (H, W) bool, at least one.
        own: (H, W) bool, pixels of the object.

    Returns:
        (H, W) log depth: in the core as it is, elsewhere in ``own`` the mean of the core around, weighted by distance
        (that of the nearest core pixel where none is near); and (H, W) bool: where some core is near.
    """
    import cv2
    from scipy.ndimage import distance_transform_edt

    weight = cv2.GaussianBlur(core.astype(np.float32), (0, 0), REACH_PX / 2)
    middle = float(np.median(log_depth[core]))
    summed = cv2.GaussianBlur(np.where(core, log_depth - middle, 0).astype(np.float32), (0, 0), REACH_PX / 2)
    nearest = distance_transform_edt(~core, return_distances=False, return_indices=True)
    near = weight > 1e-3
    carried = np.where(near, summed / np.maximum(weight, 1e-3) + middle, log_depth[tuple(nearest)])
    return np.where(core, log_depth, np.where(own, carried, 0)).astype(np.float32), near


def on_surface(log_depth: np.ndarray, core: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels of ``own`` whose depth lies on the surface the core of the object shows around them."""
    if not core.any():
        return np.zeros_like(own)
    around, near = surface_beyond(log_depth, core, own)
    return own & near & (np.abs(log_depth - around) < OFF_SURFACE)

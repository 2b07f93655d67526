"""Which points of the background a frame sees, by the word of its own depth."""

from __future__ import annotations

import numpy as np

from recon4d.scene.depth import SceneDepth
from recon4d.scene.trajectory import View

SIGMAS = 2.0  # how far the depth of a pixel may be from a point that it shows


def seen_by_depth(
    points: np.ndarray, view: View, depth: SceneDepth, usable: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Points whose z agrees with the depth of the pixel they fall on.

    Args:
        points: (P, 3) in the view's world.
        view: whose camera has the size of the depth.
        depth: units of the world.
        usable: (H, W) bool, pixels that show the background.

    Returns:
        Rows (K,) int of the points that are seen, and where: (K, 2) pixels, first pixel centre (0.5, 0.5).
    """
    in_cam = view.cam_from_world @ points
    rows = np.flatnonzero(in_cam[:, 2] > 0)
    pixels = view.camera.project(in_cam[rows])
    inside = np.all((pixels >= 0) & (pixels < [view.camera.width, view.camera.height]), axis=1)
    rows, pixels = rows[inside], pixels[inside]
    column, line = np.floor(pixels).astype(np.int64).T
    off = np.abs(depth.depth[line, column] - in_cam[rows, 2])
    seen = (depth.valid & usable)[line, column] & (off <= SIGMAS * depth.sigma[line, column])
    return rows[seen], pixels[seen]

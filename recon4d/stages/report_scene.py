"""How large a scene is, from what of it is there."""

from __future__ import annotations

from recon4d.errors import Recon4dError
from recon4d.workspace import Workspace

SHOWN_SHARE = 0.98  # of the points lie within the extent; stray ones would decide it otherwise


def scene_extent(workspace: Workspace, metres: float | None) -> list[float] | None:
    """Width, depth and height of the fused background, else of the sparse points; None where there are neither.

    The last is the height: along up where it is known, else along the cameras' mean upward axis. In metres where
    ``metres`` per unit are known, else in scene units.
    """
    import numpy as np

    from recon4d.view.report_axes import level_axes

    try:
        cloud = workspace.static_cloud().points if workspace.record("fuse") else workspace.sparse_model().points
        level, _ = level_axes(workspace, workspace.trajectory())
    except Recon4dError:
        return None
    if not len(cloud):
        return None
    points = level @ cloud.astype(np.float64)
    tail = (1 - SHOWN_SHARE) / 2
    low, high = np.quantile(points, [tail, 1 - tail], axis=0)
    return [round(float(side), 4) for side in (high - low) * (metres or 1.0)]


def walked_length(workspace: Workspace, metres: float | None) -> float | None:
    """Length of the camera's path, in metres where known; None where there are no poses."""
    import numpy as np

    try:
        centres = workspace.trajectory().centres
    except Recon4dError:
        return None
    return round(float(np.linalg.norm(np.diff(centres, axis=0), axis=1).sum()) * (metres or 1.0), 4)

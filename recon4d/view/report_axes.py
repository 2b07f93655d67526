"""The axes in which a report shows a scene: level, also where up has to be guessed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from recon4d.errors import Recon4dError
from recon4d.scene.trajectory import Trajectory
from recon4d.scene.transforms import Rigid3
from recon4d.workspace import Workspace

Found = TypeVar("Found")


def level_axes(workspace: Workspace, trajectory: Trajectory) -> tuple[Rigid3, bool]:
    """Axes whose third one is up, and whether up is known; else the cameras' mean upward axis stands in."""
    known = found_by_align(workspace, workspace.levelled_from_scene)
    if known is not None:
        return known, True
    up = -trajectory.cam_from_world.rotation[:, 1].mean(axis=0)
    up = up / max(float(np.linalg.norm(up)), 1e-9) if np.linalg.norm(up) > 1e-6 else np.array([0.0, -1.0, 0.0])
    across = np.cross(np.eye(3)[np.argmin(np.abs(up))], up)
    across /= np.linalg.norm(across)
    return Rigid3(np.stack([across, np.cross(up, across), up]), np.zeros(3)), False


def found_by_align(workspace: Workspace, read: Callable[[], Found | None]) -> Found | None:
    """What align found; None also where its file is missing: without it pictures say less, but can be drawn."""
    try:
        return read() if workspace.record("align") is not None else None
    except Recon4dError:
        return None

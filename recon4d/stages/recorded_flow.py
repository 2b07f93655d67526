"""Optical flow for the pictures of a scene: that of files is of the frames as recorded, and is undistorted here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.geometry.resample import sample_grid
from recon4d.motion.flow import FlowSource, Frame, open_flow
from recon4d.poses.lens import Lens, read_lenses, undistort_pixels, undistortion_map

if TYPE_CHECKING:
    from recon4d.scene.trajectory import Trajectory
    from recon4d.workspace import Workspace


def open_scene_flow_source(workspace: Workspace, path: Path | None) -> FlowSource:
    """The source of flow that a path names (see `open_flow`), for undistorted pictures of any size.

    Raises:
        InputError, MissingDependency: nothing there that gives flow.
    """
    source = open_flow(path, [(frame.name, frame.source_name) for frame in workspace.recording().frames])
    if path is None or not path.is_dir():
        return source
    with workspace.reading("poses", "motion") as folder:
        lenses = read_lenses(folder / "lenses.json")
    return UndistortedFlow(source, workspace.unrefined_trajectory(), lenses)


class UndistortedFlow:
    """Flow between undistorted pictures from a source of flow between the frames as they were recorded.

    Args:
        lenses: of the recorded frames, by name.
    """

    on_any_pictures = False

    def __init__(self, recorded: FlowSource, trajectory: Trajectory, lenses: dict[str, Lens]) -> None:
        self._recorded, self._trajectory, self._lenses = recorded, trajectory, lenses

    def knows(self, source: str, target: str) -> bool:
        return self._recorded.knows(source, target)

    def flow(self, source: Frame, target: Frame) -> np.ndarray:
        lens, lens_there = self._lenses[source.name], self._lenses[target.name]
        full = [self._trajectory[frame.name].camera for frame in (source, target)]
        if lens.is_pinhole_like(full[0]) and lens_there.is_pinhole_like(full[1]):
            return self._recorded.flow(source, target)
        flow = self._recorded.flow(_blank(source.name, lens), _blank(target.name, lens_there))
        camera, camera_there = (c.resized(*frame.rgb.shape[1::-1]) for c, frame in zip(full, (source, target)))
        x, y = undistortion_map(lens, camera)
        known = np.isfinite(flow).all(axis=-1)
        (right, there), (down, _) = (sample_grid(flow[..., axis], known, x, y) for axis in (0, 1))
        ends = np.stack([x + right, y + down], axis=-1).reshape(-1, 2)
        landed = undistort_pixels(lens_there, camera_there, ends).reshape(*camera.shape, 2)
        rows, columns = np.indices(camera.shape)
        moved = landed - np.stack([columns + 0.5, rows + 0.5], axis=-1)
        return np.where(there[..., None], moved, np.nan).astype(np.float32)


def _blank(name: str, lens: Lens) -> Frame:
    """A frame as it was recorded, for a source that does not look at pictures."""
    return Frame(name, np.broadcast_to(np.uint8(0), (lens.height, lens.width, 3)))

"""The frames of a depth source: their recorded pictures, and writing depth on the grid of the undistorted ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import DepthError
from recon4d.scene.depth import DepthMap
from recon4d.scene.windows import OverlapPair
from recon4d.workspace import StagePart, Workspace

if TYPE_CHECKING:
    from recon4d.poses.lens import Lens
    from recon4d.scene.camera import Camera


class DepthFrames:
    """What every source that works on recorded pictures needs of a scene. May be used in several threads at once."""

    def __init__(self, workspace: Workspace, part: StagePart) -> None:
        from recon4d.poses.lens import read_lenses

        self.recording = workspace.recording()
        self._trajectory = workspace.unrefined_trajectory()
        self._lenses = read_lenses(workspace.unit_dir("poses") / "lenses.json")
        self._picture_of: dict[str, Path] = dict(zip(self.recording.names, self.recording.pictures))
        self._part = part
        facts = workspace.record("frames").summary
        self.size = int(facts["width"]), int(facts["height"])  # of the recorded pictures
        self.source_size = tuple(facts.get("resized_from") or self.size)  # before they were made smaller
        self.source_frames = int(facts["source_frames"])

    @property
    def names(self) -> tuple[str, ...]:
        """Frames with a pose, in order: those that get depth."""
        return self._trajectory.names

    def picture(self, name: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB as recorded, before undistortion."""
        from recon4d.formats.pictures import read_rgb

        return read_rgb(self._picture_of[name])

    def write(self, name: str, depth: DepthMap) -> None:
        """Undistort the depth of a recorded picture, on a grid as fine as it came, and write ``NAME.npz``.

        Raises:
            DepthError: no pixel has depth.
        """
        from recon4d.formats.arrays import write_depth_map

        if not depth.valid.any():
            raise DepthError(f"depth: frame {name} has no finite number that can be a depth: make the depth again")
        write_depth_map(self._part.path / f"{name}.npz", self.undistorted(name, depth))

    def write_overlap(self, name: str, earlier: DepthMap, later: DepthMap) -> None:
        """Write what two windows said of a recorded picture."""
        from recon4d.formats.windows_json import write_overlap

        earlier, later = self.undistorted(name, earlier), self.undistorted(name, later)
        write_overlap(self._part.path, name, OverlapPair(earlier.values, later.values, earlier.valid & later.valid))

    def write_windows(self, windows: Sequence[Sequence[str]]) -> int:
        """Write which posed frames each window had; the number of windows that had any."""
        from recon4d.formats.windows_json import write_windows

        known = set(self.names)  # frames without a pose have no depth here
        kept = [window for names in windows if (window := [name for name in names if name in known])]
        if kept:
            write_windows(self._part.path, kept)
        return len(kept)

    def undistorted(self, name: str, depth: DepthMap) -> DepthMap:
        """Depth of a recorded picture brought to the undistorted one."""
        return undistorted(depth, self._lenses[name], self._trajectory[name].camera)


def undistorted(depth: DepthMap, lens: Lens, camera: Camera) -> DepthMap:
    """Depth of the recorded picture brought to the undistorted one, on a grid as fine as it came.

    z does not change: both pictures have the same centre and axes, only the ray of a pixel moves.
    """
    from recon4d.geometry.resample import sample_grid
    from recon4d.poses.lens import undistortion_map

    if lens.is_pinhole_like(camera):
        return depth
    height, width = depth.values.shape
    map_x, map_y = undistortion_map(lens, camera.resized(width, height))
    x, y = map_x * (width / lens.width), map_y * (height / lens.height)
    values, valid = sample_grid(depth.values, depth.valid, x, y)
    confidence, _ = sample_grid(depth.confidence, depth.valid, x, y)
    row, column = np.clip(y.astype(int), 0, height - 1), np.clip(x.astype(int), 0, width - 1)
    return DepthMap(depth.kind, values, valid, confidence, depth.provenance[row, column])


def at_picture_size(depth: DepthMap, rgb: np.ndarray) -> DepthMap:
    """Depth of a network brought to the size of its picture, steps along the picture's edges."""
    import cv2

    from recon4d.geometry.guided_upsampling import upsampled
    from recon4d.geometry.resample import resize_grid

    height, width = rgb.shape[:2]
    if depth.values.shape == (height, width):
        return depth
    values, valid = upsampled(depth.values, depth.valid, rgb)
    confidence, _ = resize_grid(depth.confidence, depth.valid, width, height)
    provenance = cv2.resize(depth.provenance, (width, height), interpolation=cv2.INTER_NEAREST)
    return DepthMap(depth.kind, values, valid, np.where(valid, confidence, np.float32(0)), provenance)

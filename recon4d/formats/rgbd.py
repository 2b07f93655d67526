"""Recordings of colour and depth together: what all layouts have in common, and which one a path holds.

Known are a TUM folder (``rgb.txt``, ``depth.txt``), a ScanNet-like one (``color/ depth/ pose/ intrinsic/``), any folder
with colour and depth sub-folders and a calibration file, and Record3D's ``.r3d``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

COLOUR_FOLDERS = ("color", "colour", "rgb", "images")


@dataclass(frozen=True)
class SensorPicture:
    """What a depth sensor saw in one frame, on its own grid."""

    metres: np.ndarray  # (h, w) float32 z-depth; 0 where it saw nothing
    confidence: np.ndarray | None = None  # (h, w) float32, 0..1 as in `DepthMap`; None: the recording does not say


@dataclass(frozen=True)
class RgbdCalibration:
    """How the pixels of both cameras belong together.

    Where a camera is not known, the depth picture covers the colour picture: its maker has registered it.
    """

    color: Camera | None  # of the colour pictures as recorded
    depth: Camera | None  # of the depth pictures as recorded
    color_from_depth: Rigid3  # metres
    source: str  # where this is from, for people

    @property
    def is_registered(self) -> bool:
        """The depth pictures cover the colour pictures as they are."""
        return self.color is None or self.depth is None


@dataclass(frozen=True)
class RgbdFrame:
    """One colour picture and the depth picture of its time."""

    name: str
    source_index: int
    source_name: str
    timestamp_s: float  # of the recording's own clock
    color: str  # where the recording keeps the picture
    depth: str | None  # None: the sensor gave none within the tolerance


@dataclass(frozen=True)
class RgbdPoses:
    """Poses that come with a recording, of the colour camera."""

    names: tuple[str, ...]  # of frames
    world_from_color: Rigid3  # batch (N,), metres, OpenCV axes
    cameras: tuple[Camera, ...] | None  # of the colour pictures as recorded; None: not known
    kind: str  # for people
    doubt: str = ""  # what of the reading the user must check


@dataclass(frozen=True)
class RgbdRecording:
    """A recording that can be read frame by frame."""

    kind: str  # for people
    frames: tuple[RgbdFrame, ...]  # in time order
    calibration: RgbdCalibration
    time_source: str
    files: tuple[Path, ...]  # all that decides about the frames and their depth
    picture: Callable[[RgbdFrame, Path], Path]  # file of the colour picture; may be written to the path given
    depth: Callable[[RgbdFrame], SensorPicture]
    poses: Callable[[], RgbdPoses | None]  # None: it has none


def open_rgbd(path: Path) -> RgbdRecording | None:
    """The recording in a folder or file; None where there is none.

    Raises:
        InputError: it is one by its looks, but something is missing or damaged.
    """
    from recon4d.formats import record3d, rgbd_folder, rgbd_scannet, rgbd_tum

    for layout in (record3d, rgbd_tum, rgbd_scannet, rgbd_folder):
        if layout.is_here(path):
            return layout.open_recording(path)
    return None


def is_rgbd(path: Path) -> bool:
    """Whether a path looks like a recording of colour and depth; nothing is checked."""
    from recon4d.formats import record3d, rgbd_folder, rgbd_scannet, rgbd_tum

    return any(layout.is_here(path) for layout in (record3d, rgbd_tum, rgbd_scannet, rgbd_folder))

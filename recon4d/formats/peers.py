"""What other programs write as depth and cameras: which program wrote a file or folder, told by its contents.

=====================  =================================================  ====================  =======================
program                depth                                              kind                  cameras
=====================  =================================================  ====================  =======================
Depth Anything 3       npz ``depth``, ``conf``; or the folder of npy      scale-free z          world-to-camera, fx..cy
MegaSaM                npz ``depths``                                     scale-free z          camera-to-world, one K
ViPE                   ``depth/NAME.zip`` of EXR (half, channel Z)        metric z (learned)    ``pose``, ``intrinsics``
MonST3R                folder ``frame_0000.npy``, ``conf_0.npy``          scale-free z          ``pred_traj.txt``
MoGe                   a folder per picture with ``depth.exr``            metric (v2) or        field of view only
                                                                          scale-free (v1) z
Video-Depth-Anything   ``NAME_depths.npz``, ``NAME_depths_exr/``          affine disparity      none
DepthCrafter           npz ``depth``, ``frame_0000.exr``, mp4             affine disparity      none
=====================  =================================================  ====================  =======================

An npz of DepthCrafter says by itself no more than a plain stack does: numbers from 0 to 1.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from recon4d.formats.depth_files import DepthFiles, open_depth_files
from recon4d.scene.depth import DepthKind

# Each function is given a path and an npz key or None, and returns None where the files are not of its program.
DEPTH_READERS = (
    "recon4d.formats.peer_npz:read_megasam",
    "recon4d.formats.peer_npz:read_depth_anything_3",
    "recon4d.formats.peer_npz:read_video_depth_anything",
    "recon4d.formats.peer_vipe:read_vipe",
    "recon4d.formats.peer_monst3r:read_monst3r",
    "recon4d.formats.peer_moge:read_moge",
    "recon4d.formats.peer_exr_frames:read_exr_frames",
    "recon4d.formats.depth_video:read_depth_video",
)
CAMERA_READERS = (
    "recon4d.formats.peer_npz:megasam_cameras",
    "recon4d.formats.peer_npz:depth_anything_3_cameras",
    "recon4d.formats.peer_vipe:vipe_cameras",
    "recon4d.formats.peer_monst3r:monst3r_cameras",
    "recon4d.formats.peer_moge:moge_cameras",
)


@dataclass(frozen=True)
class PicturePart:
    """What a program saw of a picture it resized and then cut: pixels of the resized picture."""

    width: int  # of the resized picture, before it was cut
    height: int
    left: int  # what was cut away
    top: int


# (width, height) of a picture given to the program -> the part that it saw, and (width, height) of its grid
PartOfPicture = Callable[[int, int], tuple[PicturePart, tuple[int, int]]]


def part_seen(
    part_of: PartOfPicture | None, grid: tuple[int, int], given: Sequence[tuple[int, int]]
) -> PicturePart | None:
    """What a program saw of a picture, where the size of its grid shows that it cut the picture as it usually does.

    Args:
        grid: (width, height) of what it wrote.
        given: (width, height) of the pictures it may have been given, the likeliest first.
    """
    for size in given if part_of is not None else ():
        part, expected = part_of(*size)
        if expected == grid:
            return part
    return None


@dataclass(frozen=True)
class PeerDepth:
    """Depth as a program wrote it; numbers that are no depth are NaN."""

    files: DepthFiles
    program: str = ""  # "": not known
    kind: DepthKind | None = None  # None: the numbers themselves have to tell
    why: str = ""  # the kind is this one, for people
    otherwise: DepthKind | None = None  # the kind where far things turn out to have the small numbers, or the reverse
    numbers: tuple[int, ...] | None = None  # which picture each row is, as the program counted what it was given
    trust: DepthFiles | None = None  # its own confidence, rows as those of the depth
    doubtful: float = 0.0  # its confidence, less 1, at the threshold below which the program itself drops points
    part: PartOfPicture | None = None

    def confidence(self, row: int) -> np.ndarray | None:
        """(h, w) float32, 0..1, of a row; None where the program says nothing.

        The programs' confidence begins at 1 and has no upper end. Its excess e becomes e / (e + e0), one half at the
        threshold e0 of the program itself; in a clip whose numbers end at 1, they are taken as they are. Raises
        InputError.
        """
        if self.trust is None:
            return None
        raw = np.nan_to_num(self.trust.row(row).astype(np.float32), nan=0.0, posinf=1e6, neginf=0.0)
        if not self._begins_at_1:
            return np.clip(raw, 0.0, 1.0)
        excess = np.maximum(raw - 1.0, 0.0)
        return (excess / (excess + np.float32(self.doubtful))).astype(np.float32)

    @cached_property
    def _begins_at_1(self) -> bool:
        """Of the clip: a single row may be 1 everywhere, which is the least or the most. The first other row tells."""
        for row in range(len(self.trust)):
            raw = self.trust.row(row)
            if (raw > 1.0).any():
                return True
            if (raw < 1.0).any():
                return False
        return False


@dataclass(frozen=True)
class PeerCameras:
    """Cameras as a program wrote them, turned into our conventions: N rows."""

    program: str
    world_from_cam: np.ndarray | None  # (N, 3, 4) float64; None: the program knows no poses
    pinhole: np.ndarray | None  # (N, 4) fx, fy, cx, cy in its pixels, first pixel centre (0.5, 0.5)
    size: tuple[int, int] | None  # (width, height) of its pictures; None: not known
    names: tuple[str, ...] | None = None
    numbers: tuple[int, ...] | None = None  # which picture each row is, as the program counted what it was given
    part: PartOfPicture | None = None


def read_peer_depth(path: Path, key: str | None = None) -> PeerDepth:
    """Open depth of any program, a plain stack or folder where none is recognised. Raises InputError."""
    for place in DEPTH_READERS:
        found = _function(place)(path, key)
        if found is not None:
            return found
    return PeerDepth(open_depth_files(path, key))


def read_peer_cameras(path: Path) -> PeerCameras | None:
    """The cameras beside the depth of a program; None where the files are of none that is known. Raises InputError."""
    for place in CAMERA_READERS:
        found = _function(place)(path)
        if found is not None:
            return found
    return None


def _function(place: str) -> Callable:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


class WithHoles:
    """Rows of other files with NaN where ``holes(raw)`` says that a number is no depth."""

    def __init__(self, files: DepthFiles, holes: Callable[[np.ndarray, int], np.ndarray]) -> None:
        self._files, self._holes = files, holes
        self.names, self.key = files.names, files.key

    def __len__(self) -> int:
        return len(self._files)

    def row(self, index: int) -> np.ndarray:
        raw = self._files.row(index)
        values = np.array(raw, dtype=np.float32)
        values[self._holes(raw, index)] = np.nan
        return values

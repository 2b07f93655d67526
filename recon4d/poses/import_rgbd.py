"""Poses that an RGB-D recording brings along, with the lens of its colour camera."""

from __future__ import annotations

from pathlib import Path

from recon4d.errors import InputError
from recon4d.formats.rgbd import is_rgbd, open_rgbd
from recon4d.poses.import_rows import COLMAP_PLACES, ImportedPoses
from recon4d.poses.lens import Lens


def read_rgbd_poses(path: Path) -> ImportedPoses | None:
    """Poses of the colour camera of an RGB-D recording; None where the path is none, or a COLMAP model, too.

    Raises:
        InputError: the recording has no poses, or is damaged.
    """
    if not is_rgbd(path) or any(any((path / place).glob("images.*")) for place in COLMAP_PLACES):
        return None
    recording = open_rgbd(path)
    poses = recording.poses()
    if poses is None:
        raise InputError(
            f"poses: the {recording.kind} {path} has no poses (TUM has groundtruth.txt, ScanNet pose/, other folders "
            "poses.txt): use --poses.source colmap"
        )
    lenses = None
    if poses.cameras is not None:
        lenses = tuple(
            Lens("PINHOLE", camera.width, camera.height, (camera.fx, camera.fy, camera.cx, camera.cy))
            for camera in poses.cameras
        )
    return ImportedPoses(poses.kind, poses.world_from_color, names=poses.names, lenses=lenses, doubt=poses.doubt)

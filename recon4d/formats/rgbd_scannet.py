"""RGB-D recordings as ScanNet's tools export them: ``color/ depth/ pose/ intrinsic/``, files named by frame number."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.rgbd import RgbdCalibration, RgbdFrame, RgbdPoses, RgbdRecording
from recon4d.formats.rgbd_files import (
    camera_of_matrix,
    checked_size,
    has_pictures,
    read_matrix,
    read_metres,
    rigid_of_matrix,
    stored_size,
)
from recon4d.formats.rgbd_folder import frames_by_stem
from recon4d.formats.rgbd_poses import of_color
from recon4d.scene.transforms import Rigid3

FPS = 30.0
COLOUR_LENS, DEPTH_LENS = "intrinsic/intrinsic_color.txt", "intrinsic/intrinsic_depth.txt"
COLOUR_MOTION, DEPTH_MOTION = "intrinsic/extrinsic_color.txt", "intrinsic/extrinsic_depth.txt"


def is_here(path: Path) -> bool:
    if not (path.is_dir() and (path / "color").is_dir() and (path / "depth").is_dir()):
        return False
    return ((path / "pose").is_dir() or (path / "intrinsic").is_dir()) and not has_pictures(path)


def open_recording(path: Path) -> RgbdRecording:
    """Match the files and read the calibration. Raises InputError."""
    frames = frames_by_stem(path, "color", "depth", FPS)
    depth_of_first = next((frame.depth for frame in frames if frame.depth is not None), None)
    if depth_of_first is None:
        raise InputError(f"frames: no picture of {path / 'color'} has a depth picture of its name in {path / 'depth'}")
    calibration = _calibration(path, path / frames[0].color, path / depth_of_first)
    texts = [path / name for name in (COLOUR_LENS, DEPTH_LENS, COLOUR_MOTION, DEPTH_MOTION)]
    pictures = [path / frame.color for frame in frames]
    depths = [path / frame.depth for frame in frames if frame.depth is not None]
    return RgbdRecording(
        kind="ScanNet-like RGB-D recording",
        frames=frames,
        calibration=calibration,
        time_source=f"frame number / {FPS:g} s",
        files=tuple([file for file in texts if file.is_file()] + pictures + depths),
        picture=lambda frame, scratch: path / frame.color,
        depth=lambda frame: checked_size(read_metres(path / frame.depth, None), path / frame.depth, calibration.depth),
        poses=lambda: _poses(path, frames, calibration),
    )


def _calibration(path: Path, color: Path, depth: Path) -> RgbdCalibration:
    """``extrinsic_depth.txt`` brings points of the depth camera to the colour camera; the other one is the identity."""
    if not (path / COLOUR_LENS).is_file():
        return RgbdCalibration(None, None, Rigid3.identity(), f"no {COLOUR_LENS}: depth is taken as registered")
    color_camera = camera_of_matrix(read_matrix(path / COLOUR_LENS), stored_size(color), path / COLOUR_LENS)
    if not (path / DEPTH_LENS).is_file():
        return RgbdCalibration(color_camera, None, Rigid3.identity(), COLOUR_LENS)
    height, width = read_metres(depth, None).metres.shape
    depth_camera = camera_of_matrix(read_matrix(path / DEPTH_LENS), (width, height), path / DEPTH_LENS)
    motion = _motion(path / DEPTH_MOTION)
    if np.abs(_motion(path / COLOUR_MOTION).matrix - np.eye(4)).max() > 1e-6:
        raise InputError(
            f"{path / COLOUR_MOTION} is not the identity: the poses are then of no known camera; put the motion from "
            f"depth to colour into {DEPTH_MOTION}"
        )
    return RgbdCalibration(color_camera, depth_camera, motion, f"{COLOUR_LENS} and {DEPTH_LENS}")


def _motion(path: Path) -> Rigid3:
    return rigid_of_matrix(read_matrix(path), str(path)) if path.is_file() else Rigid3.identity()


def _poses(path: Path, frames: tuple[RgbdFrame, ...], calibration: RgbdCalibration) -> RgbdPoses | None:
    """``pose/NUMBER.txt``, of the depth camera; infinite where tracking was lost."""
    names, matrices = [], []
    for frame in frames:
        file = path / "pose" / f"{frame.name}.txt"
        if file.is_file():
            matrix = read_matrix(file)
            if np.isfinite(matrix).all():
                names.append(frame.name)
                matrices.append(rigid_of_matrix(matrix, str(file)))
    if not names:
        return None
    world_from_depth = Rigid3(
        np.array([pose.rotation for pose in matrices]), np.array([pose.translation for pose in matrices])
    )
    cameras = None if calibration.color is None else (calibration.color,) * len(names)
    poses = of_color(world_from_depth, calibration.color_from_depth)
    return RgbdPoses(tuple(names), poses, cameras, "pose folder of a ScanNet-like recording")

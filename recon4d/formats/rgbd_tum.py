"""RGB-D recordings as the TUM benchmark lays them out: lists of times and files, depth of 5000 per metre."""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.rgbd import RgbdCalibration, RgbdFrame, RgbdPoses, RgbdRecording
from recon4d.formats.rgbd_calibration import calibration_file, read_calibration
from recon4d.formats.rgbd_files import checked_size, has_pictures, pairs_by_time, read_metres
from recon4d.formats.rgbd_poses import poses_at
from recon4d.formats.trajectories import read_tum
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

COLOUR_LIST, DEPTH_LIST, TRUTH = "rgb.txt", "depth.txt", "groundtruth.txt"
METRES_PER_VALUE = 1 / 5000
# The benchmark asks to use the Kinect driver's lens for all its recordings, because their depth was registered with it.
TUM_CAMERA = Camera(640, 480, 525.0, 525.0, 320.0, 240.0)  # 319.5, 239.5 where pixel centres count 0, 1, 2
TUM_NAME = "freiburg"


def is_here(path: Path) -> bool:
    return path.is_dir() and (path / COLOUR_LIST).is_file() and not has_pictures(path)


def open_recording(path: Path) -> RgbdRecording:
    """Read the lists. Raises InputError."""
    if not (path / DEPTH_LIST).is_file():
        raise InputError(
            f"frames: {path} has {COLOUR_LIST} and no {DEPTH_LIST}: a TUM recording has both (lines 'time file'); for "
            "its colour alone give the folder of pictures"
        )
    colour, depth = _read_list(path / COLOUR_LIST), _read_list(path / DEPTH_LIST)
    pairs = pairs_by_time(np.array([time for time, _ in colour]), np.array([time for time, _ in depth]))
    frames = tuple(
        RgbdFrame(
            name=PurePosixPath(file).stem,
            source_index=row,
            source_name=PurePosixPath(file).name,
            timestamp_s=time_s,
            color=file,
            depth=depth[pairs[row]][1] if row in pairs else None,
        )
        for row, (time_s, file) in enumerate(colour)
    )
    if len({frame.name for frame in frames}) < len(frames):
        raise InputError(f"frames: {path / COLOUR_LIST} names a picture twice: take one line away")
    own = calibration_file(path)
    told = read_calibration(own) if own is not None else None
    calibration = told.calibration if told else _calibration(path)
    scale = told.metres_per_value if told and told.metres_per_value else METRES_PER_VALUE
    invalid = told.invalid if told else ()
    lists = [path / name for name in (COLOUR_LIST, DEPTH_LIST)] + ([own] if own is not None else [])
    pictures = [path / frame.color for frame in frames]
    depths = [path / frame.depth for frame in frames if frame.depth is not None]
    return RgbdRecording(
        kind="TUM RGB-D recording",
        frames=frames,
        calibration=calibration,
        time_source=COLOUR_LIST,
        files=tuple(lists + pictures + depths),
        picture=lambda frame, scratch: path / frame.color,
        depth=lambda frame: checked_size(
            read_metres(path / frame.depth, scale, invalid), path / frame.depth, calibration.depth
        ),
        poses=lambda: _poses(path, frames, calibration),
    )


def _calibration(path: Path) -> RgbdCalibration:
    if TUM_NAME in path.resolve().name.lower():
        return RgbdCalibration(TUM_CAMERA, None, Rigid3.identity(), "TUM's lens for all its recordings")
    return RgbdCalibration(None, None, Rigid3.identity(), "depth in a TUM recording is registered")


def _read_list(path: Path) -> list[tuple[float, str]]:
    """Times and files, in time order. Raises InputError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"frames: {path} is not a readable text file ({error})") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        words = line.replace(",", " ").split(maxsplit=1)
        if not words or words[0].startswith("#"):
            continue
        time_s = _number(words[0])
        file = PurePosixPath(words[1].strip()) if len(words) == 2 else None
        if time_s is None or file is None or file.is_absolute() or ".." in file.parts:
            raise InputError(
                f"frames: {path}, line {number}: {line[:60]!r} is not a time in seconds and a file below the folder"
            )
        if not (path.parent / file).is_file():
            raise InputError(f"frames: {path}, line {number}: {file} is not there")
        rows.append((time_s, str(file)))
    if not rows:
        raise InputError(f"frames: {path} names no file: lines 'time file' are expected")
    return sorted(rows)


def _number(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _poses(path: Path, frames: tuple[RgbdFrame, ...], calibration: RgbdCalibration) -> RgbdPoses | None:
    """The motion capture's poses at the times of the pictures."""
    if not (path / TRUTH).is_file():
        return None
    return poses_at(frames, *read_tum(path / TRUTH), calibration, f"{TRUTH} of a TUM recording")

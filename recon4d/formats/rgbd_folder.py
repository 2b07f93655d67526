"""RGB-D recordings in folders of their own layout: colour and depth sub-folders and a calibration file."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from recon4d.errors import InputError
from recon4d.formats.depth_files import DEPTH_SUFFIXES
from recon4d.formats.natural import natural_key
from recon4d.formats.photos import list_pictures
from recon4d.formats.rgbd import COLOUR_FOLDERS, RgbdFrame, RgbdPoses, RgbdRecording
from recon4d.formats.rgbd_calibration import CalibrationFile, calibration_file, read_calibration
from recon4d.formats.rgbd_files import checked_size, has_pictures, read_metres
from recon4d.formats.rgbd_poses import of_color, poses_at
from recon4d.formats.trajectories import read_tum

DEPTH = "depth"
USUAL_FPS = 30.0
OF_COLOUR = ("poses_color_tum.txt", "poses_color.txt", "groundtruth.txt", "trajectory.txt", "poses.txt")
OF_DEPTH = ("poses_depth_tum.txt", "poses_depth.txt")


def is_here(path: Path) -> bool:
    return path.is_dir() and (path / DEPTH).is_dir() and _colour_folder(path) is not None and not has_pictures(path)


def _colour_folder(path: Path) -> str | None:
    return next((name for name in COLOUR_FOLDERS if (path / name).is_dir()), None)


def open_recording(path: Path) -> RgbdRecording:
    """Match the files and read the calibration. Raises InputError."""
    colour, file = _colour_folder(path), calibration_file(path)
    if file is None:
        raise InputError(
            f"frames: {path} has {colour}/ and {DEPTH}/ but no calibration.json, which says how their pixels belong "
            f"together: write one with the color_camera (and depth_camera), or give {path / colour} for colour alone"
        )
    told = read_calibration(file)
    frames = frames_by_stem(path, colour, DEPTH, told.fps)
    pictures = [path / frame.color for frame in frames]
    depths = [path / frame.depth for frame in frames if frame.depth is not None]
    calibration = told.calibration
    return RgbdRecording(
        kind="RGB-D recording",
        frames=frames,
        calibration=calibration,
        time_source=f"frame number / {told.fps or USUAL_FPS:g} s",
        files=(file, *pictures, *depths),
        picture=lambda frame, scratch: path / frame.color,
        depth=lambda frame: checked_size(
            read_metres(path / frame.depth, told.metres_per_value, told.invalid), path / frame.depth, calibration.depth
        ),
        poses=lambda: _poses(path, frames, told),
    )


def frames_by_stem(path: Path, colour: str, depth: str, fps: float | None) -> tuple[RgbdFrame, ...]:
    """Colour pictures in natural order with the depth files of the same stem.

    Times are frame numbers over ``fps`` where every stem ends in a number that rises and a rate is known, else places
    over the rate. Raises InputError where no colour picture is there.
    """
    pictures, _ = list_pictures(path / colour)
    files = (file for file in (path / depth).iterdir() if file.suffix.lower() in DEPTH_SUFFIXES)
    depth_of: dict[str, str] = {}
    for file in sorted(file for file in files if not file.name.startswith(".")):
        if depth_of.setdefault(file.stem, f"{depth}/{file.name}") != f"{depth}/{file.name}":
            raise InputError(
                f"frames: {path} has both {depth_of[file.stem]} and {depth}/{file.name}: take the one away that is not "
                "the sensor's depth"
            )
    if len({picture.stem for picture in pictures}) < len(pictures):
        raise InputError(f"frames: two pictures in {path / colour} differ only in their suffix: take one away")
    times = _times([picture.stem for picture in pictures], fps)
    frames = (
        RgbdFrame(picture.stem, row, picture.name, times[row], f"{colour}/{picture.name}", depth_of.get(picture.stem))
        for row, picture in enumerate(sorted(pictures, key=lambda picture: natural_key(picture.name)))
    )
    return tuple(frames)


def _times(stems: Sequence[str], fps: float | None) -> list[float]:
    if fps is not None:
        ends = [re.search(r"([0-9]{1,9})$", stem) for stem in stems]
        numbers = [int(end.group(1)) for end in ends if end]
        if len(numbers) == len(stems) and all(a < b for a, b in pairwise(numbers)):
            return [number / fps for number in numbers]
    return [row / (fps or USUAL_FPS) for row in range(len(stems))]


def _poses(path: Path, frames: tuple[RgbdFrame, ...], told: CalibrationFile) -> RgbdPoses | None:
    """A trajectory beside the pictures: by time, or line by line where there is one for each picture."""
    of_depth = not any((path / name).is_file() for name in OF_COLOUR)
    file = next((path / name for name in OF_COLOUR + OF_DEPTH if (path / name).is_file()), None)
    if file is None:
        return None
    times_s, poses = read_tum(file)
    calibration = told.calibration
    if of_depth:
        poses = of_color(poses, calibration.color_from_depth)
    kind = f"{file.name} of an RGB-D recording"
    if len(times_s) != len(frames):
        return poses_at(frames, times_s, poses, calibration, kind)
    found = None
    with contextlib.suppress(InputError):  # of another clock
        found = poses_at(frames, times_s, poses, calibration, kind)
    if found is not None and len(found.names) == len(frames):
        return found
    return RgbdPoses(
        tuple(frame.name for frame in frames),
        poses,
        (calibration.color,) * len(frames),
        f"{file.name}, one line per picture",
        f"the times in {file.name} are not those of the pictures; it has as many lines as there are pictures, so each "
        "line is taken for one of them: check this, or write the times of the pictures",
    )

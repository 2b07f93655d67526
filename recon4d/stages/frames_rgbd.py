"""Frames of an RGB-D recording: its colour pictures, and beside them what the sensor saw in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import InputError, OptionsError
from recon4d.formats.photos import Photo, fitted_size, read_photo, read_photo_header, resized
from recon4d.formats.rgbd import RgbdFrame, RgbdRecording, SensorPicture
from recon4d.formats.sensor_depth import FOLDER, write_cameras, write_sensor_picture
from recon4d.geometry.shots import sharpness
from recon4d.scene.recording import Frame
from recon4d.stages.frames_photos import suffix_of, write_photo
from recon4d.stages.frames_survey import SHARPNESS_SIZE, Survey
from recon4d.workspace import StagePart

if TYPE_CHECKING:
    from recon4d.stages.frames import FramesOptions

SCRATCH = ".colour.jpg"  # in the part: a picture on its way out of an archive
WHITE = 255  # recordings have 8-bit colour
SAME_SHAPE = 0.02  # of the sides' ratio, between a picture and what its calibration says


def survey_rgbd(part: StagePart, options: FramesOptions, recording: RgbdRecording) -> Survey:
    """The frames that have depth, at the times of the recording.

    Raises:
        InputError: no frame has depth, or none is within --start and --end; damaged pictures or another shape.
        OptionsError: a shot other than 0 is wanted.
    """
    if options.shot:
        raise OptionsError(f"frames: --shot {options.shot} does not exist: an RGB-D recording is one shot, number 0")
    part.progress.say(
        f"  {recording.kind} of {len(recording.frames)} frames; calibration: {recording.calibration.source}"
    )
    usable = _with_depth(part, recording)
    start_s = recording.frames[0].timestamp_s
    end_s = float("inf") if options.end is None else options.end
    within = [frame for frame in usable if (options.start or 0.0) <= frame.timestamp_s - start_s <= end_s]
    if not within:
        raise InputError(
            f"frames: no frame of the {recording.kind} lies within --start and --end: "
            f"they end at {usable[-1].timestamp_s - start_s:.2f} s"
        )
    times = [frame.timestamp_s - start_s for frame in within]
    first = _photo(recording, within[0], part.path)
    size = first.width, first.height
    _check_calibration(recording, size)
    color = recording.calibration.color
    gaps = np.diff([frame.timestamp_s for frame in recording.frames])
    return Survey(
        indices=[frame.source_index for frame in within],
        timestamps_s=times,
        sharpnesses=_sharpnesses(part, recording, within) if options.sharpest else None,
        frame_at=lambda at: Frame(within[at].name, within[at].source_index, within[at].source_name, times[at], 0),
        write=lambda part, frames, fitted: _write(part, frames, recording, size, fitted),
        size=size,
        focal_px=None if color is None else color.resized(*size).fx,
        focal_source=recording.calibration.source,
        facts={
            "kind": "rgbd",
            "recording": recording.kind,
            "source_frames": len(recording.frames),
            "source_fps": round(1 / float(np.median(gaps)), 4) if len(gaps) and np.median(gaps) > 0 else None,
            "shots": 1,
            "shot": 0,
            "rotation_deg": 0,
            "timestamps": recording.time_source,
            "without_depth": len(recording.frames) - len(usable),
        },
    )


def _with_depth(part: StagePart, recording: RgbdRecording) -> list[RgbdFrame]:
    """Frames with a depth picture: later stages need some depth of every frame."""
    usable = [frame for frame in recording.frames if frame.depth is not None]
    bare = [frame.name for frame in recording.frames if frame.depth is None]
    if not usable:
        raise InputError(
            f"frames: none of the {len(recording.frames)} frames of the {recording.kind} has a depth picture: check "
            "the names or times of its depth, or give its colour pictures alone"
        )
    if bare:
        part.warn(
            f"{len(bare)} of {len(recording.frames)} frames have no depth picture and are left out (such as {bare[0]})"
        )
    return usable


def _photo(recording: RgbdRecording, frame: RgbdFrame, folder: Path) -> Photo:
    """The picture as stored: calibration, depth and poses are those of its pixels, whatever its EXIF asks for."""
    photo = read_photo_header(recording.picture(frame, folder / SCRATCH))
    if photo.bits != 8:
        raise InputError(f"frames: {photo.path} has {photo.bits} bits, RGB-D recordings have 8-bit colour: convert it")
    if photo.orientation == 1:
        return photo
    turned = photo.orientation >= 5
    width, height = (photo.height, photo.width) if turned else (photo.width, photo.height)
    return replace(photo, width=width, height=height, orientation=1, is_plain=False)


def _check_calibration(recording: RgbdRecording, size: tuple[int, int]) -> None:
    color = recording.calibration.color
    if color is not None and abs(color.width * size[1] / (color.height * size[0]) - 1) > SAME_SHAPE:
        raise InputError(
            f"frames: the colour pictures are {size[0]}x{size[1]}, their calibration ({recording.calibration.source}) "
            f"is for {color.width}x{color.height}: correct it"
        )


def _sharpnesses(part: StagePart, recording: RgbdRecording, frames: Sequence[RgbdFrame]) -> list[float]:
    values = []
    with part.progress.bar("measuring sharpness", len(frames)) as bar:
        for frame in frames:
            photo = _photo(recording, frame, part.path)
            luma = read_photo(photo, WHITE).mean(axis=2).astype(np.uint8)
            values.append(sharpness(resized(luma, fitted_size(photo.width, photo.height, SHARPNESS_SIZE))))
            bar.advance()
    return values


def _write(
    part: StagePart,
    frames: Sequence[Frame],
    recording: RgbdRecording,
    size: tuple[int, int],
    fitted: tuple[int, int],
) -> None:
    """Pictures of the chosen frames, their depth, and both cameras."""
    of_name = {frame.name: frame for frame in recording.frames}
    folder = part.path / FOLDER
    folder.mkdir(exist_ok=True)
    for name in part.pending([frame.name for frame in frames], "writing frames and depth"):
        photo = _photo(recording, of_name[name], part.path)
        if (photo.width, photo.height) != size:
            raise InputError(
                f"frames: frame {name} is {photo.width}x{photo.height}, others are {size[0]}x{size[1]}: all pictures "
                "of a recording must have one size"
            )
        seen = recording.depth(of_name[name])
        _check_shape(recording, name, seen, size)
        write_sensor_picture(folder, name, seen)
        write_photo(photo, part.path / f"{name}{suffix_of(photo.path)}", fitted, WHITE)
    (part.path / SCRATCH).unlink(missing_ok=True)
    color = recording.calibration.color
    write_cameras(folder, replace(recording.calibration, color=None if color is None else color.resized(*fitted)))


def _check_shape(recording: RgbdRecording, name: str, seen: SensorPicture, size: tuple[int, int]) -> None:
    """Depth that is said to cover the picture must have its shape."""
    height, width = seen.metres.shape
    if recording.calibration.is_registered and abs(width * size[1] / (height * size[0]) - 1) > SAME_SHAPE:
        raise InputError(
            f"depth: frame {name} has depth of {width}x{height} and a picture of {size[0]}x{size[1]}: their sides "
            "differ in proportion, so one does not cover the other; a calibration.json with both cameras can say how"
        )

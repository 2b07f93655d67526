"""The frames stage: the recording becomes upright 8-bit pictures with names and times, of one shot."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from recon4d.errors import InputError, OptionsError
from recon4d.formats.frames_table import write_frames_table
from recon4d.formats.path_text import is_text, shown
from recon4d.formats.pictures import PICTURE_SUFFIXES, write_picture
from recon4d.formats.rgbd import is_rgbd, open_rgbd
from recon4d.formats.text_files import write_text
from recon4d.progress import Progress
from recon4d.scene.recording import Frame
from recon4d.stages.common import BY_CONTENT, content_hash, execute, stage_key
from recon4d.workspace import StagePart, StageRecord, Workspace

if TYPE_CHECKING:
    from recon4d.stages.frames_survey import Survey

VERSION = 2


@dataclass(frozen=True)
class FramesOptions:
    """Which frames of the recording are used, and how large."""

    stride: int | None = None
    """Take every N-th frame. Left out: the smallest stride with which --max-frames frames cover the clip."""
    fps: float | None = None
    """Take this many frames per second, by the true times of the recording (not together with --stride)."""
    max_frames: int = 300
    """Most frames to take: spread over the clip, or its first ones when --stride or --fps is given."""
    max_size: int = 1280
    """Longest side of the pictures, pixels; larger ones are made smaller, none is enlarged."""
    start: float | None = None
    """Leave out what comes before this time, seconds from the first frame."""
    end: float | None = None
    """Leave out what comes after this time, seconds from the first frame."""
    sharpest: bool = False
    """Take the sharpest frame of each group that --stride or --fps makes, instead of the first or nearest."""
    shot: int | None = None
    """Number of the shot to use, from 0, when the video has cuts. Left out: the longest."""
    picture_format: Literal["jpg", "png"] = "jpg"
    """File format of frames taken from a video: jpg (quality 97) or png (lossless, about three times as large)."""
    masks: Path | None = field(default=None, metadata=BY_CONTENT)
    """Folder of masks named like the frames or their pictures: 255 = ignore this pixel, 0 = use it."""


def run(workspace: Workspace, options: FramesOptions, source: Path, progress: Progress | None = None) -> StageRecord:
    """Write ``frames/`` from a video file, a folder of pictures, one picture or an RGB-D recording.

    Raises:
        InputError: the source or a mask cannot be used.
        OptionsError: options that contradict each other or this source.
    """
    check_options(options)
    source = Path(source)
    check_source(source)
    survey = _survey_of(source)
    return execute(
        workspace,
        "frames",
        VERSION,
        options,
        reads=(),
        work=lambda part: {"recording": str(source), **_work(part, options, survey(part, options, source))},
        progress=progress,
        extra_key=source_key(source),
    )


def check_source(source: Path) -> None:
    """Raise InputError where there is no file or folder to read, or its path cannot be written down."""
    if not is_text(source):
        raise InputError(f"frames: the path {shown(source)} is not valid UTF-8: rename the file or folder")
    if not source.exists():
        raise InputError(f"frames: there is no {source}: check the path of the video or folder of pictures")
    if not (source.is_file() or source.is_dir()):
        raise InputError(f"frames: {source} is neither a file nor a folder: give a video file or a folder of pictures")
    if not os.access(source, os.R_OK):
        raise InputError(f"frames: {source} cannot be read: check its permissions")


def source_key(source: Path) -> object:
    """What of the source enters the stage's key: its bytes; of a folder only what is read, so that a scene written
    below it does not change the key."""
    recording = open_rgbd(source)
    if recording is not None:
        read = [[str(file.relative_to(source)), content_hash(file)] for file in recording.files]
        return [recording.kind, recording.calibration.source, read]  # the first two may hang on the folder's name
    if _is_video(source):
        return content_hash(source)
    from recon4d.stages.frames_photos import pictures_of

    return [[picture.name, content_hash(picture)] for picture in pictures_of(source)[0]]


def made_from(workspace: Workspace, source: Path) -> bool:
    """Whether the frames of a scene are what their options make of this source as it is now."""
    record = workspace.record("frames")
    return stage_key("frames", VERSION, FramesOptions(**record.options), {}, source_key(source)) == record.key


def _is_video(source: Path) -> bool:
    return source.is_file() and source.suffix.lower() not in PICTURE_SUFFIXES


def _survey_of(source: Path) -> Callable[[StagePart, FramesOptions, Path], Survey]:
    if is_rgbd(source):
        return _survey_rgbd
    return _survey_video if _is_video(source) else _survey_pictures


def _survey_rgbd(part: StagePart, options: FramesOptions, source: Path) -> Survey:
    from recon4d.stages.frames_rgbd import survey_rgbd

    return survey_rgbd(part, options, open_rgbd(source))


def _survey_video(part: StagePart, options: FramesOptions, source: Path) -> Survey:
    from recon4d.stages.frames_video import survey_video

    return survey_video(part, options, source)


def _survey_pictures(part: StagePart, options: FramesOptions, source: Path) -> Survey:
    from recon4d.stages.frames_photos import pictures_of, survey_pictures

    return survey_pictures(part, options, *pictures_of(source))


def check_options(options: FramesOptions) -> None:
    """Raise OptionsError for values that are out of range or contradict each other."""
    if options.stride is not None and options.fps is not None:
        raise OptionsError("frames: --stride and --fps both say which frames to take: give one of them")
    for name in ("stride", "fps", "max_frames", "max_size"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise OptionsError(f"frames: --{name.replace('_', '-')} is {value}, a number above 0 is expected")
    if options.shot is not None and options.shot < 0:
        raise OptionsError(f"frames: --shot is {options.shot}, shots are counted from 0")
    if options.start is not None and options.end is not None and options.start >= options.end:
        raise OptionsError(f"frames: --start {options.start} is not before --end {options.end}")
    if options.masks is not None and not is_text(options.masks):
        raise OptionsError(f"frames: the path --masks {shown(options.masks)} is not valid UTF-8: rename the folder")


def _work(part: StagePart, options: FramesOptions, survey: Survey) -> dict[str, object]:
    from recon4d.formats.photos import fitted_size

    size = fitted_size(*survey.size, options.max_size)
    chosen, stride = _choose(part, options, survey)
    frames = [survey.frame_at(at) for at in chosen]
    survey.write(part, frames, size)
    if options.masks is not None:
        _write_masks(part, frames, options.masks, size)
    focal_px = None if survey.focal_px is None else survey.focal_px * size[0] / survey.size[0]
    calibration = {"focal_px": focal_px, "source": None if focal_px is None else survey.focal_source}
    write_text(part.path / "calibration.json", json.dumps(calibration) + "\n")
    write_frames_table(part.path / "frames.csv", frames)
    duration_s = frames[-1].timestamp_s - frames[0].timestamp_s
    return {
        "frames": len(frames),
        "width": size[0],
        "height": size[1],
        "fps": round((len(frames) - 1) / duration_s, 4) if duration_s > 0 else None,
        "duration_s": round(duration_s, 6),
        "stride": stride,
        "resized_from": None if size == survey.size else list(survey.size),
        "focal_px": None if focal_px is None else round(focal_px, 2),
        **survey.facts,
    }


def _choose(part: StagePart, options: FramesOptions, survey: Survey) -> tuple[list[int], int | None]:
    """Positions of the frames to take, and the stride (None with --fps)."""
    from recon4d.geometry.shots import choose_by_rate, choose_by_stride, spread_stride

    stride = options.stride
    if options.fps is not None:
        chosen = choose_by_rate(survey.timestamps_s, options.fps, survey.sharpnesses)
    else:
        stride = stride or spread_stride(len(survey.indices), options.max_frames)
        chosen = choose_by_stride(len(survey.indices), stride, survey.sharpnesses)
    if len(chosen) > options.max_frames:
        part.warn(
            f"only the first {options.max_frames} of {len(chosen)} frames are used, up to "
            f"{survey.timestamps_s[chosen[options.max_frames - 1]]:.2f} s: --frames.max-frames sets the number"
        )
    return chosen[: options.max_frames], stride


def _write_masks(part: StagePart, frames: Sequence[Frame], masks: Path, size: tuple[int, int]) -> None:
    from recon4d.formats.masks import match_masks, read_mask

    mask_of = match_masks(masks, [(frame.name, frame.source_name) for frame in frames])
    missing = [frame.name for frame in frames if frame.name not in mask_of]
    if missing:
        part.warn(
            f"{len(missing)} of {len(frames)} frames have no mask in {masks} (such as {missing[0]}): "
            "nothing is ignored in them"
        )
    (part.path / "mask").mkdir(exist_ok=True)
    name_of = {f"mask/{name}": name for name in mask_of}
    for item in part.pending(list(name_of), "writing masks"):
        name = name_of[item]
        write_picture(part.path / "mask" / f"{name}.png", read_mask(mask_of[name], size))

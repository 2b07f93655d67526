"""The frames stage: the recording becomes upright 8-bit pictures with names and times, of one shot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from recon4d.errors import InputError, OptionsError
from recon4d.formats.frames_table import write_frames_table
from recon4d.formats.pictures import PICTURE_SUFFIXES, write_picture
from recon4d.progress import Progress
from recon4d.scene.recording import Frame
from recon4d.stages.common import BY_CONTENT, content_hash, execute
from recon4d.workspace import StagePart, StageRecord, Workspace, write_text

if TYPE_CHECKING:
    from recon4d.formats.photos import Photo
    from recon4d.formats.video import DecodedFrame, Video

VERSION = 1
SECONDS_PER_PICTURE = 1 / 30  # of pictures that carry no times of their own
_SHARPNESS_SIZE = 640  # px: fine enough to see blur, coarse enough to be quick


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
    """File format of frames taken from a video: jpg (quality 97) or png (lossless, about five times as large)."""
    masks: Path | None = field(default=None, metadata=BY_CONTENT)
    """Folder of masks named like the frames or their pictures: 255 = ignore this pixel, 0 = use it."""


def run(workspace: Workspace, options: FramesOptions, source: Path, progress: Progress | None = None) -> StageRecord:
    """Write ``frames/`` from a video file, a folder of pictures or one picture.

    Raises:
        InputError: the source or a mask cannot be used.
        OptionsError: options that contradict each other or this source.
    """
    check_options(options)
    source = Path(source)
    if not source.exists():
        raise InputError(f"frames: there is no {source}: check the path of the video or folder of pictures")
    if source.is_file() and source.suffix.lower() not in PICTURE_SUFFIXES:
        return execute(
            workspace,
            "frames",
            VERSION,
            options,
            (),
            lambda part: _from_video(part, options, source),
            progress,
            extra_key=content_hash(source),
        )
    pictures, ignored = _pictures_of(source)
    return execute(
        workspace,
        "frames",
        VERSION,
        options,
        (),
        lambda part: _from_pictures(part, options, pictures, ignored),
        progress,
        extra_key=[[picture.name, content_hash(picture)] for picture in pictures],
    )


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


@dataclass(frozen=True)
class _Candidates:
    """Frames of one shot within --start and --end, in order."""

    indices: list[int]  # in the source
    timestamps_s: list[float]
    sharpnesses: list[float] | None  # only where asked for


def _choose(candidates: _Candidates, options: FramesOptions, part: StagePart) -> tuple[list[int], int | None]:
    """Positions of the frames to take, and the stride (None with --fps)."""
    from recon4d.geometry.shots import choose_by_rate, choose_by_stride, spread_stride

    count = len(candidates.indices)
    stride = options.stride
    if options.fps is not None:
        chosen = choose_by_rate(candidates.timestamps_s, options.fps, candidates.sharpnesses)
    else:
        stride = stride or spread_stride(count, options.max_frames)
        chosen = choose_by_stride(count, stride, candidates.sharpnesses)
    if len(chosen) > options.max_frames:
        part.warn(
            f"the first {options.max_frames} of {len(chosen)} frames are used, up to "
            f"{candidates.timestamps_s[chosen[options.max_frames - 1]]:.2f} s (--frames.max-frames sets the number)"
        )
    return chosen[: options.max_frames], stride


def _nothing_left(options: FramesOptions, source: Path, last_s: float) -> InputError:
    return InputError(
        f"frames: {source} has no usable frame between --start {options.start} and --end {options.end} s: "
        f"it ends at {last_s:.2f} s"
    )


# -- video -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scan:
    """What the first walk through a video found, within --start and --end."""

    candidates: _Candidates
    shot_starts: tuple[int, ...]  # positions in the candidates
    first: DecodedFrame
    decoded: int
    source_fps: float | None


def _from_video(part: StagePart, options: FramesOptions, source: Path) -> dict[str, object]:
    from recon4d.formats.photos import fitted_size, focal_px_from_35mm

    scan, square, focal_35mm = _scan(part, options, source)
    shot, candidates = _choose_shot(scan, options, part, source)
    chosen, stride = _choose(candidates, options, part)
    frames = [
        Frame(f"{candidates.indices[at]:06d}", candidates.indices[at], source.name, candidates.timestamps_s[at], shot)
        for at in chosen
    ]
    size = fitted_size(*square, options.max_size)
    _write_video_frames(part, frames, source, size, options.picture_format)
    _write_masks(part, frames, options.masks, size)
    focal_px = None if focal_35mm is None else focal_px_from_35mm(focal_35mm, *size)
    _write_tables(part, frames, focal_px, "container metadata")
    return _summary("video", frames, size, square, stride, focal_px) | {
        "source_frames": scan.decoded,
        "source_fps": scan.source_fps,
        "shots": len(scan.shot_starts),
        "shot": shot,
        "rotation_deg": scan.first.rotation_deg,
        "timestamps": "container",
    }


def _scan(part: StagePart, options: FramesOptions, source: Path) -> tuple[_Scan, tuple[int, int], float | None]:
    """Walk through the video once; also the (width, height) upright with square pixels, and the 35 mm focal length."""
    from recon4d.formats.video import Video
    from recon4d.geometry.shots import THUMBNAIL_SIZE, ShotFinder, sharpness

    finder = ShotFinder()
    indices: list[int] = []
    times: list[float] = []
    sharpnesses: list[float] = []
    first = last = None
    with Video(source) as video:
        with part.progress.bar("looking for cuts", video.expected_frames) as bar:
            for frame in video.frames():
                last = frame
                bar.advance()
                if options.end is not None and frame.timestamp_s > options.end:
                    break
                if frame.damaged or frame.timestamp_s < (options.start or 0.0):
                    continue
                first = first or frame
                indices.append(frame.index)
                times.append(frame.timestamp_s)
                finder.add(frame.thumbnail(THUMBNAIL_SIZE))
                if options.sharpest:
                    sharpnesses.append(sharpness(frame.luma(_SHARPNESS_SIZE)))
            else:
                _say_losses(part, video, last)
        if first is None:
            raise _nothing_left(options, source, last.timestamp_s)
        if first.hdr:
            part.warn(f"{source.name} is HDR ({first.hdr}); its colours are taken without tone mapping and look flat")
        candidates = _Candidates(indices, times, sharpnesses if options.sharpest else None)
        fps = round(last.index / last.timestamp_s, 4) if last.timestamp_s > 0 else None
        scan = _Scan(candidates, finder.starts(), first, video.decoded, fps)
        return scan, _square_size(video, first), video.focal_35mm_mm


def _say_losses(part: StagePart, video: Video, last: DecodedFrame | None) -> None:
    if last is None:
        raise InputError(
            f"frames: not one frame of {video.path} can be decoded: the file is damaged or has no pictures"
        )
    for text in video.losses(last.timestamp_s):
        part.warn(text)


def _square_size(video: Video, frame: DecodedFrame) -> tuple[int, int]:
    """(width, height), upright, with square pixels: stretched, never squeezed, so that no detail is lost."""
    aspect = video.pixel_aspect
    width = round(frame.stored.width * max(1.0, aspect))
    height = round(frame.stored.height * max(1.0, 1.0 / aspect))
    return (height, width) if frame.rotation_deg % 180 else (width, height)


def _choose_shot(scan: _Scan, options: FramesOptions, part: StagePart, source: Path) -> tuple[int, _Candidates]:
    candidates = scan.candidates
    starts = scan.shot_starts
    ends = (*starts[1:], len(candidates.indices))
    lengths = [end - start for start, end in zip(starts, ends)]
    shot = options.shot if options.shot is not None else int(np.argmax(lengths))
    listed = ", ".join(
        f"{number}: {candidates.timestamps_s[start]:.2f}-{candidates.timestamps_s[end - 1]:.2f} s "
        f"({end - start} frames)"
        for number, (start, end) in enumerate(zip(starts, ends))
    )
    if shot >= len(starts):
        raise OptionsError(f"frames: --shot {shot} does not exist; {source.name} has the shots {listed}")
    if len(starts) > 1:
        part.progress.say(f"  {len(starts)} shots: {listed}; shot {shot} is used (choose with --frames.shot)")
    within = slice(starts[shot], ends[shot])
    sharpnesses = candidates.sharpnesses
    return shot, _Candidates(
        candidates.indices[within],
        candidates.timestamps_s[within],
        None if sharpnesses is None else sharpnesses[within],
    )


def _write_video_frames(
    part: StagePart, frames: Sequence[Frame], source: Path, size: tuple[int, int], picture_format: str
) -> None:
    from recon4d.formats.photos import resized
    from recon4d.formats.video import Video

    index_of = {frame.name: frame.source_index for frame in frames}
    with Video(source) as video:
        decoded = video.frames()
        for name in part.pending([frame.name for frame in frames], "writing frames"):
            picture = _rgb_of(decoded, index_of[name], source)
            write_picture(part.path / f"{name}.{picture_format}", resized(picture, size))


def _rgb_of(decoded: Iterator[DecodedFrame], index: int, source: Path) -> np.ndarray:
    for frame in decoded:
        if frame.index == index:
            return frame.rgb()
    raise InputError(
        f"frames: frame {index} of {source} is gone on the second reading: was the file changed meanwhile?"
    )


# -- pictures --------------------------------------------------------------------------------------------------------


def _pictures_of(source: Path) -> tuple[list[Path], list[str]]:
    from recon4d.formats.photos import list_pictures

    if source.is_file():
        return [source], []
    pictures, ignored = list_pictures(source)
    seen: dict[str, Path] = {}
    for picture in pictures:
        if picture.stem in seen:
            raise InputError(
                f"frames: {seen[picture.stem].name} and {picture.name} in {source} would both become frame "
                f"{picture.stem}: rename or take away one of them"
            )
        seen[picture.stem] = picture
    return pictures, ignored


def _from_pictures(
    part: StagePart, options: FramesOptions, pictures: Sequence[Path], ignored: Sequence[str]
) -> dict[str, object]:
    from recon4d.formats.photos import fitted_size, read_photo_header, white_level

    if options.shot:
        raise OptionsError(f"frames: --shot {options.shot} does not exist: a folder of pictures is one shot, number 0")
    if ignored:
        part.progress.say(f"  {len(ignored)} other files beside the pictures are ignored, such as {ignored[0]}")
    photos = [read_photo_header(picture) for picture in pictures]
    _check_same_size(photos)
    times, time_source = _picture_times(photos)
    white = white_level(photos)
    if any(photo.bits == 16 for photo in photos):
        part.progress.say(f"  16-bit pictures: 0..{white} becomes 0..255 in the whole clip")
    if any(photo.has_alpha for photo in photos):
        part.progress.say("  transparent pixels are laid over black")
    chosen, stride = _choose(_picture_candidates(photos, times, white, options, part), options, part)
    frames = [Frame(pictures[at].stem, at, pictures[at].name, times[at], 0) for at in chosen]
    square = (photos[0].width, photos[0].height)
    size = fitted_size(*square, options.max_size)
    _write_photos(part, frames, photos, size, white)
    _write_masks(part, frames, options.masks, size)
    focal_px = _common_focal(photos, size, part)
    _write_tables(part, frames, focal_px, "exif")
    return _summary("pictures", frames, size, square, stride, focal_px) | {
        "source_frames": len(photos),
        "source_fps": None,
        "shots": 1,
        "shot": 0,
        "rotation_deg": {3: 180, 6: 270, 8: 90}.get(photos[0].orientation, 0),
        "timestamps": time_source,
    }


def _check_same_size(photos: Sequence[Photo]) -> None:
    first = photos[0]
    for photo in photos:
        if (photo.width, photo.height) != (first.width, first.height):
            raise InputError(
                f"frames: {first.path.name} is {first.width}x{first.height} and {photo.path.name} is "
                f"{photo.width}x{photo.height} (upright): all pictures must have one size, from one camera held one way"
            )


def _picture_times(photos: Sequence[Photo]) -> tuple[list[float], str]:
    """Seconds from the first picture: by EXIF if that rises from picture to picture, else 30 pictures per second."""
    taken = [photo.taken_s for photo in photos]
    if len(taken) > 1 and None not in taken and all(np.diff(taken) > 0):
        return [time - taken[0] for time in taken], "exif"
    return [index * SECONDS_PER_PICTURE for index in range(len(photos))], "index / 30 s"


def _picture_candidates(
    photos: Sequence[Photo], times: Sequence[float], white: int, options: FramesOptions, part: StagePart
) -> _Candidates:
    start = options.start or 0.0
    end = float("inf") if options.end is None else options.end
    within = [at for at, time in enumerate(times) if start <= time <= end]
    if not within:
        raise _nothing_left(options, photos[0].path.parent, times[-1])
    sharpnesses = [_photo_sharpness(photos[at], white) for at in within] if options.sharpest else None
    return _Candidates(within, [times[at] for at in within], sharpnesses)


def _photo_sharpness(photo: Photo, white: int) -> float:
    from recon4d.formats.photos import fitted_size, read_photo, resized
    from recon4d.geometry.shots import sharpness

    luma = read_photo(photo, white).mean(axis=2).astype(np.uint8)
    return sharpness(resized(luma, fitted_size(photo.width, photo.height, _SHARPNESS_SIZE)))


def _write_photos(
    part: StagePart, frames: Sequence[Frame], photos: Sequence[Photo], size: tuple[int, int], white: int
) -> None:
    from recon4d.formats.photos import read_photo, resized

    photo_of = {frame.name: photos[frame.source_index] for frame in frames}
    for name in part.pending([frame.name for frame in frames], "writing frames"):
        photo = photo_of[name]
        suffix = ".jpg" if photo.path.suffix.lower() in (".jpg", ".jpeg", ".webp") else ".png"
        picture = read_photo(photo, white)  # also where it is copied: a damaged file must not slip through
        if photo.is_plain and size == (photo.width, photo.height):
            # A copy, not a link: an editor that writes into the user's file must not change a finished stage.
            shutil.copyfile(photo.path, part.path / f"{name}{suffix}")
        else:
            write_picture(part.path / f"{name}{suffix}", resized(picture, size))


def _common_focal(photos: Sequence[Photo], size: tuple[int, int], part: StagePart) -> float | None:
    """Focal length in pixels of the written pictures, if the EXIF of all that have one agree."""
    focals = [photo.focal_px for photo in photos if photo.focal_px is not None]
    if not focals:
        return None
    if max(focals) > 1.02 * min(focals):
        part.warn(
            f"the EXIF focal lengths go from {min(focals):.0f} to {max(focals):.0f} px (zoom?): none is used as a "
            "start for the cameras"
        )
        return None
    return float(np.median(focals)) * size[0] / photos[0].width


# -- both ------------------------------------------------------------------------------------------------------------


def _write_masks(part: StagePart, frames: Sequence[Frame], masks: Path | None, size: tuple[int, int]) -> None:
    if masks is None:
        return
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


def _write_tables(part: StagePart, frames: Sequence[Frame], focal_px: float | None, focal_source: str) -> None:
    write_frames_table(part.path / "frames.csv", frames)
    calibration = {"focal_px": focal_px, "source": None if focal_px is None else focal_source}
    write_text(part.path / "calibration.json", json.dumps(calibration) + "\n")


def _summary(
    kind: str,
    frames: Sequence[Frame],
    size: tuple[int, int],
    square: tuple[int, int],
    stride: int | None,
    focal_px: float | None,
) -> dict[str, object]:
    duration_s = frames[-1].timestamp_s - frames[0].timestamp_s
    return {
        "kind": kind,
        "frames": len(frames),
        "width": size[0],
        "height": size[1],
        "fps": round((len(frames) - 1) / duration_s, 4) if duration_s > 0 else None,
        "duration_s": round(duration_s, 6),
        "stride": stride,
        "resized_from": None if size == square else list(square),
        "focal_px": None if focal_px is None else round(focal_px, 2),
    }

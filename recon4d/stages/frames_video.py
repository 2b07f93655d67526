"""Frames of a video: one walk finds times, cuts and sharpness, a second one writes the chosen frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import InputError, OptionsError
from recon4d.formats.photos import focal_px_from_35mm, resized
from recon4d.formats.pictures import write_picture
from recon4d.formats.video import DecodedFrame, Video
from recon4d.geometry.shots import THUMBNAIL_SIZE, ShotFinder, sharpness
from recon4d.scene.recording import Frame
from recon4d.stages.frames_survey import SHARPNESS_SIZE, Survey
from recon4d.workspace import StagePart

if TYPE_CHECKING:
    from recon4d.stages.frames import FramesOptions


@dataclass
class _Walk:
    """What the first walk through the video collects of the frames within the wanted time."""

    finder: ShotFinder = field(default_factory=ShotFinder)
    indices: list[int] = field(default_factory=list)
    timestamps_s: list[float] = field(default_factory=list)
    sharpnesses: list[float] = field(default_factory=list)
    first: DecodedFrame | None = None  # of the usable ones
    last: DecodedFrame | None = None  # of all

    def use(self, frame: DecodedFrame, measure_sharpness: bool) -> None:
        self.first = self.first or frame
        self.indices.append(frame.index)
        self.timestamps_s.append(frame.timestamp_s)
        self.finder.add(frame.thumbnail(THUMBNAIL_SIZE))
        if measure_sharpness:
            self.sharpnesses.append(sharpness(frame.luma(SHARPNESS_SIZE)))


def survey_video(part: StagePart, options: FramesOptions, source: Path) -> Survey:
    """Walk through the video and take its longest, or the wanted, shot.

    Raises:
        InputError: no video, or no usable frame within --start and --end.
        OptionsError: the wanted shot does not exist.
    """
    with Video(source) as video:
        walk = _walk(part, options, video)
        size = _square_size(video, walk.first)
        focal_35mm_mm = video.focal_35mm_mm
    if walk.first.hdr:
        part.warn(f"{source.name} is HDR ({walk.first.hdr}); its colours are taken without tone mapping and look flat")
    starts = walk.finder.starts()
    shot, within = _choose_shot(starts, walk.timestamps_s, options.shot, part, source)
    indices, timestamps_s = walk.indices[within], walk.timestamps_s[within]
    return Survey(
        indices=indices,
        timestamps_s=timestamps_s,
        sharpnesses=walk.sharpnesses[within] if options.sharpest else None,
        frame_at=lambda at: Frame(f"{indices[at]:06d}", indices[at], source.name, timestamps_s[at], shot),
        write=lambda part, frames, size: _write(part, frames, source, size, options.picture_format),
        size=size,
        focal_px=None if focal_35mm_mm is None else focal_px_from_35mm(focal_35mm_mm, *size),
        focal_source="container metadata",
        facts={
            "kind": "video",
            "source_frames": walk.last.index + 1,
            "source_fps": round(walk.last.index / walk.last.timestamp_s, 4) if walk.last.timestamp_s else None,
            "shots": len(starts),
            "shot": shot,
            "rotation_deg": walk.first.rotation_deg,
            "timestamps": "container",
        },
    )


def _walk(part: StagePart, options: FramesOptions, video: Video) -> _Walk:
    walk = _Walk()
    with part.progress.bar("looking for cuts", video.expected_frames) as bar:
        for frame in video.frames():
            bar.advance()
            if options.end is not None and frame.timestamp_s > options.end:
                break
            walk.last = frame
            if not frame.damaged and frame.timestamp_s >= (options.start or 0.0):
                walk.use(frame, options.sharpest)
        else:
            for text in video.losses(walk.last.timestamp_s if walk.last else 0.0):
                part.warn(text)
    if not video.decoded:
        raise InputError(f"frames: not one frame of {video.path} can be decoded: it is damaged or holds no pictures")
    if walk.first is None:
        raise InputError(
            f"frames: {video.path} has no undamaged frame within --start and --end: "
            f"it was read up to {walk.last.timestamp_s if walk.last else 0.0:.2f} s"
        )
    return walk


def _square_size(video: Video, frame: DecodedFrame) -> tuple[int, int]:
    """(width, height), upright, with square pixels: stretched, never squeezed, so that no detail is lost."""
    aspect = video.pixel_aspect
    width = round(frame.stored.width * max(1.0, aspect))
    height = round(frame.stored.height * max(1.0, 1.0 / aspect))
    return (height, width) if frame.rotation_deg % 180 else (width, height)


def _choose_shot(
    starts: Sequence[int], timestamps_s: Sequence[float], wanted: int | None, part: StagePart, source: Path
) -> tuple[int, slice]:
    """Number of the shot to use and its frames."""
    shots = [slice(start, end) for start, end in zip(starts, (*starts[1:], len(timestamps_s)))]
    listed = ", ".join(
        f"{number}: {timestamps_s[shot.start]:.2f}-{timestamps_s[shot.stop - 1]:.2f} s "
        f"({shot.stop - shot.start} frames)"
        for number, shot in enumerate(shots)
    )
    if wanted is not None and wanted >= len(shots):
        raise OptionsError(f"frames: --shot {wanted} does not exist; {source.name} has {len(shots)}: {listed}")
    number = int(np.argmax([shot.stop - shot.start for shot in shots])) if wanted is None else wanted
    if len(shots) > 1:
        why = "the longest" if wanted is None else "as wanted"
        part.progress.say(f"  {len(shots)} shots: {listed}; {number} is used, {why} (choose with --frames.shot)")
    return number, shots[number]


def _write(part: StagePart, frames: Sequence[Frame], source: Path, size: tuple[int, int], picture_format: str) -> None:
    index_of = {frame.name: frame.source_index for frame in frames}
    with Video(source) as video:
        decoded = video.frames()
        for name in part.pending(list(index_of), "writing frames"):
            picture = _rgb_of(decoded, index_of[name], source)
            write_picture(part.path / f"{name}.{picture_format}", resized(picture, size))


def _rgb_of(decoded: Iterator[DecodedFrame], index: int, source: Path) -> np.ndarray:
    for frame in decoded:
        if frame.index == index:
            return frame.rgb()
    raise InputError(
        f"frames: frame {index} of {source} is gone on the second reading: was the file changed meanwhile?"
    )

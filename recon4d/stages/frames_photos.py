"""Frames of a folder of pictures, or of one picture."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import InputError, OptionsError
from recon4d.formats.gps import read_gps, write_gps_table
from recon4d.formats.gravity import photo_up, write_photo_ups
from recon4d.formats.photos import (
    Photo,
    fitted_size,
    list_pictures,
    read_photo,
    read_photo_header,
    resized,
    white_level,
)
from recon4d.formats.pictures import write_picture
from recon4d.geometry.shots import sharpness
from recon4d.scene.recording import Frame
from recon4d.stages.frames_survey import SHARPNESS_SIZE, Survey
from recon4d.workspace import StagePart

if TYPE_CHECKING:
    from recon4d.stages.frames import FramesOptions

SECONDS_PER_PICTURE = 1 / 30  # of pictures that carry no times of their own
_LOSSY = (".jpg", ".jpeg", ".webp")  # written as JPEG again, all others as PNG


def pictures_of(source: Path) -> tuple[list[Path], list[str]]:
    """The pictures that become frames, and names of files that do not. Raises InputError."""
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


def survey_pictures(
    part: StagePart, options: FramesOptions, pictures: Sequence[Path], ignored: Sequence[str]
) -> Survey:
    """Read the headers of the pictures; with 16 bits or --sharpest also their pixels, one at a time.

    Raises:
        InputError: damaged pictures, different sizes, or none within --start and --end.
        OptionsError: a shot other than 0 is wanted.
    """
    if options.shot:
        raise OptionsError(f"frames: --shot {options.shot} does not exist: pictures are one shot, number 0")
    photos = [read_photo_header(picture) for picture in pictures]
    _check_same_size(photos)
    times, time_source = _times(photos)
    white = white_level(photos)
    _say_what_changes(part, photos, ignored, white)
    within = [at for at, time in enumerate(times) if (options.start or 0.0) <= time <= _end(options)]
    if not within:
        raise InputError(
            f"frames: no picture of {pictures[0].parent} lies within --start and --end: "
            f"they end at {times[-1]:.2f} s (times: {time_source})"
        )
    return Survey(
        indices=within,
        timestamps_s=[times[at] for at in within],
        sharpnesses=_sharpnesses(part, [photos[at] for at in within], white) if options.sharpest else None,
        frame_at=lambda at: Frame(
            pictures[within[at]].stem, within[at], pictures[within[at]].name, times[within[at]], 0
        ),
        write=lambda part, frames, size: _write(part, frames, photos, size, white),
        size=(photos[0].width, photos[0].height),
        focal_px=_common_focal(photos, part),
        focal_source="exif",
        facts={
            "kind": "pictures",
            "source_frames": len(photos),
            "source_fps": None,
            "shots": 1,
            "shot": 0,
            "rotation_deg": {3: 180, 6: 270, 8: 90}.get(photos[0].orientation, 0),
            "timestamps": time_source,
        },
    )


def _end(options: FramesOptions) -> float:
    return float("inf") if options.end is None else options.end


def _check_same_size(photos: Sequence[Photo]) -> None:
    first = photos[0]
    for photo in photos:
        if (photo.width, photo.height) != (first.width, first.height):
            raise InputError(
                f"frames: {first.path.name} is {first.width}x{first.height} and {photo.path.name} is "
                f"{photo.width}x{photo.height} (upright): all pictures must have one size, from one camera held one way"
            )


def _times(photos: Sequence[Photo]) -> tuple[list[float], str]:
    """Seconds from the first picture: by EXIF if that rises from picture to picture, else 30 pictures per second."""
    taken = [photo.taken_s for photo in photos]
    if len(taken) > 1 and None not in taken and all(np.diff(taken) > 0):
        return [time - taken[0] for time in taken], "exif"
    return [index * SECONDS_PER_PICTURE for index in range(len(photos))], "index / 30 s"


def _say_what_changes(part: StagePart, photos: Sequence[Photo], ignored: Sequence[str], white: int) -> None:
    if ignored:
        part.progress.say(f"  {len(ignored)} other files beside the pictures are ignored, such as {ignored[0]}")
    if any(photo.bits == 16 for photo in photos):
        part.progress.say(f"  16-bit pictures: 0..{white} becomes 0..255 in the whole clip")
    if any(photo.has_alpha for photo in photos):
        part.progress.say("  transparent pixels are laid over black")


def _sharpnesses(part: StagePart, photos: Sequence[Photo], white: int) -> list[float]:
    values = []
    with part.progress.bar("measuring sharpness", len(photos)) as bar:
        for photo in photos:
            luma = read_photo(photo, white).mean(axis=2).astype(np.uint8)
            values.append(sharpness(resized(luma, fitted_size(photo.width, photo.height, SHARPNESS_SIZE))))
            bar.advance()
    return values


def _write(
    part: StagePart, frames: Sequence[Frame], photos: Sequence[Photo], size: tuple[int, int], white: int
) -> None:
    photo_of = {frame.name: photos[frame.source_index] for frame in frames}
    for name in part.pending(list(photo_of), "writing frames"):
        photo = photo_of[name]
        write_photo(photo, part.path / f"{name}{suffix_of(photo.path)}", size, white)
    _write_what_photos_tell(part, photo_of)


def suffix_of(picture: Path) -> str:
    """The suffix of the frame that a picture becomes."""
    return ".jpg" if picture.suffix.lower() in _LOSSY else ".png"


def write_photo(photo: Photo, target: Path, size: tuple[int, int], white: int) -> None:
    """Write a picture as a frame of ``size`` = (width, height). Raises InputError where it is damaged."""
    picture = read_photo(photo, white)  # also where it is copied: a damaged file must not slip through
    if photo.is_plain and size == (photo.width, photo.height):
        # A copy, not a link: an editor that writes into the user's file must not change a finished stage.
        shutil.copyfile(photo.path, target)
    else:
        write_picture(target, resized(picture, size))


def _write_what_photos_tell(part: StagePart, photo_of: Mapping[str, Photo]) -> None:
    """`gps.csv` and `gravity.csv` of the frames whose photos know: the frames themselves may have lost their EXIF."""
    fixes = {name: fix for name, photo in photo_of.items() if (fix := read_gps(photo.path)) is not None}
    ups = {name: up for name, photo in photo_of.items() if (up := photo_up(photo.path)) is not None}
    if fixes:
        write_gps_table(part.path / "gps.csv", fixes)
    if ups:
        write_photo_ups(part.path / "gravity.csv", ups)


def _common_focal(photos: Sequence[Photo], part: StagePart) -> float | None:
    """Focal length in pixels of the whole pictures, if the EXIF of all that have one agree."""
    focals = [photo.focal_px for photo in photos if photo.focal_px is not None]
    if not focals:
        return None
    if max(focals) > 1.02 * min(focals):
        part.warn(
            f"the EXIF focal lengths go from {min(focals):.0f} to {max(focals):.0f} px (zoom?): none is used as a "
            "start for the cameras"
        )
        return None
    return float(np.median(focals))

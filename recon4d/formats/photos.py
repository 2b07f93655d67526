"""Pictures as users bring them: JPEG, PNG, WebP, TIFF, 8 or 16 bit, turned by EXIF, with focal length and time."""

from __future__ import annotations

import contextlib
import math
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.natural import natural_key
from recon4d.formats.path_text import is_text, shown
from recon4d.formats.pictures import PICTURE_SUFFIXES

if TYPE_CHECKING:
    from PIL import Image

_FULL_FRAME_DIAGONAL_MM = math.hypot(36.0, 24.0)
_EXIF_IFD, _ORIENTATION = 0x8769, 0x0112
_MM_PER_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # EXIF FocalPlaneResolutionUnit


@dataclass(frozen=True)
class Photo:
    """What the header of a picture file says."""

    path: Path
    width: int  # px, upright
    height: int
    orientation: int  # EXIF 1..8; 1 = stored upright
    bits: int  # per channel: 8 or 16
    is_plain: bool  # 8-bit RGB, upright, JPEG or PNG: can be used byte for byte
    has_alpha: bool
    focal_px: float | None  # in pixels of this picture
    taken_s: float | None  # seconds of an arbitrary clock


def list_pictures(folder: Path) -> tuple[list[Path], list[str]]:
    """Pictures of a folder (not below it) in natural order, and the names of other files in it.

    Hidden files and folders count as neither. ``a_mask.png`` and ``a.jpg.png`` beside ``a.jpg`` are masks, so other
    files. Raises InputError when no picture is there, or one has a name that is no text.
    """
    files = sorted(
        (item for item in folder.iterdir() if item.is_file() and not item.name.startswith(".")),
        key=lambda item: natural_key(item.name),
    )
    suffixed = [file for file in files if file.suffix.lower() in PICTURE_SUFFIXES]
    names, stems = {file.name for file in suffixed}, {file.stem for file in suffixed}
    pictures = [file for file in suffixed if not (file.stem in names or _is_mask_of_another(file, stems))]
    if not pictures:
        raise InputError(_no_pictures(folder, files))
    for picture in pictures:
        if not is_text(picture.name):
            raise InputError(
                f"frames: picture {shown(picture.name)} in {shown(folder)} has a name that is no valid UTF-8: rename it"
            )
    return pictures, [shown(file.name) for file in files if file not in pictures]


def _is_mask_of_another(file: Path, stems: set[str]) -> bool:
    base = re.sub(r"[_.-]mask$", "", file.stem, flags=re.IGNORECASE)
    return base != file.stem and base in stems


def _no_pictures(folder: Path, files: list[Path]) -> str:
    text = f"frames: {folder} has no pictures in it ({', '.join(PICTURE_SUFFIXES)} are read)"
    if any(file.suffix.lower() in (".heic", ".heif") for file in files):
        return f"{text}: turn the HEIC photos into JPEG first"
    for below in sorted(item for item in folder.iterdir() if item.is_dir()):
        count = sum(item.suffix.lower() in PICTURE_SUFFIXES for item in below.iterdir())
        if count:
            return f"{text}; {below} has {count}: give that folder"
    return f"{text}: give a folder with pictures or a video file"


def read_photo_header(path: Path) -> Photo:
    """Size, depth and EXIF of a picture, without its pixels. Raises InputError."""
    with _opened(path) as image:
        exif = image.getexif()
        camera = exif.get_ifd(_EXIF_IFD)
        orientation = exif.get(_ORIENTATION, 1)
        orientation = orientation if orientation in range(1, 9) else 1
        width, height = image.size
        bits = _bits(image, path)
        plain = image.mode == "RGB" and bits == 8 and orientation == 1 and path.suffix.lower() in _COPIED
        return Photo(
            path=path,
            width=height if orientation >= 5 else width,
            height=width if orientation >= 5 else height,
            orientation=orientation,
            bits=bits,
            is_plain=plain and image.format in ("JPEG", "MPO", "PNG") and "transparency" not in image.info,
            has_alpha=image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info,
            focal_px=_focal_px(camera, width, height),
            taken_s=_taken_s(camera),
        )


_COPIED = (".jpg", ".jpeg", ".png")


@contextlib.contextmanager
def _opened(path: Path) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            yield image
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(
            f"frames: {path} is not a picture that can be read, or is damaged: repair it or take it out of the folder"
        ) from error


def _bits(image: Image.Image, path: Path) -> int:
    """Bits per channel. Pillow reports 16-bit colour as 8-bit "RGB", so the file's own header is asked."""
    if image.format == "PNG":
        with open(path, "rb") as file:
            depth = file.read(25)[24]  # IHDR: signature 8, length and type 8, width 4, height 4, then the depth
    elif image.format == "TIFF":
        depth = max(np.atleast_1d(image.tag_v2.get(258, 1)))
    else:
        depth = 8
    if image.mode == "F" or depth > 16:
        raise InputError(f"frames: {path} has {image.mode} pixels of {depth} bits, 8 or 16 are read: convert it first")
    return 16 if depth == 16 else 8


def _focal_px(camera: dict[int, object], width: int, height: int) -> float | None:
    """Focal length in pixels of the stored picture, from the 35 mm equivalent or the pitch of the sensor."""
    with contextlib.suppress(KeyError, TypeError, ValueError, ZeroDivisionError):
        focal_35mm = float(camera[0xA405])
        if focal_35mm > 0:
            return focal_px_from_35mm(focal_35mm, width, height)
    with contextlib.suppress(KeyError, TypeError, ValueError, ZeroDivisionError):
        px_per_mm = float(camera[0xA20E]) / _MM_PER_UNIT[int(camera.get(0xA210, 2))]
        # The pitch is that of the picture as taken; one that was made smaller since keeps the old width in its EXIF.
        shrunk = max(width, height) / float(max(camera.get(0xA002, width), camera.get(0xA003, height)))
        focal = float(camera[0x920A]) * px_per_mm * shrunk
        return focal if focal > 0 and math.isfinite(focal) else None
    return None


def focal_px_from_35mm(focal_mm: float, width: int, height: int) -> float:
    """Focal length in pixels from the 35 mm equivalent: same angle of view over the diagonal (36 x 24 mm frame).

    Source: CIPA DCG-001 (35 mm equivalent focal length is defined by the diagonal).
    """
    return focal_mm / _FULL_FRAME_DIAGONAL_MM * math.hypot(width, height)


def _taken_s(camera: dict[int, object]) -> float | None:
    """DateTimeOriginal with its fraction of a second; the time zone does not matter for differences."""
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
        when = datetime.strptime(camera[0x9003].strip("\0 "), "%Y:%m:%d %H:%M:%S").replace(tzinfo=timezone.utc)
        fraction = str(camera.get(0x9291, "")).strip("\0 ")
        return when.timestamp() + (float(f"0.{fraction}") if fraction.isdigit() else 0.0)
    return None


def read_photo(photo: Photo, white: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB, upright; alpha is laid over black. Raises InputError.

    Args:
        white: value of a 16-bit picture that becomes 255: one for the whole clip, see `white_level`. 8-bit pictures
            are taken as they are.
    """
    picture = _deep_pixels(photo, white) if photo.bits == 16 else _plain_pixels(photo)
    if picture.shape[2] == 4:
        picture = np.rint(picture[..., :3] * (picture[..., 3:] / np.float32(255))).astype(np.uint8)
    return upright(picture, photo.orientation)


def _plain_pixels(photo: Photo) -> np.ndarray:
    with _opened(photo.path) as image:
        return np.array(image.convert("RGBA" if photo.has_alpha else "RGB"))


def _deep_pixels(photo: Photo, white: int) -> np.ndarray:
    stored = _stored_deep(photo.path)
    picture = np.clip(np.rint(stored * np.float32(255 / white)), 0, 255).astype(np.uint8)
    if picture.shape[2] == 4:  # alpha always spans the full range
        picture[..., 3] = np.rint(stored[..., 3] * np.float32(255 / 65535))
    return picture


def _stored_deep(path: Path) -> np.ndarray:
    """(H, W, 3 or 4) uint16 RGB(A) as stored. Pillow would drop the lower eight bits of 16-bit colour."""
    import cv2

    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.dtype != np.uint16:
        raise InputError(f"frames: {path} is damaged or of an unusual 16-bit kind: convert it to an 8-bit PNG first")
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    return picture[..., [2, 1, 0, 3]] if picture.shape[2] == 4 else picture[..., ::-1]


def white_level(photos: list[Photo]) -> int:
    """Value that becomes 255 for all 16-bit pictures of a clip: the end of the 8 to 16 bits that hold their maximum.

    Cameras store 10, 12 or 14 bits in 16; the number of bits is taken from the whole clip so that brightness stays
    comparable between frames. Raises InputError.
    """
    largest = max((int(_stored_deep(photo.path)[..., :3].max()) for photo in photos if photo.bits == 16), default=0)
    return next(2**bits - 1 for bits in (8, 10, 12, 14, 16) if largest < 2**bits)


def upright(picture: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, ...) picture turned and mirrored as EXIF ``orientation`` (1..8) asks for.

    Source: Exif 2.3, tag 0x0112 (where row 0 and column 0 of the stored picture belong).
    """
    mirrored = picture[:, ::-1] if orientation in (2, 4, 5, 7) else picture
    quarter_turns = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: -1, 7: -1, 8: 1}[orientation]  # counter-clockwise, afterwards
    return np.ascontiguousarray(np.rot90(mirrored, k=quarter_turns))


def fitted_size(width: int, height: int, max_size: int) -> tuple[int, int]:
    """(width, height) with the longest side at most ``max_size`` px, same aspect, never enlarged."""
    scale = min(1.0, max_size / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Picture of ``size`` = (width, height): pixel areas are averaged when it shrinks, so that nothing aliases."""
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    import cv2

    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if _shrinks(picture, size) else cv2.INTER_LINEAR)


def _shrinks(picture: np.ndarray, size: tuple[int, int]) -> bool:
    return size[0] <= picture.shape[1] and size[1] <= picture.shape[0]

"""Pictures as arrays: our own 8-bit files. The many formats users bring are read in `formats/photos.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recon4d.errors import InputError

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")


def read_rgb(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB, pixels as stored (no EXIF rotation). Raises InputError."""
    import cv2

    picture = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if picture is None:
        raise InputError(f"{path} is missing or not a readable picture")
    return np.ascontiguousarray(picture[..., ::-1])


def read_grey(path: Path) -> np.ndarray:
    """(H, W) of an 8- or 16-bit single-channel picture, dtype as stored. Raises InputError."""
    import cv2

    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED | cv2.IMREAD_ANYDEPTH)
    if picture is None:
        raise InputError(f"{path} is missing or not a readable picture")
    if picture.ndim != 2:
        raise InputError(f"{path} has {picture.shape[2]} channels, one is expected")
    return picture


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write (H, W, 3) RGB or (H, W) grey, uint8 or (PNG only) uint16; the suffix chooses the format.

    JPEG is written at quality 97 without chroma subsampling: below the noise of the video it came from.
    """
    import cv2

    options = {
        ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 97, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
        ".png": [cv2.IMWRITE_PNG_COMPRESSION, 3],
    }[path.suffix]
    data = _encode(picture, path.suffix, options)
    path.write_bytes(data)  # raises OSError when the disk is full; cv2.imwrite would only return False


def encoded(picture: np.ndarray, suffix: str, quality: int) -> bytes:
    """A picture (H, W, 3) RGB or (H, W) grey, uint8, as the bytes of a small file: `.jpg` or `.webp`, 1 to 100."""
    import cv2

    options = {
        ".jpg": [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1],
        ".webp": [cv2.IMWRITE_WEBP_QUALITY, quality],
    }[suffix]
    return _encode(picture, suffix, options)


def _encode(picture: np.ndarray, suffix: str, options: list[int]) -> bytes:
    import cv2

    stored = picture[..., ::-1] if picture.ndim == 3 else picture
    done, data = cv2.imencode(suffix, np.ascontiguousarray(stored), options)
    if not done:
        raise ValueError(f"{picture.shape} {picture.dtype} cannot be encoded as {suffix}")
    return data.tobytes()

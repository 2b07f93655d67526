"""What the folder layouts of RGB-D recordings share: depth pictures in metres, matrices as text, pairs by time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.depth_files import read_depth_file
from recon4d.formats.depth_numbers import is_blind, metres_of_one
from recon4d.formats.matrices import are_rotations, pinhole_of
from recon4d.formats.pictures import PICTURE_SUFFIXES
from recon4d.formats.rgbd import SensorPicture
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

TOLERANCE_S = 0.02  # between a colour and a depth picture, and between a picture and a pose: as TUM's own tool


def read_metres(path: Path, metres_per_value: float | None, invalid: Sequence[float] = ()) -> SensorPicture:
    """A depth picture in metres, 0 where it is 0, negative, not finite, all ones (uint16), or one of ``invalid``.

    Args:
        metres_per_value: metres that a stored 1 stands for; None for millimetres of whole numbers, metres of floats.

    Raises:
        InputError: missing, damaged, or of bytes.
    """
    raw = read_depth_file(path)
    if raw.dtype.itemsize == 1:
        raise InputError(f"depth: {path} has 8-bit pixels, sensor depth has 16 bits or is float: give the raw depth")
    factor = metres_per_value if metres_per_value is not None else metres_of_one(raw.dtype)
    valid = np.isfinite(raw) & (raw > 0) & ~is_blind(raw) & ~np.isin(raw, list(invalid))
    return SensorPicture(np.where(valid, raw, 0).astype(np.float32) * np.float32(factor))


def checked_size(picture: SensorPicture, path: Path | str, camera: Camera | None) -> SensorPicture:
    """The same. Raises InputError where it has not the size of the depth camera (if that is known)."""
    if camera is not None and picture.metres.shape != camera.shape:
        height, width = picture.metres.shape
        raise InputError(
            f"depth: {path} is {width}x{height}, the calibration's depth camera is {camera.width}x{camera.height}: "
            "correct the calibration"
        )
    return picture


def stored_size(path: Path) -> tuple[int, int]:
    """(width, height) of a picture's pixels as stored. Raises InputError."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image.size
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"frames: {path} is missing or not a picture that can be read") from error


def read_matrix(path: Path) -> np.ndarray:
    """(4, 4) or (3, 3) float64 of a text file, row by row; may hold infinities. Raises InputError."""
    try:
        rows = [[float(word) for word in line.split()] for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise InputError(f"{path} was not found") from None
    except (OSError, UnicodeDecodeError, ValueError):
        rows = []
    rows = [row for row in rows if row]
    if [len(row) for row in rows] not in ([4, 4, 4, 4], [3, 3, 3]):
        raise InputError(f"{path} is not a 4x4 or 3x3 matrix of numbers, row by row")
    return np.array(rows)


def camera_of_matrix(matrix: np.ndarray, size: tuple[int, int], where: Path) -> Camera:
    """The camera of a calibration matrix whose pixel centres count 0, 1, 2. Raises InputError."""
    return Camera(*size, *pinhole_of(matrix[None], str(where))[0].tolist())


def rigid_of_matrix(matrix: np.ndarray, where: str) -> Rigid3:
    """A (4, 4) matrix as a motion. Raises InputError where its left part is no rotation."""
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.shape not in ((4, 4), (3, 4)) or not np.isfinite(matrix).all():
        raise InputError(f"{where} is {matrix.shape} or not finite, a 4x4 motion is expected")
    if not are_rotations(matrix[:3, :3]):
        raise InputError(f"{where} holds no rotation (R R^T differs from 1)")
    return Rigid3.from_matrix(matrix)


def pairs_by_time(first: np.ndarray, second: np.ndarray, tolerance_s: float = TOLERANCE_S) -> dict[int, int]:
    """Rows of ``second`` for rows of ``first`` (times, seconds): closest pairs first, each row used once.

    Source: the rule of the TUM RGB-D benchmark's association tool.
    """
    order = np.argsort(second, kind="stable")
    times = np.asarray(second)[order]
    low = np.searchsorted(times, np.asarray(first) - tolerance_s, side="left")
    high = np.searchsorted(times, np.asarray(first) + tolerance_s, side="right")
    candidates = [
        (abs(first[row] - times[at]), row, int(order[at]))
        for row in range(len(first))
        for at in range(low[row], high[row])
    ]
    found: dict[int, int] = {}
    used: set[int] = set()
    for _, row, other in sorted(candidates):
        if row not in found and other not in used:
            found[row] = other
            used.add(other)
    return found


def has_pictures(folder: Path) -> bool:
    """Whether pictures lie directly in a folder: then it is a folder of pictures, whatever else is there."""
    return any(item.suffix.lower() in PICTURE_SUFFIXES and not item.name.startswith(".") for item in folder.iterdir())

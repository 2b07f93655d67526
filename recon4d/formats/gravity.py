"""Gravity as devices record it: accelerometer tables, and the acceleration Apple's cameras leave in photos.

The frames stage keeps what photos tell as the table `frames/gravity.csv`, for the frames themselves carry no EXIF.

A device at rest feels the force that holds it up. Tables hold that specific force, which points up; CoreMotion and the
photos of Apple devices hold its opposite, which points down. `up_in_cam` is always up, in axes x right, y down,
z forward of the upright picture.
"""

from __future__ import annotations

import csv
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon4d.errors import InputError

COLUMNS = ("timestamp_s", "ax", "ay", "az")
BY_NAME = ("name", "ax", "ay", "az")
# Phone: x right and y up in its screen, z out of the screen. Camera at its back, picture upright with the phone:
CAM_FROM_PHONE = np.diag([1.0, -1.0, -1.0])
_EXIF_IFD, _ORIENTATION, _MAKER_NOTE, _LENS_MODEL = 0x8769, 0x0112, 0x927C, 0xA434
_APPLE, _ACCELERATION, _SIGNED_RATIONAL = b"Apple iOS\0", 0x0008, 10
# Turns of the upright picture's axes against the phone's, by EXIF orientation. The sensor's rows run along the phone,
# so 6 is the phone upright, 1 the phone with its top to the left as one looks at the screen.
_CAM_FROM_UPRIGHT_PHONE = {
    6: np.eye(3),
    1: np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]),
    8: np.diag([-1.0, -1, 1]),
    3: np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
}


@dataclass(frozen=True)
class GravitySamples:
    """Readings of an accelerometer over time."""

    timestamps_s: np.ndarray  # (N,) rising
    up: np.ndarray  # (N, 3) specific force, in g or m/s2, in the axes of the file

    def __post_init__(self) -> None:
        if self.timestamps_s.shape != (len(self.up),) or self.up.shape != (len(self.up), 3):
            raise ValueError(f"GravitySamples: times {self.timestamps_s.shape} and readings {self.up.shape}")


def read_gravity_table(path: Path) -> GravitySamples:
    """Readings of a table ``timestamp_s,ax,ay,az`` (a header, commas, seconds; g or m/s2); other columns are ignored.

    Raises:
        InputError: the file is missing or no text, a column is missing, a line does not hold finite numbers, times
            fall, or the readings are too small or too large for gravity.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except FileNotFoundError:
        raise InputError(f"{path} was not found: a table with the columns {','.join(COLUMNS)} is expected") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a readable table ({error}): {','.join(COLUMNS)} is expected") from None
    header = [cell.strip().lstrip("#").strip() for cell in rows[0]] if rows else []
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise InputError(f"{path} has no column {missing[0]}: its first line must name {','.join(COLUMNS)}")
    columns = [header.index(name) for name in COLUMNS]
    numbers = [_numbers(path, line, row, columns) for line, row in enumerate(rows[1:], start=2) if any(row)]
    if not numbers:
        raise InputError(f"{path} has no reading below its first line: lines of {','.join(COLUMNS)} are expected")
    values = np.array(numbers)
    if (np.diff(values[:, 0]) < 0).any():
        line = int(np.argmax(np.diff(values[:, 0]) < 0)) + 2
        raise InputError(f"{path}: the time falls after reading {line - 1}, rising seconds are expected")
    length = float(np.median(np.linalg.norm(values[:, 1:], axis=1)))
    if not (0.5 < length < 2.0 or 5.0 < length < 20.0):
        raise InputError(
            f"{path}: the median reading is {length:.3g}, about 1 (in g) or 9.81 (in m/s2) is expected: give raw "
            "accelerations with gravity in them"
        )
    return GravitySamples(values[:, 0], values[:, 1:])


def write_gravity_table(path: Path, samples: GravitySamples) -> None:
    """Reverse of `read_gravity_table`."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for time_s, reading in zip(samples.timestamps_s, samples.up):
            writer.writerow([f"{time_s:.6f}", *(f"{value:.6f}" for value in reading)])


def write_photo_ups(path: Path, ups: Mapping[str, np.ndarray]) -> None:
    """Write up (3,) of frames by name, in g, in camera axes of the upright picture."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(BY_NAME)
        for name, up in ups.items():
            writer.writerow([name, *(f"{value:.6f}" for value in up)])


def read_photo_ups(path: Path) -> dict[str, np.ndarray]:
    """Reverse of `write_photo_ups`. Raises InputError for a line or column that it does not write."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        return {row["name"]: np.array([float(row[axis]) for axis in BY_NAME[1:]]) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} does not hold lines of {','.join(BY_NAME)} ({error})") from error


def _numbers(path: Path, line: int, row: Sequence[str], columns: Sequence[int]) -> list[float]:
    try:
        values = [float(row[column]) for column in columns]
    except (ValueError, IndexError):
        values = []
    if len(values) != len(columns) or not np.isfinite(values).all():
        raise InputError(f"{path}, line {line}: {','.join(row)[:60]!r} does not hold finite {','.join(COLUMNS)}")
    return values


def photo_up(path: Path) -> np.ndarray | None:
    """(3,) up in camera axes of the upright picture (length about 1), or None where a photo does not tell.

    Read are photos of the back cameras of Apple devices that still carry their maker note. The note's vector has +x to
    the left, +y to the bottom and +z into the phone as seen from its front, and is (0, -1, 0) for a phone that stands
    upright (ExifTool, tags of Apple, 0x0008).

    Raises:
        InputError: the file is missing or no picture.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            exif = image.getexif()
            camera = exif.get_ifd(_EXIF_IFD)
            orientation = exif.get(_ORIENTATION, 1)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path} is not a picture that can be read: take it out or repair it") from error
    note = camera.get(_MAKER_NOTE)
    front = "front" in str(camera.get(_LENS_MODEL, "")).lower()  # its z axis points the other way, and it mirrors
    if not isinstance(note, bytes) or front or orientation not in _CAM_FROM_UPRIGHT_PHONE:
        return None
    noted = apple_acceleration(note)
    if noted is None or not 0.5 < np.linalg.norm(noted) < 2.0:  # shaken, or no reading
        return None
    # Left, bottom and into the phone are the opposites of its x, y and z, and the note is up in these axes.
    up_in_phone = -noted
    return _CAM_FROM_UPRIGHT_PHONE[orientation] @ CAM_FROM_PHONE @ up_in_phone


def apple_acceleration(note: bytes) -> np.ndarray | None:
    """(3,) the acceleration vector (g) of an Apple maker note, or None where there is none.

    The note is "Apple iOS", 0, a version of two bytes, the byte order, and a TIFF directory at byte 14; offsets count
    from the start of the note.
    """
    order = {b"MM": ">", b"II": "<"}.get(note[12:14])
    if not note.startswith(_APPLE) or order is None:
        return None
    try:
        (count,) = struct.unpack_from(f"{order}H", note, 14)
        for entry in range(count):
            tag, kind, length, offset = struct.unpack_from(f"{order}HHII", note, 16 + 12 * entry)
            if (tag, kind, length) == (_ACCELERATION, _SIGNED_RATIONAL, 3):
                values = struct.unpack_from(f"{order}6i", note, offset)
                return np.array(values[::2]) / np.array(values[1::2]) if all(values[1::2]) else None
    except struct.error:  # cut short
        return None
    return None

"""Where photos were taken: from EXIF, and as the table `frames/gps.csv`."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from recon4d.errors import InputError

COLUMNS = ("name", "latitude_deg", "longitude_deg", "altitude_m", "error_m")
_GPS_IFD = 0x8825
# Tags of the GPS directory.
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE, _ALTITUDE_REF, _ALTITUDE = 1, 2, 3, 4, 5, 6
_POSITIONING_ERROR = 31


@dataclass(frozen=True)
class GpsFix:
    """One position by GPS."""

    latitude_deg: float  # north positive, WGS84
    longitude_deg: float  # east positive
    altitude_m: float | None  # above the sea; None where the photo does not say
    error_m: float | None  # horizontal, as the receiver states it; None where it does not


def read_gps(path: Path) -> GpsFix | None:
    """The position in a photo's EXIF; None where there is none, or one that is no place. Raises InputError.

    Source: Exif 2.32, tags 1 to 6 and 31 of the GPS IFD (rationals; degrees, minutes, seconds).
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            tags = image.getexif().get_ifd(_GPS_IFD)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(
            f"frames: {path} is not a picture that can be read: repair it or take it out of the folder"
        ) from error
    latitude = _signed(_degrees(tags.get(_LATITUDE)), tags.get(_LATITUDE_REF), "S")
    longitude = _signed(_degrees(tags.get(_LONGITUDE)), tags.get(_LONGITUDE_REF), "W")
    if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
        return None
    if latitude == 0 and longitude == 0:  # what receivers write that have no fix yet
        return None
    altitude = _number(tags.get(_ALTITUDE))
    if altitude is not None and _below_sea(tags.get(_ALTITUDE_REF)):
        altitude = -altitude
    error = _number(tags.get(_POSITIONING_ERROR))
    return GpsFix(latitude, longitude, altitude, error if error is not None and error > 0 else None)


def write_gps_table(path: Path, fixes: Mapping[str, GpsFix]) -> None:
    """Write the positions of frames by name; what a photo does not state is left empty."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for name, fix in fixes.items():
            writer.writerow([name, fix.latitude_deg, fix.longitude_deg, fix.altitude_m, fix.error_m])


def read_gps_table(path: Path) -> dict[str, GpsFix]:
    """Reverse of `write_gps_table`. Raises InputError for a line or column that it does not write."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        return {
            row["name"]: GpsFix(
                latitude_deg=float(row["latitude_deg"]),
                longitude_deg=float(row["longitude_deg"]),
                altitude_m=float(row["altitude_m"]) if row["altitude_m"] else None,
                error_m=float(row["error_m"]) if row["error_m"] else None,
            )
            for row in rows
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} does not hold lines of {','.join(COLUMNS)} ({error})") from error


def _number(value: object) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) else None  # a rational with denominator 0 reads as NaN


def _degrees(value: object) -> float | None:
    """Degrees from (degrees, minutes, seconds); some writers leave out the seconds or give degrees alone."""
    parts = [_number(part) for part in value] if isinstance(value, (tuple, list)) else [_number(value)]
    if not 1 <= len(parts) <= 3 or parts[0] is None:
        return None
    # Seconds of 0/0 mean that the minutes carry them.
    return sum((part or 0.0) / 60**k for k, part in enumerate(parts))


def _signed(degrees: float | None, reference: object, negative: str) -> float | None:
    letter = reference.decode("ascii", "replace") if isinstance(reference, bytes) else str(reference or "")
    return -degrees if degrees is not None and letter.strip("\0 ").upper().startswith(negative) else degrees


def _below_sea(reference: object) -> bool:
    """1: below the sea; 3 (Exif 3.0): below the ellipsoid."""
    if isinstance(reference, bytes):
        reference = reference[0] if reference else 0
    return reference in (1, 3)

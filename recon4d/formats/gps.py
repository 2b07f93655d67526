"""Where a photo was taken, as its EXIF says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from recon4d.errors import InputError

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
        raise InputError(f"{path} is not a picture that can be read: repair it or take it out of the folder") from error
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

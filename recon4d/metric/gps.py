"""Metres from the GPS positions of photos."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from recon4d.metric.path import path_scale
from recon4d.metric.scale import USELESS_SIGMA, Cue, NoCue

GPS_ERROR_M = 5.0  # horizontal, of receivers that do not state theirs: a phone under open sky
MIN_PHOTOS = 3
MIN_SPREAD = 3.0  # standard deviation of the positions, in errors of one
# Stated errors are radii that hold 68 % (phones); of a round normal distribution that is 1.51 standard deviations.
RADIUS_68 = 1.51
_A_M, _FLATTENING = 6378137.0, 1 / 298.257223563  # WGS84 ellipsoid


def east_north_up(latitude_deg: np.ndarray, longitude_deg: np.ndarray, altitude_m: np.ndarray) -> np.ndarray:
    """(N, 3) metres east, north and up of the mean position, from WGS84 coordinates (N,) each.

    Source: NIMA TR8350.2 (2000), eq. 4-14 and 4-15: geodetic to earth-centred coordinates, then a turn.
    """
    earth = _earth_centred(np.asarray(latitude_deg), np.asarray(longitude_deg), np.asarray(altitude_m))
    # The middle by unit vectors: longitudes jump at 180 degrees.
    direction = (earth / np.linalg.norm(earth, axis=1, keepdims=True)).mean(axis=0)
    lam = math.atan2(direction[1], direction[0])
    # Geocentric and geodetic latitude differ by up to 0.2 degrees: the mean of those given is right, and never jumps.
    phi = math.radians(float(np.mean(latitude_deg)))
    east = np.array([-math.sin(lam), math.cos(lam), 0.0])
    north = np.array([-math.sin(phi) * math.cos(lam), -math.sin(phi) * math.sin(lam), math.cos(phi)])
    return (earth - earth.mean(axis=0)) @ np.stack([east, north, np.cross(east, north)]).T


def _earth_centred(latitude_deg: np.ndarray, longitude_deg: np.ndarray, altitude_m: np.ndarray) -> np.ndarray:
    phi, lam = np.radians(latitude_deg), np.radians(longitude_deg)
    e2 = _FLATTENING * (2 - _FLATTENING)
    normal = _A_M / np.sqrt(1 - e2 * np.sin(phi) ** 2)
    level = (normal + altitude_m) * np.cos(phi)
    return np.stack([level * np.cos(lam), level * np.sin(lam), (normal * (1 - e2) + altitude_m) * np.sin(phi)], axis=1)


def gps_cue(centres: np.ndarray, positions_m: np.ndarray, errors_m: Sequence[float]) -> Cue:
    """Metres per unit from photos with GPS, rows in the order of time.

    Args:
        centres: (N, 3) camera centres, world frame, scene units.
        positions_m: (N, 3) metres east, north, up.
        errors_m: N horizontal errors, metres, 68 %; `GPS_ERROR_M` where the photo states none.

    The standard error is the larger of that which the residuals show and that which the stated errors leave; the
    scene's own path counts as exact beside GPS.

    Raises:
        NoCue: fewer than `MIN_PHOTOS` photos, or they spread too little for the error of GPS.
    """
    count = len(centres)
    if count < MIN_PHOTOS:
        raise NoCue(f"align: {count} photos with a pose carry GPS, {MIN_PHOTOS} are needed: GPS gives no scale")
    error = float(np.median(errors_m)) / RADIUS_68
    centred = positions_m - positions_m.mean(axis=0)
    spread = math.sqrt(float((centred**2).sum(axis=1).mean()))
    if spread < MIN_SPREAD * error:
        raise NoCue(
            f"align: the GPS positions of the photos spread by {spread:.1f} m at an error of {error:.1f} m, so they "
            "give no scale: photos from further apart are needed, or another cue"
        )
    found = path_scale(centres, positions_m)
    sigma = max(found.noise_sigma, error / (spread * math.sqrt(count)))
    if sigma > USELESS_SIGMA:
        raise NoCue(
            f"align: GPS and the cameras disagree by {found.fit.sigma:.1f} m, too much for "
            "a scale: take more photos, from further apart"
        )
    detail = f"{count} photos, spread {spread:.3g} m, residual {found.fit.sigma:.2g} m"
    return Cue("GPS of the photos", found.metres_per_unit_exact, sigma, detail)

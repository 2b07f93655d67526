"""GPS from EXIF, local metres, and the scale they give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from recon4d.errors import InputError
from recon4d.formats.gps import GpsFix, read_gps, read_gps_table, write_gps_table
from recon4d.metric.gps import east_north_up, gps_cue
from recon4d.metric.scale import NoCue


def photo(path: Path, tags: dict | None) -> Path:
    exif = Image.Exif()
    if tags is not None:
        exif.get_ifd(0x8825).update(tags)
    Image.new("RGB", (8, 6)).save(path, exif=exif)
    return path


def dms(degrees: int, minutes: int, seconds_100: int) -> tuple:
    return IFDRational(degrees, 1), IFDRational(minutes, 1), IFDRational(seconds_100, 100)


def test_position_by_hand_in_the_south_west_below_the_sea(tmp_path):
    tags = {1: "S", 2: dms(33, 30, 3600), 3: "W", 4: dms(70, 15, 0), 5: b"\x01", 6: IFDRational(125, 10)}
    fix = read_gps(photo(tmp_path / "a.jpg", tags | {31: IFDRational(47, 10)}))
    assert fix == GpsFix(pytest.approx(-33.51), pytest.approx(-70.25), -12.5, 4.7)


def test_position_in_the_north_east_without_altitude_and_error(tmp_path):
    fix = read_gps(photo(tmp_path / "a.jpg", {1: "N", 2: dms(48, 0, 0), 3: "E", 4: dms(11, 6, 0)}))
    assert fix == GpsFix(48.0, pytest.approx(11.1), None, None)


@pytest.mark.parametrize(
    "tags",
    [
        None,
        {},
        {1: "N", 2: dms(0, 0, 0), 3: "E", 4: dms(0, 0, 0)},  # written before there is a fix
        {1: "N", 2: (IFDRational(0, 0),) * 3, 3: "E", 4: dms(11, 0, 0)},
        {1: "N", 2: dms(95, 0, 0), 3: "E", 4: dms(11, 0, 0)},
        {1: "N", 2: dms(48, 0, 0)},
    ],
)
def test_what_is_no_place_is_none(tmp_path, tags):
    assert read_gps(photo(tmp_path / "a.jpg", tags)) is None


def test_a_damaged_photo_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"^frames: .* is not a picture"):
        read_gps(tmp_path / "a.jpg")


def test_table_round_trip(tmp_path):
    fixes = {"a, b": GpsFix(-33.51000000001, -70.25, -12.5, 4.7), "Küche": GpsFix(48.0, 1 / 3, None, None)}
    write_gps_table(tmp_path / "gps.csv", fixes)
    assert read_gps_table(tmp_path / "gps.csv") == fixes


@pytest.mark.parametrize(
    "text", ["name,latitude_deg\na,1\n", "name,latitude_deg,longitude_deg,altitude_m,error_m\na,1,x\n"]
)
def test_malformed_tables_are_refused(tmp_path, text):
    (tmp_path / "gps.csv").write_text(text)
    with pytest.raises(InputError, match="does not hold lines of name,latitude_deg"):
        read_gps_table(tmp_path / "gps.csv")


def test_metres_on_the_equator_by_hand():
    angle = np.degrees(100 / 6378137.0)  # 100 m along the equator, whose radius is that of the ellipsoid
    positions = east_north_up(np.zeros(2), np.array([179.9999, 179.9999 + angle - 360]), np.array([0.0, 10.0]))
    np.testing.assert_allclose(positions[1] - positions[0], [100, 0, 10], atol=2e-3)


def test_metres_along_the_meridian_by_hand():
    # Meridian radius a (1 - e^2) / (1 - e^2 sin^2 phi)^1.5 = 6367.4 km at 45 degrees: 1e-3 degrees are 111.13 m.
    positions = east_north_up(np.array([45.0, 45.001]), np.array([7.0, 7.0]), np.zeros(2))
    np.testing.assert_allclose(positions[1] - positions[0], [0, 111.13, 0], atol=0.01)


def walk(count: int, reach_m: float) -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, count)
    return reach_m * np.stack([np.cos(t), np.sin(t), 0.05 * np.sin(3 * t)], axis=1)


def test_gps_gives_the_scale_with_an_honest_interval():
    rng, inside, rounds, true = np.random.default_rng(1), 0, 60, walk(14, 40.0)
    for _ in range(rounds):
        cue = gps_cue(true / 2.5, true + rng.normal(scale=3.3, size=true.shape), [5.0] * 14)
        inside += abs(np.log(cue.metres_per_unit / 2.5)) < 1.96 * cue.sigma
    assert inside / rounds >= 0.9
    assert cue.sigma < 0.1


def test_photos_too_near_together_give_none():
    true = walk(14, 4.0)
    with pytest.raises(NoCue, match="spread by"):
        gps_cue(true, true, [5.0] * 14)
    with pytest.raises(NoCue, match="2 photos"):
        gps_cue(true[:2], true[:2], [5.0] * 2)


def test_a_stated_error_is_never_beaten_by_luck():
    true = walk(5, 60.0)
    assert gps_cue(true, true, [9.0] * 5).sigma >= 9 / 1.51 / (60 * np.sqrt(5)) * 0.99


def test_the_interval_of_a_stated_error_by_hand():
    """Corners of 60 x 80 m: 50 m from their middle. 7.55 m hold 68 %, so 5 m are one sigma: 5 / (50 sqrt(4))."""
    corners = np.array([[30.0, 40, 0], [-30, 40, 0], [-30, -40, 0], [30, -40, 0]])
    assert gps_cue(corners, corners, [7.55] * 4).sigma == pytest.approx(0.05, rel=1e-6)

"""Tables of accelerometers, and the acceleration in Apple's maker notes, byte by byte."""

import struct

import numpy as np
import pytest
from PIL import Image

from recon4d.errors import InputError
from recon4d.formats.gravity import (
    GravitySamples,
    apple_acceleration,
    photo_up,
    read_gravity_table,
    read_photo_ups,
    write_gravity_table,
    write_photo_ups,
)

# "Apple iOS", 0, version 1, big-endian, 2 entries: 0x0001 = 14 (signed long, inline) and 0x0008 = three signed
# rationals at byte 44; then no next directory. By hand, as a phone writes it.
NOTE = (
    b"Apple iOS\x00\x00\x01MM"
    b"\x00\x02"
    b"\x00\x01\x00\x09\x00\x00\x00\x01\x00\x00\x00\x0e"
    b"\x00\x08\x00\x0a\x00\x00\x00\x03\x00\x00\x00\x2c"
    b"\x00\x00\x00\x00"
    b"\x00\x00\x00\x01\x00\x00\x00\x64"  # 1/100
    b"\xff\xff\xff\xc4\x00\x00\x00\x4b"  # -60/75
    b"\xff\xff\xff\xfd\x00\x00\x00\x05"  # -3/5
)


def note(x, y, z):
    """A maker note with this vector, in thousandths."""
    parts = [part for value in (x, y, z) for part in (round(1000 * value), 1000)]
    return NOTE[:44] + struct.pack(">6i", *parts)


def photo(path, maker_note, orientation=6, lens=None):
    image, exif = Image.new("RGB", (16, 12), (90, 90, 90)), Image.Exif()
    exif[0x0112] = orientation
    camera = exif.get_ifd(0x8769)
    if maker_note is not None:
        camera[0x927C] = maker_note
    if lens is not None:
        camera[0xA434] = lens
    image.save(path, exif=exif)
    return path


def test_maker_note_by_hand():
    np.testing.assert_allclose(apple_acceleration(NOTE), [0.01, -0.8, -0.6])


def test_little_endian_maker_note():
    swapped = b"Apple iOS\x00\x00\x01II" + struct.pack("<HHHIIHHIII", 2, 1, 9, 1, 14, 8, 10, 3, 44, 0)
    np.testing.assert_allclose(
        apple_acceleration(swapped + struct.pack("<6i", 1, 100, -60, 75, -3, 5)), [0.01, -0.8, -0.6]
    )


def test_maker_notes_without_acceleration():
    assert apple_acceleration(b"") is None
    assert apple_acceleration(b"FUJIFILM" + NOTE) is None
    for length in range(len(NOTE)):  # cut short anywhere
        assert apple_acceleration(NOTE[:length]) is None
    assert apple_acceleration(NOTE[:44] + struct.pack(">6i", 1, 0, 1, 1, 1, 1)) is None  # divided by 0
    assert apple_acceleration(NOTE.replace(b"\x00\x08\x00\x0a", b"\x00\x08\x00\x05")) is None  # of another type


# A phone that stands upright notes (0, -1, 0), one on its right side up (top to the left) (-1, 0, 0).
@pytest.mark.parametrize(("orientation", "noted"), [(6, (0, -1, 0)), (1, (-1, 0, 0)), (8, (0, 1, 0)), (3, (1, 0, 0))])
def test_up_in_photos_held_level(tmp_path, orientation, noted):
    path = photo(tmp_path / "a.jpg", note(*noted), orientation)
    np.testing.assert_allclose(photo_up(path), [0, -1, 0], atol=1e-9)  # y is down


@pytest.mark.parametrize(("orientation", "down"), [(6, (0, -1, 0)), (1, (-1, 0, 0)), (8, (0, 1, 0)), (3, (1, 0, 0))])
def test_up_in_photos_that_look_down(tmp_path, orientation, down):
    """By 60 degrees, screen to the sky: gravity is mostly out of the phone's back, -z of the phone."""
    noted = 0.5 * np.array(down) + np.sqrt(0.75) * np.array([0, 0, -1])
    up = photo_up(photo(tmp_path / "a.jpg", note(*noted), orientation))
    np.testing.assert_allclose(up, [0, -0.5, -np.sqrt(0.75)], atol=1e-3)  # up is behind a camera that looks down


def test_roll_of_a_photo(tmp_path):
    """A phone held upright and turned clockwise by 10 degrees as its holder sees it: up leans to the picture's left."""
    angle = np.radians(10)
    noted = -np.cos(angle) * np.array([0, 1, 0]) + np.sin(angle) * np.array([1, 0, 0])
    up = photo_up(photo(tmp_path / "a.jpg", note(*noted)))
    np.testing.assert_allclose(up, [-np.sin(angle), -np.cos(angle), 0], atol=1e-3)


def test_photos_that_do_not_tell(tmp_path):
    assert photo_up(photo(tmp_path / "a.jpg", None)) is None
    assert photo_up(photo(tmp_path / "b.jpg", b"Nikon\x00" + NOTE)) is None
    assert (
        photo_up(photo(tmp_path / "c.jpg", note(0, -1, 0), lens="iPhone 12 front TrueDepth camera 2.71mm f/2.2"))
        is None
    )
    assert photo_up(photo(tmp_path / "d.jpg", note(0, -1, 0), orientation=5)) is None  # mirrored
    assert photo_up(photo(tmp_path / "e.jpg", note(0, -3, 0))) is None  # shaken
    assert photo_up(photo(tmp_path / "f.jpg", note(0, -1, 0), lens="iPhone 12 back camera")) is not None
    (tmp_path / "g.jpg").write_bytes(b"not a picture")
    with pytest.raises(InputError, match="not a picture"):
        photo_up(tmp_path / "g.jpg")


def test_table_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    samples = GravitySamples(np.arange(20) * 0.01, rng.normal([0, -9.8, 0.5], 0.3, (20, 3)))
    write_gravity_table(tmp_path / "imu.csv", samples)
    again = read_gravity_table(tmp_path / "imu.csv")
    np.testing.assert_allclose(again.timestamps_s, samples.timestamps_s, atol=1e-6)
    np.testing.assert_allclose(again.up, samples.up, atol=1e-6)


def test_table_by_name_round_trip(tmp_path):
    ups = {"IMG, 1": np.array([0.01, -0.8, -0.6]), "Küche": np.array([0.0, -1, 0])}
    write_photo_ups(tmp_path / "gravity.csv", ups)
    again = read_photo_ups(tmp_path / "gravity.csv")
    assert list(again) == list(ups)
    np.testing.assert_allclose(list(again.values()), list(ups.values()), atol=1e-6)
    assert (tmp_path / "gravity.csv").read_text(encoding="utf-8").startswith("name,ax,ay,az\n")


@pytest.mark.parametrize("text", ["name,ax,ay\na,0,1\n", "name,ax,ay,az\na,0,1\n", "name,ax,ay,az\na,0,1,x\n"])
def test_malformed_tables_by_name_are_refused(tmp_path, text):
    (tmp_path / "gravity.csv").write_text(text)
    with pytest.raises(InputError, match="does not hold lines of name,ax,ay,az"):
        read_photo_ups(tmp_path / "gravity.csv")


def test_table_as_others_write_it(tmp_path):
    """A byte-order mark, spaces, a comment sign, more columns in another order, an empty line, g."""
    text = "\ufeff# gx, timestamp_s, ay, az, ax\n0.1, 0.00, -1.01, 0.02, 0.03\n\n0.1, 0.01, -0.99, 0.01, 0.02\n"
    (tmp_path / "imu.csv").write_text(text, encoding="utf-8")
    samples = read_gravity_table(tmp_path / "imu.csv")
    np.testing.assert_allclose(samples.timestamps_s, [0, 0.01])
    np.testing.assert_allclose(samples.up, [[0.03, -1.01, 0.02], [0.02, -0.99, 0.01]])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no column timestamp_s"),
        ("timestamp_s,ax,ay\n0,0,1\n", "no column az"),
        ("timestamp_s,ax,ay,az\n", "no reading"),
        ("timestamp_s,ax,ay,az\n0,0,1\n", "line 2"),
        ("timestamp_s,ax,ay,az\n0,0,1,x\n", "line 2"),
        ("timestamp_s,ax,ay,az\n0,0,1,nan\n", "line 2"),
        ("timestamp_s,ax,ay,az\n0.2,0,1,0\n0.1,0,1,0\n", "time falls"),
        ("timestamp_s,ax,ay,az\n0,0.01,0.02,0\n1,0.02,0,0\n", "gravity in them"),  # gravity was taken out
    ],
)
def test_malformed_tables_are_refused(tmp_path, text, complaint):
    (tmp_path / "imu.csv").write_text(text)
    with pytest.raises(InputError, match=complaint):
        read_gravity_table(tmp_path / "imu.csv")


def test_missing_and_binary_tables_are_refused(tmp_path):
    with pytest.raises(InputError, match="not found"):
        read_gravity_table(tmp_path / "none.csv")
    (tmp_path / "imu.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="not a readable table"):
        read_gravity_table(tmp_path / "imu.csv")

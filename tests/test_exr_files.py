"""One channel of an EXR picture, read without a library."""

import struct

import numpy as np
import pytest
from exr_writer import NONE, ZIP, ZIPS, exr_bytes

from recon4d.errors import InputError, MissingDependency
from recon4d.formats.exr_files import decode_exr, read_exr


@pytest.mark.parametrize("compression", [NONE, ZIPS, ZIP])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint32])
def test_numbers_come_back_to_the_bit(compression, dtype):
    grid = (np.arange(37 * 11).reshape(37, 11) / 7).astype(dtype)  # 37 lines: the last chunk is short
    beside = np.full((37, 11), 3, dtype=np.float16)
    data = exr_bytes({"Z": grid, "A": beside, "Zback": beside}, compression, top=5)
    found = decode_exr(data, "x.exr")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, grid)
    np.testing.assert_array_equal(decode_exr(data, "x.exr", ("A",)), beside)


def test_infinite_and_missing_numbers_stay(tmp_path):
    grid = np.array([[np.inf, np.nan, -0.0, 65504]], dtype=np.float16)
    (tmp_path / "d.exr").write_bytes(exr_bytes({"Y": grid}))
    np.testing.assert_array_equal(read_exr(tmp_path / "d.exr"), grid)


def test_run_lengths_by_hand():
    """Four pixels of one byte plane: 2 bytes told one by one, then 3 times the same; then undone like ZIP."""
    data = bytearray(exr_bytes({"Z": np.array([[1.0, 2.0]], dtype=np.float16)}, NONE))
    at = data.index(b"compression\0compression\0") + len(b"compression\0compression\0") + 4
    data[at] = 1
    # halves 00 3c 00 40 -> planes 00 00 3c 40 -> steps 00 80 bc 84; runs: three single bytes and one
    packed = struct.pack("<b", -4) + bytes([0x00, 0x80, 0xBC, 0x84])
    head = bytes(data[: len(data) - 12])
    data = head + struct.pack("<ii", 0, len(packed)) + packed
    np.testing.assert_array_equal(decode_exr(bytes(data), "x"), [[1.0, 2.0]])


def _far_chunk() -> bytes:
    """The table of chunks points beyond all that can be counted."""
    data = exr_bytes({"Z": np.ones((2, 2), dtype=np.float32)}, NONE)
    at = len(data) - 2 * (8 + 8) - 2 * 8
    return data[:at] + b"\xff" * 8 + data[at + 8 :]


def _sized(width: int) -> bytes:
    data = exr_bytes({"Z": np.ones((2, 2), dtype=np.float32)})
    return data.replace(struct.pack("<4i", 0, 0, 1, 1), struct.pack("<4i", 0, 0, width - 1, 1))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "does not begin as one"),
        (b"\x89PNG....", "does not begin as one"),
        (exr_bytes({"Z": np.ones((40, 9), dtype=np.float32)})[:-40], "cut off or damaged"),
        (exr_bytes({"Z": np.ones((4, 4), dtype=np.float32)})[:60], "not a readable EXR"),
        (_sized(2_000_000_000), "claims 2000000000x2 pixels"),
        (_sized(30), "are expected"),
        (_far_chunk(), "not a readable EXR"),
        (exr_bytes({"B": np.ones((4, 4), dtype=np.float32)}), "channels B; Z, Y, R"),
    ],
)
def test_damaged_files_are_one_sentence(data, said):
    with pytest.raises(InputError, match=said):
        decode_exr(data, "x.exr")


def test_what_is_stored_unusually_asks_for_the_package(monkeypatch):
    data = bytearray(exr_bytes({"Z": np.ones((4, 4), dtype=np.float32)}, NONE))
    at = data.index(b"compression\0compression\0") + len(b"compression\0compression\0") + 4
    data[at] = 4  # PIZ
    monkeypatch.setitem(__import__("sys").modules, "OpenEXR", None)
    with pytest.raises(MissingDependency, match=r"pip install 'recon4d\[exr\]'"):
        decode_exr(bytes(data), "x.exr")

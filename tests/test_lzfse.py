"""LZFSE streams: what Apple's compressor writes, damaged ones, and the few that need a package."""

from __future__ import annotations

import struct
import sys
import types

import numpy as np
import pytest
import rgbd_recordings as made

from recon4d.errors import InputError, MissingDependency
from recon4d.formats.lzfse import decompressed, is_lzfse
from recon4d.formats.lzfse_blocks import _frequencies, _table

# Of 1100 numbers that rise by 1/8 every 25 (float32), written by the reference compressor: one block bvx2.
STAIRS = (np.arange(1100) // 25 / 8).astype("<f4").tobytes()
PACKED = bytes.fromhex(
    "627678323011000034000002002d005018409424e83a0050a10000000e64300f3c09050100004000000000fe04fe9a1b980000000000"
    "000000000000000000c06701001c0300c700c03100f00f0000c700c03100700cc0f1f12b01001c0300c700c03100f00f0000c700c031"
    "00700c00fc08c031700c1c03ff00700c1c03c7c03f001c03c7c03f001c03000000ff00000000700c0000001c03000000c70000000000"
    "e0de0f025b33304283413ebb5a2f4186ecc9afac88074b3c2a98eed98718250000000000000000000048aeacacacacacacacacacacac"
    "ac5859b9b2b2b2b2b2b2b2b2b2b2a2d2ac585959b1b2b2b2b2b2b2a2a256acf854b60b62767824"
)


def test_compressed_block_is_unpacked():
    assert PACKED[:4] == b"bvx2"
    assert is_lzfse(PACKED)
    assert decompressed(PACKED, len(STAIRS), "depth: a") == STAIRS


def test_blocks_of_different_kinds_follow_each_other():
    """A match may reach back into the block before, so both share one output."""
    both = PACKED[:-4] + made.raw_lzfse(b"between")[:-4] + PACKED
    assert decompressed(both, 2 * len(STAIRS) + 7, "depth: a") == STAIRS + b"between" + STAIRS


def test_frequencies_have_codes_of_five_lengths():
    """0 and 1 in two bits, 2 and 3 in three, 4 to 7 in five, 8 to 23 in eight, from 24 on in fourteen."""
    codes = [("00", 0), ("10", 1), ("001", 2), ("101", 3), ("00011", 4), ("11011", 7), ("00000111", 8)]
    codes += [("11110111", 23), ("00000000001111", 24), ("11111111111111", 1047)]
    bits = "".join(code for code, _ in reversed(codes))  # the first code has the lowest bits
    count = (len(bits) + 7) // 8
    packed = np.frombuffer(int(bits, 2).to_bytes(count, "little"), dtype=np.uint8)
    np.testing.assert_array_equal(_frequencies(packed, len(codes)), [value for _, value in codes])
    assert _frequencies(packed[:-2], len(codes)) is None
    assert _frequencies(np.append(packed, np.uint8([0, 0])), len(codes)) is None


@pytest.mark.parametrize("frequency", [[8], [3, 5], [1, 0, 6, 1], [4, 2, 2]])
def test_states_of_a_symbol_lead_to_every_state_once(frequency):
    """That is what makes the code decodable: f states, each to a stretch of 2^bits, all eight covered."""
    extra = np.zeros(len(frequency), dtype=np.int64)
    symbol, _, wanted, offset = _table(np.array(frequency), 8, np.arange(len(frequency)), extra)
    np.testing.assert_array_equal(np.bincount(symbol, minlength=len(frequency)), frequency)
    for own in np.flatnonzero(frequency):
        reached = [offset[s] + k for s in np.flatnonzero(symbol == own) for k in range(1 << wanted[s])]
        assert sorted(reached) == list(range(8))


@pytest.mark.parametrize("where", ["header", "anywhere"])
def test_damaged_streams_are_refused_or_have_their_size(where):
    rng = np.random.default_rng(3)
    reasons = []
    for _ in range(150):
        data = bytearray(PACKED)
        for at in rng.integers(4, 60 if where == "header" else len(data), 2):
            data[at] = rng.integers(0, 256)
        try:
            assert len(decompressed(bytes(data), len(STAIRS), "depth: a")) == len(STAIRS)
        except InputError as error:
            reasons.append(str(error))
    assert len(reasons) > 50
    assert not any("\n" in reason for reason in reasons)


@pytest.mark.parametrize("cut", [1, 5, 40, 200, 250])
def test_streams_that_end_too_early_are_refused(cut):
    with pytest.raises(InputError, match="depth: a"):
        decompressed(PACKED[:-cut], len(STAIRS), "depth: a")


def test_stream_of_another_size_is_never_unpacked():
    large = PACKED[:4] + struct.pack("<I", 4_000_000_000) + PACKED[8:]
    with pytest.raises(InputError, match="holds 4000000000 bytes, 100 are expected"):
        decompressed(large, 100, "depth: a")
    with pytest.raises(InputError, match=r"has 4400 bytes, it tells of 4396|damaged"):
        decompressed(PACKED[:4] + struct.pack("<I", 4396) + PACKED[8:], 4396, "depth: a")


def short_stream(raw: int) -> bytes:
    """A block of the kind for a few bytes; its payload is nonsense."""
    return b"bvxn" + struct.pack("<II", raw, 5) + bytes(5) + b"bvx$"


def test_rare_kind_without_the_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "liblzfse", None)
    with pytest.raises(MissingDependency, match=r"pip install 'recon4d\[record3d\]'"):
        decompressed(short_stream(100), 100, "depth: a")


def test_rare_kind_is_read_by_the_package(monkeypatch):
    fake = types.SimpleNamespace(decompress=lambda data: b"x" * 100, error=RuntimeError)
    monkeypatch.setitem(sys.modules, "liblzfse", fake)
    assert decompressed(short_stream(100), 100, "depth: a") == b"x" * 100
    with pytest.raises(InputError, match="holds 101 bytes"):
        decompressed(short_stream(101), 100, "depth: a")


@pytest.mark.parametrize("count", [500, 5_000, 300_000])  # short streams are of another kind, long ones of many blocks
def test_every_stream_of_the_package_is_read(count):
    liblzfse = pytest.importorskip("liblzfse")
    rng = np.random.default_rng(count)
    data = np.round(2 + np.cumsum(rng.normal(0, 0.01, count)), 3).astype("<f4").tobytes() + rng.bytes(count)
    assert decompressed(liblzfse.compress(data), len(data), "depth: a") == data

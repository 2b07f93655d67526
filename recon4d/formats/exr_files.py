"""One channel of an OpenEXR picture, from bytes, without any library where it is stored the usual way.

Read here: one part, scan lines, stored plainly or with RLE, ZIPS or ZIP, in half, float or uint. That is what the
programs write whose depth we read. Anything else (PIZ, tiles, several parts) is handed to the package OpenEXR.

Source: "OpenEXR File Layout" and "Technical Introduction to OpenEXR", openexr.com.
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon4d.errors import InputError, require

MAGIC = b"\x76\x2f\x31\x01"
UNUSUAL = 0x200 | 0x800 | 0x1000  # tiles, deep data, several parts
LONGEST_SIDE, MOST_PIXELS = 32768, 1 << 28
LINES_PER_CHUNK = {0: 1, 1: 1, 2: 1, 3: 16}  # compression: none, RLE, ZIPS, ZIP
DTYPES = {0: np.dtype("<u4"), 1: np.dtype("<f2"), 2: np.dtype("<f4")}
DEPTH_CHANNELS = ("Z", "Y", "R")


class _Unusual(Exception):
    """The file is sound, but stored in a way that is not read here."""


@dataclass(frozen=True)
class _Header:
    channels: tuple[tuple[str, np.dtype], ...]  # in the order in which they are stored
    compression: int
    width: int
    height: int
    top: int  # number of the first line
    end: int  # where the table of chunks begins


def read_exr(path: Path, channels: Sequence[str] = DEPTH_CHANNELS) -> np.ndarray:
    """(h, w) float16, float32 or uint32 of the first of ``channels`` that the file has. Raises InputError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} is not readable ({error.strerror})") from error
    return decode_exr(data, str(path), channels)


def decode_exr(data: bytes, what: str, channels: Sequence[str] = DEPTH_CHANNELS) -> np.ndarray:
    """As `read_exr`, of a file in memory; ``what`` names it in messages. Raises InputError."""
    try:
        header = _read_header(data)
        wanted = _pick([name for name, _ in header.channels], channels, what)
        return _read_lines(data, header, wanted)
    except _Unusual:
        return _read_by_library(data, what, channels)
    except (struct.error, zlib.error, ValueError, IndexError, OverflowError) as error:
        raise InputError(f"{what} is not a readable EXR file ({error}): make it again") from error


def _pick(found: Sequence[str], wanted: Sequence[str], what: str) -> str:
    for name in wanted:
        if name in found:
            return name
    raise InputError(f"{what} has the channels {', '.join(found)}; {', '.join(wanted)} are looked for")


def _read_header(data: bytes) -> _Header:
    if data[:4] != MAGIC:
        raise ValueError("it does not begin as one")
    (version,) = struct.unpack_from("<I", data, 4)
    if version & 0xFF != 2 or version & UNUSUAL:
        raise _Unusual
    at, found = 8, {}
    while data[at] != 0:
        name, at = _text(data, at)
        _, at = _text(data, at)
        (size,) = struct.unpack_from("<i", data, at)
        if size < 0 or at + 4 + size > len(data):
            raise ValueError("its header is cut off")
        found[name] = data[at + 4 : at + 4 + size]
        at += 4 + size
    if not {"channels", "compression", "dataWindow"} <= set(found):
        raise ValueError("its header is not complete")
    left, top, right, bottom = struct.unpack("<4i", found["dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    if not (0 < width <= LONGEST_SIDE and 0 < height <= LONGEST_SIDE and width * height <= MOST_PIXELS):
        raise ValueError(f"it claims {width}x{height} pixels")
    compression = found["compression"][0]
    if compression not in LINES_PER_CHUNK:
        raise _Unusual
    return _Header(_channels(found["channels"]), compression, width, height, top, at + 1)


def _channels(block: bytes) -> tuple[tuple[str, np.dtype], ...]:
    found, at = [], 0
    while block[at] != 0:
        name, at = _text(block, at)
        kind, _, across, down = struct.unpack_from("<iIii", block, at)
        if (across, down) != (1, 1):
            raise _Unusual
        if kind not in DTYPES:
            raise ValueError(f"channel {name} has the unknown type {kind}")
        found.append((name, DTYPES[kind]))
        at += 16
    if not found:
        raise ValueError("it has no channel")
    return tuple(found)


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(b"\0", at)
    return data[at:end].decode("utf-8"), end + 1


def _read_lines(data: bytes, header: _Header, wanted: str) -> np.ndarray:
    """Put the wanted channel together, chunk by chunk; each says which line it begins with."""
    lines = LINES_PER_CHUNK[header.compression]
    chunks = -(-header.height // lines)
    offsets = struct.unpack_from(f"<{chunks}Q", data, header.end)
    line_bytes = header.width * sum(dtype.itemsize for _, dtype in header.channels)
    before, dtype = 0, None
    for name, own in header.channels:
        if name == wanted:
            dtype = own
            break
        before += header.width * own.itemsize
    out, missing = np.zeros((header.height, header.width), dtype=dtype), np.ones(header.height, dtype=bool)
    for offset in offsets:
        line, size = struct.unpack_from("<ii", data, offset)
        first = line - header.top
        if not 0 <= first < header.height or size < 0 or offset + 8 + size > len(data):
            raise ValueError("it is cut off or damaged")
        count = min(lines, header.height - first)
        raw = _unpacked(data[offset + 8 : offset + 8 + size], header.compression, count * line_bytes)
        rows = np.frombuffer(raw, dtype=np.uint8).reshape(count, line_bytes)
        own = np.ascontiguousarray(rows[:, before : before + header.width * dtype.itemsize])
        out[first : first + count] = own.view(dtype)
        missing[first : first + count] = False
    if missing.any():
        raise ValueError("lines are missing")
    return out.astype(dtype.newbyteorder("="), copy=False)


def _unpacked(block: bytes, compression: int, size: int) -> bytes:
    """The bytes of a chunk; a chunk that would not get smaller is stored as it is."""
    if compression == 0 or len(block) == size:
        raw = block
    else:
        raw = _run_lengths(block, size) if compression == 1 else zlib.decompressobj().decompress(block, size + 1)
        # Each byte was stored as the difference to the one before, all first halves of the numbers before the second.
        steps = np.frombuffer(raw, dtype=np.uint8).astype(np.int64)
        steps[1:] -= 128
        plain = (np.cumsum(steps) & 0xFF).astype(np.uint8)
        both = np.empty(len(plain), dtype=np.uint8)
        half = (len(plain) + 1) // 2
        both[0::2], both[1::2] = plain[:half], plain[half:]
        raw = both.tobytes()
    if len(raw) != size:
        raise ValueError(f"a chunk has {len(raw)} bytes, {size} are expected")
    return raw


def _run_lengths(block: bytes, size: int) -> bytes:
    out, at = bytearray(), 0
    while at < len(block) and len(out) <= size:
        count = struct.unpack_from("<b", block, at)[0]
        if count < 0:
            out += block[at + 1 : at + 1 - count]
            at += 1 - count
        else:
            out += block[at + 1 : at + 2] * (count + 1)
            at += 2
    return bytes(out)


def _read_by_library(data: bytes, what: str, channels: Sequence[str]) -> np.ndarray:
    exr = require("OpenEXR", "exr")
    with tempfile.NamedTemporaryFile(suffix=".exr") as file:
        file.write(data)
        file.flush()
        try:
            with exr.File(file.name, separate_channels=True) as opened:
                found = {name: np.array(channel.pixels) for name, channel in opened.channels().items()}
        except (RuntimeError, OSError, ValueError) as error:
            raise InputError(f"{what} is not a readable EXR file ({error}): make it again") from error
    return found[_pick(list(found), channels, what)]

"""EXR pictures for tests, written by hand: one part, scan lines."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import numpy as np

NONE, ZIPS, ZIP = 0, 2, 3
LINES = {NONE: 1, ZIPS: 1, ZIP: 16}
TYPES = {"uint32": 0, "float16": 1, "float32": 2}


def exr_bytes(channels: Mapping[str, np.ndarray], compression: int = ZIP, top: int = 0) -> bytes:
    """Channels (h, w) of uint32, float16 or float32, stored in the order of their names."""
    named = sorted(channels.items())
    height, width = named[0][1].shape
    table = b"".join(
        name.encode() + b"\0" + struct.pack("<iIii", TYPES[grid.dtype.name], 0, 1, 1) for name, grid in named
    )
    box = struct.pack("<4i", 0, top, width - 1, top + height - 1)
    header = b"\x76\x2f\x31\x01" + struct.pack("<I", 2)
    for name, kind, data in (
        ("channels", "chlist", table + b"\0"),
        ("compression", "compression", bytes([compression])),
        ("dataWindow", "box2i", box),
        ("displayWindow", "box2i", box),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", 1)),
        ("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1)),
    ):
        header += name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(data)) + data
    header += b"\0"
    chunks = []
    for first in range(0, height, LINES[compression]):
        raw = b"".join(
            grid[line].tobytes() for line in range(first, min(first + LINES[compression], height)) for _, grid in named
        )
        data = raw if compression == NONE else min(_zipped(raw), raw, key=len)
        chunks.append(struct.pack("<ii", top + first, len(data)) + data)
    at = len(header) + 8 * len(chunks)
    offsets = []
    for chunk in chunks:
        offsets.append(at)
        at += len(chunk)
    return header + struct.pack(f"<{len(offsets)}Q", *offsets) + b"".join(chunks)


def _zipped(raw: bytes) -> bytes:
    halves = np.frombuffer(raw[0::2] + raw[1::2], dtype=np.uint8).astype(int)
    steps = halves.copy()
    steps[1:] = halves[1:] - halves[:-1] + 128
    return zlib.compress((steps & 255).astype(np.uint8).tobytes())

"""Apple's LZFSE streams: raw blocks are read here, compressed ones by the optional package pyliblzfse.

Source for the layout of blocks: lzfse_internal.h of github.com/lzfse/lzfse (little endian; every block begins with four
letters and, but for the last, the number of bytes it stands for).
"""

from __future__ import annotations

import struct

from recon4d.errors import InputError, MissingDependency

END, RAW, TABLES, SMALL_TABLES, LZVN = b"bvx$", b"bvx-", b"bvx1", b"bvx2", b"bvxn"


def is_lzfse(data: bytes) -> bool:
    """Whether data begins like a stream."""
    return data[:4] in (RAW, TABLES, SMALL_TABLES, LZVN, END)


def decompressed(data: bytes, size: int, where: str) -> bytes:
    """The ``size`` bytes a stream stands for; nothing larger is ever unpacked.

    Raises:
        InputError: damaged, or of another size.
        MissingDependency: compressed, and pyliblzfse is not installed.
    """
    blocks = _blocks(data, where)
    total = sum(raw for _, raw, _, _ in blocks)
    if total != size:
        raise InputError(f"{where} holds {total} bytes, {size} are expected: it is damaged or of another size")
    if all(kind == RAW for kind, _, _, _ in blocks):
        return b"".join(data[start : start + length] for _, _, start, length in blocks)
    try:
        import liblzfse
    except ModuleNotFoundError:
        raise MissingDependency(
            f"{where} is compressed with LZFSE, which needs pyliblzfse: pip install 'recon4d[record3d]'"
        ) from None
    try:
        found = liblzfse.decompress(data)
    except liblzfse.error as error:
        raise InputError(f"{where} is damaged ({error}): export the recording again") from error
    if len(found) != size:
        raise InputError(f"{where} holds {len(found)} bytes, {size} are expected: it is damaged")
    return found


def _blocks(data: bytes, where: str) -> list[tuple[bytes, int, int, int]]:
    """Kind, bytes it stands for, and where its payload begins and how long it is, of every block."""
    found, at = [], 0
    try:
        while data[at : at + 4] != END:
            kind = data[at : at + 4]
            (raw,) = struct.unpack_from("<I", data, at + 4)
            header, payload = _lengths(data, at, kind, raw)
            if payload < 0 or header < 8 or at + header + payload > len(data):
                raise ValueError("a block goes beyond the end")
            found.append((kind, raw, at + header, payload))
            at += header + payload
    except (struct.error, ValueError) as error:
        raise InputError(f"{where} is no complete LZFSE stream ({error}): export the recording again") from None
    return found


def _lengths(data: bytes, at: int, kind: bytes, raw: int) -> tuple[int, int]:
    """Bytes of a block's header and of its payload."""
    if kind == RAW:
        return 8, raw
    if kind == LZVN:
        return 12, struct.unpack_from("<I", data, at + 8)[0]
    if kind == SMALL_TABLES:  # 20-bit lengths and the header's own within three packed numbers
        first, second, third = struct.unpack_from("<QQQ", data, at + 8)
        return third & 0xFFFFFFFF, (first >> 20 & 0xFFFFF) + (second >> 40 & 0xFFFFF)
    if kind == TABLES:
        return 772, struct.unpack_from("<I", data, at + 8)[0]
    raise ValueError(f"unknown block {kind!r}")

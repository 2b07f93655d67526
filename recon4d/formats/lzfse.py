"""Apple's LZFSE streams. Blocks of kinds that are only written for a few bytes need the optional package pyliblzfse.

Source for the layout of blocks: lzfse_internal.h of github.com/lzfse/lzfse (little endian; every block begins with four
letters and, but for the last, the number of bytes it stands for).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
    total = sum(block.raw for block in blocks)
    if total != size:
        raise InputError(f"{where} holds {total} bytes, {size} are expected: it is damaged or of another size")
    if all(block.kind in (RAW, SMALL_TABLES) for block in blocks):
        return _unpacked(data, size, blocks, where)
    try:
        import liblzfse
    except ModuleNotFoundError:
        raise MissingDependency(
            f"{where} is compressed in a rare way, which needs pyliblzfse: pip install 'recon4d[record3d]'"
        ) from None
    try:
        found = liblzfse.decompress(data)
    except liblzfse.error as error:
        raise InputError(f"{where} is damaged ({error}): export the recording again") from error
    if len(found) != size:
        raise InputError(f"{where} holds {len(found)} bytes, {size} are expected: it is damaged")
    return found


def _unpacked(data: bytes, size: int, blocks: Sequence[_Block], where: str) -> bytes:
    from recon4d.formats.lzfse_blocks import unpack_block

    packed, out, filled = np.frombuffer(data, dtype=np.uint8), np.empty(size, dtype=np.uint8), 0
    for block in blocks:
        before = filled
        if block.kind == RAW:
            filled += block.raw
            out[before:filled] = packed[block.at + block.header : block.at + block.header + block.raw]
            continue
        try:
            filled = unpack_block(packed, block.at, out, filled)
        except ValueError as error:
            raise InputError(f"{where} is damaged ({error}): export the recording again") from None
        if filled - before != block.raw:
            raise InputError(f"{where} is damaged: a block has {filled - before} bytes, it tells of {block.raw}")
    return out.tobytes()


@dataclass(frozen=True)
class _Block:
    kind: bytes
    raw: int  # bytes it stands for
    at: int  # where its header begins
    header: int  # bytes of the header
    payload: int  # bytes after it


def _blocks(data: bytes, where: str) -> list[_Block]:
    found, at = [], 0
    try:
        while data[at : at + 4] != END:
            kind = data[at : at + 4]
            (raw,) = struct.unpack_from("<I", data, at + 4)
            header, payload = _lengths(data, at, kind, raw)
            if header < 8 or at + header + payload > len(data):
                raise ValueError("a block goes beyond the end")
            found.append(_Block(kind, raw, at, header, payload))
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

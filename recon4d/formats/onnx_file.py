"""ONNX files: whether one holds all of its weights. Only as much of the format is read as that takes."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

# Field numbers of what can hold tensors (onnx.proto of ONNX 1.16), by message.
PARTS = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
DATA_LOCATION, EXTERNAL = 14, 1  # field of a tensor, and its value where the numbers are in another file
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # how a field is written


class _Malformed(Exception):
    """Not what Protocol Buffers write."""


def has_external_data(path: Path) -> bool:
    """Whether an ONNX model keeps weights in files beside it. What is no ONNX model has none.

    Raises:
        OSError: the file cannot be read.
    """
    if path.stat().st_size == 0:
        return False
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _is_external(data, 0, len(data), "model")
        except _Malformed:
            return False


def _is_external(data: mmap.mmap, start: int, end: int, message: str) -> bool:
    """Whether a message, or one inside it, is a tensor whose numbers are in another file."""
    for number, kind, value, stop in _fields(data, start, end):
        if message == "tensor":
            if number == DATA_LOCATION and kind == VARINT and value == EXTERNAL:
                return True
        elif kind == BYTES and number in PARTS[message] and _is_external(data, value, stop, PARTS[message][number]):
            return True
    return False


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number and kind of each field, and its value; of bytes where they begin and end.

    Source: Protocol Buffers documentation, "Encoding".
    """
    at = start
    while at < end:
        key, at = _varint(data, at, end)
        number, kind, value = key >> 3, key & 7, at
        if kind == VARINT:
            value, at = _varint(data, at, end)
        elif kind == BYTES:
            size, value = _varint(data, at, end)
            at = value + size
        elif kind in (FIXED64, FIXED32):
            at += 8 if kind == FIXED64 else 4
        else:
            raise _Malformed
        if at > end:
            raise _Malformed
        yield number, kind, value, at


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """A number, seven bits a byte with the lowest first, and where the next one begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        value, at = value | (byte & 127) << shift, at + 1
        if byte < 128:
            return value, at
    raise _Malformed

"""The container of binary glTF 2.0: JSON lists, and a binary chunk that grows in a file beside the target.

Source: Khronos glTF 2.0 specification, sections 3.6 (accessors) and 4.4 (GLB).
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from recon4d._version import __version__
from recon4d.errors import ExportError
from recon4d.formats.axes import Up
from recon4d.formats.disk import write_rows

ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
COMPONENTS = {"int16": 5122, "uint16": 5123, "uint32": 5125, "float32": 5126}
SHAPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
GLB_LIMIT = 2**32 - 1  # lengths in a GLB are 32-bit


# The rotation (quaternion x, y, z, w) to glTF's y up, z towards the viewer.
TURNS = {
    Up.Z: (-(0.5**0.5), 0.0, 0.0, 0.5**0.5),  # (x, y, z) -> (x, z, -y)
    Up.Y: (0.0, 0.0, 0.0, 1.0),
    Up.MINUS_Y: (1.0, 0.0, 0.0, 0.0),  # (x, y, z) -> (x, -y, -z)
}


@contextmanager
def open_glb(path: Path, up: Up) -> Iterator[Glb]:
    """A file under construction; assembled when the block ends without an error."""
    binary_path = path.with_name(path.name + ".bin.tmp")
    try:
        with open(binary_path, "w+b") as binary:
            glb = Glb(binary, up)
            yield glb
            glb.assemble(path)
    finally:
        binary_path.unlink(missing_ok=True)


@dataclass
class Glb:
    """The JSON of a file, and its binary chunk on disk."""

    binary: BinaryIO
    up: Up

    def __post_init__(self) -> None:
        self.json: dict[str, object] = {
            "asset": {"version": "2.0", "generator": f"recon4d {__version__}"},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"name": "scene", "rotation": list(TURNS[self.up]), "children": []}],
        }
        self._corners, self._corners_item = np.zeros(0, dtype=np.uint32), {}

    def add(self, kind: str, item: dict[str, object]) -> int:
        """Append to one of the JSON's lists; returns the index."""
        items = self.json.setdefault(kind, [])
        items.append(item)
        return len(items) - 1

    def add_to_root(self, node: dict[str, object]) -> int:
        index = self.add("nodes", node)
        self.json["nodes"][0]["children"].append(index)
        return index

    def use_extension(self, name: str) -> None:
        used = self.json.setdefault("extensionsUsed", [])
        if name not in used:
            used.append(name)

    def require_extension(self, name: str) -> None:
        self.use_extension(name)
        if name not in self.json.setdefault("extensionsRequired", []):
            self.json["extensionsRequired"].append(name)

    def buffer_view(self, array: np.ndarray, target: int | None = None) -> int:
        """Append bytes to the binary chunk, starting on 4 bytes; rows that are no multiple of 4 bytes are padded."""
        row_bytes = array.itemsize * (array.shape[1] if array.ndim == 2 else 1)
        view: dict[str, object] = {"buffer": 0, "byteOffset": self.binary.tell()}
        if array.ndim == 2 and row_bytes % 4:
            padded = np.zeros((len(array), -(-row_bytes // 4) * 4 // array.itemsize), dtype=array.dtype)
            padded[:, : array.shape[1]] = array
            array = padded
            view["byteStride"] = array.itemsize * array.shape[1]
        if target is not None:
            view["target"] = target
        data = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
        write_rows(self.binary, data)
        view["byteLength"] = data.nbytes
        self.binary.write(b"\0" * (-data.nbytes % 4))
        return self.add("bufferViews", view)

    def accessor(
        self, array: np.ndarray, target: int | None = None, bounds: bool = False, normalised: bool = False
    ) -> int:
        """Accessor over the rows of an array (N,) or (N, 2..4); ``bounds`` adds min and max."""
        item: dict[str, object] = {
            "bufferView": self.buffer_view(array, target),
            "componentType": COMPONENTS[array.dtype.name],
            "count": len(array),
            "type": SHAPES[1 if array.ndim == 1 else array.shape[1]],
        }
        if normalised:
            item["normalized"] = True
        if bounds:
            table = array.reshape(len(array), -1)
            if not np.isfinite(table).all():
                raise ExportError("glb: a position is not finite: make the stage that wrote the points again")
            item |= {"min": table.min(axis=0).tolist(), "max": table.max(axis=0).tolist()}
        return self.add("accessors", item)

    def corners(self, faces: np.ndarray) -> int:
        """Accessor of the corners of triangles (T, 3); those that begin the ones written last share their bytes.

        Squares of points all have the same pattern: it stands in the file once, as long as the longest needs it.
        """
        corners = np.asarray(faces, dtype=np.uint32).reshape(-1)
        if len(corners) > len(self._corners) or (self._corners[: len(corners)] != corners).any():
            narrow = corners.max() < 65535  # 65535 itself restarts a primitive in some programs
            index = self.accessor(corners.astype(np.uint16) if narrow else corners, ELEMENT_ARRAY_BUFFER)
            self._corners, self._corners_item = corners, self.json["accessors"][index]
            return index
        return self.add("accessors", self._corners_item | {"count": len(corners)})

    def assemble(self, path: Path) -> None:
        """Write the file: header, JSON chunk (padded with spaces), binary chunk (padded already)."""
        length = self.binary.tell()
        self.json["buffers"] = [{"byteLength": length}]
        text = json.dumps(self.json, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        total = 12 + 8 + len(text) + 8 + length
        if total > GLB_LIMIT:
            raise ExportError(
                f"glb: the file would have {total / 1e9:.1f} GB, a GLB can hold 4.29 GB: "
                "lower --max-points or --max-glb-frames"
            )
        self.binary.seek(0)
        with open(path, "wb") as target:
            target.write(struct.pack("<4sII", b"glTF", 2, total))
            target.write(struct.pack("<I4s", len(text), b"JSON") + text)
            target.write(struct.pack("<I4s", length, b"BIN\0"))
            shutil.copyfileobj(self.binary, target, 1 << 20)

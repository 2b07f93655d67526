"""Binary glTF 2.0: a file that plays the clouds of a sequence, and meshes with vertex colours or a picture.

glTF is y-up with linear colours; a root node carries the axis change and colours are made linear here. The binary
chunk grows in a temporary file beside the target, so memory does not depend on the length of a sequence.

Source: Khronos glTF 2.0 specification, sections 3.6 (accessors), 3.7.2.1 (COLOR_0 is linear), 3.11 (animation), 4.4
(GLB); KHR_mesh_quantization; KHR_materials_unlit.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO

import numpy as np

from recon4d._version import __version__
from recon4d.errors import ExportError
from recon4d.scene.cloud import PointCloud
from recon4d.scene.mesh import TriMesh

ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
POINTS, TRIANGLES = 0, 4
LINEAR, LINEAR_MIPMAP_LINEAR, CLAMP_TO_EDGE = 9729, 9987, 33071
COMPONENTS = {"int16": 5122, "uint16": 5123, "uint32": 5125, "float32": 5126}
SHAPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
GLB_LIMIT = 2**32 - 1  # lengths in a GLB are 32-bit


class Up(Enum):
    """Axes of the data; the value is the rotation (quaternion x, y, z, w) to glTF's y up, z towards the viewer."""

    Z = (-(0.5**0.5), 0.0, 0.0, 0.5**0.5)  # (x, y, z) -> (x, z, -y)
    Y = (0.0, 0.0, 0.0, 1.0)
    MINUS_Y = (1.0, 0.0, 0.0, 0.0)  # axes of a camera, y down: (x, y, z) -> (x, -y, -z)


def linear_from_srgb_uint16(colors: np.ndarray) -> np.ndarray:
    """Linear light, 0..65535, of sRGB bytes. 16 bits: linear bytes would merge dark tones (10 comes back as 13).

    Source: IEC 61966-2-1.
    """
    encoded = np.arange(256) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return np.round(linear * 65535).astype(np.uint16)[colors]


def write_cloud_sequence(
    path: Path,
    names: Sequence[str],
    timestamps_s: np.ndarray,
    cloud_of: Callable[[str], PointCloud],
    static: PointCloud | None = None,
    up: Up = Up.Z,
    quantised: bool = False,
) -> None:
    """Write one file that shows each cloud from its time until the next one's; ``static`` is always shown.

    A node per frame has STEP keys on its scale, 1 while it is shown and 0 otherwise: every viewer that plays glTF
    plays this, whatever the number of points. Viewers that do not play show the first frame. Time starts at 0; the last
    frame lasts as long as the median one.

    Args:
        path: the .glb to write.
        names: (N,) names of the frames, become names of nodes.
        timestamps_s: (N,) increasing seconds.
        cloud_of: reads the cloud of a name; called once per frame, in order.
        static: the background.
        up: axes of all points.
        quantised: positions as int16 over each cloud's extent (needs KHR_mesh_quantization) instead of float32.

    Raises:
        ExportError: the times do not increase, or the file would pass the 4 GiB of a GLB.
    """
    starts_s = np.asarray(timestamps_s, dtype=np.float64) - (timestamps_s[0] if len(timestamps_s) else 0.0)
    if len(starts_s) != len(names) or (np.diff(starts_s) <= 0).any():
        raise ExportError(f"glb: the times of the {len(names)} frames do not increase: make the frames stage again")
    with _glb(path, up) as glb:
        if static is not None and len(static):
            glb.add_to_root(_cloud_node(glb, "static", static, quantised))
        channels, samplers = [], []
        for i, name in enumerate(names):
            cloud = cloud_of(name)
            if not len(cloud):
                continue  # glTF has no empty primitive; nothing is shown at this time
            shown_at_rest = 1.0 if i == 0 else 0.0
            node = glb.add_to_root(_cloud_node(glb, name, cloud, quantised) | {"scale": [shown_at_rest] * 3})
            if len(names) > 1:
                channels.append({"sampler": len(samplers), "target": {"node": node, "path": "scale"}})
                samplers.append(_shown_keys(glb, starts_s, i))
        if channels:
            glb.add("animations", {"name": "sequence", "channels": channels, "samplers": samplers})


def _shown_keys(glb: _Glb, starts_s: np.ndarray, i: int) -> dict[str, object]:
    """Animation sampler that shows frame ``i`` from its time to the next one's, and lasts as long as the clip."""
    end_s = starts_s[-1] + np.median(np.diff(starts_s))
    times, shown = ([0.0], [1.0]) if i == 0 else ([0.0, starts_s[i]], [0.0, 1.0])
    if i + 1 < len(starts_s):
        times, shown = [*times, starts_s[i + 1]], [*shown, 0.0]
    times, shown = [*times, end_s], [*shown, shown[-1]]  # the last one stays: players hold or loop at their end
    scales = np.repeat(np.array(shown, dtype=np.float32)[:, None], 3, axis=1)
    return {
        "input": glb.accessor(np.array(times, dtype=np.float32), bounds=True),
        "output": glb.accessor(scales),
        "interpolation": "STEP",
    }


def _cloud_node(glb: _Glb, name: str, cloud: PointCloud, quantised: bool) -> dict[str, object]:
    """Node with the points; quantised ones sit in a child whose scale and offset bring them back."""
    if not quantised:
        return {"name": name, "mesh": _points(glb, name, cloud.points, cloud.colors)}
    glb.require_extension("KHR_mesh_quantization")
    low, high = cloud.points.min(axis=0).astype(np.float64), cloud.points.max(axis=0).astype(np.float64)
    centre, step = (low + high) / 2, np.maximum((high - low) / 65534, 1e-12)
    # Plain int16, not normalised: trimesh does not apply "normalized" to positions.
    mesh = _points(glb, name, np.round((cloud.points - centre) / step).astype(np.int16), cloud.colors)
    child = {"name": f"{name} points", "mesh": mesh, "translation": centre.tolist(), "scale": step.tolist()}
    return {"name": name, "children": [glb.add("nodes", child)]}


def _points(glb: _Glb, name: str, positions: np.ndarray, colors: np.ndarray) -> int:
    attributes = {
        "POSITION": glb.accessor(positions, ARRAY_BUFFER, bounds=True),
        "COLOR_0": _vertex_colors(glb, colors),
    }
    primitive = {"attributes": attributes, "mode": POINTS, "material": glb.plain_material()}
    return glb.add("meshes", {"name": name, "primitives": [primitive]})


def _vertex_colors(glb: _Glb, colors: np.ndarray) -> int:
    rgba = np.full((len(colors), 4), 65535, dtype=np.uint16)  # 4 channels keep every element on 4 bytes
    rgba[:, :3] = linear_from_srgb_uint16(colors)
    return glb.accessor(rgba, ARRAY_BUFFER, normalised=True)


def write_mesh(path: Path, mesh: TriMesh, up: Up = Up.Z) -> None:
    """Write a triangle mesh with its vertex colours. Raises ExportError when it has no triangle."""
    with _glb(path, up) as glb:
        attributes = {"COLOR_0": _vertex_colors(glb, mesh.colors)}
        _add_triangles(glb, path.stem, mesh.vertices, mesh.faces, attributes, glb.plain_material())


def write_textured_mesh(
    path: Path, vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray, picture: Path, up: Up = Up.Z
) -> None:
    """Write a triangle mesh that wears a picture; the picture's file is embedded as it is.

    Args:
        path: the .glb to write.
        vertices: (N, 3) float.
        faces: (T, 3) int rows of ``vertices``, counter-clockwise seen from outside.
        uv: (N, 2) float 0..1, (0, 0) the top-left corner of the picture (not the centre of its first pixel).
        picture: .jpg or .png file.
        up: axes of the vertices.

    Raises:
        ExportError: no triangles.
    """
    mime = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}[picture.suffix.lower()]
    with _glb(path, up) as glb:
        view = glb.buffer_view(np.frombuffer(picture.read_bytes(), dtype=np.uint8))
        image = glb.add("images", {"name": picture.stem, "bufferView": view, "mimeType": mime})
        filters = {"magFilter": LINEAR, "minFilter": LINEAR_MIPMAP_LINEAR}
        sampler = glb.add("samplers", filters | {"wrapS": CLAMP_TO_EDGE, "wrapT": CLAMP_TO_EDGE})
        texture = glb.add("textures", {"source": image, "sampler": sampler})
        attributes = {"TEXCOORD_0": glb.accessor(np.asarray(uv, dtype=np.float32), ARRAY_BUFFER)}
        _add_triangles(glb, path.stem, vertices, faces, attributes, glb.plain_material(texture))


def _add_triangles(
    glb: _Glb, name: str, vertices: np.ndarray, faces: np.ndarray, attributes: dict[str, int], material: int
) -> None:
    if not len(faces):
        raise ExportError(f"glb: the mesh {name} has no triangles, glTF cannot hold an empty mesh")
    attributes["POSITION"] = glb.accessor(np.asarray(vertices, dtype=np.float32), ARRAY_BUFFER, bounds=True)
    indices = glb.accessor(np.asarray(faces, dtype=np.uint32).reshape(-1), ELEMENT_ARRAY_BUFFER)
    primitive = {"attributes": attributes, "indices": indices, "mode": TRIANGLES, "material": material}
    glb.add_to_root({"name": name, "mesh": glb.add("meshes", {"name": name, "primitives": [primitive]})})


@contextmanager
def _glb(path: Path, up: Up) -> Iterator[_Glb]:
    """A file under construction; assembled when the block ends without an error."""
    binary_path = path.with_name(path.name + ".bin.tmp")
    try:
        with open(binary_path, "w+b") as binary:
            glb = _Glb(binary, up)
            yield glb
            glb.assemble(path)
    finally:
        binary_path.unlink(missing_ok=True)


@dataclass
class _Glb:
    """The JSON of a file, and its binary chunk on disk."""

    binary: BinaryIO
    up: Up

    def __post_init__(self) -> None:
        self.json: dict[str, object] = {
            "asset": {"version": "2.0", "generator": f"recon4d {__version__}"},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"name": "scene", "rotation": list(self.up.value), "children": []}],
        }

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

    def plain_material(self, texture: int | None = None) -> int:
        """The material that shows colours as they were recorded, from both sides; one per texture and file."""
        self.use_extension("KHR_materials_unlit")
        surface: dict[str, object] = {"metallicFactor": 0.0, "roughnessFactor": 1.0}  # for readers without unlit
        if texture is not None:
            surface["baseColorTexture"] = {"index": texture}
        material = {
            "name": "recorded light",
            "doubleSided": True,
            "pbrMetallicRoughness": surface,
            "extensions": {"KHR_materials_unlit": {}},
        }
        known = self.json.setdefault("materials", [])
        return known.index(material) if material in known else self.add("materials", material)

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
        self.binary.write(data.tobytes())
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

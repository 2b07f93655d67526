"""PLY files: our clouds and meshes in binary little endian, and the clouds and meshes users bring, binary or ascii.

Ours hold, in this order, ``x y z nx ny nz`` float, ``red green blue`` uchar (sRGB), ``confidence`` float,
``provenance`` uchar, ``object_id`` ushort (clouds), or ``x y z`` float, ``red green blue`` uchar and triangles
(meshes). Format: G. Turk, "The PLY Polygon File Format", 1994.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.disk import write_rows
from recon4d.scene.cloud import PointCloud
from recon4d.scene.mesh import TriMesh

_CLOUD_ROW = np.dtype(
    [(name, "<f4") for name in ("x", "y", "z", "nx", "ny", "nz")]
    + [(name, "u1") for name in ("red", "green", "blue")]
    + [("confidence", "<f4"), ("provenance", "u1"), ("object_id", "<u2")]
)
_VERTEX_ROW = np.dtype([(name, "<f4") for name in "xyz"] + [(name, "u1") for name in ("red", "green", "blue")])
_FACE_ROW = np.dtype([("count", "u1"), ("vertex_indices", "<i4", (3,))])

_PLY_NAMES = {"<f4": "float", "|u1": "uchar", "<u2": "ushort"}
_CODES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4"}
_CODES |= {"double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"}
_CODES |= {"float32": "f4", "float64": "f8"}
_BYTE_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
_GREY = 128  # colour of points that come without one


def write_cloud(path: Path, cloud: PointCloud) -> None:
    """Write a cloud with all its attributes."""
    rows = np.empty(len(cloud), dtype=_CLOUD_ROW)
    for axis, (x, nx, colour) in enumerate(zip("xyz", ("nx", "ny", "nz"), ("red", "green", "blue"))):
        rows[x], rows[nx], rows[colour] = cloud.points[:, axis], cloud.normals[:, axis], cloud.colors[:, axis]
    for field in ("confidence", "provenance", "object_id"):
        rows[field] = getattr(cloud, field)
    with open(path, "wb") as file:
        file.write(_header([("vertex", rows)]))
        write_rows(file, rows)


def write_mesh(path: Path, mesh: TriMesh) -> None:
    """Write a triangle mesh with vertex colours."""
    rows = np.empty(len(mesh.vertices), dtype=_VERTEX_ROW)
    for axis, (x, colour) in enumerate(zip("xyz", ("red", "green", "blue"))):
        rows[x], rows[colour] = mesh.vertices[:, axis], mesh.colors[:, axis]
    faces = np.empty(len(mesh.faces), dtype=_FACE_ROW)
    faces["count"], faces["vertex_indices"] = 3, mesh.faces
    with open(path, "wb") as file:
        file.write(_header([("vertex", rows), ("face", faces)]))
        write_rows(file, rows)
        write_rows(file, faces)


def _header(elements: list[tuple[str, np.ndarray]]) -> bytes:
    lines = ["ply", "format binary_little_endian 1.0"]
    for name, rows in elements:
        lines.append(f"element {name} {len(rows)}")
        if name == "face":
            lines.append("property list uchar int vertex_indices")
        else:
            lines += [f"property {_PLY_NAMES[rows.dtype[field].str]} {field}" for field in rows.dtype.names]
    return "\n".join([*lines, "end_header", ""]).encode()


def read_cloud(path: Path) -> PointCloud:
    """The vertices of any PLY that has at least ``x y z``.

    Colours may be 8 or 16 bit, or float 0..1; what is missing gets its neutral value (colours grey). Raises InputError.
    """
    vertices = _read_elements(path, "vertex")["vertex"]
    have = set(vertices.dtype.names)
    return PointCloud(
        points=_columns(path, vertices, ("x", "y", "z")),
        colors=_colors(vertices),
        normals=_columns(path, vertices, ("nx", "ny", "nz")) if {"nx", "ny", "nz"} <= have else None,
        **{field: vertices[field] for field in ("confidence", "provenance", "object_id") if field in have},
    )


def read_mesh(path: Path) -> TriMesh:
    """Vertices and faces of any PLY whose faces all have the same number of corners, split into triangles.

    Raises InputError.
    """
    elements = _read_elements(path, "vertex", "face")
    vertices, rows = elements["vertex"], elements["face"]
    field = next((name for name in ("vertex_indices", "vertex_index") if name in (rows.dtype.names or ())), None)
    if field is None:
        raise InputError(f"{path} has faces without vertex_indices: write it again as an ordinary PLY mesh")
    corners = rows[field].astype(np.int64)
    if len(corners) and (corners.shape[1] < 3 or corners.min() < 0 or corners.max() >= len(vertices)):
        raise InputError(f"{path} has faces that name less than 3 or missing vertices: the file is damaged")
    fan = [corners[:, [0, i, i + 1]] for i in range(1, corners.shape[1] - 1)] if len(corners) else []
    faces = np.stack(fan, axis=1).reshape(-1, 3) if fan else np.zeros((0, 3))
    return TriMesh(_columns(path, vertices, ("x", "y", "z")), faces, _colors(vertices))


def _columns(path: Path, rows: np.ndarray, fields: tuple[str, ...]) -> np.ndarray:
    missing = [field for field in fields if field not in rows.dtype.names]
    if missing:
        raise InputError(f"{path} has vertices without {' '.join(missing)}, at least x y z are needed")
    return np.stack([rows[field] for field in fields], axis=-1).astype(np.float32)


def _colors(rows: np.ndarray) -> np.ndarray:
    """(N, 3) uint8 from the usual ways to store a colour."""
    if not {"red", "green", "blue"} <= set(rows.dtype.names):
        return np.full((len(rows), 3), _GREY, dtype=np.uint8)
    colors = np.stack([rows[field] for field in ("red", "green", "blue")], axis=-1)
    if colors.dtype.kind == "f":
        return np.round(np.clip(colors, 0, 1) * 255).astype(np.uint8)
    return (colors >> 8).astype(np.uint8) if colors.dtype.itemsize == 2 else colors.astype(np.uint8)


# -- reading any PLY --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Property:
    name: str
    code: str  # numpy type without byte order
    count_code: str | None  # of the length in front of a list, None for a plain number


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: tuple[_Property, ...]


def _read_elements(path: Path, *wanted: str) -> dict[str, np.ndarray]:
    """Structured arrays of the wanted elements; a list becomes a field with a fixed second axis. Raises InputError."""
    try:
        with open(path, "rb") as file:
            order, elements = _read_header(file, path)
            data = file.read()
    except FileNotFoundError:
        raise InputError(f"{path} was not found") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    missing = [name for name in wanted if name not in [element.name for element in elements]]
    if missing:
        raise InputError(f"{path} has no element called {missing[0]}: it is not the kind of PLY that is expected here")
    if order == "ascii":
        try:
            data = np.array(data.split(), dtype=np.float64)
        except ValueError as error:
            raise InputError(f"{path} is an ascii PLY with something that is no number ({error})") from None
    found, offset = {}, 0
    for element in elements:
        if set(wanted) <= set(found):
            break
        take = _take_ascii if order == "ascii" else _take_binary
        found[element.name], offset = take(path, element, data, offset, _BYTE_ORDERS[order])
    return found


def _read_header(file: BinaryIO, path: Path) -> tuple[str, list[_Element]]:
    """Format and elements; the file then stands at the first byte of the data."""
    if file.readline(16).strip() != b"ply":
        raise InputError(f"{path} is no PLY file: its first line is not 'ply'")
    order, elements = "", []
    while True:
        line = file.readline(4096)
        words = line.decode("latin-1").split()
        try:
            if words[:1] == ["end_header"]:
                break
            if not line:
                raise ValueError("the header has no end")
            if words[:1] == ["format"]:
                order = words[1]
            elif words[:1] == ["element"]:
                elements.append((words[1], int(words[2]), []))
                if elements[-1][1] < 0:
                    raise ValueError("a negative number of rows")
            elif words[:2] == ["property", "list"]:
                elements[-1][2].append(_Property(words[4], _CODES[words[3]], _CODES[words[2]]))
            elif words[:1] == ["property"]:
                elements[-1][2].append(_Property(words[2], _CODES[words[1]], None))
            if words[:1] == ["property"] and len({item.name for item in elements[-1][2]}) < len(elements[-1][2]):
                raise ValueError("a property is there twice")
        except (ValueError, KeyError, IndexError) as error:
            shown = line.decode("latin-1").strip()[:80]
            raise InputError(
                f"{path} has a damaged PLY header near '{shown}' ({error}): write the file again"
            ) from None
    if order not in _BYTE_ORDERS:
        raise InputError(f"{path} is a PLY of the unknown format '{order}'")
    return order, [_Element(name, count, tuple(properties)) for name, count, properties in elements]


def _row_fields(element: _Element, list_lengths: dict[str, int], order: str) -> list[tuple]:
    """Fields of one row: plain numbers, and for a list its length and then that many numbers."""
    fields = []
    for item in element.properties:
        if item.count_code is None:
            fields.append((item.name, order + item.code))
        else:
            fields.append((f"{item.name} count", order + item.count_code))
            fields.append((item.name, order + item.code, (list_lengths[item.name],)))
    return fields


def _take_binary(path: Path, element: _Element, data: bytes, offset: int, order: str) -> tuple[np.ndarray, int]:
    """The rows of one element and where the next one starts; all lists must be as long as in the first row."""
    lengths: dict[str, int] = {}
    at = offset
    for item in element.properties:
        length = 1
        if item.count_code is not None:
            count_dtype = np.dtype(order + item.count_code)
            if at + count_dtype.itemsize > len(data):
                lengths[item.name] = 0
                continue
            length = lengths[item.name] = max(0, int(np.frombuffer(data, count_dtype, 1, at)[0]))
            at += count_dtype.itemsize
        at += length * np.dtype(item.code).itemsize
    row = np.dtype(_row_fields(element, lengths, order))
    complete = min(element.count, (len(data) - offset) // max(row.itemsize, 1))
    rows = np.frombuffer(data, row, complete, offset)
    _check_rows(path, element, rows, lengths)
    return rows, offset + element.count * row.itemsize


def _take_ascii(path: Path, element: _Element, data: np.ndarray, offset: int, order: str) -> tuple[np.ndarray, int]:
    """As `_take_binary`, from the flat numbers of an ascii file."""
    lengths: dict[str, int] = {}
    at = offset
    for item in element.properties:
        if item.count_code is not None:
            lengths[item.name] = max(0, int(data[at])) if at < len(data) else 0
            at += lengths[item.name]
        at += 1
    row = np.dtype(_row_fields(element, lengths, order))
    width = max(at - offset, 1)
    complete = min(element.count, (len(data) - offset) // width)
    table = data[offset : offset + complete * width].reshape(complete, width)
    rows, column = np.empty(complete, dtype=row), 0
    for name in row.names:
        size = int(np.prod(row[name].shape, dtype=int))
        rows[name] = table[:, column : column + size].reshape(complete, *row[name].shape)
        column += size
    _check_rows(path, element, rows, lengths)
    return rows, offset + element.count * width


def _check_rows(path: Path, element: _Element, rows: np.ndarray, lengths: dict[str, int]) -> None:
    for name, length in lengths.items():
        if (rows[f"{name} count"] != length).any():
            raise InputError(f"{path} mixes {name} of different lengths: split its faces into triangles first")
    if len(rows) < element.count:
        raise InputError(
            f"{path} is cut short: {len(rows)} of {element.count} {element.name} rows are there: copy it again"
        )

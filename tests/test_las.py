"""LAS and LAZ files, read by the letter of the ASPRS specification 1.4."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("laspy")

from recon4d.formats.las import coordinate_step, write_las
from recon4d.scene.cloud import PointCloud

# Table 16: point data record format 7, then our extra bytes.
ROW = np.dtype(
    [
        *((name, "<i4") for name in ("x", "y", "z")),
        ("intensity", "<u2"),
        *((name, "u1") for name in ("returns", "flags", "classification", "user")),
        ("angle", "<i2"),
        ("source", "<u2"),
        ("gps_time", "<f8"),
        *((name, "<u2") for name in ("red", "green", "blue")),
        ("confidence", "<f4"),
        ("provenance", "u1"),
        ("object_id", "<u2"),
    ]
)


@dataclass
class Las:
    version: tuple[int, int]
    encoding: int
    point_format: int
    scale: np.ndarray
    offset: np.ndarray
    highest: np.ndarray
    lowest: np.ndarray
    extra: list[tuple[str, int]]  # name, data type of each extra dimension
    packed: bytes | None  # the record of the LASzip VLR
    rows: np.ndarray

    @property
    def points(self) -> np.ndarray:
        return np.stack([self.rows[k] for k in "xyz"], axis=-1) * self.scale + self.offset


def parse(path: Path) -> Las:
    """Header (table 3), variable length records (table 10), extra bytes (table 24), points."""
    data = path.read_bytes()
    assert data[:4] == b"LASF"
    header_size, points_at, records = struct.unpack_from("<HII", data, 94)
    point_format, row_size = struct.unpack_from("<BH", data, 104)
    count, *by_return = struct.unpack_from("<16Q", data, 247)
    assert header_size == 375
    assert by_return[0] == count
    assert sum(by_return) == count
    sizes = struct.unpack_from("<12d", data, 131)
    extra, packed, at = [], None, header_size
    for _ in range(records):
        user, record_id, length = struct.unpack_from("<16sHH", data, at + 2)
        body = data[at + 54 : at + 54 + length]
        if (user.rstrip(b"\0"), record_id) == (b"LASF_Spec", 4):
            for i in range(0, length, 192):
                extra.append((body[i + 4 : i + 36].rstrip(b"\0").decode(), body[i + 2]))
        if (user.rstrip(b"\0"), record_id) == (b"laszip encoded", 22204):
            packed = body
        at += 54 + length
    assert row_size == ROW.itemsize
    raw = data[points_at:]
    if point_format & 0x80:
        import lazrs

        out = np.zeros(count * row_size, dtype=np.uint8)
        if count:
            source = io.BytesIO(data)
            source.seek(points_at)
            lazrs.LasZipDecompressor(source, packed).decompress_many(out)
        raw = out.tobytes()
    return Las(
        version=(data[24], data[25]),
        encoding=struct.unpack_from("<H", data, 6)[0],
        point_format=point_format & 0x7F,
        scale=np.array(sizes[:3]),
        offset=np.array(sizes[3:6]),
        highest=np.array(sizes[6::2]),
        lowest=np.array(sizes[7::2]),
        extra=extra,
        packed=packed,
        rows=np.frombuffer(raw, ROW, count),
    )


def some_cloud(count: int = 200) -> PointCloud:
    rng = np.random.default_rng(5)
    return PointCloud(
        points=rng.uniform(-4, 9, size=(count, 3)) + np.array([500, -20, 3]),
        colors=np.concatenate([[[0, 128, 255]], rng.integers(0, 256, (count - 1, 3))]) if count else np.zeros((0, 3)),
        confidence=rng.uniform(size=count),
        provenance=rng.integers(0, 5, count),
        object_id=rng.integers(0, 60000, count),
    )


@pytest.mark.parametrize("kind", ["las", "laz"])
def test_everything_is_where_the_specification_has_it(tmp_path, kind):
    cloud = some_cloud()
    write_las(tmp_path / f"a.{kind}", cloud, 12.625, in_metres=True)
    las = parse(tmp_path / f"a.{kind}")
    assert las.version == (1, 4)
    assert las.point_format == 7
    assert las.encoding == 16  # WKT, GPS time of the week
    assert (las.packed is not None) == (kind == "laz")
    assert las.extra == [("confidence", 9), ("provenance", 1), ("object_id", 3)]  # table 25: float, uchar, ushort
    np.testing.assert_allclose(las.points, cloud.points, rtol=0, atol=0.0000501)  # metres: half of a tenth of a mm
    np.testing.assert_allclose(las.highest, las.points.max(axis=0), atol=1e-9)
    np.testing.assert_allclose(las.lowest, las.points.min(axis=0), atol=1e-9)
    np.testing.assert_array_equal(las.rows["gps_time"], 12.625)
    assert (las.rows["red"][0], las.rows["green"][0], las.rows["blue"][0]) == (0, 128 * 257, 65535)
    for k, name in enumerate(("red", "green", "blue")):
        np.testing.assert_array_equal(las.rows[name] >> 8, cloud.colors[:, k])
    for name in ("confidence", "provenance", "object_id"):
        np.testing.assert_array_equal(las.rows[name], getattr(cloud, name))
    assert (las.rows["returns"] == 0x11).all()  # the first of one
    assert not las.rows["classification"].any()


@pytest.mark.parametrize("kind", ["las", "laz"])
def test_no_points(tmp_path, kind):
    write_las(tmp_path / f"a.{kind}", some_cloud(0), 1.0, in_metres=True)
    las = parse(tmp_path / f"a.{kind}")
    assert len(las.rows) == 0
    assert [name for name, _ in las.extra] == ["confidence", "provenance", "object_id"]


@pytest.mark.parametrize(
    ("extent", "in_metres", "expected"),
    [(10.0, True, 1e-4), (5000.0, True, 1e-4), (1e7, True, 1e-2), (10.0, False, 1e-5), (0.02, False, 1e-8)],
)
def test_steps_by_hand(extent, in_metres, expected):
    assert coordinate_step(extent, in_metres) == pytest.approx(expected, rel=1e-12)


def test_one_point_or_a_tiny_scene_of_unknown_size_lose_nothing(tmp_path):
    for points in ([[1.25, 2, 3]], [[0, 0, 0], [1e-5, 2e-5, 3e-5]]):
        cloud = PointCloud(points, np.zeros((len(points), 3)))
        write_las(tmp_path / "a.las", cloud, 0.0, in_metres=False)
        np.testing.assert_allclose(parse(tmp_path / "a.las").points, points, rtol=0, atol=1e-10)

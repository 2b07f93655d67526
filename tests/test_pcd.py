"""PCD files: the header by hand, the rows by the byte, and Open3D as an independent reader."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from recon4d.formats.pcd import write_pcd
from recon4d.scene.cloud import PointCloud
from recon4d.scene.transforms import Rigid3

HEADER = """# .PCD v0.7 - Point Cloud Data file format
VERSION 0.7
FIELDS x y z rgb normal_x normal_y normal_z confidence provenance object_id
SIZE 4 4 4 4 4 4 4 4 1 2
TYPE F F F F F F F F U U
COUNT 1 1 1 1 1 1 1 1 1 1
WIDTH {count}
HEIGHT 1
VIEWPOINT 0 0 0 1 0 0 0
POINTS {count}
DATA binary
"""


def some_cloud(count: int = 50) -> PointCloud:
    rng = np.random.default_rng(3)
    normals = rng.normal(size=(count, 3))
    return PointCloud(
        points=rng.normal(size=(count, 3)) * 10,
        colors=rng.integers(0, 256, (count, 3)),
        normals=normals / np.linalg.norm(normals, axis=1, keepdims=True),
        confidence=rng.uniform(size=count),
        provenance=rng.integers(0, 5, count),
        object_id=rng.integers(0, 40000, count),
    )


def test_bytes_of_a_point_by_hand(tmp_path):
    cloud = PointCloud([[1, -2, 0.5]], [[255, 16, 3]], [[0, 0, -1]], [0.25], [4], [513])
    write_pcd(tmp_path / "a.pcd", cloud)
    data = (tmp_path / "a.pcd").read_bytes()
    header = HEADER.format(count=1).encode()
    assert data[: len(header)] == header
    # rgb is packed as 0x00RRGGBB: in memory blue comes first.
    row = struct.pack("<3f", 1, -2, 0.5) + bytes([3, 16, 255, 0]) + struct.pack("<4f", 0, 0, -1, 0.25)
    assert data[len(header) :] == row + bytes([4]) + struct.pack("<H", 513)


def test_open3d_reads_positions_colours_and_normals(tmp_path):
    o3d = pytest.importorskip("open3d")
    cloud = some_cloud()
    write_pcd(tmp_path / "a.pcd", cloud)
    seen = o3d.io.read_point_cloud(str(tmp_path / "a.pcd"))
    np.testing.assert_array_equal(np.asarray(seen.points).astype(np.float32), cloud.points)
    np.testing.assert_array_equal(np.round(np.asarray(seen.colors) * 255).astype(np.uint8), cloud.colors)
    np.testing.assert_array_equal(np.asarray(seen.normals).astype(np.float32), cloud.normals)
    tensors = o3d.t.io.read_point_cloud(str(tmp_path / "a.pcd")).point
    np.testing.assert_array_equal(tensors["confidence"].numpy().ravel(), cloud.confidence)
    np.testing.assert_array_equal(tensors["provenance"].numpy().ravel(), cloud.provenance)
    np.testing.assert_array_equal(tensors["object_id"].numpy().ravel(), cloud.object_id)


def test_camera_is_a_comment_and_moves_nothing(tmp_path):
    o3d = pytest.importorskip("open3d")
    cloud = some_cloud()
    half_turn_about_y = Rigid3(np.diag([-1.0, 1, -1]), np.array([1.5, 2, -3]))
    write_pcd(tmp_path / "a.pcd", cloud, half_turn_about_y)
    lines = (tmp_path / "a.pcd").read_bytes().split(b"\n")
    words = lines[1].decode().partition(": ")
    assert words[0] == "# camera x y z qw qx qy qz"
    np.testing.assert_allclose(np.abs(np.array(words[2].split(), dtype=float)), [1.5, 2, 3, 0, 0, 1, 0], atol=1e-9)
    assert b"VIEWPOINT 0 0 0 1 0 0 0" in lines
    seen = o3d.io.read_point_cloud(str(tmp_path / "a.pcd"))
    np.testing.assert_array_equal(np.asarray(seen.points).astype(np.float32), cloud.points)


def test_no_points(tmp_path):
    write_pcd(tmp_path / "a.pcd", some_cloud(0))
    assert (tmp_path / "a.pcd").read_bytes() == HEADER.format(count=0).encode()

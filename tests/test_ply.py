"""PLY files: bytes by hand, round trips, independent readers, files users bring, damage."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from recon4d.errors import InputError
from recon4d.formats.ply import read_cloud, read_mesh, write_cloud, write_mesh
from recon4d.scene.cloud import PointCloud
from recon4d.scene.mesh import TriMesh


@pytest.fixture
def cloud() -> PointCloud:
    rng = np.random.default_rng(1)
    return PointCloud(
        points=rng.normal(size=(50, 3)),
        colors=rng.integers(0, 256, (50, 3)),
        normals=rng.normal(size=(50, 3)),
        confidence=rng.random(50),
        provenance=rng.integers(0, 5, 50),
        object_id=rng.integers(0, 65536, 50),
    )


@pytest.fixture
def mesh() -> TriMesh:
    rng = np.random.default_rng(2)
    return TriMesh(rng.normal(size=(7, 3)), rng.integers(0, 7, (11, 3)), rng.integers(0, 256, (7, 3)))


def test_bytes_of_one_point_by_hand(tmp_path):
    one = PointCloud([[1, 2, 3]], [[10, 20, 30]], [[0, 0, 1]], [0.5], [2], [513])
    write_cloud(tmp_path / "one.ply", one)
    head, data = (tmp_path / "one.ply").read_bytes().split(b"end_header\n")
    assert data == struct.pack("<6f3BfBH", 1, 2, 3, 0, 0, 1, 10, 20, 30, 0.5, 2, 513)
    assert head.decode().split("\n")[:-1] == [
        "ply",
        "format binary_little_endian 1.0",
        "element vertex 1",
        *(f"property float {name}" for name in ("x", "y", "z", "nx", "ny", "nz")),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
        "property float confidence",
        "property uchar provenance",
        "property ushort object_id",
    ]


def test_cloud_round_trip_keeps_every_attribute(tmp_path, cloud):
    write_cloud(tmp_path / "cloud.ply", cloud)
    back = read_cloud(tmp_path / "cloud.ply")
    for field in ("points", "colors", "normals", "confidence", "provenance", "object_id"):
        np.testing.assert_array_equal(getattr(back, field), getattr(cloud, field))


def test_mesh_round_trip(tmp_path, mesh):
    write_mesh(tmp_path / "mesh.ply", mesh)
    back = read_mesh(tmp_path / "mesh.ply")
    for field in ("vertices", "faces", "colors"):
        np.testing.assert_array_equal(getattr(back, field), getattr(mesh, field))


def test_empty_cloud_and_mesh_round_trip(tmp_path):
    write_cloud(tmp_path / "cloud.ply", PointCloud.concatenate([]))
    assert len(read_cloud(tmp_path / "cloud.ply")) == 0
    write_mesh(tmp_path / "mesh.ply", TriMesh(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3))))
    assert read_mesh(tmp_path / "mesh.ply").faces.shape == (0, 3)


def test_plyfile_open3d_and_trimesh_read_our_files(tmp_path, cloud, mesh):
    plyfile, o3d, trimesh = (pytest.importorskip(name) for name in ("plyfile", "open3d", "trimesh"))
    write_cloud(tmp_path / "cloud.ply", cloud)
    write_mesh(tmp_path / "mesh.ply", mesh)
    rows = plyfile.PlyData.read(tmp_path / "cloud.ply")["vertex"]
    np.testing.assert_array_equal(rows["confidence"], cloud.confidence)
    np.testing.assert_array_equal(rows["object_id"], cloud.object_id)
    seen = o3d.io.read_point_cloud(str(tmp_path / "cloud.ply"))
    np.testing.assert_allclose(np.asarray(seen.points), cloud.points, atol=1e-7)
    np.testing.assert_allclose(np.asarray(seen.normals), cloud.normals, atol=1e-7)
    np.testing.assert_allclose(np.asarray(seen.colors) * 255, cloud.colors, atol=1e-4)
    loaded = trimesh.load(tmp_path / "mesh.ply", process=False)
    np.testing.assert_array_equal(loaded.faces, mesh.faces)
    np.testing.assert_array_equal(loaded.visual.vertex_colors[:, :3], mesh.colors)


@pytest.mark.parametrize(("text", "order"), [(True, "="), (False, "<"), (False, ">")])
def test_files_of_other_programs(tmp_path, text, order):
    plyfile = pytest.importorskip("plyfile")
    rows = np.array(
        [(1.5, 2, 3, 0.5, 1, 0, 7), (4, 5, 6, 0, 0, 0.2, 8), (0, 1, 0, 0, 0, 0, 9), (1, 1, 0, 1, 1, 1, 9)],
        dtype=[(name, "f8") for name in "xyz"] + [(c, "f4") for c in ("red", "green", "blue")] + [("label", "i4")],
    )
    faces = np.array([([0, 1, 2, 3], 5)], dtype=[("vertex_index", "i4", (4,)), ("flags", "u1")])
    elements = [plyfile.PlyElement.describe(rows, "vertex"), plyfile.PlyElement.describe(faces, "face")]
    plyfile.PlyData(elements, text=text, byte_order=order, comments=["by hand"]).write(tmp_path / "theirs.ply")
    cloud = read_cloud(tmp_path / "theirs.ply")
    np.testing.assert_array_equal(cloud.points[1], [4, 5, 6])
    np.testing.assert_array_equal(cloud.colors[:2], [[128, 255, 0], [0, 0, 51]])
    assert (cloud.confidence == 1).all()
    np.testing.assert_array_equal(read_mesh(tmp_path / "theirs.ply").faces, [[0, 1, 2], [0, 2, 3]])


def test_points_without_colour_are_grey(tmp_path):
    (tmp_path / "plain.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
        "0 0 1\n1e0 2 -3\n"
    )
    cloud = read_cloud(tmp_path / "plain.ply")
    np.testing.assert_array_equal(cloud.points, [[0, 0, 1], [1, 2, -3]])
    assert (cloud.colors == 128).all()


def test_sixteen_bit_colours_keep_their_high_byte(tmp_path):
    header = "ply\nformat ascii 1.0\nelement vertex 1\n" + "".join(f"property float {name}\n" for name in "xyz")
    header += "".join(f"property ushort {name}\n" for name in ("red", "green", "blue")) + "end_header\n"
    (tmp_path / "deep.ply").write_text(header + "0 0 0 65535 32896 0\n")
    np.testing.assert_array_equal(read_cloud(tmp_path / "deep.ply").colors, [[255, 128, 0]])


ASCII = "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\n{rest}end_header\n{data}\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "is no PLY file"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\n", "the header has no end"),
        (b"ply\nformat strange 1.0\nend_header\n", "unknown format 'strange'"),
        (b"ply\nformat ascii 1.0\nelement vertex many\nend_header\n", "damaged PLY header near 'element vertex many'"),
        (b"ply\nformat ascii 1.0\nproperty float x\nend_header\n", "damaged PLY header near 'property float x'"),
        (b"ply\nformat ascii 1.0\nelement vertex -1\nend_header\n", "a negative number of rows"),
        (ASCII.format(rest="property float x\n", data="1 2 3").encode(), "a property is there twice"),
        (ASCII.format(rest="property quad z\n", data="1 2 3").encode(), "damaged PLY header near 'property quad z'"),
        (ASCII.format(rest="", data="1 2").encode(), "vertices without z"),
        (ASCII.format(rest="property float z\n", data="1 2").encode(), "cut short: 0 of 1 vertex rows"),
        (ASCII.format(rest="property float z\n", data="1 2 x").encode(), "something that is no number"),
        (b"ply\nformat ascii 1.0\nelement face 0\nproperty int a\nend_header\n", "no element called vertex"),
    ],
)
def test_damaged_files_are_refused_in_one_sentence(tmp_path, content, message):
    (tmp_path / "bad.ply").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_cloud(tmp_path / "bad.ply")
    assert "\n" not in str(caught.value)


def test_truncated_files_are_refused(tmp_path, cloud, mesh):
    write_cloud(tmp_path / "cloud.ply", cloud)
    write_mesh(tmp_path / "mesh.ply", mesh)
    for name, read in (("cloud", read_cloud), ("mesh", read_mesh)):
        path = tmp_path / f"{name}.ply"
        path.write_bytes(path.read_bytes()[:-5])
        with pytest.raises(InputError, match=r"cut short: (49 of 50|10 of 11)"):
            read(path)
    with pytest.raises(InputError, match="was not found"):
        read_cloud(tmp_path / "nowhere.ply")
    with pytest.raises(InputError, match="cannot be read"):
        read_cloud(tmp_path)


def test_mixed_or_wrong_faces_are_refused(tmp_path):
    header = "ply\nformat ascii 1.0\nelement vertex 4\n" + "".join(f"property float {name}\n" for name in "xyz")
    header += "element face {count}\nproperty list uchar int vertex_indices\nend_header\n" + "0 0 0\n" * 4
    (tmp_path / "mixed.ply").write_text(header.format(count=2) + "3 0 1 2\n4 0 1 2 3\n")
    with pytest.raises(InputError, match="mixes vertex_indices of different lengths"):
        read_mesh(tmp_path / "mixed.ply")
    (tmp_path / "far.ply").write_text(header.format(count=1) + "3 0 1 4\n")
    with pytest.raises(InputError, match="missing vertices"):
        read_mesh(tmp_path / "far.ply")

"""GLB files: structure against the specification, colours and axes by hand, and independent readers."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from recon4d.errors import ExportError
from recon4d.formats.glb import NothingToShow, Up, write_sequence, write_shape
from recon4d.formats.glb_file import TURNS
from recon4d.formats.linear_light import linear_from_srgb, linear_from_srgb_uint16
from recon4d.scene.cloud import PointCloud
from recon4d.scene.mesh import TriMesh
from recon4d.scene.shapes import PictureMesh, PointSquares

DTYPES = {5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


class Glb:
    """A small reader, written from the specification only; checks the container as it goes."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        magic, version, total = struct.unpack_from("<4sII", data)
        assert (magic, version, total) == (b"glTF", 2, len(data))
        json_length, json_kind = struct.unpack_from("<I4s", data, 12)
        self.json = json.loads(data[20 : 20 + json_length])
        bin_length, bin_kind = struct.unpack_from("<I4s", data, 20 + json_length)
        assert (json_kind, bin_kind) == (b"JSON", b"BIN\0")
        assert json_length % 4 == 0
        assert bin_length % 4 == 0
        assert self.json["buffers"][0]["byteLength"] == bin_length
        self.binary = data[28 + json_length :]
        assert len(self.binary) == bin_length

    def array(self, index: int) -> np.ndarray:
        item = self.json["accessors"][index]
        view = self.json["bufferViews"][item["bufferView"]]
        dtype, width = np.dtype(DTYPES[item["componentType"]]), WIDTHS[item["type"]]
        stride = view.get("byteStride", dtype.itemsize * width)
        assert view["byteOffset"] % 4 == 0
        assert stride * item["count"] <= view["byteLength"]
        rows = np.ndarray(
            (item["count"], width), dtype, self.binary, view["byteOffset"], strides=(stride, dtype.itemsize)
        )
        if "min" in item:
            np.testing.assert_array_equal(rows.min(axis=0), np.array(item["min"], dtype=dtype))
            np.testing.assert_array_equal(rows.max(axis=0), np.array(item["max"], dtype=dtype))
        return rows

    def node(self, name: str) -> dict:
        return next(node for node in self.json["nodes"] if node["name"] == name)

    def primitive(self, mesh: int) -> dict:
        return self.json["meshes"][mesh]["primitives"][0]


def some_cloud(count: int, seed: int = 0) -> PointCloud:
    rng = np.random.default_rng(seed)
    return PointCloud(rng.normal(size=(count, 3)) * [1, 2, 3], rng.integers(0, 256, (count, 3)))


CLOUDS = {name: some_cloud(10 + i, i) for i, name in enumerate(("000000", "000003", "000006"))}
TIMES_S = np.array([5.0, 5.1, 5.3])
TRIANGLE = TriMesh([[0, 0, 0], [1, 0, 0], [0, 1, 0.5]], [[0, 1, 2]], [[255, 0, 0], [10, 200, 90], [0, 0, 255]])


def test_linear_colours_by_hand():
    # ((0.5019608 + 0.055) / 1.055) ** 2.4 = 0.2158605; 10 / 255 / 12.92 = 0.0030353
    colors = np.array([[0, 255, 128], [10, 10, 10]], dtype=np.uint8)
    expected = [[0, 65535, round(0.2158605 * 65535)], [199, 199, 199]]
    np.testing.assert_array_equal(linear_from_srgb_uint16(colors), expected)


def test_linear_colours_come_back_exactly():
    every = np.arange(256, dtype=np.uint8)
    linear = linear_from_srgb_uint16(every) / 65535
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_array_equal(np.round(encoded * 255), every)


def test_exactly_one_frame_is_shown_at_any_time(tmp_path):
    write_sequence(tmp_path / "scene.glb", list(CLOUDS), TIMES_S, CLOUDS.__getitem__)
    glb = Glb(tmp_path / "scene.glb")
    animation = glb.json["animations"][0]
    keys = {}
    for channel in animation["channels"]:
        sampler = animation["samplers"][channel["sampler"]]
        assert sampler["interpolation"] == "STEP"
        assert channel["target"]["path"] == "scale"
        times, scales = glb.array(sampler["input"])[:, 0], glb.array(sampler["output"])
        assert times[0] == 0
        assert (scales == scales[:, :1]).all()
        keys[glb.json["nodes"][channel["target"]["node"]]["name"]] = times, scales[:, 0]

    def shown(time_s: float) -> list[str]:  # STEP: the value of the last key not after the time
        return [name for name, (at, value) in keys.items() if value[np.flatnonzero(at <= time_s)[-1]] == 1]

    for time_s, name in ((0.0, "000000"), (0.09, "000000"), (0.11, "000003"), (0.29, "000003"), (0.31, "000006")):
        assert shown(time_s) == [name]
    # The last one holds to the end: 0.3 + the median of 0.1 and 0.2.
    assert shown(10.0) == ["000006"]
    assert max(at[-1] for at, _ in keys.values()) == pytest.approx(0.45)


def test_a_viewer_that_does_not_play_shows_the_background_and_the_first_frame(tmp_path):
    write_sequence(tmp_path / "scene.glb", list(CLOUDS), TIMES_S, CLOUDS.__getitem__, some_cloud(7))
    glb = Glb(tmp_path / "scene.glb")
    nodes = [node for node in glb.json["nodes"] if not node["name"].endswith(" points")]
    scales = {node["name"]: node.get("scale", [1, 1, 1])[0] for node in nodes}
    assert scales == {"scene": 1, "static": 1, "000000": 1, "000003": 0, "000006": 0}


def test_trimesh_finds_points_in_place_and_colours_linear(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    path, static = tmp_path / "scene.glb", some_cloud(200, 9)
    write_sequence(path, list(CLOUDS), TIMES_S, CLOUDS.__getitem__, static)
    scene = trimesh.load(path)
    turn, geometry = scene.graph["static points"]
    seen = trimesh.transform_points(scene.geometry[geometry].vertices, turn)
    x, y, z = static.points.T
    np.testing.assert_allclose(seen, np.stack([x, z, -y], axis=-1), atol=1.01e-4)
    glb = Glb(path)
    stored = glb.array(glb.primitive(0)["attributes"]["COLOR_0"])
    np.testing.assert_array_equal(stored[:, :3], linear_from_srgb_uint16(static.colors))
    assert "KHR_mesh_quantization" in glb.json["extensionsRequired"]


def test_large_clouds_are_not_moved_by_quantising(tmp_path):
    for size, error in ((13.0, 1e-4), (14.0, 1e-6)):
        points = np.random.default_rng(0).uniform(0, size, (500, 3))
        write_shape(tmp_path / "a.glb", PointCloud(points, np.zeros((500, 3))), Up.Y)
        glb = Glb(tmp_path / "a.glb")
        node = glb.node("a points")
        rows = glb.array(glb.primitive(node["mesh"])["attributes"]["POSITION"])
        seen = rows * np.array(node.get("scale", [1, 1, 1])) + node.get("translation", [0, 0, 0])
        assert 0 <= np.abs(seen - points).max() <= error
        assert ("extensionsRequired" in glb.json) == (size == 13.0)


def test_a_point_takes_sixteen_bytes(tmp_path):
    for count in (1000, 3000):
        cloud = some_cloud(count)
        write_shape(tmp_path / f"{count}.glb", PointCloud(0.1 * cloud.points, cloud.colors))
    sizes = [(tmp_path / f"{count}.glb").stat().st_size for count in (1000, 3000)]
    assert (sizes[1] - sizes[0]) / 2000 == pytest.approx(16, abs=0.05)


@pytest.mark.parametrize("points", [[[1.5, -2, 3]], [[1, 2, 3], [1, 2, 7]]])
def test_points_without_extent_along_an_axis_stay_in_place(tmp_path, points):
    trimesh = pytest.importorskip("trimesh")
    cloud = PointCloud(points, np.zeros((len(points), 3)))
    write_shape(tmp_path / "one.glb", cloud, Up.Y)
    scene = trimesh.load(tmp_path / "one.glb")
    turn, geometry = scene.graph["one points"]
    seen = trimesh.transform_points(scene.geometry[geometry].vertices, turn)
    np.testing.assert_allclose(seen, points, atol=1e-4)


def some_squares(count: int, seed: int = 0) -> PointSquares:
    cloud = some_cloud(count, seed)
    around = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * 0.05
    return PointSquares(cloud, cloud.points[:, None] + around)


def test_squares_are_two_triangles_in_trimesh_and_open3d(tmp_path):
    trimesh, o3d = pytest.importorskip("trimesh"), pytest.importorskip("open3d")
    squares = some_squares(50)
    write_shape(tmp_path / "squares.glb", squares, Up.Y)
    mesh = trimesh.load(tmp_path / "squares.glb").to_geometry()
    assert mesh.area == pytest.approx(50 * 0.1**2, rel=1e-4)
    np.testing.assert_allclose(mesh.vertices.reshape(-1, 4, 3).mean(axis=1), squares.cloud.points, atol=1e-6)
    assert (mesh.face_normals[:, 2] > 0.999).all()  # counter-clockwise from outside
    seen = o3d.io.read_triangle_mesh(str(tmp_path / "squares.glb"))
    corners = np.asarray(seen.vertices)[np.asarray(seen.triangles)]
    np.testing.assert_allclose(corners, squares.mesh().vertices[squares.mesh().faces], atol=1e-6)
    colors = linear_from_srgb(np.repeat(squares.cloud.colors, 2, axis=0))
    np.testing.assert_allclose(np.asarray(seen.vertex_colors)[np.asarray(seen.triangles)[:, 0]], colors, atol=1e-4)


def test_the_pattern_of_squares_stands_in_the_file_once(tmp_path):
    frames = {name: some_squares(count) for name, count in (("a", 300), ("b", 200), ("c", 250))}
    write_sequence(tmp_path / "s.glb", list(frames), [0.0, 1.0, 2.0], frames.get, some_squares(400, 1))
    glb = Glb(tmp_path / "s.glb")
    views = set()
    for mesh, count in enumerate((400, 300, 200, 250)):
        index = glb.primitive(mesh)["indices"]
        np.testing.assert_array_equal(glb.array(index)[:, 0], some_squares(count).mesh().faces.ravel())
        views.add(glb.json["accessors"][index]["bufferView"])
    assert len(views) == 1


def test_meshes_that_differ_do_not_share_corners(tmp_path):
    frames = {"a": TRIANGLE, "b": TriMesh(TRIANGLE.vertices, [[0, 2, 1]], TRIANGLE.colors)}
    write_sequence(tmp_path / "s.glb", list(frames), [0.0, 1.0], frames.get)
    glb = Glb(tmp_path / "s.glb")
    for mesh, corners in enumerate(([0, 1, 2], [0, 2, 1])):
        np.testing.assert_array_equal(glb.array(glb.primitive(mesh)["indices"])[:, 0], corners)


def test_large_meshes_have_wide_corners(tmp_path):
    vertices = np.random.default_rng(0).normal(size=(70_000, 3))
    faces = [[0, 65_535, 69_999], [1, 2, 3]]
    write_shape(tmp_path / "m.glb", TriMesh(vertices, faces, np.zeros((70_000, 3))))
    glb = Glb(tmp_path / "m.glb")
    np.testing.assert_array_equal(glb.array(glb.primitive(0)["indices"])[:, 0], np.ravel(faces))


def test_empty_frames_show_nothing_and_one_frame_needs_no_animation(tmp_path):
    empty = PointCloud.concatenate([])
    write_sequence(tmp_path / "a.glb", ["a", "b"], [0.0, 1.0], {"a": CLOUDS["000000"], "b": empty}.get)
    assert [node["name"] for node in Glb(tmp_path / "a.glb").json["nodes"]] == ["scene", "a points", "a"]
    first = {"a": empty, "b": CLOUDS["000000"], "c": empty}
    write_sequence(tmp_path / "b.glb", list(first), [0.0, 1.0, 3.0], first.get, CLOUDS["000003"])
    glb = Glb(tmp_path / "b.glb")
    assert [node["name"] for node in glb.json["nodes"]] == ["scene", "static points", "static", "b points", "b"]
    (sampler,) = glb.json["animations"][0]["samplers"]
    np.testing.assert_array_equal(glb.array(sampler["input"])[:, 0], [0, 1, 3, 4.5])  # as long as the clip
    np.testing.assert_array_equal(glb.array(sampler["output"])[:, 0], [0, 1, 0, 0])
    write_sequence(tmp_path / "none.glb", ["a", "c"], [0.0, 1.0], first.get, CLOUDS["000003"])
    assert "animations" not in Glb(tmp_path / "none.glb").json
    trimesh = pytest.importorskip("trimesh")
    for name, nodes in (("none.glb", ["static points"]), ("b.glb", ["b points", "static points"])):
        assert sorted(trimesh.load(tmp_path / name).graph.nodes_geometry) == nodes
    write_sequence(tmp_path / "one.glb", ["a"], [3.0], {"a": CLOUDS["000000"]}.get)
    assert "animations" not in Glb(tmp_path / "one.glb").json
    assert Glb(tmp_path / "one.glb").node("a")["scale"] == [1, 1, 1]


def test_up_turns_are_proper_rotations_to_y_up():
    for up, down_axis in ((Up.Z, [0, 0, -1]), (Up.MINUS_Y, [0, 1, 0])):
        x, y, z, w = TURNS[up]
        axis, down = np.array([x, y, z]), np.array(down_axis)
        turned = down + 2 * np.cross(axis, np.cross(axis, down) + w * down)  # rotation by a quaternion
        np.testing.assert_allclose(turned, [0, -1, 0], atol=1e-12)
        assert np.linalg.norm(TURNS[up]) == pytest.approx(1)


def test_mesh_in_trimesh_and_open3d(tmp_path):
    trimesh, o3d = pytest.importorskip("trimesh"), pytest.importorskip("open3d")
    write_shape(tmp_path / "mesh.glb", TRIANGLE)
    expected = [[0, 0, 0], [1, 0, 0], [0, 0.5, -1]]
    np.testing.assert_allclose(trimesh.load(tmp_path / "mesh.glb").to_geometry().vertices, expected, atol=1e-6)
    seen = o3d.io.read_triangle_mesh(str(tmp_path / "mesh.glb"))
    np.testing.assert_allclose(seen.vertices, expected, atol=1e-6)
    np.testing.assert_array_equal(seen.triangles, TRIANGLE.faces)
    np.testing.assert_allclose(seen.vertex_colors, linear_from_srgb_uint16(TRIANGLE.colors) / 65535, atol=1e-6)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_textured_mesh_embeds_the_picture_as_it_is(tmp_path, suffix):
    trimesh = pytest.importorskip("trimesh")
    picture = tmp_path / f"picture{suffix}"
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 255, (21, 30, 3), dtype=np.uint8))
    uv = np.array([[0.5 / 30, 0.5 / 21], [1, 0], [0, 1]])
    worn = PictureMesh(TRIANGLE.vertices, TRIANGLE.faces, uv, picture)
    write_shape(tmp_path / "tex.glb", worn, Up.MINUS_Y)
    glb = Glb(tmp_path / "tex.glb")
    view = glb.json["bufferViews"][glb.json["images"][0]["bufferView"]]
    assert glb.binary[view["byteOffset"] :][: view["byteLength"]] == picture.read_bytes()
    np.testing.assert_allclose(glb.array(glb.primitive(0)["attributes"]["TEXCOORD_0"]), uv, atol=1e-7)
    mesh = trimesh.load(tmp_path / "tex.glb").to_geometry()
    np.testing.assert_allclose(mesh.vertices, TRIANGLE.vertices * [1, -1, -1], atol=1e-6)
    np.testing.assert_allclose(mesh.visual.uv, uv * [1, -1] + [0, 1], atol=1e-6)  # trimesh counts v from below
    assert mesh.visual.material.baseColorTexture.size == (30, 21)


def test_what_cannot_be_written_is_refused_and_leaves_no_file(tmp_path):
    with pytest.raises(ExportError, match="do not increase"):
        write_sequence(tmp_path / "x.glb", ["a", "b"], [1.0, 1.0], CLOUDS.get)
    for nothing in (TriMesh(TRIANGLE.vertices, np.zeros((0, 3)), TRIANGLE.colors), PointCloud.concatenate([])):
        with pytest.raises(ExportError, match="no points or triangles"):
            write_shape(tmp_path / "x.glb", nothing)
        with pytest.raises(NothingToShow, match="would show nothing"):
            write_sequence(tmp_path / "x.glb", ["a"], [0.0], {"a": nothing}.get, nothing)
    bad = PointCloud([[0, np.nan, 0]], [[1, 2, 3]])
    with pytest.raises(ExportError, match="not finite"):
        write_sequence(tmp_path / "x.glb", ["a"], [0.0], {"a": bad}.get)
    with pytest.raises(ExportError, match="not finite"):
        write_shape(tmp_path / "x.glb", TriMesh([[0, 0, np.inf], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]], np.zeros((3, 3))))
    assert list(tmp_path.iterdir()) == []


def test_a_file_past_four_gigabytes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("recon4d.formats.glb_file.GLB_LIMIT", 1000)
    with pytest.raises(ExportError, match="lower --max-points"):
        write_sequence(tmp_path / "x.glb", list(CLOUDS), TIMES_S, CLOUDS.get)
    assert list(tmp_path.iterdir()) == []

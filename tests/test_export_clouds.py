"""Clouds and meshes of the export stage in PLY, PCD, LAS and LAZ, opened by independent readers."""

from __future__ import annotations

import numpy as np
import pytest
from fabricated import fabricate

from recon4d.formats.ply import read_cloud
from recon4d.stages.export import run
from recon4d.stages.export_options import ExportOptions
from recon4d.workspace import Workspace

CLOUDS = ("static", "moving/000000", "moving/000003", "moving/000006")  # in 000003 nothing moves


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Workspace:
    pytest.importorskip("laspy")
    workspace = fabricate(tmp_path_factory.mktemp("clouds") / "scene", frames=3, ball_moves=True)
    run(workspace, ExportOptions(to=("ply", "pcd", "las", "laz")))
    return workspace


@pytest.mark.parametrize("name", CLOUDS)
def test_ply_clouds_are_the_same_for_open3d_trimesh_and_plyfile(exported, name):
    o3d, trimesh, plyfile = (pytest.importorskip(module) for module in ("open3d", "trimesh", "plyfile"))
    path = exported.root / f"export/ply/{name}.ply"
    ours = read_cloud(path)
    assert (len(ours) == 0) == (name == "moving/000003")
    rows = plyfile.PlyData.read(str(path))["vertex"].data
    np.testing.assert_array_equal(np.stack([rows[k] for k in "xyz"], axis=-1), ours.points)
    np.testing.assert_array_equal(np.stack([rows[k] for k in ("red", "green", "blue")], axis=-1), ours.colors)
    for field in ("confidence", "provenance", "object_id"):
        np.testing.assert_array_equal(rows[field], getattr(ours, field))
    if not len(ours):
        return  # plyfile has read it; open3d and trimesh have no notion of a cloud without points
    seen = o3d.io.read_point_cloud(str(path))
    np.testing.assert_array_equal(np.asarray(seen.points).astype(np.float32), ours.points)
    np.testing.assert_array_equal(np.round(np.asarray(seen.colors) * 255), ours.colors)
    np.testing.assert_array_equal(np.asarray(seen.normals).astype(np.float32), ours.normals)
    third = trimesh.load(path, process=False)
    np.testing.assert_array_equal(np.asarray(third.vertices).astype(np.float32), ours.points)
    np.testing.assert_array_equal(np.asarray(third.colors)[:, :3], ours.colors)


@pytest.mark.parametrize("name", ["static_mesh", "meshes/000003"])
def test_ply_meshes_are_the_same_for_open3d_trimesh_and_plyfile(exported, name):
    o3d, trimesh, plyfile = (pytest.importorskip(module) for module in ("open3d", "trimesh", "plyfile"))
    path = exported.root / f"export/ply/{name}.ply"
    data = plyfile.PlyData.read(str(path))
    rows, faces = data["vertex"].data, np.stack(data["face"].data["vertex_indices"])
    vertices = np.stack([rows[k] for k in "xyz"], axis=-1)
    colors = np.stack([rows[k] for k in ("red", "green", "blue")], axis=-1)
    assert len(faces) > 100
    seen = o3d.io.read_triangle_mesh(str(path))
    np.testing.assert_array_equal(np.asarray(seen.vertices).astype(np.float32), vertices)
    np.testing.assert_array_equal(np.asarray(seen.triangles), faces)
    np.testing.assert_array_equal(np.round(np.asarray(seen.vertex_colors) * 255), colors)
    third = trimesh.load(path, process=False)
    np.testing.assert_array_equal(np.asarray(third.vertices).astype(np.float32), vertices)
    np.testing.assert_array_equal(np.asarray(third.faces), faces)
    np.testing.assert_array_equal(third.visual.vertex_colors[:, :3], colors)


@pytest.mark.parametrize("name", CLOUDS)
def test_every_kind_of_file_holds_the_same_points(exported, name):
    from test_las import parse

    o3d = pytest.importorskip("open3d")
    ours = read_cloud(exported.root / f"export/ply/{name}.ply")
    if len(ours):
        seen = o3d.io.read_point_cloud(str(exported.root / f"export/pcd/{name}.pcd"))
        np.testing.assert_array_equal(np.asarray(seen.points).astype(np.float32), ours.points)
        np.testing.assert_array_equal(np.round(np.asarray(seen.colors) * 255), ours.colors)
    times = dict(zip(exported.trajectory().names, exported.trajectory().timestamps_s))
    for kind in ("las", "laz"):
        las = parse(exported.root / f"export/{kind}/{name}.{kind}")
        np.testing.assert_allclose(las.points, ours.points, rtol=0, atol=0.0000501)
        np.testing.assert_array_equal(las.rows["red"] // 257, ours.colors[:, 0])
        np.testing.assert_array_equal(las.rows["object_id"], ours.object_id)
        np.testing.assert_array_equal(las.rows["gps_time"], times[name.rpartition("/")[2].replace("static", "000000")])


def test_pcd_tells_the_delivered_camera(exported):
    line = (exported.root / "export/pcd/moving/000006.pcd").read_bytes().split(b"\n")[1].decode()
    x, y, z, *quat_wxyz = (float(word) for word in line.partition(": ")[2].split())
    centre = exported.trajectory().centres[2]
    np.testing.assert_allclose([x, y, z], 2 * np.array([centre[0], centre[2], 1 - centre[1]]), atol=1e-6)
    assert np.linalg.norm(quat_wxyz) == pytest.approx(1)


def test_options_hold_for_every_kind_of_cloud(tmp_path):
    from test_las import parse

    o3d = pytest.importorskip("open3d")
    workspace = fabricate(tmp_path / "scene", frames=3, ball_moves=True, known=False)
    options = {"frames": "000006", "max_points": 40, "max_static_points": 300, "up": "model"}
    run(workspace, ExportOptions(to=("ply", "pcd", "las"), **options))
    export = workspace.root / "export"
    for kind in ("pcd", "las"):
        assert [path.stem for path in (export / kind / "moving").iterdir()] == ["000006"]
    for name, count in (("static", 300), ("moving/000006", 40)):
        points = read_cloud(export / f"ply/{name}.ply").points
        assert len(points) == count
        seen = np.asarray(o3d.io.read_point_cloud(str(export / f"pcd/{name}.pcd")).points)
        np.testing.assert_array_equal(seen.astype(np.float32), points)
        np.testing.assert_allclose(parse(export / f"las/{name}.las").points, points, rtol=0, atol=1e-5)
    inside = np.isin(points.round(5), workspace.moving_cloud("000006").points.round(5))  # model axes and units
    assert inside.all()
    run(workspace, ExportOptions(to=("pcd", "las"), layers=("moving",), provenance=(0,)))
    assert len(parse(export / "las/static.las").rows) == 0
    assert b"POINTS 0\n" in (export / "pcd/moving/000000.pcd").read_bytes()

"""The stage export to USD: what is in the files of a scene whose contents are known."""

from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest
from fabricated import BALL, METRES_PER_UNIT, RADIUS, STILL, fabricate
from test_usd import array, opened, usd_issues

from recon4d.formats.ply import read_cloud, write_cloud
from recon4d.scene.cloud import PointCloud
from recon4d.stages.export import run
from recon4d.stages.export_options import ExportOptions
from recon4d.workspace import Workspace


def export(root, **options) -> Workspace:
    workspace = fabricate(root / "room", ball_moves=True)
    run(workspace, ExportOptions(to=("usd", "ply"), **options))
    return workspace


@pytest.fixture(scope="module", params=["points", "quads", "meshes"])
def shaped(request, tmp_path_factory) -> tuple[str, Workspace]:
    return request.param, export(tmp_path_factory.mktemp(request.param), shape=request.param)


def codes(workspace: Workspace) -> dict[str, float]:
    """Time 0, 0.11, 0.2, 0.31 s at 5 / 0.51 frames per second (least squares): near whole codes, so put onto them."""
    return dict(zip(workspace.trajectory().names, (0.0, 1.0, 2.0, 3.0)))


def test_the_validators_find_nothing_in_any_file(shaped):
    folder = shaped[1].root / "export/usd"
    files = [folder / "scene.usdc", *sorted((folder / "meshes").iterdir())]
    assert len(files) == 5
    assert {path.name: usd_issues(path) for path in files} == {path.name: [] for path in files}


def test_what_moves_is_there_at_its_time_and_gone_where_nothing_moves(shaped):
    shape, workspace = shaped
    stage = opened(workspace.root / "export/usd/scene.usdc")
    assert stage.GetTimeCodesPerSecond() == pytest.approx(5 / 0.51, abs=1e-6)
    assert stage.GetEndTimeCode() == 3
    for name, code in codes(workspace).items():
        cloud = read_cloud(workspace.root / f"export/ply/moving/{name}.ply")
        points = array(stage, "/room/moving", "points", code + 1e-4)
        assert len(points) == 0 if name == STILL else len(points) > 0
        if shape == "points":
            np.testing.assert_array_equal(points, cloud.points)
        elif shape == "quads":
            assert len(points) == 4 * len(cloud)
            np.testing.assert_allclose(points.reshape(-1, 4, 3).mean(axis=1), cloud.points, atol=1e-5)


def test_moving_meshes_lie_on_the_ball_in_metres(tmp_path):
    workspace = export(tmp_path, shape="meshes", mesh_stride=1)
    stage = opened(workspace.root / "export/usd/scene.usdc")
    x, y, z = BALL
    centre = METRES_PER_UNIT * np.array([x, z, 1 - y])
    points = array(stage, "/room/moving", "points", 0.0)
    np.testing.assert_allclose(np.linalg.norm(points - centre, axis=1), METRES_PER_UNIT * RADIUS, atol=2e-3)
    red = array(stage, "/room/moving", "primvars:displayColor", 0.0)
    assert (red[:, 0] > 3 * red[:, 1]).mean() > 0.9


def test_the_background_is_the_delivered_one(shaped):
    shape, workspace = shaped
    stage = opened(workspace.root / "export/usd/scene.usdc")
    points = array(stage, "/room/static", "points")
    if shape == "points":
        np.testing.assert_array_equal(points, read_cloud(workspace.root / "export/ply/static.ply").points)
        assert array(stage, "/room/static", "widths").min() > 0
    elif shape == "meshes":
        mesh = workspace.static_mesh()
        assert len(points) == len(mesh.vertices)
        assert len(array(stage, "/room/static", "faceVertexCounts")) == len(mesh.faces)


def test_a_lonely_point_is_as_wide_as_a_pixel(tmp_path):
    workspace = fabricate(tmp_path / "room", ball_moves=True)
    view = workspace.trajectory()["000006"]
    point = view.cam_from_world.inverse() @ np.array([0.0, 0.0, 4.0])
    write_cloud(workspace.root / "fuse/moving/000006.ply", PointCloud(point[None], [[9, 9, 9]]))
    run(workspace, ExportOptions(to=("usd",), layers=("moving",)))
    stage = opened(workspace.root / "export/usd/scene.usdc")
    width = array(stage, "/room/moving", "widths", codes(workspace)["000006"] + 1e-4)
    np.testing.assert_allclose(width, [METRES_PER_UNIT * 4.0 / view.camera.fx], rtol=0.012)
    assert not stage.GetPrimAtPath("/room/static")


def test_a_frames_surface_wears_its_picture_or_has_colours(tmp_path):
    from pxr import Sdf

    with_picture, without = export(tmp_path / "a"), export(tmp_path / "b", texture=False)
    name = f"export/usd/meshes/{STILL}.usdz"
    assert Sdf.ZipFile.Open(str(with_picture.root / name)).GetFileNames() == [f"{STILL}.usdc", f"{STILL}.jpg"]
    assert Sdf.ZipFile.Open(str(without.root / name)).GetFileNames() == [f"{STILL}.usdc"]
    worn, colored = opened(with_picture.root / name), opened(without.root / name)
    st = array(worn, f"/frame_{STILL}/mesh", "primvars:st")
    columns, rows = np.round(st * [64, -48] + [-0.5, 47.5]).astype(int).T
    picture = without.picture(STILL)[rows, columns] / 255
    linear = np.where(picture <= 0.04045, picture / 12.92, ((picture + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(array(colored, f"/frame_{STILL}/mesh", "primvars:displayColor"), linear, atol=1e-6)
    np.testing.assert_array_equal(
        array(worn, f"/frame_{STILL}/mesh", "points"), array(colored, f"/frame_{STILL}/mesh", "points")
    )


def test_model_axes_stand_upright_in_the_stage(tmp_path):
    from pxr import Gf, Usd, UsdGeom

    workspace = export(tmp_path, up="model")
    stage = opened(workspace.root / "export/usd/scene.usdc")
    assert UsdGeom.GetStageUpAxis(stage) == "Y"
    np.testing.assert_allclose(
        array(stage, "/room/static", "points"), workspace.static_cloud().points * METRES_PER_UNIT, atol=1e-5
    )
    place = UsdGeom.Xformable(stage.GetPrimAtPath("/room/static")).ComputeLocalToWorldTransform(Usd.TimeCode(0))
    np.testing.assert_allclose(place.Transform(Gf.Vec3d(1, 2, 3)), [1, -2, -3], atol=1e-12)  # y down: turned about x


@pytest.mark.parametrize("shape", ["points", "quads", "meshes"])
def test_one_frame_in_which_nothing_moves(tmp_path, shape):
    workspace = export(tmp_path, frames=STILL, shape=shape)
    stage = opened(workspace.root / "export/usd/scene.usdc")
    assert not stage.GetPrimAtPath("/room/moving")
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode()) == (0, 0)
    assert usd_issues(workspace.root / "export/usd/scene.usdc") == []


def test_no_static_points(tmp_path):
    workspace = fabricate(tmp_path / "room", ball_moves=True)
    write_cloud(workspace.root / "fuse/static.ply", PointCloud.concatenate([]))
    run(workspace, ExportOptions(to=("usd",)))
    stage = opened(workspace.root / "export/usd/scene.usdc")
    assert not stage.GetPrimAtPath("/room/static")
    assert len(array(stage, "/room/moving", "points", 0.0))


def test_the_same_scene_gives_the_same_bytes(tmp_path):
    files = []
    for folder in ("a", "b"):
        workspace = fabricate(tmp_path / folder / "room", frames=2, ball_moves=True)
        os.utime(workspace.picture_path("000000"), (1e9, 1e9 + len(files)))  # times of files must not come in
        run(workspace, ExportOptions(to=("usd",)))
        root = workspace.root / "export/usd"
        files.append({path.name: path.read_bytes() for path in root.rglob("*.usd*")})
    assert sorted(files[0]) == ["000000.usdz", "000003.usdz", "scene.usdc"]
    assert files[0] == files[1]
    with zipfile.ZipFile(root / "meshes/000000.usdz") as package:
        assert {item.date_time for item in package.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_what_a_killed_export_leaves_is_not_published(tmp_path, monkeypatch):
    workspace = fabricate(tmp_path / "room", frames=2, ball_moves=True)
    monkeypatch.setattr("recon4d.formats.usd._write_package", lambda *_: os._exit(9))  # no clean-up, as kill -9
    pid = os.fork()
    if pid == 0:
        run(workspace, ExportOptions(to=("usd",)))
    os.waitpid(pid, 0)
    assert list((workspace.root / ".part").rglob(".*.usdc"))
    monkeypatch.undo()
    run(Workspace(workspace.root), ExportOptions(to=("usd",)))
    names = {path.name for path in (workspace.root / "export/usd").rglob("*")}
    assert names == {"scene.usdc", "meshes", "000000.usdz", "000003.usdz"}

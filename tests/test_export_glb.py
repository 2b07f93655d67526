"""The stage export to GLB: shapes, files of single frames, empty frames, thinning."""

from __future__ import annotations

import numpy as np
import pytest
from fabricated import STILL, fabricate, fabricated_trajectory
from listening import Listener
from test_glb import Glb

from recon4d.formats.linear_light import linear_from_srgb_uint16
from recon4d.formats.ply import write_cloud
from recon4d.scene.cloud import PointCloud
from recon4d.scene.scene4d import UpAxis
from recon4d.stages.export import run
from recon4d.stages.export_options import ExportOptions
from recon4d.workspace import Workspace

NAMES = fabricated_trajectory(4, 64, 48).names
MOVING = [name for name in NAMES if name != STILL]


def export(root, **options) -> Workspace:
    workspace = fabricate(root / "scene", ball_moves=True)
    run(workspace, ExportOptions(to=("glb",), **options))
    return workspace


@pytest.fixture(scope="module", params=["points", "quads", "meshes"])
def shaped(request, tmp_path_factory) -> tuple[str, Workspace]:
    return request.param, export(tmp_path_factory.mktemp(request.param), shape=request.param)


def shown_names(glb: Glb) -> list[str]:
    return [glb.json["nodes"][i]["name"] for i in glb.json["nodes"][0]["children"]]


def test_all_shapes_play_the_same_frames_and_skip_the_one_in_which_nothing_moves(shaped):
    shape, workspace = shaped
    folder = workspace.root / "export/glb"
    glb = Glb(folder / "scene.glb")
    assert shown_names(glb) == ["static", *MOVING]
    assert [primitive["primitives"][0]["mode"] for primitive in glb.json["meshes"]] == [4 * (shape != "points")] * 4
    assert len(glb.json["animations"][0]["channels"]) == 3
    assert sorted(path.stem for path in (folder / "moving").iterdir()) == MOVING
    assert sorted(path.stem for path in (folder / "meshes").iterdir()) == list(NAMES)
    assert (folder / "static_mesh.glb").is_file()


def test_uneven_times_are_kept(shaped):
    glb = Glb(shaped[1].root / "export/glb/scene.glb")
    times = [glb.array(sampler["input"])[:, 0] for sampler in glb.json["animations"][0]["samplers"]]
    np.testing.assert_allclose(times[0], [0, 0.11, 0.42], atol=1e-6)  # 000000; the clip ends a median step after 0.31
    np.testing.assert_allclose(times[1], [0, 0.2, 0.31, 0.42], atol=1e-6)  # 000006


def test_a_frames_own_file_shows_what_the_playing_one_shows(shaped):
    workspace = shaped[1]
    scene, one = (Glb(workspace.root / f"export/glb/{name}.glb") for name in ("scene", "moving/000006"))
    mesh = [item["name"] for item in scene.json["meshes"]].index("000006")
    for name, index in one.primitive(0)["attributes"].items():
        np.testing.assert_array_equal(one.array(index), scene.array(scene.primitive(mesh)["attributes"][name]))
    assert one.json["scenes"] == scene.json["scenes"]
    assert "scale" not in one.node("000006")  # shown


def test_open3d_shows_the_background_and_the_first_frame_of_a_scene_of_triangles(shaped):
    o3d = pytest.importorskip("open3d")
    shape, workspace = shaped
    path = workspace.root / "export/glb/scene.glb"
    seen = o3d.io.read_triangle_mesh(str(path))
    if shape == "points":
        assert len(seen.triangles) == 0  # open3d passes over points
        return
    glb = Glb(path)
    faces = [glb.json["accessors"][glb.primitive(mesh)["indices"]]["count"] // 3 for mesh in range(4)]
    assert len(seen.triangles) == sum(faces)
    corners = np.asarray(seen.vertices)[np.asarray(seen.triangles)]
    sizes = [np.ptp(part.reshape(-1, 3), axis=0).max() for part in np.split(corners, np.cumsum(faces)[:-1])]
    assert sizes[0] > 5  # the room
    assert sizes[1] == pytest.approx(2.0, abs=0.3)  # the ball, without its rim where a mesh is thinned
    assert sizes[2:] == [0, 0]  # not shown at rest


def test_squares_lie_on_the_ball_and_cover_it(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    workspace = export(tmp_path, shape="quads")
    mesh = trimesh.load(workspace.root / "export/glb/moving/000006.glb").to_geometry()
    cloud = workspace.moving_cloud("000006")
    assert len(mesh.faces) == 2 * len(cloud)
    x, y, z = cloud.normals.T
    normals = np.repeat(np.stack([x, -y, -z], axis=-1), 2, axis=0)  # levelled (x, z, -y), then y up: (x, -y, -z)
    assert ((mesh.face_normals * normals).sum(axis=1)[np.abs(normals).sum(axis=1) > 0] > 0.999).all()
    # A sphere of 1 m seen from one side: its visible part is a little less than half of 4 pi.
    assert 0.5 * 2 * np.pi < mesh.area < 2.5 * 2 * np.pi


def test_static_points_without_normals_face_the_camera_that_is_nearest(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    workspace = fabricate(tmp_path / "scene", ball_moves=True)
    cloud = workspace.static_cloud()
    write_cloud(workspace.root / "fuse/static.ply", PointCloud(cloud.points, cloud.colors))
    run(workspace, ExportOptions(to=("glb",), shape="quads", layers=("static",), up="y"))
    mesh = trimesh.load(workspace.root / "export/glb/scene.glb").to_geometry()
    scene = workspace.scene()
    centres = scene.delivered_from_scene(UpAxis.Y) @ scene.trajectory.centres
    places = mesh.vertices.reshape(-1, 4, 3).mean(axis=1)
    to_camera = centres[None] - places[:, None]
    nearest = to_camera[np.arange(len(places)), np.linalg.norm(to_camera, axis=2).argmin(axis=1)]
    nearest /= np.linalg.norm(nearest, axis=1, keepdims=True)
    assert ((mesh.face_normals[::2] * nearest).sum(axis=1) > 0.999).all()


def test_meshes_wear_the_picture_once_per_frame_or_have_colours(tmp_path):
    with_picture, without = (
        export(tmp_path / "a", shape="meshes"),
        export(tmp_path / "b", shape="meshes", texture=False),
    )
    glb = Glb(with_picture.root / "export/glb/scene.glb")
    assert [image["name"] for image in glb.json["images"]] == MOVING
    assert "TEXCOORD_0" in glb.primitive(1)["attributes"]
    for place in ("scene", "moving/000006", "meshes/000006"):
        assert "images" not in Glb(without.root / f"export/glb/{place}.glb").json
    whole = Glb(without.root / "export/glb/meshes/000006.glb")
    surface = Glb(with_picture.root / "export/glb/meshes/000006.glb")
    uv = surface.array(surface.primitive(0)["attributes"]["TEXCOORD_0"])
    columns, rows = np.round(uv * [64, 48] - 0.5).astype(int).T
    picture = without.picture("000006")
    colors = whole.array(whole.primitive(0)["attributes"]["COLOR_0"])[:, :3]
    np.testing.assert_array_equal(colors, linear_from_srgb_uint16(picture[rows, columns]))


def test_moving_meshes_hold_the_ball_alone(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    workspace = export(tmp_path, shape="meshes", mesh_stride=1, up="model")
    mesh = trimesh.load(workspace.root / "export/glb/moving/000000.glb").to_geometry()
    in_scene = mesh.vertices * [1, -1, -1] / 2.0  # y down again, two metres per unit
    np.testing.assert_allclose(np.linalg.norm(in_scene - [0.3, 0.5, 3.0], axis=1), 0.5, atol=1e-3)


def test_one_frame_needs_no_animation(tmp_path):
    workspace = export(tmp_path, frames="000006")
    glb = Glb(workspace.root / "export/glb/scene.glb")
    assert shown_names(glb) == ["static", "000006"]
    assert "animations" not in glb.json


def test_thinned_frames_are_spread_evenly_and_that_is_said(tmp_path):
    workspace, listener = fabricate(tmp_path / "scene", ball_moves=True), Listener()
    run(workspace, ExportOptions(to=("glb",), max_glb_frames=2), listener)
    folder = workspace.root / "export/glb"
    assert shown_names(Glb(folder / "scene.glb")) == ["static", "000000", "000009"]
    assert len(list((folder / "meshes").iterdir())) == 4  # files of single frames are not thinned
    assert any("plays 2 of 4 frames" in text for text in listener.said)


@pytest.mark.parametrize("shape", ["points", "quads", "meshes"])
def test_a_scene_without_background_and_motion_has_no_playing_file_and_says_so(tmp_path, shape):
    workspace = fabricate(tmp_path / "scene", ball_moves=True)
    options = ExportOptions(to=("glb",), layers=("moving",), frames=STILL, shape=shape)
    record = run(workspace, options)
    assert any("nothing moves in it" in text for text in record.warnings)
    assert not list((workspace.root / "export").rglob("*.glb"))


@pytest.mark.parametrize("shape", ["points", "quads"])
def test_a_scene_without_static_points_plays_what_moves(tmp_path, shape):
    workspace = fabricate(tmp_path / "scene", ball_moves=True)
    write_cloud(workspace.root / "fuse/static.ply", PointCloud.concatenate([]))
    run(workspace, ExportOptions(to=("glb",), shape=shape))
    assert shown_names(Glb(workspace.root / "export/glb/scene.glb")) == MOVING


def test_an_interrupted_export_keeps_the_playing_file(tmp_path, monkeypatch):
    workspace = fabricate(tmp_path / "scene", ball_moves=True)
    monkeypatch.setattr(
        "recon4d.formats.glb.write_shape", lambda path, *_: 1 / 0 if path.parent.name == "meshes" else 0
    )
    with pytest.raises(ZeroDivisionError):
        run(workspace, ExportOptions(to=("glb",)))
    monkeypatch.undo()
    monkeypatch.setattr("recon4d.formats.glb.write_sequence", lambda *_: pytest.fail("done already"))
    run(Workspace(workspace.root), ExportOptions(to=("glb",)))
    assert (workspace.root / "export/glb/scene.glb").is_file()

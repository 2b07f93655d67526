"""The export stage on an exact scene: every format in the delivered frame, opened by independent readers."""

from __future__ import annotations

import json
from typing import get_args

import numpy as np
import pytest
from fabricated import LEVELLED_FROM_SCENE, METRES_PER_UNIT, fabricate
from listening import Listener

from recon4d.cli import main
from recon4d.errors import MissingDependency, OptionsError
from recon4d.formats.ply import read_cloud, read_mesh
from recon4d.formats.trajectories import read_tum
from recon4d.formats.transforms_json import read_transforms
from recon4d.geometry.grid_surface import free_surface, thinned
from recon4d.scene.cloud import PointCloud
from recon4d.stages.export import WRITERS, run, writer
from recon4d.stages.export_delivery import at_most
from recon4d.stages.export_options import OPTIONAL, ExportOptions, Format, check_options, choose_frames
from recon4d.workspace import Workspace

EARLY = ("ply", "glb", "colmap", "nerfstudio", "tum")


def deliver(points: np.ndarray) -> np.ndarray:
    """By hand: levelled (x, z, 1 - y), two metres per unit."""
    x, y, z = np.asarray(points, dtype=np.float64).T
    return 2.0 * np.stack([x, z, 1.0 - y], axis=-1)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Workspace:
    workspace = fabricate(tmp_path_factory.mktemp("export") / "scene", ball_moves=True)
    run(workspace, ExportOptions(to=EARLY))
    return workspace


def test_clouds_are_delivered_in_metres_and_z_up(exported):
    for name in ("moving/000006", "static"):
        before = read_cloud(exported.root / "fuse" / f"{name}.ply")
        after = read_cloud(exported.root / "export/ply" / f"{name}.ply")
        np.testing.assert_allclose(after.points, deliver(before.points), atol=1e-5)
        x, y, z = before.normals.T
        np.testing.assert_allclose(after.normals, np.stack([x, z, -y], axis=-1), atol=1e-6)
        for field in ("colors", "confidence", "provenance", "object_id"):
            np.testing.assert_array_equal(getattr(after, field), getattr(before, field))
    assert after.points[:, 2].min() == pytest.approx(0.0, abs=1e-4)  # the floor


def test_a_frame_in_which_nothing_moves_has_an_empty_cloud(exported):
    cloud = read_cloud(exported.root / "export/ply/moving/000003.ply")
    assert cloud.points.shape == (0, 3)
    assert len(list((exported.root / "export/ply/moving").iterdir())) == 4


def test_frame_meshes_wear_the_picture_and_face_the_camera(exported):
    mesh = read_mesh(exported.root / "export/ply/meshes/000003.ply")
    view = exported.trajectory()["000003"]
    scene = np.stack([mesh.vertices[:, 0] / 2, 1 - mesh.vertices[:, 2] / 2, mesh.vertices[:, 1] / 2], axis=-1)
    pixels = view.camera.project(view.cam_from_world @ scene.astype(np.float64))
    np.testing.assert_allclose(pixels % 2, 0.5, atol=1e-2)  # every second pixel, its centre
    columns, rows = (pixels - 0.4).astype(int).T
    np.testing.assert_array_equal(mesh.colors, exported.picture("000003")[rows, columns])
    assert len(np.unique(mesh.faces)) == len(mesh.vertices)
    a, b, c = (scene[mesh.faces[:, i]] for i in range(3))
    eye = view.cam_from_world.inverse().translation
    assert (((np.cross(b - a, c - a)) * (eye - a)).sum(axis=1) > 0).all()
    distance = np.linalg.norm(scene - [0.3, 0.5, 3.0], axis=1)
    on_ball, on_floor, on_wall = abs(distance - 0.5) < 1e-4, abs(scene[:, 1] - 1) < 1e-4, abs(scene[:, 2] - 6) < 1e-4
    assert (on_ball | on_floor | on_wall).all()
    of_ball = on_ball[mesh.faces]
    assert not (of_ball.any(axis=1) & ~of_ball.all(axis=1) & ~on_floor[mesh.faces].any(axis=1)).any()  # no rubber sheet


def test_playing_glb_opens_in_trimesh_and_agrees_with_the_ply(exported):
    trimesh = pytest.importorskip("trimesh")
    scene = trimesh.load(exported.root / "export/glb/scene.glb")
    shown = [f"{name} points" for name in ("000000", "000006", "000009", "static")]  # in 000003 nothing moves
    assert sorted(scene.graph.nodes_geometry) == shown
    turn, geometry = scene.graph["static points"]
    seen = trimesh.transform_points(scene.geometry[geometry].vertices, turn)
    x, y, z = read_cloud(exported.root / "export/ply/static.ply").points.T
    np.testing.assert_allclose(seen, np.stack([x, z, -y], axis=-1), atol=1e-4)
    counts = {key: len(item.vertices) for key, item in scene.geometry.items() if key != "static"}
    moving = {name: len(exported.moving_cloud(name)) for name in exported.trajectory().names}
    assert moving["000003"] == 0
    assert counts == {name: count for name, count in moving.items() if count}


def test_meshes_as_glb_open_in_open3d(exported):
    o3d = pytest.importorskip("open3d")
    for name in ("static_mesh", "meshes/000003"):
        mesh = read_mesh(exported.root / f"export/ply/{name}.ply")
        seen = o3d.io.read_triangle_mesh(str(exported.root / f"export/glb/{name}.glb"), True)
        corners = np.asarray(seen.vertices)[np.asarray(seen.triangles)]  # open3d splits vertices, triangles stay
        np.testing.assert_allclose(corners, (mesh.vertices[:, [0, 2, 1]] * [1, 1, -1])[mesh.faces], atol=1e-4)
    uv = np.asarray(seen.triangle_uvs) * [64, -48] + [0, 48]  # open3d counts v from below
    pixels = free_surface(exported.depth_mesh("000003"), exported.trajectory()["000003"], 2).pixels
    np.testing.assert_allclose(uv, pixels[mesh.faces.ravel()] + 0.5, atol=1e-3)


def test_cameras_see_the_same_pixels_in_every_format(exported):
    import pycolmap

    model = pycolmap.Reconstruction(str(exported.root / "export/colmap/sparse/0"))
    trajectory = exported.trajectory()
    times, tum = read_tum(exported.root / "export/tum/trajectory.tum")
    nerf = read_transforms(exported.root / "export/nerfstudio/transforms.json")
    np.testing.assert_allclose(times, trajectory.timestamps_s, atol=1e-9)
    assert nerf.missing == ()
    assert [frame.file_path for frame in nerf.frames] == [f"images/{name}.jpg" for name in trajectory.names]
    images = {image.name: image for image in model.images.values()}
    for i, view in enumerate(trajectory):
        point = np.array([0.4, 0.2, 6.0])
        expected = view.camera.project(view.cam_from_world @ point)
        delivered = deliver(point[None])[0]
        for world_from_cam in (tum[i], nerf.world_from_cam[i]):
            np.testing.assert_allclose(view.camera.project(world_from_cam.inverse() @ delivered), expected, atol=1e-6)
        image = images[f"{view.name}.jpg"]
        np.testing.assert_allclose(image.project_point(delivered), expected, atol=1e-6)
        assert (exported.root / "export/colmap/images" / image.name).is_file()
    np.testing.assert_allclose(model.compute_mean_reprojection_error(), 0, atol=1e-6)
    assert len(model.points3D) == 7
    content = json.loads((exported.root / "export/nerfstudio/transforms.json").read_text())
    assert len(read_cloud(exported.root / "export/nerfstudio" / content["ply_file_path"])) > 0


def test_manifest_lists_every_file_and_what_was_applied(exported):
    manifest = json.loads((exported.root / "export/manifest.json").read_text())
    found = {
        path.relative_to(exported.root / "export").as_posix()
        for path in (exported.root / "export").rglob("*")
        if path.is_file()
    }
    assert set(manifest["files"]) == found - {"made.json", "manifest.json", "stage.json"}
    assert manifest["units"] == "metres"
    assert manifest["up"] == "z"
    expected = np.eye(4)
    expected[:3, :3] = METRES_PER_UNIT * LEVELLED_FROM_SCENE.rotation
    expected[:3, 3] = METRES_PER_UNIT * LEVELLED_FROM_SCENE.translation
    np.testing.assert_allclose(manifest["delivered_from_scene"], expected)


def test_unknown_size_is_said_and_the_cameras_stand_in_for_up(tmp_path):
    workspace = fabricate(tmp_path / "scene", frames=2, known=False)
    record = run(workspace, ExportOptions(to=("ply",)))
    assert "not known" in record.summary["units"]
    assert "cameras" in record.summary["up"]
    before, after = (read_cloud(tmp_path / "scene" / unit / "static.ply") for unit in ("fuse", "export/ply"))
    x, y, z = before.points.T  # the cameras turn about y alone
    np.testing.assert_allclose(after.points, np.stack([x, z, -y], axis=-1), atol=1e-6)


@pytest.mark.parametrize("up", ["z", "y", "model"])
def test_up_turns_everything_alike(tmp_path, up):
    workspace = fabricate(tmp_path / "scene", frames=2)
    run(workspace, ExportOptions(to=("ply", "tum"), up=up))
    by_hand = {
        "z": deliver,
        "y": lambda x: np.stack([2 * x[:, 0], 2 * (1 - x[:, 1].astype(float)), -2 * x[:, 2]], axis=-1),
        "model": lambda x: 2.0 * x,
    }[up]
    points = read_cloud(workspace.root / "export/ply/static.ply").points
    np.testing.assert_allclose(points, by_hand(workspace.static_cloud().points), atol=1e-5)
    path = read_tum(workspace.root / "export/tum/trajectory.tum")[1].translation
    np.testing.assert_allclose(path, by_hand(workspace.trajectory().centres), atol=1e-8)


def test_layers_choose_points_and_surfaces(tmp_path):
    workspace = fabricate(tmp_path / "scene", frames=3, ball_moves=True)
    export = workspace.root / "export/ply"
    run(workspace, ExportOptions(to=("ply",), layers=("moving",)))
    assert len(read_cloud(export / "static.ply")) == 0
    assert len(read_mesh(export / "static_mesh.ply").faces) == 0
    assert len(read_cloud(export / "moving/000000.ply")) == len(workspace.moving_cloud("000000")) > 0
    on_ball = np.linalg.norm(read_mesh(export / "meshes/000000.ply").vertices - deliver([[0.3, 0.5, 3.0]]), axis=1)
    np.testing.assert_allclose(on_ball, 1.0, atol=1e-4)
    assert len(on_ball) > 10
    assert len(read_mesh(export / "meshes/000003.ply").vertices) == 0  # nothing moves there
    run(workspace, ExportOptions(to=("ply",), layers=("static",)))
    assert len(read_cloud(export / "static.ply")) == len(workspace.static_cloud())
    assert len(read_cloud(export / "moving/000000.ply")) == 0
    off_ball = np.linalg.norm(read_mesh(export / "meshes/000000.ply").vertices - deliver([[0.3, 0.5, 3.0]]), axis=1)
    assert off_ball.min() > 1.0 + 1e-3


def test_provenance_chooses_points_and_surfaces(tmp_path):
    workspace = fabricate(tmp_path / "scene", frames=2)  # all of provenance 1
    export = workspace.root / "export/ply"
    for wanted, some in (((0, 2), False), ((1,), True)):
        run(workspace, ExportOptions(to=("ply",), provenance=wanted))
        clouds = [read_cloud(export / name) for name in ("static.ply", "moving/000000.ply")]
        meshes = [read_mesh(export / name) for name in ("static_mesh.ply", "meshes/000000.ply")]
        assert all((len(item) > 0) == some for item in clouds)
        assert all((len(item.faces) > 0) == some for item in meshes)


def test_upper_bounds_hold_for_clouds_and_meshes(tmp_path):
    workspace = fabricate(tmp_path / "scene", frames=2)
    export = workspace.root / "export/ply"
    run(workspace, ExportOptions(to=("ply",), max_points=200, max_static_points=900))
    assert len(read_cloud(export / "static.ply")) == 900
    assert len(read_cloud(export / "moving/000000.ply")) == min(200, len(workspace.moving_cloud("000000")))
    assert 100 < len(read_mesh(export / "meshes/000000.ply").vertices) <= 200
    simple, whole = read_mesh(export / "static_mesh.ply"), workspace.static_mesh()
    assert len(whole.vertices) > 1000 >= len(simple.vertices) > 500
    x, y, z = simple.vertices.T / 2
    scene = np.stack([x, 1 - z, y], axis=-1)
    np.testing.assert_allclose(scene.min(axis=0), whole.vertices.min(axis=0), atol=0.1)
    np.testing.assert_allclose(scene.max(axis=0), whole.vertices.max(axis=0), atol=0.1)


def test_a_cloud_is_thinned_alike_every_time():
    cloud = PointCloud(np.arange(300.0).reshape(100, 3), np.zeros((100, 3)))
    first, second = at_most(cloud, 10), at_most(cloud, 10)
    np.testing.assert_array_equal(first.points, second.points)
    assert len(first) == 10
    assert (np.diff(first.points[:, 0]) > 0).all()
    assert at_most(cloud, None) is cloud


def test_chosen_formats_and_frames_only(tmp_path):
    workspace = fabricate(tmp_path / "scene", frames=3)
    listener = Listener()
    run(workspace, ExportOptions(to=("glb", "tum"), frames="1:", max_glb_frames=1), listener)
    export = workspace.root / "export"
    assert sorted(path.name for path in export.iterdir()) == [
        "blender",
        "glb",
        "import_recon4d.py",
        "made.json",
        "manifest.json",
        "stage.json",
        "tum",
    ]
    assert sorted(path.name for path in (export / "glb/meshes").iterdir()) == ["000003.glb", "000006.glb"]
    assert any("plays 1 of 2 frames" in text for text in listener.said)
    assert len(read_tum(export / "tum/trajectory.tum")[0]) == 2
    assert run(workspace, ExportOptions(to=("glb", "tum"), frames="1:", max_glb_frames=1), listener)
    assert listener.said[-1] == "export: up to date"


def test_interrupted_export_goes_on_where_it_was(tmp_path, monkeypatch):
    workspace = fabricate(tmp_path / "scene", frames=3)
    options = ExportOptions(to=("ply", "nerfstudio"))
    monkeypatch.setattr("recon4d.formats.transforms_json.write_transforms", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(workspace, options)
    monkeypatch.undo()
    assert workspace.record("export") is None
    monkeypatch.setattr("recon4d.geometry.grid_surface.free_surface", lambda *_: pytest.fail("done already"))
    run(Workspace(workspace.root), options)
    assert len(list((workspace.root / "export/ply/meshes").iterdir())) == 3


def test_every_format_has_a_writer():
    assert set(get_args(Format)) == set(WRITERS) >= set(ExportOptions().to)
    assert all(callable(writer(name)) for name in WRITERS)
    assert not set(OPTIONAL) & set(ExportOptions().to)  # the defaults need no extra


NAMES = ("000000", "000003", "000006", "000009")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, NAMES),
        ("::2", ("000000", "000006")),
        ("-1:", ("000009",)),
        ("000006, 000000", ("000000", "000006")),
    ],
)
def test_frames_are_chosen_by_name_or_place(choice, expected):
    assert choose_frames(NAMES, choice) == expected


@pytest.mark.parametrize(
    ("choice", "message"),
    [("000001", "no frame 000001"), ("a:b", "START:STOP:STEP"), ("::0", "START:STOP:STEP"), ("9:", "chooses none")],
)
def test_frames_that_are_not_there_are_refused(choice, message):
    with pytest.raises(OptionsError, match=message):
        choose_frames(NAMES, choice)


def test_options_without_sense_are_refused(tmp_path):
    workspace = fabricate(tmp_path / "scene", frames=1)
    with pytest.raises(OptionsError, match=r"--export\.mesh-stride is 0, at least 1 is expected"):
        run(workspace, ExportOptions(mesh_stride=0))
    with pytest.raises(OptionsError, match="no format"):
        run(workspace, ExportOptions(to=()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ExportOptions(to=()), "no format"),
        (ExportOptions(layers=()), "no layer"),
        (ExportOptions(provenance=(7,)), "--export.provenance is 7"),
        (ExportOptions(provenance=()), "names nothing"),
        (ExportOptions(html_mb=0), "--export.html-mb is 0"),
        (ExportOptions(html_mb=float("nan")), "--export.html-mb is nan"),
        (ExportOptions(max_points=-1), "--export.max-points is -1"),
        (ExportOptions(max_static_points=0), "--export.max-static-points is 0"),
        (ExportOptions(max_glb_frames=0), "--export.max-glb-frames is 0"),
        (ExportOptions(frames="a:b"), "START:STOP:STEP"),
        (ExportOptions(frames="::0"), "step other than 0"),
        (ExportOptions(frames="1:2:3:4"), "START:STOP:STEP"),
        (ExportOptions(frames=" , "), "names with commas"),
    ],
)
def test_options_no_scene_can_be_exported_with_are_refused_before_any_work(options, message):
    with pytest.raises(OptionsError, match=message) as caught:
        check_options(options)
    assert str(caught.value).startswith("export: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("choice", [None, "::5", "-1:", "000012, 000040", ":"])
def test_options_that_only_the_scene_can_judge_pass_the_check(choice):
    check_options(ExportOptions(frames=choice))


def test_thinned_grid_keeps_pixel_centres_and_never_bridges_a_cut(tmp_path):
    workspace = fabricate(tmp_path / "scene", frames=1)
    view = workspace.trajectory()["000000"]
    mesh = workspace.depth_mesh("000000")
    thin, camera = thinned(mesh, view.camera, 3)
    np.testing.assert_allclose(camera.rays(), view.camera.rays()[::3, ::3], atol=1e-12)
    assert (camera.height, camera.width) == (16, 22)
    for row in range(16):
        for column in range(21):
            joins = mesh.join_right[3 * row, 3 * column : 3 * column + 3]
            assert thin.join_right[row, column] == joins.all()
    for row in range(15):
        for column in range(22):
            assert thin.join_down[row, column] == mesh.join_down[3 * row : 3 * row + 3, 3 * column].all()


def test_an_extra_that_is_missing_is_named_before_any_work(monkeypatch):
    monkeypatch.setitem(OPTIONAL, "usd", (("no_such_module_here",), "usd"))
    with pytest.raises(MissingDependency, match=r"usd needs no_such_module_here.*pip install 'recon4d\[usd\]'"):
        check_options(ExportOptions(to=("tum", "usd")))


def test_packed_las_is_refused_without_either_of_its_packages(monkeypatch):
    for module in ("laspy", "lazrs"):
        monkeypatch.setattr("importlib.util.find_spec", lambda name, gone=module: None if name == gone else name)
        with pytest.raises(MissingDependency, match=rf"laz needs {module}.*recon4d\[las\]"):
            check_options(ExportOptions(to=("laz",)))


def test_formats_layers_and_provenance_take_commas(tmp_path, capsys):
    workspace = fabricate(tmp_path / "scene", frames=2)
    (workspace.root / "options.toml").write_text(f'[input]\npath = "{tmp_path}"\n[export]\nlevel = true\n')
    words = ["export", str(workspace.root), "--to", "ply,tum", "--layers", "static", "--provenance", "0,1"]
    assert main(words) == 0, capsys.readouterr().err
    options = workspace.record("export").options
    assert options["to"] == ["ply", "tum"]
    assert options["provenance"] == [0, 1]
    assert main(["export", str(workspace.root), "--layers=static,moving"]) == 0  # what is not named keeps its value
    assert workspace.record("export").options["to"] == ["ply", "tum"]
    assert workspace.record("export").options["layers"] == ["static", "moving"]
    assert main(["export", str(workspace.root), "--to", "ply,obj"]) == 1
    assert "obj" in capsys.readouterr().err

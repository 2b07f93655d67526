"""The import script in real Blender: PLY, GLB and USD all give the scene, in metres, upright, at the right time."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import fabricated
import numpy as np
import pytest
from clients import blender
from fabricated import STILL, fabricate

from recon4d.formats.pictures import read_rgb
from recon4d.geometry.point_squares import local_spacing
from recon4d.stages.export import run
from recon4d.stages.export_options import ExportOptions
from recon4d.workspace import Workspace

pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]
CHECKS = Path(__file__).parent / "blender_checks"
SOURCES = ("ply", "glb", "usd")
NAMES = ("000000", "000003", "000006", "000015", "000018")  # at 0, 0.11, 0.2, 0.51, 0.6 s; nothing moves in 000003
AT = {1: "000000", 2: "000003", 3: "000006", 4: "000006", 5: "000006", 6: "000015", 7: "000018"}


def deliver(points: np.ndarray) -> np.ndarray:
    """By hand: levelled (x, z, 1 - y), two metres per unit."""
    x, y, z = np.asarray(points, dtype=np.float64).T
    return 2.0 * np.stack([x, z, 1.0 - y], axis=-1)


def facts(folder: Path, **task: object) -> dict[str, np.ndarray]:
    target = folder / "facts.npz"
    (folder / "places").mkdir(exist_ok=True)
    blender(CHECKS / "facts.py", json.dumps({"places": str(folder / "places"), **task}), target)
    with np.load(target) as found:
        return dict(found)


def blocks(picture: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Mean colour of squares of 8 pixels where something is shown: points of so small a picture blur its chequers."""
    weight = shown.any(axis=-1, keepdims=True).astype(float)
    sums = [(layer.reshape(6, 8, 8, 8, -1)).sum(axis=(1, 3)) for layer in (picture * weight, weight)]
    return sums[0] / np.maximum(sums[1], 1)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    workspace = fabricate(tmp_path_factory.mktemp("blender") / "clip", frames=7, ball_moves=True)
    run(workspace, ExportOptions(to=SOURCES, frames=",".join(NAMES)))
    return workspace


@pytest.fixture(scope="module")
def truth(workspace) -> dict[str, np.ndarray]:
    """Points in the first camera's view and their pixels in every frame of the clip."""
    first = workspace.trajectory()["000000"]
    depth = np.linspace(1.0, 6.0, 30)
    pixels = np.random.default_rng(0).uniform([0, 0], [64, 48], (30, 2))
    rays = (pixels - [first.camera.cx, first.camera.cy]) / [first.camera.fx, first.camera.fy]
    points = first.cam_from_world.inverse() @ np.column_stack([rays * depth[:, None], depth])
    seen = {view.name: view.camera.project(view.cam_from_world @ points) for view in workspace.trajectory()}
    return {"points": deliver(points), **seen}


@pytest.fixture(scope="module", params=SOURCES)
def built(request, workspace, truth, tmp_path_factory) -> tuple[str, dict[str, np.ndarray]]:
    folder, export = tmp_path_factory.mktemp(request.param), workspace.root / "export"
    arguments = ["--source", request.param, "--save", str(export / f"{request.param}.blend")]
    task = {"export": str(export), "arguments": arguments, "points": truth["points"].tolist(), "render": [1, 3]}
    return request.param, facts(folder, **task, plate=True)


def test_scene_has_the_clips_rate_range_unit_and_size(built):
    _, found = built
    assert found["fps"] == pytest.approx(26.8 / 2.684, abs=1e-5)  # see tests/test_export_blender.py
    assert found["range"].tolist() == [1, 7]
    assert found["current"] == 1
    assert found["units"].tolist() == ["METRIC", "1.0"]
    assert found["size"].tolist() == [64, 48]
    assert (str(found["view"]), str(found["scene"])) == ("Standard", "recon4d clip")


def test_background_is_metric_and_upright_with_the_recorded_colours(built, workspace):
    source, found = built
    cloud = workspace.static_cloud()
    expected = deliver(cloud.points)
    # int16 over the extent in GLB, float32 elsewhere
    tolerance = np.ptp(expected, axis=0).max() / 65534 if source == "glb" else 1e-5
    for frame in (1, 7):
        np.testing.assert_allclose(found[f"background {frame}"], expected, atol=tolerance)
        np.testing.assert_array_equal(np.round(found[f"background colours {frame}"]), cloud.colors)


def test_what_moves_is_shown_at_its_time_and_not_longer(built, workspace):
    source, found = built
    assert {int(name.split()[1]) for name in found if name.startswith("turn")} == set(AT)
    for frame, name in AT.items():
        cloud = workspace.moving_cloud(name)
        points = found.get(f"moving {frame}", np.zeros((0, 3)))
        assert len(points) == len(cloud), (source, frame)
        if name == STILL:
            assert not len(points)
            continue
        assert len(points) > 30
        np.testing.assert_allclose(points, deliver(cloud.points), atol=1e-4)
        np.testing.assert_array_equal(np.round(found[f"moving colours {frame}"]), cloud.colors)


def test_points_just_cover_the_gaps_between_them(built):
    _, found = built
    for cloud in ("background 1", "moving 1", "moving 3"):
        radii = found[cloud.replace(" ", " radii ")]
        expected = local_spacing(found[cloud]) * 0.5**0.5  # half the diagonal of the square a point stands for
        assert np.median(radii / expected) == pytest.approx(1.0, abs=0.25), cloud
        assert np.corrcoef(np.log(radii), np.log(expected))[0, 1] > 0.5, cloud


def test_camera_projects_to_our_pixels(built, truth):
    _, found = built
    for frame, name in AT.items():
        if frame not in (4, 5):  # between two frames of the clip the camera glides
            np.testing.assert_allclose(found[f"pixels {frame}"], truth[name], atol=0.1)
    assert np.abs(found["pixels 1"] - truth["000018"]).max() > 5


def test_rotations_never_change_sides(built):
    _, found = built
    turns = np.stack([found[f"quaternion {frame}"] for frame in AT])
    assert ((turns[1:] * turns[:-1]).sum(axis=1) > 0.9).all()


def test_the_video_stands_behind_the_camera_at_the_right_time(built, workspace):
    _, found = built
    pictures = {name: read_rgb(workspace.picture_path(name)).astype(float) for name in NAMES}
    for frame, name in AT.items():
        shown = found[f"plate {frame}"].astype(float)
        difference = {other: np.abs(shown - picture).mean() for other, picture in pictures.items()}
        assert min(difference, key=difference.get) == name
        assert difference[name] < 1.0
        assert sorted(difference.values())[1] > 3.0


def test_a_rendered_frame_is_the_frame_of_the_video(built, workspace):
    _, found = built
    for frame in (1, 3):
        picture, shown = read_rgb(workspace.picture_path(AT[frame])).astype(float), found[f"render {frame}"]
        assert shown.any(axis=-1).mean() > 0.9
        coarse, expected = blocks(shown, shown), blocks(picture, shown)
        assert np.abs(coarse - expected).mean() < 12  # gaps in the background are black
        assert np.median(np.abs(coarse - expected)) < 8
        assert np.corrcoef(coarse.ravel(), expected.ravel())[0, 1] > 0.85
        ball = picture[..., 0] - picture[..., 2] > 120
        assert (shown[ball][:, 0] > 150).mean() > 0.8
        np.testing.assert_allclose(np.median(shown[ball], axis=0), np.median(picture[ball], axis=0), atol=2)


def test_a_saved_scene_plays_after_the_folder_has_moved(built, workspace, tmp_path):
    source, found = built
    moved = tmp_path / "elsewhere"
    shutil.copytree(workspace.root / "export", moved)
    again = facts(tmp_path, open=str(moved / f"{source}.blend"), plate=True)
    assert str(again["plate file"]).startswith("//")
    assert all(str(file).startswith("//") for file in again["files"])
    for name in found:
        if name.startswith(("moving", "background", "turn", "plate ")) and name != "plate file":
            np.testing.assert_allclose(again[name], found[name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize("up", ["y", "model"])
@pytest.mark.parametrize("source", SOURCES)
def test_other_axes_are_turned_upright(source, up, tmp_path):
    workspace = fabricate(tmp_path / "clip", frames=2, ball_moves=True)
    run(workspace, ExportOptions(to=(source,), up=up))
    found = facts(tmp_path, export=str(workspace.root / "export"), arguments=["--no-plate"], points=[[0.0, 2.0, 1.0]])
    x, y, z = 2 * workspace.moving_cloud("000000").points.astype(float).T
    expected = np.stack([x, z, (2 - y) if up == "y" else -y], axis=-1)
    np.testing.assert_allclose(found["moving 1"], expected, atol=1e-4)
    view = workspace.trajectory()["000000"]
    point = np.array([0.0, 0.5 if up == "y" else -0.5, 1.0])  # what is delivered at (0, 2, 1)
    expected = view.camera.project(view.cam_from_world @ point)
    np.testing.assert_allclose(found["pixels 1"][0], expected, atol=0.1)
    assert str(found["plate file"]) == ""


def test_lenses_that_change_and_pixels_that_are_not_square(workspace, truth, tmp_path):
    export = tmp_path / "export"
    shutil.copytree(workspace.root / "export", export)
    manifest = json.loads((export / "manifest.json").read_text())
    for row, (fx, fy, cx, cy) in enumerate([(60, 75, 30, 20), (70, 56, 36, 29), (60, 60, 32, 24)]):
        for number, camera in enumerate(manifest["cameras"]):
            zoom = 1 + 0.1 * number
            camera |= {"fx": fx * zoom, "fy": fy * zoom, "cx": cx + number, "cy": cy - number}
        (export / "manifest.json").write_text(json.dumps(manifest))
        folder = tmp_path / str(row)
        folder.mkdir()
        found = facts(folder, export=str(export), points=truth["points"].tolist())
        for frame, name in AT.items():
            if frame in (4, 5):
                continue
            number, view = NAMES.index(name), workspace.trajectory()[name]
            zoom, centre = 1 + 0.1 * number, [cx + number, cy - number]
            # from the pixels of the true lens to those of this one
            rays = (truth[name] - [view.camera.cx, view.camera.cy]) / [view.camera.fx, view.camera.fy]
            np.testing.assert_allclose(found[f"pixels {frame}"], rays * [fx * zoom, fy * zoom] + centre, atol=0.1)


@pytest.mark.parametrize("shape", ["quads", "meshes"])
@pytest.mark.parametrize("source", ["glb", "usd"])
def test_squares_and_surfaces_play_too(source, shape, tmp_path):
    workspace = fabricate(tmp_path / "clip", frames=3, ball_moves=True)
    run(workspace, ExportOptions(to=(source,), shape=shape))
    found = facts(tmp_path, export=str(workspace.root / "export"), render=[1, 3])
    counts = [len(found.get(f"moving {frame}", ())) for frame in (1, 2, 3)]
    assert counts[1] == 0 < min(counts[0], counts[2])
    for frame, name in ((1, "000000"), (3, "000006")):
        picture, shown = read_rgb(workspace.picture_path(name)).astype(float), found[f"render {frame}"]
        ball = picture[..., 0] - picture[..., 2] > 120
        assert (shown[ball][:, 0] > 150).mean() > 0.8, (frame, shown[ball].mean(axis=0))


@pytest.mark.parametrize("source", ["glb", "ply"])
def test_surfaces_of_single_frames_look_like_the_video(source, tmp_path):
    workspace = fabricate(tmp_path / "clip", frames=2, ball_moves=True)
    run(workspace, ExportOptions(to=(source,), mesh_stride=1))
    task = {"export": str(workspace.root / "export"), "arguments": ["--meshes"], "render": [1, 2]}
    found = facts(tmp_path, **task)
    for frame, name in ((1, "000000"), (2, "000003")):
        picture, shown = read_rgb(workspace.picture_path(name)).astype(float), found[f"render {frame}"]
        assert shown.any(axis=-1).mean() > 0.8
        assert np.abs(blocks(shown, shown) - blocks(picture, shown)).mean() < 6  # silhouettes are cut, black shows
        ball = picture[..., 0] - picture[..., 2] > 120
        np.testing.assert_allclose(np.median(shown[ball], axis=0), np.median(picture[ball], axis=0), atol=2)
    assert not any(name.startswith("background") for name in found)


@pytest.mark.parametrize("source", ["glb", "ply"])
def test_background_as_a_mesh(source, tmp_path):
    workspace = fabricate(tmp_path / "clip", frames=1)
    run(workspace, ExportOptions(to=(source,)))
    found = facts(tmp_path, export=str(workspace.root / "export"), arguments=["--background", "mesh"])
    mesh = workspace.static_mesh()
    assert next(name for name in found if name.startswith("background")).startswith("background mesh")
    np.testing.assert_allclose(found["background mesh 1"], deliver(mesh.vertices), atol=1e-5)


def test_a_second_run_replaces_the_first_and_nothing_else(workspace):
    export = str(workspace.root / "export")
    sources = ["ply", "ply", "glb", "usd", "ply"]
    runs = [{"export": export, "arguments": ["--source", source]} for source in sources]
    runs.append({"export": export, "text": True})
    found = said(runs)
    assert [run["code"] for run in found] == [0] * len(runs)
    first = found[0]["counts"]
    for number, source in enumerate([*sources, "ply"]):
        assert found[number]["scene"] == "recon4d clip"
        assert found[number]["added"] == [f"of the user {i}" for i in range(number)]
        assert found[number]["default"] == ["Camera", "Cube", "Light"]
        if source == "ply":
            assert found[number]["counts"] == first | {"objects": first["objects"] + number}
    assert found[0]["said"] == ["import_recon4d: scene 'recon4d clip': 5 frames at 9.985 frames a second, from ply"]


# -- several clips, and names that are taken ---------------------------------------------------------------------------


def in_one_blender(folder: Path, **task: object) -> dict[str, np.ndarray]:
    target = folder / "clips.npz"
    blender(CHECKS / "clips.py", json.dumps(task), target)
    with np.load(target) as found:
        return dict(found)


def holds(found: dict, scene: str, workspace: Workspace, frames: dict[int, str], shape: str = "points") -> None:
    """That a Blender scene shows this clip, and at each frame what moves in it."""
    assert found[f"{scene}/range"].tolist() == [min(frames), max(frames)]
    if shape != "meshes":
        assert len(found[f"{scene}/background 1"]) == len(workspace.static_cloud()) * (4 if shape == "quads" else 1)
    for frame, name in frames.items():
        points, cloud = found.get(f"{scene}/moving {frame}", np.zeros((0, 3))), workspace.moving_cloud(name)
        if shape == "meshes":
            assert (len(points) > 10) == (len(cloud) > 0), (scene, frame)
        else:
            assert len(points) == len(cloud) * (4 if shape == "quads" else 1), (scene, frame)
        if len(cloud):
            np.testing.assert_allclose(points.mean(axis=0), deliver(cloud.points).mean(axis=0), atol=0.15)


@pytest.fixture(scope="module", params=["points", "quads", "meshes"])
def two_clips(request, tmp_path_factory) -> tuple[str, list[Workspace]]:
    """Two clips with the same title and the same names of frames; the second is shorter and shows them later."""
    folder, workspaces = tmp_path_factory.mktemp("two"), []
    for place, frames in (("a", 4), ("b", 3)):
        workspaces.append(fabricate(folder / place / "clip", frames=frames, ball_moves=True))
        run(workspaces[-1], ExportOptions(to=SOURCES, shape=request.param))
    return request.param, workspaces


FOUR, THREE = ({1 + i: f"{3 * i:06d}" for i in range(count)} for count in (4, 3))


@pytest.mark.parametrize("source", SOURCES)
def test_two_clips_of_one_title_stay_side_by_side(source, two_clips, tmp_path):
    shape, (first, second) = two_clips
    order = [first, second, first, second, first]  # the same again replaces its own
    runs = [{"export": str(item.root / "export"), "arguments": ["--source", source]} for item in order]
    found = in_one_blender(tmp_path, runs=runs)
    assert found["scenes"].tolist() == ["recon4d clip", "recon4d clip.001"]
    drawn = shape if source != "ply" else "points"
    holds(found, "recon4d clip", first, FOUR, drawn)
    holds(found, "recon4d clip.001", second, THREE, drawn)


@pytest.mark.parametrize("taken", ["by hand", "by objects"])
def test_glb_beside_objects_that_have_its_names(taken, two_clips, tmp_path):
    shape, (workspace, _) = two_clips
    export = workspace.root / "export"
    before = {"by_hand": str(export / "glb/scene.glb")}
    if taken == "by objects":
        before = {"objects": ["000000", "000006", "static", "scene", "clip background"]}
    found = in_one_blender(tmp_path, runs=[{"export": str(export), "arguments": ["--source", "glb"]}], **before)
    holds(found, "recon4d clip", workspace, FOUR, shape)


@pytest.mark.parametrize("source", SOURCES)
def test_names_that_blender_cuts(source, tmp_path, monkeypatch):
    walk = fabricated.fabricated_trajectory
    long = {name: "a_clip_whose_pictures_have_names_longer_than_blenders_63_bytes_" + name for name in FOUR.values()}
    assert len({name[:63] for name in long.values()}) == 1
    monkeypatch.setattr(
        fabricated, "fabricated_trajectory", lambda *size: replace(walk(*size), names=tuple(long.values()))
    )
    workspace = fabricate(tmp_path / "clip", ball_moves=True)
    run(workspace, ExportOptions(to=(source,)))
    found = in_one_blender(tmp_path, runs=[{"export": str(workspace.root / "export")}])
    holds(found, "recon4d clip", workspace, {frame: long[name] for frame, name in FOUR.items()})


@pytest.mark.parametrize("source", SOURCES)
def test_a_single_frame_has_background_and_what_moves(source, tmp_path):
    workspace = fabricate(tmp_path / "clip", frames=1, ball_moves=True)
    run(workspace, ExportOptions(to=(source,)))
    found = in_one_blender(tmp_path, runs=[{"export": str(workspace.root / "export")}])
    holds(found, "recon4d clip", workspace, {1: "000000"})


# -- what is wrong ---------------------------------------------------------------------------------------------------


def said(runs: list[dict[str, object]]) -> list[dict[str, object]]:
    printed = blender(CHECKS / "runs.py", json.dumps(runs))
    return [json.loads(line) for line in printed.splitlines() if line[:1] == "{"]


def test_an_export_in_which_nothing_is_left_says_so_and_what_left_it_out(tmp_path):
    workspace = fabricate(tmp_path / "clip", ball_moves=True)
    run(workspace, ExportOptions(to=SOURCES, provenance=(4,)))
    runs = [{"export": str(workspace.root / "export"), "arguments": ["--source", source]} for source in SOURCES]
    runs += [{"export": str(workspace.root / "export"), "arguments": arguments} for arguments in ([], ["--meshes"])]
    for found in said(runs):
        assert found["code"] == 1
        assert (
            "in this export, made with --layers static,moving --provenance 4: export the scene with more layers"
            in (found["said"][0])
        )
    run(workspace, ExportOptions(to=("glb",), layers=("moving",)))
    (found,) = said([{"export": str(workspace.root / "export"), "arguments": ["--background", "mesh"]}])
    assert "no mesh of the background in this export, made with --layers moving:" in found["said"][0]


def test_a_glb_that_says_no_frames_is_not_shown_all_at_once(workspace, tmp_path):
    shutil.copytree(workspace.root / "export", tmp_path / "export")
    path = tmp_path / "export/glb/scene.glb"
    path.write_bytes(path.read_bytes().replace(b'"extras"', b'"exxxxx"'))
    (found,) = said([{"export": str(tmp_path / "export"), "arguments": ["--source", "glb"]}])
    assert found["code"] == 1
    assert "does not say which frames" in found["said"][0]


def test_what_is_wrong_is_said_in_a_sentence(workspace, tmp_path):
    folders = {
        name: tmp_path / name for name in ("alone", "nothing", "damaged", "manifest", "parts", "no_usd", "plate")
    }
    for name, folder in folders.items():
        shutil.copytree(workspace.root / "export", folder)
        if name == "nothing":
            [shutil.rmtree(folder / source) for source in SOURCES]
    (folders["alone"] / "manifest.json").unlink()
    cloud = folders["damaged"] / "ply/moving/000006.ply"
    cloud.write_bytes(cloud.read_bytes()[:-20])
    (folders["manifest"] / "manifest.json").write_text("{")
    (folders["parts"] / "blender/recon4d_blender_looks.py").unlink()
    (folders["no_usd"] / "usd/scene.usdc").unlink()
    shutil.rmtree(folders["plate"] / "blender/plate")
    runs = [{"export": str(folder)} for folder in folders.values()]
    runs[5]["arguments"] = ["--source", "usd"]
    found = said(runs)
    expected = {
        "alone": "no manifest.json in",
        "nothing": "ply/static.ply is missing: delete it if it is there, then export the scene again",
        "damaged": "000006.ply is damaged",
        "manifest": "is damaged",
        "parts": "recon4d_blender_looks.py is missing",
        "no_usd": "scene.usdc is missing: delete it if it is there",
        "plate": "pictures of the video are missing",
    }
    for facts_, (name, text) in zip(found, expected.items(), strict=True):
        assert text in " ".join(facts_["said"]), name
        assert facts_["code"] == (0 if name == "plate" else 1), name


def test_unknown_size_has_no_unit_and_is_said(tmp_path):
    workspace = fabricate(tmp_path / "clip", frames=1, known=False)
    run(workspace, ExportOptions(to=("ply",)))
    runs = [{"export": str(workspace.root / "export")}]
    found = json.loads(blender(CHECKS / "runs.py", json.dumps(runs)).splitlines()[-1])
    assert "not known" in found["said"][1]
    assert facts(tmp_path, export=str(workspace.root / "export"))["units"].tolist() == ["NONE", "1.0"]


@pytest.mark.parametrize("layers", [("static",), ("moving",)])
@pytest.mark.parametrize("source", SOURCES)
def test_one_layer_alone_is_imported(source, layers, tmp_path):
    workspace = fabricate(tmp_path / "clip", frames=3, ball_moves=True)
    run(workspace, ExportOptions(to=(source,), layers=layers))
    found = facts(tmp_path, export=str(workspace.root / "export"))
    shown = {name.split()[0] for name in found if name.split()[0] in {"moving", "background"} and len(found[name])}
    assert shown == {"background" if layers == ("static",) else "moving"}

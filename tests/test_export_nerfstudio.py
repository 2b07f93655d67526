"""The nerfstudio and Instant-NGP dataset, read as their loaders read it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fabricated import METRES_PER_UNIT, fabricate, is_ball, render
from listening import Listener

from recon4d.formats.cameras_json import write_trajectory
from recon4d.scene.trajectory import PoseOrigin
from recon4d.stages.export import run
from recon4d.stages.export_nerfstudio import ngp_cube
from recon4d.stages.export_options import ExportOptions
from recon4d.workspace import Workspace

TO = ("nerfstudio",)
HIDDEN = slice(0, 4)  # rows the user masked out in the first frame


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Workspace:
    from PIL import Image

    workspace = fabricate(tmp_path_factory.mktemp("nerf") / "scene", ball_moves=True)
    ignored = np.zeros((48, 64), dtype=np.uint8)
    ignored[HIDDEN] = 255
    (workspace.unit_dir("poses") / "masks").mkdir()
    Image.fromarray(ignored).save(workspace.unit_dir("poses") / "masks/000000.png")
    run(workspace, ExportOptions(to=TO))
    return workspace


def dataset(workspace: Workspace) -> tuple[Path, dict]:
    root = workspace.root / "export/nerfstudio"
    return root, json.loads((root / "transforms.json").read_text())


def picture(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as opened:
        return np.array(opened)


def unprojected(root: Path, content: dict, frame: dict, factor: float) -> np.ndarray:
    """(H, W, 3) world points as nerfstudio makes them: OpenGL camera, z-depth, pixel centres at one half."""
    depth = picture(root / frame["depth_file_path"]) * factor
    rows, columns = np.mgrid[: content["h"], : content["w"]] + 0.5
    x, y = (columns - content["cx"]) / content["fl_x"], -(rows - content["cy"]) / content["fl_y"]
    in_cam = np.stack([x * depth, y * depth, -depth, np.ones_like(depth)], axis=-1)
    return (in_cam @ np.array(frame["transform_matrix"]).T)[..., :3]


def to_scene(points: np.ndarray) -> np.ndarray:
    x, y, z = np.moveaxis(points, -1, 0) / METRES_PER_UNIT
    return np.stack([x, 1 - z, y], axis=-1)


def test_depth_pictures_hit_the_true_surface(exported):
    root, content = dataset(exported)
    assert content["depth_unit_scale_factor"] == content["integer_depth_scale"] == 0.001
    for frame in content["frames"]:
        scene = to_scene(unprojected(root, content, frame, 0.001))
        floor, wall = abs(scene[..., 1] - 1), abs(scene[..., 2] - 6)
        ball = abs(np.linalg.norm(scene - [0.3, 0.5, 3.0], axis=-1) - 0.5)
        assert np.minimum(np.minimum(floor, wall), ball).max() < 0.0005  # scene units; a step is 0.0005
        assert frame["depth_path"] == frame["depth_file_path"]  # Instant-NGP's name for it


def test_masks_are_white_where_the_background_is_to_be_learnt(exported):
    root, content = dataset(exported)
    for frame in content["frames"]:
        name = Path(frame["file_path"]).stem
        view = exported.trajectory()[name]
        use = ~is_ball(view, render(view)[1]) | (name == "000003")  # there it stands still
        if name == "000000":
            use[HIDDEN] = False
        np.testing.assert_array_equal(picture(root / frame["mask_path"]), np.where(use, 255, 0))
        hidden = root / "images" / f"dynamic_mask_{name}.png"  # Instant-NGP: what is not black is left out
        assert hidden.exists() == (not use.all())
        if hidden.exists():
            np.testing.assert_array_equal(picture(hidden), np.where(use, 0, 255))


def test_loaders_find_what_they_insist_on(exported):
    o3d = pytest.importorskip("open3d")
    root, content = dataset(exported)
    for key, value in {"camera_model": "OPENCV", "w": 64, "h": 48, "fl_x": 51.2, "fl_y": 51.2, "cx": 33.5}.items():
        assert content[key] == value
    assert len({len(frame) for frame in content["frames"]}) == 1  # masks and depth for all frames, or none
    assert all((root / frame["file_path"]).is_file() for frame in content["frames"])
    times = [frame["time"] for frame in content["frames"]]
    np.testing.assert_allclose(times, np.array([0, 0.11, 0.2, 0.31]) / 0.31, atol=1e-9)
    assert content["orientation_override"] == "none"  # z is up already
    assert "applied_transform" not in content  # nerfstudio would apply it to the points, which have it
    cloud = o3d.io.read_point_cloud(str(root / content["ply_file_path"]))
    scene = to_scene(np.asarray(cloud.points))
    assert cloud.has_colors()
    assert len(scene) == len(exported.static_cloud())
    np.testing.assert_allclose(scene, exported.static_cloud().points, atol=1e-5)


def test_scene_lies_in_the_cubes_of_instant_ngp(exported):
    root, content = dataset(exported)
    centres = np.array([np.array(frame["transform_matrix"])[:3, 3] for frame in content["frames"]])
    in_ngp = centres * content["scale"] + content["offset"]
    assert in_ngp.min() >= 0
    assert in_ngp.max() <= 1
    points = unprojected(root, content, content["frames"][0], 0.001) * content["scale"] + content["offset"]
    half = content["aabb_scale"] / 2
    assert (np.abs(points - 0.5).max(axis=-1) <= half).mean() > 0.95
    assert (np.abs(points - 0.5).max(axis=-1) > half / 2).any()  # a cube half as large would cut


def test_cubes_by_hand():
    centres = np.array([[1.0, 0, 0], [3.0, 0, 0]])
    points = np.full((200, 3), [2.0, 4.3, 0])
    cube = ngp_cube(centres, points)
    assert cube["scale"] == pytest.approx(0.5 / 1.1)
    np.testing.assert_allclose(np.array([2, 0, 0]) * cube["scale"] + cube["offset"], 0.5)
    assert cube["aabb_scale"] == 4  # 4.3 / 1.1 = 3.9
    assert ngp_cube(centres, points[:0])["aabb_scale"] == 1
    still = ngp_cube(centres[:1], points)  # a tripod
    assert still["aabb_scale"] == 16
    assert still["scale"] == pytest.approx(8 / 4.3)
    alone = ngp_cube(centres[:1], points[:0])
    assert np.isfinite(alone["scale"])


def test_unknown_size_is_said_with_the_option_that_helps(tmp_path):
    workspace = fabricate(tmp_path / "scene", frames=2, known=False)
    listener = Listener()
    run(workspace, ExportOptions(to=TO, up="model"), listener)
    root, content = dataset(workspace)
    assert any("--depth-unit-scale-factor 0.0001" in text for text in listener.said)
    assert "orientation_override" not in content
    points = unprojected(root, content, content["frames"][1], content["depth_unit_scale_factor"])
    off = np.minimum(abs(points[..., 1] - 1), abs(points[..., 2] - 6))  # the model's own axes and unit
    ball = abs(np.linalg.norm(points - [0.3, 0.5, 3.0], axis=-1) - 0.5)
    assert np.minimum(off, ball).max() < 0.0005


def test_guessed_poses_and_missing_backgrounds_are_left_out(tmp_path):
    workspace = fabricate(tmp_path / "scene", frames=3)
    trajectory = workspace.trajectory()
    origin = (PoseOrigin.MEASURED, PoseOrigin.INTERPOLATED, PoseOrigin.MEASURED)
    write_trajectory(workspace.unit_dir("poses") / "cameras.json", replace(trajectory, origin=origin))
    run(workspace, ExportOptions(to=TO, layers=("moving",)))
    root, content = dataset(workspace)
    assert [frame["file_path"] for frame in content["frames"]] == ["images/000000.jpg", "images/000006.jpg"]
    for folder in ("images", "depth", "masks"):
        assert {path.stem for path in (root / folder).iterdir()} == {"000000", "000006"}
    assert "ply_file_path" not in content
    assert not (root / "sparse_pc.ply").exists()
    assert not picture(root / "depth/000000.png").any()  # nothing moves
    record = run(workspace, ExportOptions(to=TO, frames="000003"))
    assert any("none of the written frames" in text for text in record.warnings)


def test_one_frame(tmp_path):
    workspace = fabricate(tmp_path / "scene", frames=1)
    run(workspace, ExportOptions(to=TO, max_static_points=50))
    root, content = dataset(workspace)
    assert [frame["time"] for frame in content["frames"]] == [0.0]
    assert b"element vertex 50\n" in (root / "sparse_pc.ply").read_bytes()

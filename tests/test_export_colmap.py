"""The COLMAP workspace: its model reloads and can be adjusted, and COLMAP fuses its depth to the true surface."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fabricated import fabricate, render

from recon4d.formats.cameras_json import write_trajectory
from recon4d.formats.colmap_maps import write_map
from recon4d.scene.trajectory import PoseOrigin
from recon4d.stages.export import run
from recon4d.stages.export_options import ExportOptions
from recon4d.workspace import Workspace

TO = ("colmap",)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Workspace:
    workspace = fabricate(tmp_path_factory.mktemp("colmap") / "scene", frames=6, ball_moves=True)
    run(workspace, ExportOptions(to=TO))
    return workspace


@pytest.fixture(scope="module")
def without_model(tmp_path_factory) -> Workspace:
    """The same, with poses that were not made from points."""
    workspace = fabricate(tmp_path_factory.mktemp("colmap") / "no_model", frames=6, ball_moves=True)
    shutil.rmtree(workspace.unit_dir("poses") / "sparse")
    return workspace


def model_of(workspace: Workspace, folder: str = "sparse/0"):
    import pycolmap

    return pycolmap.Reconstruction(str(workspace.root / "export/colmap" / folder))


def read_map(path: Path) -> np.ndarray:
    """(H, W) or (H, W, C): as COLMAP's own reader has it, (width, height, channels) with the first index fastest."""
    width, height, channels, data = path.read_bytes().split(b"&", 3)
    planes = np.frombuffer(data, dtype="<f4").reshape((int(width), int(height), int(channels)), order="F")
    return planes.transpose(1, 0, 2).squeeze(axis=2) if int(channels) == 1 else planes.transpose(1, 0, 2)


def to_scene(points: np.ndarray) -> np.ndarray:
    """From delivered metres, z up, to the units in which the scene was made."""
    x, y, z = np.asarray(points, dtype=np.float64).T / 2
    return np.stack([x, 1 - z, y], axis=-1)


def off_surface(points: np.ndarray) -> np.ndarray:
    """Scene units from the floor or the wall, whichever is nearer."""
    scene = to_scene(points)
    return np.minimum(abs(scene[:, 1] - 1), abs(scene[:, 2] - 6))


def fused(workspace: Workspace, folder: Path) -> np.ndarray:
    """(N, 3) points that COLMAP makes of the workspace.

    COLMAP's dense stages place the centre of the first pixel at (0, 0), against its own convention of (0.5, 0.5) that
    models follow (colmap issues 534, 1515); to see what the depth maps say, the principal point is moved as much.
    """
    import pycolmap

    copy = folder / "workspace"
    shutil.copytree(workspace.root / "export/colmap", copy)
    model = pycolmap.Reconstruction(str(copy / "sparse"))
    for camera in model.cameras.values():
        camera.params = camera.params - [0, 0, 0.5, 0.5]
    for file in (copy / "sparse").glob("*.bin"):
        file.unlink()
    model.write_binary(str(copy / "sparse"))
    options = pycolmap.StereoFusionOptions()
    options.min_num_pixels, options.num_threads = 3, 1
    cloud = pycolmap.stereo_fusion(str(folder / "fused.ply"), str(copy), options=options, output_type="PLY")
    return np.array([point.xyz for point in cloud.points3D.values()]).reshape(-1, 3)


def test_colmap_fuses_the_depth_to_the_true_surface(exported, tmp_path):
    points = fused(exported, tmp_path)
    assert len(points) > 500
    assert off_surface(points).max() < 1e-4  # nothing is of the ball, which moves


def test_model_is_there_for_trainers_and_for_stereo(exported):
    for folder in ("sparse/0", "sparse"):
        model = model_of(exported, folder)
        assert len(model.points3D) == 7
        assert all(point.track.length() == 6 for point in model.points3D.values())
        assert {image.name for image in model.images.values()} == {f"{n}.jpg" for n in exported.trajectory().names}
        assert {camera.model_name for camera in model.cameras.values()} == {"PINHOLE"}
    names = [f"{name}.jpg" for name in exported.trajectory().names]
    stereo = exported.root / "export/colmap/stereo"
    assert (stereo / "fusion.cfg").read_text().split() == names
    lines = (stereo / "patch-match.cfg").read_text().splitlines()
    assert lines[::2] == names
    assert set(lines[1::2]) == {"__auto__, 20"}


def test_bundle_adjustment_undoes_a_disturbance(exported):
    import pycolmap

    model = model_of(exported)
    rng = np.random.default_rng(1)
    for number in model.points3D:
        model.points3D[number].xyz += rng.normal(scale=0.05, size=3)
    model.update_point_3d_errors()
    before = model.compute_mean_reprojection_error()
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = options.refine_focal_length = options.refine_extra_params = False
    pycolmap.bundle_adjustment(model, options)
    model.update_point_3d_errors()
    assert before > 0.1
    assert model.compute_mean_reprojection_error() < 1e-3 * before


def test_maps_hold_depth_and_camera_normals_of_what_stands_still(exported):
    from PIL import Image

    for view in exported.trajectory():
        root, depth = exported.root / "export/colmap", render(view)[1]
        still = ~exported.motion(view.name).mask
        found = read_map(root / f"stereo/depth_maps/{view.name}.jpg.geometric.bin")
        np.testing.assert_allclose(found, np.where(still, 2 * depth, 0), rtol=1e-6)
        normals = read_map(root / f"stereo/normal_maps/{view.name}.jpg.geometric.bin")
        assert not normals[~still].any()
        length = np.linalg.norm(normals, axis=-1)
        assert (np.isclose(length, 1, atol=1e-5) | (length == 0)).all()
        towards = (normals * view.camera.rays()).sum(axis=-1)
        assert (towards[length > 0] < 0).all()  # they face the camera
        floor = view.cam_from_world.rotation @ [0, -1, 0]
        in_scene = view.cam_from_world.inverse() @ view.camera.unproject(depth).reshape(-1, 3)
        on_floor = (abs(in_scene[:, 1] - 1) < 1e-6).reshape(depth.shape) & (length > 0)
        np.testing.assert_allclose(np.median(normals[on_floor], axis=0), floor, atol=1e-3)
        with Image.open(root / f"masks/{view.name}.jpg.png") as mask:  # COLMAP: black is left out
            np.testing.assert_array_equal(np.array(mask), np.where(still, 255, 0))


def test_written_frames_are_all_there_is(tmp_path):
    workspace = fabricate(tmp_path / "scene", frames=5)
    run(workspace, ExportOptions(to=TO, frames="000003,000009", max_static_points=4))
    model, root = model_of(workspace), workspace.root / "export/colmap"
    assert sorted(image.name for image in model.images.values()) == ["000003.jpg", "000009.jpg"]
    assert [point.track.length() for point in model.points3D.values()] == [2] * 4
    for folder, count in (("images", 2), ("masks", 2), ("stereo/depth_maps", 2), ("stereo/normal_maps", 2)):
        assert len(list((root / folder).iterdir())) == count
    run(workspace, ExportOptions(to=TO, frames="000003"))
    assert len(model_of(workspace).points3D) == 0  # one view makes no track
    assert len(model_of(workspace).images) == 1


def test_without_a_model_points_are_made_from_depth(without_model, tmp_path):
    record = run(without_model, ExportOptions(to=TO, max_static_points=400))
    assert any("made from depth" in text for text in record.warnings)
    model = model_of(without_model)
    assert len(model.images) == 6
    assert 200 < len(model.points3D) <= 400
    assert min(point.track.length() for point in model.points3D.values()) >= 2
    assert model.compute_mean_reprojection_error() < 1e-4
    points = np.array([point.xyz for point in model.points3D.values()])
    by_pixel = {
        view.name: (render(view)[1], ~without_model.motion(view.name).mask) for view in without_model.trajectory()
    }
    checked = 0
    for image in model.images.values():
        view = without_model.trajectory()[image.name.removesuffix(".jpg")]
        depth, still = by_pixel[view.name]
        for seen in image.get_observation_points2D():
            column, row = (int(value) for value in seen.xy)
            z = (view.cam_from_world @ to_scene(model.points3D[seen.point3D_id].xyz[None]))[0, 2]
            assert still[row, column]
            assert abs(z - depth[row, column]) <= 0.0201 * depth[row, column]  # sigma is a hundredth
            checked += 1
    assert checked > 1000
    assert off_surface(points).max() < 0.6  # the ball of the frame in which it stands still is background, too
    assert np.quantile(off_surface(fused(without_model, tmp_path)), 0.99) < 1e-3


def test_points_that_are_not_wanted_are_left_out(tmp_path):
    workspace = fabricate(tmp_path / "scene", frames=4, ball_moves=True)
    record = run(workspace, ExportOptions(to=TO, layers=("moving",)))
    assert any("no points" in text for text in record.warnings)
    model = model_of(workspace)
    assert (len(model.images), len(model.points3D)) == (4, 0)
    depth = read_map(workspace.root / "export/colmap/stereo/depth_maps/000000.jpg.geometric.bin")
    assert not depth.any()
    record = run(workspace, ExportOptions(to=TO, provenance=(1,)))  # what is measured is not wanted
    assert any("not wanted" in text and "made from depth" in text for text in record.warnings)
    assert len(model_of(workspace).points3D) > 100


def test_frames_with_a_guessed_pose_have_no_image(without_model):
    trajectory = without_model.trajectory()
    origin = (PoseOrigin.MEASURED, PoseOrigin.INTERPOLATED, *trajectory.origin[2:])
    path = without_model.unit_dir("poses") / "cameras.json"
    before = path.read_bytes()
    write_trajectory(path, replace(trajectory, origin=origin))
    run(without_model, ExportOptions(to=TO, max_points=300))
    names = {image.name for image in model_of(without_model).images.values()}
    assert names == {f"{name}.jpg" for name in trajectory.names} - {"000003.jpg"}
    record = run(without_model, ExportOptions(to=TO, frames="000003"))
    assert any("none of the written frames" in text for text in record.warnings)
    path.write_bytes(before)


def test_map_bytes_by_hand(tmp_path):
    write_map(tmp_path / "depth.bin", np.array([[1, 2, 3], [4, 5, 6]]))
    data = (tmp_path / "depth.bin").read_bytes()
    assert data == b"3&2&1&" + np.array([1, 2, 3, 4, 5, 6], dtype="<f4").tobytes()
    normals = np.arange(18.0).reshape(2, 3, 3)
    write_map(tmp_path / "normals.bin", normals)
    data = (tmp_path / "normals.bin").read_bytes()
    assert data[:6] == b"3&2&3&"
    np.testing.assert_array_equal(read_map(tmp_path / "normals.bin"), normals)

"""The stage fuse on scenes with known contents: what moves stays out, exposure, what it tells and draws."""

import json
from dataclasses import replace

import numpy as np
import pytest
from fabricated import fabricate

from recon4d.errors import FuseError, OptionsError
from recon4d.formats.arrays import read_depth_mesh, write_depth_mesh, write_motion
from recon4d.formats.pictures import read_rgb, write_picture
from recon4d.scene.depth import SceneDepth
from recon4d.scene.motion import FrameMotion
from recon4d.stages import fuse
from recon4d.stages.fuse_static import (
    EDGE_OF_MOVERS,
    LEAST_VIEWS,
    MOST_VIEWS,
    Frames,
    Survey,
    choose_sizes,
    not_static,
    take_survey,
)
from recon4d.stages.working_pictures import rimmed
from recon4d.view.summary import summary_line
from recon4d.workspace import StageRecord, Workspace

OPTIONS = fuse.FuseOptions(voxel_size=0.06)
FRAMES = 6
LEAST_WALL = 300  # points


@pytest.fixture
def scene(tmp_path) -> Workspace:
    workspace = fabricate(tmp_path / "scene", frames=FRAMES)
    align = workspace.unit_dir("align")
    (align / "scale.json").write_text(json.dumps({"metres_per_unit": None}))
    (align / "world_up.json").write_text(json.dumps({"levelled_from_scene": None}))
    return workspace


def move(workspace: Workspace, mask: np.ndarray) -> None:
    """A motion unit in which object 1 covers ``mask`` in every frame."""
    part = workspace.start("motion", "motion")
    unknown = np.full((*mask.shape, 2), np.nan, dtype=np.float32)
    for name in workspace.trajectory().names:
        write_motion(part.path / f"{name}.npz", FrameMotion(mask, unknown, unknown, mask.astype(np.uint16)))
    workspace.publish(part, StageRecord("motion", 1, "key of this motion", {}, {}))


def seen_in(workspace: Workspace, name: str) -> np.ndarray:
    """(H, W) bool: pixels of a frame on which a point of the background falls."""
    view = workspace.trajectory()[name]
    in_cam = view.cam_from_world @ workspace.static_cloud().points.astype(float)
    u, v = np.floor(np.nan_to_num(view.camera.project(in_cam), nan=-1)).astype(int).T
    inside = (u >= 0) & (v >= 0) & (u < view.camera.width) & (v < view.camera.height)
    out = np.zeros(view.camera.shape, dtype=bool)
    out[v[inside], u[inside]] = True
    return out


def test_background_is_the_room(scene):
    record = fuse.run(scene, OPTIONS)
    points = scene.static_cloud().points.astype(float)
    on_ball = np.abs(np.linalg.norm(points - [0.3, 0.5, 3.0], axis=1) - 0.5)
    off = np.minimum.reduce([np.abs(points[:, 1] - 1.0), np.abs(points[:, 2] - 6.0), on_ball])
    assert np.quantile(off, 0.95) < 0.02
    assert record.summary["coverage"] > 0.8
    assert record.summary["in_front"] < 0.08  # beside silhouettes: a point is two of these large pixels wide
    assert (scene.static_cloud().object_id == 0).all()


def test_files_are_there_and_old_ones_are_not(scene):
    fuse.run(scene, OPTIONS)
    folder = scene.unit_dir("fuse")
    for file in ("static.ply", "static_mesh.ply", "scene.json", "fuse.png", "turntable.png"):
        assert (folder / file).exists()
    assert not (folder / "frames").exists()
    assert read_rgb(folder / "fuse.png").std() > 5


def test_what_moves_is_not_background(scene):
    mask = np.zeros((48, 64), dtype=bool)
    mask[:, 20:44] = True
    fuse.run(scene, OPTIONS)
    first = scene.trajectory().names[0]
    before = seen_in(scene, first)[:, 20:44].sum()
    move(scene, mask)
    fuse.run(scene, OPTIONS)
    # Other frames look from elsewhere: they see part of what is behind the mask of the first.
    assert "motion" in scene.record("fuse").inputs
    assert len(scene.static_cloud()) > 100
    assert seen_in(scene, first)[:, 20:44].sum() < 0.5 * before


def test_a_clip_where_everything_moves_has_no_background(scene):
    move(scene, np.ones((48, 64), dtype=bool))
    with pytest.raises(FuseError, match="cover it all"):
        fuse.run(scene, OPTIONS)


def test_exposure_is_taken_out_of_the_colours(scene):
    for k, name in enumerate(scene.trajectory().names):
        grey = np.full((48, 64, 3), 120 if k % 2 else 150, dtype=np.uint8)
        write_picture(scene.unit_dir("poses") / "images" / f"{name}.jpg", grey)
    record = fuse.run(scene, OPTIONS)
    assert record.summary["exposure_spread"] == pytest.approx(np.log(150 / 120), abs=0.01)
    cloud = scene.static_cloud()
    np.testing.assert_allclose(cloud.colors, np.sqrt(120 * 150), atol=2)
    fuse.run(scene, replace(OPTIONS, exposure=False))
    assert np.ptp(scene.static_cloud().colors.astype(int)) > 20


def test_same_bytes_from_run_to_run(scene):
    fuse.run(scene, OPTIONS)
    first = {file: (scene.unit_dir("fuse") / file).read_bytes() for file in ("static.ply", "static_mesh.ply")}
    (scene.unit_dir("fuse") / "stage.json").unlink()
    fuse.run(scene, OPTIONS)
    assert first == {file: (scene.unit_dir("fuse") / file).read_bytes() for file in first}


def test_unsure_depth_weighs_little(scene):
    for k, path in enumerate(sorted(scene.unit_dir("mesh").glob("*.npz"))):
        mesh = read_depth_mesh(path)
        surface = mesh.surface
        if k % 2:  # every other frame is 3 % off, and says so
            wrong = SceneDepth(1.03 * surface.depth, surface.valid, 10 * surface.sigma, surface.provenance)
            write_depth_mesh(path, replace(mesh, surface=wrong))
    fuse.run(scene, OPTIONS)
    points = scene.static_cloud().points.astype(float)
    wall = points[points[:, 2] > 5.5]
    assert abs(np.median(wall[:, 2]) - 6.0) < 0.02


@pytest.mark.parametrize("sigma", [0.04, 0.08])
def test_a_wall_of_unsure_depth_that_all_frames_see_is_background(scene, sigma):
    """Far depth is less sure than near depth everywhere: that is no reason to leave out what is far."""
    for view in scene.trajectory():
        path = scene.unit_dir("mesh") / f"{view.name}.npz"
        mesh = read_depth_mesh(path)
        surface = mesh.surface
        in_cam = view.camera.unproject(surface.depth.astype(float))
        far = (view.cam_from_world.inverse() @ in_cam.reshape(-1, 3))[:, 2].reshape(48, 64) > 5.9
        valid = surface.valid & ~(far & (np.arange(48)[:, None] < 20))  # so that most of what is seen is near
        relative = np.where(far, sigma, 0.01)
        told = SceneDepth(np.where(valid, surface.depth, 0), valid, relative * surface.depth, surface.provenance)
        right, down = (
            join & valid & np.roll(valid, -1, axis) for axis, join in ((1, mesh.join_right), (0, mesh.join_down))
        )
        write_depth_mesh(path, replace(mesh, surface=told, join_right=right, join_down=down))
    assert take_survey(scene, scene.trajectory()).sigma < 0.06
    fuse.run(scene, OPTIONS)
    points = scene.static_cloud().points.astype(float)
    assert (np.abs(points[:, 2] - 6.0) < 0.05).sum() > LEAST_WALL


def test_hopelessly_unsure_depth_is_no_view_of_a_surface(scene):
    name = scene.trajectory().names[0]
    path = scene.unit_dir("mesh") / f"{name}.npz"
    mesh = read_depth_mesh(path)
    surface = mesh.surface
    sigma = np.full((48, 64), 0.01)  # relative; 10 times as much still counts
    sigma[10:, :10], sigma[10:, 10:20] = 0.095, 0.105
    told = replace(surface, sigma=sigma * surface.depth)
    write_depth_mesh(path, replace(mesh, surface=told))
    survey = take_survey(scene, scene.trajectory())
    assert survey.relative_sigma == pytest.approx(0.01, rel=1e-3)
    counts = Frames(scene, scene.trajectory(), survey, {}).sighting(name).counts
    assert counts[10:, :10].all()
    assert not counts[10:, 10:20].any()
    assert counts[:, 20:].all()


def test_the_rim_of_what_moves_grows_with_the_picture(scene):
    for width, rim in ((64, 1), (640, 3), (1920, 9)):
        mask = np.zeros((48, width), dtype=bool)
        mask[20:30, 30:40] = True
        grown = rimmed(mask, EDGE_OF_MOVERS)
        assert grown[20 - rim : 30 + rim, 30 - rim : 40 + rim].all()
        assert grown.sum() == (10 + 2 * rim) ** 2
    name = scene.trajectory().names[0]
    move(scene, np.pad(np.ones((10, 10), dtype=bool), ((19, 19), (27, 27))))
    assert not_static(scene, name, (48, 64)).sum() == 12 * 12


class Stopped(Exception):
    """What a test stops a stage with."""


def test_a_run_that_was_stopped_goes_on_from_its_background(scene, monkeypatch):
    whole = fuse.run(scene, OPTIONS)
    files = ("static.ply", "static_mesh.ply", "scene.json", "fuse.png")
    before = {file: (scene.unit_dir("fuse") / file).read_bytes() for file in files}
    (scene.unit_dir("fuse") / "stage.json").unlink()

    def stop(*_):
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr("recon4d.stages.fuse_moving.write_moving", stop)
        with pytest.raises(Stopped):
            fuse.run(scene, OPTIONS)
    monkeypatch.setattr("recon4d.stages.fuse_static.make_background", stop)
    record = fuse.run(scene, OPTIONS)
    assert record.summary == whole.summary
    assert before == {file: (scene.unit_dir("fuse") / file).read_bytes() for file in files}
    assert not (scene.unit_dir("fuse") / fuse.BACKGROUND_TOLD).exists()


def test_a_record_of_an_earlier_version_can_still_be_told():
    told = {"frames": 4, "static_points": 10, "static_triangles": 3, "voxel_size": 0.1, "confirmed_share": 0.5}
    assert summary_line(StageRecord("fuse", 1, "k", {}, {}, told)).startswith("fuse: background of 10 points")
    assert summary_line(StageRecord("fuse", 1, "k", {}, {}, {"frames": 4})).startswith("fuse: ")


def test_this_version_tells_what_became_of_the_frames(scene):
    line = summary_line(fuse.run(scene, OPTIONS))
    assert "% of what stands still is where it is" in line
    assert "seldom seen" in line
    assert "0 moving objects with 0 points" in line


def test_no_depth_of_its_own_is_said(scene):
    for path in scene.unit_dir("mesh").glob("*.npz"):
        mesh = read_depth_mesh(path)
        told = replace(mesh.surface, provenance=np.full(mesh.surface.depth.shape, 3))
        write_depth_mesh(path, replace(mesh, surface=told))
    with pytest.raises(FuseError, match="no frame has depth of its own"):
        fuse.run(scene, OPTIONS)


def test_nothing_left_says_why(scene):
    for k, path in enumerate(sorted(scene.unit_dir("mesh").glob("*.npz"))):
        mesh = read_depth_mesh(path)
        surface = mesh.surface
        apart = SceneDepth(1.5**k * surface.depth, surface.valid, surface.sigma, surface.provenance)
        write_depth_mesh(path, replace(mesh, surface=apart))
    with pytest.raises(FuseError, match=r"seen by fewer than 6 frames.*--fuse.min-views"):
        fuse.run(scene, replace(OPTIONS, min_views=100))  # never more than there are


def test_sizes_follow_pixels_sigma_and_length(scene):
    trajectory = scene.trajectory()
    pixel = 3.0 / trajectory.cameras[0].fx
    sure = choose_sizes(fuse.FuseOptions(), trajectory, Survey(trajectory.names, 3.0, 0.01, 0.003))
    assert sure.voxel == pytest.approx(2 * pixel)
    assert sure.band == pytest.approx(3 * sure.voxel)
    unsure = choose_sizes(fuse.FuseOptions(), trajectory, Survey(trajectory.names, 3.0, 0.6, 0.2))
    assert (unsure.voxel, unsure.band, unsure.reach) == pytest.approx((0.2, 1.2, 0.6))
    assert sure.min_views == LEAST_VIEWS
    long = choose_sizes(fuse.FuseOptions(), trajectory, Survey(trajectory.names * 100, 3.0, 0.01, 0.003))
    assert long.min_views == MOST_VIEWS


def test_pixels_are_as_large_as_in_the_frames_that_are_evidence(scene):
    trajectory = scene.trajectory()
    first, cameras = trajectory.cameras[0], list(trajectory.cameras)
    cameras[0] = replace(first, fx=first.fx / 10)  # one odd camera among them
    sizes = choose_sizes(
        fuse.FuseOptions(), replace(trajectory, cameras=tuple(cameras)), Survey(trajectory.names, 3.0, 0.01, 0.003)
    )
    assert sizes.voxel == pytest.approx(2 * 3.0 / first.fx)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"voxel_size": 0.0}, "--fuse.voxel-size is 0, more than 0 is expected"),
        ({"min_views": 0}, "--fuse.min-views is 0, at least 1 is expected"),
        ({"min_agreement": 1.5}, "--fuse.min-agreement is 1.5"),
    ],
)
def test_impossible_options_are_refused(scene, options, words):
    with pytest.raises(OptionsError, match=words):
        fuse.run(scene, fuse.FuseOptions(**options))


def test_voxels_that_do_not_fit_into_memory_are_refused_in_a_sentence(scene, monkeypatch):
    monkeypatch.setattr("recon4d.stages.working_pictures.machine_memory", lambda: 40 << 20)
    with pytest.raises(FuseError, match=r"voxels of 0.004 units needs more than half .* --fuse.voxel-size"):
        fuse.run(scene, fuse.FuseOptions(voxel_size=0.004))
    assert scene.record("fuse").version == 1  # the one that was there

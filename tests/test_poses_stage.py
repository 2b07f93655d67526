"""The poses stage on real structure from motion of small pictures made here."""

import json
from dataclasses import replace

import numpy as np
import pycolmap
import pytest
from poses_scenes import turn, two_planes, walk, workspace_with

from recon4d.errors import OptionsError, PosesError
from recon4d.formats.colmap_model import read_reconstruction
from recon4d.formats.pictures import read_grey, read_rgb
from recon4d.formats.trajectories import read_tum, write_kitti
from recon4d.geometry.similarity import fit_similarity
from recon4d.poses.lens import Lens, read_lenses
from recon4d.scene.trajectory import PoseOrigin
from recon4d.scene.transforms import Rigid3
from recon4d.stages import poses_sfm
from recon4d.stages.poses import PosesOptions, run
from recon4d.workspace import Workspace

BARREL = Lens("SIMPLE_RADIAL", 320, 240, (300.0, 160.0, 120.0, -0.12))
PINHOLE = Lens("PINHOLE", 320, 240, (300.0, 300.0, 160.0, 120.0))
VIEWS = 8
QUICK = PosesOptions(max_features=500)  # plenty for these textures, and the tests stay fast


@pytest.fixture(scope="module")
def barrel_walk(tmp_path_factory) -> Workspace:
    """A walk seen through a barrel lens, solved; the left edge of every picture is masked."""
    mask = np.zeros((240, 320), np.uint8)
    mask[:, :40] = 255
    pictures = [two_planes(BARREL, pose) for pose in iterate(walk(VIEWS))]
    workspace = workspace_with(tmp_path_factory.mktemp("barrel") / "scene", pictures, masks=[mask] * VIEWS)
    run(workspace, QUICK)
    return workspace


def iterate(poses: Rigid3) -> list[Rigid3]:
    return [poses[i] for i in range(len(poses))]


def test_walk_is_recovered_up_to_a_similarity(barrel_walk):
    summary, trajectory = barrel_walk.record("poses").summary, barrel_walk.trajectory()
    assert (summary["registered"], summary["frames"], summary["interpolated"]) == (VIEWS, VIEWS, 0)
    assert set(trajectory.origin) == {PoseOrigin.MEASURED}
    truth = walk(VIEWS).inverse().translation
    similarity = fit_similarity(trajectory.centres, truth)
    assert np.linalg.norm(similarity @ trajectory.centres - truth, axis=1).max() < 0.03  # of a walk of 1.6
    # The lens found is the lens used, as far as a plain scene tells.
    lens = read_lenses(barrel_walk.unit_dir("poses") / "lenses.json")["000000"]
    assert lens.model == "SIMPLE_RADIAL"
    assert lens.params[0] == pytest.approx(300, rel=0.04)
    assert lens.params[3] == pytest.approx(-0.12, abs=0.04)


def test_undistorted_picture_is_what_the_pinhole_camera_would_see(tmp_path):
    pose = walk(VIEWS)[2]
    distorted, mask = two_planes(BARREL, pose), np.zeros((240, 320), np.uint8)
    mask[:120, :160] = 255
    workspace = workspace_with(tmp_path / "scene", [distorted], masks=[mask])
    options = PosesOptions(source="static", camera="300,300,160,120,-0.12", camera_model="simple_radial")
    run(workspace, options)
    camera = workspace.trajectory().cameras[0]
    pinhole = Lens("PINHOLE", camera.width, camera.height, (camera.fx, camera.fy, camera.cx, camera.cy))
    expected = two_planes(pinhole, pose).astype(float)
    error = np.abs(workspace.picture("000000") - expected).mean()
    shifted = np.abs(workspace.picture("000000")[1:, 1:] - expected[:-1, :-1]).mean()
    assert error < 6  # noise of resampling twice; a shift by one pixel is far worse
    assert shifted > 15
    # The lens has no skew, so the quarter of the mask stays a quarter.
    undistorted_mask = read_grey(workspace.unit_dir("poses") / "masks" / "000000.png")
    np.testing.assert_array_equal(undistorted_mask, mask)


def test_sparse_model_agrees_with_pictures_cameras_and_masks(barrel_walk):
    folder, trajectory = barrel_walk.unit_dir("poses"), barrel_walk.trajectory()
    model = read_reconstruction(folder / "sparse")
    assert {image.name for image in model.images.values()} == {path.name for path in (folder / "images").iterdir()}
    assert {camera.model_name for camera in model.cameras.values()} == {"PINHOLE"}
    sparse = barrel_walk.sparse_model()
    assert len(sparse) > 200
    for name in trajectory.names:
        view = trajectory[name]
        distance = sparse.pixels[name] - view.camera.project(view.cam_from_world @ sparse.points[sparse.rows[name]])
        assert np.sqrt(np.mean(distance**2)) < 1.0
        mask = read_grey(folder / "masks" / f"{name}.png")
        assert set(np.unique(mask)) == {0, 255}
        u, v = sparse.pixels[name].astype(int).T
        assert np.mean(mask[v.clip(0, 239), u.clip(0, 319)] == 255) < 0.01  # features below the mask were not used
    times, world_from_cam = read_tum(folder / "trajectory.tum")
    np.testing.assert_allclose(times, trajectory.timestamps_s)
    np.testing.assert_allclose(world_from_cam.inverse().matrix, trajectory.cam_from_world.matrix, atol=1e-9)


def test_same_frames_give_the_same_poses_bit_for_bit(barrel_walk, tmp_path):
    pictures = [read_rgb(path) for path in barrel_walk.recording().pictures]
    masks = [read_grey(path) for path in barrel_walk.recording().masks]
    again = workspace_with(tmp_path / "scene", pictures, masks=masks)
    run(again, replace(QUICK, threads=1))  # the number of threads must not change anything
    for file in ("cameras.json", "sparse/points3D.bin", "sparse/images.bin"):
        assert (again.unit_dir("poses") / file).read_bytes() == (barrel_walk.unit_dir("poses") / file).read_bytes()


# Names with and without white space meet in one folder, and the order of time is not that of the names.
STRANGE = ["Bild 2 ü", "Bild 1 ü", "000000", "a\u2003b", "写真 4", "x  y", " led", "#5 %d"]


def test_names_with_spaces_and_umlauts_register_as_plain_ones(barrel_walk, tmp_path):
    pictures = [read_rgb(path) for path in barrel_walk.recording().pictures]
    masks = [read_grey(path) for path in barrel_walk.recording().masks]
    strange = workspace_with(tmp_path / "scene", pictures, masks=masks, names=STRANGE)
    assert run(strange, QUICK).summary["registered"] == VIEWS
    folder, plain = strange.unit_dir("poses"), barrel_walk.unit_dir("poses")
    assert (folder / "sparse/points3D.bin").read_bytes() == (plain / "sparse/points3D.bin").read_bytes()
    np.testing.assert_array_equal(
        strange.trajectory().cam_from_world.matrix, barrel_walk.trajectory().cam_from_world.matrix
    )
    assert strange.trajectory().names == tuple(STRANGE)
    assert {path.stem for path in (folder / "masks").iterdir()} == set(STRANGE)
    names = {image.name for image in read_reconstruction(folder / "sparse").images.values()}
    assert names == {f"{name}.png" for name in STRANGE} == {path.name for path in (folder / "images").iterdir()}
    as_plain = dict(zip(STRANGE, barrel_walk.recording().names))
    for name, pixels in strange.sparse_model().pixels.items():
        np.testing.assert_array_equal(pixels, barrel_walk.sparse_model().pixels[as_plain[name]])


@pytest.fixture(scope="module")
def pinhole_pictures() -> list[np.ndarray]:
    return [two_planes(PINHOLE, pose) for pose in iterate(walk(VIEWS))]


def test_given_lens_stays_and_pictures_are_links(pinhole_pictures, tmp_path):
    workspace = workspace_with(tmp_path / "scene", pinhole_pictures)
    for mapper in ("incremental", "global"):
        run(workspace, replace(QUICK, camera="300,300,160,120", mapper=mapper))
        camera = workspace.trajectory().cameras[0]
        assert (camera.fx, camera.fy, camera.cx, camera.cy) == (300, 300, 160, 120)
        assert workspace.record("poses").summary["mapper"] == mapper
        assert workspace.record("poses").summary["registered"] == VIEWS
    link, frame = workspace.picture_path("000003"), workspace.unit_dir("frames") / "000003.png"
    assert link.samefile(frame)


def test_killed_while_mapping_goes_on_with_the_features(pinhole_pictures, tmp_path, monkeypatch):
    workspace = workspace_with(tmp_path / "scene", pinhole_pictures)
    options = replace(QUICK, camera="300,300,160,120")
    steps = []

    def counted(step, *args):
        steps.append(step)
        return APART(step, *args)

    def killed(step, *args):
        if step == "model":
            raise KeyboardInterrupt
        return counted(step, *args)

    with monkeypatch.context() as during:
        during.setattr(poses_sfm, "apart", killed)
        with pytest.raises(KeyboardInterrupt):
            run(workspace, options)
    assert workspace.record("poses") is None
    workspace = Workspace(workspace.root)
    monkeypatch.setattr(poses_sfm, "apart", counted)
    assert run(workspace, options).summary["registered"] == VIEWS
    assert steps == ["features", "matches", "model"]
    assert not (workspace.unit_dir("poses") / "sfm").exists()


APART = poses_sfm.apart


def test_killed_while_extracting_starts_that_step_cleanly(pinhole_pictures, tmp_path, monkeypatch):
    workspace = workspace_with(tmp_path / "scene", pinhole_pictures)
    options = replace(QUICK, camera="300,300,160,120")

    def half(step, folder, *args):
        (folder / "database.db").write_bytes(b"half a database")
        raise KeyboardInterrupt

    with monkeypatch.context() as during:
        during.setattr(poses_sfm, "apart", half)
        with pytest.raises(KeyboardInterrupt):
            run(workspace, options)
    assert run(Workspace(workspace.root), options).summary["registered"] == VIEWS


# -- refusals ----------------------------------------------------------------------------------------------------------


def refusal(tmp_path, pictures, **options) -> str:
    workspace = workspace_with(tmp_path / "scene", pictures)
    with pytest.raises(PosesError) as caught:
        run(workspace, replace(QUICK, **options))
    assert workspace.record("poses") is None
    return str(caught.value)


def test_static_camera_is_refused_with_the_shift(tmp_path):
    rng = np.random.default_rng(0)
    still = two_planes(PINHOLE, walk(1)[0]).astype(int)
    noisy = [np.clip(still + rng.normal(0, 3, still.shape), 0, 255).astype(np.uint8) for _ in range(6)]
    text = refusal(tmp_path, noisy)
    assert "camera does not move" in text
    assert "0.0" in text.split("shift by ")[1][:4]
    assert "--poses.source static" in text
    assert "none" in text


@pytest.mark.parametrize("camera", [None, "300,300,160,120"])
def test_turning_camera_is_refused_as_a_turn(tmp_path, camera):
    text = refusal(tmp_path, [two_planes(PINHOLE, pose) for pose in iterate(turn(10, 24))], camera=camera)
    assert "only turns" in text
    assert "--poses.source static" in text


def test_blank_frames_are_refused_with_their_features(tmp_path):
    text = refusal(tmp_path, [np.full((240, 320, 3), 20, np.uint8)] * 4)
    assert "0 of 4 frames have 32 features" in text
    assert "--poses.source none" in text


def test_one_frame_is_refused(tmp_path):
    assert "only one frame" in refusal(tmp_path, [two_planes(PINHOLE, walk(1)[0])])


def test_too_few_registered_frames_are_refused_with_the_count(pinhole_pictures, tmp_path):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (240, 320, 3), dtype=np.uint8) for _ in range(7)]
    text = refusal(tmp_path, [*pinhole_pictures[1:5], *noise], min_registered=0.5)
    assert "4 of 11 frames (36%) could be registered, 50% are needed" in text


def test_moderate_parallax_is_not_refused(tmp_path):
    pictures = [two_planes(PINHOLE, pose) for pose in iterate(walk(10, length=0.35))]
    record = run(workspace_with(tmp_path / "scene", pictures), QUICK)
    assert record.summary["registered"] == 10
    assert record.summary["median_angle_deg"] < 6


def test_options_that_contradict_each_other(tmp_path, pinhole_pictures):
    workspace = workspace_with(tmp_path / "scene", pinhole_pictures[:1])
    with pytest.raises(OptionsError, match="needs --poses"):
        run(workspace, PosesOptions(source="import"))
    with pytest.raises(OptionsError, match="only read with"):
        run(workspace, PosesOptions(path=tmp_path))
    with pytest.raises(OptionsError, match="min-registered is 3"):
        run(workspace, PosesOptions(min_registered=3))


# -- other sources -----------------------------------------------------------------------------------------------------


def test_kitti_import_triangulates_with_the_poses_fixed(pinhole_pictures, tmp_path):
    write_kitti(tmp_path / "poses.txt", walk(VIEWS).inverse())
    workspace = workspace_with(tmp_path / "scene", pinhole_pictures, names=STRANGE)
    options = replace(QUICK, source="import", path=tmp_path / "poses.txt", camera="300,300,160,120")
    record = run(workspace, options)
    trajectory, sparse = workspace.trajectory(), workspace.sparse_model()
    np.testing.assert_allclose(trajectory.cam_from_world.matrix, walk(VIEWS).matrix, atol=1e-9)
    assert set(trajectory.origin) == {PoseOrigin.IMPORTED}
    assert record.summary["points"] == len(sparse) > 200
    from_planes = np.minimum(np.abs(sparse.points[:, 2] - 6.0), np.abs(sparse.points[:, 2] - 3.5))
    assert np.median(from_planes) < 0.03  # the world is the import's: points lie on the two planes


def test_own_model_comes_back_with_its_points(barrel_walk, tmp_path):
    """A model of the undistorted pictures, imported onto these pictures at half size."""
    trajectory = barrel_walk.trajectory()
    small = [barrel_walk.picture(name)[::2, ::2] for name in trajectory.names]
    workspace = workspace_with(tmp_path / "scene", small)
    run(workspace, PosesOptions(source="import", path=barrel_walk.unit_dir("poses") / "sparse"))
    found, expected = workspace.sparse_model(), barrel_walk.sparse_model()
    assert len(found) == len(expected)
    name = trajectory.names[4]
    np.testing.assert_allclose(np.sort(found.pixels[name], 0), np.sort(expected.pixels[name], 0) / 2, atol=1e-6)
    assert workspace.trajectory()[name].camera.fx == pytest.approx(trajectory[name].camera.fx / 2)
    np.testing.assert_allclose(workspace.trajectory().centres, trajectory.centres, atol=1e-9)


def test_frames_missing_in_the_import_are_interpolated_or_dropped(pinhole_pictures, tmp_path):
    world_from_cam = walk(VIEWS).inverse()
    rows = [i for i in range(1, VIEWS) if i != 6]  # the first is missing too: nothing is extrapolated
    names = np.array([f"{3 * i:06d}" for i in rows])
    np.savez(tmp_path / "p.npz", poses=world_from_cam.matrix[rows], intrinsics=intrinsics(), names=names)
    workspace = workspace_with(tmp_path / "scene", pinhole_pictures)
    options = replace(QUICK, source="import", path=tmp_path / "p.npz")
    record = run(workspace, options)
    trajectory = workspace.trajectory()
    assert (record.summary["interpolated"], record.summary["dropped"]) == (1, 1)
    assert trajectory.names[0] == "000003"
    assert trajectory["000018"].origin is PoseOrigin.INTERPOLATED
    assert "000018" not in workspace.sparse_model().pixels  # it is never evidence
    middle = world_from_cam.translation[[5, 7]].mean(axis=0)
    np.testing.assert_allclose(trajectory.centres[trajectory.names.index("000018")], middle, atol=1e-9)
    assert workspace.picture_path("000018").exists()
    assert any("left out" in text for text in record.warnings)


def intrinsics() -> np.ndarray:
    """Of `PINHOLE`, as arrays have it: the first pixel centre is (0, 0)."""
    return np.array([[300.0, 0, 159.5], [0, 300, 119.5], [0, 0, 1]])


def test_an_import_without_a_lens_says_what_to_give(pinhole_pictures, tmp_path):
    write_kitti(tmp_path / "poses.txt", walk(VIEWS).inverse())
    workspace = workspace_with(tmp_path / "scene", pinhole_pictures)
    with pytest.raises(PosesError, match=r"holds no lens: give --poses.camera .*320x240"):
        run(workspace, PosesOptions(source="import", path=tmp_path / "poses.txt"))


@pytest.mark.parametrize("source", ["static", "none"])
def test_static_and_none_pass_pictures_through(pinhole_pictures, tmp_path, source):
    workspace = workspace_with(tmp_path / "scene", pinhole_pictures[:3])
    record = run(workspace, PosesOptions(source=source))
    trajectory = workspace.trajectory()
    assert set(trajectory.origin) == {PoseOrigin.STATIC}
    np.testing.assert_array_equal(trajectory.cam_from_world.matrix, np.broadcast_to(np.eye(4), (3, 4, 4)))
    assert trajectory.cameras[0].fx == pytest.approx(1.2 * 320)
    assert any("focal length is a guess" in text for text in record.warnings)
    assert workspace.picture_path("000006").samefile(workspace.unit_dir("frames") / "000006.png")
    assert (record.summary["source"], len(workspace.sparse_model())) == (source, 0)
    assert len(pycolmap.Reconstruction(str(workspace.unit_dir("poses") / "sparse")).images) == 3


def test_prior_focal_length_is_used_when_nothing_can_be_measured(pinhole_pictures, tmp_path):
    workspace = workspace_with(tmp_path / "scene", pinhole_pictures[:1], focal_px=280.0)
    record = run(workspace, PosesOptions(source="static"))
    assert workspace.trajectory().cameras[0].fx == 280
    assert record.warnings == []


# -- real recordings ---------------------------------------------------------------------------------------------------


@pytest.mark.shared
def test_kitchen_is_registered_and_follows_its_reference(shared_data, tmp_path):
    folder = shared_data / "data/rgbd_static"
    files = sorted((folder / "color").glob("*.jpg"))[:40:2]
    workspace = workspace_with(tmp_path / "scene", [read_rgb(file) for file in files])
    record = run(workspace, PosesOptions(max_features=2000))
    assert record.summary["registered"] >= 19
    assert record.summary["focal_px"] == pytest.approx(527, rel=0.06)
    times, world_from_cam = read_tum(folder / "poses_color_tum.txt")
    frame = {round(30 * time): row for row, time in enumerate(times)}
    rows = [frame[int(files[int(name) // 3].stem)] for name in workspace.trajectory().names]
    truth = world_from_cam.translation[rows]
    similarity = fit_similarity(workspace.trajectory().centres, truth)
    error = np.linalg.norm(similarity @ workspace.trajectory().centres - truth, axis=1)
    assert np.sqrt(np.mean(error**2)) < 0.05


@pytest.mark.shared
def test_fox_transforms_import_by_name_and_say_what_is_absent(shared_data, tmp_path):
    folder = shared_data / "data/static_sfm/fox"
    files = sorted((folder / "images").glob("*.jpg"))[:8]
    pictures = [np.ascontiguousarray(read_rgb(file)[::3, ::3]) for file in files]
    workspace = workspace_with(tmp_path / "s", pictures, kind="pictures", source_names=[file.name for file in files])
    record = run(workspace, PosesOptions(source="import", path=folder / "transforms.json"))
    assert record.summary["registered"] == 8
    assert record.summary["points"] > 300
    assert record.summary["reprojection_error_px"] < 1
    assert any("59 of 67" in text for text in record.warnings)
    lens = json.loads((workspace.unit_dir("poses") / "lenses.json").read_text())["lenses"][0]
    assert lens["params"][0] == pytest.approx(1375.52 / 3)

"""The stage refine: what it gains and keeps, resume, threads, clips that cannot be refined, what it writes."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from true_scene import TRUTH_FROM_SCENE, Made, nothing_moves, posed_scene

from recon4d.errors import OptionsError
from recon4d.formats.arrays import read_arrays
from recon4d.formats.pictures import read_rgb, write_picture
from recon4d.scene.depth import DepthKind
from recon4d.scene.trajectory import PoseOrigin
from recon4d.scene.transforms import Rigid3
from recon4d.stages import mesh, refine, refine_walks
from recon4d.stages.anchors import read_measured, write_measured
from recon4d.stages.refine import RefineOptions
from recon4d.workspace import RECORD, Workspace

SIZE, COUNT = (128, 96), 14


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    return Made(tmp_path_factory.mktemp("refine"), SIZE, COUNT)


def bent(frame):
    """True depth with a slow wave of 6 % over the picture, as video depth bends."""
    height, width = frame.depth.shape
    x, y = np.arange(width) / width, np.arange(height)[:, None] / height
    wave = 0.06 * np.sin(2 * np.pi * (x + 0.5 * y) + 0.3 * int(frame.name))
    return frame.depth * np.exp(wave), np.ones(frame.depth.shape, dtype=bool)


def scene(made: Made, root, depth=bent, **options) -> Workspace:
    """Of which nobody has found what moves in it."""
    workspace = posed_scene(made, root, depth=depth, **options)
    made.publish_motion(workspace, nothing_moves)
    mesh.run(workspace, mesh.MeshOptions())
    return workspace


@pytest.fixture(scope="module")
def refined(made, tmp_path_factory) -> Workspace:
    workspace = scene(made, tmp_path_factory.mktemp("refined") / "scene")
    refine.run(workspace, RefineOptions())
    return workspace


def errors(made: Made, workspace: Workspace, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """Relative errors of the static and of the moving pixels of the clip."""
    static, moving = [], []
    for frame in made.frames:
        error = np.abs(workspace.scene_depth(frame.name, unit).depth * TRUTH_FROM_SCENE.scale / frame.depth - 1)
        static.append(error[frame.object_id == 0])
        moving.append(error[frame.object_id > 0])
    return np.concatenate(static), np.concatenate(moving)


def files_of(workspace: Workspace) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(workspace.unit_dir("refine").glob("*.*"))}


# -- what it gains -------------------------------------------------------------------------------------------------


def test_bent_depth_is_straightened(made, refined):
    before, after = (errors(made, refined, unit)[0] for unit in ("mesh", "refine"))
    assert np.mean(after) < 0.7 * np.mean(before)
    assert np.median(after) < 0.6 * np.median(before)


def test_what_moves_is_no_worse_than_its_prior(made, refined):
    before, after = (errors(made, refined, unit)[1] for unit in ("mesh", "refine"))
    assert np.mean(after) < 1.02 * np.mean(before)


def test_what_moves_is_no_surer_than_its_prior(made, refined):
    for frame in made.frames[2:-2]:
        surface, prior = (refined.scene_depth(frame.name, unit) for unit in ("refine", "mesh"))
        still = np.abs(np.log(surface.depth / prior.depth)) < 1e-6
        assert (surface.sigma[still] >= 0.99 * prior.sigma[still]).all()


def test_true_depth_stays(made, tmp_path):
    workspace = scene(made, tmp_path / "scene", depth=None)
    refine.run(workspace, RefineOptions())
    static, _ = errors(made, workspace, "refine")
    assert np.median(static) < 0.001
    assert np.mean(static) < 0.003


def test_the_record_tells_what_was_gained(refined):
    record = refined.record("refine")
    summary = record.summary
    assert summary["frames"] == summary["refined"] == COUNT
    assert summary["size"] == "128x96"
    before, after = summary["energy_before"], summary["energy_after"]
    assert list(before) == ["photometric", "depth", "opinions", "shape", "level"]
    assert after["photometric"] < before["photometric"]
    assert summary["energy_left"] == pytest.approx(sum(after.values()) / sum(before.values()))
    assert summary["alike"]["after"] > summary["alike"]["before"]
    rows = (refined.unit_dir("refine") / "energies.csv").read_text().splitlines()
    assert len(rows) == 1 + COUNT
    assert sum(float(row.split(",")[1]) for row in rows[1:]) == pytest.approx(before["photometric"], rel=1e-4)
    page = read_rgb(refined.unit_dir("refine") / "refine.png")
    assert page.shape[1] > 1000
    assert page.std() > 20


def test_walks_are_gone_and_cameras_are_those_of_poses(refined):
    folder = refined.unit_dir("refine")
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["curves"]
    poses, own = refined.unrefined_trajectory(), refined.trajectory()
    np.testing.assert_array_equal(own.cam_from_world.matrix, poses.cam_from_world.matrix)
    assert (folder / "trajectory.tum").is_file()


def test_later_stages_read_the_refined_surface(refined):
    assert refined.surface_unit() == "refine"
    name = refined.trajectory().names[0]
    after, before = refined.depth_mesh(name), refined.depth_mesh(name, "mesh")
    assert not np.array_equal(after.surface.depth, before.surface.depth)
    assert not after.join_right[:, -1].any()
    assert (after.surface.sigma[after.surface.valid] > 0).all()


# -- what it keeps -------------------------------------------------------------------------------------------------


def test_what_has_no_depth_gets_none(made, tmp_path):
    def holes(frame):
        depth, valid = bent(frame)
        valid[20:40, 30:60] = False
        return depth, valid

    workspace = scene(made, tmp_path / "scene", depth=holes)
    refine.run(workspace, RefineOptions())
    surface = workspace.scene_depth(made.frames[0].name, "refine")
    assert not surface.valid[20:40, 30:60].any()
    assert surface.valid[60:].all()


def test_a_tripod_changes_nothing_and_says_so(made, tmp_path):
    still = replace(made.trajectory, origin=(PoseOrigin.STATIC,) * COUNT)
    workspace = scene(made, tmp_path / "scene", trajectory=still)
    record = refine.run(workspace, RefineOptions())
    assert record.summary["refined"] == 0
    assert "tripod" in record.warnings[0]
    for name in still.names:
        before, after = (read_arrays(workspace.unit_dir(unit) / f"{name}.npz") for unit in ("mesh", "refine"))
        assert before.keys() == after.keys()
        assert all(np.array_equal(before[key], after[key]) for key in before)


def test_a_camera_that_only_turns_changes_nothing_and_says_so(made, tmp_path):
    turning = made.trajectory.cam_from_world
    turning = Rigid3(turning.rotation, np.zeros_like(turning.translation))
    workspace = scene(made, tmp_path / "scene", trajectory=replace(made.trajectory, cam_from_world=turning))
    record = refine.run(workspace, RefineOptions())
    assert record.summary["refined"] == 0
    assert "far enough away" in record.warnings[0]


def test_wrong_poses_lower_confidence_instead_of_warping(made, tmp_path):
    rng = np.random.default_rng(0)
    poses = made.trajectory.cam_from_world
    centres = poses.inverse().translation
    wrong = rng.permutation(len(centres))  # every camera at another one's place
    shuffled = Rigid3(poses.rotation, -np.einsum("nij,nj->ni", poses.rotation, centres[wrong]))
    workspace = scene(made, tmp_path / "scene", trajectory=replace(made.trajectory, cam_from_world=shuffled))
    record = refine.run(workspace, RefineOptions())
    before, after = (errors(made, workspace, unit)[0] for unit in ("mesh", "refine"))
    assert np.mean(after) < 1.1 * np.mean(before)
    assert record.summary["sigma_median"] > 3 * 0.01  # the prior said 1 %


def test_pixels_under_a_mask_do_not_take_part(made, tmp_path):
    workspace = scene(made, tmp_path / "scene")
    folder = workspace.unit_dir("poses") / "masks"
    folder.mkdir()
    mask = np.zeros(SIZE[::-1], dtype=np.uint8)
    mask[:, 80:] = 255
    for name in made.trajectory.names:
        write_picture(folder / f"{name}.png", mask)
    refine.run(workspace, RefineOptions())
    free = scene(made, tmp_path / "free")
    refine.run(free, RefineOptions())
    name = made.frames[3].name
    before, masked, other = (
        w.scene_depth(name, unit).depth for w, unit in ((workspace, "mesh"), (workspace, "refine"), (free, "refine"))
    )
    moved = np.abs(np.log(masked / before))
    assert np.median(moved[:, 88:]) < 0.25 * np.median(np.abs(np.log(other / before))[:, 88:])
    assert np.median(moved[:, :72]) > 0.005


# -- how it runs ---------------------------------------------------------------------------------------------------


def test_number_of_threads_changes_no_bit(made, refined, tmp_path):
    workspace = scene(made, tmp_path / "scene")
    refine.run(workspace, RefineOptions(workers=3))
    ours, theirs = files_of(workspace), files_of(refined)
    assert ours.keys() == theirs.keys()
    same = [name for name in ours if name != "stage.json" and not name.endswith(".png")]
    assert all(ours[name] == theirs[name] for name in same)


def test_a_stopped_run_goes_on_and_ends_with_the_same_bits(made, refined, tmp_path, monkeypatch):
    workspace, walk, asked = scene(made, tmp_path / "scene"), refine_walks.Walks.walk, []

    def stops(self, number, i):
        asked.append((number, i))
        if len(asked) == COUNT + 3:
            raise KeyboardInterrupt
        return walk(self, number, i)

    monkeypatch.setattr(refine_walks.Walks, "walk", stops)
    with pytest.raises(KeyboardInterrupt):
        refine.run(workspace, RefineOptions(workers=1))
    (part,) = (workspace.root / ".part").glob("refine-*")
    spoilt = sorted((part / "walk0").glob("*.npz"))[0]
    spoilt.write_bytes(b"spoilt")
    first, asked[:] = len(asked), []
    refine.run(workspace, RefineOptions(workers=1))
    assert first == COUNT + 3
    assert len([item for item in asked if item[0] == 0]) == 1  # only the one that was spoilt
    ours, theirs = files_of(workspace), files_of(refined)
    assert all(ours[f"{name}.npz"] == theirs[f"{name}.npz"] for name in made.trajectory.names)


def test_a_run_killed_before_its_end_is_published_goes_on(made, refined, tmp_path, monkeypatch):
    workspace, publish = scene(made, tmp_path / "scene"), Workspace.publish

    def killed(self, part, record):
        raise KeyboardInterrupt

    monkeypatch.setattr(Workspace, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        refine.run(workspace, RefineOptions())
    monkeypatch.setattr(Workspace, "publish", publish)
    refine.run(workspace, RefineOptions())
    ours, theirs = files_of(workspace), files_of(refined)
    assert all(ours[f"{name}.npz"] == theirs[f"{name}.npz"] for name in made.trajectory.names)
    assert ours["energies.csv"] == theirs["energies.csv"]


def test_profiles_work_at_their_size(made, tmp_path):
    sizes = {}
    for profile in ("fast", "max"):
        workspace = scene(made, tmp_path / profile)
        sizes[profile] = refine.run(workspace, RefineOptions(profile=profile)).summary["size"]
        before, after = (errors(made, workspace, unit)[0] for unit in ("mesh", "refine"))
        assert np.mean(after) < 0.7 * np.mean(before)
    assert sizes == {"fast": "128x96", "max": "128x96"}


def test_measured_sources_come_back_from_their_file(tmp_path):
    class Source:
        def __init__(self, name, kind, sensor):
            self.name, self.kind, self.sensor = name, kind, sensor

    class Fit:
        gain, shift, sigma = np.array([2.0, 2.5]), np.array([0.0, 0.1]), 0.02

    class Clip:
        fit = Fit()

    def anchor(source):
        found = Fit()
        found.source, found.fit = source, Fit()
        return found

    primary = Source("net", DepthKind.AFFINE_DISPARITY, False)
    Clip.anchors = (anchor(Source("kinect", DepthKind.METRIC_Z, True)), anchor(Source("mvs", DepthKind.SCENE_Z, False)))
    write_measured(tmp_path, ["000000", "000003"], primary, Clip)
    found = read_measured(tmp_path)
    assert [item.source for item in found] == ["kinect", "mvs"]  # what only guesses is not among them
    assert found[0].lines == {"000000": (2.0, 0.0), "000003": (2.5, 0.1)}
    assert found[0].kind is DepthKind.METRIC_Z


# -- other ways ----------------------------------------------------------------------------------------------------


def test_frames_solved_together_are_the_same_to_rounding(made, refined, tmp_path, monkeypatch):
    monkeypatch.setattr(refine, "_sees_gpu", lambda: True)
    solved = refine_walks.Walks.solved
    monkeypatch.setattr(refine_walks.Walks, "solved", lambda self, prepared, device: solved(self, prepared, "cpu"))
    workspace = scene(made, tmp_path / "scene")
    refine.run(workspace, RefineOptions(device="cuda"))  # what a GPU does, on the CPU
    for name in made.trajectory.names[::5]:
        ours, theirs = workspace.scene_depth(name, "refine").depth, refined.scene_depth(name, "refine").depth
        assert np.mean(np.abs(np.log(ours / theirs)) < 2e-3) > 0.98


def test_refinement_by_rendering_alone(made, tmp_path, monkeypatch):
    from recon4d.refine import polish

    monkeypatch.setattr(polish, "RENDER", replace(polish.RENDER, steps=12))
    workspace = scene(made, tmp_path / "scene")
    record = refine.run(workspace, RefineOptions(method="render"))
    before, after = (errors(made, workspace, unit)[0] for unit in ("mesh", "refine"))
    assert np.mean(after) < np.mean(before)
    assert record.summary["method"] == "render"


def test_refinement_as_published(made, tmp_path, monkeypatch):
    from recon4d.refine import reference

    short = reference.ReferenceSettings(network_steps=0, steps=10)
    monkeypatch.setattr(reference, "ReferenceSettings", lambda: short)
    workspace = scene(made, tmp_path / "scene")
    refine.run(workspace, RefineOptions(method="reference"))
    name = made.trajectory.names[0]
    before, after = (workspace.scene_depth(name, unit).depth for unit in ("mesh", "refine"))
    moved = np.abs(np.log(after / before))
    assert 0 < np.median(moved) < 0.05


def test_a_polish_is_taken_where_it_is_asked_for(made, tmp_path, monkeypatch):
    from recon4d.refine import polish

    asked = []

    def polished(problem, pictures, start, settings, rasterizer):
        asked.append(len(pictures.views))
        return polish.Polished(start + 0.01, True, 0.2, 0.1)

    monkeypatch.setattr(polish, "polish", polished)
    plain, workspace = scene(made, tmp_path / "plain"), scene(made, tmp_path / "scene")
    refine.run(plain, RefineOptions(profile="fast"))
    assert asked == []
    refine.run(workspace, RefineOptions(profile="fast", polish=True))
    assert len(asked) >= COUNT
    name = made.trajectory.names[3]
    one, other = (w.scene_depth(name, "refine").depth for w in (plain, workspace))
    assert np.median(np.log(one / other)) == pytest.approx(0.01, abs=1e-4)


def test_a_wrong_focal_length_is_corrected(made, tmp_path):
    off = replace(made.scene.camera, fx=1.02 * made.scene.camera.fx, fy=1.02 * made.scene.camera.fy)
    trajectory = replace(made.trajectory, cameras=(off,) * COUNT)
    workspace = scene(made, tmp_path / "scene", trajectory=trajectory)
    record = refine.run(workspace, RefineOptions(cameras=True))
    told = record.summary["cameras"]
    assert told["changed"], told["reason"]
    focal = workspace.trajectory().cameras[0].fx
    assert abs(focal - made.scene.camera.fx) < 0.6 * abs(off.fx - made.scene.camera.fx)
    assert workspace.unrefined_trajectory().cameras[0].fx == off.fx
    assert not list(workspace.unit_dir("refine").glob("*corrected*"))


def test_exports_agree_on_corrected_cameras(made, tmp_path):
    import pycolmap

    from recon4d.formats.colmap_model import model_of, sparse_from_reconstruction

    files = {name: f"{name}.png" for name in made.trajectory.names}
    camera = made.scene.camera
    longer = replace(camera, fx=1.1 * camera.fx, fy=1.1 * camera.fy)
    poses = made.trajectory.cam_from_world
    moved = replace(
        made.trajectory, cameras=(longer,) * COUNT, cam_from_world=Rigid3(poses.rotation, poses.translation + 0.1)
    )
    model_of(sparse_from_reconstruction(pycolmap.Reconstruction()), moved, files).write(str(tmp_path))
    again = pycolmap.Reconstruction(str(tmp_path))
    for image in again.images.values():
        view = moved[image.name.removesuffix(".png")]
        np.testing.assert_allclose(image.cam_from_world().matrix(), view.cam_from_world.matrix[:3], atol=1e-9)
        assert again.cameras[image.camera_id].focal_length_x == pytest.approx(longer.fx)


def test_refinement_of_older_poses_no_longer_counts(made, refined, tmp_path):
    import shutil

    shutil.copytree(refined.root, tmp_path / "scene")
    workspace = Workspace(tmp_path / "scene")
    assert workspace.surface_unit() == "refine"
    record = workspace.record("poses")
    (workspace.unit_dir("poses") / RECORD).write_text(json.dumps(asdict(replace(record, key="another"))))
    assert workspace.surface_unit() == "mesh"
    cameras = workspace.unit_dir("refine") / "cameras.json"
    cameras.write_text("damaged")
    assert workspace.trajectory().names == refined.trajectory().names  # those of poses


def test_three_frames_under_wrong_poses_stay_as_they_are(made, tmp_path):
    few = 3
    short = replace(
        made.trajectory,
        names=made.trajectory.names[:few],
        timestamps_s=made.trajectory.timestamps_s[:few],
        cam_from_world=made.trajectory.cam_from_world[:few],
        cameras=made.trajectory.cameras[:few],
        origin=made.trajectory.origin[:few],
    )
    turn = Rotation.from_euler("xyz", [[2, 0, 0], [0, 3, 0], [-2, 0, 2]], degrees=True).as_matrix()
    poses = short.cam_from_world
    wrong = Rigid3(turn @ poses.rotation, np.einsum("nij,nj->ni", turn, poses.translation))
    workspace = scene(made, tmp_path / "scene", depth=None, trajectory=replace(short, cam_from_world=wrong))
    refine.run(workspace, RefineOptions())
    for name in short.names:
        before, after = (workspace.scene_depth(name, unit).depth for unit in ("mesh", "refine"))
        assert np.mean(np.abs(np.log(after / before)) > 0.05) < 0.1


def test_true_cameras_stay(made, tmp_path):
    workspace = scene(made, tmp_path / "scene")
    record = refine.run(workspace, RefineOptions(profile="fast", cameras=True))
    assert not record.summary["cameras"]["changed"]
    poses, own = workspace.unrefined_trajectory(), workspace.trajectory()
    np.testing.assert_array_equal(own.cam_from_world.matrix, poses.cam_from_world.matrix)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (RefineOptions(workers=0), r"--refine\.workers is 0, at least 1 is expected"),
        (RefineOptions(cameras=True, method="render"), r"--refine\.cameras works with --refine\.method gn only"),
        (RefineOptions(device="cuda", method="render"), r"--refine\.device cuda works with --refine\.method gn only"),
        (RefineOptions(polish=True, method="reference"), r"--refine\.polish follows --refine\.method gn"),
    ],
)
def test_options_that_cannot_work_are_refused(options, said):
    with pytest.raises(OptionsError, match=f"^refine: {said}"):
        refine.check_options(options)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(refine, "_sees_gpu", lambda: False)
    with pytest.raises(OptionsError, match=r"--refine\.device is cuda, and PyTorch sees no GPU"):
        refine.check_options(RefineOptions(device="cuda"))

"""The stage align as a whole, on the synthetic clip: what each of its parts is worth, and what it leaves."""

import csv
import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from recon4d.cli import main
from recon4d.errors import AlignmentError, InputError, OptionsError
from recon4d.formats.trajectories import read_tum
from recon4d.geometry.levelling import angle_deg
from recon4d.geometry.similarity import fit_similarity
from recon4d.scene.depth import Provenance
from recon4d.stages import align, depth
from recon4d.stages.align import AlignOptions
from recon4d.stages.depth_options import DepthOptions
from recon4d.stages.metres import MetricOptions
from recon4d.workspace import Workspace


@pytest.fixture(scope="module")
def workspace(reconstructed, tmp_path_factory) -> Workspace:
    """A scene with frames, poses and the simulated depth."""
    root = tmp_path_factory.mktemp("align") / "scene"
    shutil.copytree(reconstructed.scene, root, ignore=shutil.ignore_patterns("export", "fuse", "mesh"))
    return Workspace(root)


@pytest.fixture(autouse=True)
def _simulated_depth_alone(reconstructed, workspace):
    depth.run(workspace, DepthOptions(path=reconstructed.clip.simulated_depth))


def true_depth(reconstructed, name: str) -> np.ndarray:
    return cv2.imread(str(reconstructed.clip.depth / f"{name}.png"), cv2.IMREAD_UNCHANGED) / 1000.0


def scene_from_truth(reconstructed, workspace: Workspace):
    """Similarity from the truth's world to the scene's, by the paths."""
    times, world_from_cam = read_tum(reconstructed.clip.trajectory)
    trajectory = workspace.trajectory()
    rows = [int(np.argmin(np.abs(times - t))) for t in trajectory.timestamps_s]
    return fit_similarity(world_from_cam.translation[rows], trajectory.centres)


def errors(reconstructed, workspace: Workspace) -> dict[str, float]:
    """Mean relative error of static and of moving pixels, one scale for the clip."""
    found = {"static": [], "moving": []}
    ratios, masks = [], []
    for name in workspace.trajectory().names:
        surface = workspace.scene_depth(name)
        mask = cv2.imread(str(reconstructed.clip.mask / f"{name}.png"), cv2.IMREAD_UNCHANGED) > 0
        ratios.append(np.where(surface.valid, surface.depth / true_depth(reconstructed, name), np.nan))
        masks.append(mask)
    scale = np.nanmedian(np.stack(ratios))
    for ratio, mask in zip(ratios, masks):
        error = np.abs(ratio / scale - 1)
        found["static"].append(np.nanmean(error[~mask]))
        found["moving"].append(np.nanmean(error[mask]))
    return {key: float(np.mean(values)) for key, values in found.items()}


def test_the_correction_halves_the_error_and_spares_what_moves(reconstructed, workspace):
    align.run(workspace, AlignOptions(correction="off"))
    plain = errors(reconstructed, workspace)
    record = align.run(workspace, AlignOptions())
    ours = errors(reconstructed, workspace)
    assert record.summary["correction"] is not None
    assert ours["static"] < 0.6 * plain["static"]
    assert ours["moving"] < 1.6 * plain["moving"]


def test_sigma_holds_for_pixels_that_no_point_saw(reconstructed, workspace):
    record = align.run(workspace, AlignOptions())
    assert 0.6 < record.summary["held_out"]["within_one_sigma"] < 0.85
    within, ratios = [], []
    for name in workspace.trajectory().names:
        surface = workspace.scene_depth(name)
        mask = cv2.imread(str(reconstructed.clip.mask / f"{name}.png"), cv2.IMREAD_UNCHANGED) > 0
        ratio = (surface.depth / true_depth(reconstructed, name))[~mask]
        ratios.append(ratio)
        within.append((ratio, (surface.sigma / surface.depth)[~mask]))
    scale = np.median(np.concatenate(ratios))
    share = np.mean([np.mean(np.abs(np.log(ratio / scale)) < sigma) for ratio, sigma in within])
    assert 0.5 < share < 0.9


def test_held_out_points_and_tables(workspace):
    record = align.run(workspace, AlignOptions(held_out=0.3))
    with open(workspace.unit_dir("align") / "fits.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    held, used = (np.array([int(row[key]) for row in rows]) for key in ("held_out", "points"))
    assert (held / (held + used)).mean() == pytest.approx(0.3, abs=0.05)
    assert record.summary["held_out"]["points"] == held.sum()
    assert record.summary["held_out"]["median"] < 0.02
    none = align.run(workspace, AlignOptions(held_out=0.0))
    assert none.summary["held_out"] is None
    assert (workspace.unit_dir("align") / "fit.png").stat().st_size > 10_000


def test_held_out_points_change_nothing_in_the_fit(workspace, monkeypatch):
    """Wild held-out points leave every pixel as it is."""
    align.run(workspace, AlignOptions())
    before = workspace.scene_depth(workspace.trajectory().names[3]).depth
    model = workspace.sparse_model()
    held = np.random.default_rng(align.SEED).random(len(model)) < AlignOptions().held_out
    points = model.points.copy()
    points[held] = workspace.trajectory().centres[0] + 3.0 * (points[held] - workspace.trajectory().centres[0])
    monkeypatch.setattr(Workspace, "sparse_model", lambda self: replace(model, points=points))
    record = align.run(workspace, AlignOptions(max_depth_ratio=20.5))  # another key
    monkeypatch.undo()
    # Which points count as static is decided by their own looks, so only those that lie wrong now can drop out.
    np.testing.assert_array_equal(workspace.scene_depth(workspace.trajectory().names[3]).depth, before)
    assert record.summary["held_out"]["median"] > 0.2 or record.summary["held_out"]["points"] < 100


def write_metric(reconstructed, workspace: Workspace, folder, factor: float = 1.0):
    folder.mkdir(exist_ok=True)
    for name in workspace.trajectory().names:
        picture = np.rint(1000 * factor * true_depth(reconstructed, name)).astype(np.uint16)
        cv2.imwrite(str(folder / f"{name}.png"), picture)
    return folder


def test_a_sensor_anchors_relative_depth_and_gives_metres(reconstructed, workspace, tmp_path):
    align.run(workspace, AlignOptions())
    alone = errors(reconstructed, workspace)
    folder = write_metric(reconstructed, workspace, tmp_path / "rgbd")
    options = DepthOptions(path=reconstructed.clip.simulated_depth, more=(f"rgbd:metric_z:sensor={folder}",))
    depth.run(workspace, options)
    record = align.run(workspace, AlignOptions())
    anchored = errors(reconstructed, workspace)
    assert record.summary["anchors"] == ["rgbd"]
    assert anchored["static"] < 0.8 * alone["static"]
    assert anchored["moving"] < 0.6 * alone["moving"]  # no sparse point knows what moves, the sensor does
    scale = json.loads((workspace.unit_dir("align") / "scale.json").read_text())
    truth = 1.0 / scene_from_truth(reconstructed, workspace).scale
    assert scale["cues"][0]["name"].endswith("rgbd")
    assert scale["interval_95"][0] < truth < scale["interval_95"][1]
    # the other way round: the sensor is primary, and is not bent
    swapped = align.run(workspace, AlignOptions(primary="rgbd"))
    assert swapped.summary["source"] == "rgbd"
    assert swapped.summary["correction"] is None
    name = workspace.trajectory().names[5]
    ratio = workspace.scene_depth(name).depth / true_depth(reconstructed, name)
    assert np.median(np.abs(ratio / np.median(ratio) - 1)) < 1e-3  # undistortion mixes the sides of edges
    assert (workspace.scene_depth(name).provenance == Provenance.MEASURED).all()


def test_another_primary_makes_align_anew(reconstructed, workspace, tmp_path, capsys):
    folder = write_metric(reconstructed, workspace, tmp_path / "rgbd")
    depth.run(workspace, DepthOptions(path=reconstructed.clip.simulated_depth, more=(f"rgbd:sensor={folder}",)))
    first = align.run(workspace, AlignOptions())
    assert align.run(workspace, AlignOptions()).key == first.key
    assert align.run(workspace, AlignOptions(primary="precomputed")).key != first.key  # options differ, result not
    assert align.run(workspace, AlignOptions(primary="rgbd")).summary["source"] == "rgbd"
    with pytest.raises(AlignmentError, match="there is no depth 'lidar'"):
        align.run(workspace, AlignOptions(primary="lidar"))


def test_named_windows_reach_the_fit(reconstructed, workspace):
    depth.run(workspace, DepthOptions(path=reconstructed.clip.simulated_depth, windows="12:4"))
    record = align.run(workspace, AlignOptions())
    assert record.summary["joints"] == 2  # 0-11, 8-19, 16-23


def test_up_and_ground_of_the_room(reconstructed, workspace):
    align.run(workspace, AlignOptions())
    world = json.loads((workspace.unit_dir("align") / "world_up.json").read_text())
    levelled = np.array(world["levelled_from_scene"])
    similarity = scene_from_truth(reconstructed, workspace)
    # The room is z-up, its floor at z = 0. The cameras' axes say how the scene is turned; their short path hardly does.
    times, world_from_cam = read_tum(reconstructed.clip.trajectory)
    trajectory = workspace.trajectory()
    rows = [int(np.argmin(np.abs(times - t))) for t in trajectory.timestamps_s]
    ups = [
        view.cam_from_world.rotation.T @ world_from_cam.rotation[row].T @ np.array([0.0, 0, 1])
        for view, row in zip(trajectory, rows)
    ]
    true_up = np.mean(ups, axis=0)
    assert angle_deg(levelled[2, :3], true_up) < 2.0
    assert world["ground"] is not None
    heights = (trajectory.centres @ levelled[2, :3] + levelled[2, 3]) / similarity.scale
    assert heights.mean() == pytest.approx(world_from_cam.translation[:, 2].mean(), rel=0.05)


def test_camera_height_and_path_give_metres_together(reconstructed, workspace):
    _, world_from_cam = read_tum(reconstructed.clip.trajectory)
    metric = MetricOptions(
        camera_height=float(world_from_cam.translation[:, 2].mean()), trajectory=reconstructed.clip.trajectory
    )
    align.run(workspace, AlignOptions(metric=metric))
    scale = json.loads((workspace.unit_dir("align") / "scale.json").read_text())
    truth = 1.0 / scene_from_truth(reconstructed, workspace).scale
    assert len(scale["cues"]) == 2
    assert not scale["contradictions"]
    assert scale["interval_95"][0] < truth < scale["interval_95"][1]
    assert scale["metres_per_unit"] == pytest.approx(truth, rel=0.04)


def test_a_wrong_distance_is_said_not_averaged(reconstructed, workspace):
    name = workspace.trajectory().names[0]
    metric = MetricOptions(trajectory=reconstructed.clip.trajectory, distance=(f"{name} 60,150 200,150 9.0 +-0.01",))
    record = align.run(workspace, AlignOptions(metric=metric))
    assert any("contradict each other" in warning for warning in record.warnings)


def test_a_marker_that_is_not_there_is_a_warning(workspace):
    record = align.run(workspace, AlignOptions(metric=MetricOptions(marker=0.1)))
    assert record.summary["metres_per_unit"] is None
    assert any("marker" in warning for warning in record.warnings)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"held_out": 0.9}, OptionsError, r"--align\.held-out is 0\.9, at least 0 and at most 0\.5"),
        ({"gravity": "nowhere.csv"}, InputError, r"nowhere\.csv was not found"),
        ({"step": 0.0}, OptionsError, r"--align\.step"),
        ({"metric": MetricOptions(camera_height=-1.0)}, OptionsError, r"--metric\.camera-height"),
        ({"metric": MetricOptions(distance=("a b c",))}, OptionsError, "distance"),
    ],
)
def test_options_that_cannot_work_are_refused_first(workspace, options, error, words):
    with pytest.raises(error, match=words):
        align.run(workspace, AlignOptions(**options))


def test_a_killed_run_ends_with_the_same_bytes(workspace, monkeypatch):
    align.run(workspace, AlignOptions())
    names = workspace.trajectory().names
    whole = {name: (workspace.unit_dir("align") / f"{name}.npz").read_bytes() for name in names}
    shutil.rmtree(workspace.unit_dir("align"))
    make, done = align.aligned, []

    def killed(depth, frame, *rest):
        if len(done) == 9:
            raise KeyboardInterrupt
        done.append(frame.view.name)
        return make(depth, frame, *rest)

    monkeypatch.setattr(align, "aligned", killed)
    with pytest.raises(KeyboardInterrupt):
        align.run(workspace, AlignOptions())
    (marked,) = (workspace.root / ".part").glob("align-*/done.txt")
    kept = len(marked.read_text().splitlines())
    assert 0 < kept <= 9
    done.clear()
    monkeypatch.setattr(
        align, "aligned", lambda depth, frame, *rest: (done.append(frame), make(depth, frame, *rest))[1]
    )
    align.run(workspace, AlignOptions())
    assert len(done) == len(names) - kept
    assert {name: (workspace.unit_dir("align") / f"{name}.npz").read_bytes() for name in names} == whole


def test_the_verb_prints_a_table_and_takes_metric_options(reconstructed, workspace, capsys):
    root = str(workspace.root)
    assert main(["align", root, "--reset", "--metric.camera-height", "1.5"]) == 0
    printed = capsys.readouterr().out
    assert "held-out" in printed
    assert "24 frames" in printed
    assert main(["align", root]) == 0  # the scene remembers
    assert json.loads((workspace.unit_dir("align") / "stage.json").read_text())["options"]["metric"][
        "camera_height"
    ] == pytest.approx(1.5)
    assert main(["align", root, "--reset"]) == 0


def test_depth_that_nothing_can_judge_is_not_called_sure():
    """A tripod has no structure: sigma is what such depth is usually good for."""
    from recon4d.metric.depth_ratio import NETWORK_SIGMA, SENSOR_SIGMA
    from recon4d.stages.align_report import FitRow, frame_sigma

    row = FitRow("000000", 1.0, 0.0, 0, 0, np.nan, 0, np.nan, np.nan, False, 0.0)
    assert frame_sigma(row, sensor=False) == NETWORK_SIGMA
    assert frame_sigma(row, sensor=True) == SENSOR_SIGMA
    assert frame_sigma(replace(row, residual_median=0.02), sensor=True) == pytest.approx(1.4826 * 0.02)


def test_frames_of_another_picture_are_named_though_the_correction_hides_them(reconstructed, workspace, tmp_path):
    with np.load(reconstructed.clip.simulated_depth) as arrays:
        stack, names = arrays["depth"].copy(), arrays["names"]
    stack[10:15] = stack[10:15, :, ::-1]
    np.savez(tmp_path / "d.npz", depth=stack, names=names)
    depth.run(workspace, DepthOptions(path=tmp_path / "d.npz"))
    warnings = align.run(workspace, AlignOptions()).warnings
    (told,) = [warning for warning in warnings if "depth and structure disagree" in warning]
    assert f"frames {names[10]} to {names[14]}" in told


def test_points_that_options_throw_away_are_not_called_missing(workspace):
    with pytest.raises(
        AlignmentError, match=r"none of the \d+ sparse points is good enough \(0 of them pass --align.max-e"
    ):
        align.run(workspace, AlignOptions(max_error_px=1e-6))


def test_metres_are_given_from_python_by_public_names():
    import recon4d

    assert recon4d.AlignOptions(metric=recon4d.MetricOptions(marker=0.1)).metric.marker == 0.1

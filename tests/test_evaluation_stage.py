"""`recon4d evaluate` on a scene whose every error is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from true_scene import COUNT, TRUTH_FROM_SCENE, Made, nothing_moves, publish, true_objects

from recon4d.errors import EvaluationError, InputError, WorkspaceError
from recon4d.evaluation.report import format_scores
from recon4d.formats.arrays import write_arrays, write_depth_map, write_scene_flow
from recon4d.formats.pictures import write_picture
from recon4d.formats.ply import write_cloud
from recon4d.poses.lens import Lens, undistortion_map
from recon4d.scene.cloud import PointCloud
from recon4d.scene.depth import DepthKind, DepthMap
from recon4d.scene.scene_flow import SceneFlow
from recon4d.scene.trajectory import PoseOrigin
from recon4d.scene.transforms import Rigid3
from recon4d.stages.evaluate import EvaluateOptions, evaluate
from recon4d.workspace import Workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    return Made(tmp_path_factory.mktemp("made"))


def test_perfect_scene_scores_perfectly_up_to_millimetres(made, tmp_path):
    target = tmp_path / "out" / "scores.json"
    result = evaluate(made.workspace(tmp_path / "s", metric=2.5), replace(made.options, json=target))
    assert result["registered"] == {"frames": COUNT, "of": COUNT, "share": 1.0}
    assert result["rules"]["depth"] == "by name"
    assert set(result["depth"]) == {"clip-median", "trajectory", "metric"}
    for scale in result["depth"].values():
        assert scale["all"]["abs_rel"] < 3e-4  # truth is stored in millimetres
        assert scale["all"]["completeness"] == scale["moving"]["within_1"] == 1
    assert result["scales"]["trajectory"] == pytest.approx(2.5, rel=1e-6)
    assert result["trajectory"]["ate"]["max"] < 1e-6
    assert result["temporal"]["flicker"] < 2e-3
    assert json.loads(target.read_text()) == result
    assert "ATE        0.00 cm rmse" in format_scores(result)


def test_known_errors_come_out_as_they_were_put_in(made, tmp_path):
    def wrong(frame):
        depth = frame.depth * np.where(frame.object_id > 0, 1.2, 1.0)  # movers 20 % too far
        valid = np.ones(depth.shape, dtype=bool)
        valid[:, :16] = False  # a quarter of the picture is missing
        return depth, valid

    options = replace(made.options, min_depth=0.0, max_depth=0.0)
    result = evaluate(made.workspace(tmp_path / "s", wrong), options)
    static, moving = (result["depth"]["clip-median"][group] for group in ("static", "moving"))
    assert static["abs_rel"] < 3e-4
    assert moving["abs_rel"] == pytest.approx(0.2, abs=1e-3)
    assert moving["within_5"] == 0
    assert result["depth"]["clip-median"]["all"]["completeness"] == pytest.approx(0.75)
    assert static["within_1"] == pytest.approx(static["completeness"])
    assert static["within_1_present"] == 1


def test_one_scale_per_clip_does_not_hide_drift(made, tmp_path):
    factors = dict(zip(made.scene.names, [0.9, 0.9, 0.9, 1.0, 1.1, 1.1, 1.1]))
    workspace = made.workspace(
        tmp_path / "s", lambda f: (f.depth * factors[f.name], np.ones(f.depth.shape, dtype=bool))
    )
    result = evaluate(workspace, made.options)
    assert result["depth"]["trajectory"]["all"]["abs_rel"] == pytest.approx(6 * 0.1 / 7, rel=0.01)
    frames = result["depth_frames"]
    assert frames["000003"]["all"]["abs_rel"] < frames["000000"]["all"]["abs_rel"]
    steps = np.lib.stride_tricks.sliding_window_view([factors[n] for n in made.scene.names], 5).std(axis=1)
    scale = result["scales"]["clip-median"] / 2.5
    assert result["temporal"]["flicker"] == pytest.approx(scale * steps.mean(), rel=0.02)
    assert result["temporal"]["flicker_median"] == pytest.approx(scale * steps.mean(), rel=0.02)  # all points waver
    assert f"{result['temporal']['flicker_median']:.2%} median" in format_scores(result)


def test_scores_per_scale_differ_when_the_unit_is_wrong(made, tmp_path):
    result = evaluate(made.workspace(tmp_path / "s", metric=2.0), replace(made.options, scale="metric"))
    assert result["depth"]["metric"]["all"]["abs_rel"] == pytest.approx(0.2, abs=1e-3)  # 2.0 in place of 2.5
    assert result["depth"]["clip-median"]["all"]["abs_rel"] < 1e-3
    assert result["depth_frames"]["000000"]["all"]["abs_rel"] == pytest.approx(0.2, abs=1e-3)
    assert "metric 2 (chosen)" in format_scores(result)


def test_unknown_scale_is_refused(made, tmp_path):
    with pytest.raises(EvaluationError, match="'metric' is not known"):
        evaluate(made.workspace(tmp_path / "s"), replace(made.options, scale="metric"))


def test_interpolated_poses_are_no_evidence(made, tmp_path):
    poses = made.trajectory.cam_from_world
    wrong = Rigid3(poses.rotation, poses.translation + (np.arange(COUNT) == 3)[:, None] * 5.0)
    origin = [PoseOrigin.MEASURED] * COUNT
    origin[3] = PoseOrigin.INTERPOLATED
    trajectory = replace(made.trajectory, cam_from_world=wrong, origin=tuple(origin))
    result = evaluate(
        made.workspace(tmp_path / "s", trajectory=trajectory), replace(made.options, depth_gt=None, mask_gt=None)
    )
    assert result["registered"]["share"] == pytest.approx(6 / 7)
    assert result["trajectory"]["poses"] == 6
    assert result["trajectory"]["ate"]["max"] < 1e-6


def test_truth_follows_the_lens_into_the_undistorted_picture(made, tmp_path):
    # A lens with strong distortion: its frames differ from the undistorted picture by several pixels.
    camera = made.scene.camera
    lens = Lens("SIMPLE_RADIAL", 64, 48, (camera.fx, camera.cx, camera.cy, -0.15))
    trajectory = replace(made.trajectory, cameras=(camera,) * COUNT)
    # Truth seen through the lens: for each pixel of the frame, the undistorted pixel it shows.
    y, x = np.mgrid[0:48, 0:64] + 0.5
    rays = lens.unproject(np.stack([x.ravel(), y.ravel()], 1))
    column, row = (rays * [camera.fx, camera.fy] + [camera.cx, camera.cy]).T.astype(int)
    inside = (column >= 0) & (column < 64) & (row >= 0) & (row < 48)
    folder = tmp_path / "distorted"
    folder.mkdir()
    for frame in made.frames:
        seen = np.zeros(48 * 64)
        seen[inside] = frame.depth[row[inside], column[inside]]
        write_arrays(folder / f"{frame.name}.npz", depth=seen.reshape(48, 64))
    workspace = made.workspace(tmp_path / "s", trajectory=trajectory, lens=lens)
    options = EvaluateOptions(depth_gt=folder, depth_gt_scale=1.0)
    result = evaluate(workspace, options)["depth"]["clip-median"]["all"]
    assert np.abs(undistortion_map(lens, camera)[0] - x).max() > 2
    assert result["median_rel"] < 2e-3  # two roundings to whole pixels
    plain = evaluate(made.workspace(tmp_path / "p"), options)["depth"]["clip-median"]["all"]  # lens ignored
    assert plain["median_rel"] > 3 * result["median_rel"]


def test_truth_of_another_size_is_met_by_bilinear_lookup(made, tmp_path):
    folder = tmp_path / "half"
    folder.mkdir()
    for frame in made.frames:
        write_arrays(folder / f"{frame.name}.npz", depth=frame.depth[::2, ::2])

    def shifted(frame):  # the estimate says 1/4 pixel up and left of the truth's pixel centres: compare at any size
        return np.full(frame.depth.shape, 3.0), np.ones(frame.depth.shape, dtype=bool)

    result = evaluate(made.workspace(tmp_path / "s", shifted), EvaluateOptions(depth_gt=folder, depth_gt_scale=1.0))
    everything = np.stack([f.depth[::2, ::2] for f in made.frames])
    expected = np.mean([np.mean(np.abs(np.median(everything) - d) / d) for d in everything])
    assert result["depth"]["clip-median"]["all"]["abs_rel"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("way", ["offset", "names"])
def test_truth_that_counts_differently(made, tmp_path, way):
    folder = tmp_path / "renamed"
    folder.mkdir()
    for k, name in enumerate(made.scene.names[1::2]):  # files 84, 87, 90 are frames 1, 3, 5
        (folder / f"{84 + 3 * k:06d}.png").write_bytes((made.files.depth / f"{name}.png").read_bytes())
    workspace = made.workspace(tmp_path / "s")
    options = EvaluateOptions(depth_gt=folder)
    with pytest.raises(EvaluationError, match="--offset and --stride"):
        evaluate(workspace, options)
    if way == "offset":
        options = replace(options, offset=1, stride=2)
    else:
        (tmp_path / "names.txt").write_text("000001\n000003\n000005\n")
        options = replace(options, names=tmp_path / "names.txt")
    result = evaluate(workspace, options)
    assert sorted(result["depth_frames"]) == ["000001", "000003", "000005"]
    assert result["depth"]["clip-median"]["all"]["abs_rel"] < 3e-4


def _source(workspace: Workspace, made: Made, kind: DepthKind, values) -> None:
    def fill(folder: Path) -> None:
        for frame in made.frames:
            ones = np.ones(frame.depth.shape)
            write_depth_map(folder / f"{frame.name}.npz", DepthMap(kind, values(frame.depth), ones > 0, ones, ones))

    publish(workspace, "depth/mine", fill, kind=kind.value)


@pytest.mark.parametrize(
    ("kind", "values", "scale"),
    [
        (DepthKind.AFFINE_DISPARITY, lambda z: 0.3 / z - 0.02, 1.0),
        (DepthKind.AFFINE_Z, lambda z: 4 * z - 1, 1.0),
        (DepthKind.SCALE_FREE_DISPARITY, lambda z: 0.3 / z, 0.3**-1),
        (DepthKind.METRIC_Z, lambda z: z, 1.0),
    ],
)
def test_raw_depth_is_scored_in_its_own_kind(made, tmp_path, kind, values, scale):
    workspace = made.workspace(tmp_path / "s")
    _source(workspace, made, kind, values)
    result = evaluate(workspace, replace(made.options, stage="depth", source="mine"))
    assert result["depth"]["clip-median"]["all"]["abs_rel"] < 3e-4
    assert result["depth"]["clip-median"]["all"]["completeness"] > 0.99
    assert result["scales"]["trajectory"] is None
    assert result["scales"]["clip-median"] == pytest.approx(scale if scale == 1 else 1 / scale, rel=1e-3)
    assert (result["scales"]["metric"] == 1.0) == (kind is DepthKind.METRIC_Z)
    assert any("fitted to the truth" in note for note in result["notes"]) == kind.has_shift


def test_rendered_background_cloud_and_scene_flow(made, tmp_path):
    workspace = made.workspace(tmp_path / "s")
    scene_from_truth = TRUTH_FROM_SCENE.inverse()
    points = np.concatenate(
        [
            (f.cam_from_world.inverse() @ made.scene.camera.unproject(f.depth.astype(float)).reshape(-1, 3))[
                f.object_id.ravel() == 0
            ]
            for f in made.frames
        ]
    )

    def fuse(folder: Path) -> None:
        (folder / "scene_flow").mkdir()
        write_cloud(folder / "static.ply", PointCloud(scene_from_truth @ points, np.zeros((len(points), 3))))
        for frame in made.frames:
            flow = scene_from_truth.scale * frame.flow_next @ scene_from_truth.rotation.T
            write_scene_flow(folder / "scene_flow" / f"{frame.name}.npz", SceneFlow(flow, flow))

    publish(workspace, "fuse", fuse)
    write_cloud(tmp_path / "truth.ply", PointCloud(points[::2] + 0.001, np.zeros((len(points[::2]), 3))))
    options = replace(made.options, stage="rendered", cloud_gt=tmp_path / "truth.ply", flow_gt=made.files.scene_flow)
    result = evaluate(workspace, options)
    assert result["depth"]["trajectory"]["static"]["median_rel"] < 0.02  # discs stand in front of slanted surfaces
    assert result["depth"]["trajectory"]["static"]["completeness"] > 0.95
    assert result["depth"]["trajectory"]["moving"]["median_rel"] > 0.03  # the background is seen where movers were
    assert result["flow"]["moving"]["epe"] < 1e-4
    assert result["flow"]["moving"]["truth_length"] > 0.01
    assert result["flow"]["static"]["epe"] == 0
    assert result["cloud"]["at"][1]["f_score"] > 0.95
    text = format_scores(result)
    assert "scene flow   moving" in text
    assert "F-score" in text
    with pytest.raises(EvaluationError, match="--trajectory-gt must give"):
        evaluate(workspace, replace(options, trajectory_gt=None, depth_gt=None, mask_gt=None, flow_gt=None))


def _fused_flow(workspace: Workspace, made: Made, next_flow) -> None:
    """A unit fuse with this displacement of a frame, metres, brought into our world and unit."""
    turn, scale = TRUTH_FROM_SCENE.inverse().rotation, 1 / TRUTH_FROM_SCENE.scale

    def fill(folder: Path) -> None:
        (folder / "scene_flow").mkdir()
        for i, frame in enumerate(made.frames):
            flow = (scale * next_flow(i, frame) @ turn.T).astype(np.float32)
            write_scene_flow(folder / "scene_flow" / f"{frame.name}.npz", SceneFlow(flow, flow))

    publish(workspace, "fuse", fill)


def test_unknown_scene_flow_counts_as_unmoved_and_the_last_frame_has_none(made, tmp_path):
    def half_known(i: int, frame) -> np.ndarray:
        flow = frame.flow_next.copy()
        unknown = frame.object_id > 0
        if i < COUNT - 1:
            unknown[:, ::2] = False
        flow[unknown] = np.nan
        return flow

    workspace = made.workspace(tmp_path / "s")
    _fused_flow(workspace, made, half_known)
    options = replace(made.options, depth_gt=None, flow_gt=made.files.scene_flow)
    result = evaluate(workspace, options)["flow"]
    lengths, known = [], []
    for frame in made.frames[:-1]:
        moving = frame.object_id > 0
        length = np.linalg.norm(frame.flow_next, axis=2)
        length[:, ::2] = 0  # where the estimate is right
        lengths.append(length[moving].mean())
        known.append(moving[:, ::2].sum() / moving.sum())
    assert result["moving"]["epe"] == pytest.approx(np.mean(lengths), rel=0.01)  # files are of half precision
    assert result["moving"]["known"] == pytest.approx(np.mean(known))
    assert result["static"]["known"] == 1
    assert f"known for {np.mean(known):.1%}" in format_scores(evaluate(workspace, options))


def test_motion_masks_are_scored_as_they_were_made_wrong(made, tmp_path):
    def wrong(frame) -> np.ndarray:
        numbers = true_objects(frame).copy()
        numbers[:24] = 0  # the upper half is missed
        numbers[:3, :20] = 9  # and 60 pixels of the wall are called an object
        return numbers

    assert all((frame.object_id[:3, :20] == 0).all() for frame in made.frames)
    workspace = made.workspace(tmp_path / "s")
    made.publish_motion(workspace, wrong)
    options = EvaluateOptions(mask_gt=made.files.mask, json=tmp_path / "scores.json")
    result = evaluate(workspace, options)
    true = sum(int((frame.object_id > 0).sum()) for frame in made.frames)
    both = sum(int((frame.object_id[24:] > 0).sum()) for frame in made.frames)
    alarms = 60 * COUNT
    assert 0 < both < true
    assert result["mask"] == {
        "frames": COUNT,
        "iou": pytest.approx(both / (true + alarms)),
        "precision": pytest.approx(both / (both + alarms)),
        "recall": pytest.approx(both / true),
        "false_alarms": pytest.approx(alarms / (COUNT * 48 * 64 - true)),
    }
    assert result["rules"]["mask"] == "by name"
    assert json.loads(options.json.read_text()) == result
    assert f"IoU {both / (true + alarms):.3f}, precision" in format_scores(result)
    assert "static pixels called moving" in format_scores(result)


def test_masks_of_an_outdated_motion_get_a_note(made, tmp_path):
    workspace = made.workspace(tmp_path / "s")
    made.publish_motion(workspace, true_objects)
    result = evaluate(workspace, EvaluateOptions(mask_gt=made.files.mask), stale={"motion": "align changed since"})
    assert result["mask"]["iou"] == 1
    assert any(note.startswith("motion is out of date: align changed since") for note in result["notes"])


def test_motion_masks_of_another_size_meet_the_truth(made, tmp_path):
    workspace = made.workspace(tmp_path / "s")
    made.publish_motion(workspace, lambda frame: np.kron(true_objects(frame), np.ones((2, 2), dtype=np.uint8)))
    assert evaluate(workspace, EvaluateOptions(mask_gt=made.files.mask))["mask"]["iou"] == 1


def test_where_nothing_moves_a_mask_has_no_score_but_its_false_alarms(made, tmp_path):
    workspace = made.workspace(tmp_path / "s")
    made.publish_motion(workspace, nothing_moves)
    (tmp_path / "mask").mkdir()
    for name in made.scene.names:
        write_picture(tmp_path / "mask" / f"{name}.png", np.zeros((48, 64), dtype=np.uint8))
    result = evaluate(workspace, EvaluateOptions(mask_gt=tmp_path / "mask"))
    assert result["mask"] == {"frames": COUNT, "iou": None, "precision": None, "recall": None, "false_alarms": 0}
    assert "IoU -, precision -, recall - over" in format_scores(result)


def test_trajectory_by_row_and_by_shifted_time(made, tmp_path):
    workspace = made.workspace(tmp_path / "s")
    moved = tmp_path / "moved.tum"
    lines = made.files.trajectory.read_text().splitlines()[1:]
    moved.write_text("\n".join(f"{float(line.split()[0]) + 100} {line.split(maxsplit=1)[1]}" for line in lines))
    options = EvaluateOptions(trajectory_gt=moved)
    with pytest.raises(EvaluationError, match="--time-offset"):
        evaluate(workspace, options)
    for given in (replace(options, time_offset=100.0), replace(options, trajectory_match="row")):
        assert evaluate(workspace, given)["trajectory"]["poses"] == COUNT


def test_straight_path_is_reported_not_scored(made, tmp_path):
    straight = tmp_path / "straight.tum"
    straight.write_text("\n".join(f"{k / 10} {k} 0 0 0 0 0 1" for k in range(COUNT)))
    result = evaluate(made.workspace(tmp_path / "s"), replace(made.options, trajectory_gt=straight))
    assert result["trajectory"] is None
    assert any("on one line" in note for note in result["notes"])
    assert result["scales"]["trajectory"] is None
    format_scores(result)


def test_without_truth_only_what_was_registered(made, tmp_path):
    result = evaluate(made.workspace(tmp_path / "s"), EvaluateOptions())
    assert set(result) == {"scene", "registered", "rules", "notes"}
    assert "7 of 7 frames" in format_scores(result)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"depth_gt": Path("nowhere")}, InputError, "not found"),
        ({"stage": "refine"}, WorkspaceError, "no refined depth.*: align"),
        ({"stage": "rendered"}, WorkspaceError, "fuse is not done"),
        ({"stage": "depth"}, WorkspaceError, "depth is not done"),
        ({"min_depth": 50.0, "max_depth": 60.0}, EvaluationError, "no pixel has both"),
        ({"depth_gt_scale": 0.0}, EvaluationError, "above 0"),
        ({"depth_gt": None}, EvaluationError, "--depth-gt or --flow-gt"),
        ({"trajectory_gt": Path("nowhere")}, InputError, "not found"),
        ({"names": Path("nowhere")}, InputError, "nowhere"),
        ({"stride": 0}, EvaluationError, "--stride is 0"),
        ({"flow_gt": Path("nowhere")}, InputError, "--flow-gt"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(made, tmp_path, change, error, words):
    workspace = made.workspace(tmp_path / "s")
    if "flow_gt" in change:
        publish(workspace, "fuse", lambda folder: None)
    with pytest.raises(error, match=words):
        evaluate(workspace, replace(made.options, **change))


def test_json_holds_no_numbers_json_does_not_know(made, tmp_path):
    nothing = made.workspace(tmp_path / "s", lambda f: (f.depth, f.depth > (99 if f.name == "000002" else 0)))
    result = evaluate(nothing, made.options)
    assert result["depth_frames"]["000002"]["all"]["abs_rel"] is None
    assert result["depth_frames"]["000002"]["all"]["completeness"] == 0
    json.dumps(result, allow_nan=False)
    format_scores(result)

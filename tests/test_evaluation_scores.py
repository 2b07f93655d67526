"""Each score against numbers made by hand, and against the published evaluators' where the definition is shared."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recon4d.errors import AlignmentError, EvaluationError
from recon4d.evaluation.affine_fit import AffineFit
from recon4d.evaluation.cloud_scores import refine_similarity, score_cloud
from recon4d.evaluation.depth_scores import RatioMedian, mean_scores, score_depth
from recon4d.evaluation.flow_scores import mean_flow_scores, score_flow
from recon4d.evaluation.mask_scores import MaskScores, pooled_mask_scores, score_mask
from recon4d.evaluation.report import as_plain
from recon4d.evaluation.sampling import nearest_at, on_grid, sample_whole
from recon4d.evaluation.temporal import SPAN, StabilityFrame, surface_flicker
from recon4d.evaluation.trajectory_scores import match_times, score_trajectory
from recon4d.evaluation.truth import Counting, match_rows
from recon4d.evaluation.video_depth_benchmark import benchmark_clip
from recon4d.formats.trajectories import read_tum
from recon4d.scene.camera import Camera
from recon4d.scene.recording import Frame, Recording
from recon4d.scene.transforms import Rigid3, Sim3

# -- depth -----------------------------------------------------------------------------------------------------------


def _row(*values: float) -> np.ndarray:
    return np.array([values], dtype=np.float32)


def test_depth_scores_by_hand():
    truth, estimate = _row(1, 2, 4, 0, 5), _row(1, 2.04, 2, 3, 0)  # the 4th has no truth, the 5th no estimate
    scores = score_depth(estimate, estimate > 0, truth, truth > 0)
    assert scores.abs_rel == pytest.approx((0 + 0.02 + 0.5) / 3, rel=1e-5)
    assert scores.sq_rel == pytest.approx((0 + 0.0016 / 2 + 4 / 4) / 3, rel=1e-4)
    assert scores.rmse == pytest.approx(np.sqrt((0.0016 + 4) / 3), rel=1e-5)
    logs = np.array([0, np.log(1.02), -np.log(2)])
    assert scores.rmse_log == pytest.approx(np.sqrt((logs**2).mean()), rel=1e-5)
    assert scores.log10 == pytest.approx(np.abs(logs).mean() / np.log(10), rel=1e-5)
    assert scores.silog == pytest.approx(100 * logs.std(), rel=1e-5)
    assert scores.i_rmse == pytest.approx(np.sqrt(((1 / 2.04 - 0.5) ** 2 + 0.25**2) / 3), rel=1e-5)
    assert (scores.delta1, scores.delta2, scores.delta3) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert scores.median_rel == pytest.approx(0.02, rel=1e-4)
    assert (scores.within_1, scores.within_5) == pytest.approx((1 / 4, 2 / 4))  # of all four pixels with truth
    assert (scores.within_1_present, scores.within_5_present) == pytest.approx((1 / 3, 2 / 3))
    assert (scores.completeness, scores.pixels) == (3 / 4, 4)


def test_delta_thresholds_are_powers_of_1_25_both_ways():
    truth = _row(1, 1, 1, 1, 1, 1)
    estimate = _row(1.24, 1 / 1.26, 1.55, 1 / 1.57, 1.95, 1 / 1.96)
    scores = score_depth(estimate, estimate > 0, truth, truth > 0)
    assert (scores.delta1, scores.delta2, scores.delta3) == pytest.approx((1 / 6, 3 / 6, 5 / 6))


def test_estimates_that_are_no_depth_count_as_missing():
    truth, estimate = _row(1, 1, 1, 1), _row(1, -1, 0, np.nan)
    assert score_depth(estimate, np.ones((1, 4), dtype=bool), truth, truth > 0).completeness == 1 / 4


def test_silog_ignores_scale():
    rng = np.random.default_rng(0)
    truth, estimate = rng.uniform(1, 5, (20, 20)), rng.uniform(1, 5, (20, 20))
    yes = np.ones((20, 20), dtype=bool)
    a, b = (score_depth(factor * estimate, yes, truth, yes).silog for factor in (1, 3))
    assert a == pytest.approx(b)


def test_mean_over_frames_counts_frames_not_pixels():
    small, large = np.ones((1, 2)), np.ones((10, 10))
    frames = [
        score_depth(1.1 * small, small > 0, small, small > 0),
        score_depth(1.3 * large, large > 0, large, large > 0),
        score_depth(small, small < 0, small, small > 0),  # no estimate at all
    ]
    clip = mean_scores(frames)
    assert clip.abs_rel == pytest.approx(0.2)  # of the two frames that have an error
    assert clip.completeness == pytest.approx(2 / 3)
    assert mean_scores([]) is None
    assert score_depth(small, small > 0, small, small < 0) is None


def test_median_ratio_of_the_clip_is_over_pixels_of_all_frames():
    median = RatioMedian()
    rng, everything = np.random.default_rng(1), []
    for count in (40, 31, 30):
        estimate, truth = rng.uniform(1, 2, (count, 7)), rng.uniform(2, 9, (count, 7))
        valid, known = rng.random((count, 7)) < 0.8, rng.random((count, 7)) < 0.9
        median.add(estimate, valid, truth, known)
        everything.append((truth / estimate)[valid & known])
    assert median.value() == pytest.approx(np.median(np.concatenate(everything)), rel=5e-3)
    single = RatioMedian()
    single.add(_row(0.123), np.ones((1, 1), dtype=bool), _row(4.56), np.ones((1, 1), dtype=bool))
    assert single.value() == pytest.approx(4.56 / 0.123, rel=2e-5)
    assert RatioMedian().value() is None


def test_affine_fit_in_pieces_equals_least_squares():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=300), rng.normal(size=300)
    fit = AffineFit()
    for rows in np.array_split(np.arange(300), 7):
        fit.add(x[rows], y[rows])
    np.testing.assert_allclose(fit.solve(), np.polyfit(x, y, 1), rtol=1e-9)


@pytest.mark.parametrize("x", [np.zeros(0), np.ones(1), np.full(9, 0.3)])
def test_affine_fit_that_is_not_determined_is_refused(x):
    fit = AffineFit()
    fit.add(x, x)
    with pytest.raises(EvaluationError, match="cannot be fitted"):
        fit.solve()


@pytest.mark.shared
def test_benchmark_reproduces_the_published_evaluator(shared_data):
    folder = shared_data / "golden" / "depthcrafter"
    clip, cases = np.load(folder / "metrics.npz"), json.loads((folder / "metrics_expected.json").read_text())
    ours = {
        "abs_relative_difference": "abs_rel",
        "squared_relative_difference": "sq_rel",
        "rmse_linear": "rmse",
        "rmse_log": "rmse_log",
        "log10": "log10",
        "delta1_acc": "delta1",
        "delta2_acc": "delta2",
        "delta3_acc": "delta3",
        "i_rmse": "i_rmse",
        "silog_rmse": "silog",
    }
    assert len(cases) == 5
    for case in cases.values():
        params, count = case["params"], min(case["params"]["seq_len"], len(clip["pred"]))
        domain = "disparity" if params.get("domain") == "disp" else "depth"
        scores = benchmark_clip(clip["pred"][:count], clip["gt_depth"][:count], params["dataset_max_depth"], domain)
        for theirs, value in case["metrics"].items():
            assert getattr(scores, ours[theirs]) == pytest.approx(value, rel=1e-6), theirs


def test_benchmark_takes_scale_and_shift_away_once_per_clip():
    rng = np.random.default_rng(3)
    truth = rng.uniform(1, 8, (3, 12, 16))
    assert benchmark_clip(0.2 / truth + 0.1, truth, 10.0).abs_rel < 1e-6
    drifting = np.stack([(0.2 + 0.05 * k) / g + 0.1 for k, g in enumerate(truth)])
    assert benchmark_clip(drifting, truth, 10.0).abs_rel > 0.05
    with pytest.raises(EvaluationError, match="2 frames of prediction"):
        benchmark_clip(drifting[:2], truth, 10.0)


# -- trajectory ------------------------------------------------------------------------------------------------------

SQUARE = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])


def _path(centres: np.ndarray, turns_deg=None) -> Rigid3:
    angles = np.radians(np.zeros(len(centres)) if turns_deg is None else turns_deg)
    c, s, zero, one = np.cos(angles), np.sin(angles), np.zeros(len(centres)), np.ones(len(centres))
    rotation = np.stack([np.stack(r, -1) for r in ([c, -s, zero], [s, c, zero], [zero, zero, one])], -2)
    return Rigid3(rotation, np.asarray(centres, dtype=float))


def test_ate_by_hand():
    # One corner of a unit square lifted by 4h: the best fit tilts and leaves +-h at the corners, to first order.
    h = 1e-3
    lifted = SQUARE + np.outer([4 * h, 0, 0, 0], [0, 0, 1])
    scores = score_trajectory(_path(lifted), _path(SQUARE))
    assert scores.ate.rmse == pytest.approx(h, rel=1e-2)
    assert scores.ate.max == pytest.approx(h, rel=1e-2)
    assert scores.path_length == pytest.approx(3)


def test_similarity_of_the_world_is_no_error():
    rng = np.random.default_rng(4)
    truth = Rigid3.from_quat_xyzw(rng.normal(size=(9, 4)), rng.normal(size=(9, 3)))
    other = Sim3(0.2, Rigid3.from_quat_xyzw([1.0, 2, 3, 4], np.zeros(3)).rotation, np.array([5.0, 6, 7]))
    estimate = other.apply_to_pose(truth.inverse()).inverse()
    scores = score_trajectory(estimate, truth)
    assert scores.ate.max < 1e-9
    assert scores.rpe_translation.max < 1e-9
    assert scores.rpe_rotation_deg.max < 1e-6
    assert scores.truth_from_estimate.scale == pytest.approx(5)


def test_relative_errors_by_hand():
    # The second camera is turned by 2 degrees too far and stays so: one step is wrong by 2 degrees, the others by none.
    scores = score_trajectory(_path(SQUARE, [0, 2, 2, 2]), _path(SQUARE))
    assert scores.rpe_rotation_deg.max == pytest.approx(2)
    assert scores.rpe_rotation_deg.median == pytest.approx(0, abs=1e-9)
    assert scores.rpe_rotation_deg.rmse == pytest.approx(2 / np.sqrt(3))
    # A step of 1 seen from a camera turned by 2 degrees points 2 sin(1 degree) beside the true one.
    assert scores.rpe_translation.max == pytest.approx(2 * np.sin(np.radians(1)))
    assert scores.ate.max < 1e-12


def test_path_on_a_line_is_refused():
    line = _path(np.outer(np.arange(5.0), [1, 1, 0]))
    with pytest.raises(AlignmentError, match="on one line"):
        score_trajectory(line, line)


def test_times_match_once_and_within_the_tolerance():
    ours, theirs = match_times(np.array([0.0, 0.1, 0.2, 0.3]), np.array([0.305, 0.11, 0.001, 0.09]), 0.02)
    np.testing.assert_array_equal(ours, [0, 1, 3])  # nothing near 0.2
    np.testing.assert_array_equal(theirs, [2, 1, 0])
    ours, theirs = match_times(np.array([0.0, 0.01]), np.array([0.008]), 0.02)  # both want the only one
    np.testing.assert_array_equal(ours, [1])
    ours, _ = match_times(np.array([5.0]), np.array([15.0, 16.0]), 0.02, shift_s=10.0)
    assert len(ours) == 1
    assert len(match_times(np.array([5.0]), np.array([9.0]), 0.02)[0]) == 0


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "poses", "scale", "ate", "rpe_m", "rpe_deg"),
    [  # rmse, median, max as the evo package 1.x gives them with --align --correct_scale, relative ones frame by frame
        (
            "rgbdslam",
            785,
            1.0080014,
            (0.013389, 0.011134, 0.034846),
            (0.005806, 0.004155, 0.021027),
            (0.353613, 0.262139, 1.633296),
        ),
        (
            "ORB_kf_mono",
            32,
            1.1056224,
            (0.009755, 0.007909, 0.027924),
            (0.013835, 0.011142, 0.030229),
            (0.884849, 0.652164, 1.739958),
        ),
    ],
)
def test_errors_of_real_trajectories_equal_those_of_evo(shared_data, name, poses, scale, ate, rpe_m, rpe_deg):
    folder = shared_data / "data" / "trajectories"
    truth_s, truth = read_tum(folder / "freiburg1_xyz-groundtruth.txt")
    times, estimate = read_tum(folder / f"freiburg1_xyz-{name}.txt")
    ours, theirs = match_times(times, truth_s, 0.01)
    scores = score_trajectory(estimate[ours], truth[theirs])
    assert scores.poses == poses
    assert scores.truth_from_estimate.scale == pytest.approx(scale, rel=1e-6)
    for errors, expected in ((scores.ate, ate), (scores.rpe_translation, rpe_m), (scores.rpe_rotation_deg, rpe_deg)):
        assert (errors.rmse, errors.median, errors.max) == pytest.approx(expected, abs=6e-7)


# -- temporal stability ----------------------------------------------------------------------------------------------


def _wall_frames(factors: list[float], moved_px: int = 0) -> list[StabilityFrame]:
    """A camera that slides along a wall 2 m away, whose estimate is wrong by a factor per frame."""
    camera = Camera(64, 48, 50.0, 50.0, 32.0, 24.0)
    wall, yes = np.full((48, 64), 2.0, dtype=np.float32), np.ones((48, 64), dtype=bool)
    poses = [Rigid3(np.eye(3), np.array([-moved_px * k * 2.0 / 50.0, 0, 0])) for k in range(len(factors))]
    return [StabilityFrame(camera, pose, f * wall, yes, wall, yes) for f, pose in zip(factors, poses)]


def test_flicker_by_hand():
    flicker = surface_flicker(_wall_frames([1.0, 1.02, 1.0, 1.02, 1.0]))
    assert flicker.relative == pytest.approx(np.std([0, 0.02, 0, 0.02, 0]), rel=1e-4)
    assert flicker.length == pytest.approx(2 * np.std([0, 0.02, 0, 0.02, 0]), rel=1e-4)
    assert flicker.points == 12 * 16
    with pytest.raises(ValueError, match="5 are needed"):
        surface_flicker(_wall_frames([1.0] * (SPAN - 1)))


def test_few_points_that_jump_move_the_mean_of_flicker_and_not_its_median():
    frames = _wall_frames([1.0, 1.02, 1.0, 1.02, 1.0])
    third = frames[2]
    jump = np.where(np.arange(64) < 16, 1.5, 1.0)[None, :] * third.estimate  # a quarter of the points
    frames[2] = StabilityFrame(third.camera, third.cam_from_world, jump, third.valid, third.truth, third.known)
    flicker = surface_flicker(frames)
    calm, jumping = np.std([0, 0.02, 0, 0.02, 0]), np.std([0, 0.02, 0.5, 0.02, 0])
    assert flicker.median == pytest.approx(calm, rel=1e-3)
    assert flicker.relative == pytest.approx(0.75 * calm + 0.25 * jumping, rel=1e-3)


def test_constant_error_and_motion_of_the_camera_are_no_flicker():
    assert surface_flicker(_wall_frames([1.3] * 5, moved_px=4)).relative < 1e-6


def test_error_fixed_to_the_picture_flickers_when_the_camera_moves():
    frames = _wall_frames([1.0] * 5, moved_px=4)
    ramp = 1 + 0.01 * np.arange(64, dtype=np.float32)[None, :] * np.ones((48, 1), dtype=np.float32)
    bent = [StabilityFrame(f.camera, f.cam_from_world, f.estimate * ramp, f.valid, f.truth, f.known) for f in frames]
    # A point moves by 4 px, so by 4 %, from frame to frame.
    assert surface_flicker(bent).relative == pytest.approx(0.04 * np.sqrt(2), rel=1e-3)


def test_hidden_points_do_not_count():
    frames = _wall_frames([1.0] * 5)
    front = np.where(np.arange(64) < 32, 1.0, 2.0).astype(np.float32)[None, :] * np.ones((48, 1), dtype=np.float32)
    hidden = frames[0]
    frames[0] = StabilityFrame(hidden.camera, hidden.cam_from_world, front, hidden.valid, front, hidden.known)
    flicker = surface_flicker(frames)
    assert flicker.relative < 1e-6
    assert flicker.points < 12 * 9
    never = np.zeros((48, 64), dtype=bool)
    frames[0] = StabilityFrame(hidden.camera, hidden.cam_from_world, front, never, front, hidden.known)
    assert surface_flicker(frames) is None


# -- cloud and flow --------------------------------------------------------------------------------------------------


def test_cloud_scores_by_hand():
    truth = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]])
    estimate = np.array([[0.0, 0.01, 0], [0.5, 0, 0], [1, 0.03, 0]]) / 2
    scores = score_cloud(estimate, truth, (0.02, 0.1), Sim3(2.0, np.eye(3), np.zeros(3)))
    assert scores.accuracy == pytest.approx((0.01 + 0.5 + 0.03) / 3)
    assert scores.completeness == pytest.approx((0.01 + 0.03 + np.hypot(1, 0.03) + np.hypot(2, 0.03)) / 4)
    fine, coarse = scores.at
    assert (fine.precision, fine.recall) == pytest.approx((1 / 3, 1 / 4))
    assert (coarse.precision, coarse.recall) == pytest.approx((2 / 3, 2 / 4))
    assert coarse.f_score == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
    with pytest.raises(EvaluationError, match="0 estimated"):
        score_cloud(np.zeros((0, 3)), truth, (0.1,), Sim3.identity())


def test_icp_finds_a_small_similarity_despite_points_without_partner():
    rng = np.random.default_rng(5)
    faces = [np.insert(rng.uniform(-1, 1, (3000, 2)), axis, side, axis=1) for axis, side in ((0, -1), (1, 1), (2, -1))]
    truth = np.concatenate(faces) * [1.0, 0.8, 0.6]
    moved = Sim3(
        1.03, Rigid3.from_quat_xyzw([0.01, -0.015, 0.02, 1], np.zeros(3)).rotation, np.array([0.02, 0.03, -0.02])
    )
    estimate = np.concatenate([moved.inverse() @ truth[::3], rng.uniform(2, 3, (200, 3))])
    found = refine_similarity(estimate, truth, Sim3.identity(), rounds=100)
    before = np.linalg.norm(estimate[:3000] - truth[::3], axis=1).mean()
    after = np.linalg.norm(found @ estimate[:3000] - truth[::3], axis=1).mean()
    assert after < 0.1 * before
    with pytest.raises(EvaluationError, match="3 are needed"):
        refine_similarity(estimate[:2], truth, Sim3.identity())


def test_icp_that_runs_away_is_refused():
    rng = np.random.default_rng(6)
    ball = rng.normal(size=(500, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    with pytest.raises(EvaluationError, match="ran away"):
        refine_similarity(3 * ball, ball, Sim3.identity())


def test_flow_scores_by_hand():
    truth = np.array([[[1.0, 0, 0], [0, 0.1, 0], [0, 0, 0]]])
    estimate = np.array([[[1.04, 0, 0], [0, 0.17, 0], [np.nan, 0, 0]]])
    scores = score_flow(estimate, truth, np.ones((1, 3), dtype=bool))
    assert scores.epe == pytest.approx((0.04 + 0.07 + 0) / 3)
    assert (scores.strict, scores.relaxed) == pytest.approx((2 / 3, 1))
    assert scores.truth_length == pytest.approx(1.1 / 3)
    assert scores.known == pytest.approx(2 / 3)
    assert score_flow(estimate, truth, np.zeros((1, 3), dtype=bool)) is None
    other = score_flow(truth, truth, np.ones((1, 3), dtype=bool))
    assert mean_flow_scores([scores, other]).epe == pytest.approx(scores.epe / 2)
    assert mean_flow_scores([]) is None


# -- matching, sampling, report --------------------------------------------------------------------------------------


def _recording(*source_indices: int) -> Recording:
    frames = tuple(Frame(f"{i:06d}", i, "clip.mp4", i / 30, 0) for i in source_indices)
    return Recording(frames, (None,) * len(frames), (None,) * len(frames))


def test_rows_match_by_name_by_count_and_by_given_names():
    recording = _recording(0, 3, 6, 9)
    assert match_rows(recording, 2, ("000003", "000006"), Counting(), "x").row_of == {"000003": 0, "000006": 1}
    counted = match_rows(recording, 3, ("84", "87", "90"), Counting(offset=3, stride=3), "x")
    assert counted.row_of == {"000003": 0, "000006": 1, "000009": 2}
    assert "source frame 3 + 3 k" in counted.rule
    given = match_rows(recording, 2, ("a", "b"), Counting(names=("000009", "000000")), "x")
    assert given.row_of == {"000009": 0, "000000": 1}
    with pytest.raises(EvaluationError, match="names 1 rows, x has 2"):
        match_rows(recording, 2, None, Counting(names=("000009",)), "x")
    with pytest.raises(EvaluationError, match="none of the frames 000000 to 000009"):
        match_rows(recording, 2, ("a", "b"), Counting(), "x")


def test_pictures_of_a_folder_match_by_the_stem_of_their_file():
    frames = (Frame("img_1", 0, "img_1.jpg", 0.0, 0), Frame("img-2 a", 1, "img-2 a.png", 1.0, 0))
    recording = Recording(frames, (None, None), (None, None))
    assert match_rows(recording, 1, ("img-2 a",), Counting(), "x").row_of == {"img-2 a": 0}


def test_lookup_between_pixels_does_not_bridge_holes():
    values, valid = np.array([[1.0, 3.0, 5.0]] * 2), np.array([[True, True, False]] * 2)
    sampled, known = sample_whole(values, valid, np.array([1.0, 1.7, 2.0]), np.array([1.0, 1.0, 1.0]))
    assert sampled[0] == pytest.approx(2.0)
    np.testing.assert_array_equal(known, [True, False, False])
    same, _ = on_grid(values, valid, values.shape)
    assert same is values
    halves, known = on_grid(np.arange(16.0).reshape(4, 4), np.ones((4, 4), dtype=bool), (2, 2))
    np.testing.assert_allclose(halves, [[2.5, 4.5], [10.5, 12.5]])
    assert known.all()


def test_nearest_lookup_by_hand():
    grid = np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    found = nearest_at(grid, np.array([0.1, 1.9, 2.0, -0.1, np.nan]), np.array([0.9, 1.0, 0.0, 0.0, 0.0]))
    np.testing.assert_array_equal(found, [[1, 2], [7, 8], [0, 0], [0, 0], [0, 0]])


def test_result_as_plain_data():
    value = {"a": np.float32(1.5), "b": float("nan"), "c": (np.arange(2), None), "d": Sim3.identity()}
    plain = as_plain(value)
    assert plain["a"] == 1.5
    assert plain["b"] is None
    assert plain["c"] == [[0, 1], None]
    assert plain["d"]["scale"] == 1.0
    json.dumps(plain, allow_nan=False)


# -- masks -----------------------------------------------------------------------------------------------------------


def _mask(text: str) -> np.ndarray:
    """(1, W) bool, # where it is true."""
    return np.array([[letter == "#" for letter in text]])


def test_mask_scores_by_hand():
    scores = score_mask(_mask("###......."), _mask("..##......"))  # 1 of both, 4 of either, 8 static of which 2 wrong
    assert scores == MaskScores(iou=1 / 4, precision=1 / 3, recall=1 / 2, false_alarms=2 / 8)
    assert score_mask(_mask("#.#."), _mask("#.#.")) == MaskScores(1, 1, 1, 0)


def test_masks_of_several_frames_are_pooled_not_averaged():
    estimates, truths = [_mask("####"), _mask("#..."), _mask("....")], [_mask("####"), _mask(".##."), _mask("...#")]
    scores = pooled_mask_scores(estimates, truths)
    assert scores == MaskScores(iou=4 / 8, precision=4 / 5, recall=4 / 7, false_alarms=1 / 5)


def test_mask_scores_of_nothing_are_none_not_zero():
    nothing, everything = _mask("...."), _mask("####")
    assert score_mask(nothing, nothing) == MaskScores(None, None, None, 0)
    assert score_mask(nothing, everything) == MaskScores(0, None, 0, None)
    assert score_mask(everything, nothing) == MaskScores(0, 0, None, 1)
    assert pooled_mask_scores([], []) == MaskScores(None, None, None, None)
    with pytest.raises(ValueError, match="same shape"):
        score_mask(_mask("..."), nothing)

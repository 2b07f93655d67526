"""The protocol of the video depth benchmarks: frame by frame, with holes, and from the command's options."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from true_scene import COUNT, Made, publish

from recon4d.errors import EvaluationError, WorkspaceError
from recon4d.evaluation.report import format_scores
from recon4d.evaluation.video_depth_benchmark import BenchmarkFrame, benchmark_clip, benchmark_frames
from recon4d.formats.arrays import write_depth_map
from recon4d.scene.depth import DepthKind, DepthMap
from recon4d.stages.evaluate import EvaluateOptions, evaluate


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    return Made(tmp_path_factory.mktemp("made"))


def with_source(made, folder, kind, values, valid=lambda z: z > 0):
    """A scene with depth of its own kind for every frame; ``values`` of true z and the frame's number."""
    workspace = made.workspace(folder)

    def fill(part):
        for k, frame in enumerate(made.frames):
            z = frame.depth
            depth = DepthMap(kind, values(z, k), valid(z), np.ones(z.shape), np.ones(z.shape))
            write_depth_map(part / f"{frame.name}.npz", depth)

    publish(workspace, "depth/mine", fill, kind=kind.value)
    return workspace


def options_of(made, max_depth=8.0, **others):
    files, unit = made.files, made.options.depth_gt_scale
    return EvaluateOptions(
        depth_gt=files.depth, depth_gt_scale=unit, protocol="video-depth", max_depth=max_depth, **others
    )


def test_by_hand_two_frames_of_one_pixel_each_count_alike_however_many_pixels_they_have():
    truth = [np.full((4, 4), 2.0), np.full((4, 4), 4.0)]
    truth[1][1:] = 0  # 4 pixels instead of 16
    # Disparity 1/2 and 1/4 is said as 0.9 and 0.4, and once wrongly: the fit is exact but for the pixels that are off.
    prediction = [np.full((4, 4), 0.9), np.full((4, 4), 0.4)]
    assert benchmark_clip(prediction, truth, 10.0).abs_rel == pytest.approx(0, abs=1e-6)
    bad = [prediction[0].copy(), prediction[1]]
    bad[0][0, 0] = 0.4
    found = benchmark_frames(lambda: map(BenchmarkFrame, bad, truth), 10.0)
    gain, shift = np.polyfit(np.r_[[0.9] * 15, [0.4] * 5], np.r_[[0.5] * 16, [0.25] * 4], 1)
    assert (found.gain, found.shift) == pytest.approx((gain, shift), rel=1e-5)
    near, far = 1 / (0.9 * gain + shift), 1 / (0.4 * gain + shift)
    frames = [(15 * abs(near - 2) / 2 + abs(far - 2) / 2) / 16, abs(far - 4) / 4]
    assert found.scores.abs_rel == pytest.approx(np.mean(frames), rel=1e-5)


def test_pixels_without_prediction_count_in_nothing_but_completeness():
    rng = np.random.default_rng(1)
    truth = rng.uniform(1, 8, (3, 12, 16))
    wrong, valid = 0.2 / truth + 0.1, np.ones(truth.shape, dtype=bool)
    wrong[:, :4], valid[:, :4] = 77.0, False
    found = benchmark_frames(lambda: map(BenchmarkFrame, wrong, truth, valid), 10.0).scores
    assert found.abs_rel < 1e-6
    assert found.delta1 == 1
    assert found.completeness == pytest.approx(8 / 12)


@pytest.mark.shared
def test_depth_seen_frame_by_frame_scores_as_published(shared_data):
    folder = shared_data / "golden" / "depthcrafter"
    clip, cases = np.load(folder / "metrics.npz"), json.loads((folder / "metrics_expected.json").read_text())
    for case in cases.values():
        params, count = case["params"], min(case["params"]["seq_len"], len(clip["pred"]))
        pairs = list(zip(clip["pred"][:count], clip["gt_depth"][:count]))
        domain = "disparity" if params.get("domain") == "disp" else "depth"
        found = benchmark_frames(
            lambda pairs=pairs: (BenchmarkFrame(*p) for p in pairs), params["dataset_max_depth"], domain
        )
        for theirs, ours in (("abs_relative_difference", "abs_rel"), ("rmse_linear", "rmse"), ("delta1_acc", "delta1")):
            assert getattr(found.scores, ours) == pytest.approx(case["metrics"][theirs], rel=1e-6), theirs


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (DepthKind.AFFINE_DISPARITY, lambda z, k: 30 / z - 500),
        (DepthKind.SCALE_FREE_DISPARITY, lambda z, k: 0.3 / z),
        (DepthKind.SCALE_FREE_Z, lambda z, k: 7 * z),
        (DepthKind.METRIC_Z, lambda z, k: z),
    ],
)
def test_true_depth_of_any_kind_scores_perfectly_whatever_its_unit_and_offset(made, tmp_path, kind, values):
    result = evaluate(with_source(made, tmp_path / "s", kind, values), options_of(made))
    found = result["benchmark"]
    assert found["scores"]["abs_rel"] < 2e-3  # truth is in millimetres, and what is farthest is cut to 1e-3
    assert (found["scores"]["delta1"], found["frames"], found["unit"]) == (1.0, COUNT, "depth/mine")
    assert "depth" not in result
    assert "AbsRel 0.00" in format_scores(result)


def test_one_pixel_of_almost_no_depth_does_not_ruin_the_score(made, tmp_path):
    def with_one_bad_pixel(z, k):
        z = z.astype(np.float32)
        z[5, 7] = 1e-4 if k == 1 else z[5, 7]
        return z

    workspace = with_source(made, tmp_path / "s", DepthKind.METRIC_Z, with_one_bad_pixel)
    assert evaluate(workspace, options_of(made))["benchmark"]["scores"]["abs_rel"] < 0.01


def test_one_scale_for_the_clip_shows_what_one_a_frame_would_hide(made, tmp_path):
    drifting = with_source(made, tmp_path / "s", DepthKind.AFFINE_DISPARITY, lambda z, k: (1 + 0.2 * k) / z)
    assert evaluate(drifting, options_of(made))["benchmark"]["scores"]["abs_rel"] > 0.05


def test_truth_beyond_the_far_end_does_not_count_but_near_truth_does(made, tmp_path):
    workspace = with_source(made, tmp_path / "s", DepthKind.METRIC_Z, lambda z, k: z)
    all_of_it = evaluate(workspace, options_of(made, max_depth=80.0))["benchmark"]["scores"]["pixels"]
    half = float(np.median(np.concatenate([frame.depth.ravel() for frame in made.frames])))
    near = evaluate(workspace, options_of(made, max_depth=half, min_depth=5.0))["benchmark"]["scores"]["pixels"]
    assert near == pytest.approx(all_of_it / 2, rel=0.02)


def test_what_the_protocol_cannot_score_is_refused(made, tmp_path):
    workspace = with_source(made, tmp_path / "s", DepthKind.AFFINE_Z, lambda z, k: 2 * z - 1)
    for options, words in (
        (options_of(made), "affine_z"),
        (options_of(made, stage="align"), "leave --stage out"),
        (replace(options_of(made), depth_gt=None), "--depth-gt"),
        (options_of(made, max_depth=0.0), "--max-depth"),
        (options_of(made, max_depth=None), "--max-depth"),
    ):
        with pytest.raises(EvaluationError, match=words):
            evaluate(workspace, options)
    with pytest.raises(WorkspaceError, match="no depth of the source 'others'"):
        evaluate(workspace, options_of(made, source="others"))
    flat = with_source(made, tmp_path / "f", DepthKind.SCALE_FREE_Z, lambda z, k: np.full(z.shape, 2.0))
    with pytest.raises(EvaluationError, match="is the same"):
        evaluate(flat, options_of(made))

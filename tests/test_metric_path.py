"""Scale from a metric path: robust, also on a line, with errors that hang together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recon4d.errors import AlignmentError
from recon4d.formats.trajectories import read_tum
from recon4d.geometry.similarity import fit_similarity, fit_similarity_robust
from recon4d.metric.drift import scale_sigma
from recon4d.metric.path import path_scale, positions_at, trajectory_cue
from recon4d.metric.scale import NoCue
from recon4d.scene.transforms import Rigid3, Sim3

METRIC = Sim3(0.4, Rigid3.from_quat_xyzw([0.3, -0.2, 0.5, 0.7], np.zeros(3)).rotation, np.array([3.0, -2, 1]))


def arc(count: int) -> np.ndarray:
    t = np.linspace(0, 2, count)
    return np.stack([3 * np.cos(t), 0.3 * np.sin(5 * t), 2 * np.sin(t)], axis=1)


def test_without_outliers_the_robust_fit_is_the_least_squares_fit():
    a = arc(40)
    robust = fit_similarity_robust(a, METRIC @ a)
    np.testing.assert_allclose(robust.b_from_a.matrix, METRIC.matrix, atol=1e-9)
    assert robust.correlation2 == pytest.approx(1.0)
    noisy = METRIC @ a + np.random.default_rng(0).normal(scale=1e-3, size=a.shape)
    assert fit_similarity_robust(a, noisy).b_from_a.scale == pytest.approx(fit_similarity(a, noisy).scale, rel=1e-3)


def test_two_fifths_of_wrong_positions_do_not_move_it():
    rng, a = np.random.default_rng(1), arc(50)
    b = METRIC @ a + rng.normal(scale=2e-3, size=a.shape)
    wrong = rng.permutation(50)[:20]
    b[wrong] += rng.normal(scale=1.0, size=(20, 3)) + 0.5
    robust = fit_similarity_robust(a, b)
    np.testing.assert_allclose(robust.b_from_a.matrix, METRIC.matrix, atol=8e-3)
    assert robust.sigma == pytest.approx(2e-3, rel=1.0)  # of the right ones, not of all
    assert robust.weights[wrong].max() < 0.1


def test_points_on_a_line_still_give_their_scale():
    a = np.outer(np.linspace(-1, 1, 30), [1.0, 2, -1])
    assert fit_similarity_robust(a, METRIC @ a).b_from_a.scale == pytest.approx(0.4)
    found = path_scale(a, METRIC @ a + np.random.default_rng(2).normal(scale=0.01, size=a.shape))
    assert found.metres_per_unit == pytest.approx(0.4, rel=0.02)


@pytest.mark.parametrize(("a", "words"), [(np.zeros((2, 3)), "at least 3"), (np.ones((5, 3)), "one place")])
def test_unusable_paths_are_refused(a, words):
    with pytest.raises(AlignmentError, match=words):
        fit_similarity_robust(a, a)
    with pytest.raises(NoCue, match=words):
        path_scale(a, a)


def test_positions_between_samples_by_hand():
    times, positions = np.array([0.0, 0.4, 2.0, 2.2]), np.array([[0.0, 0, 0], [4, 0, 0], [5, 0, 0], [5, 2, 0]])
    wanted = np.array([-0.1, 0.0, 0.1, 0.4, 1.0, 2.0, 2.1, 2.2, 2.3])
    found, rows = positions_at(wanted, times, positions)
    np.testing.assert_array_equal(rows, [1, 2, 3, 5, 6, 7])  # 1.0 lies in a gap of 1.6 s
    np.testing.assert_allclose(found, [[0, 0, 0], [1, 0, 0], [4, 0, 0], [5, 0, 0], [5, 1, 0], [5, 2, 0]])
    shuffled, _ = positions_at(wanted, times[[2, 0, 3, 1]], positions[[2, 0, 3, 1]])
    np.testing.assert_allclose(shuffled, found)


def coverage(noise, rounds: int, count: int = 60) -> tuple[float, float]:
    a, logs, sigmas = arc(count), [], []
    for _ in range(rounds):
        b = METRIC @ a + noise(count)
        found = fit_similarity(a, b)
        moved = found.scale * (a - a.mean(axis=0)) @ found.rotation.T
        logs.append(np.log(found.scale / 0.4))
        sigmas.append(scale_sigma(moved, b - found @ a))
    return float(np.mean(np.abs(logs) < 1.96 * np.array(sigmas))), float(np.median(sigmas) / np.std(logs))


def test_the_interval_holds_for_white_errors():
    rng = np.random.default_rng(3)
    held, ratio = coverage(lambda count: rng.normal(scale=0.05, size=(count, 3)), 60)
    assert held >= 0.93
    assert ratio < 1.7


def test_the_interval_knows_of_drift():
    """Residuals of a drifting path taken as independent would claim a third of the true error."""
    rng = np.random.default_rng(4)
    held, ratio = coverage(lambda count: 0.02 * np.cumsum(rng.normal(size=(count, 3)), axis=0), 60)
    assert held >= 0.72
    assert ratio > 0.6


def test_too_little_motion_gives_no_cue():
    rng = np.random.default_rng(5)
    still = 0.01 * arc(30)
    with pytest.raises(NoCue, match="too much for a scale"):
        trajectory_cue(still, METRIC @ still + rng.normal(scale=0.02, size=(30, 3)), "robot.tum")
    with pytest.raises(NoCue, match="5 frames have a position"):
        trajectory_cue(arc(5), arc(5), "robot.tum")


def test_unit_of_the_scene_scales_the_answer_and_not_its_error():
    rng, a = np.random.default_rng(6), arc(40)
    b = METRIC @ a + rng.normal(scale=0.02, size=a.shape)
    one, other = trajectory_cue(a, b, "x"), trajectory_cue(10 * a, b, "x")
    assert other.metres_per_unit == pytest.approx(one.metres_per_unit / 10)
    assert other.sigma == pytest.approx(one.sigma, rel=1e-6)


@pytest.mark.shared
def test_a_real_path_without_scale_gets_one_from_motion_capture(shared_data: Path):
    times, poses = read_tum(shared_data / "data" / "trajectories" / "freiburg1_xyz-groundtruth.txt")
    keyframes, slam = read_tum(shared_data / "data" / "trajectories" / "freiburg1_xyz-ORB_kf_mono.txt")
    positions, rows = positions_at(keyframes, times, poses.translation)
    cue = trajectory_cue(slam.translation[rows], positions, "groundtruth")
    assert len(rows) > 20
    assert cue.sigma < 0.02
    whole = fit_similarity(slam.translation[rows], positions).scale
    assert abs(np.log(cue.metres_per_unit / whole)) < 1.96 * cue.sigma
    halves = [path_scale(slam.translation[rows[k]], positions[k]) for k in np.array_split(np.arange(len(rows)), 2)]
    apart = abs(np.log(halves[0].metres_per_unit / halves[1].metres_per_unit))
    assert apart < 2.5 * np.hypot(halves[0].noise_sigma, halves[1].noise_sigma)

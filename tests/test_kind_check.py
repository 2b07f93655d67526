"""The sign of a rank correlation tells depth from disparity; weak evidence tells nothing."""

import numpy as np
import pytest
from true_scene import Made

from recon4d.depth.kind_check import KindEvidence, kind_evidence, rank_correlation
from recon4d.scene.depth import DepthKind, DepthMap
from recon4d.stages.depth_check import KindVerdict, check_kind, sample_names


def test_ranks_by_hand():
    assert rank_correlation(np.array([1, 2, 3, 9]), np.array([10, 20, 25, 26])) == pytest.approx(1.0)
    assert rank_correlation(np.array([1, 2, 3]), np.array([9, 4, 1])) == pytest.approx(-1.0)
    # ranks 1 2 3 4 against 2 1 4 3: 1 - 6 * 4 / (4 * 15) = 0.6
    assert rank_correlation(np.array([1, 2, 3, 4]), np.array([20, 10, 40, 30])) == pytest.approx(0.6)
    # equal numbers share a rank: 1.5 1.5 3 against 1 2 3, Pearson of the ranks
    assert rank_correlation(np.array([5, 5, 7]), np.array([1, 2, 3])) == pytest.approx(np.sqrt(3) / 2)
    assert rank_correlation(np.ones(4), np.arange(4)) == 0.0


def frames(count: int, points: int, noise: float, sign: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(3)
    z = [rng.uniform(1, 5, points) for _ in range(count)]
    return [sign * np.log(d) + rng.normal(0, noise, points) for d in z], z


@pytest.mark.parametrize(("sign", "farther"), [(1.0, True), (-1.0, False)])
def test_the_sign_is_found_whatever_the_scale_and_bend(sign, farther):
    values, z = frames(6, 40, 0.2, sign)
    assert kind_evidence(values, z).larger_is_farther is farther
    assert kind_evidence([np.exp(3 * v) for v in values], z) == kind_evidence(values, z)


def test_a_wrong_frame_does_not_turn_the_answer():
    values, z = frames(7, 40, 0.2, 1.0)
    values[2] = -values[2]
    found = kind_evidence(values, z)
    assert found.larger_is_farther is True
    assert found.agreeing == pytest.approx(6 / 7)


def test_weak_evidence_says_nothing():
    assert kind_evidence(*frames(5, 24, 0.1, 1.0)) is None  # too few points in every frame
    assert kind_evidence(*frames(3, 30, 0.1, 1.0)).larger_is_farther is None  # 90 points in all
    assert kind_evidence(*frames(6, 40, 5.0, 1.0)).larger_is_farther is None  # noise
    assert KindEvidence(-0.8, 0.75, 4, 1000).larger_is_farther is None  # the frames contradict each other
    assert KindEvidence(-0.8, 0.8, 5, 1000).larger_is_farther is False


def test_poses_without_points_have_no_say(tmp_path):
    made = Made(tmp_path)
    workspace = made.workspace(tmp_path / "scene")
    assert sample_names(workspace) == ()
    grid = np.ones((4, 4), dtype=np.float32)
    sample = [(name, DepthMap(DepthKind.METRIC_Z, grid, grid > 0, grid, grid)) for name in made.trajectory.names]
    assert check_kind(workspace, DepthKind.METRIC_Z, True, sample) == KindVerdict(DepthKind.METRIC_Z, changed=False)

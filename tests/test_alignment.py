"""Robust fits of relative depth to sparse points."""

import numpy as np
import pytest

from recon4d.errors import AlignmentError
from recon4d.geometry.alignment import (
    RANSAC_POINTS,
    depth_balance,
    fit_frame,
    rank_agreement,
    to_domain,
    z_from_values,
)
from recon4d.scene.depth import DepthKind

FITTED = [kind for kind in DepthKind if kind.has_gain]


def values_of(z: np.ndarray, kind: DepthKind, gain: float, shift: float) -> np.ndarray:
    return (to_domain(z, kind) - (shift if kind.has_shift else 0.0)) / gain


def test_line_by_hand():
    z = np.array([1.0, 2.0, 4.0])
    d = np.array([0.9, 0.4, 0.15])  # 1/z = d + 0.1
    fit = fit_frame(d, z, DepthKind.AFFINE_DISPARITY)
    assert fit.gain == pytest.approx(1.0)
    assert fit.shift == pytest.approx(0.1)
    np.testing.assert_allclose(z_from_values(d, fit.gain, fit.shift, DepthKind.AFFINE_DISPARITY), z)


@pytest.mark.parametrize("kind", FITTED)
def test_every_kind_is_fitted_in_its_own_domain(kind):
    z = np.random.default_rng(0).uniform(0.5, 6.0, 200)
    d = values_of(z, kind, gain=0.7, shift=0.05)
    fit = fit_frame(d, z, kind)
    np.testing.assert_allclose(z_from_values(d, fit.gain, fit.shift, kind), z, rtol=1e-9)


@pytest.mark.parametrize("kind", FITTED)
def test_a_third_of_wild_points_changes_little(kind):
    rng = np.random.default_rng(1)
    z = rng.uniform(0.5, 6.0, 300)
    d = values_of(z * rng.normal(1, 0.01, 300), kind, gain=0.7, shift=0.05)
    d[:100] = rng.uniform(d.min(), d.max(), 100)
    fit = fit_frame(d, z, kind)
    error = np.abs(z_from_values(d[100:], fit.gain, fit.shift, kind) / z[100:] - 1)
    assert np.median(error) < 0.02
    assert 180 < fit.inliers < 240


def test_gain_follows_the_unit_of_the_depth():
    z = np.random.default_rng(2).uniform(1, 5, 50)
    d = values_of(z, DepthKind.AFFINE_DISPARITY, 0.7, 0.2)
    one, thousand = (fit_frame(s * d, z, DepthKind.AFFINE_DISPARITY) for s in (1.0, 1000.0))
    assert one.gain == pytest.approx(1000 * thousand.gain)
    assert one.shift == pytest.approx(thousand.shift)


def test_depth_the_wrong_way_round_is_refused():
    z = np.random.default_rng(3).uniform(1, 5, 50)
    with pytest.raises(AlignmentError, match="fall"):
        fit_frame(z, z, DepthKind.AFFINE_DISPARITY)


@pytest.mark.parametrize("kind", list(DepthKind))
def test_rank_agreement_tells_the_wrong_way_round(kind):
    z = np.random.default_rng(5).uniform(1, 5, 40)
    d = values_of(z, kind, 0.7, 0.1)
    assert rank_agreement(d, z, kind) == pytest.approx(1.0)
    assert rank_agreement(-3 * d + 7, z, kind) == pytest.approx(-1.0)


def test_one_point_is_too_few_for_gain_and_shift():
    with pytest.raises(AlignmentError, match="2 are needed"):
        fit_frame(np.ones(1), np.ones(1), DepthKind.AFFINE_DISPARITY)


def test_disparity_below_zero_is_infinitely_far_not_negative():
    z = z_from_values(np.array([-1.0, 0.5]), 1.0, 0.0, DepthKind.AFFINE_DISPARITY)
    assert np.isinf(z[0])
    assert z[1] == 2.0


def test_depth_balance_by_hand():
    """Nine points near, three far: a point's weight is one over the root of how many share its depth."""
    z = np.r_[np.full(9, 1.0), np.full(3, np.e)]
    mean = (9 / 3 + 3 / np.sqrt(3)) / 12
    np.testing.assert_allclose(depth_balance(z), np.r_[np.full(9, 1 / 3), np.full(3, 1 / np.sqrt(3))] / mean)


def test_depth_balance_is_by_ratios_and_keeps_the_mean():
    z = np.random.default_rng(6).lognormal(0.5, 0.6, 400)
    weights = depth_balance(z)
    assert weights.mean() == pytest.approx(1.0)
    np.testing.assert_allclose(depth_balance(1000 * z), weights)
    np.testing.assert_allclose(depth_balance(z[::-1]), weights[::-1])
    middle = np.abs(np.log(z) - 0.5) < 0.1
    assert weights[middle].mean() < weights[np.argsort(z)[[0, 1, -2, -1]]].min()


@pytest.mark.parametrize("count", [1, 2, 50])
def test_constant_depth_needs_no_balance(count):
    np.testing.assert_array_equal(depth_balance(np.full(count, 2.0)), 1.0)


def test_a_near_rug_does_not_outvote_the_room():
    """300 points near say gain 1, 30 far say 1.05: ten times as many count for three times as much, not for ten."""
    said = np.r_[np.full(300, 1.0), np.full(30, 1.05)]
    z = np.r_[np.full(300, 1.0), np.full(30, 4.0)]
    d = z / said * np.tile([0.9, 1.1], 165)
    share = np.sqrt(30) / (np.sqrt(30) + np.sqrt(300))
    gain = fit_frame(d, z, DepthKind.METRIC_Z).gain / fit_frame(d[:300], z[:300], DepthKind.METRIC_Z).gain
    assert gain == pytest.approx(1 + 0.05 * share, abs=0.003)


def many(count, seed=7):
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.5, 6.0, count)
    d = values_of(z * rng.normal(1, 0.02, count), DepthKind.AFFINE_DISPARITY, 0.7, 0.05)
    d[: count // 4] = rng.uniform(d.min(), d.max(), count // 4)
    return d, z


def test_many_points_start_from_a_random_few_that_are_always_the_same():
    d, z = many(5 * RANSAC_POINTS)
    one, again = (fit_frame(d, z, DepthKind.AFFINE_DISPARITY) for _ in range(2))
    assert (one.gain, one.shift, one.sigma) == (again.gain, again.shift, again.sigma)
    assert len(one.weights) == len(d)
    assert one.gain == pytest.approx(0.7, rel=0.02)


def test_the_start_does_not_decide_the_fit():
    d, z = many(5 * RANSAC_POINTS)
    fits = [fit_frame(d, z, DepthKind.AFFINE_DISPARITY, seed=seed) for seed in range(4)]
    np.testing.assert_allclose([fit.gain for fit in fits], fits[0].gain, rtol=1e-3)


def test_points_that_lie_on_no_line_weigh_little():
    d, z = many(400)
    fit = fit_frame(d, z, DepthKind.AFFINE_DISPARITY)
    off = np.abs((fit.gain * d + fit.shift) * z - 1) > 0.3
    balance = depth_balance(z)
    assert (fit.weights[off] < 0.05 * balance[off]).all()
    assert fit.weights[~off].mean() > 0.5
    assert fit.sigma == pytest.approx(0.02, rel=0.6)


@pytest.mark.parametrize("kind", FITTED)
def test_two_points_give_the_line_through_them(kind):
    z = np.array([1.0, 3.0])
    fit = fit_frame(values_of(z, kind, 0.7, 0.05), z, kind)
    assert fit.gain == pytest.approx(0.7)
    assert fit.shift == pytest.approx(0.05 if kind.has_shift else 0.0)


@pytest.mark.parametrize("kind", FITTED)
def test_no_points_are_too_few(kind):
    with pytest.raises(AlignmentError, match=r"^align: 0 sparse points on valid depth"):
        fit_frame(np.zeros(0), np.zeros(0), kind)


def test_constant_values_tell_no_line():
    z = np.random.default_rng(8).uniform(1, 5, 50)
    with pytest.raises(AlignmentError, match="fall"):
        fit_frame(np.full(50, 0.3), z, DepthKind.AFFINE_DISPARITY)
    assert rank_agreement(np.full(50, 0.3), z, DepthKind.AFFINE_DISPARITY) == 0.0


def test_structure_at_one_depth_still_fixes_a_gain():
    z = np.full(50, 2.0)
    assert fit_frame(np.full(50, 4.0), z, DepthKind.METRIC_Z).gain == pytest.approx(0.5)


def test_equal_values_share_their_rank_whatever_the_order_of_the_points():
    d, z = np.array([1.0, 1.0, 2.0, 2.0]), np.array([4.0, 3.0, 2.0, 1.0])
    for order in ([0, 1, 2, 3], [1, 0, 3, 2], [3, 1, 2, 0]):
        # ranks 1.5 1.5 3.5 3.5 against 1 2 3 4: covariance 1, deviations 1 and sqrt(1.25)
        assert rank_agreement(d[order], z[order], DepthKind.AFFINE_DISPARITY) == pytest.approx(1 / np.sqrt(1.25))

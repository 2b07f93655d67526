"""Robust fits of relative depth to sparse points."""

import numpy as np
import pytest

from recon4d.errors import AlignmentError
from recon4d.geometry.alignment import fit_frame, rank_agreement, smooth_fits, to_domain, z_from_values
from recon4d.geometry.levelling import levelled_from_cameras
from recon4d.scene.depth import DepthKind
from recon4d.scene.transforms import Rigid3
from recon4d.stages.align import metric_scale

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


def clip(gains: np.ndarray, kind: DepthKind, missing: tuple[int, ...] = ()) -> tuple[list, list]:
    rng = np.random.default_rng(4)
    samples, fits = [], []
    for i, gain in enumerate(gains):
        z = rng.uniform(1, 5, 0 if i in missing else 80)
        d = values_of(z * rng.normal(1, 0.02, len(z)), kind, gain, 0.1)
        samples.append((d, z))
        fits.append(fit_frame(d, z, kind) if len(z) else None)
    return samples, fits


@pytest.mark.parametrize("kind", [DepthKind.AFFINE_DISPARITY, DepthKind.SCALE_FREE_Z])
def test_loose_smoothing_keeps_the_frames_own_fits(kind):
    gains = np.array([0.5, 0.8, 0.6, 0.9])
    samples, fits = clip(gains, kind)
    fit = smooth_fits(samples, fits, kind, step=100.0)
    np.testing.assert_allclose(fit.gain, [f.gain for f in fits], rtol=5e-3)


@pytest.mark.parametrize("kind", [DepthKind.AFFINE_DISPARITY, DepthKind.SCALE_FREE_Z])
def test_stiff_smoothing_gives_one_gain(kind):
    samples, fits = clip(np.array([0.68, 0.7, 0.72]), kind)
    fit = smooth_fits(samples, fits, kind, step=1e-5)
    np.testing.assert_allclose(fit.gain, 0.7, rtol=0.02)
    assert np.ptp(fit.gain) < 1e-3


def test_frames_without_points_lie_between_their_neighbours():
    samples, fits = clip(np.array([0.6, 0.6, 0.8, 0.8]), DepthKind.AFFINE_DISPARITY, missing=(1, 2))
    fit = smooth_fits(samples, fits, DepthKind.AFFINE_DISPARITY, step=0.05)
    steps = np.diff(fit.gain)
    np.testing.assert_allclose(steps, steps.mean(), rtol=1e-6)  # a random walk without data is a straight line


def test_no_frame_with_points_is_refused():
    empty = np.zeros(0)
    with pytest.raises(AlignmentError, match="no frame"):
        smooth_fits([(empty, empty)], [None], DepthKind.SCALE_FREE_Z, 0.1)


def test_metric_depth_tells_the_scale_by_hand():
    scale = metric_scale(np.full(10, 4.0), DepthKind.METRIC_Z)  # z = 4 units per metre
    assert scale["metres_per_unit"] == pytest.approx(0.25)
    half = 1.96 * 0.02  # gains that agree leave the structure's own 2 %
    assert scale["interval_95"] == pytest.approx([0.25 * np.exp(-half), 0.25 * np.exp(half)])
    assert metric_scale(np.ones(3), DepthKind.AFFINE_DISPARITY)["metres_per_unit"] is None


def looking(yaw: float, pitch: float) -> np.ndarray:
    """cam_from_world rotation of a level camera in a z-up world."""
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    return np.stack([right, np.cross(forward, right), forward])


@pytest.mark.parametrize("yaws", [np.linspace(0, 1.5, 9), np.linspace(0, 0.02, 9)])
def test_up_is_found_though_the_camera_looks_down(yaws):
    pitch = -0.3 if np.ptp(yaws) > 1 else 0.0
    tilt = Rigid3.from_quat_xyzw(np.array([0.3, -0.2, 0.4, 0.8]), np.zeros(3))  # world_from_level
    poses = Rigid3(np.stack([looking(y, pitch) for y in yaws]) @ tilt.rotation.T, np.zeros((len(yaws), 3)))
    up_in_world = tilt @ np.array([0.0, 0, 1])
    np.testing.assert_allclose(levelled_from_cameras(poses) @ up_in_world, [0, 0, 1], atol=0.02)

"""Faults of video depth models, each by itself and together."""

from __future__ import annotations

import numpy as np
import pytest

from recon4d.synthetic.corruptions import (
    affine_disparity,
    bending,
    flicker,
    simulate_video_depth,
    smeared_edges,
    window_drift,
)


@pytest.fixture
def disparity() -> np.ndarray:
    return np.random.default_rng(0).uniform(0.2, 1.0, (75, 24, 32))


def test_affine_disparity_by_hand():
    np.testing.assert_allclose(affine_disparity(np.array([[[0.5, 1.0]], [[2.5, 0.5]]])), [[[0, 0.25]], [[1, 0]]])
    with pytest.raises(ValueError, match="constant"):
        affine_disparity(np.ones((2, 3, 4)))


def test_smeared_edge_runs_over_two_to_three_pixels():
    step = np.repeat((np.arange(20) >= 10)[None, None], 5, axis=1).astype(float)
    row = smeared_edges(step)[0, 2]
    assert row[9] + row[10] == pytest.approx(1.0)  # symmetric about the edge
    assert ((row > 0.1) & (row < 0.9)).sum() == 2
    assert ((row > 0.02) & (row < 0.98)).sum() == 4


def test_bending_is_as_strong_as_it_says_and_moves_slowly(disparity):
    field = bending(disparity, 3, strength=0.1) / disparity - 1
    assert np.sqrt((field**2).mean()) == pytest.approx(0.1 / np.sqrt(2), rel=0.25)
    assert np.abs(np.diff(field, axis=0)).mean() < 0.15 * np.abs(field).mean()
    assert np.abs(field.mean()) < 0.02


def test_windows_drift_and_fade_into_each_other():
    flat = np.zeros((70, 2, 2))
    flat[:, 0, 0], flat[:, 1, 1] = 1.0, 2.0
    out = window_drift(flat, 1, window=40, overlap=10)
    gain, shift = out[:, 1, 1] - out[:, 0, 0], out[:, 0, 1]
    rng = np.random.default_rng(1)
    gains, shifts = 1 + 0.035 * rng.standard_normal(2), 0.025 * 2.0 * rng.standard_normal(2)
    np.testing.assert_allclose(gain[:30], gains[0])
    np.testing.assert_allclose(gain[40:], gains[1])
    np.testing.assert_allclose(shift[[0, 69]], shifts)
    np.testing.assert_allclose(np.diff(gain[29:41]), (gains[1] - gains[0]) / 11)  # linear over the shared frames


@pytest.mark.parametrize(("window", "overlap"), [(40, 40), (40, -1), (10, 12)])
def test_impossible_windows_are_refused(disparity, window, overlap):
    with pytest.raises(ValueError, match="overlap"):
        window_drift(disparity, 0, window=window, overlap=overlap)


def test_flicker_is_affine_within_a_frame_and_independent_between():
    disparity = np.random.default_rng(1).uniform(0.2, 1.0, (400, 4, 5))
    out = flicker(disparity, 4, gain_sigma=0.02, shift_sigma=0.01)
    fits = np.array([np.polyfit(a.ravel(), b.ravel(), 1) for a, b in zip(disparity, out)])
    residual = out - disparity * fits[:, :1, None] - fits[:, 1:, None]
    assert np.abs(residual).max() < 1e-9
    assert fits[:, 0].std() == pytest.approx(0.02, rel=0.15)
    assert abs(np.corrcoef(fits[1:, 0], fits[:-1, 0])[0, 1]) < 0.15


def test_simulated_depth_is_like_a_models(disparity):
    depth = (1.0 / smeared_edges(disparity, 3.0)).astype(np.float32)
    out = simulate_video_depth(depth, seed=2)
    assert out.dtype == np.float16
    assert out.min() == 0
    assert out.max() == 1
    np.testing.assert_array_equal(out, simulate_video_depth(depth, seed=2))
    assert np.abs(out - simulate_video_depth(depth, seed=3)).mean() > 1e-3
    assert simulate_video_depth(depth, seed=2, reduce=2).shape == (75, 12, 16)
    with pytest.raises(ValueError, match="reduced by 5"):
        simulate_video_depth(depth, reduce=5)


def test_simulated_depth_is_larger_where_nearer_and_needs_more_than_one_fit():
    depth = np.full((60, 24, 32), 4.0, dtype=np.float32)
    depth[:, 6:18, 8:24] = 2.0
    depth[:, :2] = 8.0
    out = simulate_video_depth(depth, seed=0).astype(float)
    assert (out[:, 12, 16] > out[:, 12, 3]).all()
    assert (out[:, 12, 3] > out[:, 0, 3]).all()
    fits = np.array([np.polyfit(a.ravel(), 1 / b.ravel(), 1) for a, b in zip(out, depth)])
    assert np.ptp(fits[:, 0]) / fits[:, 0].mean() > 0.02  # the scale to 1/z drifts over the clip

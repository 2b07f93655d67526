"""Lines of a whole clip: smooth in time, free at seams, tied by overlaps, carried where there are no points."""

from dataclasses import replace

import numpy as np
import pytest

from recon4d.errors import AlignmentError
from recon4d.geometry.alignment import FrameFit, fit_frame, to_domain
from recon4d.geometry.clip_fit import USUAL_STEP, FitSamples, WindowJoint, fit_clip
from recon4d.scene.depth import DepthKind

FITTED = [kind for kind in DepthKind if kind.has_gain]
DISPARITY = DepthKind.AFFINE_DISPARITY
NONE = np.zeros(0)


def made(gains, kind=DISPARITY, shift=0.1, missing=(), noise=0.02, points=80, seed=4):
    """Samples whose true line has these gains (and shift), and each frame's own fit."""
    rng = np.random.default_rng(seed)
    gains = np.asarray(gains, dtype=float)
    shifts = np.broadcast_to(shift if kind.has_shift else 0.0, gains.shape)
    samples, fits = [], []
    for i, (gain, offset) in enumerate(zip(gains, shifts)):
        z = rng.uniform(1, 5, 0 if i in missing else points)
        d = (to_domain(z * rng.normal(1, noise, len(z)), kind) - offset) / gain
        samples.append(FitSamples(d, z))
        fits.append(fit_frame(d, z, kind) if len(z) else None)
    return samples, fits


def worst(found: np.ndarray, truth) -> float:
    return float(np.abs(found / truth - 1).max())


@pytest.mark.parametrize("kind", FITTED)
def test_exact_points_give_the_exact_line(kind):
    gains = np.linspace(0.5, 0.9, 6)
    fit = fit_clip(*made(gains, kind, noise=0.0), kind, step=1.0)
    np.testing.assert_allclose(fit.gain, gains, rtol=1e-3)
    np.testing.assert_allclose(fit.shift, 0.1 if kind.has_shift else 0.0, atol=1e-3)
    assert fit.jumps == ()


@pytest.mark.parametrize("kind", FITTED)
def test_loose_smoothing_keeps_the_frames_own_fits(kind):
    samples, fits = made([0.5, 0.8, 0.6, 0.9], kind)
    fit = fit_clip(samples, fits, kind, step=100.0)
    np.testing.assert_allclose(fit.gain, [f.gain for f in fits], rtol=5e-3)
    np.testing.assert_allclose(fit.shift, [f.shift for f in fits], atol=5e-3)


@pytest.mark.parametrize("kind", FITTED)
def test_stiff_smoothing_gives_one_gain(kind):
    fit = fit_clip(*made([0.68, 0.7, 0.72], kind), kind, step=1e-5)
    np.testing.assert_allclose(fit.gain, 0.7, rtol=0.02)
    assert np.ptp(fit.gain) < 1e-3


def test_one_frame_is_its_own_fit():
    samples, fits = made([0.7])
    fit = fit_clip(samples, fits, DISPARITY)
    assert fit.gain == pytest.approx([fits[0].gain], rel=1e-3)
    assert fit.shift == pytest.approx([fits[0].shift], rel=1e-2)


@pytest.mark.parametrize("kind", [DISPARITY, DepthKind.METRIC_Z])
def test_two_frames_of_which_one_has_points(kind):
    samples, fits = made([0.7, 0.7], kind, missing=(1,))
    fit = fit_clip(samples, fits, kind)
    assert fit.gain[1] == pytest.approx(fit.gain[0])
    assert fit.shift[1] == pytest.approx(fit.shift[0], abs=1e-9)


def test_frames_without_points_lie_between_their_neighbours():
    fit = fit_clip(*made([0.6, 0.6, 0.8, 0.8], missing=(1, 2)), DISPARITY, step=0.05)
    steps = np.diff(fit.gain)
    np.testing.assert_allclose(steps, steps.mean(), rtol=1e-6)  # a random walk without data is a straight line


def test_frames_beyond_the_last_fit_keep_its_line():
    samples, fits = made(np.full(8, 0.7), missing=(0, 1, 6, 7))
    fit = fit_clip(samples, fits, DISPARITY)
    np.testing.assert_allclose(fit.gain[[0, 1, 6, 7]], fit.gain[[2, 2, 5, 5]], rtol=1e-9)


def test_a_frame_whose_fit_was_refused_follows_its_neighbours():
    samples, fits = made(np.full(5, 0.7))
    samples[2] = FitSamples(samples[2].d[:1], samples[2].z[:1] * 3)  # one wild point, no fit
    fits[2] = None
    assert worst(fit_clip(samples, fits, DISPARITY).gain, 0.7) < 0.03


def test_no_frame_with_points_is_refused():
    with pytest.raises(AlignmentError, match="no frame has enough"):
        fit_clip([FitSamples(NONE, NONE)], [None], DepthKind.SCALE_FREE_Z, step=0.1)


def test_values_that_fall_are_refused():
    z = np.linspace(1, 5, 40)
    falling = FrameFit(-0.1, 1.0, np.ones(40), 0.02, 40)
    with pytest.raises(AlignmentError, match="fall where affine_disparity says they rise"):
        fit_clip([FitSamples(z, z)], [falling], DISPARITY)


@pytest.mark.parametrize("kind", FITTED)
def test_gain_follows_the_units_of_depth_and_scene(kind):
    samples, fits = made([0.5, 0.55, 0.6, 0.5, 0.52], kind)
    joint = WindowJoint(2, 3, samples[2].d[:20], samples[2].d[:20] * 1.1)
    fit = fit_clip(samples, fits, kind, [joint])
    other = [FitSamples(1000 * s.d, 3 * s.z) for s in samples]
    scaled = replace(joint, earlier=1000 * joint.earlier, later=1000 * joint.later)
    found = fit_clip(other, [fit_frame(s.d, s.z, kind) for s in other], kind, [scaled])
    y = 1 / 3 if kind.is_disparity else 3.0
    np.testing.assert_allclose(found.gain, fit.gain * y / 1000, rtol=1e-6)
    np.testing.assert_allclose(found.shift, fit.shift * y, rtol=1e-5, atol=1e-9)


def test_smoothing_in_time_averages_the_noise_of_frames():
    samples, fits = made(np.full(60, 0.7), DepthKind.SCALE_FREE_DISPARITY, points=20, noise=0.1)
    own = np.array([fit.gain for fit in fits])
    fit = fit_clip(samples, fits, DepthKind.SCALE_FREE_DISPARITY)
    assert np.std(fit.gain) < 0.75 * np.std(own)


def test_a_thousand_points_pull_no_harder_than_fifty_by_hand():
    """Errors of a network hang together: one gain for 0.6 and 0.7 minimises (g / 0.6 - 1)^2 + (g / 0.7 - 1)^2."""
    many, few = (made([gain], DepthKind.METRIC_Z, noise=0.0, points=k) for gain, k in ((0.6, 1000), (0.7, 50)))
    fit = fit_clip(many[0] + few[0], many[1] + few[1], DepthKind.METRIC_Z, step=1e-5)
    np.testing.assert_allclose(fit.gain, (1 / 0.6 + 1 / 0.7) / (1 / 0.6**2 + 1 / 0.7**2), rtol=2e-3)


def test_step_is_measured_on_the_fits_of_a_drifting_clip():
    """Given far too small a step every frame looks like a seam; measured, none does."""
    gains = 0.5 * 1.03 ** np.arange(30)
    samples, fits = made(gains, DepthKind.METRIC_Z)
    measured, given = (fit_clip(samples, fits, DepthKind.METRIC_Z, step=step) for step in (None, 1e-3))
    assert worst(measured.gain, gains) < 0.015
    assert measured.jumps == ()
    assert len(given.jumps) > 20


def test_too_small_a_step_lags_behind():
    gains = 0.5 * 1.002 ** np.arange(60)
    samples, fits = made(gains, DepthKind.METRIC_Z, noise=0.1)
    small = fit_clip(samples, fits, DepthKind.METRIC_Z, step=1e-4)
    assert np.ptp(small.gain) < 0.5 * np.ptp(fit_clip(samples, fits, DepthKind.METRIC_Z).gain)


def test_a_still_clip_is_measured_as_stiff():
    samples, fits = made(np.full(40, 0.7), DepthKind.METRIC_Z)
    steps = np.abs(np.diff(fit_clip(samples, fits, DepthKind.METRIC_Z).gain)) / 0.7
    own = np.abs(np.diff([f.gain for f in fits])) / 0.7
    assert np.median(steps) < 0.8 * np.median(own)


@pytest.mark.parametrize("kind", FITTED)
def test_gain_jumps_at_a_named_seam_and_is_smooth_elsewhere(kind):
    gains = np.r_[np.full(10, 0.6), np.full(10, 0.8)]
    samples, fits = made(gains, kind)
    seam = WindowJoint(9, 10, NONE, NONE)
    fit = fit_clip(samples, fits, kind, [seam], step=0.005)
    assert worst(fit.gain, gains) < 0.02
    assert fit.jumps == ()
    assert seam.row == 9.5


def test_a_jump_nobody_named_is_found():
    gains = np.r_[np.full(10, 0.6), np.full(10, 0.8)]
    fit = fit_clip(*made(gains, DepthKind.METRIC_Z), DepthKind.METRIC_Z)
    assert fit.jumps == (9.5,)
    assert worst(fit.gain, gains) < 0.02


def test_a_small_jump_nobody_named_is_smoothed():
    gains = np.r_[np.full(10, 0.6), np.full(10, 0.606)]
    samples, fits = made(gains, DepthKind.METRIC_Z, noise=0.1)
    smooth = fit_clip(samples, fits, DepthKind.METRIC_Z, step=0.003)
    named = fit_clip(samples, fits, DepthKind.METRIC_Z, [WindowJoint(9, 10, NONE, NONE)], step=0.003)
    assert smooth.jumps == ()
    assert abs(np.diff(smooth.gain)[9]) < 0.5 * abs(np.diff(named.gain)[9])


@pytest.mark.parametrize("seam", [(4, 5), (4, 8)], ids=["cut", "cross-fade"])
@pytest.mark.parametrize("kind", [DISPARITY, DepthKind.AFFINE_Z])
def test_overlap_tells_the_line_of_a_window_without_points_by_hand(kind, seam):
    """earlier = 2 later + 0.1: the second window's gain is twice as large, its shift larger by 0.1 gains."""
    before, after = seam
    samples, fits = made(np.full(12, 0.7), kind, shift=0.05, missing=range(before + 1, 12), noise=0.0)
    later = (samples[0].d - 0.1) / 2
    fit = fit_clip(samples, fits, kind, [WindowJoint(before, after, samples[0].d, later)])
    np.testing.assert_allclose(fit.gain[: before + 1], 0.7, rtol=1e-3)
    np.testing.assert_allclose(fit.gain[after:], 1.4, rtol=0.01)
    np.testing.assert_allclose(fit.shift[after:], 0.05 + 0.07, atol=0.01)


def test_overlap_ties_gains_of_kinds_without_a_shift():
    samples, fits = made(np.full(10, 0.7), DepthKind.SCALE_FREE_Z, missing=range(5), noise=0.0)
    joint = WindowJoint(4, 5, 3 * samples[9].d, samples[9].d)  # here the earlier window is the one without points
    fit = fit_clip(samples, fits, DepthKind.SCALE_FREE_Z, [joint])
    np.testing.assert_allclose(fit.gain[:5], 0.7 / 3, rtol=0.01)
    np.testing.assert_allclose(fit.gain[5:], 0.7, rtol=1e-3)


def test_wild_overlap_values_change_little():
    rng = np.random.default_rng(0)
    samples, fits = made(np.full(12, 0.7), missing=range(6, 12), noise=0.0, points=300)
    later = (samples[0].d - 0.1) / 2 * rng.normal(1, 0.01, 300)
    later[:60] = rng.uniform(later.min(), later.max(), 60)  # a fifth: where the windows show a mover differently
    fit = fit_clip(samples, fits, DISPARITY, [WindowJoint(5, 6, samples[0].d, later)])
    np.testing.assert_allclose(fit.gain[6:], 1.4, rtol=0.05)


def test_overlap_and_points_that_agree_are_surer_than_points():
    """Few noisy points in the second window; the overlap knows its gain from the first."""
    kind, rng = DepthKind.SCALE_FREE_DISPARITY, np.random.default_rng(1)
    z = rng.uniform(1, 5, 200)
    joint = WindowJoint(9, 10, 1 / z / 0.6, 1 / z / 0.9)
    alone, tied = [], []
    for seed in range(12):
        first = made(np.full(10, 0.6), kind, seed=seed)
        second = made(np.full(10, 0.9), kind, noise=0.2, points=6, seed=100 + seed)
        samples, fits = first[0] + second[0], first[1] + second[1]
        alone.append(fit_clip(samples, fits, kind, [WindowJoint(9, 10, NONE, NONE)]).gain[10] / 0.9 - 1)
        tied.append(fit_clip(samples, fits, kind, [joint]).gain[10] / 0.9 - 1)
    assert np.std(tied) < 0.6 * np.std(alone)


def test_a_cross_fade_is_followed():
    gains = np.r_[np.full(8, 0.6), np.linspace(0.6, 0.75, 6)[1:-1], np.full(8, 0.75)]
    samples, fits = made(gains, DepthKind.METRIC_Z)
    fade = WindowJoint(7, 12, NONE, NONE)
    named = fit_clip(samples, fits, DepthKind.METRIC_Z, [fade], step=0.004)
    assert worst(named.gain, gains) < 0.02
    assert named.jumps == ()
    assert fade.row == 9.5


def test_what_changes_suddenly_within_a_named_fade_is_no_jump_of_its_own():
    samples, fits = made(np.r_[np.full(10, 0.6), np.full(10, 1.8)], DepthKind.METRIC_Z)
    fit = fit_clip(samples, fits, DepthKind.METRIC_Z, [WindowJoint(7, 12, NONE, NONE)], step=0.004)
    assert fit.jumps == ()


def test_windows_of_a_whole_clip_come_out_as_one():
    """Five windows of gain and shift of their own, a third of the frames without points, drift within windows."""
    rng, count = np.random.default_rng(7), 60
    window = np.arange(count) // 12
    gains = rng.uniform(0.4, 1.2, 5)[window] * (1 + 0.01 * rng.normal(size=count).cumsum() / 4)
    shifts = rng.uniform(0.0, 0.2, 5)[window]
    missing = rng.permutation(count)[:20]
    samples, fits = made(gains, shift=shifts, missing=missing)
    joints = [WindowJoint(12 * k - 1, 12 * k, NONE, NONE) for k in range(1, 5)]
    fit = fit_clip(samples, fits, DISPARITY, joints)
    z = np.linspace(1, 5, 30)
    d = (1 / z - shifts[:, None]) / gains[:, None]
    error = np.abs((fit.gain[:, None] * d + fit.shift[:, None]) * z - 1)
    assert np.median(error) < 0.015
    assert np.percentile(error, 95) < 0.08


def test_too_few_fits_to_measure_take_the_usual_step():
    samples, fits = made([0.6, 0.66, 0.6], DepthKind.METRIC_Z)
    measured, given = (fit_clip(samples, fits, DepthKind.METRIC_Z, step=s) for s in (None, USUAL_STEP))
    np.testing.assert_array_equal(measured.gain, given.gain)

"""Sigma of aligned depth: a law of errors that is known, points that are not used, edges by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from bent_clip import CAMERA, BentClip, MadeFrame, no_error

from recon4d.geometry.clip_field import ClipField, FramePrior
from recon4d.geometry.depth_sigma import (
    DISTANCE_BINS,
    FAR,
    LEAST_SIGMA,
    SigmaCurve,
    distance_to_samples,
    edge_sigma,
    measure_sigma,
    relative_sigma,
    single_points,
)
from recon4d.geometry.field_choice import STYLES
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

PORTRAIT = Camera(240, 320, 280.0, 280.0, 120.0, 160.0)


def flat_prior(x, y, log_disparity=None, camera: Camera = CAMERA) -> FramePrior:
    prior = MadeFrame(Rigid3.identity(), no_error, camera).prior(np.asarray(x, float), np.asarray(y, float))
    flat = np.zeros(prior.log_disparity.shape) if log_disparity is None else log_disparity
    return replace(prior, log_disparity=flat.astype(np.float32))


class ErrsByLaw:
    """Stands for the fit: its error at a pixel is normal, with a sigma that only the distance to kept points makes."""

    def __init__(self, priors, law) -> None:
        self.priors, self.law, self.rng = priors, law, np.random.default_rng(0)

    def alone(self, i, style, kept):
        far = distance_to_samples(self.priors[i], kept)
        edge = edge_sigma(self.priors[i].log_disparity)

        def read(field, x, y):
            row, column = (y / 4).astype(int), (x / 4).astype(int)
            return np.hypot(self.law(far[row, column]), edge[row, column]) * self.rng.normal(size=len(x))

        return SimpleNamespace(field=None, grid=SimpleNamespace(read=read))


def law(distance):
    return 0.02 + 0.3 * distance


@pytest.mark.parametrize("edges", [False, True])
def test_a_known_law_of_errors_is_found_again(edges):
    rng = np.random.default_rng(1)
    log_disparity = np.zeros((60, 80))
    if edges:
        log_disparity[:, ::8] = 0.1  # everywhere close by: half the range is 0.05
    priors = [flat_prior(*rng.uniform(0, [[320], [240]], (2, 800)), log_disparity) for _ in range(6)]
    curve = measure_sigma(ErrsByLaw(priors, law), priors, STYLES[0], 20)
    assert curve.distance[-2] > 0.05
    assert len(curve.distance) >= DISTANCE_BINS - 1
    np.testing.assert_allclose(curve.sigma[:-1], law(curve.distance[:-1]), rtol=0.15)
    assert curve.distance[-1] == FAR


def test_far_from_all_points_the_priors_own_error_counts():
    rng = np.random.default_rng(4)
    priors = [flat_prior(*rng.uniform(0, [[320], [240]], (2, 500))) for _ in range(3)]
    priors = [replace(p, samples=replace(p.samples, log_ratio=rng.normal(0, 0.2, 500))) for p in priors]
    curve = measure_sigma(ErrsByLaw(priors, lambda distance: 0.02 + 0 * distance), priors, STYLES[0], 20)
    assert curve.at(np.array(0.01)) < 0.25
    assert curve.at(np.array(1.0)) == pytest.approx(max(0.2, curve.sigma[-2]), rel=0.1)


@pytest.mark.parametrize(("frames", "points"), [(1, 3), (2, 2), (1, 1), (3, 30)])
def test_few_points_give_few_bins_and_no_error(frames, points):
    rng = np.random.default_rng(5)
    priors = [flat_prior(*rng.uniform(0, 30, (2, points))) for _ in range(frames)]
    curve = measure_sigma(ClipField(priors), priors, STYLES[0], 1)
    assert curve is None or np.isfinite(curve.sigma).all()


def test_constant_errors_give_a_flat_curve_of_their_size():
    rng = np.random.default_rng(2)
    priors = [flat_prior(*rng.uniform(0, [[320], [240]], (2, 500))) for _ in range(4)]
    curve = measure_sigma(ErrsByLaw(priors, lambda d: np.full(d.shape, 0.04)), priors, STYLES[0], 20)
    np.testing.assert_allclose(curve.sigma, 0.04, rtol=0.15)
    assert (np.diff(curve.sigma) >= 0).all()


@pytest.mark.parametrize("style", [None, STYLES[3]], ids=["line", "field"])
@pytest.mark.parametrize(("points", "noise"), [(60, 0.02), (200, 0.01)])
def test_two_thirds_of_the_points_not_used_lie_within_sigma(points, noise, style):
    clip = BentClip(count=10, points=points, noise=noise, seed=3)
    field = ClipField(clip.priors)
    curve = measure_sigma(field, clip.priors, style, 20)
    rng, within = np.random.default_rng(4), []
    for i, (frame, prior) in enumerate(zip(clip.frames, clip.priors)):
        x, y = rng.uniform(0, [[320], [240]], (2, 300))
        error = frame.error(x, y) + rng.normal(0, noise, 300)
        if style is not None:
            fitted = field.alone(i, style)
            error -= fitted.grid.read(fitted.field, x, y)
        sigma = relative_sigma(prior, curve)[(y / 4).astype(int), (x / 4).astype(int)]
        within.append(np.abs(error) < sigma)
    assert 0.58 < np.mean(within) < 0.82


def test_sigma_rises_with_the_distance_where_depth_bends():
    clip = BentClip(count=6, points=100)
    curve = measure_sigma(ClipField(clip.priors), clip.priors, STYLES[3], 20)
    assert (np.diff(curve.distance) > 0).all()
    assert (np.diff(curve.sigma) >= 0).all()
    assert curve.sigma[-1] > 1.5 * curve.sigma[0]


def test_frames_with_few_points_give_no_curve():
    clip = BentClip(count=2, points=19)
    assert measure_sigma(ClipField(clip.priors), clip.priors, STYLES[0], 20) is None
    empty = [replace(p, samples=p.samples[:0], sparse=0) for p in clip.priors]
    assert measure_sigma(ClipField(empty), empty, None, 20) is None


def test_points_on_one_pixel_give_one_sigma():
    prior = flat_prior(np.full(40, 100.2), np.full(40, 100.1))
    prior = replace(prior, samples=replace(prior.samples, log_ratio=np.tile([0.03, -0.03], 20)))
    curve = measure_sigma(ClipField([prior]), [prior], None, 20)
    np.testing.assert_allclose(curve.distance, [0.0, FAR])
    np.testing.assert_allclose(curve.sigma, [0.03, 0.03])


def test_curve_between_and_beyond_its_bins_by_hand():
    curve = SigmaCurve(np.array([0.1, 0.2]), np.array([0.02, 0.06]))
    np.testing.assert_allclose(curve.at(np.array([[0.0, 0.1], [0.15, 0.9]])), [[0.02, 0.02], [0.04, 0.06]])


def test_constant_curve_is_never_surer_than_the_structure():
    far = np.array([0.0, 0.5])
    np.testing.assert_allclose(SigmaCurve.constant(0.03).at(far), 0.03)
    np.testing.assert_allclose(SigmaCurve.constant(0.0).at(far), LEAST_SIGMA)


def test_exact_depth_is_never_surer_than_the_structure():
    clip = BentClip(count=2, points=50, error=lambda rng: no_error)
    priors = [replace(p, log_disparity=np.zeros_like(p.log_disparity)) for p in clip.priors]
    np.testing.assert_allclose(measure_sigma(ClipField(priors), priors, None, 20).sigma, LEAST_SIGMA)


def test_a_step_of_depth_costs_half_of_it_on_both_sides_by_hand():
    step = np.zeros((120, 160))  # a window of five pixels
    step[:, 80:] = 0.4
    expected = np.zeros((120, 160))
    expected[:, 78:82] = 0.2
    np.testing.assert_allclose(edge_sigma(step), expected)
    np.testing.assert_allclose(edge_sigma(step.T), expected.T)


def test_slopes_cost_nothing_inside_the_picture():
    slope = np.add.outer(0.02 * np.arange(120), -0.01 * np.arange(160))
    np.testing.assert_allclose(edge_sigma(slope)[2:-2, 2:-2], 0.0, atol=1e-12)


def test_unknown_depth_makes_no_edge():
    step = np.zeros((120, 160))
    step[:, 80:] = np.nan
    assert (edge_sigma(step) == 0).all()
    assert (edge_sigma(np.full((120, 160), np.nan)) == 0).all()
    assert (edge_sigma(np.zeros((2, 3))) == 0).all()


@pytest.mark.parametrize("camera", [CAMERA, PORTRAIT], ids=["landscape", "portrait"])
def test_distance_to_samples_by_hand(camera):
    prior = flat_prior([10.0, 200.0], [42.0, 201.0], camera=camera)  # pixels (2, 10), (50, 50) of the reduced grid
    near = distance_to_samples(prior, np.array([True, False]))
    height, width = prior.log_disparity.shape
    column, row = np.meshgrid(np.arange(width), np.arange(height))
    np.testing.assert_allclose(near, np.hypot(column - 2, row - 10) / 80)
    both = distance_to_samples(prior, np.array([True, True]))
    np.testing.assert_allclose(both, np.minimum(near, np.hypot(column - 50, row - 50) / 80))
    assert (distance_to_samples(prior, np.zeros(2, dtype=bool)) == 1).all()


def test_samples_on_the_border_count():
    prior = flat_prior([320.0, 0.0], [240.0, 0.0])
    near = distance_to_samples(prior, np.ones(2, dtype=bool))
    assert near[-1, -1] == near[0, 0] == 0


def test_sigma_of_a_pixel_by_hand():
    """5 % at this distance and half a step of 24 % beside it: 13 %."""
    step = np.zeros((60, 80))
    step[:, 40:] = 0.24
    prior = flat_prior([2.0], [2.0], step)
    sigma = relative_sigma(prior, SigmaCurve.constant(0.05))
    np.testing.assert_allclose(sigma[:, 39:41], 0.13, rtol=1e-6)
    np.testing.assert_allclose(sigma[:, :38], 0.05)
    falls = relative_sigma(flat_prior([2.0], [2.0]), SigmaCurve(np.array([0.0, 1.0]), np.array([0.02, 0.12])))
    assert falls[0, 40] == pytest.approx(0.02 + 0.1 * 0.5)


def test_every_own_point_is_held_out_singly_once():
    prior = flat_prior(*np.random.default_rng(0).uniform(0, 240, (2, 57)))
    weights = np.where(np.arange(57) % 4 == 0, 0.5, 1.0)
    prior = replace(prior, samples=replace(prior.samples, weight=weights))
    folds = single_points(prior)
    assert len(folds) == 5
    for kept, tested in folds:
        assert not (kept & tested).any()
        assert abs((~kept).sum() - 57 / 5) < 1
        np.testing.assert_array_equal(tested, ~kept & prior.own)
    np.testing.assert_array_equal(sum(tested.astype(int) for _, tested in folds), prior.own)
    assert single_points(flat_prior([], [])) == []

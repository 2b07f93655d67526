"""How stiff a field is, decided by held-out blocks: bending, perfect and piecewise wrong depth."""

from dataclasses import replace

import numpy as np
import pytest
from bent_clip import CAMERA, BentClip, MadeFrame, no_error

from recon4d.geometry.clip_field import ClipField
from recon4d.geometry.field_choice import (
    BLOCK,
    ERROR_CUT,
    FOLDS,
    JUDGED_FRAMES,
    NEAR_BEST,
    STYLES,
    choose_style,
    held_out_blocks,
)
from recon4d.geometry.gain_field import FieldSamples
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3


def chosen(clip: BentClip, points: int = 20):
    style, trials = choose_style(ClipField(clip.priors), clip.priors, points)
    return style, {trial.style: trial.error for trial in trials}


def nearer_object(rng):
    """A rectangle whose gain is 35 % wrong."""
    x0, y0 = rng.uniform(100, 220), rng.uniform(80, 160)
    return lambda x, y: np.where((np.abs(x - x0) < 60) & (np.abs(y - y0) < 50), 0.3, 0.0)


@pytest.mark.parametrize("seed", [0, 1])
def test_depth_that_bends_gets_a_field(seed):
    style, errors = chosen(BentClip(count=4, points=200, seed=seed))
    assert style in STYLES
    assert errors[style] < 0.2 * errors[None]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_perfect_depth_is_not_bent_to_noisy_points(seed):
    style, errors = chosen(BentClip(count=4, points=200, noise=0.02, error=lambda rng: no_error, seed=seed))
    assert style in (None, STYLES[0])
    assert errors[STYLES[-1]] > 1.03 * errors[style]


@pytest.mark.parametrize("seed", [0, 1])
def test_an_object_with_a_gain_of_its_own_gets_a_field_that_gives_way_at_edges(seed):
    clip = BentClip(count=4, points=400, noise=0.01, error=nearer_object, seed=seed)
    style, errors = chosen(clip)
    assert style.strength <= 0.3
    assert style.depth_step == 0.1
    assert errors[style] < 0.65 * errors[STYLES[0]]


def test_the_stiffest_of_those_that_are_nearly_as_good_is_taken():
    style, errors = chosen(BentClip(count=4, points=200, noise=0.02, error=lambda rng: no_error))
    good_enough = [s for s, error in errors.items() if error <= NEAR_BEST * min(errors.values())]
    assert list(errors) == [None, *STYLES]
    assert style == good_enough[0]
    assert errors[style] > min(errors.values())


def test_error_without_a_field_by_hand():
    """The mean size of the prior's own error, the wild ones cut."""
    clip = BentClip(count=2, points=60)
    ratio = np.r_[np.full(30, 0.1), np.full(20, -0.05), np.full(10, 3.0)]
    clip.priors = [replace(p, samples=replace(p.samples, log_ratio=ratio)) for p in clip.priors]
    _, errors = chosen(clip)
    assert errors[None] == pytest.approx((30 * 0.1 + 20 * 0.05 + 10 * ERROR_CUT) / 60)


def test_wild_points_do_not_choose():
    rng, clip = np.random.default_rng(0), BentClip(count=4, points=200)
    wild = rng.permutation(200)[:20]
    priors = []
    for prior in clip.priors:
        ratio = prior.samples.log_ratio.copy()
        ratio[wild] += rng.uniform(1, 3, 20)
        priors.append(replace(prior, samples=replace(prior.samples, log_ratio=ratio)))
    clip.priors = priors
    style, errors = chosen(clip)
    assert errors[style] < 0.6 * errors[None]


def test_frames_with_few_points_are_not_asked():
    clip = BentClip(count=4, points=19)
    assert chosen(clip) == (None, {})
    assert chosen(clip, points=19)[0] is not None


def test_points_in_one_corner_cannot_be_held_out():
    prior = MadeFrame(Rigid3.identity(), no_error).prior(*np.random.default_rng(0).uniform(0, 39, (2, 50)))
    assert held_out_blocks(prior, BLOCK) == []
    assert choose_style(ClipField([prior]), [prior], 20) == (None, [])


def test_long_clips_are_asked_at_a_few_frames():
    clip = BentClip(count=1, points=400)
    asked = []

    class Asked(ClipField):
        def alone(self, i, style, kept=None):
            asked.append(i)
            return super().alone(i, style, kept)

    priors = clip.priors * 40
    choose_style(Asked(priors), priors, 20)
    assert sorted(set(asked)) == [0, 6, 11, 17, 22, 28, 33, 39]
    assert len(set(asked)) == JUDGED_FRAMES


@pytest.mark.parametrize(
    "camera", [CAMERA, Camera(240, 320, 280.0, 280.0, 120.0, 160.0)], ids=["landscape", "portrait"]
)
@pytest.mark.parametrize("share", [BLOCK, 2 * BLOCK])
def test_whole_blocks_are_held_out_and_every_sparse_point_once(camera, share):
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, camera.width, 500), rng.uniform(0, camera.height, 500)
    weights = np.where(rng.random(500) < 0.3, 0.5, 1.0)
    weights[400:] = 1.0  # not sparse points but another source's depth
    prior = MadeFrame(Rigid3.identity(), no_error, camera).prior(x, y)
    prior = replace(prior, samples=FieldSamples(x, y, np.zeros(500), weights), sparse=400)
    folds = held_out_blocks(prior, share)
    assert len(folds) == FOLDS
    block = np.floor(x / (share * 320)) + 1000 * np.floor(y / (share * 320))
    for kept, tested in folds:
        assert not (kept & tested).any()
        assert not set(block[kept]) & set(block[~kept])  # what is held out goes with its whole block
        np.testing.assert_array_equal(tested, ~kept & (np.arange(500) < 400))
        assert 0.2 < kept.mean() < 0.85
    np.testing.assert_array_equal(sum(tested.astype(int) for _, tested in folds), np.arange(500) < 400)

"""Fields of a whole clip: frames that err apart correct each other, and what is not theirs does not bend them."""

from dataclasses import replace

import numpy as np
import pytest
from bent_clip import CAMERA, SMALL, BentClip, MadeFrame, no_error, smooth_error

from recon4d.geometry.clip_field import PASSES, ClipField, FrameField
from recon4d.geometry.field_choice import STYLES
from recon4d.geometry.gain_field import FieldGrid, FieldSamples
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

STYLE = STYLES[2]
NOTHING = FieldSamples(*np.zeros((4, 0)))
PORTRAIT = Camera(240, 320, 280.0, 280.0, 120.0, 160.0)


def alone(clip: BentClip) -> list[FrameField]:
    field = ClipField(clip.priors)
    return [field.alone(i, STYLE) for i in range(clip.count)]


def fit(priors: list) -> list[FrameField]:
    return ClipField(priors).fit(STYLE)


def difference(a: FrameField, b: FrameField) -> float:
    return float(np.abs(a.field - b.field).max())


@pytest.mark.parametrize(("points", "noise", "camera"), [(10, 0.0, CAMERA), (40, 0.02, CAMERA), (40, 0.02, PORTRAIT)])
def test_frames_that_hear_each_other_err_less_and_agree_better(points, noise, camera):
    clip = BentClip(points=points, noise=noise, camera=camera)
    own, together = alone(clip), fit(clip.priors)
    assert np.median(clip.rms(own)) < 0.65 * np.median(clip.rms([None] * clip.count))
    assert np.median(clip.rms(together)) < 0.75 * np.median(clip.rms(own))
    assert clip.flicker(together) < 0.65 * clip.flicker(own)


def test_a_perfect_clip_stays_perfect():
    clip = BentClip(error=lambda rng: no_error)
    assert max(np.abs(fitted.field).max() for fitted in fit(clip.priors)) < 3e-3  # what the reduced grid costs


def test_a_frame_without_points_is_corrected_by_its_neighbours_surfaces():
    clip = BentClip(points=60)
    clip.priors[4] = replace(clip.priors[4], samples=NOTHING, sparse=0)
    own, together = alone(clip), fit(clip.priors)
    assert (own[4].field == 0).all()
    assert clip.rms(together)[4] < 0.3 * clip.rms(own)[4]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count", [3, 5])
def test_few_frames_do_not_swap_their_errors(count, seed):
    """Frames two apart hear only each other: what one learned from its points must not be lost to the other."""
    clip = BentClip(count=count, points=100, noise=0.02, seed=seed)
    own, together = clip.rms(alone(clip)), clip.rms(fit(clip.priors))
    assert (together < 1.1 * own).all()
    clip.priors[2] = replace(clip.priors[2], samples=NOTHING, sparse=0)
    taught = clip.rms(fit(clip.priors))
    assert taught[2] < 0.5 * clip.rms([None] * count)[2]
    assert (np.delete(taught, 2) < 1.35 * np.delete(own, 2)).all()


def test_a_clip_without_any_point_keeps_what_its_frames_have_in_common():
    """Nothing says what is true, but errors that differ from frame to frame average out."""
    clip = BentClip(error=lambda rng: smooth_error(rng, 0.03))
    clip.priors = [replace(prior, samples=NOTHING, sparse=0) for prior in clip.priors]
    together = fit(clip.priors)
    assert clip.flicker(together) < 0.6 * clip.flicker(alone(clip))
    assert clip.rms(together).mean() < clip.rms([None] * clip.count).mean()


def test_a_hand_before_the_camera_bends_no_other_frame():
    clip = BentClip(points=40)
    before = fit(clip.priors)
    small = clip.priors[4].log_disparity.copy()
    small[20:50, 25:60] += np.log(4.0)  # nearer by four
    x, y = clip.priors[4].samples.x, clip.priors[4].samples.y
    open_there = ~((x > 90) & (x < 250) & (y > 70) & (y < 210))
    clip.priors[4] = replace(
        clip.priors[4], log_disparity=small, samples=clip.priors[4].samples[open_there], sparse=int(open_there.sum())
    )
    after = fit(clip.priors)
    others = [0, 1, 2, 3, 5, 6, 7, 8]
    assert max(difference(before[i], after[i]) for i in others) < 0.02
    assert clip.rms(after)[others].mean() < 1.05 * clip.rms(before)[others].mean()


def test_a_hand_over_most_of_a_frame_without_points_is_no_correction():
    """What neighbours say of the surfaces behind the hand is far from its depth; the rest of the picture is heard."""
    clip = BentClip(points=60)
    small = clip.priors[4].log_disparity.copy()
    small[:, 25:] += np.log(4.0)
    clip.priors[4] = replace(clip.priors[4], log_disparity=small, samples=NOTHING, sparse=0)
    fitted = fit(clip.priors)[4]
    assert np.abs(fitted.grid.spread(fitted.field, *SMALL)[:, 30:]).max() < 0.3
    open_there = clip.frames[4].left(fitted)[:, :20]
    assert np.abs(open_there).mean() < 0.5 * np.abs(clip.frames[4].left(None)[:, :20]).mean()


def test_frames_that_do_not_lend_are_not_heard():
    clip = BentClip(points=10)
    wrong = Rigid3(np.eye(3), clip.frames[4].cam_from_world.translation + np.array([0.0, 0, 0.3]))  # depth 7 % off
    misplaced = replace(clip.priors[4], cam_from_world=wrong)
    absent = fit([*clip.priors[:4], replace(clip.priors[4], lends=False), *clip.priors[5:]])
    silent = fit([*clip.priors[:4], replace(misplaced, lends=False), *clip.priors[5:]])
    heard = fit([*clip.priors[:4], misplaced, *clip.priors[5:]])
    for i in (2, 6):  # which would have heard it
        np.testing.assert_array_equal(silent[i].field, absent[i].field)
        assert difference(heard[i], absent[i]) > 0.01


def test_a_frame_that_does_not_lend_still_hears():
    clip = BentClip(points=60)
    clip.priors[4] = replace(clip.priors[4], samples=NOTHING, sparse=0, lends=False)
    assert clip.rms(fit(clip.priors))[4] < 0.3 * clip.rms([None] * clip.count)[4]


def test_the_same_clip_gives_the_same_fields_forwards_and_backwards():
    clip = BentClip(points=20, noise=0.02)
    once, again, backwards = fit(clip.priors), fit(clip.priors), fit(clip.priors[::-1])[::-1]
    for a, b, c in zip(once, again, backwards):
        np.testing.assert_array_equal(a.field, b.field)
        np.testing.assert_allclose(c.field, a.field, atol=1e-9)


def test_one_frame_follows_its_own_points():
    clip = BentClip(count=1, points=60)
    np.testing.assert_array_equal(fit(clip.priors)[0].field, alone(clip)[0].field)


def test_progress_is_told_after_every_frame_of_every_pass():
    calls = []
    ClipField(BentClip(count=3, points=5).priors).fit(STYLE, lambda: calls.append(1))
    assert len(calls) == 3 * (1 + PASSES)


def test_kept_samples_alone_make_the_field():
    """The robust scale, too, is that of the sparse points which are kept, not of another source's depth."""
    clip = BentClip(count=1, points=90)
    prior = clip.priors[0]
    ratio = prior.samples.log_ratio + np.where(np.arange(90) < 30, 0.0, np.random.default_rng(0).normal(0, 0.2, 90))
    prior = replace(prior, samples=replace(prior.samples, log_ratio=ratio), sparse=30)
    kept = np.arange(90) % 3 > 0
    fewer = replace(prior, samples=prior.samples[kept], sparse=20)
    found = ClipField([prior]).alone(0, STYLE, kept)
    np.testing.assert_array_equal(found.field, ClipField([fewer]).alone(0, STYLE).field)
    assert difference(found, ClipField([replace(fewer, sparse=60)]).alone(0, STYLE)) > 0.01
    assert (ClipField([prior]).alone(0, STYLE, np.zeros(90, dtype=bool)).field == 0).all()


def test_own_points_are_sparse_and_of_full_weight():
    x = np.linspace(1, 300, 6)
    prior = MadeFrame(Rigid3.identity(), no_error).prior(x, x / 2)
    weights = np.array([1.0, 1.0, 0.5, 0.5, 1.0, 1.0])  # two own, two lent, two of another depth source
    samples = FieldSamples(x, x / 2, np.zeros(6), weights)
    np.testing.assert_array_equal(replace(prior, samples=samples, sparse=4).own, [True, True] + 4 * [False])


@pytest.mark.parametrize("points", [0, 1])
def test_depth_without_a_valid_pixel_lends_and_hears_nothing(points):
    clip = BentClip(count=5, points=30)
    before = fit([replace(p, lends=i != 2) for i, p in enumerate(clip.priors)])
    empty = np.full_like(clip.priors[2].log_disparity, np.nan)
    clip.priors[2] = replace(
        clip.priors[2], log_disparity=empty, samples=clip.priors[2].samples[:points], sparse=points
    )
    after = fit(clip.priors)
    for i in (0, 1, 3, 4):
        np.testing.assert_array_equal(after[i].field, before[i].field)
    assert np.isfinite(after[2].field).all()


def test_constant_depth_and_one_point_each_meet_in_the_middle():
    clip = BentClip(count=3, points=1, error=lambda rng: no_error)
    priors = [
        replace(
            prior,
            cam_from_world=Rigid3.identity(),
            log_disparity=np.full_like(prior.log_disparity, -np.log(2.0)),
            samples=replace(prior.samples, log_ratio=np.array([ratio])),
        )
        for prior, ratio in zip(clip.priors, (-0.02, 0.0, 0.1))
    ]
    middles = [float(np.median(fitted.field)) for fitted in fit(priors)]  # each hears the frame beside it, and itself
    assert middles == sorted(middles)
    assert np.ptp(middles) < 0.12 / 3
    assert np.mean(middles) == pytest.approx(0.08 / 3, abs=0.006)


def world_points(prior) -> np.ndarray:
    """What a frame lends as it is, in its own camera's frame."""
    (surface,) = ClipField([prior])._surfaces
    grid = FieldGrid.over(prior.camera.width, prior.camera.height)
    return prior.cam_from_world @ surface.in_world(FrameField(grid, np.zeros(grid.shape)))


def test_lent_points_lie_on_the_surface_under_its_field():
    clip = BentClip(count=3)
    prior, frame = clip.priors[2], clip.frames[2]
    (surface,) = ClipField([prior])._surfaces
    grid = FieldGrid.over(CAMERA.width, CAMERA.height)
    exact = np.linspace(0, CAMERA.width, grid.nodes_x), np.linspace(0, CAMERA.height, grid.nodes_y)
    field = frame.error(*np.meshgrid(*exact))
    in_cam = frame.cam_from_world @ surface.in_world(FrameField(grid, field))
    x, y = CAMERA.project(in_cam).T
    np.testing.assert_allclose(in_cam[:, 2], frame.z(x, y), rtol=2e-3)
    assert len(x) > 500


def test_nothing_is_lent_on_either_side_of_a_silhouette():
    """A small error of the pose would move such points by the whole jump."""
    small = np.full((60, 80), 0.0, dtype=np.float32)
    small[:, 40:] = 0.7
    small[30:] += 0.5
    prior = replace(MadeFrame(Rigid3.identity(), no_error).prior(np.zeros(0), np.zeros(0)), log_disparity=small)
    x, y = CAMERA.project(world_points(prior)).T
    column, row = (x / 4).astype(int), (y / 4).astype(int)  # every second pixel is asked: 1, 3, 5 ...
    assert set(column) == set(range(1, 80, 2)) - {39, 41}
    assert set(row) == set(range(1, 60, 2)) - {29, 31}


def test_holes_are_not_lent_but_their_borders_are():
    small = np.zeros((60, 80), dtype=np.float32)
    small[20:40, 20:40] = np.nan
    prior = replace(MadeFrame(Rigid3.identity(), no_error).prior(np.zeros(0), np.zeros(0)), log_disparity=small)
    assert len(world_points(prior)) == 30 * 40 - 10 * 10

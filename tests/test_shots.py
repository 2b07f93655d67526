"""Cuts, sharpness and the choice of frames, on arrays."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from video_clips import pan, texture

from recon4d.geometry.shots import (
    THUMBNAIL_SIZE,
    Look,
    ShotFinder,
    choose_by_rate,
    choose_by_stride,
    sharpness,
    spread_stride,
)

WARM, COLD = (1.0, 0.6, 0.3), (0.3, 0.7, 1.0)


def thumbnail(picture):
    return cv2.resize(picture, (THUMBNAIL_SIZE, THUMBNAIL_SIZE), interpolation=cv2.INTER_AREA)


def starts(pictures):
    finder = ShotFinder()
    for picture in pictures:
        finder.add(thumbnail(picture))
    return finder.starts()


def test_one_shot_of_a_moving_camera_has_no_cut():
    assert starts(pan(1, 40)) == (0,)


def test_cuts_are_found_at_the_exact_frame():
    clip = pan(1, 25, tint=WARM) + pan(2, 17, tint=COLD) + pan(3, 30, tint=WARM)
    assert starts(clip) == (0, 25, 42)


@pytest.mark.parametrize("at", [1, 2, 39])
def test_a_cut_next_to_the_ends_is_found(at):
    assert starts(pan(1, at, tint=WARM) + pan(2, 40 - at, tint=COLD)) == (0, at)


def test_a_flash_is_not_a_cut():
    for length in (1, 2):
        clip = pan(1, 40)
        for at in range(20, 20 + length):
            clip[at] = np.clip(clip[at].astype(int) + 170, 0, 255).astype(np.uint8)
        assert starts(clip) == (0,)


def test_a_light_switched_on_is_not_a_cut():
    clip = pan(1, 40)
    dark = [(picture * 0.4).astype(np.uint8) if at < 20 else picture for at, picture in enumerate(clip)]
    assert Look.of(thumbnail(dark[19])).change_to(Look.of(thumbnail(dark[20]))) < 0.05
    assert starts(dark) == (0,)


def test_fast_pan_and_shake_are_not_cuts():
    rng = np.random.default_rng(0)
    wall = texture(4, 200, 1200)
    places = np.cumsum(np.r_[0, np.full(10, 1), np.full(20, 12), np.full(10, 1)])
    clip = [wall[50 + rng.integers(-6, 7) :, 20 + place + rng.integers(-6, 7) :][:96, :128] for place in places]
    assert starts(clip) == (0,)


def test_a_person_passing_by_is_not_a_cut():
    clip = pan(1, 60, tint=COLD)
    for at in range(20, 40):  # a red coat enters from the left, covers half of the picture, leaves on the right
        left = -48 + (at - 20) * 7
        clip[at][:, max(0, left) : max(0, left + 48)] = (200, 30, 20)
    assert starts(clip) == (0,)


def test_resting_camera_with_noise_has_no_cut():
    rng = np.random.default_rng(0)
    still = texture(5, 64, 96).astype(float)
    assert starts([np.clip(still + rng.normal(0, 4, still.shape), 0, 255).astype(np.uint8) for _ in range(30)]) == (0,)


def test_no_frames_and_one_frame():
    assert starts([]) == ()
    assert starts(pan(1, 1)) == (0,)


def test_change_is_zero_to_itself_and_symmetric():
    one, other = Look.of(thumbnail(texture(1, 64, 96, WARM))), Look.of(thumbnail(texture(2, 64, 96, COLD)))
    assert one.change_to(one) == pytest.approx(0, abs=1e-6)
    assert one.change_to(other) == pytest.approx(other.change_to(one), abs=1e-9)
    assert one.change_to(other) > 0.2


def test_change_of_a_flat_picture_is_defined():
    black = Look.of(np.zeros((32, 32, 3), np.uint8))
    assert black.change_to(black) == pytest.approx(0, abs=1e-6)
    assert black.change_to(Look.of(thumbnail(texture(1, 64, 96)))) > 0.3


def test_sharpness_by_hand():
    picture = np.zeros((5, 5), np.uint8)
    picture[2, 2] = 10
    # Laplacian of the inner 3x3: -40 in the middle, 10 at its four neighbours, 0 in the corners.
    assert sharpness(picture) == pytest.approx((1600 + 4 * 100) / 9)


def test_blur_lowers_sharpness_and_a_slope_has_none():
    picture = texture(1, 64, 96)[..., 1]
    assert sharpness(cv2.GaussianBlur(picture, (0, 0), 3)) < 0.5 * sharpness(picture)
    assert sharpness(np.tile(np.arange(50, dtype=np.uint8), (40, 1))) == 0


def test_spread_stride_covers_the_clip_with_at_most_the_wanted_number():
    assert [spread_stride(count, 300) for count in (1, 300, 301, 600, 601)] == [1, 1, 2, 2, 3]


def test_choose_by_stride_takes_the_first_or_the_sharpest():
    assert choose_by_stride(8, 3) == [0, 3, 6]
    assert choose_by_stride(8, 3, [1, 5, 2, 9, 9, 9, 0, 1]) == [1, 3, 7]


def test_choose_by_rate_follows_the_true_times():
    times = [0.0, 1 / 30, 2 / 30, 3 / 30, 15 / 30, 16 / 30, 17 / 30, 18 / 30]  # nothing between 0.1 and 0.5 s
    # At 10 per second the frames are at ticks 0, 0.33, 0.67, 1, 5, 5.33, 5.67, 6: nearest to 0, 1, 5 and 6 are
    assert choose_by_rate(times, 10.0) == [0, 3, 4, 7]
    assert choose_by_rate(times, 10.0, [1, 2, 4, 3, 6, 5, 8, 7]) == [1, 2, 4, 6]


def test_choose_by_rate_repeats_nothing_when_the_recording_is_slower():
    assert choose_by_rate([0.0, 0.1, 0.2], 30.0) == [0, 1, 2]

"""Scores of pictures against numbers by hand and a formula written out."""

import numpy as np
import pytest

from recon4d.evaluation.picture_scores import mean_square, psnr, ssim, ssim_map


def noise(seed, shape=(24, 30, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def test_psnr_of_a_constant_offset_by_hand():
    a = np.full((4, 5, 3), 100, np.uint8)
    assert psnr(a, a + 10) == pytest.approx(20 * np.log10(25.5))  # 28.13 dB
    assert psnr(a + 10, a) == psnr(a, a + 10)  # no difference wraps around at 0
    assert psnr(a, a) == np.inf


def test_only_pixels_of_the_mask_count():
    a, b = noise(0), noise(0)
    b[:, :10] = 0
    mask = np.ones(a.shape[:2], bool)
    mask[:, :10] = False
    assert psnr(a, b, mask) == np.inf
    b[:, 10] = np.clip(a[:, 10].astype(int) + 300, 0, 255)
    expected = ((a[:, 10].astype(float) - 255) ** 2).sum() / (24 * 20 * 3)
    assert mean_square(a, b, mask) == pytest.approx(expected)
    assert np.isnan(psnr(a, b, np.zeros_like(mask)))
    assert np.isnan(ssim(a, b, np.zeros_like(mask)))


def test_ssim_of_equal_pictures_is_one_and_of_a_negative_below_zero():
    a = noise(1)
    assert ssim(a, a) == pytest.approx(1.0)
    assert ssim(a, 255 - a) < 0


def test_ssim_follows_the_formula_written_out_at_one_pixel():
    a, b = noise(2), noise(3)
    b = ((a.astype(int) + b) // 2).astype(np.uint8)
    y, x = 11, 14
    weight = np.exp(-(((np.mgrid[-5:6, -5:6]) ** 2).sum(axis=0)) / (2 * 1.5**2))
    weight /= weight.sum()
    luma = np.array([0.299, 0.587, 0.114])
    p, q = (i[y - 5 : y + 6, x - 5 : x + 6].astype(float) @ luma for i in (a, b))
    mp, mq = (weight * p).sum(), (weight * q).sum()
    vp, vq = (weight * (p - mp) ** 2).sum(), (weight * (q - mq) ** 2).sum()
    cov = (weight * (p - mp) * (q - mq)).sum()
    c1, c2 = 2.55**2, 7.65**2
    expected = (2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2))
    assert ssim_map(a, b)[y, x] == pytest.approx(expected, rel=1e-9)


def test_ssim_of_two_plain_pictures_by_hand():
    a, b = np.full((12, 12, 3), 100.0), np.full((12, 12, 3), 120.0)
    assert ssim(a, b) == pytest.approx((2 * 100 * 120 + 2.55**2) / (100**2 + 120**2 + 2.55**2))


def test_pictures_of_different_size_are_refused():
    with pytest.raises(ValueError, match="do not match"):
        psnr(noise(0), noise(0)[:-1])

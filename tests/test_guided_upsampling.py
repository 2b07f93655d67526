"""Depth brought to the size of its picture: steps where the picture has them, nothing invented."""

import cv2
import numpy as np
import pytest

from recon4d.geometry.guided_upsampling import REACH, upsampled
from recon4d.geometry.resample import resize_grid

FINE, COARSE = (96, 128), (24, 32)


def step_scene(column=50, blur=0.0):
    """A picture dark up to a column and near (2) there, far (1) beyond; grid of a quarter, picture, truth."""
    near = np.zeros(FINE, dtype=np.float32)
    near[:, :column] = 1
    rgb = np.where(near[..., None] > 0, (40, 60, 50), (190, 170, 160)).astype(np.uint8)
    grid = cv2.resize(1 + near, COARSE[::-1], interpolation=cv2.INTER_AREA)
    return (cv2.GaussianBlur(grid, (0, 0), blur) if blur else grid), rgb, 1 + near


def everywhere(values):
    return np.ones(values.shape, dtype=bool)


@pytest.mark.parametrize("column", [48, 49, 50, 51])
def test_the_step_lies_on_the_edge_of_the_picture_to_the_pixel(column):
    values, rgb, truth = step_scene(column)
    found, valid = upsampled(values, everywhere(values), rgb)
    assert valid.all()
    assert (np.abs(found - truth) > 0.1).mean() <= 1 / FINE[1]  # one column, where the smoothed picture hesitates


def test_a_step_that_a_network_has_blurred_is_sharp_again_and_few_values_lie_between():
    values, rgb, truth = step_scene(50, blur=1.0)
    found, _ = upsampled(values, everywhere(values), rgb)
    plain, _ = resize_grid(values, everywhere(values), FINE[1], FINE[0])
    between = [((grid > 1.2) & (grid < 1.8)).mean() for grid in (found, plain)]
    assert between[0] < 0.3 * between[1]
    assert np.abs(found - truth).mean() < 0.5 * np.abs(plain - truth).mean()


def test_a_plane_does_not_take_over_the_texture_of_the_picture():
    rows, columns = np.mgrid[: COARSE[0], : COARSE[1]].astype(np.float32)
    values = 3 + 0.05 * rows - 0.02 * columns
    rgb = np.random.default_rng(1).integers(0, 256, (*FINE, 3), dtype=np.uint8)
    found, _ = upsampled(values, everywhere(values), rgb)
    assert np.array_equal(found, resize_grid(values, everywhere(values), FINE[1], FINE[0])[0])


@pytest.mark.parametrize(("gain", "shift"), [(1e-3, 0.0), (250.0, -40.0), (0.5, 90.0), (-2.0, 5.0)])
def test_unit_and_offset_of_the_numbers_do_not_matter(gain, shift):
    rng = np.random.default_rng(2)
    values = cv2.GaussianBlur(rng.normal(size=COARSE).astype(np.float32), (0, 0), 1.5)
    rgb = cv2.resize(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), FINE[::-1], interpolation=cv2.INTER_NEAREST)
    plain, _ = upsampled(values, everywhere(values), rgb)
    other, _ = upsampled((gain * values + shift).astype(np.float32), everywhere(values), rgb)
    off = np.abs((other - shift) / gain - plain) / np.ptp(values)
    assert (off > 1e-3).mean() < 2e-3  # a pixel whose median lies on the border of two bins may fall on either side
    assert not np.allclose(plain, resize_grid(values, everywhere(values), FINE[1], FINE[0])[0], atol=1e-3)


def test_no_value_leaves_the_range_of_the_cells_around_it():
    rng = np.random.default_rng(3)
    values = rng.normal(1000.0, 1.0, COARSE).astype(np.float32)
    rgb = rng.integers(0, 256, (*FINE, 3), dtype=np.uint8)
    found, _ = upsampled(values, everywhere(values), rgb)
    window = np.ones((2 * REACH + 1,) * 2, dtype=np.uint8)
    low, high = (
        cv2.resize(edge(values, window), FINE[::-1], interpolation=cv2.INTER_NEAREST)
        for edge in (cv2.erode, cv2.dilate)
    )
    assert (found >= low).all()
    assert (found <= high).all()


def test_what_is_not_valid_has_no_influence_and_stays_a_hole():
    values, rgb, _ = step_scene()
    valid = everywhere(values)
    valid[8:12, 8:16] = False
    first, second = values.copy(), values.copy()
    first[~valid], second[~valid] = np.nan, -1e30
    found, found_valid = upsampled(first, valid, rgb)
    again, again_valid = upsampled(second, valid, rgb)
    assert np.array_equal(found, again)
    assert np.array_equal(found_valid, again_valid)
    hole = np.zeros(FINE, dtype=bool)
    hole[32:48, 32:64] = True
    assert np.array_equal(found_valid, ~hole)
    assert (found[hole] == 0).all()


def test_the_size_of_the_picture_is_returned_bit_by_bit():
    values = np.random.default_rng(4).normal(size=FINE).astype(np.float32)
    valid = values > 0
    found, found_valid = upsampled(values, valid, np.zeros((*FINE, 3), dtype=np.uint8))
    assert np.array_equal(found, values)
    assert np.array_equal(found_valid, valid)


def test_a_larger_grid_is_averaged_over_what_is_valid():
    values = np.array([[1, 3, 10, 10], [5, 7, 10, 99]], dtype=np.float32)
    valid = np.array([[1, 1, 1, 1], [1, 1, 1, 0]], dtype=bool)
    found, found_valid = upsampled(values, valid, np.zeros((1, 2, 3), dtype=np.uint8))
    assert np.allclose(found, [[4, 10]])
    assert found_valid.all()
    valid[:, 2:] = [[1, 0], [0, 0]]  # a quarter is too little
    assert upsampled(values, valid, np.zeros((1, 2, 3), dtype=np.uint8))[1].tolist() == [[True, False]]


@pytest.mark.parametrize("shape", [(200, 32), (24, 300), (1, 1), (1, 40), (2, 2)])
def test_any_size_of_grid_gives_the_size_of_the_picture(shape):
    values = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    rgb = np.random.default_rng(6).integers(0, 256, (*FINE, 3), dtype=np.uint8)
    found, valid = upsampled(values, everywhere(values), rgb)
    assert found.shape == valid.shape == FINE
    assert valid.all()
    assert np.isfinite(found).all()


def test_constant_and_empty_grids_are_defined():
    rgb = np.random.default_rng(7).integers(0, 256, (*FINE, 3), dtype=np.uint8)
    found, _ = upsampled(np.full(COARSE, 0.3, dtype=np.float32), np.ones(COARSE, dtype=bool), rgb)
    assert np.array_equal(found, np.full(FINE, np.float32(0.3)))
    _, valid = upsampled(np.full(COARSE, np.nan, dtype=np.float32), np.ones(COARSE, dtype=bool), rgb)
    assert not valid.any()
    with pytest.raises(ValueError, match="do not fit"):
        upsampled(np.zeros(COARSE), np.ones((3, 3), dtype=bool), rgb)


def test_a_far_sky_does_not_hide_the_steps_in_front_of_it():
    values, rgb, truth = step_scene(50, blur=1.0)
    values[:6] = 1e4
    found, _ = upsampled(values, everywhere(values), rgb)
    below = slice(48, None)
    plain, _ = resize_grid(values, everywhere(values), FINE[1], FINE[0])
    assert np.abs(found - truth)[below].mean() < 0.5 * np.abs(plain - truth)[below].mean()

"""The fixed random choice of rows."""

import numpy as np

from recon4d.geometry.random_rows import random_rows


def test_rows_are_chosen_at_random_and_alike_every_time():
    first, second = random_rows(1000, 100), random_rows(1000, 100)
    np.testing.assert_array_equal(first, second)
    assert len(first) == 100
    assert (np.diff(first) > 0).all()
    assert len(np.unique(np.diff(first))) > 10  # no regular step
    assert set(random_rows(1000, 50)) < set(first)  # fewer are a part of more


def test_all_rows_where_there_are_not_more_than_wanted():
    for most in (None, 7, 8):
        np.testing.assert_array_equal(random_rows(7, most), np.arange(7))
    assert len(random_rows(0, 5)) == len(random_rows(5, 0)) == 0

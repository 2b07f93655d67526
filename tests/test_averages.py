"""Averages that numpy lacks."""

import numpy as np

from recon4d.geometry.averages import weighted_median


def test_half_of_the_weight_decides_by_hand():
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 5.0])) == 2.0
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.array([5.0, 1.0, 1.0])) == 3.0


def test_what_is_not_known_or_has_no_weight_does_not_count():
    assert weighted_median(np.array([np.nan, 4.0, 9.0]), np.array([8.0, 1.0, 0.0])) == 4.0
    assert np.isnan(weighted_median(np.array([1.0]), np.array([0.0])))
    assert np.isnan(weighted_median(np.zeros(0), np.zeros(0)))

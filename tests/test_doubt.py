"""Sigma of doubted depth: by hand where the answer is known, and as the distribution it describes."""

import math

import numpy as np
import pytest
from scipy.special import erf

from recon4d.geometry.doubt import CLOSE, MISS_SIGMA, doubted_sigma, is_doubted
from recon4d.scene.depth import Provenance

MEASURED = np.zeros(1, dtype=np.uint8)


def sigma(usual: float, confidence: float, provenance: Provenance = Provenance.MEASURED) -> float:
    return float(doubted_sigma(np.array([usual]), np.array([confidence]), np.array([provenance]))[0])


def test_full_confidence_in_own_depth_changes_nothing():
    for origin in (Provenance.MEASURED, Provenance.FITTED):
        assert sigma(0.007, 1.0, origin) == 0.007
        assert not is_doubted(np.ones(3), np.full(3, origin))
    assert is_doubted(np.array([1.0, 0.99]), np.zeros(2))
    assert is_doubted(np.ones(2), np.array([0, Provenance.COMPLETED]))


def test_no_confidence_gives_the_sigma_of_a_miss():
    assert sigma(0.007, 0.0) == pytest.approx(MISS_SIGMA, rel=1e-3)
    assert sigma(0.5, 0.0) == 0.5  # what is usually worse stays so


@pytest.mark.parametrize("confidence", [0.3, 0.5, 0.65, 0.8, 0.95])
def test_68_percent_of_the_errors_lie_within(confidence):
    """Drawn errors: good ones and misses, so mixed that the share within 5 % is the confidence."""
    rng, usual, count = np.random.default_rng(0), 0.01, 400_000
    miss_close = math.erf(CLOSE / MISS_SIGMA / math.sqrt(2))
    good = rng.uniform(size=count) < (confidence - miss_close) / (1 - miss_close)
    error = rng.normal(size=count) * np.where(good, usual, MISS_SIGMA)
    assert (np.abs(error) < CLOSE).mean() == pytest.approx(confidence, abs=0.003)
    assert (np.abs(error) < sigma(usual, confidence)).mean() == pytest.approx(0.6827, abs=0.003)


def test_what_is_second_hand_is_less_sure_and_order_follows_confidence():
    by_origin = [sigma(0.01, 0.9, p) for p in (Provenance.MEASURED, Provenance.OTHER_FRAME, Provenance.COMPLETED)]
    assert by_origin == sorted(by_origin)
    assert by_origin[1] == pytest.approx(1.5 * by_origin[0], rel=0.05)
    assert by_origin[2] > 3 * by_origin[0]
    falling = doubted_sigma(np.full(50, 0.01), np.linspace(0, 1, 50), np.zeros(50))
    assert (np.diff(falling) <= 1e-9).all()


@pytest.mark.parametrize("confidence", [0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0])
def test_second_hand_depth_is_never_surer_than_first_hand_at_one_confidence(confidence):
    by_origin = [
        sigma(0.012, confidence, p) for p in (Provenance.MEASURED, Provenance.OTHER_FRAME, Provenance.COMPLETED)
    ]
    assert by_origin == sorted(by_origin)
    assert by_origin[-1] <= max(MISS_SIGMA, by_origin[0])


def test_bound_by_hand():
    # Good with chance 0.5: 0.5 erf(q / (0.001 sqrt 2)) + 0.5 erf(q / (0.3 sqrt 2)) = 0.6827, and the first erf is 1.
    miss_close = erf(CLOSE / MISS_SIGMA / math.sqrt(2))
    confidence = 0.5 + 0.5 * miss_close
    q = sigma(0.001, confidence)
    assert erf(q / MISS_SIGMA / math.sqrt(2)) == pytest.approx(2 * 0.6827 - 1, rel=1e-3)


def test_grids_keep_their_shape_and_input():
    usual = np.full((2, 3), 0.01)
    origin = np.array([[0, 0, 0], [3, 3, 3]])
    out = doubted_sigma(usual, np.ones((2, 3)), origin)
    np.testing.assert_allclose(out, [[0.01] * 3, [0.04] * 3])
    assert (usual == 0.01).all()

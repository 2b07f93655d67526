"""Least-squares similarities between points."""

from __future__ import annotations

import numpy as np
import pytest

from recon4d.errors import AlignmentError
from recon4d.geometry.similarity import fit_similarity
from recon4d.scene.transforms import Rigid3, Sim3

QUARTER_TURN_ABOUT_Z = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])


def test_similarity_by_hand():
    in_a = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    in_b = np.array([[10.0, 0, 0], [10, 2, 0], [8, 0, 0]])  # twice as large, a quarter turn about z, 10 along x
    b_from_a = fit_similarity(in_a, in_b)
    assert b_from_a.scale == pytest.approx(2.0)
    np.testing.assert_allclose(b_from_a.rotation, QUARTER_TURN_ABOUT_Z, atol=1e-12)
    np.testing.assert_allclose(b_from_a.translation, [10, 0, 0], atol=1e-12)


def test_mirror_image_in_the_plane_is_a_half_turn_in_space():
    in_a = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0]])
    in_b = np.array([[0.0, 0, 0], [-1, 0, 0], [0, 2, 0]])  # a mirror image, which no rotation reaches in the plane
    b_from_a = fit_similarity(in_a, in_b)
    # In space the half turn about y maps one onto the other exactly.
    np.testing.assert_allclose(b_from_a.rotation, np.diag([-1.0, 1, -1]), atol=1e-12)
    assert b_from_a.scale == pytest.approx(1.0)


def test_mirror_image_in_space_still_gives_a_rotation():
    in_a = np.random.default_rng(0).normal(size=(50, 3))
    b_from_a = fit_similarity(in_a, in_a * [1, 1, -1])
    assert np.linalg.det(b_from_a.rotation) == pytest.approx(1.0)


def test_round_trip_and_noise():
    rng = np.random.default_rng(1)
    truth = Sim3(0.37, Rigid3.from_quat_xyzw([0.3, -0.2, 0.5, 0.7], np.zeros(3)).rotation, np.array([3.0, -2, 1]))
    in_a = rng.normal(size=(200, 3)) * [5, 1, 0.2]
    found = fit_similarity(in_a, truth @ in_a)
    np.testing.assert_allclose(found.matrix, truth.matrix, atol=1e-10)
    noisy = fit_similarity(in_a, truth @ in_a + rng.normal(scale=1e-3, size=in_a.shape))
    np.testing.assert_allclose(noisy.matrix, truth.matrix, atol=3e-3)


def test_least_squares_optimum_cannot_be_improved():
    rng = np.random.default_rng(3)
    in_a, in_b = rng.normal(size=(20, 3)), rng.normal(size=(20, 3))
    best = fit_similarity(in_a, in_b)

    def cost(sim: Sim3) -> float:
        return float(((sim @ in_a - in_b) ** 2).sum())

    for _ in range(30):
        turn = Rigid3.from_quat_xyzw([*rng.normal(scale=1e-2, size=3), 1.0], np.zeros(3)).rotation
        near = Sim3(
            best.scale * np.exp(rng.normal(scale=1e-2)),
            turn @ best.rotation,
            best.translation + rng.normal(scale=1e-2, size=3),
        )
        assert cost(near) >= cost(best)


@pytest.mark.parametrize(
    ("in_a", "words"),
    [
        (np.zeros((2, 3)), "at least 3"),
        (np.outer(np.arange(5.0), [1, 2, 3]) + 7, "on one line"),
        (np.ones((5, 3)), "on one line"),
        (np.full((5, 3), np.nan), "not finite"),
    ],
)
def test_unusable_points_are_refused(in_a, words):
    in_b = np.random.default_rng(4).normal(size=in_a.shape)
    with pytest.raises(AlignmentError, match=words):
        fit_similarity(in_a, in_b)


def test_small_but_flat_constellations_are_kept():
    flat = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1e-3, 0], [1, 1e-3, 0]]) * 1e-4  # thin and tiny, yet no line
    assert fit_similarity(flat, flat * 2).scale == pytest.approx(2.0)

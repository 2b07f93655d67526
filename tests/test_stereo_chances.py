"""Chances that stereo is right: which way each sign pulls, and what is texture."""

import numpy as np
import pytest

from recon4d.depth.stereo_chances import (
    LOOK_MODEL,
    PLAIN,
    SETTLED_MODEL,
    STEADIED_MODEL,
    WINDOW,
    LookSigns,
    Signs,
    chance_of_look,
    chance_of_settled,
    chance_of_steadied,
    contrast,
    look_features,
    settled_features,
    texture_share,
)
from recon4d.geometry.depth_votes import Evidence

VOTED = pytest.mark.parametrize(
    ("chance", "model"),
    [(chance_of_settled, SETTLED_MODEL), (chance_of_steadied, STEADIED_MODEL)],
    ids=["settled", "steadied"],
)


def row(*values):
    return np.array([values], dtype=np.float32)


def signs(**changed):
    """Signs of one row of pixels, the same everywhere but for those that change along it."""
    usual = {"agreeing": 3.0, "beyond": 1.0, "before": 0.5, "trust": 0.5, "own": 0.5, "on_plane": False}
    length = max((len(values) for values in changed.values()), default=1)
    grids = {name: row(*changed.get(name, [value] * length)) for name, value in usual.items()}
    evidence = Evidence(*(grids.pop(name) for name in Evidence._fields))
    return Signs(evidence, grids["trust"], grids["own"], grids["on_plane"].astype(bool))


def look(margin, cost, noise=20.0):
    """Signs of a row of pixels in a noisy picture."""
    grey = np.random.default_rng(0).normal(128, noise, (1, len(margin))).astype(np.float32)
    return LookSigns(row(*margin), row(*cost), grey)


def logistic(x):
    return 1 / (1 + np.exp(-x))


# A frame's own look.


def test_a_larger_margin_is_a_better_chance_and_a_larger_cost_a_worse_one():
    grey = np.full((1, 5), 90, dtype=np.float32)
    margins = chance_of_look(LookSigns(row(0.1, 0.5, 2, 8, 40), row(*[0.3] * 5), grey))
    assert (np.diff(margins) > 0).all()
    costs = chance_of_look(LookSigns(row(*[2.0] * 5), row(0, 0.1, 0.3, 0.6, 1), grey))
    assert (np.diff(costs) < 0).all()


def test_chance_of_a_look_by_hand():
    # Uniform grey has no contrast, and the log of a margin of 1 is 0: cost and constant are left.
    plain = np.full((1, 2), 90, dtype=np.float32)
    found = chance_of_look(LookSigns(row(1, np.e), row(0.4, 0), plain))
    margin, cost, _, constant = LOOK_MODEL
    np.testing.assert_allclose(found, [logistic(np.array([0.4 * cost + constant, margin + constant]))], rtol=1e-5)


def test_chances_of_looks_stay_finite_and_between_0_and_1():
    extremes = look([0, 1e-30, 1e30, np.inf], [0, 1, 0, 1], noise=0)
    assert np.isfinite(look_features(extremes)).all()
    for found in (chance_of_look(extremes), chance_of_look(look([0, np.inf, np.inf, 0], [1, 0, 1, 0], noise=80))):
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        assert ((found >= 0) & (found <= 1)).all()
    # Beyond some margin, there is nothing more to gain.
    sure = chance_of_look(LookSigns(row(1e9, np.inf), row(0.1, 0.1), np.full((1, 2), 90, dtype=np.float32)))
    assert sure[0, 0] == sure[0, 1]


# What the votes tell.


@VOTED
def test_votes_for_a_depth_raise_its_chance_and_votes_against_it_lower_it(chance, model):
    assert (np.diff(chance(signs(agreeing=[0, 0.5, 2, 8, 30]))) > 0).all()
    assert (np.diff(chance(signs(beyond=[0, 0.5, 2, 8, 30]))) < 0).all()
    assert (np.diff(chance(signs(before=[0, 0.5, 2, 8, 30]))) < 0).all()


@VOTED
def test_the_frames_own_confidence_raises_the_chance(chance, model):
    assert (np.diff(chance(signs(own=[0, 0.3, 0.6, 1]))) > 0).all()


@VOTED
def test_chance_by_the_votes_by_hand(chance, model):
    agreeing, beyond, before, trust, own, plane, constant = model
    found = chance(signs(agreeing=[3.0, 0.0], beyond=[1.0, 0.0], before=[0.0, 4.0], on_plane=[False, True]))
    shared = 0.5 * trust + 0.5 * own + constant
    expected = [np.log(4) * agreeing + beyond / 5 + shared, 4 / 5 * before + plane + shared]
    np.testing.assert_allclose(found, [logistic(np.array(expected))], rtol=1e-5)


@VOTED
def test_chances_by_the_votes_stay_finite_and_between_0_and_1(chance, model):
    for votes in (0.0, 1e-6, 1e6):
        for on_plane in (False, True):
            extremes = signs(
                agreeing=[votes, 0, 0], beyond=[0, votes, 0], before=[0, 0, votes], on_plane=[on_plane] * 3
            )
            found = chance(extremes)
            assert found.dtype == np.float32
            assert np.isfinite(found).all()
            assert ((found >= 0) & (found <= 1)).all()


def test_every_coefficient_weighs_one_sign():
    assert look_features(look([1, 2], [0.1, 0.2])).shape == (1, 2, len(LOOK_MODEL) - 1)
    for model in (SETTLED_MODEL, STEADIED_MODEL):
        assert settled_features(signs()).shape == (1, 1, len(model) - 1)


# Texture.


def test_contrast_of_a_checkerboard():
    y, x = np.indices((20, 24))
    board = np.where((x + y) % 2 == 0, 100.0, 140.0)
    # A window of an odd number n of pixels holds (n + 1) / 2 of one kind: the variance is 40^2 (n^2 - 1) / (4 n^2).
    n = WINDOW**2
    inner = contrast(board)[WINDOW:-WINDOW, WINDOW:-WINDOW]
    np.testing.assert_allclose(inner, 20 * np.sqrt(1 - 1 / n**2), rtol=1e-4)


def test_contrast_of_an_edge_and_of_channels():
    edge = np.zeros((16, 30, 3), dtype=np.uint8)
    edge[:, 15:, 1] = 70
    found = contrast(edge)
    assert found.shape == edge.shape
    assert not found[..., (0, 2)].any()
    # The window of column 14 holds WINDOW // 2 bright columns, of column 11 none.
    share = WINDOW // 2 / WINDOW
    np.testing.assert_allclose(found[8, 14, 1], 70 * np.sqrt(share * (1 - share)), rtol=1e-4)
    assert found[8, 14 - WINDOW // 2, 1] == 0


def test_a_plain_bright_picture_has_no_contrast():
    assert contrast(np.full((20, 20), 251, dtype=np.uint8)).max() < 0.2


def test_share_of_texture_is_half_where_there_is_as_much_of_it_as_none():
    y, x = np.indices((30, 30))
    board = np.where((x + y) % 2 == 0, -1, 1)
    rgb = np.full((30, 30, 3), 128.0)
    rgb[..., 2] += PLAIN * board  # only one channel has it
    share = texture_share(rgb)
    np.testing.assert_allclose(share[10:20, 10:20], 0.5, atol=0.001)
    assert texture_share(np.full((30, 30, 3), 128, dtype=np.uint8)).max() < 1e-3
    rgb[..., 0] += 3 * PLAIN * board  # and the channel that has most counts
    np.testing.assert_allclose(texture_share(rgb)[10:20, 10:20], 0.9, atol=0.001)

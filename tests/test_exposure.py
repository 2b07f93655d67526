"""Gains between pictures from the colours of common points."""

import numpy as np

from recon4d.geometry.exposure import exposure_gains


def looks(gains, points=60, seen=0.6, outliers=0.0, seed=0):
    """Observations of random points under known exposures."""
    rng = np.random.default_rng(seed)
    albedo = rng.uniform(40, 120, (points, 3))
    found = {}
    for name, gain in gains.items():
        rows = np.flatnonzero(rng.random(points) < seen)
        colors = albedo[rows] * gain
        wrong = rng.random(len(rows)) < outliers
        colors[wrong] = rng.uniform(10, 240, (wrong.sum(), 3))
        found[name] = rows, colors
    return found


TRUE = {f"{k}": np.exp(np.array([0.3, 0.2, 0.1]) * np.sin(k)) for k in range(8)}


def relative(gains):
    logs = np.array([np.log(gains[name]) for name in TRUE])
    return logs - logs.mean(axis=0)


def test_known_exposures_come_back():
    found = exposure_gains(looks(TRUE))
    np.testing.assert_allclose(relative(found), -relative(TRUE), atol=2e-3)
    np.testing.assert_allclose(np.sum([np.log(gain) for gain in found.values()], axis=0), 0, atol=1e-9)


def test_wrong_matches_hardly_matter():
    found = exposure_gains(looks(TRUE, points=400, outliers=0.15))
    np.testing.assert_allclose(relative(found), -relative(TRUE), atol=0.02)


def test_two_frames_by_hand():
    rows = np.arange(50)
    found = exposure_gains({"a": (rows, np.full((50, 3), 50.0)), "b": (rows, np.full((50, 3), 100.0))})
    np.testing.assert_allclose(found["b"] / found["a"], 0.5, rtol=1e-3)
    np.testing.assert_allclose(found["a"] * found["b"], 1.0)


def test_burnt_and_black_pixels_say_nothing():
    rows = np.arange(100)
    a, b = np.full((100, 3), 50.0), np.full((100, 3), 60.0)
    a[:50], b[:50] = 255, 20
    found = exposure_gains({"a": (rows, a), "b": (rows, b)})
    np.testing.assert_allclose(found["b"] / found["a"], 50 / 60, rtol=1e-3)


def test_frames_without_common_points_keep_their_colours():
    found = exposure_gains(
        {"a": (np.array([1, 2]), np.full((2, 3), 50.0)), "b": (np.array([3]), np.full((1, 3), 90.0))}
    )
    np.testing.assert_allclose(list(found.values()), 1.0)
    assert exposure_gains({}) == {}
    empty = exposure_gains({"a": (np.zeros(0, int), np.zeros((0, 3)))})
    np.testing.assert_allclose(empty["a"], 1.0)

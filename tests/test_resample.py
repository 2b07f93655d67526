"""Reading between pixels: both kernels are one formula, whatever numba keeps on the disk."""

import os
import subprocess
import sys

import numpy as np

from recon4d.geometry import resample
from recon4d.geometry.resample import sample_grid


def test_between_four_pixels_and_beside_a_hole_by_hand():
    values, valid = np.array([[1.0, 2.0], [3.0, 8.0]]), np.ones((2, 2), dtype=bool)
    found, known = sample_grid(values, valid, np.array([1.0, 0.5, 1.25]), np.array([1.0, 0.5, 1.0]))
    np.testing.assert_allclose(found, [3.5, 1.0, (1 * 0.25 + 2 * 0.75 + 3 * 0.25 + 8 * 0.75) / 2])
    valid[1, 1] = False
    found, known = sample_grid(values, valid, np.array([0.9, 1.4]), np.array([1.1, 1.4]))
    np.testing.assert_array_equal(known, [True, False])
    assert found[0] == 3.0


def test_few_and_many_positions_are_read_alike(monkeypatch):
    rng = np.random.default_rng(0)
    values, valid = rng.uniform(size=(40, 60)), rng.random((40, 60)) < 0.8
    x, y = rng.uniform(-2, 62, 5000), rng.uniform(-2, 42, 5000)
    few = sample_grid(values, valid, x, y)
    monkeypatch.setattr(resample, "MANY", 0)
    many = sample_grid(values, valid, x, y)
    np.testing.assert_array_equal(few[0], many[0])
    np.testing.assert_array_equal(few[1], many[1])


def test_the_kernels_are_compiled_apart(tmp_path):
    """Two dispatchers of one function would load each other's code from numba's cache."""
    code = (
        "import numpy as np; from recon4d.geometry import resample as r; grid = np.ones((4, 4)); at = np.ones(3); "
        "r.sample_grid(grid, grid > 0, at, at); r.MANY = 0; r.sample_grid(grid, grid > 0, at, at); "
        "print(sum(r._sample_many.stats.cache_hits.values()), sum(r._sample_many.stats.cache_misses.values()))"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["0", "1"]

"""The search for a frame's depth on scenes whose truth is known, and the linear system of its steps."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from refine_scene import STEP, WALL, problem_of, views_of
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve

from recon4d.geometry.photo_cost import GreyView
from recon4d.geometry.smooth_solver import solve
from recon4d.refine.frame import LOOKS_AGAIN, Style, refine
from recon4d.refine.sweep import sweep

SIZE = (128, 96)


def without_depth(views):
    """Views whose pictures are known and whose depth is not to be listened to."""
    return [views[0], *(replace(v, precision=np.zeros_like(v.precision)) for v in views[1:])]


def error(x, truth):
    """AbsRel of depth."""
    return float(np.abs(np.exp(truth - x) - 1).mean())


def bent(x, size):
    """A prior that is wrong by ``size`` in the mean, and more in some places than in others."""
    rows, columns = np.indices(x.shape) / np.array(x.shape)[:, None, None]
    return x + size * (1 + 0.4 * np.sin(4 * rows + 1) * np.cos(5 * columns)).astype(x.dtype)


@pytest.mark.parametrize("planes", [WALL, STEP], ids=["wall", "step"])
def test_a_perfect_prior_is_not_made_worse(planes):
    views = without_depth(views_of(planes, SIZE, 4, dtype=np.float32))
    problem, truth = problem_of(views), views[0].x
    found = refine(problem, Style())
    # Windows across a silhouette see two surfaces move, which costs the pixels beside it some accuracy.
    beside = np.zeros(truth.shape, dtype=bool)
    for row, column in np.argwhere(problem.right[:, :-1] == 0):
        beside[row, max(0, column - 4) : column + 6] = True
    assert error(found.x[~beside], truth[~beside]) < 5e-4
    assert error(found.x, truth) < 1e-3


@pytest.mark.parametrize("planes", [WALL, STEP], ids=["wall", "step"])
def test_a_wrong_prior_is_corrected(planes):
    views = without_depth(views_of(planes, SIZE, 4, dtype=np.float32))
    truth = views[0].x
    prior = bent(truth, 0.05)
    assert error(prior, truth) > 0.04
    found = refine(problem_of(views, prior), Style(), steps=20)
    assert error(found.x, truth) < 0.01


def test_the_energy_never_rises():
    views = views_of(STEP, SIZE, 4, dtype=np.float32)
    found = refine(problem_of(views, bent(views[0].x, 0.04)), Style(), steps=7)
    totals = [sum(terms.values()) for terms in found.energies]
    assert len(totals) > 3
    for count, (before, after) in enumerate(pairwise(totals), start=1):
        if count % LOOKS_AGAIN:  # under another visibility energies do not compare
            assert after <= before
    assert totals[LOOKS_AGAIN - 1] < 0.5 * totals[0]


def test_a_start_may_know_more_than_the_prior():
    """Holes of the prior in which a sweep has found something made the energy no number, and the search end."""
    views = without_depth(views_of(WALL, SIZE, 3, dtype=np.float32))
    truth = views[0].x
    prior = bent(truth, 0.05)
    prior[20:30, 30:45] = np.nan
    found = refine(problem_of(views, prior), Style(), start=np.where(np.isnan(prior), truth + 0.05, prior), steps=20)
    known = np.isfinite(prior)
    assert error(found.x[known], truth[known]) < 0.015
    assert error(found.x[~known], truth[~known]) < 0.05


def test_without_views_the_prior_stays():
    views = views_of(WALL, SIZE, 1, dtype=np.float32)
    found = refine(problem_of(views), Style())
    np.testing.assert_array_equal(found.x, views[0].x)
    assert (found.hessian == 0).all()


def test_the_other_views_depth_is_taken_over():
    """Views of known depth and no picture: the wrong prior becomes their depth."""
    views = views_of(WALL, SIZE, 4, dtype=np.float32)
    truth = views[0].x
    views = [replace(v, grey=np.full_like(v.grey, np.nan), precision=np.full_like(v.x, 1e4)) for v in views]
    found = refine(problem_of(views, truth + 0.03), Style(), steps=15)
    assert error(found.x, truth) < 0.002
    assert np.median(found.agreeing) == 3
    assert found.agreeing[20:-20, 25:-25].min() == 3
    assert (found.alike == 0).all()


def test_a_sweep_brings_a_large_error_into_reach():
    views = without_depth(views_of(WALL, SIZE, 4, dtype=np.float32))
    truth = views[0].x
    prior = bent(truth, 0.15)
    greys = [GreyView(v.grey, v.camera, v.cam_from_world) for v in views]
    swept = sweep(greys[0], greys[1:], prior)
    inner = (slice(6, -6), slice(6, -6))
    assert np.median(np.abs(swept.x - truth)[inner]) < 0.02
    problem = problem_of(views, prior)
    alone, helped = (refine(problem, Style(), start=start, steps=20) for start in (None, swept.x))
    assert error(helped.x[inner], truth[inner]) < 0.01
    assert error(helped.x[inner], truth[inner]) < error(alone.x[inner], truth[inner])


# The linear system


def random_system(shape, seed=0):
    chance = np.random.default_rng(seed)
    diagonal = np.where(chance.uniform(size=shape) < 0.3, chance.uniform(0, 100, shape), 0.01)
    right, down = (10 ** chance.uniform(-1, 4, shape) * (chance.uniform(size=shape) < 0.9) for _ in range(2))
    return diagonal, right, down, chance.normal(0, 10, shape)


def matrix_of(diagonal, right, down):
    """The same system written out; springs of the last column and row lead nowhere."""
    at = np.arange(diagonal.size).reshape(diagonal.shape)
    rows, columns, values = [at.ravel()], [at.ravel()], [diagonal.ravel()]
    ends = (at[:, :-1], at[:, 1:], right[:, :-1]), (at[:-1], at[1:], down[:-1])
    for a, b, k in ends:
        a, b, k = a.ravel(), b.ravel(), k.ravel()
        rows += [a, b, a, b]
        columns += [a, b, b, a]
        values += [k, k, -k, -k]
    return coo_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))).tocsc()


@pytest.mark.parametrize("shape", [(17, 23), (24, 9), (1, 30), (31, 1)])
def test_steps_solve_the_system(shape):
    system = random_system(shape)
    expected = spsolve(matrix_of(*system[:3]), system[3].ravel()).reshape(shape)
    found = solve(*system, tolerance=1e-10, rounds=5000)
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


def test_the_usual_tolerance_is_enough():
    system = random_system((60, 80), seed=1)
    expected = spsolve(matrix_of(*system[:3]), system[3].ravel()).reshape(60, 80)
    found = solve(*(grid.astype(np.float32) for grid in system))
    assert found.dtype == np.float32
    residual = matrix_of(*system[:3]) @ found.ravel() - system[3].ravel()
    away = found - expected
    whole = float(expected.ravel() @ system[3].ravel())
    assert float(away.ravel() @ (matrix_of(*system[:3]) @ away.ravel())) < 1e-4 * whole  # in the energy's own norm
    assert np.isfinite(residual).all()


def test_pixels_nothing_is_known_of_stay():
    diagonal, right, down, target = np.zeros((4, 5, 7))
    diagonal[1, 1], target[1, 1], right[1, 1] = 2, 6, 50
    found = solve(diagonal, right, down, target)
    expected = np.zeros((5, 7))
    expected[1, 1:3] = 3
    np.testing.assert_allclose(found, expected, atol=1e-2)

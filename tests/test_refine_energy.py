"""The energy of a frame's depth: its derivatives, its readable twin, and numbers by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from refine_scene import STEP, WALL, camera_of, problem_of, seen_by, views_of

from recon4d.refine.frame import FrameEnergy, Style
from recon4d.refine.terms import RANGE, Opinion
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

SIZE = (26, 20)
QUIET = Style(photo=0, depth=0, opinion=0, stiffness=0, reach=np.inf)  # nothing speaks
ALONE = {
    "photometric": replace(QUIET, photo=Style.photo),
    "depth": replace(QUIET, depth=Style.depth),
    "opinions": replace(QUIET, opinion=Style.opinion),
    "shape": replace(QUIET, stiffness=Style.stiffness),
    "level": replace(QUIET, stiffness=Style.stiffness, reach=Style.reach),
}


def shaken(x, size, seed=0):
    return x + np.random.default_rng(seed).normal(0, size, x.shape)


def general_problem(planes=WALL, size=SIZE, count=3):
    """Everything at once: opinions right and wrong, partly moving, a hole in the prior, a mask in a view."""
    views = views_of(planes, size, count)
    chance = np.random.default_rng(1)
    shape = views[0].x.shape
    views[0].grey[14:16, 20:23] = np.nan
    views[1].grey[5:8, 12:16] = np.nan
    views[2].precision[:, :6] = 0
    views[2].x[9:12, 3:7] = np.nan
    opinions = [
        Opinion(shaken(views[0].x, 0.02), np.full(shape, 0.015), chance.uniform(0, 0.97, shape)),
        Opinion(shaken(views[0].x, 0.3, seed=2), chance.uniform(0.01, 0.03, shape), np.full(shape, 0.5)),
    ]
    prior = shaken(views[0].x, 0.004, seed=3)
    prior[3:5, 3:6] = np.nan
    return problem_of(views, prior, static=chance.uniform(0, 1, shape), opinions=opinions)


@pytest.mark.parametrize("term", [*ALONE, "together"])
def test_gradient_is_the_slope_of_the_energy(term):
    problem = general_problem()
    if term == "level":
        problem = replace(problem, right=np.zeros_like(problem.right), down=np.zeros_like(problem.down))
    energy = FrameEnergy(problem, ALONE.get(term, Style()))
    x = shaken(problem.own.x, 0.006, seed=4)
    gradient = energy.at(x, look_again=True).gradient
    numeric = np.zeros_like(x)
    step = 1e-6
    for at in zip(*np.nonzero(np.isfinite(x))):
        sides = []
        for sign in (step, -step):
            moved = x.copy()
            moved[at] += sign
            sides.append(energy.at(moved, look_again=False).total)
        numeric[at] = (sides[0] - sides[1]) / (2 * step)
    assert np.abs(numeric).max() > 1
    np.testing.assert_allclose(gradient, numeric, atol=2e-6 * np.abs(numeric).max())


def test_double_precision_stays_so():
    problem = general_problem()
    state = FrameEnergy(problem, Style()).at(problem.own.x, look_again=True)
    for name in ("gradient", "hessian", "data", "right", "down", "agreeing", "alike"):
        assert getattr(state, name).dtype == np.float64, name


def single(problem):
    """The same problem in float32."""

    def view(v):
        return replace(v, grey=v.grey.astype("f4"), x=v.x.astype("f4"), precision=v.precision.astype("f4"))

    def small(opinion):
        return Opinion(*(np.asarray(v, "f4") for v in (opinion.x, opinion.sigma, opinion.chance)))

    grids = {name: getattr(problem, name).astype("f4") for name in ("static", "right", "down")}
    views, opinions = [view(v) for v in problem.views], [small(o) for o in problem.opinions]
    return replace(problem, own=view(problem.own), views=views, opinions=opinions, **grids)


def test_single_precision_agrees_with_double():
    problem = general_problem(STEP, (48, 36))
    x = shaken(problem.own.x, 0.004, seed=4)
    double = FrameEnergy(problem, Style()).at(x, look_again=True)
    state = FrameEnergy(single(problem), Style()).at(x.astype("f4"), look_again=True)
    assert state.gradient.dtype == state.hessian.dtype == np.float32
    for term, value in double.energies.items():
        assert state.energies[term] == pytest.approx(value, rel=1e-4), term
    for name in ("gradient", "hessian", "alike"):
        expected = getattr(double, name)
        np.testing.assert_allclose(getattr(state, name), expected, atol=1e-3 * np.abs(expected).max(), err_msg=name)


# Photometric term


def window_of(grid, row, column, radius):
    return grid[max(0, row - radius) : row + radius + 1, max(0, column - radius) : column + radius + 1]


def readable_likeness(own, warped, static, style):
    """Photometric energy of one view (all (H, W)), and ZNCC, NaN where too little of a window is seen."""
    total, zncc = 0.0, np.full(own.shape, np.nan)
    for row, column in np.ndindex(own.shape):
        o, w = (window_of(grid, row, column, style.radius) for grid in (own, warped))
        seen = np.isfinite(w) & np.isfinite(o)
        if seen.sum() < 0.6 * (2 * style.radius + 1) ** 2:
            continue
        o, w = o[seen] - o[seen].mean(), w[seen] - w[seen].mean()
        zncc[row, column] = (o * w).mean() / math.sqrt(((o * o).mean() + 4) * ((w * w).mean() + 4))
        cost = 1 - zncc[row, column]
        total += style.photo * static[row, column] * cost * style.photo_cut / (style.photo_cut + cost)
    return total, zncc


def readable_warp(own, x, view):
    """What a view shows at a frame's pixels, NaN where it does not see them; its inverse depth and ours there."""
    warped, theirs, ours = (np.full(x.shape, np.nan) for _ in range(3))
    points = own.cam_from_world.inverse() @ own.camera.unproject(np.exp(-x))
    in_view = view.cam_from_world @ points
    place = view.camera.project(in_view) - 0.5
    height, width = view.grey.shape
    for at in np.ndindex(x.shape):
        u, v = place[at]
        if not (0 <= u < width - 1 and 0 <= v < height - 1):
            continue
        left, top = int(u), int(v)
        a, b = u - left, v - top
        weights = np.array([[(1 - a) * (1 - b), a * (1 - b)], [(1 - a) * b, a * b]])
        four = np.exp(view.x[top : top + 2, left : left + 2])
        nearest = four[int(b >= 0.5), int(a >= 0.5)]
        inverse = 1 / in_view[at][2]
        if nearest > inverse * math.exp(0.04):
            continue
        warped[at] = (weights * view.grey[top : top + 2, left : left + 2]).sum()
        if four.max() < four.min() * math.exp(0.04):
            theirs[at], ours[at] = (weights * four).sum(), inverse
    return warped, theirs, ours


@pytest.mark.parametrize("radius", [1, 2, 3])
@pytest.mark.parametrize("planes", [WALL, STEP], ids=["wall", "step"])
def test_windows_against_the_readable_twin(planes, radius):
    problem = general_problem(planes)
    style = replace(ALONE["photometric"], radius=radius)
    x = shaken(problem.own.x, 0.004, seed=4)
    state = FrameEnergy(problem, style).at(x, look_again=True)
    total, alike = 0.0, []
    for view in problem.views:
        warped, _, _ = readable_warp(problem.own, x, view)
        energy, zncc = readable_likeness(problem.own.grey, warped, problem.static, style)
        total += energy
        alike.append(zncc)
    seen = np.isfinite(alike).sum(axis=0)
    assert 0 < (seen == 1).sum() < seen.size  # views that see little take part
    assert state.energies["photometric"] == pytest.approx(total, rel=1e-5)
    np.testing.assert_allclose(state.alike, np.nansum(alike, axis=0) / np.maximum(seen, 1), atol=1e-5)


def test_views_may_have_another_size():
    problem = general_problem()
    pose = problem.views[0].cam_from_world
    views = [seen_by(WALL, camera_of(37, 31), pose), seen_by(WALL, camera_of(17, 14), pose)]
    problem = replace(problem, views=views)
    x = shaken(problem.own.x, 0.004, seed=4)
    style = replace(QUIET, photo=Style.photo, depth=Style.depth)
    state = FrameEnergy(problem, style).at(x, look_again=True)
    photo = depth = 0.0
    for view in views:
        warped, theirs, ours = readable_warp(problem.own, x, view)
        photo += readable_likeness(problem.own.grey, warped, problem.static, style)[0]
        away2 = style.depth / (1e-3 + style.noise**2) * np.log(ours / theirs) ** 2
        depth += np.nansum(problem.static * 0.5 * style.cut**2 * away2 / (style.cut**2 + away2))
    assert photo > 1
    assert state.energies["photometric"] == pytest.approx(photo, rel=1e-5)
    assert state.energies["depth"] == pytest.approx(depth, rel=2e-2)  # between pixels it reads x, the twin its exponent


def test_a_window_by_hand():
    """Of a 6 x 5 picture whose twin is seen from the same place, only 5 x 4 pixels lie between pixels."""
    camera = Camera(6, 5, 8.0, 8.0, 3.0, 2.5)
    chance = np.random.default_rng(5)
    own, other = chance.uniform(0, 255, (2, 5, 6))
    view = seen_by(WALL, camera, Rigid3.identity())
    problem = problem_of([replace(view, grey=own), replace(view, grey=other)], static=np.zeros((5, 6)))
    problem.static[2, 2] = 0.5
    state = FrameEnergy(problem, ALONE["photometric"]).at(view.x, look_again=True)
    a, b = own[:4, :5].ravel(), other[:4, :5].ravel()
    zncc = np.cov(a, b, bias=True)[0, 1] / math.sqrt((a.var() + 4) * (b.var() + 4))
    assert state.alike[2, 2] == pytest.approx(zncc, abs=1e-5)
    assert state.energies["photometric"] == pytest.approx(2 * 0.5 * (1 - zncc) * 0.2 / (0.2 + 1 - zncc), rel=1e-5)
    assert state.alike[0, 5] == 0  # 3 x 3 pixels less a column: too few


def test_the_same_place_looks_the_same():
    """Half a pixel of difference between the projection and the reading of pictures would show."""
    view = views_of(WALL, (40, 30), 1)[0]
    state = FrameEnergy(problem_of([view, view]), Style()).at(view.x, look_again=True)
    variance = np.array([[window_of(view.grey, y, x, 2).var() for x in range(3, 36)] for y in range(3, 26)])
    np.testing.assert_allclose(state.alike[3:26, 3:36], variance / (variance + 4), atol=1e-4)
    assert state.energies["depth"] < 1e-4
    assert state.agreeing[1:-2, 1:-2].min() == 1


def test_exposure_and_contrast_do_not_matter():
    """Up to the floor on the variances, which pictures of high contrast hardly feel."""
    problem = general_problem()
    loud = replace(problem.own, grey=1000 * problem.own.grey)
    views = [replace(v, grey=1000 * v.grey) for v in problem.views]
    changed = [replace(v, grey=0.7 * v.grey + 31) for v in views]
    x = shaken(problem.own.x, 0.006, seed=4)
    style = ALONE["photometric"]
    first, second = (
        FrameEnergy(replace(problem, own=loud, views=v), style).at(x, look_again=True) for v in (views, changed)
    )
    assert first.total > 1
    assert second.total == pytest.approx(first.total, rel=1e-5)
    np.testing.assert_allclose(second.gradient, first.gradient, atol=1e-5 * np.abs(first.gradient).max())


# What the views see


def test_depth_against_the_readable_twin():
    problem = general_problem(STEP, (48, 36))
    problem = replace(problem, static=np.ones_like(problem.static))
    for view in problem.views:
        view.precision[:] = 2e3
    style = ALONE["depth"]
    x = shaken(problem.own.x, 0.02, seed=4)
    state = FrameEnergy(problem, style).at(x, look_again=True)
    total, counts = 0.0, np.zeros(x.shape)
    sure = style.depth / (1 / 2e3 + style.noise**2)
    for view in problem.views:
        _, theirs, ours = readable_warp(problem.own, x, view)
        away2 = sure * np.log(ours / theirs) ** 2
        total += np.nansum(0.5 * style.cut**2 * away2 / (style.cut**2 + away2))
        counts += away2 < style.cut**2
    nearest_only = 0.1 * total  # four pixels of two surfaces: the nearest of them is taken, which the twin leaves out
    assert total <= state.energies["depth"] <= total + nearest_only
    assert (state.agreeing >= counts).all()
    assert (state.agreeing > counts).mean() < 0.1


def test_what_is_hidden_takes_no_part():
    """The wall beside the near plane, as far as another view has the near plane there."""
    views = views_of(STEP, (48, 36), 3)[::2]  # the second stands to the left, where the near plane is
    x = views[0].x
    near = x > x.min() + 0.5 * (x.max() - x.min())
    warped, _, _ = readable_warp(views[0], x, views[1])
    hidden = np.isnan(warped) & ~near
    hidden[:, :10] = hidden[:, 38:] = False
    hidden[:3] = hidden[-3:] = False
    assert hidden.sum() > 20
    depth = replace(ALONE["depth"], cut=1e3)
    state = FrameEnergy(problem_of(views), depth).at(x, look_again=True)
    assert (state.hessian[hidden] == 0).all()
    assert (state.agreeing[hidden] == 0).all()
    # Whatever the view shows where it sees the near plane, pixels of the wall are not matched with it.
    alike = FrameEnergy(problem_of(views), ALONE["photometric"]).at(x, look_again=True).alike
    assert np.median(alike[~near & (alike != 0)]) > 0.98
    assert (alike[hidden] > 0.9).mean() > 0.8  # of the rest of the window, or 0.0 where that is too little


def test_visibility_is_kept_unless_asked_again():
    views = views_of(STEP, (48, 36), 2)
    energy = FrameEnergy(problem_of(views), ALONE["depth"])
    seen = energy.at(views[0].x, look_again=True)
    behind = views[0].x - 0.3
    kept = energy.at(behind, look_again=False)
    again = energy.at(behind, look_again=True)
    assert (kept.hessian > 0).mean() > 0.5 * (seen.hessian > 0).mean()
    assert (again.hessian > 0).sum() == 0  # all of it now lies behind what the view sees


def test_pixels_without_depth_stay_out():
    problem = general_problem()
    state = FrameEnergy(problem, Style()).at(problem.own.x, look_again=True)
    hole = np.isnan(problem.own.x)
    assert hole.sum() == 6
    assert np.isfinite(state.total)
    for grid in (state.gradient, state.hessian, state.agreeing, state.right, state.down):
        assert (grid[hole] == 0).all()


# Opinions and springs


def test_an_opinion_by_hand():
    view = views_of(WALL, (8, 6), 1)[0]
    chance = np.zeros(view.x.shape)
    chance[2, 3] = 0.8
    opinion = Opinion(view.x - 0.03, np.full_like(view.x, 0.02), chance)
    state = FrameEnergy(problem_of([view], opinions=[opinion]), ALONE["opinions"]).at(view.x, look_again=True)
    spread = 0.2 * 0.02 * math.sqrt(2 * math.pi) / RANGE
    right = 0.8 * math.exp(-0.5 * 1.5**2)
    weight = 0.1 * right / (right + spread) / 0.02**2
    assert state.energies["opinions"] == pytest.approx(0.1 * math.log((0.8 + spread) / (right + spread)))
    assert state.gradient[2, 3] == pytest.approx(0.03 * weight)
    assert state.hessian[2, 3] == pytest.approx(weight)
    assert np.count_nonzero(state.hessian) == 1


def test_springs_by_hand():
    view = views_of(WALL, (4, 3), 1)[0]
    x = view.x.copy()
    x[1, 1] += 0.02
    state = FrameEnergy(problem_of([view]), ALONE["shape"]).at(x, look_again=True)
    stretched = 0.5 * 1e4 * 0.02**2 * 0.01**2 / (0.01**2 + 0.02**2)
    strength = 1e4 * (0.01**2 / (0.01**2 + 0.02**2)) ** 2
    assert state.energies["shape"] == pytest.approx(4 * stretched)
    assert state.right[1, 0] == pytest.approx(strength)
    assert state.down[1, 1] == pytest.approx(strength)
    assert state.right[0, 0] == pytest.approx(1e4)
    assert state.gradient[1, 1] == pytest.approx(4 * strength * 0.02)
    assert state.gradient[1, 2] == pytest.approx(-strength * 0.02)

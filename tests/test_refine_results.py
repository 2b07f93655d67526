"""What refinement says of itself: sigma, judges, what moves, provenance and cuts, and the page."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from refine_scene import WALL, problem_of, views_of

from recon4d.formats.pictures import read_rgb
from recon4d.refine.evidence import UNCONFIRMED, shared_chance
from recon4d.refine.frame import Refined, Style
from recon4d.refine.judged import share_kept
from recon4d.refine.movers import held_at_prior, temporal_opinion
from recon4d.refine.posterior import CHAINED, spread_sigma
from recon4d.refine.terms import Opinion
from recon4d.scene.camera import Camera
from recon4d.scene.depth import Provenance, SceneDepth
from recon4d.scene.mesh import DepthMesh
from recon4d.stages.refine_result import ALIKE, CONFIRMING, _provenance, _rejoined, nearer
from recon4d.view.refine_page import GAP, HEAD, MARGIN, RefineRow, normal_picture, refine_page, write_refine_page


def textured():
    """A frame before a wall, its true depth, and three views of it."""
    views = views_of(WALL, (96, 72), 4, np.float32)
    return problem_of(views), views[0].x


# -- sigma ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("held", "strength"), [(1.0, 100.0), (1.0, 5.0), (50.0, 1.0)])
def test_sigma_is_that_of_the_linear_system(held, strength):
    size = 41
    right, down = np.full((size, size), strength), np.full((size, size), strength)
    right[:, -1], down[-1] = 0, 0
    index = np.arange(size * size).reshape(size, size)
    ties = [(index[:, :-1], index[:, 1:]), (index[:-1], index[1:])]
    system = sp.lil_matrix(sp.eye(size * size) * held)
    for a, b in ((a.ravel(), b.ravel()) for a, b in ties):
        for i, j in zip(a, b):
            system[i, i] += strength
            system[j, j] += strength
            system[i, j] -= strength
            system[j, i] -= strength
    middle = index[size // 2, size // 2]
    one = np.zeros(size * size)
    one[middle] = 1
    variance = sp.linalg.spsolve(system.tocsc(), one)[middle]
    grid = np.zeros((size, size))
    refined = Refined(grid, np.full_like(grid, held), right, down, grid, grid)
    found = spread_sigma(refined, level=0.0)[size // 2, size // 2] / CHAINED
    assert found == pytest.approx(np.sqrt(variance), rel=0.15)


def test_chance_is_that_of_the_surest_opinion_shared():
    x = np.zeros((1, 3), dtype=np.float32)
    x[0, 2] = np.nan
    sigma = np.full((1, 3), 0.01, dtype=np.float32)
    near = Opinion(np.full((1, 3), 0.02, np.float32), sigma, np.array([[0.9, 0.1, 0.9]], dtype=np.float32))
    far = Opinion(np.full((1, 3), 1.0, np.float32), sigma, np.ones((1, 3), dtype=np.float32))
    chance = shared_chance(x, [near, far])
    np.testing.assert_allclose(chance, [[0.9 * np.exp(-0.5), UNCONFIRMED, 0]], rtol=1e-5)


# -- judges and movers ---------------------------------------------------------------------------------------------


def test_judges_keep_what_is_better_and_refuse_what_is_worse():
    problem, truth = textured()
    wrong = replace(problem, own=replace(problem.own, x=truth + np.float32(0.05)))
    assert share_kept(wrong, Style(), truth, list(problem.views)).mean() > 0.9
    right = replace(problem, own=replace(problem.own, x=truth))
    assert share_kept(right, Style(), truth + np.float32(0.05), list(problem.views)).mean() < 0.05
    assert share_kept(right, Style(), truth, list(problem.views)).max() < 0.5  # as good is not better
    assert (share_kept(right, Style(), truth, []) == 1).all()


def test_pictures_of_something_else_are_not_believed():
    problem, truth = textured()
    noise = np.random.default_rng(0).uniform(0, 255, truth.shape).astype(np.float32)
    views = [replace(view, grey=noise) for view in problem.views]
    wrong = replace(problem, own=replace(problem.own, x=truth + np.float32(0.05)))
    assert share_kept(wrong, Style(), truth, views).max() < 0.1


def test_what_moves_hears_only_its_prior_and_its_own_past_and_future():
    problem, truth = textured()
    said = Opinion(truth + 1, np.full_like(truth, 0.01), np.ones_like(truth))
    moving = np.zeros(truth.shape, dtype=bool)
    moving[:10] = True
    held = held_at_prior(replace(problem, opinions=[said]), moving, said)
    assert (held.static[:10] == 0).all()
    assert (held.static[10:] == problem.static[10:]).all()
    others, prior, temporal = held.opinions
    assert (others.chance[:10] == 0).all()
    assert (others.chance[10:] == 1).all()
    assert (prior.chance[10:] == 0).all()
    np.testing.assert_array_equal(prior.x[:10], problem.own.x[:10])
    assert (temporal.chance[:10] == 1).all()
    assert (temporal.chance[10:] == 0).all()


def test_depth_along_the_flow_is_the_mean_of_before_and_after():
    rng = np.random.default_rng(0)
    import cv2

    wide = cv2.GaussianBlur(rng.uniform(0, 255, (80, 140)).astype(np.float32), (0, 0), 2)
    wide = (wide - wide.min()) / np.ptp(wide) * 255
    greys = [wide[:, 10 + shift : 110 + shift] for shift in (3, 0, -3)]  # things move to the right by 3 pixels a frame
    ramp = np.tile(np.arange(140, dtype=np.float32) * 0.001, (80, 1))
    before, after = ramp[:, 13:113] - 0.02, ramp[:, 7:107] + 0.04
    found = temporal_opinion(greys, before, after)
    inside = np.s_[20:60, 20:80]
    assert (found.chance[inside] > 0).mean() > 0.9
    sure = found.chance[inside] > 0
    expected = ramp[:, 10:110][inside] + 0.01
    np.testing.assert_allclose(found.x[inside][sure], expected[sure], atol=0.002)


# -- what is written -----------------------------------------------------------------------------------------------


def test_depth_that_others_confirm_is_measured_and_what_left_its_prior_is_completed():
    agreeing = np.array([[CONFIRMING, CONFIRMING, 0, 0, CONFIRMING]], dtype=np.float32)
    alike = np.array([[ALIKE, 0.1, 0, 0, ALIKE]], dtype=np.float32)
    answer = SimpleNamespace(
        found=SimpleNamespace(x=np.zeros((1, 5)), alike=alike),
        refined=SimpleNamespace(agreeing=agreeing),
        problem=SimpleNamespace(static=np.array([[1, 1, 1, 1, 0]], dtype=np.float32)),
    )
    before = np.array([[Provenance.COMPLETED, 1, 1, 1, 1]], dtype=np.uint8)
    after = _provenance(before, np.array([[0, 0, 0.2, 0.001, 0]]), answer)
    assert after.tolist() == [[Provenance.MEASURED, 1, Provenance.COMPLETED, 1, 1]]


def surface(depth) -> SceneDepth:
    depth = np.asarray(depth, dtype=np.float32)
    return SceneDepth(depth, depth > 0, 0.01 * depth, np.zeros(depth.shape, dtype=np.uint8))


def test_steps_within_the_errors_are_no_cuts_where_the_prior_had_none():
    joined = np.array([[True, True, False]])
    none = np.zeros((1, 3), dtype=bool)
    before = DepthMesh(surface([[1, 1, 1]]), joined, none)
    cut = DepthMesh(surface([[1, 1.035, 1.2]]), none, none)
    sigma = np.full((1, 3), 0.01)
    assert _rejoined(cut, before, sigma).join_right.tolist() == [[True, False, False]]
    assert not _rejoined(cut, replace(before, join_right=none), sigma).join_right.any()


def test_a_surface_under_corrected_cameras_is_nearer_or_farther():
    mesh = DepthMesh(surface([[1, 2, 0]]), np.zeros((1, 3), dtype=bool), np.zeros((1, 3), dtype=bool))
    assert nearer(mesh, 1.0) is mesh
    np.testing.assert_allclose(nearer(mesh, 0.5).surface.depth, [[0.5, 1, 0]])
    np.testing.assert_allclose(nearer(mesh, 0.5).surface.sigma, [[0.005, 0.01, 0]])


# -- the page ------------------------------------------------------------------------------------------------------


def row(unlike_before=0.9, unlike_after=0.1) -> RefineRow:
    depth = np.full((60, 90), 2.0)
    right, down = np.ones((60, 90), dtype=bool), np.ones((60, 90), dtype=bool)
    right[:, -1], down[-1] = False, False
    mesh = DepthMesh(surface(depth), right, down)
    camera = Camera(90, 60, 80.0, 80.0, 45.0, 30.0)
    picture = np.full((60, 90, 3), (200, 10, 10), dtype=np.uint8)
    return RefineRow(
        "000007", picture, camera, mesh, mesh, *(np.full((30, 45), u) for u in (unlike_before, unlike_after))
    )


CURVES = {"photometric": np.array([3.0, 2.0, 1.5]), "shape": np.array([0.0, 0.1, 0.2])}


def test_what_looks_unlike_glows_on_the_page(tmp_path):
    page = refine_page("clip", "numbers", [row()], CURVES)
    width = (page.shape[1] - 2 * MARGIN + GAP) // 7
    middle = HEAD + 20
    glow = [int(page[middle, MARGIN + column * width + 30].sum()) for column in (5, 6)]
    assert glow[0] > 2 * glow[1]
    assert tuple(page[middle, MARGIN + 60]) == (200, 10, 10)
    write_refine_page(tmp_path / "refine.png", "clip", "numbers", [row()], CURVES)
    assert np.array_equal(read_rgb(tmp_path / "refine.png"), page)


def test_a_wall_before_the_camera_has_one_colour():
    item = row()
    colors = normal_picture(item.after, item.camera)[5:-5, 5:-5].reshape(-1, 3)
    assert (np.ptp(colors.astype(int), axis=0) <= 2).all()
    assert colors[0, 2] > 240  # towards the camera

"""Refinement by rendering on our terms: silhouettes find their place, and what is right stays."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from two_planes import BOARD_Z, CAMERA, LEAN, PICTURES, TRUTH, WALL_Z, problem, view

from recon4d.refine import polish as module
from recon4d.refine.polish import Pictures, PolishSettings, polish
from recon4d.render.cpu_rasterizer import CpuRasterizer

RASTERIZER = CpuRasterizer(threads=1)
COLORS = Pictures(PICTURES[0], PICTURES[1:])
WALL = WALL_Z / (1 - LEAN * CAMERA.rays()[..., 0])
BOARD = TRUTH == BOARD_Z
QUICK = PolishSettings(steps=60)
X = -np.log(TRUTH)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def board_of(inside):
    """x of the wall with the board where ``inside``."""
    return -np.log(np.where(inside, BOARD_Z, WALL)).astype(np.float32)


def error(x):
    """Mean relative error of depth."""
    return np.abs(np.exp(X - x) - 1).mean()


def test_a_board_two_pixels_too_large_shrinks():
    start = board_of(cv2.dilate(BOARD.astype(np.uint8), np.ones((5, 5), dtype=np.uint8)) > 0)
    found = polish(problem(start), COLORS, None, PolishSettings(), RASTERIZER)
    assert found.kept
    assert found.after < found.before
    assert error(found.x) < 0.9 * error(start)


def test_a_true_surface_stays():
    found = polish(problem(X), COLORS, None, QUICK, RASTERIZER)
    away = np.abs(np.exp(X - found.x) - 1)
    assert np.median(away) < 5e-4
    assert away.mean() < 2e-3


def test_only_views_not_fitted_judge():
    # The fitted views show the scene as from somewhere else: fitting them is wrong, and the others say so.
    seen = problem(X)
    judges = range(1, len(seen.views), QUICK.held_out)
    shown = [rgb if k in judges else np.roll(rgb, 3, axis=1) for k, rgb in enumerate(COLORS.views)]
    found = polish(seen, Pictures(COLORS.own, shown), None, replace(QUICK, reach=None), RASTERIZER)
    assert found.curve[-1]["color"] < found.curve[0]["color"]
    assert found.after >= found.before
    assert not found.kept
    np.testing.assert_array_equal(found.x, X)


def test_too_few_views_change_nothing():
    seen = problem(X)
    found = polish(replace(seen, views=seen.views[:2]), Pictures(COLORS.own, COLORS.views[:2]), None, QUICK, RASTERIZER)
    assert not found.kept
    assert math.isnan(found.before)
    np.testing.assert_array_equal(found.x, X)


def test_what_lies_far_from_steps_stays_unless_all_may_move():
    start = board_of(cv2.erode(BOARD.astype(np.uint8), np.ones((3, 3), dtype=np.uint8)) > 0)
    search = module._Polish(problem(start), COLORS, start, replace(QUICK, steps=3), RASTERIZER)
    search.run()
    far = cv2.dilate((np.abs(start - cv2.erode(start, np.ones((3, 3)))) > 0.1).astype(np.uint8), np.ones((15, 15))) == 0
    delta = search.delta()
    assert far.any()
    assert (delta[search.mesh.at_vertices(far)] == 0).all()
    assert np.abs(delta).max() > 0
    free = module._Polish(problem(start), COLORS, start, replace(QUICK, steps=3, reach=None), RASTERIZER)
    free.run()
    assert (free.delta()[free.mesh.at_vertices(far)] != 0).mean() > 0.5


def test_a_whole_refinement_straightens_a_bent_prior():
    rows, columns = np.mgrid[: TRUTH.shape[0], : TRUTH.shape[1]]
    start = (X + 0.04 * np.sin(columns / 15) + 0.03 * np.cos(rows / 11)).astype(np.float32)
    settings = replace(module.RENDER, steps=120)
    found = polish(problem(start), COLORS, None, settings, RASTERIZER)
    assert found.kept
    assert np.median(np.abs(found.x - X)) < 0.8 * np.median(np.abs(start - X))


def test_brightness_of_a_view_does_not_matter():
    # The gain of each channel is found: the cost at the start is the same to what rounding to bytes costs.
    darker = [np.round(0.7 * rgb).astype(np.uint8) for rgb in COLORS.views]
    costs = [
        module._Polish(problem(X), Pictures(COLORS.own, views), X, QUICK, RASTERIZER).judged()[0]
        for views in (COLORS.views, darker)
    ]
    assert costs[1] == pytest.approx(costs[0], rel=0.03)


def test_what_another_view_hides_takes_no_part():
    # The view says that something is at depth 1 all over its left half.
    seen = problem(X)
    before = seen.views[0].x.copy()
    before[:, :32] = 0.0
    seen = replace(seen, views=[view(1, before), *seen.views[1:]])
    search = module._Polish(seen, COLORS, X, QUICK, RASTERIZER)
    _, mask = search._compared(torch.zeros(len(search.delta())), 0, search._blurred(0.8))
    assert not mask[:, :32].any()
    assert mask[:, 32:].mean() > 0.5


def test_cost_by_hand():
    # Half as bright in the view: gain 2 makes three pixels equal; the fourth is off by 0.08, and the cost one half.
    target = torch.full((1, 400, 3), 0.25)
    color = torch.full((1, 400, 3), 0.5)
    color[0, 0] += module.ALIKE
    cost = module._cost(color, torch.ones(1, 400), target)
    assert float(cost[0, 1:].max()) < 1e-5
    assert float(cost[0, 0]) == pytest.approx(0.5, abs=0.01)


def test_springs_by_hand():
    settings = PolishSettings(stiffness=8.0, jump=0.1, spacing=2)
    seen = problem(board_of(np.zeros_like(BOARD)))
    ones = np.ones_like(seen.right)
    seen = replace(seen, right=ones, down=0 * ones)
    search = module._Polish(seen, COLORS, seen.own.x, settings, RASTERIZER)
    rows, columns = search.mesh.shape
    delta = torch.zeros(rows, columns)
    delta[3, 4:] = 0.2  # over two pixels: 0.1 a pixel, where a spring holds half as much
    pull = module.PULL * 0.2**2 * (columns - 4)
    expected = 0.5 * 8.0 * (0.1**2 / 2 + pull) / (rows * columns)
    assert float(search._springs.energy(delta.reshape(-1))) == pytest.approx(expected, rel=1e-5)


def test_between_vertices_that_part_a_pixel_goes_with_its_colour():
    seen = problem(X)
    mesh = module._Polish(seen, COLORS, X, QUICK, RASTERIZER).mesh
    rgb = np.full((*TRUTH.shape, 3), 200, dtype=np.uint8)
    rgb[:, 31:] = 20
    flat = np.zeros(TRUTH.shape, dtype=np.float32)
    delta = np.where(mesh.pixels[:, 0].numpy() > 31, 1.0, 0.0)
    x = module._on_pixels(mesh, delta, flat, rgb)
    np.testing.assert_array_equal(x, (np.arange(64) >= 31) * np.ones((48, 1)))

"""Fields of log gain: against a dense twin, by hand, under mirrors, units and wild samples."""

import itertools

import numpy as np
import pytest

from recon4d.geometry.gain_field import (
    EDGE_FLOOR,
    NULL_WEIGHT,
    FieldGrid,
    FieldSamples,
    FieldStyle,
    Stiffness,
    node_contrast,
    robust_field,
    solve_field,
)

GRIDS = [FieldGrid(8, 8, 100, 100), FieldGrid(14, 9, 640, 401), FieldGrid(9, 15, 270, 480), FieldGrid(2, 3, 20, 30)]
FLAT = FieldStyle(1.0, 0.2, 10.0)


def random_samples(grid: FieldGrid, count: int, seed: int = 0) -> FieldSamples:
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, grid.width, count), rng.uniform(0, grid.height, count)
    return FieldSamples(x, y, rng.normal(0, 0.1, count), rng.uniform(0.2, 2.0, count))


def random_stiffness(grid: FieldGrid, seed: int = 1) -> Stiffness:
    """As different from edge to edge as real ones are."""
    rng = np.random.default_rng(seed)
    return Stiffness(10 ** rng.uniform(-2, 1, grid.shape), 10 ** rng.uniform(-2, 1, grid.shape))


def even(grid: FieldGrid, strength: float) -> Stiffness:
    return Stiffness(np.full(grid.shape, strength), np.full(grid.shape, strength))


def with_ratio(samples: FieldSamples, log_ratio: np.ndarray, weight: np.ndarray | None = None) -> FieldSamples:
    return FieldSamples(samples.x, samples.y, log_ratio, samples.weight if weight is None else weight)


def dense_field(grid: FieldGrid, samples: FieldSamples, stiffness: Stiffness) -> np.ndarray:
    """The same minimum from the definition: hat functions, one row per difference, a dense solver."""
    node_y, node_x = np.divmod(np.arange(grid.nodes_x * grid.nodes_y), grid.nodes_x)
    u, v = samples.x / grid.width * (grid.nodes_x - 1), samples.y / grid.height * (grid.nodes_y - 1)
    hats = np.maximum(0, 1 - np.abs(u[:, None] - node_x)) * np.maximum(0, 1 - np.abs(v[:, None] - node_y))
    matrix = hats.T @ (samples.weight[:, None] * hats) + NULL_WEIGHT * np.eye(node_x.size)
    for a in range(node_x.size):
        for b in range(a + 1, node_x.size):
            if node_y[a] == node_y[b] and node_x[b] == node_x[a] + 1:
                s = stiffness.right[node_y[a], node_x[a]]
            elif node_x[a] == node_x[b] and node_y[b] == node_y[a] + 1:
                s = stiffness.down[node_y[a], node_x[a]]
            else:
                continue
            matrix[[a, b], [a, b]] += s
            matrix[[a, b], [b, a]] -= s
    return np.linalg.solve(matrix, hats.T @ (samples.weight * samples.log_ratio)).reshape(grid.shape)


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: f"{grid.nodes_x}x{grid.nodes_y}")
def test_banded_solution_is_the_dense_one(grid):
    samples, stiffness = random_samples(grid, 40), random_stiffness(grid)
    np.testing.assert_allclose(
        solve_field(grid, samples, stiffness), dense_field(grid, samples, stiffness), rtol=1e-7, atol=1e-9
    )


@pytest.mark.parametrize(
    ("width", "height", "nodes"),
    [(640, 480, (40, 30)), (480, 640, (30, 40)), (1920, 1080, (40, 22)), (8, 8, (40, 40)), (1000, 20, (40, 8))],
)
def test_grid_is_as_dense_along_both_sides(width, height, nodes):
    grid = FieldGrid.over(width, height)
    assert (grid.nodes_x, grid.nodes_y) == nodes
    assert grid.shape == nodes[::-1]


def test_field_between_four_nodes_by_hand():
    grid = FieldGrid(3, 2, 100, 40)  # nodes at x = 0, 50, 100 and y = 0, 40
    field = np.array([[0.0, 1.0, 4.0], [2.0, 3.0, 8.0]])
    x, y = np.array([0.0, 50, 100, 25, 75, 75]), np.array([0.0, 0, 40, 0, 20, 10])
    np.testing.assert_allclose(grid.read(field, x, y), [0, 1, 8, 0.5, 4.0, 3.25])


@pytest.mark.parametrize("grid", [*GRIDS, FieldGrid.over(320, 240)], ids=lambda grid: f"{grid.nodes_x}x{grid.nodes_y}")
@pytest.mark.parametrize("size", [None, (33, 21), (5, 64)])
def test_spread_is_read_at_the_pixel_centres(grid, size):
    width, height = size or (grid.width, grid.height)
    field = np.random.default_rng(2).normal(size=grid.shape)
    x, y = np.meshgrid(
        (np.arange(width) + 0.5) * (grid.width / width), (np.arange(height) + 0.5) * (grid.height / height)
    )
    np.testing.assert_allclose(
        grid.spread(field, width, height).ravel(), grid.read(field, x.ravel(), y.ravel()), atol=1e-12
    )


@pytest.mark.parametrize("grid", [FieldGrid.over(320, 240), FieldGrid.over(90, 160)], ids=["landscape", "portrait"])
@pytest.mark.parametrize("strength", [0.03, 3.0])
def test_constant_ratio_is_the_same_everywhere(grid, strength):
    samples = random_samples(grid, 30)
    field = robust_field(grid, with_ratio(samples, np.full(30, 0.2)), even(grid, strength))
    np.testing.assert_allclose(field, 0.2, rtol=2e-3)  # what keeps it definite costs a thousandth


def test_ratio_that_is_affine_in_the_picture_is_kept_between_samples_on_the_border():
    grid = FieldGrid.over(320, 240)
    t = np.linspace(0, 1, 200)
    x, y = 320 * np.r_[t, t, 0 * t, 0 * t + 1], 240 * np.r_[0 * t, 0 * t + 1, t, t]
    samples = FieldSamples(x, y, 0.3 * x / 320 - 0.1 * y / 240 + 0.05, np.full(800, 1e4))
    inside_x, inside_y = np.random.default_rng(3).uniform(0, [[320], [240]], (2, 50))
    found = grid.read(solve_field(grid, samples, even(grid, 1.0)), inside_x, inside_y)
    np.testing.assert_allclose(found, 0.3 * inside_x / 320 - 0.1 * inside_y / 240 + 0.05, atol=1e-3)


def test_a_constant_added_to_the_samples_is_added_to_the_field():
    grid = FieldGrid.over(320, 240)
    samples, stiffness = random_samples(grid, 200), random_stiffness(grid)
    for solve in (solve_field, robust_field):
        moved = solve(grid, with_ratio(samples, samples.log_ratio + 0.5), stiffness)
        np.testing.assert_allclose(moved, solve(grid, samples, stiffness) + 0.5, atol=2e-3)


def test_weights_and_stiffness_scaled_together_change_nothing():
    grid = FieldGrid.over(320, 240)
    samples, stiffness = random_samples(grid, 200), random_stiffness(grid)
    scaled = with_ratio(samples, samples.log_ratio, 50 * samples.weight)
    found = solve_field(grid, scaled, Stiffness(50 * stiffness.right, 50 * stiffness.down))
    np.testing.assert_allclose(found, solve_field(grid, samples, stiffness), atol=1e-3)


def test_mirrored_picture_gives_the_mirrored_field():
    grid = FieldGrid(14, 9, 640, 401)
    samples, stiffness = random_samples(grid, 60), random_stiffness(grid)
    mirrored = FieldSamples(grid.width - samples.x, samples.y, samples.log_ratio, samples.weight)
    right = np.concatenate([stiffness.right[:, -2::-1], stiffness.right[:, -1:]], axis=1)
    found = robust_field(grid, mirrored, Stiffness(right, stiffness.down[:, ::-1]))
    np.testing.assert_allclose(found[:, ::-1], robust_field(grid, samples, stiffness), atol=1e-9)


def test_turned_picture_gives_the_turned_field():
    grid, turned = FieldGrid(14, 9, 640, 401), FieldGrid(9, 14, 401, 640)
    samples, stiffness = random_samples(grid, 60), random_stiffness(grid)
    swapped = FieldSamples(samples.y, samples.x, samples.log_ratio, samples.weight)
    found = solve_field(turned, swapped, Stiffness(stiffness.down.T, stiffness.right.T))
    np.testing.assert_allclose(found.T, solve_field(grid, samples, stiffness), atol=1e-10)


def test_a_stiffer_field_bends_less():
    grid = FieldGrid.over(320, 240)
    samples = random_samples(grid, 100)
    ranges = [np.ptp(solve_field(grid, samples, even(grid, s))) for s in (0.01, 0.1, 1.0, 10.0, 1e4)]
    assert all(a > b for a, b in itertools.pairwise(ranges))
    mean = (samples.weight * samples.log_ratio).sum() / samples.weight.sum()
    np.testing.assert_allclose(solve_field(grid, samples, even(grid, 1e6)), mean, atol=1e-3)


def test_no_samples_no_correction():
    grid = FieldGrid.over(320, 240)
    nothing = FieldSamples(*np.zeros((4, 0)))
    assert len(nothing) == 0
    assert (solve_field(grid, nothing, even(grid, 1.0)) == 0).all()
    assert (robust_field(grid, nothing, even(grid, 1.0)) == 0).all()
    assert (robust_field(grid, nothing, even(grid, 1.0), judged=0, start=np.zeros(grid.shape)) == 0).all()


def test_one_sample_moves_the_whole_picture():
    grid = FieldGrid.over(320, 240)
    one = FieldSamples(np.array([319.9]), np.array([0.1]), np.array([-0.3]), np.ones(1))
    np.testing.assert_allclose(robust_field(grid, one, even(grid, 0.3)), -0.3, rtol=0.02)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_fifth_of_wild_samples_changes_little(seed):
    grid, rng = FieldGrid.over(320, 240), np.random.default_rng(seed)
    samples = random_samples(grid, 600, seed)
    truth = 0.1 * np.sin(samples.x / 80) + 0.1 * np.cos(samples.y / 60)
    ratio = truth + rng.normal(0, 0.01, 600)
    ratio[:120] += rng.uniform(0.3, 1.0, 120)  # all to one side, as points on what stands before the surface
    samples = with_ratio(samples, ratio, np.ones(600))
    good = np.arange(600) >= 120

    def rms(field: np.ndarray) -> float:
        return float(np.sqrt(np.mean((grid.read(field, samples.x, samples.y) - truth)[good] ** 2)))

    assert rms(robust_field(grid, samples, even(grid, 0.1))) < 0.02
    assert rms(solve_field(grid, samples, even(grid, 0.1))) > 0.08


def test_scale_of_few_samples_does_not_collapse_on_those_that_agree():
    """Three agree exactly, so their median residual says nothing; the fourth, 10 % off, is as good as they are."""
    grid = FieldGrid.over(320, 240)
    ratio = np.array([0.0, 0.0, 0.0, 0.1])
    samples = FieldSamples(np.full(4, 160.0), np.full(4, 120.0), ratio, np.ones(4))
    mean = 0.025
    for _ in range(3):  # sigma = 4 / 20, as for up to twenty samples
        weight = 1 / (1 + ((ratio - mean) / (2.5 * 0.2)) ** 2) ** 2
        mean = (weight * ratio).sum() / weight.sum()
    found = robust_field(grid, samples, even(grid, 1.0))
    np.testing.assert_allclose(found, mean, rtol=2e-3)
    assert 0.02 < mean < 0.025


def test_robust_scale_is_that_of_the_judged_samples():
    grid, rng = FieldGrid.over(320, 240), np.random.default_rng(0)
    samples = random_samples(grid, 1000)
    samples = with_ratio(samples, np.r_[rng.normal(0, 0.01, 400), rng.uniform(0.4, 0.5, 600)], np.ones(1000))
    start, stiff = np.zeros(grid.shape), even(grid, 100.0)
    np.testing.assert_allclose(robust_field(grid, samples, stiff, 400, start), 0.0, atol=0.01)
    assert robust_field(grid, samples, stiff, None, start).min() > 0.2
    np.testing.assert_array_equal(
        robust_field(grid, samples, stiff, 0, start), robust_field(grid, samples, stiff, None, start)
    )


def test_a_known_start_leads_to_the_same_field():
    grid = FieldGrid.over(320, 240)
    samples = random_samples(grid, 300)
    samples = with_ratio(samples, 0.1 * np.sin(samples.x / 80) + 0.02 * samples.log_ratio)
    found = robust_field(grid, samples, even(grid, 0.1))
    np.testing.assert_allclose(robust_field(grid, samples, even(grid, 0.1), start=found), found, atol=2e-3)


def test_stiffness_falls_at_an_edge_of_depth_and_nowhere_else_by_hand():
    grid = FieldGrid(8, 8, 80, 80)
    log_prior = np.zeros(grid.shape)
    log_prior[:, 3:] = 0.2
    log_prior[6:] += 0.1
    none = Stiffness(np.zeros(grid.shape), np.zeros(grid.shape))
    found = FieldStyle(2.0, 0.1, 5.0).stiffness(log_prior, none)
    calm = 2.0 * (1 + EDGE_FLOOR) ** 2
    right, down = np.full((8, 7), calm), np.full((7, 8), calm)
    right[:, 2] = 2.0 * (np.exp(-2.0) + EDGE_FLOOR) * (1 + EDGE_FLOOR)
    down[5] = 2.0 * (np.exp(-1.0) + EDGE_FLOOR) * (1 + EDGE_FLOOR)
    np.testing.assert_allclose(found.right[:, :-1], right)
    np.testing.assert_allclose(found.down[:-1], down)


def test_stiffness_falls_at_an_edge_of_brightness_by_hand():
    grid = FieldGrid(8, 8, 80, 80)
    contrast = Stiffness(np.zeros(grid.shape), np.zeros(grid.shape))
    contrast.right[4, 2], contrast.down[1, 7] = 10.0, 1e6
    found = FieldStyle(0.3, 0.1, 5.0).stiffness(np.full(grid.shape, -1.0), contrast)
    calm = 0.3 * (1 + EDGE_FLOOR) ** 2
    right, down = np.full((8, 7), calm), np.full((7, 8), calm)
    right[4, 2] = 0.3 * (1 + EDGE_FLOOR) * (np.exp(-2.0) + EDGE_FLOOR)
    down[1, 7] = 0.3 * (1 + EDGE_FLOOR) * EDGE_FLOOR  # never all of it
    np.testing.assert_allclose(found.right[:, :-1], right)
    np.testing.assert_allclose(found.down[:-1], down)


def test_the_field_jumps_where_depth_jumps():
    """An object whose gain is wrong keeps its correction to itself."""
    grid = FieldGrid.over(320, 240)
    samples = random_samples(grid, 400)
    object_there = samples.x > 160
    samples = with_ratio(samples, np.where(object_there, 0.3, 0.0), np.ones(400))
    log_prior = np.zeros(grid.shape)
    log_prior[:, 20:] = 1.0
    none = Stiffness(np.zeros(grid.shape), np.zeros(grid.shape))
    cut = solve_field(grid, samples, FieldStyle(3.0, 0.1, 5.0).stiffness(log_prior, none))
    whole = solve_field(grid, samples, FieldStyle(3.0, 0.1, 5.0).stiffness(np.zeros(grid.shape), none))
    assert np.abs(np.diff(cut, axis=1)[:, 19]).min() > 3 * np.abs(np.diff(whole, axis=1)[:, 19]).max()
    assert np.abs(cut[:, :20]).max() < 0.05 < np.abs(whole[:, :20]).max()


def picture_with_step(column: int) -> np.ndarray:
    grey = np.full((240, 320), 50.0, dtype=np.float32)
    grey[:, column:] = 90.0
    return grey


def test_brightness_step_cuts_exactly_the_segments_that_cross_it():
    grid = FieldGrid.over(640, 480)
    nodes, _ = grid.node_pixels(320, 240)
    segment = 20
    column = int(nodes[segment]) + 3  # the step lies inside: its two pixels are no nodes'
    assert nodes[segment] < column - 1 < column < nodes[segment + 1]
    found = node_contrast(picture_with_step(column), grid)
    expected = np.zeros(grid.shape)
    expected[:, segment] = 20.0  # central differences share a step of 40 between two pixels
    np.testing.assert_allclose(found.right, expected)
    np.testing.assert_allclose(found.down, 0.0)


def test_brightness_step_at_a_node_cuts_both_sides():
    grid = FieldGrid.over(640, 480)
    nodes, _ = grid.node_pixels(320, 240)
    found = node_contrast(picture_with_step(int(nodes[20])), grid)
    assert set(np.nonzero(found.right.any(axis=0))[0]) == {19, 20}


def test_contrast_of_a_turned_picture_is_turned():
    grey = np.random.default_rng(5).uniform(0, 255, (240, 320)).astype(np.float32)
    upright, turned = node_contrast(grey, FieldGrid.over(640, 480)), node_contrast(grey.T, FieldGrid.over(480, 640))
    np.testing.assert_allclose(turned.right, upright.down.T)
    np.testing.assert_allclose(turned.down, upright.right.T)


def test_contrast_of_a_picture_smaller_than_the_grid():
    """Several nodes lie on one pixel: nothing is read outside, and steps are still seen."""
    grey = np.zeros((2, 3), dtype=np.float32)
    grey[:, 2] = 30.0
    found = node_contrast(grey, FieldGrid.over(3, 2))
    assert found.right.max() == 30.0
    assert not found.down.any()


def test_node_pixels_reach_from_border_to_border():
    column, row = FieldGrid(8, 9, 640, 480).node_pixels(160, 120)
    assert (column[0], column[-1], row[0], row[-1]) == (0, 159, 0, 119)
    assert (len(column), len(row)) == (8, 9)
    np.testing.assert_array_equal(column, np.round(np.arange(8) * 159 / 7))


def test_samples_are_joined_and_chosen_in_order():
    a, b = random_samples(GRIDS[0], 3, seed=1), random_samples(GRIDS[0], 2, seed=2)
    both = a.joined(b)
    for column in ("x", "y", "log_ratio", "weight"):
        np.testing.assert_array_equal(getattr(both, column), np.r_[getattr(a, column), getattr(b, column)])
        np.testing.assert_array_equal(getattr(both[np.arange(5) >= 3], column), getattr(b, column))

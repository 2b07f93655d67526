"""Semi-global matching: against a readable twin, by hand, and where the right surface is plain to see."""

import numpy as np
import pytest

from recon4d.geometry.semi_global import Smoothness, semi_global

NONE = Smoothness(0.0, 0.0, 8.0)
USUAL = Smoothness(0.3, 6.0, 8.0)
DIRECTIONS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]


def readable_sums(costs, grey, smoothness):
    """Eight paths, one pixel after the other, as in eq. 13 and 14 of the paper."""
    height, width, count = costs.shape
    sums = np.zeros(costs.shape)
    for dy, dx in DIRECTIONS:
        path = np.zeros(costs.shape)
        for y in range(height) if dy <= 0 else reversed(range(height)):
            for x in range(width) if dx <= 0 else reversed(range(width)):
                path[y, x] = costs[y, x]
                if 0 <= y + dy < height and 0 <= x + dx < width:
                    before = path[y + dy, x + dx]
                    step = abs(float(grey[y, x]) - float(grey[y + dy, x + dx]))
                    jump = max(smoothness.large / (1 + step / smoothness.edge), smoothness.small)
                    for k in range(count):
                        ways = [before[k], before.min() + jump]
                        ways += [before[j] + smoothness.small for j in (k - 1, k + 1) if 0 <= j < count]
                        path[y, x, k] += min(ways) - before.min()
        sums += path
    return sums


def readable_choice(sums):
    """Label and margin of every pixel."""
    label, margin = np.zeros(sums.shape[:2]), np.zeros(sums.shape[:2])
    for at in np.ndindex(label.shape):
        row = sums[at]
        best = int(row.argmin())
        label[at] = best
        if 0 < best < len(row) - 1:
            before, here, after = row[best - 1 : best + 2]
            if before - 2 * here + after > 0:
                label[at] += (before - after) / (2 * (before - 2 * here + after))
        others = [row[k] for k in range(len(row)) if abs(k - best) > 2]
        margin[at] = min(others) - row[best] if others else np.inf
    return label, margin


def random_problem(height, width, count, seed=0):
    rng = np.random.default_rng(seed)
    costs = rng.uniform(0, 1, (height, width, count)).astype(np.float32)
    return costs, rng.uniform(0, 60, (height, width)).astype(np.float32)


def flat_grey(costs):
    return np.zeros(costs.shape[:2], dtype=np.float32)


@pytest.mark.parametrize(
    "shape", [(6, 7, 9), (1, 8, 5), (8, 1, 5), (1, 1, 6), (5, 4, 2), (4, 5, 3), (7, 3, 33)], ids=str
)
def test_paths_and_choice_equal_the_readable_ones(shape):
    costs, grey = random_problem(*shape)
    for smoothness in (USUAL, Smoothness(0.1, 0.3, 20.0), Smoothness(0.5, 0.2, 8.0)):
        label, margin = readable_choice(readable_sums(costs, grey, smoothness))
        choice = semi_global(costs, grey, smoothness)
        np.testing.assert_allclose(choice.label, label, atol=1e-4)
        np.testing.assert_allclose(choice.margin, margin, atol=1e-4)


def test_without_smoothness_the_cheapest_label_wins():
    costs, grey = random_problem(9, 11, 12)
    np.testing.assert_array_equal(np.round(semi_global(costs, grey, NONE).label), costs.argmin(axis=2))


def test_parabola_is_exact_on_quadratic_costs():
    truth = np.random.default_rng(1).uniform(1, 8, (5, 6))
    costs = (0.01 * (np.arange(10) - truth[..., None]) ** 2).astype(np.float32)
    np.testing.assert_allclose(semi_global(costs, flat_grey(costs), NONE).label, truth, atol=1e-3)


def test_margin_by_hand():
    costs = np.array([[[0.9, 0.2, 0.1, 0.3, 0.15, 0.6, 0.5]]], dtype=np.float32)
    choice = semi_global(costs, flat_grey(costs), NONE)
    # A single pixel begins all eight paths. Labels 0 to 4 are next to the best, 2; the best other answer is label 6.
    np.testing.assert_allclose(choice.margin, 8 * (0.5 - 0.1), rtol=1e-6)
    np.testing.assert_allclose(choice.label, 2 + 0.5 * (0.2 - 0.3) / (0.2 - 2 * 0.1 + 0.3), rtol=1e-6)


def test_what_says_nothing_is_filled_from_the_sides():
    costs = np.full((7, 15, 10), 0.5, dtype=np.float32)
    costs[:, :4, 6] = costs[:, 11:, 6] = 0
    choice = semi_global(costs, flat_grey(costs), USUAL)
    np.testing.assert_allclose(choice.label, 6, atol=1e-4)


@pytest.mark.parametrize("edge", [5, 8, 10])
def test_a_jump_follows_the_edge_of_the_picture(edge):
    costs = np.full((9, 16, 12), 0.5, dtype=np.float32)
    costs[:, :4, 2] = costs[:, 12:, 9] = 0  # between columns 4 and 12 the costs say nothing
    grey = np.where(np.arange(16) < edge, 40, 200)[None].repeat(9, axis=0).astype(np.float32)
    choice = semi_global(costs, grey, USUAL)
    expected = np.where(np.arange(16) < edge, 2, 9)[None].repeat(9, axis=0)
    np.testing.assert_array_equal(np.round(choice.label), expected)


def test_steps_of_one_label_cost_the_small_smoothness():
    costs = np.full((1, 5, 5), 1.0, dtype=np.float32)
    costs[0, np.arange(5), np.arange(5)] = 0.0
    costs[0, [0, 1, 3, 4], 2] = 0.1
    slope = semi_global(costs, flat_grey(costs), Smoothness(0.01, 1.0, 8.0))
    np.testing.assert_array_equal(np.round(slope.label[0]), np.arange(5))
    level = semi_global(costs, flat_grey(costs), Smoothness(1.0, 1.0, 8.0))
    np.testing.assert_array_equal(np.round(level.label[0]), 2)


def test_mirrored_problems_have_mirrored_answers():
    costs, grey = random_problem(8, 9, 7)
    choice = semi_global(costs, grey, USUAL)
    for flip in (np.fliplr, np.flipud, lambda grid: np.swapaxes(grid, 0, 1)):
        mirrored = semi_global(flip(costs), flip(grey), USUAL)
        np.testing.assert_allclose(mirrored.label, flip(choice.label), atol=1e-4)
        np.testing.assert_allclose(mirrored.margin, flip(choice.margin), atol=1e-4)


def test_shapes_that_do_not_match_are_refused():
    costs, grey = random_problem(4, 5, 6)
    with pytest.raises(ValueError, match=r"the picture is \(5, 4\), the costs are of \(4, 5\) pixels"):
        semi_global(costs, grey.T, USUAL)
    with pytest.raises(ValueError, match="K of at least 2"):
        semi_global(costs[..., :1], grey, USUAL)
    with pytest.raises(ValueError, match="K of at least 2"):
        semi_global(costs[..., 0], grey, USUAL)

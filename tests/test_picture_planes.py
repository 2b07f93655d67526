"""Planes in a depth map: two known ones found again, plain gaps bridged, curved things left alone."""

import numpy as np
import pytest

from recon4d.geometry import picture_planes
from recon4d.geometry.picture_planes import PlaneStyle, find_planes, plane_surface

SHAPE = (90, 120)
EDGE = 66  # column where the second plane begins
LEFT, RIGHT = (0.0012, 0.0003, 0.22), (-0.0009, 0.0007, 0.43)
STYLE = PlaneStyle()


def plane(abc, shape=SHAPE):
    y, x = np.indices(shape) + 0.5
    return abc[0] * x + abc[1] * y + abc[2]


def two_planes():
    """(H, W) inverse depth, and where the left one is."""
    left = np.broadcast_to(np.arange(SHAPE[1]) < EDGE, SHAPE)
    return np.where(left, plane(LEFT), plane(RIGHT)), left


def noisy(inverse_depth, share_wrong=0.15, seed=0):
    rng = np.random.default_rng(seed)
    wrong = rng.random(inverse_depth.shape) < share_wrong
    measured = inverse_depth * rng.normal(1, 0.004, inverse_depth.shape)
    return np.where(wrong, rng.uniform(0.1, 0.6, inverse_depth.shape), measured).astype(np.float32)


def ones(shape=SHAPE):
    return np.ones(shape, dtype=np.float32)


def grey_picture(shape=SHAPE):
    return np.full((*shape, 3), 120, dtype=np.uint8)


def two_colours():
    picture = grey_picture()
    picture[:, EDGE:] = (170, 90, 60)
    return picture


def sphere():
    """Inverse depth of a ball before a wall, and where the ball is."""
    y, x = np.indices(SHAPE) + 0.5
    rays = np.stack([(x - 60) / 100, (y - 45) / 100, np.ones(SHAPE)], axis=-1)
    a, b, c = (rays**2).sum(axis=-1), 2 * rays[..., 2], 2**2 - 0.65**2
    inside = b**2 - a * c
    ball = inside > 0
    return np.where(ball, a / (b - np.sqrt(np.where(ball, inside, 0))), 0.25).astype(np.float32), ball


def readable_labels(costs, rgb, style):
    """Eight paths with one price for any change, one pixel after the other, each from its own start."""
    height, width, count = costs.shape
    sums = np.zeros(costs.shape)
    for dy, dx in [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]:
        path = np.zeros(costs.shape)
        for y in range(height) if dy <= 0 else reversed(range(height)):
            for x in range(width) if dx <= 0 else reversed(range(width)):
                path[y, x] = costs[y, x]
                if 0 <= y + dy < height and 0 <= x + dx < width:
                    before = path[y + dy, x + dx]
                    step = np.abs(rgb[y, x].astype(float) - rgb[y + dy, x + dx]).max()
                    price = style.change / (1 + step / style.edge)
                    path[y, x] += [min(before[k], before.min() + price) - before.min() for k in range(count)]
        sums += path
    return sums.argmin(axis=2)


# Finding planes.


def test_two_planes_are_found_under_noise_and_mistakes():
    truth, left = two_planes()
    planes = find_planes(noisy(truth), ones())
    assert len(planes) >= 2
    for expected, where in ((LEFT, left), (RIGHT, ~left)):
        errors = [np.abs(plane(found) / truth - 1)[where].max() for found in planes[:2]]
        assert min(errors) < 1e-3, expected


def test_an_exact_plane_is_found_exactly():
    planes = find_planes(plane(LEFT).astype(np.float32), ones())
    assert len(planes) == 1
    np.testing.assert_allclose(planes[0], LEFT, rtol=1e-5, atol=1e-8)


def test_the_plane_with_more_weight_comes_first():
    truth, left = two_planes()
    for heavy in (left, ~left):
        first = find_planes(truth.astype(np.float32), np.where(heavy, 1.0, 0.3).astype(np.float32))[0]
        np.testing.assert_allclose(plane(first)[heavy], truth[heavy], rtol=1e-3)


def test_pixels_without_weight_take_no_part():
    truth, left = two_planes()
    planes = find_planes(truth.astype(np.float32), left.astype(np.float32))
    assert len(planes) == 1
    np.testing.assert_allclose(planes[0], LEFT, rtol=1e-4, atol=1e-7)


def test_no_more_planes_than_asked_for():
    assert len(find_planes(noisy(two_planes()[0]), ones(), count=1)) == 1


# Putting pixels on them.


@pytest.mark.parametrize("said", [0.0, 0.9], ids=["unknown", "wrong, and not trusted"])
def test_a_plain_gap_takes_the_plane_of_its_borders(said):
    truth = plane(LEFT)
    gap = np.zeros(SHAPE, dtype=bool)
    gap[15:75, 30:90] = True
    measured = np.where(gap, said * truth.mean(), truth).astype(np.float32)
    trust = (~gap).astype(np.float32)
    surface, label = plane_surface(measured, trust, trust, grey_picture(), STYLE)
    np.testing.assert_allclose(surface, truth, rtol=1e-3)
    assert (label == label[0, 0]).all()
    assert label[0, 0] > 0


def test_the_plane_changes_where_the_colour_does():
    truth, left = two_planes()
    unknown = np.zeros(SHAPE, dtype=bool)
    unknown[:, EDGE - 25 : EDGE + 15] = True  # the edge is not in its middle
    trust = (~unknown).astype(np.float32)
    measured = np.where(unknown, 0, truth).astype(np.float32)
    surface, label = plane_surface(measured, trust, trust, two_colours(), STYLE)
    assert label[0, 0] != label[0, -1]
    np.testing.assert_array_equal(label == label[0, 0], left)
    np.testing.assert_allclose(surface, truth, rtol=1e-3)


def test_a_curved_surface_keeps_its_depth_where_it_is_sure():
    measured, ball = sphere()
    surface, label = plane_surface(measured, ones(), ones(), grey_picture(), STYLE)
    none = label == 0
    np.testing.assert_array_equal(surface[none], measured[none])
    assert none[ball].mean() > 0.2  # the rest is nearly flat
    assert none[~ball].mean() < 0.02
    # A plane where nothing disagrees enough is near enough.
    assert (np.abs(surface / measured - 1)[ball] < STYLE.disagreement).all()


def test_answers_are_the_same_every_time():
    measured, trust = noisy(two_planes()[0]), ones()
    first, second = (plane_surface(measured, trust, trust, two_colours(), STYLE) for _ in range(2))
    assert [grid.tobytes() for grid in first] == [grid.tobytes() for grid in second]


@pytest.mark.parametrize("trusted", [0, 1, 2])
def test_too_few_trusted_pixels_make_no_plane_but_still_an_answer(trusted):
    measured, trust = np.zeros(SHAPE, dtype=np.float32), np.zeros(SHAPE, dtype=np.float32)
    for k in range(3):
        measured[20 * k + 5, 30 * k + 5] = 0.2 + 0.1 * k
    trust.ravel()[np.flatnonzero(measured)[:trusted]] = 1
    assert len(find_planes(measured, trust)) == 0
    surface, label = plane_surface(measured, trust, trust, grey_picture(), STYLE)
    assert not label.any()
    np.testing.assert_allclose(surface, np.where(measured > 0, measured, 0.3))


def test_no_depth_at_all_is_refused():
    nothing = np.zeros(SHAPE, dtype=np.float32)
    with pytest.raises(ValueError, match="no pixel"):
        plane_surface(nothing, nothing, nothing, grey_picture(), STYLE)


@pytest.mark.parametrize("unit", [8.0, 0.125, 10.0])
def test_another_unit_gives_the_same_planes(unit):
    measured, trust = noisy(two_planes()[0]), ones()
    trust[20:60, 50:80] = 0
    surface, label = plane_surface(measured, trust, trust, two_colours(), STYLE)
    scaled, scaled_label = plane_surface((unit * measured).astype(np.float32), trust, trust, two_colours(), STYLE)
    if np.log2(unit) % 1 == 0:  # then nothing is rounded otherwise
        np.testing.assert_array_equal(scaled, np.float32(unit) * surface)
        np.testing.assert_array_equal(scaled_label, label)
    same = np.abs(scaled / (unit * surface) - 1) < 1e-3
    assert same.mean() > 0.995


def test_no_surface_beyond_the_horizon_of_a_plane():
    """A floor's inverse depth reaches 0 at its horizon; up there, where nothing is known, it was carried on to 0."""
    floor = (plane((0.0, 0.004, -0.12))).astype(np.float32)  # the horizon is in row 30
    known = floor > 0.06
    measured, trust = np.where(known, floor, 0).astype(np.float32), known.astype(np.float32)
    surface, label = plane_surface(measured, trust, trust, grey_picture(), STYLE)
    assert surface.dtype == np.float32
    assert label[known].all()
    np.testing.assert_allclose(surface[known], floor[known], rtol=1e-3)
    assert surface.min() > 0.5 * floor[known].min()


def test_labels_match_a_readable_twin(monkeypatch):
    rng = np.random.default_rng(4)
    shape = (10, 13)
    planes = np.array([[0.002, 0.001, 0.2], [-0.003, 0.0, 0.25], [0.0, 0.004, 0.2]])
    monkeypatch.setattr(picture_planes, "find_planes", lambda inverse_depth, weight: planes)
    inverse_depth = (rng.choice([plane(row, shape) for row in planes]) * rng.normal(1, 0.03, shape)).astype(np.float32)
    sure, weight = rng.uniform(0, 1, (2, *shape)).astype(np.float32)
    rgb = rng.integers(100, 130, (*shape, 3), dtype=np.uint8)
    style = PlaneStyle(change=0.8)
    costs = [style.none + style.none_unsure * (1 - sure)]
    for row in planes:
        away = np.abs(plane(row, shape) / inverse_depth - 1)
        costs.append(weight * np.minimum((away / style.disagreement) ** 2, 1))
    expected = readable_labels(np.stack(costs, axis=-1), rgb, style)
    surface, label = plane_surface(inverse_depth, sure, weight, rgb, style)
    assert len(np.unique(expected)) == 4
    np.testing.assert_array_equal(label, expected)
    answers = np.stack([inverse_depth, *(plane(row, shape) for row in planes)])
    np.testing.assert_allclose(surface, np.take_along_axis(answers, expected[None], axis=0)[0], rtol=1e-6)

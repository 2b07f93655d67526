"""Which sparse points a frame sees: its own, lent ones in the open, none through walls."""

import numpy as np
import pytest

from recon4d.geometry.seen_points import (
    HIDING_STEP,
    POOLED_WEIGHT,
    SPAN,
    WIDE_SPAN,
    SeenPoints,
    SparseViews,
    not_hidden,
    projected,
)
from recon4d.scene.camera import Camera
from recon4d.scene.sparse import SparseModel
from recon4d.scene.trajectory import PoseOrigin, Trajectory
from recon4d.scene.transforms import Rigid3

CAMERA = Camera(640, 480, 500.0, 500.0, 320.0, 240.0)  # a nearer point hides within 16 pixels


def views_of(points, seen, centres, usable=None, camera=CAMERA) -> SparseViews:
    """Cameras at ``centres`` that look along z; ``seen``: rows of the points each frame observed."""
    points, centres = np.array(points, dtype=float), np.array(centres, dtype=float)
    names = tuple(f"{i:06d}" for i in range(len(centres)))
    trajectory = Trajectory(
        names,
        0.1 * np.arange(len(names)),
        Rigid3(np.broadcast_to(np.eye(3), (len(names), 3, 3)), -centres),
        (camera,) * len(names),
        (PoseOrigin.MEASURED,) * len(names),
    )
    rows = {name: np.array(r, dtype=int) for name, r in zip(names, seen) if len(r)}
    with np.errstate(invalid="ignore"):
        pixels = {
            name: np.nan_to_num(camera.project(points[r] - centres[names.index(name)])) for name, r in rows.items()
        }
    count = len(points)
    model = SparseModel(
        points, np.ones(count), np.full(count, 5), np.full(count, 9.0), np.zeros((count, 3), np.uint8), pixels, rows
    )
    return SparseViews(model, trajectory, np.ones(count, dtype=bool) if usable is None else np.array(usable))


def test_lent_points_by_hand():
    points = [
        [0.0, 0, 2],  # 0: a wall before frame 0, which observed it
        [0.02, 0, 4],  # 1: behind it (2.5 pixels beside it): hidden
        [1.0, 0.5, 4],  # 2: in the open
        [0.0, 0, -3],  # 3: behind camera 0
        [10.0, 0, 4],  # 4: outside the picture
        [0.5, 0, 4],  # 5: not to be trusted, though both frames observed it
        [0.03, 0, 2.2],  # 6: beside the wall's point and 9 % behind it: the same surface
        [0.01, 0, 6],  # 7: observed in frame 0, so it is there, whatever lies before it
    ]
    views = views_of(points, [[7, 0, 5], [1, 2, 3, 4, 5, 6]], [[0, 0, 0], [1, 0, -5]], [True] * 5 + [False, True, True])
    seen = views.with_lent(0)
    np.testing.assert_array_equal(seen.rows, [7, 0, 2, 6])
    np.testing.assert_array_equal(seen.weight, [1, 1, POOLED_WEIGHT, POOLED_WEIGHT])
    np.testing.assert_array_equal(seen.own, [True, True, False, False])
    np.testing.assert_allclose(seen.x, [320 + 5 / 6, 320, 445, 320 + 15 / 2.2])
    np.testing.assert_allclose(seen.y, [240, 240, 302.5, 240])
    np.testing.assert_allclose(seen.z, [6, 2, 4, 2.2])
    np.testing.assert_array_equal(views.own(0).rows, [7, 0])
    np.testing.assert_array_equal(views.own(1).rows, [1, 2, 3, 4, 6])
    np.testing.assert_allclose(views.own(1).z, [9, 9, 2, 9, 7.2])


def test_observations_behind_the_camera_are_not_seen():
    views = views_of([[0, 0, -1.0], [0, 0, 1.0]], [[0, 1]], [[0, 0, 0]])
    np.testing.assert_array_equal(views.own(0).rows, [1])


def test_a_lent_point_can_hide_another_lent_one():
    views = views_of([[0, 0, 2.0], [0, 0, 3.0]], [[], [0, 1]], [[0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(views.with_lent(0).rows, [0])


@pytest.mark.parametrize("i", [0, 3, 15, 29])
@pytest.mark.parametrize(("scarce", "span"), [(1, SPAN), (300, WIDE_SPAN)])
def test_points_are_lent_over_ten_frames_or_twenty_where_they_are_scarce(i, scarce, span, monkeypatch):
    monkeypatch.setattr("recon4d.geometry.seen_points.SCARCE", scarce)
    count = 30
    points = [[0.1 * k - 1.5, 0, 3.0] for k in range(count)]  # 16.7 pixels apart
    views = views_of(points, [[k] for k in range(count)], [[0, 0, 0]] * count)
    seen = views.with_lent(i)
    assert seen.rows[0] == i
    assert set(seen.rows) == set(range(max(0, i - span), min(count, i + span + 1)))
    assert seen.own.sum() == 1


def test_a_point_of_several_frames_is_lent_once():
    views = views_of([[0, 0, 2.0], [1.0, 0, 2.0]], [[0], [0, 1], [1], [1]], [[0, 0, 0]] * 4)
    np.testing.assert_array_equal(views.with_lent(0).rows, [0, 1])
    np.testing.assert_array_equal(views.with_lent(3).rows, [1, 0])


def test_frames_without_points():
    views = views_of([[0, 0, 2.0]], [[], [], [0]], [[0, 0, 0]] * 3)
    assert len(views.own(0)) == 0
    np.testing.assert_array_equal(views.with_lent(0).weight, [POOLED_WEIGHT])
    nobody = views_of(np.zeros((0, 3)), [[], []], [[0, 0, 0]] * 2)
    assert len(nobody.with_lent(0)) == len(nobody.own(1)) == 0


def test_portrait_pictures_hide_by_their_longer_side():
    portrait = Camera(480, 640, 500.0, 500.0, 240.0, 320.0)
    for beside, hidden in ((15.0, True), (17.0, False)):
        views = views_of([[0, 0, 2.0], [beside / 500 * 4, 0, 4.0]], [[0], [1]], [[0, 0, 0]] * 2, camera=portrait)
        assert (len(views.with_lent(0)) == 1) == hidden


@pytest.mark.parametrize("seed", range(4))
def test_hidden_points_are_those_of_the_definition(seed):
    rng = np.random.default_rng(seed)
    x, y, z = rng.uniform(0, 640, 500), rng.uniform(0, 480, 500), rng.uniform(1, 3, 500)
    radius = rng.uniform(3, 60)
    near = np.hypot(x[:, None] - x, y[:, None] - y) < radius
    hides = near & (1 - z / z[:, None] > HIDING_STEP)  # [i, j]: j stands before i; relative in inverse depth
    expected = ~hides.any(axis=1)
    assert 0.02 < expected.mean() < 0.98
    np.testing.assert_array_equal(not_hidden(x, y, z, radius), expected)


def test_hiding_does_not_depend_on_where_the_picture_begins():
    rng = np.random.default_rng(9)
    x, y, z = rng.uniform(0, 640, 300), rng.uniform(0, 480, 300), rng.uniform(1, 3, 300)
    np.testing.assert_array_equal(not_hidden(x - 1000.25, y - 3000.5, z, 16.0), not_hidden(x, y, z, 16.0))


def test_no_point_is_hidden_by_itself_or_where_there_are_none():
    assert not_hidden(np.zeros(1), np.zeros(1), np.ones(1), 16.0).all()
    assert not_hidden(*np.zeros((3, 0)), 16.0).shape == (0,)


def test_projection_by_hand():
    cam_from_world = Rigid3(
        np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]]), np.array([0.0, 0, 1])
    )  # looks along world x
    points = np.array([[1.0, 0, 0], [1.0, 0.4, -0.2], [-2.0, 0, 0], [1.0, 5.0, 0.0]])
    x, y, z, inside = projected(points, cam_from_world, CAMERA)
    np.testing.assert_allclose(z, [2, 2, -1, 2])
    np.testing.assert_array_equal(inside, [True, True, False, False])
    np.testing.assert_allclose(x[[0, 1]], [320, 370])
    np.testing.assert_allclose(y[[0, 1]], [240, 340])


def test_chosen_points_keep_their_columns_together():
    seen = SeenPoints(np.arange(4), *np.arange(12.0).reshape(3, 4), np.array([1, 1, 0.5, 0.5]))
    part = seen[np.array([False, True, False, True])]
    for found, expected in zip((part.rows, part.x, part.y, part.z), ([1, 3], [1, 3], [5, 7], [9, 11])):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(part.own, [True, False])

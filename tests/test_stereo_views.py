"""Which views a frame is matched against, which it exchanges depth with, and between which depths."""

import numpy as np
import pytest

from recon4d.geometry import stereo_views
from recon4d.geometry.stereo_views import (
    BLIND_MARGINS,
    DAMPING,
    ENOUGH_SHARED,
    FAINT,
    MARGINS,
    SAME_PLACE,
    WIDE_MARGINS,
    StereoViews,
)
from recon4d.scene.camera import Camera
from recon4d.scene.sparse import SparseModel
from recon4d.scene.trajectory import PoseOrigin, Trajectory
from recon4d.scene.transforms import Rigid3

CAMERA = Camera(640, 480, 500.0, 500.0, 320.0, 240.0)


def turned(angle_deg: float) -> np.ndarray:
    """cam_from_world rotation of a camera turned about the vertical axis."""
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    return np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])


def path(centres, turns_deg=None, origin=PoseOrigin.MEASURED) -> Trajectory:
    centres = np.asarray(centres, dtype=float)
    count = len(centres)
    rotation = np.stack([turned(a) for a in (np.zeros(count) if turns_deg is None else turns_deg)])
    origins = origin if isinstance(origin, tuple) else (origin,) * count
    translation = -np.einsum("nij,nj->ni", rotation, centres)
    names = tuple(f"{i:06d}" for i in range(count))
    return Trajectory(names, 0.1 * np.arange(count), Rigid3(rotation, translation), (CAMERA,) * count, origins)


def model_of(points, trajectory: Trajectory, unseen_by=(), angle_deg=9.0) -> SparseModel:
    """Every frame observes every point in its picture, but for the rows in ``unseen_by``."""
    points = np.asarray(points, dtype=float).reshape(-1, 3)
    pixels, rows = {}, {}
    for i, view in enumerate(trajectory):
        if i in unseen_by or not len(points):
            continue
        xy = CAMERA.project(view.cam_from_world @ points)
        rows[view.name] = np.flatnonzero(((xy >= 0) & (xy < (640, 480))).all(axis=1))
        pixels[view.name] = xy[rows[view.name]]
    count = len(points)
    tracks = np.bincount(np.concatenate([*rows.values(), np.zeros(0, dtype=int)]), minlength=count)
    colours = np.zeros((count, 3), np.uint8)
    return SparseModel(points, np.ones(count), tracks, np.full(count, float(angle_deg)), colours, pixels, rows)


def wall(count=400, z=2.0, seed=0, relief=0.0) -> np.ndarray:
    """(count, 3) points on a wall 6 wide and 3 high at depth ``z``."""
    rng = np.random.default_rng(seed)
    return np.stack(
        [rng.uniform(-3, 3, count), rng.uniform(-1.5, 1.5, count), z + rng.uniform(0, relief, count)], axis=1
    )


def along_x(count: int, step: float) -> np.ndarray:
    return np.stack([step * (np.arange(count) - count // 2), np.zeros(count), np.zeros(count)], axis=1)


STEP = 2 * np.tan(np.radians(1.0))  # past a wall 2 away, 1 degree each on the axis
EMPTY = model_of(np.zeros((0, 3)), path(np.zeros((1, 3))))


def at_depth(z: float, trajectory: Trajectory) -> StereoViews:
    """Views of surfaces at depth ``z`` everywhere: one point says so, too few to tell more."""
    views = StereoViews(model_of([[0, 0, z]], trajectory), trajectory)
    np.testing.assert_allclose(views._cells, z)
    return views


def test_a_line_of_cameras_is_matched_under_the_best_angle_on_both_sides():
    trajectory = path(along_x(41, STEP))
    views = StereoViews(model_of(wall(3000), trajectory), trajectory)
    assert views.has_parallax
    first, second = views.others(20, 2)
    # The median over the picture is less than on the axis: 3.6 degrees for four steps, and the best is 3.5.
    assert {first, second} == {16, 24}
    chosen = np.array(views.others(20, 12))
    assert len(set(chosen)) == 12
    assert 20 not in chosen
    assert 4 <= (chosen < 20).sum() <= 8
    assert np.abs(chosen - 20).min() >= 2
    assert len(views.others(20, 5)) == 5
    assert views.others(20, 5) == chosen[:5].tolist()


def test_score_against_a_readable_twin():
    rng = np.random.default_rng(4)
    trajectory = path(rng.uniform(-0.3, 0.3, (15, 3)), rng.uniform(-8, 8, 15))
    model = model_of(wall(600, relief=1.5), trajectory)
    views = StereoViews(model, trajectory)
    centres, names = trajectory.centres, trajectory.names
    for i in (0, 7):
        score = np.zeros(15)
        for j in range(15):
            shared = sorted(set(model.rows[names[i]]) & set(model.rows[names[j]]))
            angles = []
            for x in model.points[shared]:
                a, b = x - centres[i], x - centres[j]
                angles.append(np.degrees(np.arccos(min(1.0, a @ b / np.linalg.norm(a) / np.linalg.norm(b)))))
            angle = np.median(angles)
            bell = np.exp(-0.5 * ((angle - 3.5) / (1.5 if angle < 3.5 else 6.0)) ** 2)
            if j != i and angle >= 1.0:
                score[j] = max(bell, FAINT) * views._overlap[i, j] * np.sqrt(min(len(shared), ENOUGH_SHARED))
        place, expected = SAME_PLACE * views._median_depth(i), []
        for _ in range(8):
            expected.append(int(np.argmax(score)))
            for j in range(15):
                away = np.linalg.norm(centres[j] - centres[expected[-1]]) / place
                score[j] *= 1 - DAMPING * np.exp(-0.5 * away**2)
            score[expected[-1]] = 0
        assert views.others(i, 8) == expected


@pytest.mark.parametrize(("shared", "chosen"), [(150, [2, 1]), (50, [1, 2]), (9, [1])])
def test_few_shared_points_make_a_worse_partner_or_none(shared, chosen):
    """Frame 2 stands at the better angle, but sees mostly points that no other frame found."""
    trajectory = path([[0, 0, 0], [-0.1, 0, 0], [0.12, 0, 0]])
    model = model_of(wall(1500), trajectory)
    visible = model.rows["000002"]
    common = visible[np.isin(visible, model.rows["000000"])][:shared]
    alone = np.setdiff1d(visible, common)
    rows = {name: np.setdiff1d(r, alone) if name == "000002" else r for name, r in model.rows.items()}
    points = np.concatenate([model.points, model.points[alone]])
    rows["000002"] = np.concatenate([common, 1500 + np.arange(len(alone))])
    count = len(points)
    fewer = SparseModel(
        points, np.ones(count), np.full(count, 3), np.full(count, 9.0), np.zeros((count, 3), np.uint8), {}, rows
    )
    assert StereoViews(fewer, trajectory).others(0, 3) == chosen


def test_a_view_that_sees_little_of_the_picture_is_no_match_but_exchanges_depth():
    trajectory = path([[0, 0, 0], [0.5, 0, 0], [0.5, 0, 0], [0.5, 0, 0]], [0, 0, 45, 58])
    views = at_depth(8.0, trajectory)
    assert 0.15 < views._overlap[0, 2] < 0.3
    assert 0 < views._overlap[0, 3] < 0.15
    assert views.others(0, 3) == [1]
    assert views.spread(0, 3) == [1, 2]


def test_views_too_far_round_see_another_side():
    turns = np.array([0.0, 25, 60])
    centres = 3 * np.stack([-np.sin(np.radians(turns)), np.zeros(3), 1 - np.cos(np.radians(turns))], axis=1)
    views = at_depth(3.0, path(centres, turns))
    assert views._overlap[0, 2] > 0.3
    assert views.others(0, 3) == [1]
    assert views.spread(0, 3) == [1]


def test_where_the_camera_rests_few_frames_exchange_depth():
    resting, elsewhere = np.zeros((40, 3)), along_x(7, 0.15)
    trajectory = path(np.concatenate([resting, elsewhere]))
    views = at_depth(3.0, trajectory)
    spread = views.spread(0, 8)
    assert spread[:2] == [1, 2]
    assert len(set(spread) & {40, 41, 42, 44, 45, 46}) >= 4


def test_frames_of_one_place_are_spread_over_time():
    views = at_depth(3.0, path(np.zeros((41, 3))))
    spread = views.spread(20, 9)
    assert spread[:4] == [19, 21, 18, 22]
    assert np.diff(np.sort([*spread[4:], 18, 22])).min() >= 3


def test_a_later_visit_is_chosen_and_exchanges_depth():
    there = along_x(30, 0.05)
    trajectory = path(np.concatenate([there, there[::-1] + np.array([0.02, 0.15, 0])]))
    views = StereoViews(model_of(wall(3000), trajectory), trajectory)
    chosen, spread = np.array(views.others(10, 10)), np.array(views.spread(10, 12))
    assert (chosen < 30).any()
    assert (chosen >= 30).any()
    assert set(spread[:4]) == {8, 9, 11, 12}  # next in time
    assert set(spread[:2]) == {9, 11}
    assert (spread >= 30).sum() >= 3
    assert np.abs(spread - 10).max() > 30


@pytest.mark.parametrize("origin", [PoseOrigin.STATIC, PoseOrigin.IMPORTED])
def test_a_tripod_has_no_parallax(origin):
    trajectory = path(np.zeros((12, 3)), origin=origin)
    for model in (EMPTY, model_of(wall(), trajectory, angle_deg=0.0)):
        views = StereoViews(model, trajectory)
        assert not views.has_parallax
        assert views.others(5, 4) == []
    exchange = views.spread(5, 4)
    assert exchange == ([] if origin is PoseOrigin.STATIC else [4, 6, 3, 7])


def test_a_camera_that_only_turns_has_no_parallax_whatever_its_path_shakes():
    shaking = np.random.default_rng(1).normal(0, 0.003, (20, 3))
    trajectory = path(shaking, np.linspace(-40, 40, 20))
    rng = np.random.default_rng(2)
    ahead = np.stack([rng.uniform(-0.2, 0.2, 300), rng.uniform(-0.05, 0.05, 300), np.full(300, 0.2)], axis=1)
    model = model_of(np.concatenate([ahead, wall(8000)]), trajectory, angle_deg=0.3)
    angles = model.angle_deg.copy()
    angles[:300] = 3.0  # as they would be, if those points were right
    model = SparseModel(**{**vars(model), "angle_deg": angles})
    views = StereoViews(model, trajectory)
    assert not views.has_parallax
    assert views.others(10, 4) == []


def test_fewer_than_two_posed_frames_have_no_parallax():
    alone = path(np.zeros((1, 3)))
    guessed = path(along_x(3, 0.2), origin=(PoseOrigin.INTERPOLATED, PoseOrigin.IMPORTED, PoseOrigin.INTERPOLATED))
    views = StereoViews(EMPTY, alone)
    assert not views.has_parallax
    assert views.others(0, 3) == views.spread(0, 3) == []
    views = at_depth(2.0, guessed)
    assert not views.has_parallax
    assert views.others(1, 3) == []


def test_interpolated_frames_ask_but_are_never_chosen():
    placed_only = {4, 11, 12, 25}
    origin = tuple(PoseOrigin.INTERPOLATED if i in placed_only else PoseOrigin.MEASURED for i in range(30))
    trajectory = path(along_x(30, STEP), origin=origin)
    views = StereoViews(model_of(wall(3000), trajectory, unseen_by=placed_only), trajectory)
    for i in range(30):
        assert not placed_only & set(views.others(i, 29))
        assert not placed_only & set(views.spread(i, 29))
    chosen = np.array(views.others(12, 8))
    assert len(chosen) == 8
    assert chosen[0] in (8, 16)
    assert views.spread(12, 2) == [13, 10] or views.spread(12, 2) == [13, 14]


def test_without_points_the_poses_decide():
    """On an arc about what they look at, 4 degrees apart: the optical axes say how far that is."""
    turns = 4.0 * np.arange(-6, 7)
    centres = np.stack([-3 * np.sin(np.radians(turns)), np.zeros(13), 3 - 3 * np.cos(np.radians(turns))], axis=1)
    trajectory = path(centres, turns)
    views = StereoViews(EMPTY, trajectory)
    assert views.has_parallax
    assert set(views.others(6, 2)) == {5, 7}
    np.testing.assert_allclose(views.near_far(6), (3 * BLIND_MARGINS[0], 3 * BLIND_MARGINS[1]), rtol=1e-9)
    away = path(np.concatenate([centres[3:8], centres[2:9]]), [*turns[3:8], *(turns[2:9] + 180)])
    np.testing.assert_allclose(StereoViews(EMPTY, away).near_far(0)[0], 3 * BLIND_MARGINS[0], rtol=1e-9)


def test_with_few_points_overlap_decides():
    """Eight photos of a room: three overlap, the others look away."""
    centres = [[0, 0, 0], [0.2, 0, 0], [0.5, 0, 0], [0, 0, -1], [0.2, 0, -1.2], [0, 0.3, -1.5], [1, 0, -1], [2, 0, 0]]
    trajectory = path(centres, [0, 0, 5, 180, 90, -90, 120, 150])
    seen = model_of(wall(40), trajectory)
    views = StereoViews(seen, trajectory)
    assert views.others(0, 5) == [1, 2]
    assert views.spread(0, 5) == [1, 2]
    assert views.others(3, 5) == []  # nothing else looks there


def test_what_stands_behind_a_wall_is_not_seen():
    """Two cameras look the same way, but a wall stands between the second and what the first looks at."""
    trajectory = path([[0, 0, 0], [0.5, 0, 0], [0, 0, -4], [0.3, 0, -4], [0.6, 0, -4]])
    model = model_of(np.concatenate([wall(400, 2.0), wall(400, -1.0, 1)]), trajectory, unseen_by=(2, 3, 4))
    before = model_of(wall(400, -1.0, 1), trajectory, unseen_by=(0, 1))
    rows = {**model.rows, **{name: r + 400 for name, r in before.rows.items()}}
    pixels = {**model.pixels, **before.pixels}
    both = SparseModel(model.points, model.error_px, np.full(800, 3), model.angle_deg, model.colors, pixels, rows)
    views = StereoViews(both, trajectory)
    assert views.spread(0, 4) == [1]
    assert set(views.spread(2, 4)) == {3, 4}


def test_depth_range_by_hand():
    trajectory = path(along_x(3, 0.1))
    z = np.linspace(2, 4, 101)
    points = np.stack([np.zeros(101), 0.1 * np.sin(np.arange(101)), z], axis=1)
    near, far = StereoViews(model_of(points, trajectory), trajectory).near_far(1)
    assert (near, far) == pytest.approx((2.02 * MARGINS[0], 3.98 * MARGINS[1]))
    scarce = StereoViews(model_of(points[:51], trajectory), trajectory).near_far(1)
    # Of all frames together, which see the same 51 depths from 2 to 3 here: each end three times in 153.
    assert scarce == pytest.approx((2.0 * WIDE_MARGINS[0], 3.0 * WIDE_MARGINS[1]))


def test_depth_range_of_a_frame_without_points_comes_from_what_others_found():
    """It stands a metre behind the others, so the wall is a metre farther; what it cannot see does not count."""
    trajectory = path([[0, 0, 0], [0.1, 0, 0], [0.2, 0, 0], [0.1, 0, -1]], origin=PoseOrigin.MEASURED)
    points = np.concatenate([wall(9000, 2.0), wall(200, -9.0), wall(500, 9.0)])
    near, far = StereoViews(model_of(points, trajectory, unseen_by={3}), trajectory).near_far(3)
    assert (near, far) == pytest.approx((3 * MARGINS[0], 3 * MARGINS[1]))


def test_wrong_points_do_not_open_the_range():
    trajectory = path(along_x(5, 0.1))
    points = np.concatenate([wall(1000, 3.0), [[0, 0, 0.01], [0, 0, 5000.0]]])
    near, far = StereoViews(model_of(points, trajectory), trajectory).near_far(2)
    assert 2 < near < 3 < far < 5


def test_frames_in_another_order_give_the_same_choice():
    rng = np.random.default_rng(8)
    trajectory = path(rng.uniform(-0.4, 0.4, (20, 3)), rng.uniform(-10, 10, 20))
    model = model_of(wall(900, relief=1.0), trajectory, unseen_by={3, 9})
    order = rng.permutation(20)
    mixed = Trajectory(
        tuple(trajectory.names[k] for k in order),
        trajectory.timestamps_s[order],
        trajectory.cam_from_world[order],
        trajectory.cameras,
        trajectory.origin,
    )
    straight, permuted = StereoViews(model, trajectory), StereoViews(model, mixed)
    for row, i in enumerate(order):
        assert [order[j] for j in permuted.others(row, 7)] == straight.others(i, 7)
        assert [order[j] for j in permuted.spread(row, 9)] == straight.spread(i, 9)
        assert permuted.near_far(row) == straight.near_far(i)


def test_units_do_not_matter():
    rng = np.random.default_rng(3)
    centres, points = rng.uniform(-0.4, 0.4, (12, 3)), wall(900, relief=1.0)
    small, large = path(centres), path(250 * centres)
    a, b = StereoViews(model_of(points, small), small), StereoViews(model_of(250 * points, large), large)
    for i in range(12):
        assert a.others(i, 6) == b.others(i, 6)
        assert a.spread(i, 6) == b.spread(i, 6)
        np.testing.assert_allclose(250 * np.array(a.near_far(i)), b.near_far(i))


def test_two_kinds_of_camera():
    """The wider picture of the same place is seen smaller, so it overlaps half as much."""
    zoomed = Camera(640, 480, 1000.0, 1000.0, 320.0, 240.0)
    one = path(along_x(3, 0.15))
    trajectory = Trajectory(one.names, one.timestamps_s, one.cam_from_world, (CAMERA, CAMERA, zoomed), one.origin)
    views = at_depth(2.0, trajectory)
    assert views._overlap[2, 1] == pytest.approx(0.5)
    assert views._overlap[2, 2] == pytest.approx(1.0)
    # 0.15 / 2 * 500 = 37.5 of 640 pixels to the side: less than one of ten columns, whose middle is 32 from the border.
    assert views._overlap[1, 0] == pytest.approx(0.9)


def test_medians_by_group():
    counts, medians = stereo_views._medians(np.array([5.0, 1, 3, 8, 2]), np.array([0, 0, 0, 2, 2]), 4)
    assert counts.tolist() == [3, 0, 2, 0]
    assert medians.tolist() == [3, 0, 5, 0]


def test_observations_that_are_not_precise_do_not_count():
    trajectory = path(along_x(9, 0.1))
    model = model_of(wall(900), trajectory)
    for name, bad in (("error_px", 2.1), ("track_length", 2), ("angle_deg", 0.9)):
        values = getattr(model, name).copy()
        values[100:200] = bad
        fields = {**vars(model), name: values}
        counted = StereoViews(SparseModel(**fields), trajectory)._sees.any(axis=0)
        assert not counted[100:200].any()
        assert counted[:100].any()

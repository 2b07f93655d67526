"""The matching cost: by hand, against a readable twin, and on surfaces whose depth is known."""

import math

import numpy as np
import pytest

from recon4d.geometry.photo_cost import VARIANCE_FLOOR, GreyView, Labels, photo_costs
from recon4d.geometry.semi_global import Smoothness, semi_global
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

FOCAL = 20.0


def view(grey, position=(0.0, 0.0, 0.0), rotation=None):
    """A picture taken at ``position``, looking along z unless it is turned."""
    height, width = grey.shape
    camera = Camera(width, height, FOCAL, FOCAL, width / 2, height / 2)
    rotation = np.eye(3) if rotation is None else rotation
    return GreyView(grey, camera, Rigid3(rotation, -rotation @ np.array(position)))


def turned(degrees):
    """Rotation about x, then about y."""
    a, b = np.radians(degrees), np.radians(degrees / 2)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    return about_y @ about_x


def noise(shape=(12, 16), seed=0):
    return np.random.default_rng(seed).uniform(20, 230, shape).astype(np.float32)


def flat_labels(shape, depth):
    """One label: a plane at ``depth``."""
    return Labels(np.full(shape, 1 / depth), 0.1, 1)


def window(x, y, radius, shape):
    """Pixels (row, column) around a pixel that lie in the picture."""
    rows = range(max(0, y - radius), min(shape[0], y + radius + 1))
    columns = range(max(0, x - radius), min(shape[1], x + radius + 1))
    return [(row, column) for row in rows for column in columns]


def readable_look(reference, other, x, y, inverse_depth):
    """Grey level of the other view at the surface of one pixel; None where it does not see it."""
    if not inverse_depth > 0:
        return None
    camera = reference.camera
    ray = np.array([(x + 0.5 - camera.cx) / camera.fx, (y + 0.5 - camera.cy) / camera.fy, 1.0])
    in_world = reference.cam_from_world.inverse() @ (ray / inverse_depth)
    u, v = other.camera.project(other.cam_from_world @ in_world) - 0.5
    height, width = other.grey.shape
    if not (0 <= u < width - 1 and 0 <= v < height - 1):
        return None
    column, row = math.floor(u), math.floor(v)
    fu, fv = u - column, v - row
    upper = (1 - fu) * float(other.grey[row, column]) + fu * float(other.grey[row, column + 1])
    lower = (1 - fu) * float(other.grey[row + 1, column]) + fu * float(other.grey[row + 1, column + 1])
    grey = (1 - fv) * upper + fv * lower
    return None if math.isnan(grey) else grey


def readable_costs(reference, others, labels, radius):
    """The same as `photo_costs`, one pixel and label after the other, in float64."""
    shape = reference.grey.shape
    costs = np.ones((*shape, labels.count))
    for k in range(labels.count):
        looks = [np.empty(shape, dtype=object) for _ in others]
        for y, x in np.ndindex(shape):
            for look, other in zip(looks, others):
                look[y, x] = readable_look(reference, other, x, y, float(labels.base[y, x]) + labels.step * k)
        for y, x in np.ndindex(shape):
            found = []
            pixels = window(x, y, radius, shape)
            own = np.array([reference.grey[at] for at in pixels], dtype=float)
            for look in looks:
                theirs = [look[at] for at in pixels]
                if None in theirs:
                    continue
                theirs = np.array(theirs)
                covariance = np.mean((own - own.mean()) * (theirs - theirs.mean()))
                spread = np.sqrt((own.var() + VARIANCE_FLOOR) * (theirs.var() + VARIANCE_FLOOR))
                found.append(min(max(1 - covariance / spread, 0), 1))
            if found:
                costs[y, x, k] = np.mean(found)
    return costs


@pytest.mark.parametrize(("shape", "radius"), [((9, 11), 2), ((7, 35), 1), ((6, 5), 3)], ids=str)
def test_costs_equal_the_readable_ones(shape, radius):
    rng = np.random.default_rng(3)
    reference = view(noise(shape, 4))
    others = [
        view(noise(shape, 5), (0.3, 0.1, 0.0)),
        view(noise((8, 9), 6), (-0.2, 0.4, 0.1), turned(3.0)),
        view(noise((14, 40), 7), (0.5, 0.0, -1.0), turned(-4.0)),
        view(noise(shape, 8), (0.0, 0.0, 2.5)),  # nearer surfaces lie behind it
    ]
    labels = Labels(rng.uniform(-0.05, 0.2, shape), 0.1, 5)
    others[0].grey[4, -1] = np.nan
    found = photo_costs(reference, others, labels, radius)
    expected = readable_costs(reference, others, labels, radius)
    assert 0.02 < (expected == 1).mean() < 0.9  # both seen and unseen are there
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("side", [1, -1])
def test_costs_equal_the_readable_ones_where_a_view_sees_part_of_the_rows(side):
    shape, rng = (5, 84), np.random.default_rng(11)
    x = np.arange(84)
    grey = noise(shape, 12) + (30 * np.sin(0.2 * x)).astype(np.float32)  # the mean differs along a row
    others = [view(noise((9, 84), 13), (side * 9.0, 0, 0)), view(noise((9, 84), 14), (side * 12.0, 0, 0))]
    labels = Labels(rng.uniform(0.2, 0.203, shape), 0.005, 3)  # 36 to 50 pixels to the side
    found = photo_costs(view(grey), others, labels, 2)
    expected = readable_costs(view(grey), others, labels, 2)
    assert 0.1 < (expected < 1).mean() < 0.6
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_identical_pictures_by_hand():
    grey = noise((6, 40))
    costs = photo_costs(view(grey), [view(grey)], flat_labels(grey.shape, 3.0))[..., 0]
    for y, x in ((0, 0), (2, 20), (1, 36)):
        variance = np.var([float(grey[at]) for at in window(x, y, 2, grey.shape)])
        # The last row and column lie beyond the last pixel centre, where nothing can be read between pixels.
        np.testing.assert_allclose(costs[y, x], VARIANCE_FLOOR / (variance + VARIANCE_FLOOR), atol=1e-5)
    assert costs[:3, :37].max() < 0.01
    assert (costs[3:] == 1).all()
    assert (costs[:, 37:] == 1).all()


def test_a_flat_window_matches_nothing():
    flat = np.full((8, 9), 77.0, dtype=np.float32)
    np.testing.assert_allclose(photo_costs(view(flat), [view(flat)], flat_labels(flat.shape, 2.0)), 1, atol=1e-4)


def test_an_inverted_picture_costs_one():
    grey = noise()
    assert (photo_costs(view(grey), [view(255 - grey)], flat_labels(grey.shape, 2.0)) == 1).all()


def test_brightness_offset_changes_nothing_and_gain_only_the_floor():
    grey, other, labels = noise(seed=9), noise(seed=10), Labels.sweep((12, 16), 2.0, 10.0, 6)
    mixed = np.float32(0.5) * grey + np.float32(0.5) * other  # alike, not the same
    plain = photo_costs(view(grey), [view(mixed, (0.1, 0, 0))], labels)
    brighter = photo_costs(view(grey), [view(mixed + 20, (0.1, 0, 0))], labels)
    np.testing.assert_allclose(brighter, plain, atol=1e-5)
    stronger = photo_costs(view(grey), [view(mixed * np.float32(1.5), (0.1, 0, 0))], labels)
    np.testing.assert_allclose(stronger, plain, atol=VARIANCE_FLOOR / 200)
    assert (plain < 0.9).mean() > 0.2


def wave(x, y):
    """A texture that is defined between pixels."""
    return 128 + 60 * np.sin(7.6 * x + 1.2 * y) + 50 * np.sin(2.8 * x - 9.2 * y + 1)


def plane_picture(camera, cam_from_world, normal, distance):
    """Grey levels (H, W) and z-depth of the plane ``normal @ x = distance`` with a wave painted on it."""
    world_from_cam = cam_from_world.inverse()
    rays = camera.rays() @ world_from_cam.rotation.T
    depth = (distance - normal @ world_from_cam.translation) / (rays @ normal)
    points = world_from_cam.translation + depth[..., None] * rays
    return wave(points[..., 0], points[..., 1]).astype(np.float32), depth


def test_a_slanted_plane_is_found_at_the_middle_of_its_band():
    camera = Camera(64, 48, 60.0, 60.0, 32.0, 24.0)
    normal, distance = np.array([0.35, -0.2, 1.0]), 4.0
    poses = [Rigid3(np.eye(3), np.zeros(3))]
    poses += [Rigid3(turned(a), -turned(a) @ np.array(at)) for a, at in ((1, (0.4, 0, 0)), (-2, (-0.3, 0.3, 0.1)))]
    pictures = [plane_picture(camera, pose, normal, distance) for pose in poses]
    views = [GreyView(grey, camera, pose) for (grey, _), pose in zip(pictures, poses)]
    labels = Labels.band(1 / pictures[0][1], 0.01, 9)
    costs = photo_costs(views[0], views[1:], labels, radius=3)
    np.testing.assert_allclose(1 / labels.inverse_depth(np.full((48, 64), 4.0)), pictures[0][1], rtol=1e-6)
    inner = (slice(12, -12), slice(12, -12))
    label = semi_global(costs, views[0].grey, Smoothness(0, 0, 1)).label[inner]
    assert costs[inner][..., 4].max() < 0.02
    np.testing.assert_array_equal(costs[inner].argmin(axis=2), 4)
    assert np.abs(label - 4).max() < 0.1


def test_a_shift_of_whole_pixels_is_found_at_its_exact_inverse_depth():
    grey, baseline, disparity = noise((10, 40)), 0.5, 3
    shifted = np.roll(grey, -disparity, axis=1)  # what lies at x is seen at x - 3 from half a unit to the right
    step = 1 / (FOCAL * baseline)  # of inverse depth: one pixel
    labels = Labels(np.full(grey.shape, step), step, 6)
    costs = photo_costs(view(grey), [view(shifted, (baseline, 0, 0))], labels)
    inner = costs[3:-3, 8:-8]
    np.testing.assert_array_equal(inner.argmin(axis=2), disparity - 1)
    assert inner[..., disparity - 1].max() < 0.01
    assert np.delete(inner, disparity - 1, axis=2).min() > 0.1


def test_more_labels_than_a_block_are_each_in_their_place():
    grey, others = noise(), [view(noise(seed=2), (0.1, 0, 0))]
    labels = Labels.sweep(grey.shape, 1.0, 10.0, 37)
    costs = photo_costs(view(grey), others, labels)
    for k in (0, 15, 16, 31, 32, 36):
        single = Labels(labels.inverse_depth(np.float32(k)), labels.step, 1)
        np.testing.assert_allclose(photo_costs(view(grey), others, single)[..., 0], costs[..., k], atol=1e-4)


def test_views_that_look_elsewhere_cost_one_and_change_no_other():
    grey, beside = noise(), view(noise(seed=2), (0.1, 0, 0))
    labels = Labels.sweep(grey.shape, 2.0, 10.0, 5)
    behind, away = view(grey, rotation=np.diag([-1.0, 1, -1])), view(grey, (100.0, 0, 0))
    assert (photo_costs(view(grey), [behind, away], labels) == 1).all()
    assert (photo_costs(view(grey), [], labels) == 1).all()
    np.testing.assert_array_equal(
        photo_costs(view(grey), [behind, beside, away], labels), photo_costs(view(grey), [beside], labels)
    )


@pytest.mark.parametrize("shift_px", [0.75, 30.75, 31.75, 32.75, 63.75])
@pytest.mark.parametrize("side", [1, -1])
def test_windows_count_up_to_where_the_view_ends(shift_px, side):
    """Also where that is between two of the stretches that rows are worked on in."""
    y, x = np.mgrid[:7, :128].astype(np.float32)
    here, there = (128 + 60 * np.sin(0.9 * at + 0.4 * y) for at in (x, x + side * shift_px))
    depth = 4.0
    other = view(there, (side * shift_px * depth / FOCAL, 0, 0))
    seen = photo_costs(view(here), [other], flat_labels(here.shape, depth))[2, :, 0] < 1
    ends = math.ceil(shift_px) + 2  # the first pixel that is seen, and the radius of its window
    np.testing.assert_array_equal(seen, x[0] >= ends if side > 0 else x[0] <= 127 - ends)


def test_pixels_without_a_surface_cost_one_and_spoil_only_their_windows():
    grey, others = noise(), [view(noise(seed=2), (0.1, 0, 0))]
    whole = flat_labels(grey.shape, 3.0)
    base = whole.base.copy()
    base[5, 7] = np.nan
    holed = photo_costs(view(grey), others, Labels(base, whole.step, 1))[..., 0]
    spoilt = np.zeros(grey.shape, dtype=bool)
    spoilt[3:8, 5:10] = True
    assert (holed[spoilt] == 1).all()
    np.testing.assert_array_equal(holed[~spoilt], photo_costs(view(grey), others, whole)[..., 0][~spoilt])


def test_a_sweep_ends_at_near_and_far_and_is_even_in_inverse_depth():
    labels = Labels.sweep((3, 4), 2.0, 10.0, 5)
    depths = [1 / labels.inverse_depth(np.full((3, 4), k))[0, 0] for k in range(5)]
    np.testing.assert_allclose(depths, [10, 5, 10 / 3, 2.5, 2], rtol=1e-6)


def test_a_band_lies_around_its_middle_label():
    labels = Labels.band(np.array([[0.5, 0.25]]), 0.1, 5)
    for k, expected in enumerate([[0.3, 0.05], [0.4, 0.15], [0.5, 0.25], [0.6, 0.35], [0.7, 0.45]]):
        np.testing.assert_allclose(labels.inverse_depth(np.full((1, 2), k)), [expected], rtol=1e-6)


def test_where_a_view_holds_nan_the_others_are_matched_alone():
    """The same camera place: a pixel is read at its own place, and with no share at those to its right and below."""
    grey, masked = noise((14, 40)), noise((14, 40), seed=2)
    masked[6:8, 17:20] = np.nan
    touched = np.zeros(grey.shape, dtype=bool)
    touched[6 - 1 - 2 : 8 + 2, 17 - 1 - 2 : 20 + 2] = True  # one for reading between pixels, two for the window
    whole = view(np.where(np.isnan(masked), np.float32(99), masked))
    beside, labels = view(noise((14, 40), seed=3), (0.1, 0, 0)), flat_labels(grey.shape, 4.0)
    alone, with_beside, of_beside, of_whole, of_both = (
        photo_costs(view(grey), others, labels)[..., 0]
        for others in ([view(masked)], [view(masked), beside], [beside], [whole], [whole, beside])
    )
    assert (alone[touched] == 1).all()
    np.testing.assert_array_equal(alone[~touched], of_whole[~touched])
    np.testing.assert_array_equal(with_beside[touched], of_beside[touched])
    np.testing.assert_array_equal(with_beside[~touched], of_both[~touched])
    assert (of_whole[touched] < 1).any()
    assert (np.abs(of_beside - of_both)[touched] > 0.01).any()


def test_grids_that_do_not_fit_are_refused():
    grey = noise()
    labels = Labels.sweep(grey.shape, 2.0, 10.0, 5)
    with pytest.raises(ValueError, match="the picture asked about has pixels that are no number"):
        photo_costs(view(np.where(grey == grey[5, 5], np.float32(np.nan), grey)), [view(grey)], labels)
    with pytest.raises(ValueError, match=r"the labels are \(3, 4\), the picture \(12, 16\)"):
        photo_costs(view(grey), [view(grey)], Labels.sweep((3, 4), 2.0, 10.0, 5))
    with pytest.raises(ValueError, match="radius -1"):
        photo_costs(view(grey), [view(grey)], labels, radius=-1)
    with pytest.raises(ValueError, match=r"\(1, 5\) pixels has none to read between"):
        photo_costs(view(grey), [view(noise((1, 5)))], labels)
    with pytest.raises(ValueError, match=r"the picture is \(3, 4\), its camera \(12, 16\)"):
        GreyView(noise((3, 4)), view(grey).camera, view(grey).cam_from_world)
    for near, far, count in ((2.0, 2.0, 5), (0.0, 2.0, 5), (3.0, 2.0, 5), (2.0, 3.0, 1)):
        with pytest.raises(ValueError, match=r"Labels.sweep: \d planes from"):
            Labels.sweep((3, 4), near, far, count)
    with pytest.raises(ValueError, match="0 labels"):
        Labels(np.ones((3, 4)), 0.1, 0)

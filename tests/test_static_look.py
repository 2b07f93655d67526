"""What does not look like the rest of the clip: a painted slope seen from many places, with things pasted on it."""

from dataclasses import replace

import numpy as np
import pytest

from recon4d.depth.multi_view import PosedPicture
from recon4d.geometry.static_look import HIDDEN, LEAST_VIEWS, TRUSTED, _patches, looks_static
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

SHAPE = (90, 120)
BOX = np.s_[30:55, 40:75]
GREEN = (40, 220, 60)
NORMAL = np.array([0.08, -0.05, 0.3])  # the slope is normal . x_in_world = 1
PLACES = [(0.0, 0.0, 0.0), (0.3, 0.0, 0.0), (-0.3, 0.1, 0.0), (0.1, -0.25, 0.2), (-0.2, -0.1, -0.3), (0.25, 0.2, 0.1)]


def camera_at(place, size=SHAPE, degrees=0.0):
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    focal = 1.1 * size[1]
    return Camera(size[1], size[0], focal, focal, size[1] / 2, size[0] / 2), Rigid3(turn, -turn @ np.array(place))


def shot(place, size=SHAPE, degrees=0.0):
    """Picture of the slope and its exact inverse depth."""
    camera, cam_from_world = camera_at(place, size, degrees)
    world_from_cam = cam_from_world.inverse()
    rays = camera.rays() @ world_from_cam.rotation.T
    inverse_depth = rays @ NORMAL / (1 - NORMAL @ world_from_cam.translation)
    x, y, _ = np.moveaxis(world_from_cam.translation + rays / inverse_depth[..., None], -1, 0)
    waves = [np.sin(9 * x + 4 * y), np.sin(11 * y - 3 * x + 1), np.sin(7 * x - 8 * y + 2)]
    rgb = np.stack([130 + 60 * wave for wave in waves], axis=-1)
    return PosedPicture(rgb.astype(np.uint8), camera, cam_from_world), inverse_depth.astype(np.float32)


@pytest.fixture(scope="module")
def slope():
    """Several shots; the first is the one that is judged."""
    return [shot(place, degrees=2.0 * i) for i, place in enumerate(PLACES)]


def painted(picture, where=BOX, colour=GREEN):
    rgb = picture.rgb.copy()
    rgb[where] = colour
    return replace(picture, rgb=rgb)


def judged(frame, slope, own_trust=0.0, others=None):
    """What is static in a frame that stands where the first shot was taken."""
    others = slope[1:] if others is None else others
    trust = np.full(SHAPE, own_trust, dtype=np.float32)
    return looks_static(frame, slope[0][1], trust, [item[0] for item in others], [item[1] for item in others])


def share_found(static):
    """Of the pasted box, and of everything else but its rim."""
    rim = np.zeros(SHAPE, dtype=bool)
    rim[BOX[0].start - 3 : BOX[0].stop + 3, BOX[1].start - 3 : BOX[1].stop + 3] = True
    return (~static[BOX]).mean(), (~static[~rim]).mean()


def test_what_does_not_move_is_static(slope):
    assert judged(slope[0][0], slope).all()


def test_a_box_in_this_frame_only_is_found_and_nothing_else(slope):
    inside, outside = share_found(judged(painted(slope[0][0]), slope))
    assert inside > 0.9
    assert outside == 0


def test_a_small_error_of_the_pose_is_no_motion(slope):
    # 0.04 units at a depth of about 3.3 and a focal length of 132: between one and two pixels.
    others = []
    for picture, inverse_depth in slope[1:]:
        pose = picture.cam_from_world
        others.append((replace(picture, cam_from_world=Rigid3(pose.rotation, pose.translation + 0.04)), inverse_depth))
    assert judged(slope[0][0], slope, others=others).all()
    inside, outside = share_found(judged(painted(slope[0][0]), slope, others=others))
    assert inside > 0.9
    assert outside == 0


@pytest.mark.parametrize("gain", [0.6, 1.3])
def test_another_exposure_is_no_motion(slope, gain):
    rgb = np.clip(gain * slope[0][0].rgb.astype(float), 0, 255).astype(np.uint8)
    frame = replace(slope[0][0], rgb=rgb)
    assert judged(frame, slope).all()
    inside, outside = share_found(judged(painted(frame), slope))
    assert inside > 0.9
    assert outside == 0


def test_what_the_own_matching_vouches_for_is_static(slope):
    frame = painted(slope[0][0])
    assert judged(frame, slope, own_trust=TRUSTED + 0.01).all()
    assert share_found(judged(frame, slope, own_trust=TRUSTED - 0.01))[0] > 0.9


def test_fewer_views_than_needed_judge_nothing(slope):
    frame = painted(slope[0][0])
    assert judged(frame, slope, others=[]).all()
    assert judged(frame, slope, others=slope[1:LEAST_VIEWS]).all()
    assert share_found(judged(frame, slope, others=slope[1 : LEAST_VIEWS + 1]))[0] > 0.9


def test_a_view_that_sees_something_nearer_does_not_judge(slope):
    """The views are painted grey where something stands before the slope, and know its depth."""

    def behind(item, ratio):
        return painted(item[0], np.s_[:, :], (90, 90, 90)), (ratio * item[1]).astype(np.float32)

    hidden = [behind(item, HIDDEN + 0.05) for item in slope[1:]]
    assert judged(slope[0][0], slope, others=hidden).all()
    # As many as are needed are enough, when the rest is hidden; one fewer is not.
    frame = painted(slope[0][0])
    free, rest = slope[1 : LEAST_VIEWS + 1], hidden[LEAST_VIEWS:]
    assert share_found(judged(frame, slope, others=free + rest))[0] > 0.9
    assert judged(frame, slope, others=free[1:] + rest + hidden[:1]).all()
    # A surface that is only a little nearer is the same one.
    same = [(picture, ((HIDDEN - 0.03) * depth).astype(np.float32)) for picture, depth in slope[1:]]
    assert share_found(judged(frame, slope, others=same))[0] > 0.9


def test_what_most_views_see_as_well_stood_still(slope):
    """A box in the world, on the slope: seen by many it is part of it, seen by few it came or went."""

    def with_box(item):
        picture, inverse_depth = item
        world_from_cam = picture.cam_from_world.inverse()
        x, y, _ = np.moveaxis(world_from_cam @ picture.camera.unproject(1 / inverse_depth), -1, 0)
        return painted(picture, (np.abs(x) < 0.5) & (np.abs(y) < 0.4)), inverse_depth

    frame = with_box(slope[0])
    box = (frame[0].rgb == GREEN).all(axis=-1)
    many = [with_box(item) if i < 4 else item for i, item in enumerate(slope[1:])]
    few = [with_box(item) if i < 1 else item for i, item in enumerate(slope[1:])]
    assert judged(frame[0], slope, others=many).all()
    found = ~judged(frame[0], slope, others=few)
    assert found[box].mean() > 0.8
    # What the others saw there and the frame does not, is as little a part of the static scene.
    gone = ~judged(slope[0][0], slope, others=many)
    assert gone[box].mean() > 0.8


def test_a_speck_is_noise_and_a_patch_is_not():
    size = (240, 320)
    shots = [shot(place, size) for place in PLACES]
    others, depths = zip(*shots[1:])
    trust = np.zeros(size, dtype=np.float32)
    speck = painted(shots[0][0], np.s_[80:83, 100:103])
    assert looks_static(speck, shots[0][1], trust, others, depths).all()
    patch = painted(shots[0][0], np.s_[80:90, 100:110])
    found = ~looks_static(patch, shots[0][1], trust, others, depths)
    assert found[80:90, 100:110].mean() > 0.9


def test_a_faint_change_is_no_motion(slope):
    rgb = slope[0][0].rgb.astype(int)
    rgb[BOX] += 14
    assert judged(replace(slope[0][0], rgb=rgb.astype(np.uint8)), slope).all()


def test_views_of_another_size_judge_as_well(slope):
    others = [shot(place, (60, 80), 2.0 * i) for i, place in enumerate(PLACES)][1:]
    assert judged(slope[0][0], slope, others=others).all()
    inside, outside = share_found(judged(painted(slope[0][0]), slope, others=others))
    assert inside > 0.9
    assert outside == 0


def test_what_no_view_sees_is_static(slope):
    away = [shot(place, degrees=-60.0 + i) for i, place in enumerate(PLACES)][1:]
    assert judged(painted(slope[0][0]), slope, others=away).all()


def test_holes_in_what_moves_move_with_it():
    unlike = np.zeros((60, 80), dtype=bool)
    unlike[10:50, 20:60] = True
    holed = unlike.copy()
    holed[28:32, 38:42] = False  # looks like what is behind it
    found = _patches(holed, unlike)
    np.testing.assert_array_equal(found, unlike)


def test_windows_are_compared_under_the_best_shift_by_hand():
    from recon4d.geometry.static_look import patch_difference

    own = np.zeros((9, 9, 3), dtype=np.float32)
    own[4, 4] = (30, 60, 90)
    seen = np.roll(own, 1, axis=1)
    assert patch_difference(own, seen, (0,), 1)[4, 4] == pytest.approx(60)
    assert patch_difference(own, seen, (0,), 3)[4, 4] == pytest.approx(2 * 60 / 9)
    assert patch_difference(own, seen, (-1, 0, 1), 3)[4, 4] == 0

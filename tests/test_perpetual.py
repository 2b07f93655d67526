"""Worlds that grow along a path: seams, outliers, there and back."""

import numpy as np
import pytest

from recon4d.errors import AlignmentError, OptionsError
from recon4d.evaluation.picture_scores import psnr
from recon4d.fill.perpetual import Growing, Keyframe, World, extend, far_side, filled, holes_of, walk
from recon4d.fill.seam import aligned, inner, without_step
from recon4d.geometry.meshing import cut_silhouettes
from recon4d.render.splatting import NOTHING, Rendered, Splats, splat
from recon4d.render.surface_splats import grid_splats
from recon4d.scene.camera import Camera
from recon4d.scene.depth import DepthKind, DepthMap, Provenance, SceneDepth
from recon4d.scene.transforms import Rigid3

CAMERA = Camera(96, 72, 80.0, 80.0, 48.0, 36.0)
NORMAL, OFFSET = np.array([0.25, -0.1, 1.0]), 4.0  # of the wall: normal . x = offset


def pose(x=0.0, angle=0.0):
    turn = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
    return Rigid3(turn, -turn @ np.array([x, 0.0, 0.0]))


def wall(cam_from_world):
    """True z (H, W) and picture (H, W, 3) of a wall with soft waves."""
    world_from_cam = cam_from_world.inverse()
    rays = CAMERA.rays() @ world_from_cam.rotation.T
    z = (OFFSET - NORMAL @ world_from_cam.translation) / (rays @ NORMAL)
    x = world_from_cam.translation + rays * z[..., None]
    waves = [128 + 80 * np.sin(2 * x[..., 0] + k) * np.cos(1.5 * x[..., 1] - k) for k in range(3)]
    return z, np.stack(waves, axis=-1).astype(np.uint8)


def splats_of(z, picture, cam_from_world, keep=None):
    surface = SceneDepth(z, z > 0, 0 * z, np.zeros(z.shape))
    return grid_splats(cut_silhouettes(surface, CAMERA, 1.1, 3.0), picture, cam_from_world, CAMERA, keep)


def disparity(z, gain=3.0, shift=-0.2, bend=None):
    values = (1 / z - shift) / gain
    return depth_map(values if bend is None else values * bend)


def depth_map(values, kind=DepthKind.AFFINE_DISPARITY):
    every = np.ones(np.shape(values))
    return DepthMap(kind, values, every, every, every)


def network(cam_from_world, bend=None):
    return lambda picture, z, known: disparity(wall(cam_from_world)[0], bend=bend)


@pytest.fixture
def world():
    return World(splats_of(*wall(pose()), pose()))


def test_a_scaled_and_shifted_disparity_becomes_depth_in_the_units_of_the_scene():
    z = wall(pose())[0]
    known = np.ones(z.shape, bool)
    known[:, 60:] = False
    np.testing.assert_allclose(aligned(disparity(z), np.where(known, z, 0), known), z, rtol=1e-4)


def test_a_fifth_of_wrong_pixels_does_not_move_the_fit():
    z, rng = wall(pose())[0], np.random.default_rng(0)
    wrong = rng.random(z.shape) < 0.2
    bad = disparity(np.where(wrong, z * rng.uniform(0.3, 3, z.shape), z))
    found = aligned(bad, z, np.ones(z.shape, bool))
    np.testing.assert_allclose(found[~wrong], z[~wrong], rtol=5e-3)


def test_where_all_lies_equally_deep_only_a_gain_is_fitted():
    z = np.full(CAMERA.shape, 2.0)
    found = aligned(depth_map(np.full(z.shape, 0.125)), z, np.ones(z.shape, bool))
    np.testing.assert_allclose(found, 2.0, rtol=1e-6)


def test_sources_that_run_the_other_way_or_share_nothing_are_refused():
    z = wall(pose())[0]
    with pytest.raises(AlignmentError, match="true kind"):
        aligned(depth_map(z), z, np.ones(z.shape, bool))
    with pytest.raises(AlignmentError, match="share 0 pixels"):
        aligned(disparity(z), z, np.zeros(z.shape, bool))


def test_silhouettes_have_no_say_in_the_fit():
    z = np.full(CAMERA.shape, 4.0)
    z[:, :40] = 2.0
    expected = np.ones(z.shape, bool)
    expected[:, 39:41] = False
    np.testing.assert_array_equal(inner(z, np.ones(z.shape, bool)), expected)


def test_the_step_at_the_seam_is_gone_and_the_correction_fades():
    z = np.full(CAMERA.shape, 3.0)
    known = np.ones(z.shape, bool)
    known[:, 50:] = False
    joined = without_step(z * 1.05, z, known, width_px=20)
    assert np.abs(joined[:, 50] / 3.0 - 1).max() < 1e-3
    np.testing.assert_allclose(joined[:, 72:], 3.15, rtol=1e-6)  # beyond the width it is as the source says
    assert (np.diff(joined, axis=1) > -1e-6).all()
    np.testing.assert_array_equal(joined[:, :50], 3.0)


def test_what_hides_a_hole_has_no_say_in_its_depth():
    z = np.full(CAMERA.shape, 6.0)
    z[:, :40] = 2.0
    known = np.ones(z.shape, bool)
    known[20:50, 40:60] = False
    rough = np.full(z.shape, 6.2)
    joined = without_step(rough, np.where(known, z, 0), known, width_px=10)
    assert joined[~known].min() > 5.99
    filled = far_side(None, np.where(known, z, 0), known)
    np.testing.assert_allclose(filled.values[~known], 6.0, rtol=1e-5)


def test_nothing_to_extend_leaves_the_same_splats(world):
    grown, growth = extend(world, pose(), CAMERA)
    assert grown.splats is world.splats
    assert (growth.holes, growth.added) == (0.0, 0)


def test_a_wall_goes_on_across_the_seam(world):
    there = pose(0.6)
    bend = 1 + 0.005 * np.sin(np.arange(CAMERA.width) / 30.0)
    for growing, within in ((Growing(depth=network(there)), 5e-3), (Growing(depth=network(there, bend)), 0.02)):
        grown, growth = extend(world, there, CAMERA, growing)
        seen = splat(grown.splats, there, CAMERA)
        truth = wall(there)[0]
        assert growth.holes > 0.1
        assert growth.left == 0.0
        assert seen.alpha.min() > 0.5
        assert np.abs(seen.depth / truth - 1).max() < within
        new = grown.splats[len(world.splats) :]
        assert len(new) == growth.added
        assert (new.provenance == Provenance.COMPLETED).all()
        np.testing.assert_array_equal(grown.splats.points[: len(world.splats)], world.splats.points)
    # Bent depth: where the old wall ends the new points lie in it; the drawn step would be that of the pixel grid.
    start = splat(world.splats, there, CAMERA)
    edge = np.flatnonzero((start.alpha >= 0.5).all(axis=0))[-1]
    pixels = CAMERA.project(there @ new.points.astype(np.float64))
    beside = (pixels[:, 0] < edge + 1) & (np.abs(pixels[:, 1] - 36) < 28)
    assert beside.sum() > 40
    off = new.points[beside] @ NORMAL - OFFSET  # without a seam it would be 0.4 %
    assert np.abs(off / OFFSET).max() < 1e-3


def test_there_and_back_shows_the_first_picture_again(world):
    path = [pose(0.1 * k, 0.03 * k) for k in (0, 2, 4, 6, 8, 6, 4, 2, 0)]
    before = splat(world.splats, path[0], CAMERA)
    grown, growths = walk(world, path, CAMERA, Growing(every=2))
    after = splat(grown.splats, path[0], CAMERA)
    assert psnr(before.picture(), after.picture()) > 50
    assert np.abs(after.depth / before.depth - 1).max() < 1e-3
    assert [g.added > 0 for g in growths] == [False, True, True, False, False]
    for place in path:  # once grown there are no holes, wherever the camera goes back to
        assert (splat(grown.splats, place, CAMERA).alpha >= 0.5).mean() > 0.999
    again, growths = walk(grown, path, CAMERA, Growing(every=2))
    assert sum(g.added for g in growths) == 0
    assert again.splats is grown.splats


def test_nothing_new_stands_before_what_an_earlier_keyframe_saw(world):
    there = pose(2.0, -0.7)  # looks to the left, across what the first camera sees
    close = Growing(depth=lambda picture, z, known: depth_map(np.where(known, z, 2.0), DepthKind.SCENE_Z))
    seen_before = World(world.splats, (Keyframe.of(world.splats, pose(), CAMERA),))
    grown, growth = extend(seen_before, there, CAMERA, close)
    picture = splat(world.splats, pose(), CAMERA).picture()
    assert psnr(splat(grown.splats, pose(), CAMERA).picture(), picture) > 50
    free, count = extend(world, there, CAMERA, close)
    assert count.dropped == 0
    assert psnr(splat(free.splats, pose(), CAMERA).picture(), picture) < 30  # it would have stood there
    assert growth.dropped > 100


def test_splats_are_told_apart_by_what_a_keyframe_saw_there():
    z = np.full(CAMERA.shape, 4.0)
    z[:, 60:] = 0
    keyframe = Keyframe(pose(), CAMERA, z)
    ray, open_ray, beside = CAMERA.rays()[30, 30], CAMERA.rays()[30, 80], CAMERA.rays()[30, 60]
    points = np.array([ray * 3, ray * 5, open_ray * 3, -ray, ray * 3.999, beside * 3])
    tangents = np.zeros((6, 2, 3))
    tangents[:, 0, 0] = tangents[:, 1, 1] = 0.04  # about one pixel
    splats = Splats(points, tangents, np.zeros((6, 3)), np.zeros(6), np.ones(6))
    assert keyframe.unchanged_by(splats).tolist() == [False, True, True, True, True, False]  # the last one reaches over


def test_half_covered_pixels_do_not_darken_what_fills_a_hole():
    alpha = np.ones(CAMERA.shape, np.float32)
    alpha[:, 50:54], alpha[:, 54:] = 0.6, 0
    there = alpha > 0
    color = np.where(there[..., None], np.float32(200), 0) * np.ones(3, np.float32)
    rendered = Rendered(color, alpha, np.where(there, np.float32(3), 0), np.where(there, 0, NOTHING))
    holes = holes_of(rendered)
    np.testing.assert_array_equal(holes, ~there)
    picture, z = filled(rendered, holes, Growing())
    assert 190 < picture.min() <= picture.max() < 210
    np.testing.assert_allclose(z, 3, rtol=1e-6)


def test_cracks_are_no_holes_unless_they_lead_to_one():
    alpha = np.ones(CAMERA.shape, np.float32)
    alpha[20, 5:30] = 0  # alone
    alpha[40:60, 60:80], alpha[50, 40:60] = 0, 0  # a hole, and a crack that leads to it
    flat = np.zeros(CAMERA.shape)
    holes = holes_of(Rendered(np.zeros((*CAMERA.shape, 3)), alpha, flat, flat))
    assert not holes[20].any()
    assert holes[40:60, 60:80].all()
    assert holes[50, 40:60].all()
    assert holes.sum() == 400 + 20


def test_keyframes_less_than_one_pose_apart_are_refused(world):
    with pytest.raises(OptionsError, match="1 or more"):
        walk(world, [pose()], CAMERA, Growing(every=0))

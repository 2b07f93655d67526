import numpy as np
import pytest
from motion_scenes import CAMERA, FAR, FOCAL, HEIGHT, NEAR, STEP, WIDTH, Planes

from recon4d.motion.evidence import FrameEvidence, PairLook, frame_evidence, pair_look
from recon4d.motion.static_flow import camera_error, static_flow, without_holes

INNER = np.s_[8:-8, 12:-12]  # away from the picture's border


def look_at(planes, frame, other, flow=None):
    there = planes.true_flow(frame, other) if flow is None else flow[0]
    back = planes.true_flow(other, frame) if flow is None else flow[1]
    return pair_look(planes.look(frame), planes.look(other), there, back)


def test_static_flow_of_a_sideways_step_by_hand():
    planes = Planes()
    flow = static_flow(planes.look(0), planes.look(2), planes.look(0).nearness)
    # The camera goes 0.1 to the right: what is 4 away moves 80 * 0.1 / 4 = 2 px to the left, what is 2 away 4 px.
    np.testing.assert_allclose(flow[:, : WIDTH // 2, 0], -FOCAL * 2 * STEP / FAR, atol=1e-4)
    np.testing.assert_allclose(flow[:, WIDTH // 2 :, 0], -FOCAL * 2 * STEP / NEAR, atol=1e-4)
    np.testing.assert_allclose(flow[..., 1], 0, atol=1e-4)


def test_what_is_behind_the_other_camera_has_no_flow():
    from dataclasses import replace

    from recon4d.scene.transforms import Rigid3

    look = Planes().look(0)
    ahead = replace(look, cam_from_world=Rigid3(np.eye(3), np.array([0.0, 0.0, -3.0])))  # between the two planes
    flow = static_flow(look, ahead, look.nearness)
    assert np.isnan(flow[:, WIDTH // 2 :]).all()
    assert np.isfinite(flow[:, : WIDTH // 2]).all()


def test_the_cameras_error_is_found_although_a_part_moves():
    planes = Planes()
    look = planes.look(0)
    turn = 0.01  # radians about the vertical: f (1 + x^2) theta along the row
    x = (np.arange(WIDTH) + 0.5 - CAMERA.cx) / FOCAL
    leftover = np.zeros((HEIGHT, WIDTH, 2), dtype=np.float32)
    leftover[..., 0] = FOCAL * turn * (1 + x**2)
    y = (np.arange(HEIGHT)[:, None] + 0.5 - CAMERA.cy) / FOCAL
    leftover[..., 1] = FOCAL * turn * x * y
    planted = leftover.copy()
    leftover[20:45, 30:60] += (6.0, -3.0)  # moves
    rng = np.random.default_rng(0)
    found = camera_error(look, leftover + rng.normal(0, 0.3, leftover.shape).astype(np.float32))
    assert np.abs(found.flow - planted).max() < 0.3
    assert found.floor_px == pytest.approx(0.3, rel=0.25)


def test_the_noise_floor_heeds_the_points_of_structure_from_motion():
    from dataclasses import replace

    look = Planes().look(0)
    rows, columns = np.mgrid[10:20, 10:20]
    points = np.stack([rows.ravel(), columns.ravel()], axis=1)
    leftover = np.zeros((HEIGHT, WIDTH, 2), dtype=np.float32)
    leftover[10:20, 10:20] = np.random.default_rng(1).normal(0, 2.0, (10, 10, 2))
    assert camera_error(look, leftover).floor_px < 0.5
    assert camera_error(replace(look, points=points), leftover).floor_px > 1.0


def test_a_square_that_moves_is_shown_and_the_rest_is_still():
    planes = Planes(squares=[(30, 60, 14, 3, 1)])
    found = frame_evidence([look_at(planes, 2, 0), look_at(planes, 2, 1)], [look_at(planes, 2, 3)])
    mask = planes.mask(2)
    inside = mask.copy()
    inside[:, :-2] &= mask[:, 2:]
    inside[:, 2:] &= mask[:, :-2]
    assert np.median(found.moved[inside]) > 0.9
    rest = ~mask[INNER]
    assert (found.moved[INNER][rest] > 0.5).mean() < 0.02
    assert np.median(found.still[INNER][rest]) > 0.9


def test_nothing_moves_in_front_of_a_moving_camera_even_with_wrong_depth():
    planes = Planes()
    for factor in (1.0, 1.05):
        there, back = planes.true_flow(1, 2), planes.true_flow(2, 1)
        look = pair_look(planes.look(1, factor), planes.look(2, factor), there, back)
        assert (look.moved > 0.3).mean() < 0.01


def test_flow_along_the_epipolar_line_is_explained_by_depths_around_only():
    # The square moves along the camera's own way, by more than its depth allows: no epipolar line is left.
    planes = Planes(squares=[(30, 66, 14, 0, -6)])
    found = frame_evidence([look_at(planes, 2, 1)], [look_at(planes, 2, 3)])
    assert np.median(found.moved[planes.mask(2)]) > 0.8


def test_a_shadow_that_moves_is_no_object():
    def shade(frame):
        return np.s_[30:50, 50 + 4 * frame : 70 + 4 * frame]

    planes = Planes(shade=shade)
    flow = planes.true_flow(2, 3)
    flow[shade(2)] = (4.0, 0.0)  # flow follows shadows
    look = look_at(planes, 2, 3, (flow, planes.true_flow(3, 2)))
    assert (look.moved[34:46, 62:74] > 0.5).mean() < 0.1


def test_flow_that_is_wrong_where_the_static_scene_fits_is_no_motion():
    planes = Planes()
    flow = planes.true_flow(1, 2)
    flow[20:40, 20:40] += (7.0, 5.0)  # bleeds over from elsewhere
    look = look_at(planes, 1, 2, (flow, planes.true_flow(2, 1)))
    assert look.moved[22:38, 22:38].max() < 0.3
    assert look.still[22:38, 22:38].min() > 0.7


def seen(moved, still, visible=True, returns=True):
    one = np.ones((1, 1))
    flow = np.zeros((1, 1, 2))
    return PairLook(moved * one, still * one, one.astype(bool) & visible, one.astype(bool) & returns, flow, 0.2)


def test_both_sides_have_to_show_motion_by_hand():
    both = frame_evidence([seen(0.9, 0.1), seen(0.2, 0.8)], [seen(0.6, 0.3)])
    assert (both.moved.item(), both.still.item()) == pytest.approx((0.6, 0.3))
    hidden = frame_evidence([seen(0.9, 0.1)], [seen(0.0, 1.0, visible=False)])
    assert (hidden.moved.item(), hidden.still.item()) == pytest.approx((0.36, 0.04))
    lost = frame_evidence([seen(0.9, 0.1, returns=False)], [])
    assert lost.moved.item() == 0
    with pytest.raises(ValueError, match="no other frame"):
        frame_evidence([], [])


def test_holes_of_depth_are_filled_from_around():
    near = np.full((20, 30), 0.5, dtype=np.float32)
    near[:, 15:] = 0.25
    known = np.ones_like(near, dtype=bool)
    known[8:12, 3:7] = False
    filled = without_holes(np.where(known, near, 0), known)
    np.testing.assert_array_equal(filled[known], near[known])
    assert np.abs(filled[8:12, 3:7] - 0.5).max() < 0.02


def test_evidence_holds_grids():
    assert FrameEvidence(np.zeros((2, 2)), np.ones((2, 2))).still.all()


def test_flow_on_a_warped_picture_is_composed_not_added():
    from dataclasses import replace

    from recon4d.motion.guided import guided_flow
    from recon4d.scene.transforms import Rigid3

    class Steps:
        """Finds everything three pixels to the right and one down in the picture it is given."""

        on_any_pictures = True

        def flow(self, source, target):
            return np.full((*source.rgb.shape[:2], 2), (3.0, 1.0), dtype=np.float32)

    look = Planes().look(0)
    flat = replace(look, nearness=np.full_like(look.nearness, 0.25))
    nearer = replace(flat, cam_from_world=Rigid3(np.eye(3), np.array([0.0, 0.0, -1.0])))  # 4 becomes 3: grows by 4 / 3
    flow = guided_flow(Steps(), flat, nearer)
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    inside = np.s_[: HEIGHT - 1, : WIDTH - 3]
    np.testing.assert_allclose(flow[..., 0][inside], (3 + (x + 3 - CAMERA.cx) / 3)[inside], atol=1e-3)
    np.testing.assert_allclose(flow[..., 1][inside], (1 + (y + 1 - CAMERA.cy) / 3)[inside], atol=1e-3)


def without_depth(look, rows):
    from dataclasses import replace

    known, doubt, near = look.known.copy(), look.doubt.copy(), look.nearness.copy()
    known[rows], doubt[rows], near[rows] = False, np.inf, 0.25
    return replace(look, known=known, doubt=doubt, nearness=near)


def test_where_depth_is_unknown_parallax_is_no_motion_but_motion_across_it_is():
    planes = Planes(squares=[(30, 60, 14, 3, 1)])
    looks = [without_depth(planes.look(frame), np.s_[:, WIDTH // 2 :]) for frame in (1, 2, 3)]
    sides = [
        [pair_look(looks[1], looks[k], planes.true_flow(2, other), planes.true_flow(other, 2))]
        for k, other in ((0, 1), (2, 3))
    ]
    found = frame_evidence(*sides)
    mask = planes.mask(2)
    assert np.median(found.moved[mask]) > 0.8  # it moves down, the camera to the right
    near = np.zeros_like(mask)
    near[INNER] = True
    assert (found.moved[near & ~mask] > 0.3).mean() < 0.02

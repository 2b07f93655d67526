"""The endless loop of one photograph: walking a steady field, and drawing the two copies."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from lake import lake

from recon4d.fill.eulerian import Loop, Still, blend_weights, displacement, integrate, pixel_centres, trace
from recon4d.fill.fluid_cues import find_fluids, scene_z, sky_region, soft_edge, steady
from recon4d.geometry.meshing import cut_silhouettes
from recon4d.render.splatting import Rendered
from recon4d.scene.camera import Camera
from recon4d.scene.depth import DepthKind, SceneDepth

WIDTH, HEIGHT, FRAMES = 96, 72, 10


def still(motion: np.ndarray | None = None) -> Still:
    picture, z, kind = lake(WIDTH, HEIGHT)
    z = np.minimum(z, 200)
    if motion is None:
        motion = steady(kind == 2, np.array([0.5, 0.2]))
    camera = Camera(WIDTH, HEIGHT, 90, 95, 47, 35)
    surface = SceneDepth(z, z > 0, 0.1 * z, np.ones(z.shape))
    return Still(picture, cut_silhouettes(surface, camera, 1.1, 3.0), camera, motion)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(((a.astype(float) - b) ** 2).mean(), 1e-3)))


def test_a_constant_field_carries_by_its_multiple_and_out_of_the_picture() -> None:
    motion = np.tile(np.float32([1.5, -0.5]), (20, 30, 1))
    moved = integrate(motion, 4)
    assert moved[10, 5] == pytest.approx([6.0, -2.0], abs=1e-5)
    x, y = np.moveaxis(pixel_centres(30, 20), -1, 0)
    inside = (x + 6 <= 30) & (y - 2 >= 0)
    assert np.array_equal(np.isfinite(moved[..., 0]), inside)
    assert integrate(-motion, 4)[10, 15] == pytest.approx([-6.0, 2.0], abs=1e-5)
    assert (integrate(motion, 0) == 0).all()


def test_a_rotation_keeps_the_radius_and_turns_by_its_angle() -> None:
    offset = pixel_centres(101, 101) - 50.5
    angle = 0.01
    motion = np.stack([-offset[..., 1], offset[..., 0]], axis=-1) * angle
    start = np.array([[80.5, 50.5]])
    end = start + trace(motion, start, 100)[-1] - 50.5
    # Euler's steps widen the circle by sqrt(1 + angle^2) each.
    assert np.hypot(*end[0]) == pytest.approx(30 * (1 + angle**2) ** 50, rel=1e-3)
    assert np.arctan2(end[0, 1], end[0, 0]) == pytest.approx(100 * np.arctan(angle), abs=2e-3)


def test_a_field_between_pixels_is_read_bilinearly() -> None:
    motion = np.zeros((4, 8, 2), dtype=np.float32)
    motion[..., 0] = np.arange(8) + 0.5  # as fast as it is far: x doubles in each step
    path = trace(motion, np.array([[1.25, 2.0]]), 2)
    assert path[:, 0, 0] == pytest.approx([0, 1.25, 3.75], abs=1e-5)


def test_a_loop_keeps_few_steps_but_knows_them_all() -> None:
    made = still()
    loop = Loop(made, FRAMES)
    starts = loop.rows[:, ::-1].astype(np.float32) + 0.5
    onward, back = trace(made.motion, starts, FRAMES), trace(-made.motion, starts, FRAMES)
    for k in (9, 0, 4, 3, 5):
        np.testing.assert_array_equal(loop.onward(k), onward[k])
        np.testing.assert_array_equal(loop.back(k), back[FRAMES - k])


def test_displacement_is_the_difference_of_the_unprojected_pixels() -> None:
    camera = Camera(40, 30, 50, 60, 19, 16)
    pixels, moved, z = np.array([[10.5, 4.5]]), np.array([[3.0, -2.0]]), np.array([7.0])
    ends = camera.rays_at(*(pixels + moved).T) * z[:, None] - camera.rays_at(*pixels.T) * z[:, None]
    assert displacement(camera, z, moved) == pytest.approx(ends)


def test_weights_follow_time_nearness_and_cover() -> None:
    def flat(alpha: float, depth: float) -> Rendered:
        one = np.ones((1, 1), dtype=np.float32)
        return Rendered(np.zeros((1, 1, 3), np.float32), alpha * one, depth * one, np.zeros((1, 1), np.uint8))

    first, second = blend_weights(0.25, flat(1, 2), flat(1, 2), nearest=1)
    assert (first[0, 0], second[0, 0]) == pytest.approx((0.75, 0.25))
    first, second = blend_weights(0.5, flat(1, 1), flat(1, 2), nearest=1, sharpness=4)
    assert first[0, 0] / second[0, 0] == pytest.approx(np.exp(2), rel=1e-4)  # nearness 1 and 1/2
    assert blend_weights(0.9, flat(1, 2), flat(0, 0), nearest=1)[0][0, 0] == pytest.approx(1)


def test_the_loop_starts_with_the_photograph_and_closes() -> None:
    loop = Loop(still(), FRAMES)
    pictures = [loop.picture(k) for k in range(FRAMES)]
    assert np.array_equal(pictures[0], loop.still.picture)
    assert np.array_equal(loop.picture(FRAMES), pictures[0])
    steps = [psnr(pictures[k], pictures[(k + 1) % FRAMES]) for k in range(FRAMES)]
    assert steps[-1] > np.median(steps) - 2
    assert psnr(pictures[0], pictures[FRAMES // 2]) < min(steps)  # something has moved by then
    far = ~loop.still.moving
    far[1:] &= ~loop.still.moving[:-1]
    rock = lake(WIDTH, HEIGHT)[2] == 1
    assert all(np.array_equal(p[rock & far][:200], pictures[0][rock & far][:200]) for p in pictures)


def test_a_moved_texture_is_where_the_field_has_carried_it() -> None:
    made = still(np.tile(np.float32([2.0, 0.0]), (HEIGHT, WIDTH, 1)))
    flat = SceneDepth(
        np.full((HEIGHT, WIDTH), 5.0), np.ones((HEIGHT, WIDTH)), np.ones((HEIGHT, WIDTH)), np.ones((HEIGHT, WIDTH))
    )
    made = Still(made.picture, cut_silhouettes(flat, made.camera, 1.1, 3.0), made.camera, made.motion)
    loop = Loop(made, 1000)  # after three frames nearly all of it is the copy onward
    shown, expected = loop.picture(3)[:, 20:-20], np.roll(made.picture, 6, axis=1)[:, 20:-20]
    assert psnr(shown, expected) > 32


def test_points_change_their_copy_once_and_end_where_they_began() -> None:
    loop = Loop(still(), FRAMES)
    assert (loop.chosen(0) == 0).all()
    onward = [(loop.chosen(k) == loop.onward(k)).all(axis=1) for k in range(FRAMES)]
    assert onward[5].mean() == pytest.approx(0.5, abs=0.08)
    arrived = [(loop.chosen(k) == loop.back(k)).all(axis=1) for k in range(1, FRAMES)]
    assert all((now <= after).all() for now, after in itertools.pairwise(arrived))
    last = loop.chosen(FRAMES - 1)
    near_start = np.nanmax(np.abs(np.where(arrived[-1][:, None], last, 0)))
    assert near_start <= 0.6  # one step of the field from home


def test_motion_that_is_not_known_is_refused() -> None:
    bad = np.full((HEIGHT, WIDTH, 2), np.nan)
    with pytest.raises(ValueError, match="finite"):
        still(bad)


def test_sky_and_water_are_found_and_move_as_expected() -> None:
    picture, z, kind = lake(320, 240)
    found = {fluid.kind: fluid for fluid in find_fluids(picture, z, speed=0.4)}
    sky, water = found["sky"], found["water"]
    assert (sky.mask & (kind == 0)).sum() > 0.9 * (kind == 0).sum()
    assert (sky.mask & (kind != 0)).sum() < 0.03 * (kind != 0).sum()
    assert (water.mask & (kind == 2)).sum() > 0.8 * (kind == 2).sum()
    assert not (water.mask & (kind == 3)).any()
    assert sky.motion[..., 0].max() == pytest.approx(0.4)
    assert not sky.motion[..., 1].any()
    down = water.motion[..., 1]
    assert down.min() >= 0
    assert np.median(down[200:]) > 2 * np.median(down[140:160])
    assert np.abs(water.motion[..., 0]).max() < 0.1 * down.max()


def test_a_room_has_neither_sky_nor_water() -> None:
    rng = np.random.default_rng(1)
    picture = np.clip(150 + 25 * rng.normal(size=(120, 160, 1)) + [20, 5, -10], 0, 255).astype(np.uint8)
    row = np.arange(120)[:, None] * np.ones(160)
    assert find_fluids(picture, np.where(row < 70, 4.0, 4.0 * 50 / np.maximum(row - 20, 1))) == []
    assert not sky_region(picture, np.full((120, 160), 3.0)).any()


def test_edges_fade_but_not_at_the_border_of_the_picture() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[:, 20:] = True
    share = soft_edge(mask, 10)
    assert not share[:, :21].any()
    assert (share[:, 35:] == 1).all()
    assert (np.diff(share, axis=1) >= 0).all()
    assert np.array_equal(share[0], share[20])
    assert share[5, 20 + 6] == pytest.approx(0.55**2 * (3 - 2 * 0.55), abs=0.01)  # 7 px inside, 1.5 of them at rest
    assert soft_edge(np.ones((5, 5), bool)).all()


def test_depth_of_each_kind_becomes_z() -> None:
    d, all_of_it = np.array([[0.0, 0.5, 1.0]]), np.ones((1, 3), dtype=bool)
    assert scene_z(d, all_of_it, DepthKind.AFFINE_DISPARITY, 100) == pytest.approx(np.array([[100, 2, 1]]))
    assert scene_z(3 * d + 7, all_of_it, DepthKind.AFFINE_DISPARITY, 100) == pytest.approx(np.array([[100, 2, 1]]))
    assert scene_z(d + 1, all_of_it, DepthKind.METRIC_Z, 100) == pytest.approx(d + 1)
    assert scene_z(d + 1, all_of_it, DepthKind.SCALE_FREE_DISPARITY, 100) == pytest.approx(2 / (d + 1))
    assert scene_z(d, all_of_it, DepthKind.AFFINE_Z, 11) == pytest.approx(np.array([[1, 6, 11]]))
    with pytest.raises(ValueError, match="same"):
        scene_z(0 * d, all_of_it, DepthKind.AFFINE_DISPARITY, 100)


def test_holes_above_are_far_and_others_as_far_as_their_neighbours() -> None:
    z = np.array([[0, 0, 0], [9, 4, 4], [4, 0, 2], [4, 2, 2]], dtype=float)
    filled = scene_z(z, z > 0, DepthKind.METRIC_Z, 100)
    assert (filled[0] == 9).all()
    assert filled[2, 1] in (2, 4)

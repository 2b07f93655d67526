"""Resampling, silhouettes, normals, view agreement, neighbours, voxels."""

import numpy as np
import pytest

from recon4d.geometry.agreement import count_agreement
from recon4d.geometry.fusion import ViewCounts, count_views, frame_cloud, frame_points
from recon4d.geometry.meshing import cut_silhouettes, grid_normals, well_joined
from recon4d.geometry.neighbours import choose_neighbours
from recon4d.geometry.resample import resize_grid, sample_grid
from recon4d.geometry.voxels import VoxelMerger
from recon4d.scene.camera import Camera
from recon4d.scene.depth import SceneDepth
from recon4d.scene.trajectory import PoseOrigin, Trajectory, View
from recon4d.scene.transforms import Rigid3

CAMERA = Camera(40, 30, 40.0, 40.0, 20.0, 15.0)


def surface(depth: np.ndarray, valid: np.ndarray | None = None) -> SceneDepth:
    valid = np.ones(depth.shape, dtype=bool) if valid is None else valid
    return SceneDepth(np.where(valid, depth, 0), valid, 0.01 * depth, np.zeros(depth.shape))


def view(x: float = 0.0, name: str = "0") -> View:
    return View(name, 0.0, Rigid3(np.eye(3), np.array([-x, 0.0, 0.0])), CAMERA, PoseOrigin.MEASURED)


def test_sampling_by_hand():
    values = np.array([[0.0, 1.0], [2.0, 3.0]])
    valid = np.ones((2, 2), dtype=bool)
    got, ok = sample_grid(values, valid, np.array([0.5, 1.0, 1.5, 1.0, 2.6]), np.array([0.5, 0.5, 1.5, 1.0, 1.0]))
    np.testing.assert_allclose(got[:4], [0.0, 0.5, 3.0, 1.5])
    assert ok.tolist() == [True, True, True, True, False]


def test_sampling_takes_the_nearest_beside_a_hole():
    values, valid = np.array([[1.0, 9.0]]), np.array([[True, False]])
    got, ok = sample_grid(values, valid, np.array([0.9, 1.1]), np.array([0.5, 0.5]))
    assert got[0] == 1.0
    assert ok.tolist() == [True, False]


def test_resizing_keeps_a_ramp_a_ramp():
    ramp = np.tile(np.arange(20) + 0.5, (10, 1)) * 2.0  # value = 2 x
    bigger, valid = resize_grid(ramp, np.ones(ramp.shape, dtype=bool), 40, 20)
    np.testing.assert_allclose(bigger[:, 1:-1], np.tile(np.arange(40) + 0.5, (20, 1))[:, 1:-1])
    assert valid.all()


def test_step_is_cut_and_slope_is_not():
    depth = np.full((30, 40), 2.0)
    depth[:, 20:] = 3.0
    mesh = cut_silhouettes(surface(depth), CAMERA, max_ratio=1.04, min_angle_deg=4.0)
    assert not mesh.join_right[:, 19].any()
    assert mesh.join_right[:, :19].all()
    assert mesh.join_down[:-1].all()


@pytest.mark.parametrize(("angle_deg", "joined"), [(8.0, True), (2.0, False)])
def test_plane_is_cut_by_its_angle_to_the_ray(angle_deg, joined):
    camera = Camera(400, 3, 4000.0, 4000.0, 200.0, 1.5)  # narrow: all rays run along z within 3 degrees
    slope = 1 / np.tan(np.radians(angle_deg))
    x = camera.rays()[1, 195:205, 0]
    depth = np.tile(2.0 / (1 - slope * x), (3, 1))  # z = 2 + slope * (x z)
    mesh = cut_silhouettes(surface(depth), Camera(10, 3, 4000, 4000, 5.0, 1.5), max_ratio=10.0, min_angle_deg=4.0)
    assert mesh.join_right[:, :-1].all() == joined
    assert mesh.join_right[:, :-1].any() == joined


def test_invalid_pixels_join_nothing():
    valid = np.ones((30, 40), dtype=bool)
    valid[10, 10] = False
    mesh = cut_silhouettes(surface(np.full((30, 40), 2.0), valid), CAMERA, 1.04, 4.0)
    assert not mesh.join_right[10, 9:11].any()
    assert not mesh.join_down[9:11, 10].any()
    assert not (mesh.triangles() == 10 * 40 + 10).any()


def test_normals_of_a_slanted_plane():
    normal = np.array([0.2, -0.3, -1.0]) / np.linalg.norm([0.2, -0.3, -1.0])
    depth = -2.0 / (CAMERA.rays() @ normal)  # plane n . x = -2
    mesh = cut_silhouettes(surface(depth), CAMERA, 1.5, 1.0)
    normals = grid_normals(CAMERA.unproject(depth), mesh)
    np.testing.assert_allclose(normals, np.broadcast_to(normal, normals.shape), atol=1e-4)


def test_lone_pixel_floats():
    depth = np.full((30, 40), 2.0)
    depth[15, 20] = 3.0
    mesh = cut_silhouettes(surface(depth), CAMERA, 1.04, 4.0)
    assert well_joined(mesh).sum() == 30 * 40 - 1


def test_views_agree_see_through_or_are_blocked():
    points = np.array([[0.0, 0, 2.0], [0.0, 0, 1.0], [0.0, 0, 4.0], [0.0, 0, -1.0], [9.0, 0, 2.0]])
    wall = np.full((30, 40), 2.0, dtype=np.float32)
    agrees, through = count_agreement(points, np.ones(5, dtype=bool), Rigid3.identity(), CAMERA, wall, 0.05)
    assert agrees.tolist() == [True, False, False, False, False]
    assert through.tolist() == [False, True, False, False, False]  # hidden, behind and outside say nothing


def test_tolerance_is_relative():
    wall = np.full((30, 40), 2.0, dtype=np.float32)
    points = np.array([[0.0, 0, 2.09], [0.0, 0, 2.2]])
    agrees, _ = count_agreement(points, np.ones(2, dtype=bool), Rigid3.identity(), CAMERA, wall, 0.05)
    assert agrees.tolist() == [True, False]


def test_wall_is_confirmed_from_the_side_and_a_ghost_is_not():
    wall = np.full((30, 40), 2.0)
    ghost = wall.copy()
    ghost[10:20, 15:25] = 1.2
    mesh = cut_silhouettes(surface(ghost), CAMERA, 1.04, 4.0)
    frame = frame_points(view(), mesh)
    others = [(view(x), wall.astype(np.float32)) for x in (-0.1, 0.1)]
    counts = count_views(frame, others, 0.05)
    confirmed = counts.confirmed(2)
    assert not confirmed[11:19, 16:24].any()
    assert (counts.seeing_through[11:19, 16:24] == 2).all()
    assert confirmed[:, 8:12].all()
    cloud = frame_cloud(frame, counts, mesh.surface.provenance, np.zeros((30, 40, 3), np.uint8), max_points=400)
    assert 200 < len(cloud) <= 400


def test_confirmation_needs_twice_as_many_for_as_against():
    counts = ViewCounts(np.array([[2, 3, 4]], np.uint8), np.array([[0, 2, 2]], np.uint8))
    assert counts.confirmed(2).tolist() == [[True, False, True]]
    np.testing.assert_allclose(counts.confidence(), [[2.5 / 3, 3.5 / 6, 4.5 / 7]], rtol=1e-6)


def test_neighbours_have_baseline_and_spread():
    count = 41
    shift = np.zeros((count, 3))
    shift[:, 0] = -0.02 * np.arange(count)  # 2 cm steps past something 2 m away: 0.57 degrees each
    trajectory = Trajectory(
        tuple(f"{i:06d}" for i in range(count)),
        np.arange(count) / 10,
        Rigid3(np.tile(np.eye(3), (count, 1, 1)), shift),
        (CAMERA,) * count,
        (PoseOrigin.MEASURED,) * count,
    )
    chosen = choose_neighbours(trajectory, np.full(count, 2.0), 6, np.ones(count, dtype=bool))[20]
    offsets = np.abs(np.array(chosen) - 20)
    assert len(set(chosen)) == 6
    assert 20 not in chosen
    assert offsets.min() >= 3  # neighbours in time have next to no baseline
    assert min(chosen) < 20 < max(chosen)


def test_tripod_falls_back_to_neighbours_in_time():
    trajectory = Trajectory(
        ("a", "b", "c"), np.arange(3.0), Rigid3.identity(3), (CAMERA,) * 3, (PoseOrigin.STATIC,) * 3
    )
    depth, all_of_them = np.full(3, 2.0), np.ones(3, dtype=bool)
    assert choose_neighbours(trajectory, depth, 2, all_of_them) == [[1, 2], [0, 2], [1, 0]]
    assert choose_neighbours(trajectory, depth, 2, np.array([True, False, True])) == [[2], [0, 2], [0]]


def test_voxel_mean_by_hand():
    merger = VoxelMerger(1.0, columns=1)
    merger.add(
        np.array([[0.2, 0.2, 0.2], [0.4, 0.2, 0.2], [-0.5, 0, 0]]),
        np.array([1.0, 3.0, 1.0]),
        np.array([[0.0], [4.0], [9.0]]),
    )
    merger.add(np.array([[0.8, 0.2, 0.2]]), np.array([4.0]), np.array([[1.0]]))
    points, weights, frames, columns = merger.result()
    assert weights.tolist() == [1.0, 8.0]  # the voxel below zero comes first
    assert frames.tolist() == [1, 2]
    np.testing.assert_allclose(points[1], [(0.2 + 3 * 0.4 + 4 * 0.8) / 8, 0.2, 0.2])
    np.testing.assert_allclose(columns[:, 0], [9.0, (0 + 12 + 4) / 8])


def test_voxels_do_not_depend_on_the_order_of_frames():
    rng = np.random.default_rng(0)
    frames = [(rng.normal(size=(500, 3)), rng.uniform(0.5, 1, 500), rng.normal(size=(500, 2))) for _ in range(4)]
    results = []
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        merger = VoxelMerger(0.3, 2)
        for i in order:
            merger.add(*frames[i])
        results.append(merger.result())
    for one, other in zip(*results):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_voxels_far_from_the_origin_keep_their_precision():
    merger = VoxelMerger(0.01, columns=0)
    point = np.array([[4321.1234567, -0.0012345, 77.7777777]])
    merger.add(point, np.ones(1), np.zeros((1, 0)))
    np.testing.assert_allclose(merger.result()[0], point, rtol=0, atol=1e-8)

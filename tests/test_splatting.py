"""Surface splats: exact, normalised, hidden by what is before them; and pictures laid over each other."""

import numpy as np
import pytest
from fabricated import fabricate

from recon4d.fill.composite import chosen, laid_over, over, without
from recon4d.render.splatting import NOTHING, Rendered, Splats, splat
from recon4d.render.surface_splats import cloud_splats, grid_splats
from recon4d.scene.camera import Camera
from recon4d.scene.cloud import PointCloud
from recon4d.scene.depth import SceneDepth
from recon4d.scene.mesh import DepthMesh
from recon4d.scene.transforms import Rigid3

CAMERA = Camera(40, 30, 50.0, 50.0, 20.0, 15.0)
HERE = Rigid3.identity()


def wall(depth: np.ndarray, camera: Camera = CAMERA) -> DepthMesh:
    right, down = np.ones(depth.shape, dtype=bool), np.ones(depth.shape, dtype=bool)
    right[:, -1], down[-1] = False, False
    surface = SceneDepth(depth, depth > 0, 0.01 * depth, np.zeros(depth.shape))
    return DepthMesh(surface, right, down)


def chequered(camera: Camera = CAMERA) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (*camera.shape, 3)).astype(np.uint8)


def moved(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Rigid3:
    return Rigid3(np.eye(3), np.array([x, y, z], dtype=float))


def test_a_frame_drawn_from_its_own_place_is_the_frame():
    picture, depth = chequered(), np.full(CAMERA.shape, 2.0)
    seen = splat(grid_splats(wall(depth), picture, HERE, CAMERA), HERE, CAMERA)
    np.testing.assert_array_equal(seen.picture(), picture)
    np.testing.assert_allclose(seen.depth, 2.0, rtol=1e-6)
    assert (seen.alpha == 1).all()
    assert (seen.provenance == 0).all()


def test_a_wall_moves_by_the_parallax():
    # 0.08 at depth 2 with f = 50: two pixels to the right.
    picture, depth = chequered(), np.full(CAMERA.shape, 2.0)
    seen = splat(grid_splats(wall(depth), picture, HERE, CAMERA), moved(x=0.08), CAMERA)
    np.testing.assert_array_equal(seen.picture()[:, 2:], picture[:, :-2])
    assert (seen.alpha[:, :2] < 0.1).all()


@pytest.mark.parametrize("zoom", [0.4, 0.7, 1.3, 2.5])
def test_a_closed_surface_stays_closed_and_keeps_its_colour_at_any_distance(zoom):
    depth = np.full(CAMERA.shape, 2.0)
    grey = np.full((*CAMERA.shape, 3), 90, dtype=np.uint8)
    seen = splat(grid_splats(wall(depth), grey, HERE, CAMERA), moved(z=2.0 / zoom - 2.0), CAMERA)
    middle = seen.alpha[12:18, 16:24]
    assert (middle == 1).all()
    np.testing.assert_allclose(seen.color[12:18, 16:24], 90, atol=1e-3)


def test_a_grazing_floor_has_no_cracks_when_seen_from_above():
    # A floor 1 below the camera; seen from a camera that looks straight down its rows lie far apart.
    rows = CAMERA.rays()[..., 1]
    depth = np.where(rows > 0.06, 1.0 / np.maximum(rows, 0.06), 0.0)
    mesh = wall(depth)
    valid = mesh.surface.valid
    mesh = DepthMesh(mesh.surface, mesh.join_right & valid, mesh.join_down & valid)
    splats = grid_splats(mesh, np.full((*CAMERA.shape, 3), 200, np.uint8), HERE, CAMERA)
    down = Rigid3(np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), np.zeros(3))  # y of the world is forward
    above = Rigid3(down.rotation, -down.rotation @ np.array([0.0, -1.0, 5.0]))
    seen = splat(splats, above, CAMERA)
    assert (seen.alpha[10:20, 15:25] == 1).all()
    np.testing.assert_allclose(seen.depth[10:20, 15:25], 2.0, rtol=1e-4)


def test_the_nearer_surface_hides_the_farther_one_and_close_ones_mix():
    near = grid_splats(wall(np.full(CAMERA.shape, 2.0)), np.full((*CAMERA.shape, 3), 200, np.uint8), HERE, CAMERA)
    far = grid_splats(wall(np.full(CAMERA.shape, 3.0)), np.full((*CAMERA.shape, 3), 10, np.uint8), HERE, CAMERA)
    close = grid_splats(wall(np.full(CAMERA.shape, 2.02)), np.full((*CAMERA.shape, 3), 100, np.uint8), HERE, CAMERA)
    inside = np.s_[3:-3, 3:-3]
    np.testing.assert_allclose(splat(Splats.concatenate([far, near]), HERE, CAMERA).color[inside], 200, atol=1e-3)
    np.testing.assert_allclose(splat(Splats.concatenate([near, close]), HERE, CAMERA).color[inside], 150, atol=1)


def test_weights_decide_how_sources_mix():
    picture = np.full((*CAMERA.shape, 3), 0, np.uint8)
    one = grid_splats(wall(np.full(CAMERA.shape, 2.0)), picture, HERE, CAMERA, weight=3.0)
    other = grid_splats(wall(np.full(CAMERA.shape, 2.0)), picture + np.uint8(100), HERE, CAMERA, weight=1.0)
    mixed = splat(Splats.concatenate([one, other]), HERE, CAMERA)
    np.testing.assert_allclose(mixed.color, 25, atol=1e-3)


def test_the_order_of_points_changes_nothing_but_rounding():
    splats = grid_splats(wall(np.full(CAMERA.shape, 2.0)), chequered(), HERE, CAMERA)
    order = np.random.default_rng(0).permutation(len(splats))
    pose = moved(0.013, -0.02, 0.1)
    a, b = splat(splats, pose, CAMERA), splat(splats[order], pose, CAMERA)
    np.testing.assert_allclose(a.color, b.color, atol=0.01)
    np.testing.assert_allclose(a.alpha, b.alpha, atol=1e-5)


def test_points_behind_the_camera_and_without_numbers_are_left_out():
    points = np.array([[0, 0, -1.0], [np.nan, 0, 1], [0, 0, np.inf], [0, 0, 0]])
    tangents = np.broadcast_to(np.array([[0.1, 0, 0], [0, 0.1, 0]]), (4, 2, 3))
    seen = splat(Splats(points, tangents, np.full((4, 3), 9.0), np.zeros(4), np.ones(4)), HERE, CAMERA)
    assert (seen.alpha == 0).all()
    assert (seen.provenance == NOTHING).all()
    assert (seen.depth == 0).all()


def test_nothing_gives_an_empty_picture():
    seen = splat(Splats.concatenate([]), HERE, CAMERA)
    assert seen.alpha.max() == 0
    assert (seen.picture((1, 2, 3)) == [1, 2, 3]).all()


def test_a_cloud_with_normals_closes_too():
    x, y = np.meshgrid(np.arange(-1, 1, 0.05), np.arange(-1, 1, 0.05))
    points = np.stack([x, y, np.full_like(x, 2.0)], axis=-1).reshape(-1, 3)
    cloud = PointCloud(points, np.full((len(points), 3), 77), normals=np.tile([0, 0, -1.0], (len(points), 1)))
    seen = splat(cloud_splats(cloud, 0.05), HERE, CAMERA)
    assert (seen.alpha[8:22, 8:32] == 1).all()
    np.testing.assert_allclose(seen.color[8:22, 8:32], 77, atol=1e-3)


def test_a_real_surface_comes_back_from_another_frame(tmp_path):
    workspace = fabricate(tmp_path / "scene")
    first, second = list(workspace.trajectory())[:2]
    splats = grid_splats(
        workspace.depth_mesh(first.name), workspace.picture(first.name), first.cam_from_world, first.camera
    )
    seen = splat(splats, second.cam_from_world, second.camera)
    truth = workspace.depth_mesh(second.name).surface.depth
    both = seen.alpha == 1
    assert both.mean() > 0.6
    assert np.median(np.abs(seen.depth[both] / truth[both] - 1)) < 1e-3


# -- laying over each other ----------------------------------------------------------------------------------------


def flat(color: float, alpha: float, depth: float, origin: int = 0) -> Rendered:
    return Rendered(
        np.full((1, 1, 3), color, np.float32),
        np.full((1, 1), alpha, np.float32),
        np.full((1, 1), depth, np.float32),
        np.full((1, 1), origin, np.uint8),
    )


NONE = flat(0, 0, 0, NOTHING)


def test_over_by_hand():
    # Half of 100 over all of 200: 0.5 * 100 + 0.5 * 200; a quarter over a half: 0.25, 0.375 of 0.625 in all.
    assert over(flat(100, 0.5, 1), flat(200, 1, 2)).color[0, 0, 0] == 150
    mixed = over(flat(100, 0.25, 1, 0), flat(200, 0.5, 2, 3))
    assert mixed.alpha[0, 0] == 0.625
    np.testing.assert_allclose(mixed.color[0, 0], (0.25 * 100 + 0.375 * 200) / 0.625)
    assert mixed.provenance[0, 0] == 3
    assert mixed.depth[0, 0] == 2


@pytest.mark.parametrize("pair", [(NONE, flat(7, 1, 2)), (flat(7, 1, 2), NONE)])
def test_nothing_over_something_is_something(pair):
    result = over(*pair)
    assert result.color[0, 0, 0] == 7
    assert result.alpha[0, 0] == 1
    assert result.provenance[0, 0] == 0


def test_a_less_trusted_source_hides_only_what_it_is_clearly_before():
    trusted = flat(10, 1, 2.0)
    assert laid_over([trusted, flat(90, 1, 1.0)]).color[0, 0, 0] == 90
    assert laid_over([trusted, flat(90, 1, 1.97)]).color[0, 0, 0] == 10  # within the tolerance: the same surface
    assert laid_over([trusted, flat(90, 0.3, 1.0)]).color[0, 0, 0] == 10  # hardly there
    assert laid_over([trusted, flat(90, 1, 1.0)], in_front=None).color[0, 0, 0] == 10  # may only fill holes
    assert laid_over([NONE, flat(90, 1, 1.0)], in_front=None).color[0, 0, 0] == 90


def test_chosen_and_without():
    yes, no = flat(1, 1, 1), flat(2, 1, 1)
    assert chosen(np.array([[True]]), yes, no).color[0, 0, 0] == 1
    gone = without(yes, np.array([[True]]))
    assert gone.alpha[0, 0] == 0
    assert gone.provenance[0, 0] == NOTHING

"""The mesh of a depth grid, and refinement by rendering as published: by hand, and on a scene whose depth is known."""

import numpy as np
import pytest
import torch
from two_planes import CAMERA, PICTURES, PLACES, TRUTH, depth, pose

from recon4d.depth.multi_view import PosedPicture
from recon4d.refine.grid_mesh import GridMesh
from recon4d.refine.reference import (
    ReferenceSettings,
    _OwnTerms,
    refine_by_reference,
    vertex_spacing,
)
from recon4d.render.cpu_rasterizer import CpuRasterizer

RASTERIZER = CpuRasterizer(threads=1)
SHOTS = [PosedPicture(rgb, CAMERA, pose(place)) for rgb, place in zip(PICTURES, PLACES)]
NO_POINTS = np.zeros((0, 2)), np.zeros(0)
WALL = CAMERA.rays()[..., 0] * 0.5 + 3.0  # a surface without steps, for what needs no picture


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def mesh_of(spacing, known=None, camera=CAMERA):
    known = np.ones(camera.shape, dtype=bool) if known is None else known
    return GridMesh(camera, known, spacing, RASTERIZER)


def drawn(mesh, z, place, rgb=PICTURES[0]):
    """The first camera's mesh at ``z`` (h, w), seen from a place."""
    clip = mesh.clip_from_frame(SHOTS[0], PosedPicture(rgb, CAMERA, pose(place)), z)
    texture = torch.tensor(rgb[None] / np.float32(255))
    return mesh.draw(mesh.pixels, torch.tensor(mesh.at_vertices(z).astype(np.float32)), clip, CAMERA.shape, texture)


# -- the mesh ------------------------------------------------------------------------------------------------------


def test_a_frame_sees_its_own_picture_on_its_own_mesh():
    z = np.full(CAMERA.shape, 3.0, dtype=np.float32)
    seen = drawn(mesh_of(3), z, (0.0, 0.0))
    assert int(seen.triangle.min()) >= 0  # the mesh reaches the border
    np.testing.assert_allclose(255 * seen.color.numpy(), PICTURES[0], atol=0.05)
    np.testing.assert_allclose(seen.depth.numpy(), z, rtol=1e-5)


def test_another_view_sees_the_mesh_of_the_truth_as_it_is():
    wall = depth()
    seen = drawn(mesh_of(1), wall.astype(np.float32), PLACES[1])
    true = depth(PLACES[1])
    inner = (np.abs(seen.depth.numpy() / true - 1) < 1e-2)[4:-4, 4:-4]
    assert inner.mean() > 0.9  # what is torn open beside the board has no truth
    away = np.abs(255 * seen.color.numpy() - PICTURES[1])[4:-4, 4:-4][inner]
    assert np.median(away) < 4


@pytest.mark.parametrize("spacing", [1, 2, 5])
def test_pixels_lie_between_the_corners_that_the_rasteriser_says(spacing):
    mesh = mesh_of(spacing)
    corners, weights = mesh.corners_of_pixels()
    np.testing.assert_allclose(weights.sum(axis=-1), 1)
    assert weights.min() >= -1e-9
    places = mesh.pixels.numpy()
    across, down = np.meshgrid(np.arange(CAMERA.width) + 0.5, np.arange(CAMERA.height) + 0.5)
    np.testing.assert_allclose((weights[..., None] * places[corners]).sum(axis=2), np.stack([across, down], -1))
    seen = drawn(mesh, np.full(CAMERA.shape, 3.0, dtype=np.float32), (0.0, 0.0)).triangle.numpy()
    same = np.sort(mesh.tri.numpy()[seen], axis=-1) == np.sort(corners, axis=-1)
    inside = weights.min(axis=-1) > 1e-3  # not on an edge, where either of two triangles will do
    assert same[inside].all()
    assert inside.any()


def test_triangles_with_an_unknown_corner_are_left_out():
    known = np.ones(CAMERA.shape, dtype=bool)
    known[20, 30] = False
    mesh = mesh_of(2, known)
    assert ((mesh.tri < 0).any(dim=1)).sum() in (4, 8)  # by the diagonals
    seen = drawn(mesh, np.full(CAMERA.shape, 3.0, dtype=np.float32), (0.0, 0.0))
    assert int(seen.triangle[20, 30]) == -1
    assert float(seen.depth[20, 30]) == 0


def test_a_triangle_over_a_step_is_stretched():
    mesh = mesh_of(2)
    x = torch.tensor(mesh.at_vertices(-np.log(TRUTH)))
    across = x[mesh.tri.long()]
    expected = (across.amax(dim=1) - across.amin(dim=1)) > 0.3
    assert torch.equal(mesh.stretched(x, 0.3), expected)
    assert 20 < int(expected.sum()) < 200


# -- terms of the published method ---------------------------------------------------------------------------------


def plane(slope):
    """(20, 30) metres: 2 in the middle, ``slope`` of that more with each pixel to the right."""
    return torch.tensor(np.tile(2.0 + 2.0 * slope * (np.arange(30) - 15), (20, 1)), dtype=torch.float32)


@pytest.mark.parametrize(("slope", "per_pixel"), [(0.0, 1.0), (0.01, 1.0), (0.04, 4.0)])
def test_edge_map_by_hand(slope, per_pixel):
    # Prewitt's kernel sums three rows of a difference over two pixels: six slopes, five times; 1 / 30 makes it 0.
    terms = _OwnTerms(plane(0.0), torch.ones(20, 30), per_pixel)
    expected = 1 - np.sqrt((30 * slope / per_pixel) ** 2 + 1e-6)
    assert float(terms.edges(plane(slope))[10, 15]) == pytest.approx(expected, abs=0.02)


def test_shape_is_what_the_prior_says_whatever_the_level():
    prior = torch.tensor(WALL, dtype=torch.float32)
    terms = _OwnTerms(prior, torch.ones(CAMERA.shape), 1.0)
    assert float(terms.shape(prior + 0.7)) == pytest.approx(0, abs=1e-8)
    bent = prior + 0.1 * torch.sin(torch.arange(64) / 5.0)
    once, twice = float(terms.shape(bent)), float(terms.shape(2 * bent - prior))
    assert once > 1e-6
    assert twice == pytest.approx(4 * once, rel=1e-3)


def test_vertices_lie_as_close_for_the_field_of_view():
    assert [vertex_spacing(width) for width in (160, 320, 640, 1280)] == [2, 2, 3, 6]


# -- the method ----------------------------------------------------------------------------------------------------


def points(count=80, seed=0):
    """True depth at some pixels."""
    pixels = np.random.default_rng(seed).uniform((0, 0), (64, 48), (count, 2))
    return pixels, TRUTH[pixels[:, 1].astype(int), pixels[:, 0].astype(int)]


def refined(prior, known=NO_POINTS, shots=SHOTS[1:], **settings):
    return refine_by_reference(SHOTS[0], prior, shots, known, ReferenceSettings(**settings), RASTERIZER)


def error(z):
    return np.abs(z / TRUTH - 1)


def test_without_points_and_views_nothing_changes():
    prior = WALL.astype(np.float32)
    prior[5, 5] = np.nan
    np.testing.assert_array_equal(refined(prior, points(), shots=[], network_steps=0).z, refined(prior, shots=[]).z)
    found = refined(prior, shots=[])
    assert np.isnan(found.z[5, 5])
    assert not found.curve
    assert np.nanmax(np.abs(found.z / WALL - 1)) < 1e-5


def test_the_seed_alone_decides():
    once, again, other = (refined(TRUTH, points(), network_steps=4, steps=4, batch=2, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once.z, again.z)
    assert once.curve == again.curve
    assert not np.array_equal(once.z, other.z)


def test_views_are_drawn_in_turns():
    shown = []
    found = refine_by_reference(
        SHOTS[0],
        TRUTH,
        SHOTS[1:4],
        NO_POINTS,
        ReferenceSettings(steps=3, batch=2),
        RASTERIZER,
        watch=lambda step, depth_now: shown.append((step, depth_now())),
    )
    assert [step for step, _ in shown] == [0, 1, 2]
    np.testing.assert_array_equal(shown[-1][1], found.z)
    assert set(found.curve[0]) == {"shape", "edges", "edginess", "color"}


def test_points_bring_a_prior_to_their_level():
    found = refined(1.1 * TRUTH, points(), shots=[], network_steps=120, network_rate=5e-3)
    assert np.median(error(found.z)) < 0.3 * 0.1
    misses = [losses["network points"] for losses in found.curve]
    assert misses[-1] < 0.3 * misses[0]


def test_rendering_alone_lowers_the_error_of_a_wrong_prior():
    found = refined(1.04 * TRUTH, steps=150, rate=1e-3)
    assert np.median(error(found.z)) < 0.5 * 0.04
    assert found.curve[-1]["color"] < 0.6 * found.curve[0]["color"]


def test_a_true_prior_is_hardly_changed_by_rendering():
    found = refined(TRUTH, steps=60)
    assert np.median(error(found.z)) < 0.015

"""One order for a mesh, whatever order it was found in."""

from __future__ import annotations

import numpy as np
import pytest

from recon4d.geometry.mesh_order import in_canonical_order


def _shuffled(rng, vertices, faces, colors):
    """The same surface: vertices renumbered, faces in another order and started at another corner."""
    order = rng.permutation(len(vertices))
    place = np.argsort(order).astype(faces.dtype)
    turned = np.stack([np.roll(face, turn) for face, turn in zip(place[faces], rng.integers(0, 3, len(faces)))])
    return vertices[order], turned[rng.permutation(len(faces))], colors[order]


def _bytes(mesh):
    return [array.tobytes() for array in mesh]


def _soup(rng):
    """(vertices, faces, colours) with coordinates that repeat, vertices in one place, and both zeros."""
    vertices = rng.integers(-2, 3, (300, 3)).astype(np.float32)
    vertices[rng.random(vertices.shape) < 0.1] = -0.0
    faces = np.array([rng.choice(300, 3, replace=False) for _ in range(500)], dtype=np.int32)
    return vertices, faces, rng.integers(0, 2, (300, 3)).astype(np.uint8)


@pytest.mark.parametrize("seed", range(5))
def test_same_mesh_in_another_order_comes_out_the_same(seed):
    rng = np.random.default_rng(seed)
    mesh = _soup(rng)
    once, twice = (in_canonical_order(*_shuffled(rng, *mesh)) for _ in range(2))
    assert _bytes(once) == _bytes(twice)
    assert _bytes(in_canonical_order(*once)) == _bytes(once)


def test_order_by_hand_keeps_winding_and_colours():
    vertices = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 5], [0, 0, 2]], dtype=np.float32)
    colors = np.array([[10] * 3, [20] * 3, [30] * 3, [40] * 3], dtype=np.uint8)
    faces = np.array([[3, 0, 1], [0, 2, 1]], dtype=np.int32)
    found = in_canonical_order(vertices, faces, colors)
    np.testing.assert_array_equal(found[0], [[0, 0, 2], [0, 0, 5], [0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(found[1], [[0, 3, 2], [1, 2, 3]])
    np.testing.assert_array_equal(found[2][:, 0], [40, 30, 20, 10])
    assert [array.dtype for array in found] == [np.float32, np.int32, np.uint8]


def test_vertices_in_one_place_become_one_and_faces_without_area_go():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, -0.0, 0]], dtype=np.float32)
    faces = np.array([[3, 1, 2], [0, 3, 1]], dtype=np.int32)
    found = in_canonical_order(vertices, faces, np.zeros((4, 3), dtype=np.uint8))
    np.testing.assert_array_equal(found[0], [[0, 0, 0], [0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(found[1], [[0, 2, 1]])


def test_mesh_without_faces():
    vertices, faces, colors = np.ones((1, 3), np.float32), np.zeros((0, 3), np.int32), np.zeros((1, 3), np.uint8)
    assert [len(array) for array in in_canonical_order(vertices, faces, colors)] == [1, 0, 1]


def test_background_mesh_is_the_same_from_run_to_run():
    pytest.importorskip("open3d")
    from recon4d.geometry.tsdf import Sighting, TsdfVolume
    from recon4d.scene.camera import Camera
    from recon4d.scene.transforms import Rigid3

    camera = Camera(width=64, height=48, fx=60.0, fy=60.0, cx=32.0, cy=24.0)
    y, x = np.mgrid[0:48, 0:64]
    depth = (2 + 0.2 * np.sin(x / 5) + 0.1 * np.cos(y / 7)).astype(np.float32)
    picture = np.stack([4 * x, 5 * y, x + y], axis=-1).astype(np.uint8)
    still, ones = Rigid3(np.eye(3), np.zeros(3)), np.ones(depth.shape, dtype=np.float32)
    seen = Sighting(depth, ones, ones > 0, ones > 0, picture, np.ones(3, dtype=np.float32), camera, still)
    meshes = []
    for _ in range(3):
        volume = TsdfVolume(0.05, 0.2)
        volume.reserve(seen)
        for _ in range(3):
            volume.add(seen)
        meshes.append(volume.mesh(volume.sums[..., 0] >= 2))
    assert len(meshes[0][1]) > 1000
    assert _bytes(meshes[0]) == _bytes(meshes[1]) == _bytes(meshes[2])

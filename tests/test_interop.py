"""Objects of open3d and trimesh hold the same numbers as ours."""

from __future__ import annotations

import numpy as np
import pytest

from recon4d.formats.interop import to_open3d_cloud, to_open3d_mesh, to_trimesh, to_trimesh_cloud
from recon4d.scene.cloud import PointCloud
from recon4d.scene.mesh import TriMesh

CLOUD = PointCloud([[1, 2, 3], [4, 5, 6.5]], [[255, 0, 51], [0, 102, 0]], [[0, 0, 1], [1, 0, 0]])
# The third and fourth vertex coincide: a reader that merges them would change the faces.
MESH = TriMesh([[0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 2, 0]], [[0, 1, 2], [0, 3, 1]], np.full((4, 3), 51))


def test_open3d_objects():
    pytest.importorskip("open3d")
    cloud, mesh = to_open3d_cloud(CLOUD), to_open3d_mesh(MESH)
    np.testing.assert_array_equal(cloud.points, CLOUD.points)
    np.testing.assert_allclose(cloud.colors, [[1, 0, 0.2], [0, 0.4, 0]])
    np.testing.assert_array_equal(cloud.normals, CLOUD.normals)
    np.testing.assert_array_equal(mesh.triangles, MESH.faces)
    np.testing.assert_allclose(mesh.vertex_colors, np.full((4, 3), 0.2))
    assert mesh.get_surface_area() == pytest.approx(4.0)


def test_trimesh_objects():
    pytest.importorskip("trimesh")
    cloud, mesh = to_trimesh_cloud(CLOUD), to_trimesh(MESH)
    np.testing.assert_array_equal(cloud.vertices, CLOUD.points)
    np.testing.assert_array_equal(cloud.colors[:, :3], CLOUD.colors)
    np.testing.assert_array_equal(mesh.faces, MESH.faces)
    np.testing.assert_array_equal(mesh.visual.vertex_colors[:, :3], MESH.colors)
    assert mesh.area == pytest.approx(4.0)

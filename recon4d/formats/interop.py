"""Our clouds and meshes as objects of open3d and trimesh, for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recon4d.scene.cloud import PointCloud
from recon4d.scene.mesh import TriMesh

if TYPE_CHECKING:
    import open3d
    import trimesh


def to_open3d_cloud(cloud: PointCloud) -> open3d.geometry.PointCloud:
    """Points, colours (0..1, sRGB as stored) and normals."""
    import open3d

    out = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(cloud.points.astype(np.float64)))
    out.colors = open3d.utility.Vector3dVector(cloud.colors / 255.0)
    out.normals = open3d.utility.Vector3dVector(cloud.normals.astype(np.float64))
    return out


def to_open3d_mesh(mesh: TriMesh) -> open3d.geometry.TriangleMesh:
    """Vertices, triangles and vertex colours (0..1, sRGB as stored)."""
    import open3d

    out = open3d.geometry.TriangleMesh(
        open3d.utility.Vector3dVector(mesh.vertices.astype(np.float64)), open3d.utility.Vector3iVector(mesh.faces)
    )
    out.vertex_colors = open3d.utility.Vector3dVector(mesh.colors / 255.0)
    return out


def to_trimesh(mesh: TriMesh) -> trimesh.Trimesh:
    """Vertices, faces and vertex colours; vertices are neither merged nor reordered."""
    import trimesh

    return trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=mesh.colors, process=False)


def to_trimesh_cloud(cloud: PointCloud) -> trimesh.PointCloud:
    """Points and colours."""
    import trimesh

    return trimesh.PointCloud(cloud.points, colors=cloud.colors)

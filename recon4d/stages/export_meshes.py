"""Parts of the background's mesh: by how its points came about, and with fewer vertices."""

from __future__ import annotations

import numpy as np

from recon4d.scene.cloud import PointCloud
from recon4d.scene.mesh import TriMesh

EMPTY = TriMesh(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3)))


def of_provenance(mesh: TriMesh, cloud: PointCloud, wanted: tuple[int, ...]) -> TriMesh:
    """The triangles whose three corners lie nearest to a point of the wanted provenance: a mesh has none of its own."""
    from scipy.spatial import cKDTree

    if not len(cloud) or not len(mesh.faces):
        return mesh
    nearest = cKDTree(cloud.points).query(mesh.vertices)[1]
    good = np.isin(cloud.provenance[nearest], wanted)
    return _of_faces(mesh, good[mesh.faces].all(axis=1))


def simplified(mesh: TriMesh, most: int) -> TriMesh:
    """A coarser mesh of at most so many vertices, by quadric error decimation.

    Small islands go where they cannot become coarser. Source: Garland and Heckbert, SIGGRAPH 1997, in Open3D.
    """
    mesh = _of_faces(mesh, np.ones(len(mesh.faces), dtype=bool))
    while len(mesh.vertices) > most:
        # Decimation counts triangles, and keeps the vertices of those it takes away.
        coarser = _decimated(mesh, int(len(mesh.faces) * most / len(mesh.vertices)))
        mesh = coarser if len(coarser.vertices) < len(mesh.vertices) else _largest_islands(mesh, most)
    return mesh


def _decimated(mesh: TriMesh, faces: int) -> TriMesh:
    from recon4d.formats.interop import to_open3d_mesh

    out = to_open3d_mesh(mesh).simplify_quadric_decimation(max(1, faces))
    colors = np.round(np.asarray(out.vertex_colors) * 255).clip(0, 255)
    triangles = np.asarray(out.triangles)
    return _of_faces(TriMesh(np.asarray(out.vertices), triangles, colors), np.ones(len(triangles), dtype=bool))


def _largest_islands(mesh: TriMesh, most: int) -> TriMesh:
    """The connected pieces with the largest area that together have at most so many vertices."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    start, end = mesh.faces[:, :2].T.ravel(), mesh.faces[:, 1:].T.ravel()
    graph = coo_array((np.ones(len(start), dtype=np.int8), (start, end)), shape=(len(mesh.vertices),) * 2)
    count, island = connected_components(graph, directed=False)
    of_face = island[mesh.faces[:, 0]]
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    area = np.bincount(of_face, np.linalg.norm(np.cross(b - a, c - a), axis=1), count)
    vertices, kept = np.bincount(island, minlength=count), np.zeros(count, dtype=bool)
    room = most
    for each in np.argsort(-area, kind="stable"):
        if vertices[each] <= room:
            kept[each] = True
            room -= vertices[each]
    return _of_faces(mesh, kept[of_face])


def _of_faces(mesh: TriMesh, kept: np.ndarray) -> TriMesh:
    """Some of the triangles (T,) bool, and the vertices they use."""
    faces = mesh.faces[kept]
    used, corners = np.unique(faces, return_inverse=True)
    return TriMesh(mesh.vertices[used], corners.reshape(-1, 3), mesh.colors[used])

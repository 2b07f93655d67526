"""One order for the vertices and faces of a mesh, whatever order they were found in."""

from __future__ import annotations

import numpy as np


def in_canonical_order(
    vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same surface, with an order that depends on nothing but its geometry and colours.

    Vertices are sorted by x, y, z, then colour. Vertices equal in all of these have no order of their own, so they
    become one, and faces that thereby have two equal corners (without area before as well) go. Faces start at their
    smallest index, keep their winding, and are sorted.

    Args:
        vertices: (N, 3) float.
        faces: (T, 3) int, indices of vertices.
        colors: (N, 3) uint8.

    Returns:
        vertices (M, 3), faces (S, 3), colours (M, 3) of the dtypes given, M <= N, S <= T.
    """
    vertices = vertices + 0.0  # -0.0 becomes 0.0: they compare equal, but are different bytes
    order = np.lexsort((*colors.T[::-1], *vertices.T[::-1]))  # the last key counts most
    vertices, colors = vertices[order], colors[order]
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (vertices[1:] != vertices[:-1]).any(axis=1) | (colors[1:] != colors[:-1]).any(axis=1)
    place = np.empty(len(order), dtype=faces.dtype)
    place[order] = np.cumsum(is_first) - 1
    return vertices[is_first], _sorted_faces(place[faces]), colors[is_first]


def _sorted_faces(faces: np.ndarray) -> np.ndarray:
    """Faces with three different corners, each turned to start at its smallest index, in ascending order."""
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    corners = (np.argmin(faces, axis=1)[:, None] + np.arange(3)) % 3
    faces = np.take_along_axis(faces, corners, axis=1)
    return faces[np.lexsort(faces.T[::-1])]

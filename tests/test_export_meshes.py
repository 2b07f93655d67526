"""Upper bounds of the vertices of a mesh."""

from __future__ import annotations

import numpy as np

from recon4d.scene.mesh import TriMesh
from recon4d.stages.export_meshes import simplified


def test_many_small_pieces_of_mesh_stay_below_the_bound():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:12, :12]
    corner = (12 * y[:-1, :-1] + x[:-1, :-1]).reshape(-1, 1)
    sheet = np.concatenate([np.add(corner, [0, 1, 12]), np.add(corner, [1, 13, 12])])
    vertices = [np.stack([x, y, rng.normal(50, 0.3, x.shape)], axis=-1).reshape(-1, 3)]
    faces = [sheet]
    for place in range(60):  # single triangles in the air
        vertices.append(rng.normal((3 * place, 40, 0), size=(3, 3)))
        faces.append(np.array([[0, 1, 2]]) + 144 + 3 * place)
    mesh = TriMesh(np.concatenate(vertices), np.concatenate(faces), np.full((144 + 180, 3), 90))
    for most in (300, 100, 30, 5):
        simple = simplified(mesh, most)
        assert most / 2 < len(simple.vertices) <= most
        assert len(np.unique(simple.faces)) == len(simple.vertices)
        assert (simple.colors == 90).all()
    assert len(simplified(mesh, 2).faces) == 0


def test_pieces_that_cannot_become_coarser_go_smallest_first(monkeypatch):
    monkeypatch.setattr("recon4d.stages.export_meshes._decimated", lambda mesh, _: mesh)
    triangle = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    mesh = TriMesh(np.concatenate([triangle, 3 * triangle, 2 * triangle]), np.arange(9).reshape(3, 3), np.zeros((9, 3)))
    np.testing.assert_array_equal(simplified(mesh, 7).vertices, np.concatenate([3 * triangle, 2 * triangle]))

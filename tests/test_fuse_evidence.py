"""Whose word counts in the background: what fills a hole is evidence of nothing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fabricated import fabricate

from recon4d.formats.arrays import read_depth_mesh, write_depth_mesh
from recon4d.scene.depth import Provenance, SceneDepth
from recon4d.stages import fuse
from recon4d.workspace import Workspace

COLUMNS = slice(0, 24)
OPTIONS = fuse.FuseOptions(voxel_size=0.05)


def with_columns(root: Path, provenance: int, valid: bool) -> Workspace:
    """A scene whose meshes have a wrong surface in some columns: the frame's median depth, cut from the rest."""
    workspace = fabricate(root, frames=6)
    align = workspace.unit_dir("align")
    (align / "scale.json").write_text(json.dumps({"metres_per_unit": None}))
    (align / "world_up.json").write_text(json.dumps({"levelled_from_scene": None}))
    for path in workspace.unit_dir("mesh").glob("*.npz"):
        mesh = read_depth_mesh(path)
        surface = mesh.surface
        depth, ok, origin = surface.depth.copy(), surface.valid.copy(), surface.provenance.copy()
        rest = np.median(depth[:, COLUMNS.stop :][ok[:, COLUMNS.stop :]])
        depth[:, COLUMNS], ok[:, COLUMNS], origin[:, COLUMNS] = rest if valid else 0.0, valid, provenance
        right, down = mesh.join_right.copy(), mesh.join_down.copy()
        if not valid:
            right[:, COLUMNS] = down[:, COLUMNS] = False
        right[:, COLUMNS.stop - 1] = False
        write_depth_mesh(
            path, replace(mesh, surface=SceneDepth(depth, ok, 0.01 * depth, origin), join_right=right, join_down=down)
        )
    return workspace


def background(workspace: Workspace) -> tuple[np.ndarray, np.ndarray]:
    fuse.run(workspace, OPTIONS)
    return workspace.static_cloud().points, workspace.static_mesh().vertices


@pytest.mark.parametrize("origin", [Provenance.OTHER_FRAME, Provenance.COMPLETED, Provenance.GENERATED])
def test_filled_holes_leave_the_background_as_if_they_were_holes(tmp_path, origin):
    filled = with_columns(tmp_path / "filled", origin, valid=True)
    holes = with_columns(tmp_path / "holes", origin, valid=False)
    for found, expected in zip(background(filled), background(holes)):
        np.testing.assert_array_equal(found, expected)
    assert (filled.static_cloud().provenance == Provenance.FITTED).all()


def test_first_hand_surfaces_do_count(tmp_path):
    own = with_columns(tmp_path / "own", Provenance.MEASURED, valid=True)
    holes = with_columns(tmp_path / "holes", Provenance.MEASURED, valid=False)
    assert len(background(own)[0]) != len(background(holes)[0])

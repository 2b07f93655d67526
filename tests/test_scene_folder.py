"""The 4D scene as it lies on the disk: its manifest, what moves, and where it goes."""

import json

import numpy as np
import pytest
from fabricated import LEVELLED_FROM_SCENE, METRES_PER_UNIT, fabricate

from recon4d.errors import WorkspaceError
from recon4d.formats.arrays import write_scene_flow
from recon4d.scene.scene_flow import SceneFlow


@pytest.fixture
def workspace(tmp_path):
    return fabricate(tmp_path / "scene", frames=3)


def test_every_file_of_a_scene_is_found_through_its_manifest(workspace):
    folder = workspace.unit_dir("fuse")
    manifest = json.loads((folder / "scene.json").read_text())
    assert manifest["format"] == 2
    assert manifest["objects"] == "objects.json"
    for name in manifest["names"]:
        assert (folder / manifest["moving"].format(name=name)).is_file()
        assert manifest["scene_flow"].format(name=name) == f"scene_flow/{name}.npz"
    for path in (manifest["cameras"], *manifest["static"].values()):
        assert (folder / path).is_file()


def test_a_frame_of_the_scene_is_the_background_and_what_moves(workspace):
    scene = workspace.scene()
    assert scene.metres_per_unit == METRES_PER_UNIT
    np.testing.assert_array_equal(scene.levelled_from_scene.matrix, LEVELLED_FROM_SCENE.matrix)
    still, seen = scene.names[1:]
    assert len(scene.moving(still)) == 0
    np.testing.assert_array_equal(scene.frame(still).points, scene.static.points)
    moving = scene.moving(seen)
    assert (moving.object_id == 1).all()
    np.testing.assert_allclose(np.linalg.norm(moving.points - [0.3, 0.5, 3.0], axis=1), 0.5, atol=1e-3)
    np.testing.assert_array_equal(scene.frame(seen).points[-len(moving) :], moving.points)
    assert len(scene.frame(seen)) == len(scene.static) + len(moving)


def test_scene_flow_comes_back_and_static_is_exactly_zero(workspace):
    flow = np.random.default_rng(0).normal(size=(2, 6, 8, 3)).astype(np.float32)
    flow[:, :3] = 0
    flow[1, 5] = np.nan
    folder = workspace.unit_dir("fuse") / "scene_flow"
    folder.mkdir()
    write_scene_flow(folder / "000003.npz", SceneFlow(*flow))
    found = workspace.scene_flow("000003")
    assert found.next.dtype == np.float32
    np.testing.assert_allclose(found.next, flow[0], rtol=2**-11, atol=1e-7)
    np.testing.assert_allclose(found.prev, flow[1], rtol=2**-11, atol=1e-7)
    assert (found.next[:3] == 0).all()
    with pytest.raises(ValueError, match="prev"):
        SceneFlow(flow[0], flow[1, :4])


def test_missing_parts_say_how_to_go_on(workspace):
    with pytest.raises(WorkspaceError, match=r"scene_flow/000000\.npz was not found.*recon4d run"):
        workspace.scene_flow("000000")
    (workspace.unit_dir("fuse") / "moving/000000.ply").unlink()
    with pytest.raises(WorkspaceError, match=r"moving/000000\.ply.*recon4d run"):
        workspace.scene().moving("000000")


def test_a_scene_of_an_older_program_is_refused(workspace):
    path = workspace.unit_dir("fuse") / "scene.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 1}))
    with pytest.raises(WorkspaceError, match="has format 1, this recon4d reads format 2: run the stage fuse again"):
        workspace.scene()

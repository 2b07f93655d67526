"""Every kind of GLB through the Khronos validator: no errors, no warnings."""

from __future__ import annotations

import pytest
from clients import gltf_issues
from fabricated import STILL, fabricate

from recon4d.stages.export import run
from recon4d.stages.export_options import ExportOptions

pytestmark = pytest.mark.clients


@pytest.mark.parametrize("shape", ["points", "quads", "meshes"])
@pytest.mark.parametrize("up", ["z", "model"])
def test_all_files_of_an_export(tmp_path, shape, up):
    workspace = fabricate(tmp_path / "scene", ball_moves=True)
    run(workspace, ExportOptions(to=("glb",), shape=shape, up=up))
    files = sorted((workspace.root / "export").rglob("*.glb"))
    assert len(files) == 2 + 3 + 4
    assert {path: gltf_issues(path) for path in files} == {path: [] for path in files}


def test_vertex_colours_and_a_single_frame(tmp_path):
    workspace = fabricate(tmp_path / "scene", ball_moves=True)
    run(workspace, ExportOptions(to=("glb",), shape="meshes", texture=False, frames=STILL))
    files = sorted((workspace.root / "export").rglob("*.glb"))
    assert [path.stem for path in files] == [STILL, "scene", "static_mesh"]
    assert {path: gltf_issues(path) for path in files} == {path: [] for path in files}


def test_the_validator_sees_what_is_wrong(tmp_path):
    workspace = fabricate(tmp_path / "scene")
    run(workspace, ExportOptions(to=("glb",), frames=STILL))
    path = workspace.root / "export/glb/scene.glb"
    broken = tmp_path / "broken.glb"
    broken.write_bytes(path.read_bytes().replace(b'"type":"VEC4"', b'"type":"VEC2"'))
    assert gltf_issues(broken)

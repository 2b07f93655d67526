"""What is put beside an export for Blender: the script, its parts, and the pictures behind the camera."""

from __future__ import annotations

import ast
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from fabricated import STILL, fabricate, write_unit

import recon4d
from recon4d.scene.scene4d import frame_rate
from recon4d.stages.export import run
from recon4d.stages.export_blender import blender_frames
from recon4d.stages.export_options import ExportOptions

SOURCES = sorted((Path(recon4d.__file__).parent / "formats" / "blender").glob("*.py"))


def test_a_frame_is_shown_from_the_nearest_of_blenders_frames():
    assert blender_frames(np.array([0.0, 0.1, 0.2, 0.3]), 10.0) == [1, 2, 3, 4]
    # 0.149 s is nearer to the second frame, 0.151 s to the third; a gap stays a gap.
    assert blender_frames(np.array([0.0, 0.149, 0.251, 0.9]), 10.0) == [1, 2, 4, 10]
    assert blender_frames(np.array([0.0, 0.15, 0.25]), 10.0) == [1, 3, 4]  # halves go up, both of them
    assert blender_frames(np.array([0.0]), 30.0) == [1]
    ntsc = 30000 / 1001
    assert blender_frames(np.arange(3000) / ntsc, ntsc) == list(range(1, 3001))


@pytest.mark.parametrize("rate", [24000 / 1001, 29.97, 59.94, 60.0])
@pytest.mark.parametrize("digits", [3, 6])
def test_every_frame_of_a_steady_clip_is_shown_once_though_its_times_are_rounded(rate, digits):
    times_s = np.round(np.arange(300) / rate, digits)
    assert blender_frames(times_s, frame_rate(times_s)) == list(range(1, 301))


def test_pictures_are_numbered_like_blenders_frames(tmp_path):
    workspace = fabricate(tmp_path / "clip", frames=7)
    run(workspace, ExportOptions(to=("ply",), frames="000000,000003,000006,000015,000018"))
    export = workspace.root / "export"
    # 0, 0.11, 0.2, 0.51, 0.6 s; the line through frames 0, 1, 2, 5, 6 rises by 26.8 / 2.684 a second.
    clip = json.loads((export / "blender/clip.json").read_text())
    assert clip["frames"] == [1, 2, 3, 6, 7]
    assert (clip["scene"], clip["up"], clip["in_metres"]) == ("clip", "z", True)
    assert clip["formats"] == ["ply"]
    assert json.loads((export / "manifest.json").read_text())["fps"] == pytest.approx(26.8 / 2.684)
    assert clip["pictures"] == "blender/plate/000001.jpg"
    shown = {1: "000000", 2: "000003", 3: "000006", 4: "000006", 5: "000006", 6: "000015", 7: "000018"}
    plate = sorted((export / "blender/plate").iterdir())
    assert [path.name for path in plate] == [f"{number:06d}.jpg" for number in shown]
    for path, name in zip(plate, shown.values()):
        assert path.read_bytes() == workspace.picture_path(name).read_bytes()
    files = json.loads((export / "manifest.json").read_text())["files"]
    assert {"import_recon4d.py", "blender/clip.json", "blender/plate/000007.jpg"} <= set(files)


def test_the_script_comes_with_all_its_parts_and_only_for_what_blender_opens(tmp_path):
    workspace = fabricate(tmp_path / "scene", frames=1, known=False)
    run(workspace, ExportOptions(to=("glb",), up="y"))
    export = workspace.root / "export"
    for source in SOURCES:
        folder = export if source.name == "import_recon4d.py" else export / "blender"
        assert (folder / source.name).read_bytes() == source.read_bytes()
    clip = json.loads((export / "blender/clip.json").read_text())
    assert (clip["frames"], clip["up"], clip["in_metres"]) == ([1], "y", False)
    run(workspace, ExportOptions(to=("tum",)))
    assert not (export / "import_recon4d.py").exists()
    assert not (export / "blender").exists()


def test_exports_of_a_scene_have_one_id_and_those_of_others_with_its_name_have_another(tmp_path):
    def id_after(workspace, **options) -> str:
        run(workspace, ExportOptions(**options))
        return json.loads((workspace.root / "export/blender/clip.json").read_text())["id"]

    workspace = fabricate(tmp_path / "a/scene", frames=1)
    first = id_after(workspace, to=("ply",))
    assert id_after(workspace, to=("glb",), up="y") == first
    assert id_after(fabricate(tmp_path / "b/scene", frames=1), to=("ply",)) != first
    write_unit(workspace, "frames", lambda folder: None)  # another clip in the same place
    assert id_after(workspace, to=("ply",)) != first


def test_nodes_of_a_glb_say_which_frame_they_are(tmp_path):
    workspace = fabricate(tmp_path / "clip", ball_moves=True)
    run(workspace, ExportOptions(to=("glb",)))
    data = (workspace.root / "export/glb/scene.glb").read_bytes()
    nodes = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])["nodes"]
    said = {node["name"]: node["extras"] for node in nodes if "extras" in node}
    frames = {name: {"frame": name} for name in workspace.trajectory().names if name != STILL}
    assert said == {"static": {"layer": "static"}} | frames
    assert {nodes[number]["name"] for number in nodes[0]["children"]} == set(said)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_the_script_needs_nothing_but_blenders_python(source):
    tree = ast.parse(source.read_text(encoding="utf-8"), feature_version=(3, 11))
    wanted = {item.names[0].name for item in ast.walk(tree) if isinstance(item, ast.Import)}
    wanted |= {item.module for item in ast.walk(tree) if isinstance(item, ast.ImportFrom)}
    ours = {name for name in wanted if name.startswith("recon4d")}
    assert ours <= {path.stem for path in SOURCES}
    assert {name.partition(".")[0] for name in wanted - ours} <= {"bpy", "mathutils", "numpy", *sys.stdlib_module_names}


@pytest.fixture
def looks(monkeypatch):
    """The module of materials and nodes, without Blender."""
    monkeypatch.setitem(sys.modules, "bpy", types.ModuleType("bpy"))
    monkeypatch.syspath_prepend(SOURCES[0].parent)
    import recon4d_blender_looks

    yield recon4d_blender_looks
    for name in ("recon4d_blender_looks", "recon4d_blender_data"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("step", [0.004, 3.0])
def test_spacing_is_the_step_of_a_grid_in_any_direction(looks, step):
    rng = np.random.default_rng(1)
    flat = np.stack(np.meshgrid(np.arange(90), np.arange(70), [0]), axis=-1).reshape(-1, 3) * step
    for _ in range(3):
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        found = looks.spacing(flat @ turn + 5)
        assert step * 0.8 < np.median(found) < step * 1.3
        assert np.percentile(found, 95) < 2 * step
        assert found.max() <= 4 * np.median(found)


def test_spacing_follows_the_density_and_keeps_lonely_points_small(looks):
    fine = np.stack(np.meshgrid(np.arange(100), np.arange(100), [0]), axis=-1).reshape(-1, 3) * 0.01
    coarse = np.stack(np.meshgrid(np.arange(30), np.arange(30), [0]), axis=-1).reshape(-1, 3) * 0.05 + [3, 0, 0]
    found = looks.spacing(np.concatenate([fine, coarse, [[-4.0, 0, 0]]]))
    assert np.median(found[10000:-1]) / np.median(found[:10000]) == pytest.approx(5, rel=0.35)
    assert found[-1] < 0.15
    assert looks.spacing(np.zeros((0, 3))).shape == (0,)
    assert (looks.spacing(np.zeros((3, 3))) > 0).all()

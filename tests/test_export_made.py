"""What an export takes over from the one before it, what it makes anew, and what it says."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from fabricated import STILL, fabricate
from listening import Listener

from recon4d.errors import OptionsError
from recon4d.formats.ply import read_cloud
from recon4d.stages.export import WRITERS, run
from recon4d.stages.export_made import missing_file, read_made
from recon4d.stages.export_options import ExportOptions


def test_formats_that_stay_as_they_were_are_not_made_again(tmp_path, monkeypatch):
    workspace = fabricate(tmp_path / "scene", frames=2)
    export = workspace.root / "export"
    run(workspace, ExportOptions(to=("ply", "tum")))
    monkeypatch.setattr("recon4d.formats.ply.write_cloud", lambda *_: pytest.fail("made again"))
    run(workspace, ExportOptions(to=("ply", "kitti"), html_mb=20))
    assert (export / "ply/static.ply").read_bytes() == (workspace.root / ".old/export/ply/static.ply").read_bytes()
    assert {path.name for path in export.iterdir() if path.is_dir()} - {"blender"} == {"ply", "kitti"}
    assert "ply/moving/000003.ply" in json.loads((export / "manifest.json").read_text())["files"]
    monkeypatch.undo()
    run(workspace, ExportOptions(to=("ply", "kitti"), max_points=5))
    assert len(read_cloud(export / "ply/static.ply")) == 5


def test_files_changed_or_deleted_by_hand_are_not_handed_on_as_they_were(tmp_path):
    workspace, listener = fabricate(tmp_path / "scene", frames=2), Listener()
    export = workspace.root / "export"
    run(workspace, ExportOptions(to=("ply", "tum", "kitti")))
    whole = (export / "ply/static.ply").read_bytes()
    (export / "ply/static.ply").write_bytes(whole[:-1] + b"!")  # as long as before
    (export / "tum/trajectory.tum").unlink()
    run(workspace, ExportOptions(to=("ply", "tum", "kitti", "pcd")), listener)
    assert (export / "ply/static.ply").read_bytes() == whole
    assert (export / "tum/trajectory.tum").is_file()
    assert "  kitti is as it was" in listener.said
    assert sum("not as it was made" in text for text in listener.said) == 2


def test_a_format_whose_folder_was_deleted_is_made_again_by_the_same_command(tmp_path):
    workspace, listener = fabricate(tmp_path / "scene", frames=2), Listener()
    export, options = workspace.root / "export", ExportOptions(to=("ply", "tum"))
    run(workspace, options)
    shutil.rmtree(export / "ply")
    run(workspace, options, listener)
    assert read_cloud(export / "ply/static.ply").points.size
    assert "ply/meshes/000000.ply is gone" in listener.said[0]
    assert "  tum is as it was" in listener.said
    run(workspace, options, listener)
    assert listener.said[-1] == "export: up to date"


def test_editing_a_file_changes_no_other_export_and_not_its_twin(tmp_path):
    workspace = fabricate(tmp_path / "scene", frames=2)
    export, old = workspace.root / "export", workspace.root / ".old/export"
    run(workspace, ExportOptions(to=("colmap", "ply")))
    run(workspace, ExportOptions(to=("colmap", "ply", "tum")))
    before = (old / "ply/static.ply").read_bytes()
    for file in ("colmap/sparse/0/images.bin", "ply/static.ply"):
        with open(export / file, "r+b") as opened:  # in place, as bundle adjustment writes its model
            opened.write(b"edited")
    assert (old / "ply/static.ply").read_bytes() == before
    twins = [folder / "colmap/sparse" / name for folder in (export, old) for name in ("images.bin", "0/images.bin")]
    assert [twin.read_bytes()[:6] == b"edited" for twin in twins] == [False, True, False, False]
    assert not twins[3].samefile(twins[2])  # neither where it was first written
    picture = workspace.picture_path("000000")
    assert (export / "colmap/images" / picture.name).samefile(picture)  # pictures take no space


def test_warnings_of_a_format_that_is_taken_over_or_resumed_stay_in_the_record(tmp_path, monkeypatch):
    workspace = fabricate(tmp_path / "scene", frames=2)
    options = ExportOptions(to=("glb", "colmap"), layers=("moving",), frames=STILL)
    monkeypatch.setattr("recon4d.stages.export.WRITERS", {**WRITERS, "tum": "json:loads"})
    with pytest.raises(TypeError):
        run(workspace, replace(options, to=("glb", "colmap", "tum")))
    monkeypatch.undo()
    resumed = run(workspace, replace(options, to=("glb", "colmap", "tum"))).warnings
    taken_over = run(workspace, options).warnings
    shutil.rmtree(workspace.root / "export")
    assert taken_over == resumed == run(workspace, options).warnings
    assert any("scene.glb" in text for text in resumed)
    assert any("COLMAP" in text for text in resumed)


def test_frames_that_are_not_there_are_refused_before_anything_is_begun(tmp_path):
    workspace, listener = fabricate(tmp_path / "scene", frames=2), Listener()
    with pytest.raises(OptionsError, match="no frame 000001"):
        run(workspace, ExportOptions(to=("tum",), frames="000001"), listener)
    assert not listener.said
    assert not list((workspace.root / ".part").glob("*"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"provenance": (4,)}, ["of the background", "of what moves"]),
        ({"provenance": (4,), "layers": ("static",)}, ["of the background"]),
        ({"layers": ("moving",), "frames": STILL}, ["of what moves"]),
        ({"frames": STILL}, []),  # a recording in which nothing moves is no surprise
        ({"provenance": (1,)}, []),
        ({"provenance": (4,), "to": ("tum",)}, []),
    ],
)
def test_a_choice_that_leaves_nothing_is_said(tmp_path, options, expected):
    workspace = fabricate(tmp_path / "scene", frames=2, ball_moves=True)
    found = run(workspace, ExportOptions(**{"to": ("pcd",)} | options)).warnings
    assert len(found) == len(expected)
    for text, part in zip(found, expected):
        assert f"no point {part} is written" in text
        assert ("--export.provenance 4" in text) == ("provenance" in options)


@pytest.mark.parametrize("text", ['{"ply": {"key": "k", "warnings": [], "files": null}}', '{"ply": 3}', "[]", "{"])
def test_a_damaged_list_means_that_nothing_is_known(tmp_path, text):
    (tmp_path / "made.json").write_text(text)
    assert read_made(tmp_path) == {}
    (tmp_path / "manifest.json").write_text('{"files": null}')
    assert missing_file(tmp_path) == "manifest.json"

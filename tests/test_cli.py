"""What the terminal says when something is wrong: one sentence, exit code 1, no traceback, nothing lost."""

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from recon4d import cli, pipeline
from recon4d.errors import OptionsError, WorkspaceError
from recon4d.formats.options_toml import options_from_table, read_options_toml, write_options_toml
from recon4d.formats.pictures import write_picture
from recon4d.workspace import Workspace


def sentence(capsys, *words: object) -> str:
    """stderr of a refused command, checked to be one line."""
    assert cli.main([str(word) for word in words]) == 1
    said = capsys.readouterr().err
    assert said.startswith("recon4d: ")
    assert said.count("\n") == 1
    return said


def test_help_of_every_verb(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    for verb in ("run", "info", "evaluate", "demo", "doctor", *pipeline.BUILT):
        assert verb in text
        with pytest.raises(SystemExit) as stop:
            cli.main([verb, "--help"])
        assert stop.value.code == 0


def test_options_of_a_stage_show_their_help_and_default(capsys):
    with pytest.raises(SystemExit):
        cli.main(["mesh", "--help"])
    text = capsys.readouterr().out
    assert "--max-ratio" in text
    assert "times deeper" in " ".join(text.split())


def test_unknown_verb(capsys):
    assert "there is no verb 'reconstruct'" in sentence(capsys, "reconstruct")


def test_unknown_option_names_the_near_one(capsys, tmp_path):
    said = sentence(capsys, "run", "clip.mp4", "--out", tmp_path / "s", "--frames.strid", 3)
    assert "--frames.strid" in said
    assert "perhaps --frames.stride" in said
    assert not (tmp_path / "s").exists()


def test_value_of_the_wrong_kind(capsys, tmp_path):
    assert "--frames.stride" in sentence(capsys, "run", "clip.mp4", "--out", tmp_path / "s", "--frames.stride", "many")
    assert "'fast'" in sentence(capsys, "run", "clip.mp4", "--out", tmp_path / "s", "--poses.source", "fast")


def test_unknown_stage(capsys, tmp_path):
    assert "'fusion'" in sentence(capsys, "run", "clip.mp4", "--out", tmp_path / "s", "--until", "fusion")


def test_unknown_depth_source(capsys, tmp_path):
    Workspace.create(tmp_path / "s")
    pipeline.record_options(Workspace(tmp_path / "s"), pipeline.Options(), tmp_path)
    assert "no source 'magic'" in sentence(capsys, "depth", tmp_path / "s", "--source", "magic")


def test_missing_depth_is_said_before_any_work(capsys, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"not read")
    words = ["--depth.source", "precomputed"]
    said = sentence(capsys, "run", tmp_path / "clip.mp4", "--out", tmp_path / "s", *words)
    assert "needs --depth.path" in said
    assert "--depth.source mvs" in said
    said = sentence(capsys, "run", tmp_path / "clip.mp4", "--out", tmp_path / "s", "--depth.path", tmp_path / "d.npz")
    assert "d.npz was not found" in said
    assert not (tmp_path / "s").exists()


def test_one_picture_has_no_poses_but_may_have_depth(capsys, tmp_path):
    rng = np.random.default_rng(0)
    write_picture(tmp_path / "one.png", rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    np.savez(tmp_path / "d.npz", depth=rng.uniform(size=(1, 24, 32)))
    words = ["run", tmp_path / "one.png", "--out", tmp_path / "s", "--depth.path", tmp_path / "d.npz"]
    assert "--poses.source none" in sentence(capsys, *words)
    assert "the poses are 'none'" in sentence(capsys, *words, "--poses.source", "none")
    depth = Workspace(tmp_path / "s").depth_map("one", "precomputed")
    assert depth.values.shape == (24, 32)


def test_no_such_file_leaves_no_scene_behind(capsys, tmp_path):
    assert "there is no" in sentence(capsys, "run", tmp_path / "no.mp4", "--out", tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_scene_that_is_none(capsys, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    assert "is no recon4d scene" in sentence(capsys, "info", tmp_path)
    assert "is no recon4d scene" in sentence(capsys, "align", tmp_path)
    assert "nothing was touched" in sentence(
        capsys, "run", tmp_path / "letter.txt", "--out", tmp_path, "--until", "poses"
    )
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_stage_before_its_time(capsys, tmp_path):
    workspace = Workspace.create(tmp_path / "s")
    pipeline.record_options(workspace, pipeline.Options(), tmp_path)
    assert "poses is not done yet" in sentence(capsys, "mesh", tmp_path / "s").replace("align is", "poses is")


def test_output_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")  # works as root too, unlike taking permissions away
    said = sentence(capsys, "run", __file__, "--out", tmp_path / "file" / "s", "--until", "poses")
    assert "cannot be written" in said


def test_permission_denied_is_one_sentence(capsys, monkeypatch, tmp_path):
    def denied(*_args: object, **_kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "scene/frames")

    monkeypatch.setattr(pipeline, "run", denied)
    assert "no permission to write (scene/frames)" in sentence(capsys, "run", "clip.mp4", "--out", tmp_path / "s")


def test_full_disk_is_one_sentence(capsys, monkeypatch, tmp_path):
    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "clip.npz")

    monkeypatch.setattr(pipeline, "run", full)
    said = sentence(capsys, "run", "clip.mp4", "--out", tmp_path / "s")
    assert "the disk is full, or a limit of space is reached (clip.npz)" in said
    assert "what was finished is kept" in said


def test_really_full_disk(tmp_path):
    """A file size limit makes every write past it fail as a full disk would."""
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000));"
        "from recon4d import cli; sys.exit(cli.main(sys.argv[1:]))"
    )
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    (tmp_path / "in").mkdir()
    write_picture(tmp_path / "in" / "a.png", picture)
    words = ["run", tmp_path / "in", "--out", tmp_path / "s", "--until", "poses", "--frames.max-size", "48"]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "disk" in done.stderr
    assert not (tmp_path / "s" / "frames").exists()


def test_unexpected_errors_keep_their_trace(monkeypatch, tmp_path):
    def bug(*_args: object, **_kwargs: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(pipeline, "run", bug)
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", "clip.mp4", "--out", str(tmp_path / "s")])


def test_options_file_round_trip(tmp_path):
    path = tmp_path / "options.toml"
    options = pipeline.Options(
        frames=pipeline.FramesOptions(stride=3, masks=tmp_path / 'a "quoted" folder'),
        export=pipeline.ExportOptions(to=("ply", "tum")),
    )
    write_options_toml(path, {name: pipeline.options_as_json(getattr(options, name)) for name in pipeline.OPTIONS})
    tables = read_options_toml(path)
    for name, kind in pipeline.OPTIONS.items():
        assert options_from_table(kind, tables[name], path) == getattr(options, name)


def test_none_is_always_the_default_of_an_optional_option():
    """options.toml leaves None out, so None must be what an option without an entry gets."""
    for stage in pipeline.OPTIONS:
        for field in pipeline.dataclasses.fields(pipeline.OPTIONS[stage]):
            if "None" in str(field.type):
                assert field.default is None, f"{stage}.{field.name}"


def test_options_file_of_another_program(tmp_path):
    path = tmp_path / "options.toml"
    path.write_text("[frames]\ncolour = 3\n")
    with pytest.raises(WorkspaceError, match="'colour'"):
        options_from_table(pipeline.FramesOptions, read_options_toml(path)["frames"], path)
    path.write_text("[frames\n")
    with pytest.raises(WorkspaceError, match="not valid TOML"):
        read_options_toml(path)


def test_doctor_lists_what_is_required(capsys):
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    for name in ("pycolmap", "open3d", "nvdiffrast", "OpenEXR", "pyliblzfse"):
        assert name in text
    assert "all that is required is here" in text


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("recon4d 0.")


def test_damaged_record_counts_as_not_done(tmp_path, capsys):
    workspace = Workspace.create(tmp_path / "s")
    (tmp_path / "s" / "frames").mkdir()
    (tmp_path / "s" / "frames" / "stage.json").write_text(json.dumps({"unit": "frames"}))
    assert workspace.record("frames") is None
    assert cli.main(["info", str(tmp_path / "s")]) == 0
    assert "frames: not done" in capsys.readouterr().out


def test_second_run_on_a_folder_of_pictures_announces_nothing(capsys, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name in "ab":
        write_picture(tmp_path / "in" / f"{name}.png", rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    words = ["run", str(tmp_path / "in"), "--out", str(tmp_path / "s"), "--until", "frames"]
    assert cli.main(words) == 0
    capsys.readouterr()
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "redoing" not in said
    assert "frames: up to date" in said


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems hold no such names")
def test_source_whose_name_is_no_text(capsys, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")
    with open(path, "wb") as file:
        file.write(b"not read")
    assert cli.main(["run", path, "--out", str(tmp_path / "s"), "--until", "poses"]) == 1
    assert "caf\\xe9.mp4 is not valid UTF-8" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (pipeline.Options(poses=pipeline.PosesOptions(source="nope")), "--poses.source is 'nope', one of colmap"),
        (pipeline.Options(frames=pipeline.FramesOptions(stride="5")), "--frames.stride is '5'"),
        (pipeline.Options(align=pipeline.AlignOptions(step=True)), "--align.step is True"),
        (pipeline.Options(export=pipeline.ExportOptions(to=("ply", "obj"))), "--export.to is ('ply', 'obj')"),
    ],
)
def test_options_from_python_are_checked_too(options, words):
    with pytest.raises(OptionsError) as refused:
        pipeline.check_options(options, ("frames", "poses", "align", "export"))
    assert words in str(refused.value)


def test_defaults_pass_their_own_check():
    pipeline.check_options(pipeline.Options(), pipeline.BUILT)


def test_scene_that_is_none_and_no_recording(capsys, tmp_path):
    assert "is no recon4d scene and no recording was given" in sentence(capsys, "run", "--out", tmp_path / "s")


def test_closed_output_is_no_bug(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "recon4d", "run", "nothing.mp4", "--out", str(tmp_path / "s"), "--until", "frames"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        preexec_fn=lambda: os.close(1),
    )
    assert done.returncode == 1
    assert "there is no nothing.mp4" in done.stderr


def test_a_wrong_option_of_a_verb_that_is_no_stage_is_named_as_it_is_typed(tmp_path):
    from recon4d.stages.view import ViewOptions, start_view

    with pytest.raises(OptionsError, match="view: --max-points is 'many', int is expected"):
        start_view(Workspace.create(tmp_path / "s"), ViewOptions(max_points="many"))

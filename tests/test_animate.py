"""`recon4d animate`: a photograph becomes a scene folder that every exporter reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lake import lake, write_lake

from recon4d.errors import InputError, OptionsError, WorkspaceError
from recon4d.formats.arrays import read_arrays
from recon4d.formats.pictures import read_rgb, write_picture
from recon4d.scene.trajectory import PoseOrigin
from recon4d.stages import export
from recon4d.stages.animate import AnimateOptions, motion_of, parse_direction, run_animate
from recon4d.stages.depth_options import DepthOptions
from recon4d.stages.export_options import ExportOptions
from recon4d.workspace import Workspace

FRAMES = 6


def options_in(folder: Path, **more: object) -> AnimateOptions:
    picture, depth = write_lake(folder)
    given = {"frames": FRAMES, "fps": 12.0, "depth": DepthOptions(path=depth)} | more
    return AnimateOptions(picture=picture, out=folder / "scene", **given)


def with_mask(folder: Path, direction: str = "0.6,0.3", **more: object) -> AnimateOptions:
    water = lake()[2] == 2
    write_picture(folder / "mask.png", np.where(water, 255, 0).astype(np.uint8))
    return options_in(folder, mask=folder / "mask.png", direction=direction, **more)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, AnimateOptions, list[str]]:
    options = with_mask(tmp_path_factory.mktemp("lake"))
    lines = run_animate(options)
    return Workspace(options.out), options, lines


def test_the_scene_is_whole_and_stands_still(made) -> None:
    workspace, _, lines = made
    scene = workspace.scene()
    assert len(scene.names) == FRAMES
    assert set(scene.trajectory.origin) == {PoseOrigin.STATIC}
    assert scene.metres_per_unit is None
    assert any("not known" in line for line in lines)
    assert np.diff(scene.trajectory.timestamps_s) == pytest.approx(1 / 12)
    assert scene.trajectory.cameras[0].fx == pytest.approx(80 / np.tan(np.radians(27.5)))
    motion = workspace.motion(scene.names[2])
    moving = int(motion.mask.sum())
    assert len(scene.static) + moving == 160 * 120
    # The fade at the border keeps most of the water in the picture: the number of points hardly changes.
    counts = [len(scene.moving(name)) for name in scene.names]
    assert counts[0] == moving
    assert min(counts) > 0.9 * moving
    assert (workspace.unit_dir("animate") / "loop.mp4").stat().st_size > 1000
    assert not (workspace.unit_dir("animate") / "picture").exists()
    assert len(workspace.sparse_model()) == 0


def test_the_first_picture_is_the_photograph(made) -> None:
    workspace, options, _ = made
    first = workspace.picture("000000").astype(int)
    assert np.abs(first - read_rgb(options.picture)).mean() < 2.5  # JPEG of noise
    assert np.array_equal(read_rgb(workspace.unit_dir("animate") / "photograph.png"), read_rgb(options.picture))


def test_depth_and_flow_are_those_of_the_photograph(made) -> None:
    workspace, _, _ = made
    _, z, kind = lake()
    mesh = workspace.depth_mesh("000003")
    near = 1 / mesh.surface.depth
    nearness = (1 / z - 1 / z.max()) / (1 / z.min() - 1 / z.max())
    assert near == pytest.approx(np.maximum(nearness, 0.01), abs=1e-3)
    camera, motion, flow = workspace.trajectory().cameras[0], workspace.motion("000003"), workspace.scene_flow("000003")
    row, column = 110, 40
    assert motion.flow_next[row, column] == pytest.approx([0.6, 0.3], abs=1e-3)
    way = mesh.surface.depth[row, column] * np.array([0.6 / camera.fx, 0.3 / camera.fy, 0])
    assert flow.next[row, column] == pytest.approx(way, rel=2e-3)
    assert flow.prev[row, column] == pytest.approx(-way, rel=2e-3)
    assert (flow.next[kind == 1] == 0).all()
    assert np.isnan(workspace.scene_flow("000000").prev[row, column]).all()
    assert np.isnan(workspace.scene_flow("000005").next[row, column]).all()


def test_moving_points_keep_their_depth_and_follow_the_field(made) -> None:
    workspace, _, _ = made
    camera = workspace.trajectory().cameras[0]
    start, later = (workspace.moving_cloud(name) for name in ("000000", "000001"))
    assert set(np.round(later.points[:, 2], 5)) <= set(np.round(start.points[:, 2], 5))
    shown = min(len(start), len(later))
    assert shown > 0.95 * len(start)
    # In the upper left no point leaves the picture or enters it: both clouds begin with the same pixels.
    moved = (camera.project(later.points[:200]) - camera.project(start.points[:200])) / [0.6, 0.3]
    assert np.abs(moved).max() < 5.1  # five steps back, or one onward
    onward = moved[:, 0] >= 0
    assert 0.7 < onward.mean() < 0.95  # the chance is 5 / 6


def test_exporters_take_the_scene(made) -> None:
    workspace, _, _ = made
    record = export.run(workspace, ExportOptions(to=("ply", "glb", "tum"), mesh_stride=4))
    folder = workspace.unit_dir("export")
    assert record.summary["frames"] == FRAMES
    names = json.loads((folder / "manifest.json").read_text())["files"]
    assert any(name.endswith("scene.glb") for name in names)
    assert any(name.startswith("ply/") for name in names)


def test_after_an_export_nothing_counts_as_out_of_date(made) -> None:
    from recon4d.pipeline import recorded_options, run_one, stale_units

    workspace, options, _ = made
    run_one(workspace, "export", ExportOptions(to=("tum",)))
    assert stale_units(workspace) == {}
    assert recorded_options(workspace).export.to == ("tum",)
    text = (workspace.root / "options.toml").read_text(encoding="utf-8")
    run_animate(options)
    assert (workspace.root / "options.toml").read_text(encoding="utf-8") == text


def test_run_does_not_take_the_scene_away(tmp_path: Path) -> None:
    from recon4d.errors import PosesError
    from recon4d.pipeline import run

    options = with_mask(tmp_path, frames=3)
    run_animate(options)
    with pytest.raises(PosesError, match="only one frame"):
        run(None, options.out)
    assert len(Workspace(options.out).scene().names) == 3


def test_nothing_is_made_twice_and_other_options_make_it_anew(made, tmp_path: Path) -> None:
    workspace, options, _ = made
    before = {unit: workspace.record(unit) for unit in ("animate", "poses", "fuse")}
    run_animate(options)
    assert {unit: workspace.record(unit) for unit in before} == before
    other = with_mask(tmp_path, frames=3)
    run_animate(other)
    run_animate(replace(other, frames=4))
    assert len(Workspace(other.out).scene().names) == 4


def test_the_depth_of_the_unit_has_no_strange_arrays(made) -> None:
    workspace, _, _ = made
    arrays = read_arrays(workspace.unit_dir("animate") / "surface.npz")
    assert arrays["valid"].all()
    assert arrays["depth"].min() == pytest.approx(1.0)


def test_a_file_of_motion_is_scaled_to_the_picture(tmp_path: Path) -> None:
    flow = np.zeros((60, 80, 2), dtype=np.float32)
    flow[:, 40:] = [0.5, 0.25]
    flow[0] = np.nan
    np.save(tmp_path / "flow.npy", flow)
    options = options_in(tmp_path, motion=str(tmp_path / "flow.npy"))
    motion, _ = motion_of(options, *lake()[:2])
    assert motion[60, 120] == pytest.approx([1.0, 0.5])
    assert not motion[:, :70].any()
    assert np.isfinite(motion).all()
    np.save(tmp_path / "flow.npy", flow[:30])
    with pytest.raises(InputError, match="proportion"):
        motion_of(options, *lake()[:2])


def test_auto_finds_the_lake_or_says_how_to_help(tmp_path: Path) -> None:
    picture, z, kind = lake(320, 240)
    options = options_in(tmp_path)
    motion, found = motion_of(options, picture, z)
    assert motion[kind == 0, 0].max() > 0
    assert motion[kind == 2, 1].max() > 0
    assert len(found) == 2
    grey = np.full_like(picture, 90)
    with pytest.raises(InputError, match="--mask"):
        motion_of(options, grey, np.full_like(z, 5))


def test_directions_are_pixels_or_an_angle() -> None:
    assert parse_direction("0.5,-1") == pytest.approx([0.5, -1])
    assert parse_direction("90deg,2") == pytest.approx([0, -2], abs=1e-9)
    for bad in ("", "left", "1", "1,2,3", "0,0", "nan,1"):
        with pytest.raises(OptionsError, match="--direction"):
            parse_direction(bad)


def test_what_cannot_work_is_said_in_a_sentence(tmp_path: Path) -> None:
    good = with_mask(tmp_path)
    refused = [
        (replace(good, depth=DepthOptions()), OptionsError, "--depth.path"),
        (replace(good, picture=tmp_path / "none.png"), InputError, "none.png"),
        (replace(good, direction=None), OptionsError, "--direction"),
        (replace(good, mask=None), OptionsError, "--mask"),
        (replace(good, frames=1), OptionsError, "--frames"),
        (replace(good, motion="flow.npy"), OptionsError, "one of them"),
    ]
    for options, kind, words in refused:
        with pytest.raises(kind, match=words):
            run_animate(options)
    assert not good.out.exists()
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"broken\.png"):
        run_animate(replace(good, picture=tmp_path / "broken.png"))


def test_the_scene_of_a_recording_is_not_overwritten(tmp_path: Path) -> None:
    from fabricated import fabricate

    fabricate(tmp_path / "scene")
    with pytest.raises(WorkspaceError, match="another --out"):
        run_animate(with_mask(tmp_path))

"""Several depths of one scene: which are made, which are redone, which are read; and options within options."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import tyro
from true_scene import COUNT, Made, publish

from recon4d import cli, pipeline
from recon4d.depth.windows import counted_windows, parse_windows
from recon4d.errors import DepthError, InputError, OptionsError, WorkspaceError
from recon4d.formats.frames_table import write_frames_table
from recon4d.formats.options_toml import options_from_table, read_options_toml, write_options_toml
from recon4d.formats.windows_json import read_windows, write_overlap, write_windows
from recon4d.poses.lens import Lens
from recon4d.scene.recording import Frame
from recon4d.scene.windows import OverlapPair
from recon4d.stages import depth
from recon4d.stages.common import BY_CONTENT, changed_flags, check_range, check_types, options_as_json, stage_key
from recon4d.stages.depth import sample_overlap, units_read_by_align
from recon4d.stages.depth_files import MoreDepth
from recon4d.stages.depth_more import parse_more
from recon4d.stages.depth_options import DepthOptions
from recon4d.stages.poses import PosesOptions
from recon4d.workspace import RECORD, StageRecord, Workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    return Made(tmp_path_factory.mktemp("sources"))


@pytest.fixture(autouse=True)
def no_preview(monkeypatch):
    """These scenes have no pictures to show."""
    monkeypatch.setattr(depth, "_preview", lambda *_: None)


@pytest.fixture
def workspace(made, tmp_path) -> Workspace:
    """A scene of seven 64x48 frames with poses; its options know a recording."""
    workspace = made.workspace(tmp_path / "scene")
    write_summary(workspace, "frames", frames=COUNT, width=64, height=48, source_frames=3 * COUNT)
    write_summary(workspace, "poses", frames=COUNT, registered=COUNT, source="import")
    write_summary(workspace, "align", frames=COUNT, residual_median=None, metres_per_unit=None)
    (workspace.root / "options.toml").write_text('[input]\npath = "clip.mp4"\n')
    return workspace


def write_summary(workspace: Workspace, unit: str, **summary: object) -> None:
    record = dataclasses.replace(workspace.record(unit), summary=summary)
    (workspace.unit_dir(unit) / RECORD).write_text(json.dumps(dataclasses.asdict(record)))


def stack(path: Path, made: Made, gain: float = 1.0, rows: int = COUNT, **arrays: object) -> Path:
    """The true metric depth, times a gain."""
    values = np.stack([gain * frame.depth for frame in made.frames]).astype(np.float32)
    np.savez(path, depth=values[np.arange(rows) % COUNT], **arrays)
    return path


def seconds_made(workspace: Workspace) -> dict[str, int]:
    return {
        unit: (workspace.unit_dir(unit) / RECORD).stat().st_mtime_ns for unit in pipeline.units_of(workspace, "depth")
    }


# -- what --depth.more says ----------------------------------------------------------------------------------------


def test_text_of_a_further_depth():
    found = parse_more(
        ["rgbd:metric_z:sensor:0.0002=/a/b=c:d", "model=/m.npz", "st-2_x:sensor=x"], taken=["precomputed"]
    )
    assert found == {
        "rgbd": MoreDepth(Path("/a/b=c:d"), "metric_z", True, 0.0002),
        "model": MoreDepth(Path("/m.npz"), "auto", False, None),
        "st-2_x": MoreDepth(Path("x"), "auto", True, None),
    }


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["rgbd"], r"'rgbd' is not of the form NAME\[:KIND\]\[:sensor\]\[:METRES\]=PATH"),
        (["rgbd="], "is not of the form"),
        (["=x"], "has the name ''"),
        (["a/b=x"], "has the name 'a/b', at most 64 letters"),
        (["..=x"], r"has the name '\.\.'"),
        (["-a=x"], "the first no sign"),
        ([f"{'a' * 65}=x"], "at most 64"),
        (["a:metric=x"], r"has the word 'metric', a kind \(auto, scene_z, metric_z"),
        (["a:=x"], "has the word ''"),
        (["a:0=x"], "has the word '0'"),
        (["a:nan=x"], "has the word 'nan'"),
        (["a:metric_z:scene_z=x"], "two things about kind"),
        (["a:sensor:sensor=x"], "two things about sensor"),
        (["a=x", "A=y"], "names 'A' twice"),
        (["Precomputed=x"], "that is a depth source itself"),
    ],
)
def test_text_of_another_form_is_refused(texts, said):
    with pytest.raises(OptionsError, match=rf"^depth: --depth\.more .*{said}"):
        parse_more(texts, taken=["precomputed"])


def test_further_depth_that_is_not_there_is_refused_before_any_work(made, workspace, tmp_path):
    path = stack(tmp_path / "d.npz", made)
    with pytest.raises(InputError, match=r"no\.npz was not found: correct the path of 'rgbd' in --depth\.more"):
        depth.run(workspace, DepthOptions(path=path, more=(f"rgbd={tmp_path / 'no.npz'}",)))
    assert workspace.depth_sources() == []


# -- what is made, redone and read ---------------------------------------------------------------------------------


def test_every_depth_has_its_own_kind_and_its_own_numbers(made, workspace, tmp_path):
    relative = tmp_path / "relative.npz"
    np.savez(relative, disparity=np.stack([1 / frame.depth for frame in made.frames]))
    for frame in made.frames:
        (tmp_path / "rgbd").mkdir(exist_ok=True)
        np.save(tmp_path / "rgbd" / f"{frame.name}.npy", np.rint(5000 * frame.depth).astype(np.uint16))
    records = depth.run(
        workspace,
        DepthOptions(
            path=relative, more=(f"rgbd:sensor:0.0002={tmp_path / 'rgbd'}", f"model={stack(tmp_path / 'm.npz', made)}")
        ),
    )
    assert [record.unit for record in records] == ["depth/precomputed", "depth/rgbd", "depth/model"]
    assert [record.summary["kind"] for record in records] == ["affine_disparity", "metric_z", "metric_z"]
    assert [record.summary["sensor"] for record in records] == [False, True, False]
    assert workspace.depth_sources() == ["precomputed", "rgbd", "model"]  # the primary one first
    name, true = made.frames[3].name, made.frames[3].depth
    sensor = workspace.depth_map(name, "rgbd")
    np.testing.assert_allclose(sensor.values, true, atol=1.01e-4)
    assert (sensor.provenance == 0).all()
    np.testing.assert_allclose(workspace.depth_map(name, "model").values, true, rtol=1e-6)
    np.testing.assert_allclose(workspace.depth_map(name, "precomputed").values, 1 / true, rtol=1e-6)


def test_only_the_depth_that_changed_is_redone(made, workspace, tmp_path):
    first, second = stack(tmp_path / "a.npz", made), stack(tmp_path / "b.npz", made, 2.0)
    depth.run(workspace, DepthOptions(path=first, more=(f"b={second}",)))
    before = seconds_made(workspace)
    moved = stack(tmp_path / "elsewhere.npz", made, 2.0)
    depth.run(workspace, DepthOptions(path=first, more=(f"b={moved}",)))  # other path, same bytes
    assert seconds_made(workspace) == before
    stack(moved, made, 3.0)
    depth.run(workspace, DepthOptions(path=first, more=(f"b={moved}",)))
    after = seconds_made(workspace)
    assert after["depth/precomputed"] == before["depth/precomputed"]
    assert after["depth/b"] > before["depth/b"]
    frame = made.frames[0]
    np.testing.assert_allclose(workspace.depth_map(frame.name, "b").values, 3 * frame.depth, rtol=1e-6)
    depth.run(workspace, DepthOptions(path=moved, more=(f"b={moved}",)))
    assert seconds_made(workspace)["depth/precomputed"] > after["depth/precomputed"]
    assert seconds_made(workspace)["depth/b"] == after["depth/b"]


def test_depth_no_longer_named_stays_and_is_not_read(made, workspace, tmp_path):
    first, second = stack(tmp_path / "a.npz", made), stack(tmp_path / "b.npz", made, 2.0)
    depth.run(workspace, DepthOptions(path=first, more=(f"b={second}",)))
    depth.run(workspace, DepthOptions(path=first))
    assert workspace.depth_sources() == ["precomputed"]
    assert workspace.idle_depth_sources() == ["b"]
    assert list(pipeline.idle_units(workspace)) == ["depth/b"]
    before = (workspace.unit_dir("depth/b") / RECORD).stat().st_mtime_ns
    depth.run(workspace, DepthOptions(path=first, more=(f"b={second}",)))  # named again: nothing to do
    assert (workspace.unit_dir("depth/b") / RECORD).stat().st_mtime_ns == before
    assert workspace.depth_sources() == ["precomputed", "b"]


def test_scene_without_a_list_of_sources_counts_all_that_are_done(workspace):
    publish(workspace, "depth/one", lambda folder: None)
    publish(workspace, "depth/two", lambda folder: None)
    assert workspace.depth_sources() == ["one", "two"]
    (workspace.root / "depth" / "sources.json").write_text("{ half")
    assert workspace.depth_sources() == ["one", "two"]
    workspace.put_in_force(["two", "gone"])
    assert workspace.depth_sources() == ["two"]


def test_message_about_a_further_depth_names_it_and_its_own_way_out(made, workspace, tmp_path):
    first, other = stack(tmp_path / "a.npz", made), stack(tmp_path / "b.npz", made, rows=5)
    with pytest.raises(
        DepthError, match=r"^depth: rgbd: there are 5 frames of depth.*array 'names' in the npz"
    ) as caught:
        depth.run(workspace, DepthOptions(path=first, more=(f"rgbd={other}",)))
    assert "--depth.stride" not in str(caught.value)


def test_counting_of_the_primary_depth_is_not_that_of_the_others(made, workspace, tmp_path):
    names = np.array([frame.name for frame in made.frames])
    first = stack(tmp_path / "a.npz", made, rows=12)
    other = stack(tmp_path / "b.npz", made, names=names)
    records = depth.run(workspace, DepthOptions(path=first, offset=-2, more=(f"b={other}",)))
    assert "matched to the frames by source frame number, from -2 in steps of 1" in records[0].summary["remarks"]
    assert "matched to the frames by name" in records[1].summary["remarks"]


# -- what is announced ---------------------------------------------------------------------------------------------


class Heard:
    """A progress that keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def announced(workspace: Workspace, options: DepthOptions, stages=("depth", "align")) -> list[str]:
    heard = Heard()
    pipeline.announce(workspace, stages, pipeline.Options(depth=options), Path("clip.mp4"), heard)
    return heard.lines


def publish_align(workspace: Workspace, *sources: str, **options: object) -> None:
    """A finished align that read these depths, with the key its options give."""
    inputs = {unit: workspace.record(unit).key for unit in ["poses", *(f"depth/{name}" for name in sources)]}
    chosen = pipeline.AlignOptions(**options)
    module = pipeline._module("align")
    key = stage_key("align", module.VERSION, chosen, inputs, module.extra_key(workspace, "align", chosen))
    part = workspace.start("align", key)
    workspace.publish(part, StageRecord("align", 1, key, inputs, options_as_json(chosen)))


def test_unit_whose_own_options_did_not_change_is_not_announced(made, workspace, tmp_path):
    first, second = stack(tmp_path / "a.npz", made), stack(tmp_path / "b.npz", made, 2.0)
    options = DepthOptions(path=first, more=(f"b={second}", f"c={second}"))
    depth.run(workspace, options)
    publish_align(workspace, "precomputed", "b", "c")
    assert announced(workspace, options) == []
    more = (f"b:sensor={second}", f"c={second}")
    assert announced(workspace, dataclasses.replace(options, more=more)) == [
        "redoing depth/b, then align: changed: --depth.more"
    ]
    assert announced(workspace, dataclasses.replace(options, kind="scene_z")) == [
        "redoing depth/precomputed, then align: changed: --depth.kind"
    ]
    stack(second, made, 4.0)
    assert announced(workspace, options) == ["redoing depth/b, depth/c, then align: its input or the program changed"]


def test_align_is_announced_when_a_depth_comes_or_goes(made, workspace, tmp_path):
    first, second = stack(tmp_path / "a.npz", made), stack(tmp_path / "b.npz", made, 2.0)
    options = DepthOptions(path=first, more=(f"b={second}",))
    depth.run(workspace, options)
    publish_align(workspace, "precomputed", "b")
    assert "align" not in pipeline.stale_units(workspace)
    assert announced(workspace, DepthOptions(path=first)) == ["redoing align: depth/b no longer counts"]
    assert announced(workspace, dataclasses.replace(options, more=(*options.more, f"c={second}"))) == [
        "redoing align: depth/c came to it"
    ]
    depth.run(workspace, DepthOptions(path=first))
    assert pipeline.stale_units(workspace)["align"] == "depth/b no longer counts"
    assert "depth/b" not in pipeline.stale_units(workspace)  # idle, not to be brought up to date
    depth.run(workspace, dataclasses.replace(options, more=(f"b:sensor={second}",)))
    assert pipeline.stale_units(workspace)["align"] == "depth/b changed since"


def test_align_reads_the_primary_depth_first():
    assert units_read_by_align(["a", "b", "c"], None) == ("depth/a", "depth/b", "depth/c")
    assert units_read_by_align(["a", "b", "c"], "b") == ("depth/b", "depth/a", "depth/c")
    assert units_read_by_align([], None) == ()


# -- from the command line -----------------------------------------------------------------------------------------


def test_command_line_takes_several_and_repeated_and_keeps_them(made, workspace, tmp_path, monkeypatch, capsys):
    stack(tmp_path / "a.npz", made)
    stack(tmp_path / "b.npz", made, 2.0)
    monkeypatch.chdir(tmp_path)
    words = ["depth", "scene", "--path", "a.npz", "--more", "b=b.npz", "c:sensor=b.npz", "--more", "d:scene_z=b.npz"]
    assert cli.main(words) == 0
    recorded = read_options_toml(workspace.root / "options.toml")["depth"]["more"]
    b = (tmp_path / "b.npz").resolve()
    assert recorded == [f"b={b}", f"c:sensor={b}", f"d:scene_z={b}"]
    assert workspace.depth_sources() == ["precomputed", "b", "c", "d"]
    monkeypatch.chdir("/")
    capsys.readouterr()
    assert cli.main(["depth", str(workspace.root), "--sensor"]) == 0  # the others are kept and not redone
    said = capsys.readouterr().out
    assert "redoing depth/precomputed" in said
    assert said.count(": up to date") == 3
    info = shown(capsys, "info", workspace.root)
    for line in (
        "ok  depth/precomputed:",
        "ok  depth/b: 7 frames of kind metric_z",
        "ok  depth/d: 7 frames of kind scene_z",
    ):
        assert line in info
    assert cli.main(["depth", str(workspace.root), "--more"]) == 0  # none
    info = shown(capsys, "info", workspace.root)
    assert "old depth/b: 7 frames of kind metric_z (0 s); out of date: the depth options no longer name it" in info
    units = [record["unit"] for record in json.loads(shown(capsys, "info", workspace.root, "--json"))]
    assert units[-3:] == ["depth/b", "depth/c", "depth/d"]


def shown(capsys, *words: object) -> str:
    capsys.readouterr()
    assert cli.main([str(word) for word in words]) == 0
    return capsys.readouterr().out


def test_refused_further_depth_leaves_the_options_as_they_were(made, workspace, tmp_path, capsys):
    path = stack(tmp_path / "a.npz", made)
    assert cli.main(["depth", str(workspace.root), "--path", str(path)]) == 0
    before = (workspace.root / "options.toml").read_text()
    for text in ("rgbd", f"rgbd:metrisch={path}", f"rgbd={tmp_path}/none"):
        assert cli.main(["depth", str(workspace.root), "--more", text]) == 1
        error = capsys.readouterr().err
        assert error.startswith("recon4d: depth: ")
        assert error.count("\n") == 1
    assert (workspace.root / "options.toml").read_text() == before


# -- windows of a video model --------------------------------------------------------------------------------------

SEEN = 3 * COUNT  # frames the model saw; the scene chose every third


@pytest.fixture
def sparse(made, workspace) -> Workspace:
    """The same scene with every third of the source's frames chosen."""
    frames = [Frame(f.name, 3 * i, "clip.mp4", f.timestamp_s, 0) for i, f in enumerate(made.frames)]
    write_frames_table(workspace.unit_dir("frames") / "frames.csv", frames)
    return workspace


def test_count_of_windows_by_hand():
    assert counted_windows(200, 110, 25) == [(0, 109), (85, 194), (170, 199)]
    assert counted_windows(195, 110, 25) == [(0, 109), (85, 194)]
    assert counted_windows(110, 110, 25) == [(0, 109)]
    assert counted_windows(20, 110, 25) == [(0, 19)]
    assert counted_windows(7, 3, 0) == [(0, 2), (3, 5), (6, 6)]


@pytest.mark.parametrize("text", ["", "110", "110:", "a:b", "25:110", "25:25", "-1:-2", "110:25:3", "1.5:1", "²:1"])
def test_windows_of_another_form_are_refused(text):
    assert parse_windows("110:25") == (110, 25)
    with pytest.raises(OptionsError, match=r"^depth: --depth\.windows is .*LENGTH:OVERLAP"):
        parse_windows(text)


def test_windows_are_counted_in_the_frames_the_model_saw(made, sparse, tmp_path):
    # Rows 0-8, 6-14, 12-20 of 21; the scene has rows 0, 3, ... 18.
    path = stack(tmp_path / "d.npz", made, rows=SEEN)
    record = depth.run(sparse, DepthOptions(path=path, windows="9:3"))[0]
    names = sparse.trajectory().names
    found = sparse.depth_windows("precomputed")
    assert found.windows == (names[0:3], names[2:5], names[4:7])
    assert found.shared(0) == (names[2],)
    assert found.overlap(names[2]) is None
    assert record.summary["windows"] == 3
    assert "the model worked in 3 windows of up to 9 frames" in record.summary["remarks"]
    written = json.loads((sparse.unit_dir("depth/precomputed") / "windows.json").read_text())
    assert written == {"windows": [[names[0], names[2]], [names[2], names[4]], [names[4], names[6]]]}
    depth.run(sparse, DepthOptions(path=path))
    assert sparse.depth_windows("precomputed") is None


def with_overlaps(made: Made, path: Path, **changes: object) -> Path:
    """21 rows in windows 0-8, 6-14, 12-20 with both values for rows 6-8 and 12-14: row / 100 and row / 10."""
    rows = np.array([6, 7, 8, 12, 13, 14])
    grids = np.ones((len(rows), 12, 16), dtype=np.float32) * rows[:, None, None]
    arrays = {
        "windows": np.array([[0, 8], [6, 14], [12, 20]]),
        "overlap_rows": rows,
        "overlap_earlier": grids / 100,
        "overlap_later": grids / 10,
    }
    arrays |= changes
    return stack(path, made, rows=SEEN, **{name: array for name, array in arrays.items() if array is not None})


def test_overlaps_of_the_file_reach_the_frames_they_belong_to(made, sparse, tmp_path):
    earlier = np.ones((6, 12, 16), dtype=np.float32) * np.array([6, 7, 8, 12, 13, 14])[:, None, None] / 100
    earlier[0, :6] = np.nan
    path = with_overlaps(made, tmp_path / "d.npz", overlap_earlier=earlier)
    depth.run(sparse, DepthOptions(path=path, kind="affine_disparity", more=(f"b:affine_disparity={path}",)))
    names = sparse.trajectory().names
    for source in ("precomputed", "b"):
        windows = sparse.depth_windows(source)
        assert windows.windows == (names[0:3], names[2:5], names[4:7])
        pair = windows.overlap(names[2])  # row 6
        assert pair.valid.shape == (12, 16)
        assert not pair.valid[:6].any()
        np.testing.assert_allclose(pair.earlier[pair.valid], 0.06)
        np.testing.assert_allclose(pair.later[pair.valid], 0.6)
        np.testing.assert_allclose(windows.overlap(names[4]).later, 1.2)  # row 12
        assert [name for name in names if windows.overlap(name) is not None] == [names[2], names[4]]
    got_earlier, got_later, valid = sample_overlap(pair, np.array([0.5, 0.5, 1.5]), np.array([0.9, 0.1, 0.5]))
    np.testing.assert_array_equal(valid, [True, False, False])
    assert (got_earlier[0], got_later[0]) == (pytest.approx(0.06), pytest.approx(0.6))


def test_overlaps_are_undistorted_as_the_depth_is(made, tmp_path):
    lens = Lens("SIMPLE_RADIAL", 64, 48, (60.0, 32.0, 24.0, -0.2))
    workspace = made.workspace(tmp_path / "scene", lens=lens)
    write_summary(workspace, "frames", frames=COUNT, width=64, height=48, source_frames=COUNT)
    values = np.stack([1 / frame.depth for frame in made.frames]).astype(np.float32)
    path = tmp_path / "d.npz"
    np.savez(
        path,
        disparity=values,
        windows=np.array([[0, 3], [3, 6]]),
        overlap_rows=np.array([3]),
        overlap_earlier=2 * values[3:4],
        overlap_later=3 * values[3:4],
    )
    depth.run(workspace, DepthOptions(path=path))
    name = workspace.trajectory().names[3]
    own, pair = workspace.depth_map(name, "precomputed"), workspace.depth_windows("precomputed").overlap(name)
    assert np.abs(own.values - values[3])[own.valid].max() > 0.01  # it was indeed bent
    np.testing.assert_array_equal(pair.valid, own.valid)
    np.testing.assert_allclose(pair.earlier[own.valid], 2 * own.values[own.valid], rtol=1e-5)
    np.testing.assert_allclose(pair.later[own.valid], 3 * own.values[own.valid], rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"windows": np.array([0, 8])}, r"'windows' in .* has shape \(2,\)"),
        ({"windows": np.array([[0.0, 8.5]])}, "type float64, whole numbers"),
        ({"windows": np.array([[0, 21]])}, "are not ranges of its 21 rows"),
        ({"windows": np.array([[5, 3]])}, "are not ranges"),
        ({"windows": np.array([[6, 14], [0, 8]])}, "in the order in which they begin"),
        ({"overlap_rows": np.array([6, 6, 8, 12, 13, 14])}, "no list of different row numbers"),
        ({"overlap_rows": np.array([6, 7, 9, 12, 13, 14])}, "row 9 of 'overlap_rows' in .* does not lie in two"),
        ({"overlap_rows": np.array([6, 7])}, "all three belong together"),
        ({"overlap_later": np.ones((6, 5, 6))}, "all three belong together"),
        ({"overlap_later": None}, "has no array 'overlap_later'"),
        ({"overlap_earlier": np.ones((6, 9, 3)), "overlap_later": np.ones((6, 9, 3))}, "3x9 pixels.*proportion"),
    ],
)
def test_windows_that_do_not_fit_together_are_refused(made, sparse, tmp_path, changes, said):
    path = with_overlaps(made, tmp_path / "d.npz", **changes)
    with pytest.raises((DepthError, InputError), match=f"^depth: .*{said}"):
        depth.run(sparse, DepthOptions(path=path))


def test_windows_over_rows_in_another_order_are_refused(made, workspace, tmp_path):
    names = np.array([frame.name for frame in made.frames])[::-1]
    path = stack(tmp_path / "d.npz", made, names=names)
    depth.run(workspace, DepthOptions(path=path))
    with pytest.raises(DepthError, match="do not follow the order of the frames"):
        depth.run(workspace, DepthOptions(path=path, windows="4:2"))


def test_windows_written_and_read_back(tmp_path):
    names = ("a", "b", "c", "d")
    assert read_windows(tmp_path, names) is None
    write_windows(tmp_path, [names[:3], names[1:]])
    pair = OverlapPair(np.full((2, 3), 0.5), np.full((2, 3), 0.7), np.eye(2, 3) > 0)
    write_overlap(tmp_path, "b", pair)
    found = read_windows(tmp_path, names)
    assert found.windows == (("a", "b", "c"), ("b", "c", "d"))
    assert found.shared(0) == ("b", "c")
    assert found.overlap("c") is None
    for got, written in zip(found.overlap("b"), pair):
        np.testing.assert_array_equal(got, written.astype(got.dtype))


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"windows": []}', '{"windows": [["a"]]}', '{"windows": [["a", "z"]]}', '{"windows": [["b", "a"]]}'],
)
def test_damaged_list_of_windows_is_told(made, workspace, tmp_path, text):
    (tmp_path / "windows.json").write_text(text)
    with pytest.raises(InputError, match=r"windows\.json"):
        read_windows(tmp_path, ("a", "b"))
    depth.run(workspace, DepthOptions(path=stack(tmp_path / "d.npz", made), windows="4:2"))
    (workspace.unit_dir("depth/precomputed") / "windows.json").write_text(text)
    with pytest.raises(WorkspaceError, match="is damaged"):
        workspace.depth_windows("precomputed")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"earlier": np.ones((2, 2)), "valid": np.ones((2, 2), dtype=bool)}, "no array 'later'"),
        ({"earlier": np.ones((2, 2)), "later": np.ones((2, 3)), "valid": np.ones((2, 2), dtype=bool)}, "one .h, w."),
        (
            {"earlier": np.full((2, 2), np.nan), "later": np.ones((2, 2)), "valid": np.ones((2, 2), dtype=bool)},
            "not finite",
        ),
        ({"earlier": np.ones((2, 2)), "later": np.ones((2, 2)), "valid": np.ones((2, 2))}, "valid is not bool"),
    ],
)
def test_damaged_overlap_is_told(tmp_path, arrays, said):
    write_windows(tmp_path, [("a", "b")])
    (tmp_path / "overlap").mkdir()
    np.savez(tmp_path / "overlap" / "a.npz", **arrays)
    with pytest.raises(InputError, match=said):
        read_windows(tmp_path, ("a", "b")).overlap("a")


# -- options within options ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InnerOptions:
    """A part of the options with its own prefix."""

    marker: float | None = None
    """Side in metres."""
    near_points: tuple[tuple[float, float], ...] = ()
    """Pixels."""
    file: Path | None = field(default=None, metadata=BY_CONTENT)
    """A file."""


@dataclass(frozen=True)
class OuterOptions:
    """Options of a stage."""

    step: float = 0.5
    """Step."""
    metric: Annotated[InnerOptions, tyro.conf.arg(name="metric", prefix_name=False)] = field(
        default_factory=InnerOptions
    )


def test_inner_options_are_written_as_a_table_and_read_back(tmp_path):
    options = OuterOptions(metric=InnerOptions(0.1, ((1.0, 2.0), (3.0, 4.5)), Path("/x")))
    path = tmp_path / "options.toml"
    write_options_toml(path, {"align": options_as_json(options), "mesh": {"a": 1}})
    assert "[align.metric]\nmarker = 0.1\n" in path.read_text()
    assert options_from_table(OuterOptions, read_options_toml(path)["align"], path) == options
    assert options_from_table(OuterOptions, {}, path) == OuterOptions()
    assert json.loads(json.dumps(options_as_json(options)))["metric"]["marker"] == 0.1
    with pytest.raises(WorkspaceError, match="the value '3' for 'metric', a table is expected"):
        options_from_table(OuterOptions, {"metric": 3}, path)
    with pytest.raises(WorkspaceError, match="'markr', which InnerOptions does not have"):
        options_from_table(OuterOptions, {"metric": {"markr": 3}}, path)


def test_inner_options_enter_the_key_and_files_by_their_content(tmp_path):
    def key(**inner: object) -> str:
        return stage_key("align", 1, OuterOptions(metric=InnerOptions(**inner)), {})

    (tmp_path / "a").write_text("one")
    (tmp_path / "b").write_text("one")
    (tmp_path / "c").write_text("two")
    assert len({key(), key(marker=0.1), key(marker=0.2), key(file=tmp_path / "a"), key(file=tmp_path / "c")}) == 5
    assert key(file=tmp_path / "a") == key(file=tmp_path / "b")


def test_changed_inner_option_is_named_as_it_is_typed():
    before = options_as_json(OuterOptions())
    assert changed_flags("align", OuterOptions(), before) == []
    assert changed_flags("align", OuterOptions(1.0, InnerOptions(0.1, ((1.0, 2.0),))), before) == [
        "--align.step",
        "--metric.marker",
        "--metric.near-points",
    ]
    assert changed_flags("align", OuterOptions(), {"step": 0.5}) == []  # a record older than the inner options
    assert changed_flags("align", OuterOptions(metric=InnerOptions(0.1)), {"step": 0.5}) == ["--metric.marker"]


@pytest.mark.parametrize(
    ("inner", "said"),
    [
        (InnerOptions(marker="big"), r"--metric\.marker is 'big', float \| None is expected"),
        (InnerOptions(near_points=((1.0, 2.0, 3.0),)), r"--metric\.near-points is .* is expected"),
        (3, r"--align\.metric is 3, InnerOptions is expected"),
    ],
)
def test_inner_option_of_another_type_is_refused(inner, said):
    check_types("align", OuterOptions(metric=InnerOptions(1, [(1, 2.5)])))
    with pytest.raises(OptionsError, match=rf"^align: {said}"):
        check_types("align", OuterOptions(metric=inner))


def test_inner_option_out_of_range_is_named_as_it_is_typed():
    with pytest.raises(OptionsError, match=r"^align: --metric\.marker-side is -1, more than 0 is expected"):
        check_range("align", "metric.marker_side", -1, above=0)


def test_inner_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = pipeline.stage_with_absolute_paths(OuterOptions(metric=InnerOptions(file="a.txt")))
    assert options.metric.file == (tmp_path / "a.txt").resolve()


@pytest.mark.parametrize("words", [["--marker", "0.1"], ["--metric.marker", "0.1"], ["--metric.marker=0.1"]])
def test_verb_of_one_stage_takes_both_forms(workspace, monkeypatch, words):
    given = given_to_align(workspace, monkeypatch, "align", str(workspace.root), *words)
    assert given == OuterOptions(metric=InnerOptions(0.1))


def test_run_takes_the_long_form_and_repeated_flags(workspace, monkeypatch):
    words = ["--metric.marker", "0.1", "--metric.near-points", "1", "2", "--metric.near_points", "3", "4"]
    given = given_to_align(workspace, monkeypatch, "run", "--out", str(workspace.root), *words, "--align.step", "2")
    assert given == OuterOptions(2.0, InnerOptions(0.1, ((1.0, 2.0), (3.0, 4.0))))


def given_to_align(workspace: Workspace, monkeypatch, *words: str) -> OuterOptions:
    """What the command line makes of words, where align has the outer options."""
    given = []
    kinds = {"align": OuterOptions, "poses": PosesOptions}
    fields = [(name, kind, kind()) for name, kind in kinds.items()]
    options = dataclasses.make_dataclass("Options", fields, frozen=True)
    monkeypatch.setattr(pipeline, "OPTIONS", kinds)
    monkeypatch.setattr(pipeline, "Options", options)
    monkeypatch.setattr(pipeline, "run_one", lambda workspace, stage, options, progress: given.append(options))

    def run(source, out, *, until, progress, options, passes):
        given.append(options.align)
        return workspace

    monkeypatch.setattr(pipeline, "run", run)
    monkeypatch.setattr(cli, "_print_fits", lambda workspace: None)
    assert cli.main(list(words)) == 0
    return given[0]

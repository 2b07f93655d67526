"""The stage depth by multi-view stereo: which frames help, resume, threads, masks, and clips that show no depth."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from true_scene import COUNT, TRUTH_FROM_SCENE, Made, posed_scene

from recon4d import pipeline
from recon4d.depth import multi_view
from recon4d.errors import DepthError, InputError, OptionsError
from recon4d.formats.arrays import write_depth_map
from recon4d.formats.pictures import write_picture
from recon4d.scene.depth import DepthKind, Provenance
from recon4d.scene.trajectory import PoseOrigin
from recon4d.stages import align, depth, depth_mvs, working_pictures
from recon4d.stages.common import stage_key
from recon4d.stages.depth import unit_options
from recon4d.stages.depth_options import DepthOptions, source_names
from recon4d.workspace import RECORD, Workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    return Made(tmp_path_factory.mktemp("mvs"))


@pytest.fixture
def workspace(made, tmp_path) -> Workspace:
    return posed_scene(made, tmp_path / "scene")


class Heard:
    """A progress that keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    bar = pipeline.Silent.bar


def files_of(workspace: Workspace) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(workspace.unit_dir("depth/mvs").glob("*.npz"))}


# -- which source --------------------------------------------------------------------------------------------------


def test_auto_is_what_there_is(tmp_path):
    assert source_names(DepthOptions()) == ["mvs"]
    assert source_names(DepthOptions(path=tmp_path)) == ["precomputed"]
    assert source_names(DepthOptions(source="precomputed, mvs", path=tmp_path)) == ["precomputed", "mvs"]
    assert list(unit_options(DepthOptions(more=("rgbd=x",)))) == ["depth/mvs", "depth/rgbd"]


def test_key_of_files_knows_neither_auto_nor_the_options_of_stereo(tmp_path):
    path = tmp_path / "d.npz"
    path.write_bytes(b"x")

    def key(unit: str, **options: object) -> str:
        own = unit_options(DepthOptions(path=path, **options))[unit]
        return stage_key(unit, 1, own, {})

    named = key("depth/precomputed", source="precomputed")
    assert key("depth/precomputed") == named
    assert key("depth/precomputed", source="mvs,precomputed", max_size=640, complete=False, workers=3) == named
    assert key("depth/precomputed", kind="scene_z") != named
    stereo = key("depth/mvs", source="mvs")
    assert key("depth/mvs", source="precomputed,mvs", kind="scene_z", workers=2) == stereo
    assert key("depth/mvs", source="mvs", max_size=640) != stereo
    assert key("depth/mvs", source="mvs", complete=False) != stereo


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (DepthOptions(source="precomputed"), OptionsError, r"needs --depth\.path.*--depth\.source mvs"),
        (DepthOptions(source="mvs,precomputed"), OptionsError, r"needs --depth\.path"),
        (DepthOptions(path=Path("/no/such")), InputError, "/no/such was not found"),
        (DepthOptions(source="magic"), OptionsError, "no source 'magic'; known are auto, precomputed, mvs"),
        (DepthOptions(source="auto,mvs"), OptionsError, "one twice"),
        (DepthOptions(max_size=63), OptionsError, r"--depth\.max-size is 63, at least 64 and at most 4096 is expected"),
        (DepthOptions(workers=0), OptionsError, r"--depth\.workers is 0, at least 1 is expected"),
        (DepthOptions(more=("MVS=/x",)), OptionsError, "that is a depth source itself"),
        (DepthOptions(more=("auto=/x",)), OptionsError, "that is a depth source itself"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(options, error, said):
    with pytest.raises(error, match=f"^depth: .*{said}"):
        depth.check_options(options)


def test_choice_is_said(workspace, made, tmp_path):
    heard = Heard()
    depth.run(workspace, DepthOptions(), heard)
    assert heard.lines[0].startswith("no depth was given (--depth.path): ")
    heard = Heard()
    np.savez(tmp_path / "d.npz", depth=np.stack([frame.depth for frame in made.frames]))
    depth.run(workspace, DepthOptions(source="mvs", path=tmp_path / "d.npz"), heard)
    assert heard.lines[:2] == [
        "--depth.path is not read by --depth.source mvs; precomputed,mvs has both",
        "depth/mvs: up to date",
    ]


def announced(workspace: Workspace, options: DepthOptions) -> list[str]:
    heard = Heard()
    pipeline.announce(workspace, ("depth", "align"), pipeline.Options(depth=options), Path("clip.mp4"), heard)
    return heard.lines


def test_change_of_source_or_size_is_announced(made, workspace, tmp_path):
    np.savez(tmp_path / "d.npz", depth=np.stack([frame.depth for frame in made.frames]))
    given = DepthOptions(path=tmp_path / "d.npz")
    depth.run(workspace, DepthOptions())
    align.run(workspace, align.AlignOptions())
    assert announced(workspace, DepthOptions(workers=1)) == []
    assert announced(workspace, DepthOptions(max_size=100)) == [
        "redoing depth/mvs, then align: changed: --depth.max-size"
    ]
    assert announced(workspace, given) == ["redoing align: depth/precomputed came to it and depth/mvs no longer counts"]
    assert announced(workspace, replace(given, source="mvs,precomputed")) == [
        "redoing align: depth/precomputed came to it"
    ]
    depth.run(workspace, given)
    assert list(pipeline.idle_units(workspace)) == ["depth/mvs"]
    before = (workspace.unit_dir("depth/precomputed") / RECORD).stat().st_mtime_ns
    depth.run(workspace, replace(given, source="precomputed", complete=False))
    assert (workspace.unit_dir("depth/precomputed") / RECORD).stat().st_mtime_ns == before


# -- what is made --------------------------------------------------------------------------------------------------


def test_depth_is_that_of_the_scene_and_the_record_tells_how_it_came(made, workspace):
    (record,) = depth.run(workspace, DepthOptions())
    assert record.unit == "depth/mvs"
    summary = record.summary
    facts = {"kind": "scene_z", "sensor": False, "frames": COUNT, "size": "64x48", "complete": True}
    assert {name: summary[name] for name in facts} == facts
    assert sum(summary["shares"].values()) == pytest.approx(1.0, abs=0.01)
    assert not (workspace.unit_dir("depth/mvs") / "looks").exists()
    error = []
    for frame in made.frames:
        found = workspace.depth_map(frame.name, "mvs")
        good = found.is_evidence & (frame.object_id == 0)
        error.append(np.abs(found.values * TRUTH_FROM_SCENE.scale / frame.depth - 1)[good])
    assert np.median(np.concatenate(error)) < 0.08  # the pictures are the size of a stamp


def test_working_size_is_the_longer_side():
    sizes = {(640, 480): (320, 240), (480, 640): (240, 320), (300, 200): (300, 200), (3000, 3): (320, 1)}
    assert {size: working_pictures.working_size(size, 320) for size in sizes} == sizes


def test_frames_at_a_time_fit_the_cores_and_half_the_memory(monkeypatch):
    monkeypatch.setattr(working_pictures, "usable_cores", lambda: 16)
    memory_gb = 6
    monkeypatch.setattr(working_pictures.os, "sysconf", {"SC_PHYS_PAGES": memory_gb << 18, "SC_PAGE_SIZE": 1 << 12}.get)
    sizes = (320 * 240, 640 * 480, 1280 * 960, 4000 * 3000)
    usual = [working_pictures.usual_workers(pixels, bytes_per_pixel=3000) for pixels in sizes]
    assert usual == [13, 3, 1, 1]  # 3 GB over 230 MB, 922 MB, 3.7 GB and more


def test_number_of_threads_changes_no_bit(made, tmp_path):
    results = []
    for workers in (1, 3):
        workspace = posed_scene(made, tmp_path / str(workers))
        depth.run(workspace, DepthOptions(workers=workers))
        results.append(files_of(workspace))
    assert len(results[0]) == COUNT
    assert results[0] == results[1]


def test_interrupted_run_goes_on_without_looking_again(made, workspace, tmp_path, monkeypatch):
    whole = posed_scene(made, tmp_path / "whole")
    depth.run(whole, DepthOptions())
    first_look, settle = multi_view.first_look, multi_view.settle
    calls = {"look": 0, "settle": 0}

    def stopping(name: str, function, after: int):
        def call(*words):
            calls[name] += 1
            if calls[name] > after:
                raise KeyboardInterrupt
            return function(*words)

        return call

    monkeypatch.setattr(multi_view, "first_look", stopping("look", first_look, 3))
    with pytest.raises(KeyboardInterrupt):
        depth.run(workspace, DepthOptions(workers=1))
    assert calls == {"look": 4, "settle": 0}
    assert workspace.record("depth/mvs") is None
    calls["look"] = 0
    monkeypatch.setattr(multi_view, "first_look", stopping("look", first_look, COUNT))
    monkeypatch.setattr(multi_view, "settle", stopping("settle", settle, 2))
    with pytest.raises(KeyboardInterrupt):
        depth.run(workspace, DepthOptions(workers=1))
    assert calls == {"look": COUNT - 3, "settle": 3}
    calls["settle"] = 0
    monkeypatch.setattr(multi_view, "first_look", stopping("look", first_look, 0))  # not one more
    monkeypatch.setattr(multi_view, "settle", stopping("settle", settle, COUNT))
    (record,) = depth.run(workspace, DepthOptions(workers=2))
    assert calls["settle"] == COUNT - 2
    assert files_of(workspace) == files_of(whole)
    assert record.summary["shares"] == whole.record("depth/mvs").summary["shares"]


@pytest.mark.parametrize("folder", [depth_mvs.LOOKS, depth_mvs.SETTLED])
@pytest.mark.parametrize("damage", [b"", b"not a zip file", None])
def test_damaged_file_of_an_earlier_walk_is_made_again(made, workspace, tmp_path, monkeypatch, folder, damage):
    """Stopped before the last walk, one file spoilt or gone meanwhile: the end is that of an undisturbed run."""
    undisturbed = posed_scene(made, tmp_path / "undisturbed")
    depth.run(undisturbed, DepthOptions(workers=1))

    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(multi_view, "steadied", stopped)
        with pytest.raises(KeyboardInterrupt):
            depth.run(workspace, DepthOptions(workers=1))
    (spoilt,) = workspace.root.glob(f".part/depth.mvs-*/{folder}/{made.trajectory.names[2]}.npz")
    if damage is None:
        spoilt.unlink()
    else:
        spoilt.write_bytes(damage)
    depth.run(workspace, DepthOptions(workers=1))
    assert files_of(workspace) == files_of(undisturbed)


def test_hardly_anything_measured_is_warned_of(made, workspace, monkeypatch):
    shares = {"measured": 0.1, "other_frame": 0.0, "completed": 0.9, "none": 0.0}
    monkeypatch.setattr(depth_mvs, "_shares", lambda *_: shares)
    (record,) = depth.run(workspace, DepthOptions())
    assert any("only 10 % of the pixels are measured" in warning for warning in record.warnings)


def test_interpolated_pose_has_depth_but_helps_nobody(made, tmp_path, monkeypatch):
    origin = list(made.trajectory.origin)
    origin[3] = PoseOrigin.INTERPOLATED
    workspace = posed_scene(made, tmp_path / "s", replace(made.trajectory, origin=tuple(origin)))
    pose = made.trajectory.cam_from_world[3]
    helped = spy_on_helpers(monkeypatch)
    depth.run(workspace, DepthOptions(workers=1))
    assert workspace.depth_map(made.frames[3].name, "mvs").valid.any()
    assert len(helped) > COUNT
    assert not any(np.array_equal(other.cam_from_world.matrix, pose.matrix) for other, _ in helped)


def spy_on_helpers(monkeypatch) -> list:
    """What `first_look` and `settle` get of other frames: (picture, look or None)."""
    helped = []
    first_look, settle = multi_view.first_look, multi_view.settle

    def look(frame, others, *more):
        helped.extend((other, None) for other in others)
        return first_look(frame, others, *more)

    def settled(frame, own, others, *more):
        helped.extend(others)
        return settle(frame, own, others, *more)

    monkeypatch.setattr(multi_view, "first_look", look)
    monkeypatch.setattr(multi_view, "settle", settled)
    return helped


def test_masked_pixels_are_no_evidence_for_others(made, workspace, monkeypatch):
    masks = workspace.unit_dir("poses") / "masks"
    masks.mkdir()
    mask = np.zeros((48, 64), dtype=np.uint8)
    mask[:, :20] = 255
    for frame in made.frames:
        write_picture(masks / f"{frame.name}.png", mask)
    helped = spy_on_helpers(monkeypatch)
    depth.run(workspace, DepthOptions())
    looks = [look for _, look in helped if look is not None]
    assert looks
    for look in looks:
        assert (look.confidence[:, :20] == 0).all()
        assert (look.confidence[:, 20:] > 0).any()


def test_frame_nobody_else_sees_is_completed_and_named(made, tmp_path):
    """The last frame looks the other way."""
    turned = made.trajectory.cam_from_world.matrix.copy()
    turned[-1] = np.diag([-1.0, 1, -1, 1]) @ turned[-1]
    poses = type(made.trajectory.cam_from_world).from_matrix(turned)
    workspace = posed_scene(made, tmp_path / "s", replace(made.trajectory, cam_from_world=poses))
    (record,) = depth.run(workspace, DepthOptions())
    name = made.frames[-1].name
    assert any(f"1 of {COUNT} frames have no other frame" in text and name in text for text in record.warnings)
    found = workspace.depth_map(name, "mvs")
    assert found.valid.all()
    assert not found.is_evidence.any()
    assert (found.values > 0).all()


# -- clips that show no depth --------------------------------------------------------------------------------------


def test_clip_without_parallax_says_what_was_found_and_what_to_do(made, tmp_path):
    count, still = len(made.trajectory), made.trajectory.cam_from_world[0]
    poses = type(still)(np.stack([still.rotation] * count), np.stack([still.translation] * count))

    def refused(source: str, origin: PoseOrigin, own: int = count) -> str:
        marks = (origin,) * own + (PoseOrigin.INTERPOLATED,) * (count - own)
        trajectory = replace(made.trajectory, cam_from_world=poses, origin=marks)
        workspace = posed_scene(made, tmp_path / f"{source}{origin.value}{own}", trajectory, source)
        with pytest.raises(DepthError) as caught:
            depth.run(workspace, DepthOptions())
        said = str(caught.value)
        assert said.startswith("depth: mvs: ")
        assert "--depth.path" in said
        return said

    assert "the poses are 'none'" in refused("none", PoseOrigin.STATIC)
    assert "tripod (static)" in refused("static", PoseOrigin.STATIC)
    assert "1 of 7 frames" in refused("colmap", PoseOrigin.MEASURED, own=1)
    assert "stood still or only turned" in refused("colmap", PoseOrigin.MEASURED)


# -- as a partner --------------------------------------------------------------------------------------------------


def test_partner_of_given_depth_is_kept_beside_it(made, workspace, tmp_path):
    np.savez(tmp_path / "d.npz", disparity=np.stack([0.5 / frame.depth + 0.1 for frame in made.frames]))
    records = depth.run(workspace, DepthOptions(source="precomputed,mvs", path=tmp_path / "d.npz"))
    assert [record.unit for record in records] == ["depth/precomputed", "depth/mvs"]
    assert workspace.depth_sources() == ["precomputed", "mvs"]
    record = align.run(workspace, align.AlignOptions(min_points=5))
    assert record.summary["source"] == "precomputed"
    assert record.summary["anchors"] == ["mvs"]  # there are no sparse points: stereo alone places the disparity
    ratio = []
    for frame in made.frames:
        found = workspace.scene_depth(frame.name)
        ratio.append((found.depth * TRUTH_FROM_SCENE.scale / frame.depth)[found.valid & (frame.object_id == 0)])
    assert np.median(np.abs(np.concatenate(ratio) - 1)) < 0.05
    swapped = align.run(workspace, align.AlignOptions(primary="mvs"))
    assert swapped.summary["source"] == "mvs"
    name = made.frames[2].name
    np.testing.assert_array_equal(workspace.scene_depth(name).depth, workspace.depth_map(name, "mvs").values)


def test_completed_depth_anchors_nothing(made, workspace, tmp_path):
    np.savez(tmp_path / "d.npz", disparity=np.stack([0.5 / frame.depth + 0.1 for frame in made.frames]))
    depth.run(workspace, DepthOptions(source="precomputed,mvs", path=tmp_path / "d.npz"))
    for frame in made.frames:
        given = workspace.depth_map(frame.name, "mvs")
        values, origin = given.values.copy(), given.provenance.copy()
        values[:, :32] *= 3
        origin[:, :32] = Provenance.COMPLETED
        changed = replace(given, values=values, provenance=origin)
        write_depth_map(workspace.unit_dir("depth/mvs") / f"{frame.name}.npz", changed)
    align.run(workspace, align.AlignOptions(min_points=5))
    ratio = np.stack([workspace.scene_depth(f.name).depth * TRUTH_FROM_SCENE.scale / f.depth for f in made.frames])
    still = np.stack([f.object_id == 0 for f in made.frames])
    assert np.median(np.abs(ratio - 1)[:, :, :32][still[:, :, :32]]) < 0.08


def test_align_passes_it_through_and_tells_how_sure_it_is(made, workspace):
    depth.run(workspace, DepthOptions())
    name = made.frames[3].name
    given = workspace.depth_map(name, "mvs")
    origin, confidence = given.provenance.copy(), np.full_like(given.confidence, 0.95)
    origin[:10], origin[10:20], origin[20:] = Provenance.COMPLETED, Provenance.OTHER_FRAME, Provenance.MEASURED
    confidence[:10] = 0.4
    changed = replace(given, provenance=origin, confidence=confidence)
    write_depth_map(workspace.unit_dir("depth/mvs") / f"{name}.npz", changed)
    heard = Heard()
    record = align.run(workspace, align.AlignOptions(), heard)
    assert any("nothing is fitted" in line for line in heard.lines)
    assert record.summary["kind"] == DepthKind.SCENE_Z.value
    assert record.summary["correction"] is None
    found = workspace.scene_depth(name)
    np.testing.assert_array_equal(found.depth[found.valid], given.values[found.valid])
    np.testing.assert_array_equal(found.provenance, origin)
    relative = np.median((found.sigma / np.where(found.valid, found.depth, 1)).reshape(48, -1), axis=1)
    completed, other, measured = relative[5], relative[15], relative[30]
    assert measured < other < 0.5 * completed
    assert other == pytest.approx(1.5 * measured, rel=0.1)


# -- the whole line from the terminal ------------------------------------------------------------------------------


def test_whole_line_without_any_depth(tmp_path):
    from recon4d.synthetic.clip import write_clip
    from recon4d.synthetic.scene import synthetic_scene

    made = synthetic_scene(count=9, size=(160, 120), fps=3.0, movers=False)
    clip, camera = write_clip(tmp_path, made), made.camera
    words = ["run", clip.video, "--out", tmp_path / "s", "--poses.source", "import", "--poses.path", clip.trajectory]
    words += ["--poses.camera", ",".join(str(getattr(camera, k)) for k in ("fx", "fy", "cx", "cy"))]
    words += ["--depth.max-size", "96", "--export.to", "ply"]
    command = [sys.executable, "-m", "recon4d", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "no depth was given (--depth.path)" in done.stdout
    workspace = Workspace(tmp_path / "s")
    assert workspace.depth_sources() == ["mvs"]
    assert workspace.record("depth/mvs").summary["size"] == "96x72"
    assert workspace.scene_depth("000004").depth.shape == (120, 160)
    error = []
    for frame in made.frames():
        found = workspace.scene_depth(frame.name)
        error.append(np.abs(found.depth / frame.depth - 1)[found.valid])
    assert np.median(np.concatenate(error)) < 0.05
    assert len(workspace.static_cloud()) > 1000
    again = subprocess.run(
        [*command[:3], "run", "--out", str(tmp_path / "s")], capture_output=True, text=True, check=False
    )
    assert again.stdout.count("up to date") == 9
    info = subprocess.run(
        [*command[:3], "info", str(tmp_path / "s")], capture_output=True, text=True, check=False
    ).stdout
    assert "depth/mvs: 9 frames of kind scene_z at 96x72: " in info

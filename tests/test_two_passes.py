"""Two passes of the line: what the first one finds to move is left out of the second one's poses, and resumed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from poses_scenes import two_planes, walk, workspace_with

from recon4d import cli, pipeline
from recon4d.errors import OptionsError, PosesError, WorkspaceError
from recon4d.formats.pictures import read_grey, write_picture
from recon4d.poses.lens import Lens
from recon4d.poses.undistort import recorded_mask
from recon4d.progress import Silent
from recon4d.stages import first_pass
from recon4d.stages import poses as poses_stage
from recon4d.stages.common import execute, stage_key
from recon4d.stages.frames import FramesOptions
from recon4d.stages.poses import PosesOptions
from recon4d.workspace import StageRecord, Workspace

BARREL = Lens("SIMPLE_RADIAL", 160, 120, (150.0, 80.0, 60.0, -0.12))
WIDE = Lens("SIMPLE_RADIAL", 160, 120, (100.0, 80.0, 60.0, -0.12))
TRIPOD = PosesOptions(source="static", camera="150,150,80,60,-0.12", camera_model="simple_radial")
MOVER = (slice(40, 70), slice(60, 100))  # of the undistorted pictures, in the odd frames


@dataclass(frozen=True)
class StandInOptions:
    """Of a stage motion that knows the answer."""

    threshold: float = 0.5
    moves: bool = True


class StandInMotion:
    """Calls a rectangle moving, and remembers which pixels it was told to ignore."""

    VERSION = 1

    def __init__(self) -> None:
        self.users: list[list[np.ndarray | None]] = []

    def run(self, workspace: Workspace, options: StandInOptions, progress: object = None) -> StageRecord:
        return execute(
            workspace, "motion", 1, options, ("poses",), lambda part: self._work(workspace, options, part), progress
        )

    def _work(self, workspace: Workspace, options: StandInOptions, part) -> dict[str, object]:
        names = workspace.trajectory().names
        self.users.append([workspace.ignored_by_user(name) for name in names])
        (part.path / "mask").mkdir()
        for row, name in enumerate(names):
            mask = np.zeros(workspace.picture(name).shape[:2], dtype=np.uint8)
            mask[MOVER] = 255 if options.moves and row % 2 else 0
            write_picture(part.path / "mask" / f"{name}.png", mask)
        return {"frames": len(names), "objects": 0}


@dataclass(frozen=True)
class ShortLine:
    """The options of a line of three stages."""

    frames: FramesOptions = field(default_factory=FramesOptions)
    poses: PosesOptions = TRIPOD
    motion: StandInOptions = field(default_factory=StandInOptions)


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def line(tmp_path, monkeypatch):
    """A short line on four pictures of which the first has a user's mask; ``run(**more)`` returns what is said."""
    motion, true_module = StandInMotion(), pipeline._module
    stages = {"frames": FramesOptions, "poses": PosesOptions, "motion": StandInOptions}
    monkeypatch.setattr(pipeline, "_module", lambda stage: motion if stage == "motion" else true_module(stage))
    for name, value in {"Options": ShortLine, "OPTIONS": stages, "BUILT": tuple(stages)}.items():
        monkeypatch.setattr(pipeline, name, value)
    monkeypatch.setattr(pipeline, "FIRST_PASS", tuple(stages))
    for folder in ("in", "masks"):
        (tmp_path / folder).mkdir()
    for row in range(4):
        write_picture(tmp_path / "in" / f"{row}.png", two_planes(BARREL, walk(4)[row]))
    users = np.zeros((120, 160), dtype=np.uint8)
    users[:30, :40] = 255
    write_picture(tmp_path / "masks" / "0.png", users)
    write_picture(tmp_path / "masks" / "1.png", users)
    options = ShortLine(frames=FramesOptions(masks=tmp_path / "masks"))

    def run(change: ShortLine = options, **more: object) -> list[str]:
        listener = Listener()
        pipeline.run(tmp_path / "in", tmp_path / "scene", until="motion", progress=listener, options=change, **more)
        return listener.said

    return SimpleNamespace(run=run, options=options, motion=motion, root=tmp_path / "scene")


def keys(root: Path) -> dict[str, str]:
    workspace = Workspace(root)
    return {unit: workspace.record(unit).key for unit in ("frames", "poses", "motion")}


def test_what_moves_is_left_out_beside_what_the_user_ignores(line):
    said = line.run(passes=2)
    workspace = Workspace(line.root)
    assert set(workspace.record("poses").inputs) == {"frames", "first_pass"}
    assert "redoing poses, then motion: what moves is to be left out" in said
    assert any("first_pass: 3.1 % of the pixels move, in 2 of 4 frames" in text for text in said)
    assert any("without the 3.1 % of the pixels that move" in text for text in said)
    assert workspace.ignored("2") is None
    both = workspace.ignored("1")
    assert both[MOVER].all()
    assert both[:20, :30].all()  # the user's
    assert 1200 < both[40:, 50:].sum() < 1.3 * 1200  # the rectangle, a little widened
    np.testing.assert_array_equal(workspace.ignored("3")[40:], both[40:])


def test_the_first_pass_remembers_what_its_stages_took(line):
    line.run()
    workspace = Workspace(line.root)
    took = {unit: workspace.record(unit) for unit in ("poses", "motion")}
    line.run(passes=2)
    walked = workspace.record("first_pass").summary["walked"]
    assert {unit: cost["seconds"] for unit, cost in walked.items()} == {u: r.seconds for u, r in took.items()}
    seconds, memory = first_pass.cost_of_replaced(workspace, workspace.record("first_pass"))
    assert seconds == sum(record.seconds for record in took.values())
    assert memory == max(record.peak_memory_mb for record in took.values()) > 0


def test_motion_hears_only_of_the_users_mask(line):
    line.run(passes=2)
    first, second = line.motion.users
    assert [mask is None for mask in second] == [False, False, True, True]
    for before, after in zip(first[:2], second[:2]):
        np.testing.assert_array_equal(before, after)
        assert not after[40:].any()


def test_a_second_run_of_two_passes_does_nothing(line):
    line.run(passes=2)
    before = keys(line.root)
    for more in ({"passes": 2}, {"change": None}):  # and as recorded
        said = line.run(**more)
        assert [text for text in said if "working" in text or "redoing" in text] == []
        assert said.count("poses: up to date") == 1
        assert keys(line.root) == before
    assert len(line.motion.users) == 2


def test_one_pass_after_two_is_one_pass_and_the_way_back_is_short(line):
    line.run()
    once = keys(line.root)
    said = line.run(passes=2)
    assert "poses: up to date" in said  # the first pass is there already
    twice = keys(line.root)
    assert once["frames"] == twice["frames"]
    assert once["poses"] != twice["poses"]
    assert "redoing poses, then motion: what moves is no longer left out" in line.run(passes=1)
    assert keys(line.root) == once
    assert Workspace(line.root).ignored("3") is None
    calls = len(line.motion.users)
    said = line.run(passes=2)
    assert keys(line.root) == twice
    assert len(line.motion.users) == calls + 1  # only the second pass
    assert "first_pass: up to date" in said


def test_an_option_of_the_first_pass_redoes_it(line):
    line.run(passes=2)
    line.run(replace(line.options, motion=StandInOptions(threshold=0.7)), passes=2)
    assert len(line.motion.users) == 4
    assert [users[3] is None for users in line.motion.users] == [True] * 4
    workspace = Workspace(line.root)
    assert workspace.record("poses").inputs["first_pass"] == workspace.record("first_pass").key
    assert pipeline.stale_units(workspace) == {}


@pytest.mark.parametrize("walk_killed", [1, 2])
def test_an_interrupted_pass_is_gone_on_with(line, walk_killed):
    real = line.motion._work
    calls = []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == walk_killed:
            raise KeyboardInterrupt
        return real(*arguments)

    line.motion._work = interrupted
    with pytest.raises(KeyboardInterrupt):
        line.run(passes=2)
    workspace = Workspace(line.root)
    assert (workspace.record("first_pass") is None) == (walk_killed == 1)
    said = line.run(None)  # the recorded number of passes
    assert len(calls) == 3
    if walk_killed == 2:
        assert "poses: up to date" in said  # of the second pass
        assert "first_pass: up to date" in said
    workspace = Workspace(line.root)
    assert set(workspace.record("poses").inputs) == {"frames", "first_pass"}
    assert pipeline.stale_units(workspace) == {}


def test_poses_between_the_passes_are_said_to_be_old(line, capsys):
    line.run(passes=2)
    line.run(passes=1)
    options = pipeline.with_passes(pipeline.recorded_options(Workspace(line.root)), 2)
    pipeline.record_options(Workspace(line.root), options, line.root)
    assert pipeline.stale_units(Workspace(line.root))["poses"] == "what moves is to be left out"
    assert cli.main(["info", str(line.root)]) == 0
    shown = capsys.readouterr().out
    assert "first_pass: 3.1 % of the pixels move" in shown
    assert "out of date: what moves is to be left out" in shown


def test_where_nothing_moves_the_second_pass_is_the_first(line):
    still = replace(line.options, motion=StandInOptions(moves=False))
    line.run(still)
    once = keys(line.root)
    said = line.run(still, passes=2)
    assert keys(line.root) == once
    assert len(line.motion.users) == 1
    assert any("nothing moves" in text for text in said)
    workspace = Workspace(line.root)
    assert first_pass.cost_of_replaced(workspace, workspace.record("first_pass")) == (0, 0)  # counted there already


def test_other_numbers_of_passes_are_refused(line, capsys):
    for passes in (0, 3):
        with pytest.raises(OptionsError, match=f"--passes is {passes}, 1 or 2"):
            line.run(passes=passes)
    assert not line.root.exists()
    assert cli.main(["run", "a.mp4", "--out", str(line.root), "--passes", "3"]) == 1
    assert "--passes" in capsys.readouterr().err


def test_the_command_line_remembers_the_number_of_passes(line, capsys):
    words = ["run", str(line.root.parent / "in"), "--out", str(line.root), "--until", "poses"]
    words += ["--poses.source", "static", "--poses.camera", TRIPOD.camera, "--poses.camera-model", "simple_radial"]

    def reads(*more: str) -> set[str]:
        assert cli.main([*words, *more]) == 0
        return set(Workspace(line.root).record("poses").inputs)

    assert reads() == {"frames"}
    assert reads("--passes", "2") == {"frames", "first_pass"}
    assert reads() == {"frames", "first_pass"}
    assert reads("--passes", "1") == {"frames"}
    assert reads("--poses.second-pass") == {"frames", "first_pass"}
    capsys.readouterr()
    assert cli.main(["info", str(line.root), "--json"]) == 0
    assert '"first_pass"' in capsys.readouterr().out


def test_poses_of_a_second_pass_need_a_first_one(line):
    line.run()
    with pytest.raises(WorkspaceError, match=r"no first pass .* --passes 2"):
        pipeline.run_one(Workspace(line.root), "poses", replace(TRIPOD, second_pass=True))


def test_the_key_of_poses_in_one_pass_knows_nothing_of_passes():
    frames = {"frames": "key"}
    one, two = (stage_key("poses", 3, PosesOptions(second_pass=second), frames) for second in (False, True))
    assert one == two  # what is left out enters by the key of the first pass


# -- masks in the pixels of the recorded frame ---------------------------------------------------------------------


def test_a_mask_goes_to_the_recorded_frame_and_back(tmp_path):
    from recon4d.poses.undistort import write_undistorted_mask

    camera = WIDE.undistorted()
    mask = np.zeros((120, 160), dtype=np.uint8)
    mask[25:60, 90:150] = 255
    write_picture(tmp_path / "a.png", recorded_mask(mask, WIDE, camera))
    write_undistorted_mask(tmp_path / "a.png", WIDE, camera, tmp_path / "back")
    back = read_grey(tmp_path / "back" / "a.png")
    assert np.abs(back.astype(int) - mask)[26:59, 91:149].max() == 0  # up to a pixel at its border
    assert back[:24].max() == back[61:].max() == back[:, :89].max() == back[:, 151:].max() == 0


def test_a_mask_lies_where_the_lens_shows_it():
    camera = WIDE.undistorted()
    mask = np.zeros((120, 160), dtype=np.uint8)
    mask[59:62, 154:157] = 255
    ray = np.array([[(155.5 - camera.cx) / camera.fx, (60.5 - camera.cy) / camera.fy, 1.0]])
    column, row = WIDE.project(ray)[0]
    recorded = recorded_mask(mask, WIDE, camera)
    assert 155.5 - column > 2  # pixels: elsewhere than in the undistorted picture
    rows, columns = np.nonzero(recorded)
    assert columns.mean() + 0.5 == pytest.approx(column, abs=0.5)
    assert rows.mean() + 0.5 == pytest.approx(row, abs=0.5)
    assert 6 <= len(rows) <= 12


def test_what_moves_at_the_border_moves_beyond_it():
    camera = WIDE.undistorted()
    mask = np.zeros((120, 160), dtype=np.uint8)
    mask[:, :10] = 255
    recorded = recorded_mask(mask, WIDE, camera)
    assert (recorded[:, 0] == 255).all()
    assert (recorded[:, 40:] == 0).all()


def test_a_lens_without_distortion_leaves_masks_alone():
    pinhole = Lens("PINHOLE", 160, 120, (150.0, 150.0, 80.0, 60.0))
    mask = np.random.default_rng(0).integers(0, 2, (120, 160)).astype(np.uint8) * 255
    assert recorded_mask(mask, pinhole, pinhole.undistorted()) is mask


SECOND = PosesOptions(max_features=500, second_pass=True, camera="300,300,160,120")


def with_first_pass(root: Path, moving: slice) -> Workspace:
    """Six frames of a walk, of which some columns are said to move."""
    lens = Lens("PINHOLE", 320, 240, (300.0, 300.0, 160.0, 120.0))
    workspace = workspace_with(root, [two_planes(lens, walk(6)[i]) for i in range(6)])
    part = workspace.start(first_pass.UNIT, "made-by-a-test")
    (part.path / "mask").mkdir()
    mask = np.zeros((240, 320), dtype=np.uint8)
    mask[:, moving] = 255
    for name in workspace.recording().names:
        write_picture(part.path / "mask" / f"{name}.png", mask)
    summary = {"frames": 6, "frames_with_movers": 6, "moving_share": float((mask > 0).mean())}
    workspace.publish(part, StageRecord(first_pass.UNIT, 1, "made-by-a-test", {}, {}, summary=summary))
    return workspace


def test_poses_that_fail_without_what_moves_say_how_to_keep_it(tmp_path):
    workspace = with_first_pass(tmp_path / "scene", slice(None))
    with pytest.raises(PosesError, match=r"100 % of the pixels move and were left out: --passes 1"):
        poses_stage.run(workspace, SECOND)


def test_structure_from_motion_sees_no_features_on_what_moves(tmp_path):
    workspace = with_first_pass(tmp_path / "scene", slice(230, None))
    poses_stage.run(workspace, SECOND)
    sparse = workspace.sparse_model()
    columns = np.concatenate([sparse.pixels[name][:, 0] for name in workspace.trajectory().names])
    assert len(columns) > 300
    assert (columns > 231).sum() == 0
    for name in workspace.trajectory().names:
        assert workspace.ignored(name).mean() == pytest.approx(90 / 320)
        assert workspace.ignored_by_user(name) is None
    assert not (workspace.unit_dir("poses") / "united_masks").exists()

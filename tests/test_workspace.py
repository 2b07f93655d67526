"""Publication, resume, repair after a kill at any step, and folders that are not ours."""

import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from recon4d.errors import OptionsError, WorkspaceError
from recon4d.stages.common import (
    BY_CONTENT,
    NOT_IN_KEY,
    check_range,
    execute,
    peak_memory_mb,
    reset_peak_memory,
    stage_key,
)
from recon4d.workspace import DONE_LIST, FORMAT, MARKER, StageRecord, Workspace


@dataclass(frozen=True)
class StubOptions:
    size: int = 1
    file: Path | None = field(default=None, metadata=BY_CONTENT)
    threads: int = field(default=1, metadata=NOT_IN_KEY)


def write_numbers(count: int, stop_at: int | None = None):
    """A stage's work: files 0..count-1, failing when it comes to ``stop_at``."""

    def work(part):
        for item in part.pending([str(i) for i in range(count)], "numbers"):
            if stop_at is not None and int(item) == stop_at:
                raise RuntimeError("killed")
            (part.path / f"{item}.txt").write_text(item)
        return {"count": count}

    return work


def run(workspace: Workspace, work, **options: object) -> StageRecord:
    return execute(workspace, "frames", 1, StubOptions(**options), (), work)


def test_finished_stage_is_published_once_and_then_up_to_date(tmp_path):
    workspace = Workspace.create(tmp_path / "s")
    first = run(workspace, write_numbers(3))
    again = run(workspace, write_numbers(3, stop_at=0))  # would fail if it ran
    assert again == first
    assert (tmp_path / "s/frames/2.txt").read_text() == "2"
    assert first.summary == {"count": 3}


def test_changed_option_redoes_the_stage_and_keeps_the_old_result(tmp_path):
    workspace = Workspace.create(tmp_path / "s")
    one = run(workspace, write_numbers(2))
    two = run(workspace, write_numbers(3), size=2)
    assert one.key != two.key
    assert (tmp_path / "s/frames/2.txt").exists()
    assert json.loads((tmp_path / "s/.old/frames/stage.json").read_text())["key"] == one.key


def test_killed_stage_goes_on_where_it_was(tmp_path):
    workspace = Workspace.create(tmp_path / "s")
    with pytest.raises(RuntimeError):
        run(workspace, write_numbers(4, stop_at=2))
    assert workspace.record("frames") is None
    part = next((tmp_path / "s/.part").iterdir())
    (part / "0.txt").write_text("kept")  # a redone item would overwrite this
    run(Workspace(tmp_path / "s"), write_numbers(4))
    assert (tmp_path / "s/frames/0.txt").read_text() == "kept"
    assert (tmp_path / "s/frames/3.txt").read_text() == "3"
    assert not (tmp_path / "s/frames/done.txt").exists()


def test_work_under_other_options_is_not_resumed(tmp_path):
    workspace = Workspace.create(tmp_path / "s")
    with pytest.raises(RuntimeError):
        run(workspace, write_numbers(4, stop_at=2))
    run(workspace, write_numbers(4), size=2)
    assert (tmp_path / "s/frames/0.txt").read_text() == "0"
    assert list((tmp_path / "s/.part").iterdir()) == []


@pytest.mark.parametrize("killed_after", ["record", "old_moved"])
def test_kill_during_publication_is_repaired(tmp_path, killed_after):
    root = tmp_path / "s"
    workspace = Workspace.create(root)
    run(workspace, write_numbers(1))
    new = run(workspace, write_numbers(2), size=2)
    # Put the folders back to how they stood when the second publication was killed.
    part = root / ".part" / "frames-x"
    os.rename(root / "frames", part)
    if killed_after == "record":
        os.rename(root / ".old/frames", root / "frames")
    repaired = Workspace(root)
    assert repaired.record("frames") == new
    assert (root / "frames/1.txt").exists()
    assert not part.exists()


def test_folder_without_record_is_not_done(tmp_path):
    workspace = Workspace.create(tmp_path / "s")
    (tmp_path / "s/frames").mkdir()
    (tmp_path / "s/frames/0.txt").write_text("half")
    assert workspace.record("frames") is None
    (tmp_path / "s/frames/stage.json").write_text("{ half")
    assert workspace.record("frames") is None


def test_key_knows_what_can_change_the_result(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("one")
    base = stage_key("align", 1, StubOptions(file=file), {"poses": "k"})
    (tmp_path / "b.txt").write_text("one")
    assert stage_key("align", 1, StubOptions(file=tmp_path / "b.txt", threads=8), {"poses": "k"}) == base
    file.write_text("two")
    assert stage_key("align", 1, StubOptions(file=file), {"poses": "k"}) != base
    assert stage_key("align", 1, StubOptions(), {"poses": "other"}) != stage_key(
        "align", 1, StubOptions(), {"poses": "k"}
    )
    assert stage_key("align", 2, StubOptions(), {}) != stage_key("align", 1, StubOptions(), {})


def test_folder_of_something_else_is_refused_and_untouched(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(WorkspaceError, match="no recon4d scene"):
        Workspace.create(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "s").write_text("x")
    with pytest.raises(WorkspaceError, match="is a file"):
        Workspace.create(tmp_path / "s")


def test_scene_of_another_version_is_refused(tmp_path):
    Workspace.create(tmp_path / "s")
    (tmp_path / "s" / MARKER).write_text(json.dumps({"format": FORMAT + 1}))
    with pytest.raises(WorkspaceError, match=f"layout {FORMAT + 1}, this recon4d reads layout {FORMAT}"):
        Workspace(tmp_path / "s")
    (tmp_path / "s" / MARKER).write_text("{")
    with pytest.raises(WorkspaceError, match="damaged"):
        Workspace(tmp_path / "s")


def test_reading_a_stage_that_is_not_done_names_the_command(tmp_path):
    workspace = Workspace.create(tmp_path / "s")
    with pytest.raises(WorkspaceError, match="run recon4d poses"):
        workspace.trajectory()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process reset its peak")
def test_peak_memory_is_the_stages_own():
    reset_peak_memory()
    before = peak_memory_mb()
    block = bytearray(200 << 20)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
    with_block = peak_memory_mb()
    del block
    reset_peak_memory()
    assert with_block > before + 150
    assert peak_memory_mb() < with_block - 100


def test_two_runs_do_not_work_on_one_scene_at_once(tmp_path):
    workspace = Workspace.create(tmp_path / "s")
    with workspace.lock(), pytest.raises(WorkspaceError, match="another recon4d is at work"), workspace.lock():
        pass
    with workspace.lock():  # free again
        pass


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_option_out_of_range_is_one_sentence(value):
    with pytest.raises(OptionsError, match=r"align: --align\.step is .*more than 0 is expected"):
        check_range("align", "step", value, above=0.0)
    check_range("align", "step", 0.1, above=0.0)


def test_deleted_result_does_not_come_back_as_the_one_before(tmp_path):
    workspace = Workspace.create(tmp_path / "s")
    run(workspace, write_numbers(1))
    run(workspace, write_numbers(2), size=2)
    shutil.rmtree(tmp_path / "s/frames")
    assert Workspace(tmp_path / "s").record("frames") is None


def test_looking_at_a_scene_does_not_disturb_the_run_at_work(tmp_path):
    workspace = Workspace.create(tmp_path / "s")
    run(workspace, write_numbers(1))
    os.rename(tmp_path / "s/frames", tmp_path / "s/.part/frames-x")  # as amid a publication
    with workspace.lock():
        assert Workspace(tmp_path / "s").record("frames") is None
    assert Workspace(tmp_path / "s").record("frames") is not None


def test_items_are_written_beside_being_made_and_marked_once_written(tmp_path):
    workspace, order = Workspace.create(tmp_path / "scene"), []
    part = workspace.start("align", "k")
    part.mark_done("a")
    part.each("abcdefg", "making", lambda item: item.upper(), lambda item, made: order.append((item, made)))
    assert sorted(order) == [(item, item.upper()) for item in "bcdefg"]  # what was done is not made again
    assert (part.path / DONE_LIST).read_text().split() == list("abcdefg")


@pytest.mark.parametrize("fails_in", ["make", "write"])
def test_what_was_not_written_is_not_marked(tmp_path, fails_in):
    workspace, written = Workspace.create(tmp_path / "scene"), []
    part = workspace.start("align", "k")

    def fail(step: str, item: str) -> None:
        if step == fails_in and item == "c":
            raise OSError(28, "No space left on device")

    def write(item: str, made: None) -> None:
        fail("write", item)
        written.append(item)

    with pytest.raises(OSError, match="No space left"):
        part.each("abcdefg", "making", lambda item: fail("make", item), write)
    marked = (part.path / DONE_LIST).read_text().split() if (part.path / DONE_LIST).exists() else []
    assert set(marked) <= set(written)
    assert "c" not in marked
    again = []
    workspace.start("align", "k").each("abcdefg", "making", lambda item: None, lambda item, made: again.append(item))
    assert sorted(marked + again) == list("abcdefg")


def test_a_folder_that_is_just_called_scene_takes_the_name_of_its_recording(tmp_path):
    assert Workspace.create(tmp_path / "kitchen").title == "kitchen"
    workspace = Workspace.create(tmp_path / "walk" / "scene")
    assert workspace.title == "walk"
    (workspace.root / "options.toml").write_text('[input]\npath = "/clips/garden.mp4"\n')
    assert workspace.title == "garden"

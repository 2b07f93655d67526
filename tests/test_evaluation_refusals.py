"""What `recon4d evaluate` says before it scores, and beside the scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from true_scene import Made, publish

from recon4d.errors import EvaluationError, WorkspaceError
from recon4d.evaluation.report import format_scores
from recon4d.evaluation.truth import Counting, FlowTruth, GridTruth
from recon4d.formats.arrays import write_arrays
from recon4d.scene.recording import Frame, Recording
from recon4d.stages.evaluate import EvaluateOptions, evaluate
from recon4d.workspace import Workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    return Made(tmp_path_factory.mktemp("made"))


@pytest.fixture
def nothing_is_scored(monkeypatch):
    monkeypatch.setattr("recon4d.evaluation.trajectory_scores.score_trajectory", lambda *_: pytest.fail("scored"))
    monkeypatch.setattr("recon4d.evaluation.depth_scores.score_depth", lambda *_: pytest.fail("scored"))


def _unwritable(tmp_path: Path) -> list[Path]:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    found = [tmp_path / "file" / "scores.json", tmp_path / "folder"]
    return [*found, Path("/proc/x/y.json")] if Path("/proc/self").exists() else found


def test_result_that_cannot_be_written_is_refused_before_scoring(made, tmp_path, nothing_is_scored):
    workspace = made.workspace(tmp_path / "s")
    for target in _unwritable(tmp_path):
        with pytest.raises(EvaluationError, match=f"^evaluate: --json {target} ") as caught:
            evaluate(workspace, replace(made.options, json=target))
        assert "\n" not in str(caught.value)


def test_trial_of_the_output_folder_leaves_only_the_result(made, tmp_path):
    target = tmp_path / "new" / "scores.json"
    evaluate(made.workspace(tmp_path / "s"), EvaluateOptions(json=target))
    assert list(target.parent.iterdir()) == [target]


def test_unknown_source_is_not_called_a_stage_that_is_not_done(made, tmp_path):
    workspace = made.workspace(tmp_path / "s")
    for source in ("metric", "precomputed"):
        publish(workspace, f"depth/{source}", lambda folder: None, kind="metric_z")
    for nope in ("nope", "../align"):
        with pytest.raises(WorkspaceError, match=f"no depth of the source '{nope}', done are metric, precomputed: "):
            evaluate(workspace, replace(made.options, stage="depth", source=nope))


def test_refine_that_this_scene_lacks_is_no_verb_to_run(made, tmp_path):
    workspace = made.workspace(tmp_path / "s")
    publish(workspace, "depth/mine", lambda folder: None, kind="metric_z")
    publish(workspace, "fuse", lambda folder: None)
    with pytest.raises(WorkspaceError, match=r"no refined depth.* depth, align, rendered$") as caught:
        evaluate(workspace, replace(made.options, stage="refine"))
    assert "recon4d refine" not in str(caught.value)


def test_scores_of_a_stage_that_is_out_of_date_say_so(made, tmp_path):
    workspace = made.workspace(tmp_path / "s")
    stale = {"align": "poses changed since", "fuse": "made from align, out of date too"}
    result = evaluate(workspace, made.options, stale=stale)
    notes = [note for note in result["notes"] if "out of date" in note]
    assert notes == ["align is out of date: poses changed since; recon4d run brings the scene up to date"]
    assert notes[0] in format_scores(result)
    assert not evaluate(workspace, made.options, stale={"fuse": "mesh changed since"})["notes"]


# -- which truth belongs to which frame ------------------------------------------------------------------------------


def _recording(count: int) -> Recording:
    frames = tuple(Frame(f"{k:06d}", k, "clip.mp4", k / 30, 0) for k in range(count))
    return Recording(frames, (Path("x"),) * count, (None,) * count)


def test_names_with_spaces_stay_whole(tmp_path):
    (tmp_path / "names.txt").write_text("\ufeffliving room 1\r\n\n  living room 2 \n", encoding="utf-8")
    counting = Counting.read(tmp_path / "names.txt", None, None)
    assert counting.names == ("living room 1", "living room 2")


@pytest.mark.parametrize("kind", ["depth", "flow"])
def test_unpadded_truth_is_counted_in_the_order_of_its_numbers(tmp_path, kind):
    recording = _recording(12)
    for k in range(len(recording)):
        if kind == "depth":
            write_arrays(tmp_path / f"depth_{k}.npz", depth=np.full((2, 3), float(k)))
        else:
            write_arrays(tmp_path / f"flow_{k}.npz", next=np.full((2, 3, 3), float(k)))
    counting = Counting(offset=0)
    if kind == "depth":
        truth = GridTruth(tmp_path, recording, counting, "--depth-gt")
    else:
        truth = FlowTruth(tmp_path, recording, counting)
    assert [float(truth[name].max()) for name in recording.names] == list(range(len(recording)))


def test_source_without_the_stage_it_belongs_to_is_refused(tmp_path):
    with pytest.raises(EvaluationError, match="--stage depth"):
        evaluate(Workspace.create(tmp_path / "s"), EvaluateOptions(source="precomputed"))

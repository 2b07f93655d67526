"""Quality gates by hand: at the boundary, with numbers that are not there, and as exit codes."""

import dataclasses
import json
import math

import pytest

import recon4d
from recon4d import cli
from recon4d.errors import OptionsError, WorkspaceError
from recon4d.evaluation.gates import GateResult, Gates, default_gates, gates_table, judge
from recon4d.workspace import StageRecord, Workspace

STAGES = ("frames", "poses", "depth", "align", "motion", "mesh", "refine", "fuse", "export")


def report(done: tuple[str, ...] = STAGES, old: tuple[str, ...] = (), **numbers: object) -> dict[str, object]:
    """A report of a scene in which these stages are done, with these numbers and no others."""
    names = {gate.metadata["number"] for gate in dataclasses.fields(Gates) if gate.metadata} | {"metres_per_unit"}
    states = {stage: "out of date" if stage in old else "done" if stage in done else "not done" for stage in STAGES}
    stages = [{"stage": stage, "unit": stage, "state": state} for stage, state in states.items()]
    return {"numbers": dict.fromkeys(names) | numbers, "stages": stages}


def one(found: dict[str, object], **gates: object) -> GateResult:
    (result,) = judge(found, Gates(**gates))
    return result


# Gate, number of the report, value of both at the boundary, and one that just fails.
BOUNDS = [
    ("min_registered", "registered_share", 0.8, 0.79),
    ("max_reprojection_px", "reprojection_error_px", 2.0, 2.01),
    ("min_points", "points", 500, 499),
    ("max_align_residual", "align_residual", 0.05, 0.051),
    ("max_held_out", "held_out_residual", 0.06, 0.061),
    ("max_scale_interval", "scale_interval_relative", 0.1, 0.11),
    ("min_static_points", "static_points", 1000, 999),
    ("min_coverage", "coverage", 0.5, 0.49),
    ("max_warnings", "warnings", 0, 1),
    ("max_seconds", "seconds", 600.0, 600.5),
    ("max_memory_mb", "peak_memory_mb", 2000.0, 2000.1),
]


@pytest.mark.parametrize(("gate", "number", "bound", "beyond"), BOUNDS)
def test_a_gate_holds_at_its_bound_and_not_beyond(gate, number, bound, beyond):
    assert one(report(**{number: bound}), **{gate: bound}).holds
    result = one(report(**{number: beyond}), **{gate: bound})
    assert not result.holds
    assert result.found == beyond
    assert result.why is None


def test_every_bound_is_tried_above():
    assert {gate.name for gate in dataclasses.fields(Gates) if gate.metadata} == {row[0] for row in BOUNDS}


@pytest.mark.parametrize(("gate", "number", "bound", "beyond"), BOUNDS)
def test_a_number_that_is_not_there_does_not_hold_and_says_why(gate, number, bound, beyond):
    not_done = one(report(done=()), **{gate: bound})
    assert not not_done.holds
    assert not_done.found is None
    assert "is not done" in not_done.why
    absent = one(report(), **{gate: bound})
    assert not absent.holds
    assert absent.why
    assert "not done" not in absent.why


def test_size_in_metres_is_required():
    assert one(report(metres_per_unit=0.5), require_metric=True).holds
    assert one(report(), require_metric=True).why == "no length in metres is known"
    assert one(report(done=("frames",)), require_metric=True).why == "the stage align is not done"


def test_required_stages_are_one_gate_each():
    results = judge(report(done=("frames", "poses", "fuse")), Gates(require_stages=("fuse", "export")))
    assert [(r.wanted, r.holds) for r in results] == [("fuse done", True), ("export done", False)]
    with pytest.raises(OptionsError, match="no stage 'paint'; known are frames, poses"):
        judge(report(), Gates(require_stages=("paint",)))


def test_up_to_date():
    assert one(report(), up_to_date=True).holds
    result = one(report(old=("mesh", "refine")), up_to_date=True)
    assert not result.holds
    assert result.found == "out of date: mesh, refine"
    assert not one(report(done=()), up_to_date=True).holds


def test_what_is_out_of_date_is_done():
    assert one(report(old=("fuse",)), require_stages=("fuse",)).holds


@pytest.mark.parametrize(
    "wrong",
    [{"min_registered": 80}, {"min_coverage": -0.1}, {"max_seconds": math.nan}, {"max_warnings": "none"},
     {"min_points": True}],
)  # fmt: skip
def test_impossible_gates_are_refused(wrong):
    with pytest.raises(OptionsError, match=r"check: --m(in|ax)-[a-z]+ is .* is expected"):
        Gates(**wrong)


def test_by_default_a_number_a_finished_scene_cannot_have_is_not_asked_for():
    given_poses = default_gates(report(registered_share=1.0, align_residual=0.02, coverage=0.9))
    assert given_poses.min_registered == 0.8
    assert given_poses.max_reprojection_px is None
    assert given_poses.max_held_out is None
    unfinished = default_gates(report(done=("frames",)))
    assert unfinished.max_reprojection_px == 2.0
    assert not any(result.holds for result in judge(report(done=()), unfinished))


def test_table_by_hand():
    results = [
        GateResult("--min-points", "at least 10", 12, True),
        GateResult("--require-metric", "metres per unit known", None, False, "no length in metres is known"),
    ]
    assert gates_table(results).splitlines() == [
        "gate              wanted                 found                                  ok",
        "--min-points      at least 10            12                                     yes",
        "--require-metric  metres per unit known  nothing: no length in metres is known  NO",
        "1 of 2 gates hold",
    ]


@pytest.mark.parametrize(
    ("gates", "number", "wanted", "found", "ok"),
    [
        ({"max_seconds": 223.22}, {"seconds": 223.2249}, "at most 223.22", "223.225", "NO"),
        ({"min_registered": 0.99999999}, {"registered_share": 0.9999999}, "at least 0.99999999", "0.9999999", "NO"),
        ({"max_held_out": 0.05}, {"held_out_residual": 0.050000001}, "at most 0.05", "0.050000001", "NO"),
        ({"min_coverage": 0.49996}, {"coverage": 0.49996}, "at least 0.49996", "0.5", "yes"),
        ({"min_coverage": 0.12344}, {"coverage": 0.123441}, "at least 0.12344", "0.12344", "yes"),
        ({"min_static_points": 12345678}, {"static_points": 12345677}, "at least 12345678", "12345677", "NO"),
        ({"max_seconds": 2e6}, {"seconds": 1.5}, "at most 2000000.0", "1.5", "yes"),
    ],
)
def test_the_table_does_not_contradict_itself(gates, number, wanted, found, ok):
    row = gates_table(judge(report(**number), Gates(**gates))).splitlines()[1]
    assert row.split()[1:] == [*wanted.split(), found, ok]


# -- the whole way -----------------------------------------------------------------------------------------------------


@pytest.fixture
def scene(tmp_path) -> Workspace:
    """A scene with frames and poses: 9 of 10 frames registered at 0.5 px, 12 s, 300 MB, one warning."""
    workspace = Workspace.create(tmp_path / "s")
    put(workspace, "frames", {"frames": 10}, seconds=2.0, peak_memory_mb=100.0)
    put(
        workspace,
        "poses",
        {"source": "colmap", "frames": 10, "registered": 9, "reprojection_error_px": 0.5, "points": 700},
        inputs={"frames": "key of frames"},
        seconds=10.0,
        peak_memory_mb=300.0,
        warnings=["poses: one frame has no pose"],
    )
    return workspace


def put(workspace: Workspace, unit: str, summary: dict[str, object], **more: object) -> None:
    part = workspace.start(unit, unit)
    more = {"inputs": {}, "options": {}} | more
    workspace.publish(part, StageRecord(unit, 1, f"key of {unit}", summary=summary, **more))


def check(scene: Workspace, *words: object) -> int:
    return cli.main(["check", str(scene.root), *map(str, words)])


def test_exit_codes(scene, capsys):
    good = ("--min-registered", 0.9, "--max-reprojection-px", 0.5, "--max-warnings", 1, "--max-seconds", 12)
    assert check(scene, *good, "--max-memory-mb", 300, "--require-stages", "frames", "poses", "--up-to-date") == 0
    assert "8 of 8 gates hold" in capsys.readouterr().out
    assert check(scene, *good, "--max-memory-mb", 299) == 3
    said = capsys.readouterr().out
    assert "--max-memory-mb        at most 299   300    NO" in said
    assert "4 of 5 gates hold" in said
    assert check(scene, "--require-stages", "poses,fuse") == 3
    assert check(scene, "--min-registered", 2) == 1
    assert "from 0 to 1" in capsys.readouterr().err
    assert cli.main(["check", str(scene.root / "nowhere"), "--up-to-date"]) == 1


def test_json(scene, capsys):
    assert check(scene, "--json", "--max-held-out", 0.06) == 3
    (result,) = json.loads(capsys.readouterr().out)
    assert result == {
        "gate": "--max-held-out",
        "wanted": "at most 0.06",
        "found": None,
        "holds": False,
        "why": "the stage align is not done",
    }


def test_without_gates_the_default_ones_are_printed(scene, capsys):
    assert check(scene) == 3
    said = capsys.readouterr().out
    assert "--min-registered       at least 0.8" in said
    assert "the stage fuse is not done" in said


def test_poses_of_other_frames_are_out_of_date(scene):
    assert all(result.holds for result in recon4d.check(scene, Gates(up_to_date=True)))
    record = dataclasses.replace(scene.record("frames"), key="another")
    scene.publish(scene.start("frames", "another"), record)
    (result,) = recon4d.check(scene.root, Gates(up_to_date=True))
    assert result.found == "out of date: poses"
    assert not result.holds


def test_no_scene(tmp_path):
    with pytest.raises(WorkspaceError):
        recon4d.check(tmp_path)

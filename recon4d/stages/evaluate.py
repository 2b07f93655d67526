"""Scores of a scene against truth. It reads results and caches nothing, so it is no stage with a record."""

from __future__ import annotations

import json
import tempfile
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from recon4d.errors import AlignmentError, EvaluationError
from recon4d.formats.text_files import write_text
from recon4d.progress import Progress, Silent
from recon4d.scene.trajectory import Trajectory
from recon4d.scene.transforms import Rigid3, Sim3
from recon4d.workspace import Workspace

if TYPE_CHECKING:
    from recon4d.evaluation.depth_scores import DepthScores
    from recon4d.evaluation.trajectory_scores import TrajectoryScores
    from recon4d.evaluation.truth import Counting
    from recon4d.scene.recording import Recording
    from recon4d.stages.evaluate_pairs import Pair, Pairs

StageName = Literal["depth", "align", "mesh", "refine", "rendered"]
ScaleName = Literal["clip-median", "trajectory", "metric"]
USUAL_MAX_DEPTH = 8.0  # metres, indoors


@dataclass(frozen=True)
class EvaluateOptions:
    """What is scored against what."""

    stage: StageName | None = None
    """Whose depth is scored; rendered: the fused background seen from each frame. Without it refine, else align."""
    protocol: Literal["recon4d", "video-depth"] = "recon4d"
    """How depth is scored. video-depth: a source's own numbers as the video depth benchmarks do it: one scale and shift
    for the clip in disparity, truth from 0.001 m to --max-depth, the mean over frames."""
    source: str | None = None
    """Depth source for the stage depth; without it the first of those made."""
    depth_gt: Path | None = None
    """True z-depth of the original frames: a folder of NAME.png (16 bit), .npz, .npy or .exr, or a stack."""
    depth_gt_scale: float = 0.001
    """Metres per value of the true depth (0.001: millimetres)."""
    min_depth: float = 0.3
    """True depth nearer than this (metres) is not used; 0 = no limit."""
    max_depth: float | None = None
    """True depth beyond this (metres) is not used; 0 = no limit. Without it 8; --protocol video-depth wants it said."""
    trajectory_gt: Path | None = None
    """True camera path, TUM lines (t tx ty tz qx qy qz qw, camera-to-world, metres)."""
    trajectory_match: Literal["time", "row"] = "time"
    """How true poses find their frames: by time, or line by line as --names, --offset and --stride say."""
    max_time_gap: float = 0.02
    """True poses further than this (seconds) from a frame's time do not belong to it."""
    time_offset: float = 0.0
    """Seconds added to the frames' times before they are looked up in the true trajectory."""
    mask_gt: Path | None = None
    """Folder of NAME.png, 0 = static: scores the masks of the stage motion, and static and moving pixels apart."""
    flow_gt: Path | None = None
    """Folder of NAME.npz with the true world displacement (metres) to the next frame under `next` or `flow`."""
    cloud_gt: Path | None = None
    """PLY of the true static surfaces, metres, in the world frame of --trajectory-gt."""
    cloud_thresholds: tuple[float, ...] = (0.02, 0.05)
    """Distances (metres) for precision, recall and F-score of the cloud."""
    scale: ScaleName = "clip-median"
    """The one scale of the clip behind the scores per frame; never one per frame. All known ones are reported."""
    names: Path | None = None
    """Text file, one line per row of the truth (sorted files): the frame NAME it belongs to."""
    offset: int | None = None
    """Row k of the truth (sorted files) is source frame offset + k * stride; without it truth is matched by NAME."""
    stride: int | None = None
    """See offset."""
    splat_radius_px: float = 1.0
    """Size (pixels) of the points for the stage rendered."""
    json: Path | None = None
    """Also write the result to this file."""


@dataclass(frozen=True)
class TruePath:
    """The true trajectory at our frames."""

    world_from_cam: dict[str, Rigid3]  # frame name -> true pose
    scores: TrajectoryScores | None  # None: the path does not determine a similarity
    rule: str
    remark: str | None


def evaluate(
    workspace: Workspace,
    options: EvaluateOptions,
    progress: Progress | None = None,
    stale: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """Score a scene; the result holds plain numbers, lists and texts only.

    Args:
        stale: units that no longer belong to what they were made from, and why; those that are scored get a note.

    Raises:
        EvaluationError: no frame has truth, the wanted scale is not known, an option lacks another it needs, or the
            result cannot be written where --json says.
        WorkspaceError: the stage to score is not done.
        InputError: a file of truth is missing or damaged.
    """
    from recon4d.evaluation.report import as_plain
    from recon4d.evaluation.truth import Counting

    progress = progress or Silent()
    _check(workspace, options)
    if options.max_depth is None:
        options = replace(options, max_depth=USUAL_MAX_DEPTH)
    recording, trajectory = workspace.recording(), workspace.trajectory()
    counting = Counting.read(options.names, options.offset, options.stride)
    result: dict[str, object] = {"scene": str(workspace.root), "registered": _registered(recording, trajectory)}
    rules: dict[str, str] = {}
    notes: list[str] = []
    scored = ["poses"]
    path = None
    if options.trajectory_gt is not None:
        path = _true_path(recording, trajectory, options, counting)
        rules["trajectory"] = path.rule
        notes += [path.remark] if path.remark else []
        result["trajectory"] = path.scores
    if options.protocol == "video-depth":
        from recon4d.stages.evaluate_protocol import score_by_protocol

        result["benchmark"] = found = score_by_protocol(workspace, options, counting, progress)
        rules["depth"] = found["rule"]
        scored.append(found["unit"])
    elif options.depth_gt is not None:
        from recon4d.stages.evaluate_pairs import Pairs

        pairs = Pairs(workspace, options, counting)
        rules.update(pairs.rules)
        scored.append(pairs.unit)
        result.update(_score_depth(workspace, pairs, options, path, notes, progress))
    if options.mask_gt is not None and workspace.record("motion") is not None:
        from recon4d.stages.evaluate_motion import score_masks

        result["mask"] = score_masks(workspace, options, counting, rules, progress)
        scored.append("motion")
    if options.flow_gt is not None:
        from recon4d.stages.evaluate_motion import score_scene_flow

        similarity = _similarity(path, "--flow-gt")
        result["flow"] = score_scene_flow(workspace, options, counting, similarity, progress)
    if options.cloud_gt is not None:
        result["cloud"] = _score_cloud(workspace, options, _similarity(path, "--cloud-gt"))
    if options.flow_gt is not None or options.cloud_gt is not None:
        scored.append("fuse")
    notes += _out_of_date(scored, stale or {})
    if len(result) == 2:
        notes.append("no truth was given: --depth-gt, --trajectory-gt, --mask-gt, --flow-gt or --cloud-gt name it")
    result = as_plain({**result, "rules": rules, "notes": notes})
    if options.json is not None:
        write_text(options.json, json.dumps(result, indent=1) + "\n")
    return result


def _check(workspace: Workspace, options: EvaluateOptions) -> None:
    nothing_there = options.depth_gt is None and options.flow_gt is None and workspace.record("motion") is None
    if options.mask_gt is not None and nothing_there:
        raise EvaluationError(
            "evaluate: --mask-gt says which pixels move: run the stage motion first to score its masks, or name with "
            "--depth-gt or --flow-gt what to score there"
        )
    if options.depth_gt is not None and not options.depth_gt_scale > 0:
        raise EvaluationError(f"evaluate: --depth-gt-scale is {options.depth_gt_scale}, a number above 0 is expected")
    if options.protocol == "video-depth":
        from recon4d.stages.evaluate_protocol import check_protocol

        check_protocol(options)
    elif options.source is not None and options.stage != "depth":
        raise EvaluationError("evaluate: --source chooses what --stage depth scores, no other stage has several")
    if options.json is not None:
        _check_target(options.json)


def _check_target(path: Path) -> None:
    """Make the folder of the result and try to write there: scoring takes minutes, and must not be for nothing."""
    if path.is_dir():
        raise EvaluationError(f"evaluate: --json {path} is a folder, a file for the result is expected")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise EvaluationError(
            f"evaluate: --json {path} cannot be written, its folder refuses ({error.strerror}): choose another folder"
        ) from error


def _out_of_date(scored: list[str], stale: Mapping[str, str]) -> list[str]:
    """A note for each scored unit whose numbers belong to an earlier state of the scene."""
    return [
        f"{unit} is out of date: {stale[unit]}; recon4d run brings the scene up to date"
        for unit in dict.fromkeys(scored)
        if unit in stale
    ]


def _registered(recording: Recording, trajectory: Trajectory) -> dict[str, object]:
    """Frames whose pose was measured or given, of all chosen frames."""
    registered = sum(origin.is_evidence for origin in trajectory.origin)
    return {"frames": registered, "of": len(recording), "share": registered / len(recording)}


def _similarity(path: TruePath | None, option: str) -> Sim3:
    """Where our world lies in the truth's. Raises EvaluationError."""
    if path is None or path.scores is None:
        raise EvaluationError(f"evaluate: {option} is in the world frame of the truth, which --trajectory-gt must give")
    return path.scores.truth_from_estimate


# -- the camera's path -----------------------------------------------------------------------------------------------


def _true_path(recording: Recording, trajectory: Trajectory, options: EvaluateOptions, counting: Counting) -> TruePath:
    """Match the true poses to the frames and score the registered ones."""
    from recon4d.evaluation.trajectory_scores import match_times, score_trajectory
    from recon4d.evaluation.truth import match_rows
    from recon4d.formats.trajectories import read_tum

    times, poses = read_tum(options.trajectory_gt)
    if options.trajectory_match == "row":
        match = match_rows(recording, len(times), None, counting, "--trajectory-gt")
        row_of, rule = match.row_of, match.rule
    else:
        ours, theirs = match_times(trajectory.timestamps_s, times, options.max_time_gap, options.time_offset)
        row_of = {trajectory.names[i]: int(k) for i, k in zip(ours, theirs)}
        rule = f"by time, within {options.max_time_gap:g} s"
    evidence = [view.name for view in trajectory if view.origin.is_evidence and view.name in row_of]
    if len(evidence) < 3:
        raise EvaluationError(
            f"evaluate: {len(evidence)} registered frames have a true pose ({rule}; frames from "
            f"{trajectory.timestamps_s[0]:.3f} to {trajectory.timestamps_s[-1]:.3f} s, truth from {times.min():.3f} to "
            f"{times.max():.3f} s), 3 are needed: shift the times with --time-offset or use --trajectory-match row"
        )
    world_from_cam = {name: poses[row] for name, row in row_of.items()}
    estimate = trajectory.cam_from_world[np.array([trajectory.names.index(name) for name in evidence])].inverse()
    truth = poses[np.array([row_of[name] for name in evidence])]
    try:
        return TruePath(world_from_cam, score_trajectory(estimate, truth), rule, None)
    except AlignmentError as error:
        return TruePath(world_from_cam, None, rule, f"the trajectory is not scored: {error}")


# -- depth -----------------------------------------------------------------------------------------------------------


def _score_depth(
    workspace: Workspace,
    pairs: Pairs,
    options: EvaluateOptions,
    path: TruePath | None,
    notes: list[str],
    progress: Progress,
) -> dict[str, object]:
    """Scores for every known scale, and per frame for the chosen one."""
    from recon4d.evaluation.depth_scores import mean_scores

    notes += pairs.remarks
    scales = _scales(workspace, pairs, path, progress)
    if scales.get(options.scale) is None:
        known = ", ".join(name for name, value in scales.items() if value is not None)
        raise EvaluationError(
            f"evaluate: the scale '{options.scale}' is not known for the stage {pairs.stage}: choose from {known}, or "
            "give --trajectory-gt (trajectory) or metric depth (metric)"
        )
    collected: dict[str, dict[str, list]] = {name: {} for name, value in scales.items() if value is not None}
    frames: dict[str, dict[str, object]] = {}
    flicker = _FlickerOfClip(path, scales[options.scale])
    with progress.bar("scoring depth", len(pairs.names)) as bar:
        for name, pair in pairs:
            for scale in collected:
                for group, scores in _groups(pair, scales[scale]).items():
                    collected[scale].setdefault(group, []).append(scores)
                    if scale == options.scale:
                        frames.setdefault(name, {})[group] = scores
            flicker.add(name, pair)
            bar.advance()
    depth = {scale: {group: mean_scores(rows) for group, rows in groups.items()} for scale, groups in collected.items()}
    if path is None:
        notes.append("temporal stability is not scored: it carries surface points with --trajectory-gt")
    return {
        "stage": pairs.stage,
        "frames": len(pairs.names),
        "scale": options.scale,
        "scales": scales,
        "depth": depth,
        "temporal": flicker.result(),
        "depth_frames": frames,
    }


def _scales(
    workspace: Workspace, pairs: Pairs, path: TruePath | None, progress: Progress
) -> dict[ScaleName, float | None]:
    """Metres per unit of the estimate, from each place it can come from."""
    from recon4d.evaluation.depth_scores import RatioMedian

    if pairs.is_fitted:
        return {"clip-median": 1.0, "trajectory": None, "metric": None}
    median = RatioMedian()
    with progress.bar("scale of the clip", len(pairs.names)) as bar:
        for _, pair in pairs:
            median.add(pair.estimate, pair.valid, pair.truth, pair.known)
            bar.advance()
    ratio = median.value()
    if ratio is None:
        raise EvaluationError(
            f"evaluate: no pixel has both truth ({pairs.limits}) and an estimate: check --depth-gt-scale and --names"
        )
    if not pairs.in_scene_units:
        return {"clip-median": ratio, "trajectory": None, "metric": 1.0 if pairs.is_metric else None}
    metric = None
    if workspace.record("align") is not None:
        scale_file = workspace.unit_dir("align") / "scale.json"
        metric = json.loads(scale_file.read_text(encoding="utf-8"))["metres_per_unit"]
    scored = path is not None and path.scores is not None
    return {
        "clip-median": ratio,
        "trajectory": path.scores.truth_from_estimate.scale if scored else None,
        "metric": metric,
    }


def _groups(pair: Pair, scale: float) -> dict[str, DepthScores]:
    """Scores of all, static and moving pixels, as far as there are such with truth."""
    from recon4d.evaluation.depth_scores import score_depth

    regions = {"all": pair.known}
    if pair.moving is not None:
        regions |= {"static": pair.known & ~pair.moving, "moving": pair.known & pair.moving}
    scored = {
        group: score_depth(scale * pair.estimate, pair.valid, pair.truth, region) for group, region in regions.items()
    }
    return {group: scores for group, scores in scored.items() if scores is not None}


class _FlickerOfClip:
    """Temporal stability, five neighbouring frames in memory at a time."""

    def __init__(self, path: TruePath | None, scale: float) -> None:
        self._path, self._scale = path, scale
        self._window: deque = deque(maxlen=5)
        self._found: list = []

    def add(self, name: str, pair: Pair) -> None:
        """Take the next frame; one without a true pose interrupts the neighbourhood."""
        from recon4d.evaluation.temporal import SPAN, StabilityFrame, surface_flicker

        if self._path is None or name not in self._path.world_from_cam:
            self._window.clear()
            return
        known = pair.known if pair.moving is None else pair.known & ~pair.moving
        pose = self._path.world_from_cam[name].inverse()
        self._window.append(
            StabilityFrame(pair.camera, pose, self._scale * pair.estimate, pair.valid, pair.truth, known)
        )
        if len(self._window) == SPAN:
            flicker = surface_flicker(self._window)
            self._found += [flicker] if flicker is not None else []

    def result(self) -> dict[str, float] | None:
        """Mean over all windows, or None when there was none."""
        if not self._found:
            return None
        return {
            "flicker": float(np.mean([item.relative for item in self._found])),
            "flicker_m": float(np.mean([item.length for item in self._found])),
            "flicker_median": float(np.mean([item.median for item in self._found])),
            "windows": len(self._found),
        }


# -- the cloud --------------------------------------------------------------------------------------------------------


def _score_cloud(workspace: Workspace, options: EvaluateOptions, start: Sim3) -> object:
    from recon4d.evaluation.cloud_scores import refine_similarity, score_cloud
    from recon4d.formats.ply import read_cloud

    estimate, truth = workspace.static_cloud().points, read_cloud(options.cloud_gt).points
    return score_cloud(estimate, truth, options.cloud_thresholds, refine_similarity(estimate, truth, start))

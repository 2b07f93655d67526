"""Scores of depth by multi-view stereo for `bench_stereo.py`: of all pixels, of those it is sure of, of its cloud."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from voxels import VoxelMerger

from recon4d import Workspace
from recon4d.evaluation.cloud_scores import CloudScores, refine_similarity, score_cloud
from recon4d.evaluation.depth_scores import RatioMedian, mean_scores, score_depth
from recon4d.evaluation.sampling import nearest_at, on_grid
from recon4d.evaluation.temporal import SPAN, StabilityFrame, surface_flicker
from recon4d.evaluation.trajectory_scores import match_times
from recon4d.evaluation.truth import Counting, GridTruth
from recon4d.formats.trajectories import read_tum
from recon4d.scene.camera import Camera
from recon4d.scene.depth import Provenance
from recon4d.scene.transforms import Rigid3, Sim3
from recon4d.stages.evaluate import EvaluateOptions
from recon4d.stages.evaluate_pairs import Pair, Pairs

MVS = "mvs"
COMPLETED, CONFIDENT, MEASURED = "completed", "confident", "measured"  # the rows
SURE = 0.5  # confidence above which a pixel is confident
RIGHT = 0.05  # relative error of depth that is said to be within 5 %
DECILES = 10
CLOUD_DISTANCES = (0.02, 0.05)  # metres
TRUE_VOXEL = 0.01  # metres: about as dense as the fused cloud
TRUE_VIEWS = 2  # frames that must have measured a voxel of the true cloud: one alone is often wrong at silhouettes


# -- depth ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StereoFrame:
    """One frame with true depth; all grids (H, W) of the truth."""

    name: str
    pair: Pair
    confidence: np.ndarray  # of the nearest pixel
    present: np.ndarray  # bool, the nearest pixel is valid
    rows: dict[str, np.ndarray]  # row -> bool, pixels that count; all four around them do

    @property
    def static(self) -> np.ndarray:
        """(H, W) bool: pixels with truth that do not move."""
        return self.pair.known if self.pair.moving is None else self.pair.known & ~self.pair.moving


class StereoScores:
    """What the depth of a scene's source mvs is worth, by one scale for the clip, on pixels that do not move.

    The scale is the median of truth over estimate of the completed depth, and the same for every row.
    """

    def __init__(self, workspace: Workspace, options: EvaluateOptions) -> None:
        self._workspace, self._options = workspace, options
        self._counting = Counting.read(options.names, options.offset, options.stride)
        self._pose = _true_poses(workspace, options)
        median = RatioMedian()
        for frame in self._frames():
            median.add(frame.pair.estimate, frame.rows[COMPLETED], frame.pair.truth, frame.static)
        self.scale = median.value()

    def measure(self) -> dict[str, object]:
        """Scores per row, calibration, and how much is not valid of what moves and of what does not."""
        rows = {row: _Row() for row in (COMPLETED, CONFIDENT, MEASURED)}
        calibration, moved = Calibration(), _Moved()
        for frame in self._frames():
            pair, estimate = frame.pair, np.float32(self.scale) * frame.pair.estimate
            for row, valid in frame.rows.items():
                pose = self._pose.get(frame.name)
                rows[row].add(pair.camera, pose, estimate, valid, pair.truth, frame.static)
            said = frame.static & frame.rows[COMPLETED]
            off = np.abs(estimate[said] / pair.truth[said] - 1)
            calibration.add(frame.confidence[said], off < RIGHT)
            moved.add(frame, estimate)
        return {
            "scale": self.scale,
            "rows": {row: found.result() for row, found in rows.items()},
            "calibration": calibration.result(),
            "moved": moved.result(),
        }

    def _frames(self) -> Iterator[StereoFrame]:
        for name, pair in Pairs(self._workspace, self._options, self._counting):
            depth, shape = self._workspace.depth_map(name, MVS), pair.truth.shape
            counted = {
                COMPLETED: depth.valid,
                CONFIDENT: depth.valid & (depth.confidence > SURE),
                MEASURED: depth.valid & (depth.provenance == Provenance.MEASURED),
            }
            yield StereoFrame(
                name=name,
                pair=pair,
                confidence=nearest_on(depth.confidence, shape),
                present=nearest_on(depth.valid, shape),
                rows={row: on_grid(depth.values, valid, shape)[1] for row, valid in counted.items()},
            )


class _Row:
    """Scores of the frames of a clip and of windows of neighbouring ones."""

    def __init__(self) -> None:
        self._scores, self._flickers, self._window = [], [], deque(maxlen=SPAN)

    def add(
        self,
        camera: Camera,
        pose: Rigid3 | None,
        estimate: np.ndarray,
        valid: np.ndarray,
        truth: np.ndarray,
        known: np.ndarray,
    ) -> None:
        score = score_depth(estimate, valid, truth, known)
        self._scores += [score] if score is not None else []
        if pose is None:
            self._window.clear()
            return
        self._window.append(StabilityFrame(camera, pose, estimate, valid, truth, known))
        if len(self._window) == SPAN:
            flicker = surface_flicker(self._window)
            self._flickers += [flicker] if flicker is not None else []

    def result(self) -> dict[str, float | None]:
        mean = mean_scores(self._scores)
        found = {name: getattr(mean, name) for name in ("completeness", "within_5", "within_1", "abs_rel", "rmse")}
        # Of all pixels with truth: one without an estimate is not within anything.
        of_all = np.mean([np.nan_to_num(score.delta1) * score.completeness for score in self._scores])
        return {
            **found,
            "median_rel": mean.median_rel,
            "delta1": mean.delta1,
            "delta1_of_all": float(of_all),
            "flicker": float(np.mean([item.relative for item in self._flickers])) if self._flickers else None,
            "flicker_median": float(np.mean([item.median for item in self._flickers])) if self._flickers else None,
        }


class _Moved:
    """What becomes of pixels that move, which no static depth can be right for, and of those that do not."""

    def __init__(self) -> None:
        self._static, self._moving, self._static_gone, self._moving_gone, self._wrong, self._known = [0] * 6

    def add(self, frame: StereoFrame, estimate: np.ndarray) -> None:
        pair = frame.pair
        moving = np.zeros_like(frame.present) if pair.moving is None else pair.moving
        self._static += int((~moving).sum())
        self._static_gone += int((~moving & ~frame.present).sum())
        self._moving += int(moving.sum())
        self._moving_gone += int((moving & ~frame.present).sum())
        known = moving & pair.known
        valid = known & frame.rows[COMPLETED]
        self._known += int(known.sum())
        self._wrong += int((np.abs(estimate[valid] / pair.truth[valid] - 1) >= RIGHT).sum())

    def result(self) -> dict[str, float | None]:
        return {
            "static_invalid": self._static_gone / max(self._static, 1),
            "moving_invalid": self._moving_gone / self._moving if self._moving else None,
            "moving_valid_and_wrong": self._wrong / self._known if self._known else None,
        }


class Calibration:
    """How often pixels are right against how often their confidence says so."""

    def __init__(self) -> None:
        self._count, self._right, self._said = np.zeros((3, DECILES))

    def add(self, confidence: np.ndarray, right: np.ndarray) -> None:
        """``confidence`` (K,) 0..1 and ``right`` (K,) bool of some pixels."""
        decile = np.clip((confidence * DECILES).astype(int), 0, DECILES - 1)
        self._count += np.bincount(decile, minlength=DECILES)
        self._right += np.bincount(decile, weights=right, minlength=DECILES)
        self._said += np.bincount(decile, weights=confidence, minlength=DECILES)

    def result(self) -> dict[str, object]:
        """Per decile the share of all pixels, what they say and what is right; and the expected calibration error.

        Source: Naeini et al., Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015.
        """
        count = np.maximum(self._count, 1)
        share, right, said = self._count / max(self._count.sum(), 1), self._right / count, self._said / count
        sure = slice(round(SURE * DECILES), None)
        return {
            "deciles": [
                {"share": float(n), "said": float(s), "right": float(r)} for n, s, r in zip(share, said, right)
            ],
            "expected_error": float((share * np.abs(said - right)).sum()),
            "confident_right": float(self._right[sure].sum() / max(self._count[sure].sum(), 1)),
        }


def nearest_on(grid: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A grid (h, w) of labels or chances on (H, W) = ``shape`` pixels of the same picture."""
    x = (np.arange(shape[1]) + 0.5) * (grid.shape[1] / shape[1])
    y = (np.arange(shape[0]) + 0.5) * (grid.shape[0] / shape[0])
    return nearest_at(grid, *np.meshgrid(x, y))


def _true_poses(workspace: Workspace, options: EvaluateOptions) -> dict[str, Rigid3]:
    """cam_from_world of the truth by frame name; empty without a true trajectory."""
    if options.trajectory_gt is None:
        return {}
    trajectory = workspace.trajectory()
    times, world_from_cam = read_tum(options.trajectory_gt)
    ours, theirs = match_times(trajectory.timestamps_s, times, options.max_time_gap)
    return {trajectory.names[i]: world_from_cam[int(k)].inverse() for i, k in zip(ours, theirs)}


# -- the fused cloud -----------------------------------------------------------------------------------------------


def score_fused_cloud(workspace: Workspace, options: EvaluateOptions, camera: Camera, scale: float) -> CloudScores:
    """The fused cloud against all true depth of the same frames, after iterative closest points with scale.

    Args:
        camera: of the true depth, which must be a pinhole's.
        scale: metres per scene unit to start from; that of the depth, where the path is short of it.
    """
    poses = _true_poses(workspace, options)
    truth = true_cloud(workspace, options, camera, poses)
    estimate = workspace.static_cloud().points
    start = _start(workspace, poses, scale)
    return score_cloud(estimate, truth, CLOUD_DISTANCES, refine_similarity(estimate, truth, start, rounds=100))


def true_cloud(workspace: Workspace, options: EvaluateOptions, camera: Camera, poses: dict[str, Rigid3]) -> np.ndarray:
    """(N, 3) metres: the true depth of all frames with a true pose, one point per voxel of a centimetre."""
    counting = Counting.read(options.names, options.offset, options.stride)
    depths = GridTruth(Path(options.depth_gt), workspace.recording(), counting, "--depth-gt")
    merger = VoxelMerger(TRUE_VOXEL, columns=0)
    for name, cam_from_world in poses.items():
        if name not in depths:
            continue
        z = depths[name].astype(np.float64) * options.depth_gt_scale
        known = (z >= options.min_depth) & (z <= options.max_depth)
        points = cam_from_world.inverse() @ camera.unproject(z)[known]
        merger.add(points, np.ones(len(points)), np.zeros((len(points), 0)))
    points, _, frames, _ = merger.result()
    return points[frames >= TRUE_VIEWS]


def _start(workspace: Workspace, poses: dict[str, Rigid3], scale: float) -> Sim3:
    """The similarity that turns our cameras into the true ones; the turn is that of their axes, not of their path."""
    trajectory = workspace.trajectory()
    rows = [row for row, name in enumerate(trajectory.names) if name in poses]
    ours = trajectory.cam_from_world[np.array(rows)].inverse()
    theirs = [poses[trajectory.names[row]].inverse() for row in rows]
    u, _, v = np.linalg.svd(sum(b.rotation @ a.T for a, b in zip(ours.rotation, theirs)))
    turn = u @ np.diag([1.0, 1.0, np.linalg.det(u @ v)]) @ v
    middle = np.mean([pose.translation for pose in theirs], axis=0)
    return Sim3(scale, turn, middle - scale * turn @ ours.translation.mean(axis=0))

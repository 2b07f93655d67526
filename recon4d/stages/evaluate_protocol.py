"""A depth source by the protocol of the video depth benchmarks, for `stages/evaluate.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import EvaluationError
from recon4d.evaluation.truth import Counting, GridTruth
from recon4d.progress import Progress
from recon4d.scene.depth import DepthKind
from recon4d.stages.evaluate_pairs import Undistorter, unit_of
from recon4d.view.depth_nearness import nearness

if TYPE_CHECKING:
    from recon4d.evaluation.video_depth_benchmark import BenchmarkFrame
    from recon4d.stages.evaluate import EvaluateOptions
    from recon4d.workspace import Workspace

# One z of almost 0 is a disparity beyond all others: it would bend the fit, and press the rest below the floor.
STRAY = 0.01  # share of a frame's pixels
NEAREST = 4.0  # times the disparity of the nearest of the others; what is nearer counts as so near


def check_protocol(options: EvaluateOptions) -> None:
    """Refuse options that contradict the protocol. Raises EvaluationError."""
    if options.stage not in (None, "depth"):
        raise EvaluationError(
            f"evaluate: --protocol video-depth scores a source's own depth, not that of --stage {options.stage}: "
            "leave --stage out"
        )
    if options.depth_gt is None:
        raise EvaluationError("evaluate: --protocol video-depth needs true depth: name its files with --depth-gt")
    if not (options.max_depth or 0) > 0:
        raise EvaluationError(
            "evaluate: --protocol video-depth needs a far end, which the scores depend on: give --max-depth (metres; "
            "Sintel 70, KITTI 80, indoors 10)"
        )


def score_by_protocol(
    workspace: Workspace, options: EvaluateOptions, counting: Counting, progress: Progress
) -> dict[str, object]:
    """Scores of one source, the unit they belong to, and the rule by which truth was matched.

    Raises:
        EvaluationError: no frame has truth, or the source's numbers have no inverse depth.
        WorkspaceError: there is no such depth.
    """
    from recon4d.evaluation.video_depth_benchmark import benchmark_frames

    unit = unit_of(workspace, "depth", options.source)
    clip = _Clip(workspace, options, counting, unit.partition("/")[2], progress)
    found = benchmark_frames(clip.frames, options.max_depth)
    return {
        "unit": unit,
        "rule": clip.truth.match.rule,
        "frames": found.frames,
        "max_depth": options.max_depth,
        "gain": found.gain,
        "shift": found.shift,
        "scores": found.scores,
    }


class _Clip:
    """A source's depth as disparity from 0 to 1 over the whole clip, as the benchmarks are given it, and its truth."""

    def __init__(
        self, workspace: Workspace, options: EvaluateOptions, counting: Counting, source: str, progress: Progress
    ) -> None:
        self._workspace, self._source, self._progress = workspace, source, progress
        self._metres_per_value = options.depth_gt_scale
        self.truth = GridTruth(options.depth_gt, workspace.recording(), counting, "--depth-gt")
        self._undistorted = Undistorter(workspace)
        self._names = [name for name in self._undistorted.trajectory.names if name in self.truth]
        if not self._names:
            raise EvaluationError("evaluate: none of the frames with true depth has a pose: nothing can be scored")
        self._kind = DepthKind(workspace.need(f"depth/{source}", "evaluate").summary["kind"])
        if self._kind is DepthKind.AFFINE_Z:
            raise EvaluationError(
                "evaluate: --protocol video-depth is for disparity, and z of unknown shift (affine_z) has none: leave "
                "--protocol out"
            )
        self._low, self._high = self._range()

    def frames(self) -> Iterator[BenchmarkFrame]:
        from recon4d.evaluation.video_depth_benchmark import BenchmarkFrame

        with self._progress.bar("scoring depth", len(self._names)) as bar:
            for name in self._names:
                disparity, valid = self._disparity(name)
                near = np.minimum(disparity, self._high if self._kind.is_disparity else NEAREST * self._high)
                share = np.where(valid, (near - self._low) / (self._high - self._low), 0.0).astype(np.float32)
                raw = self._undistorted(name, self.truth[name]).astype(np.float64)
                metres = np.nan_to_num(raw, posinf=0.0, neginf=0.0) * self._metres_per_value
                yield BenchmarkFrame(share, metres, None if valid.all() else valid)
                bar.advance()

    def _range(self) -> tuple[float, float]:
        """What becomes 0 and 1. Of disparity the ends; of z not the very nearest, which may be stray numbers."""
        low, high = np.inf, -np.inf
        names = self._undistorted.trajectory.names
        with self._progress.bar("range of depth", len(names)) as bar:
            for name in names:
                disparity, valid = self._disparity(name)
                if valid.any():
                    near = np.quantile(disparity[valid], 1.0 if self._kind.is_disparity else 1.0 - STRAY)
                    low, high = min(low, disparity[valid].min()), max(high, near)
                bar.advance()
        if not high > low:
            raise EvaluationError(f"evaluate: all depth of {self._source} is the same: there is nothing to score")
        return float(low), float(high)

    def _disparity(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) float64 that grows towards the camera as 1 / z does, and where it is known."""
        depth = self._workspace.depth_map(name, self._source)
        disparity, valid = nearness(depth.values, depth.valid, depth.kind)
        return disparity.astype(np.float64), valid

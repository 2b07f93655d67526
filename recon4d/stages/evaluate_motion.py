"""Scores of what moves, for `stages/evaluate.py`: the masks of the stage motion and the scene flow of fuse.

Truth belongs to the frames as decoded and is carried into the undistorted pictures; scores are taken on its grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import EvaluationError
from recon4d.evaluation.flow_scores import FlowScores, mean_flow_scores, score_flow
from recon4d.evaluation.mask_scores import PooledMasks
from recon4d.evaluation.truth import Counting, FlowTruth, GridTruth
from recon4d.progress import Progress
from recon4d.scene.transforms import Sim3
from recon4d.stages.evaluate_pairs import Undistorter, nearest_on

if TYPE_CHECKING:
    from recon4d.stages.evaluate import EvaluateOptions
    from recon4d.workspace import Workspace


class MaskPairs:
    """Found and true masks of what moves, of the frames that have both, in time order."""

    def __init__(self, workspace: Workspace, options: EvaluateOptions, counting: Counting) -> None:
        self._workspace = workspace
        self._truth = GridTruth(options.mask_gt, workspace.recording(), counting, "--mask-gt")
        self.rule = self._truth.match.rule
        self._undistorted = Undistorter(workspace)
        self.names = [name for name in self._undistorted.trajectory.names if name in self._truth]
        if not self.names:
            raise EvaluationError("evaluate: none of the frames of --mask-gt has a pose: nothing can be scored")

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Estimate and truth, both (H, W) bool."""
        for name in self.names:
            truth = self._undistorted(name, self._truth[name]) != 0
            yield nearest_on(self._workspace.motion(name).mask, truth.shape), truth


class FlowPairs:
    """Estimated and true scene flow of the frames that have both, with the pixels to score.

    The last frame of the scene is not among them: what moves in it goes to no other frame.
    """

    def __init__(self, workspace: Workspace, options: EvaluateOptions, counting: Counting) -> None:
        recording = workspace.recording()
        workspace.need("fuse", "evaluate")
        self._workspace = workspace
        self._truth = FlowTruth(options.flow_gt, recording, counting)
        self._mask = None
        if options.mask_gt is not None:
            self._mask = GridTruth(options.mask_gt, recording, counting, "--mask-gt")
        self._undistorted = Undistorter(workspace)
        folder = workspace.unit_dir("fuse") / "scene_flow"
        self.names = [
            name
            for name in self._undistorted.trajectory.names[:-1]
            if name in self._truth and (folder / f"{name}.npz").exists()
        ]
        if not self.names:
            raise EvaluationError("evaluate: fuse has written no scene flow for frames of --flow-gt: nothing to score")

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]:
        """Estimate (H, W, 3) in scene units, truth (H, W, 3) in metres, and the pixels of each group."""
        for name in self.names:
            truth = self._undistorted(name, self._truth[name])
            shape = truth.shape[:2]
            estimate = nearest_on(self._workspace.scene_flow(name).next.astype(np.float64), shape)
            regions = {"all": np.ones(shape, dtype=bool)}
            if self._mask is not None and name in self._mask:
                moving = nearest_on(self._undistorted(name, self._mask[name]), shape) != 0
                regions |= {"static": ~moving, "moving": moving}
            yield estimate, truth, regions


def score_masks(
    workspace: Workspace, options: EvaluateOptions, counting: Counting, rules: dict[str, str], progress: Progress
) -> dict[str, object]:
    """Masks of the stage motion, all frames pooled; how the true ones were matched goes into ``rules``."""
    pairs, pooled = MaskPairs(workspace, options, counting), PooledMasks()
    rules["mask"] = pairs.rule
    with progress.bar("scoring masks", len(pairs.names)) as bar:
        for estimate, truth in pairs:
            pooled.add(estimate, truth)
            bar.advance()
    return {"frames": len(pairs.names), **vars(pooled.scores())}


def score_scene_flow(
    workspace: Workspace, options: EvaluateOptions, counting: Counting, truth_from_world: Sim3, progress: Progress
) -> dict[str, FlowScores | None]:
    """Scene flow of the stage fuse; displacements turn and scale with the world."""
    pairs, collected = FlowPairs(workspace, options, counting), {}
    with progress.bar("scoring flow", len(pairs.names)) as bar:
        for estimate, truth, regions in pairs:
            turned = truth_from_world.scale * estimate @ truth_from_world.rotation.T
            for group, region in regions.items():
                scores = score_flow(turned, truth, region)
                collected.setdefault(group, []).extend([scores] if scores is not None else [])
            bar.advance()
    return {group: mean_flow_scores(rows) for group, rows in collected.items()}

"""Rows of a refinement bench: what rendering makes of the frames that Gauss-Newton refines, as published and ours."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from recon4d import Workspace
from recon4d.depth.multi_view import PosedPicture
from recon4d.evaluation.depth_scores import RatioMedian, score_depth
from recon4d.evaluation.sampling import on_grid
from recon4d.evaluation.truth import Counting
from recon4d.geometry.seen_points import projected
from recon4d.geometry.stereo_views import StereoViews
from recon4d.refine.frame import Problem, RefineView
from recon4d.refine.polish import Pictures, Polished, PolishSettings, polish
from recon4d.refine.prior import prior_at, prior_springs
from recon4d.refine.reference import ReferenceSettings, refine_by_reference
from recon4d.render.cpu_rasterizer import CpuRasterizer
from recon4d.stages.evaluate import EvaluateOptions
from recon4d.stages.evaluate_pairs import Pairs
from recon4d.stages.refine_walks import POINT_ERROR_PX, POINT_TRACK
from recon4d.stages.working_pictures import WorkingPictures

STEP = 0.1  # of log depth between neighbouring pixels of the truth: a silhouette
NEAR_PX = 5
VIEWS = 8


@dataclass(frozen=True)
class Row:
    """Mean scores of some frames under one scale, the median of truth over estimate; nothing that moves counts."""

    abs_rel: float
    median_rel: float
    within_5: float
    near_steps: float  # abs_rel of pixels within `NEAR_PX` of a step of the truth
    cpu_s: float  # per frame


class FrameScores:
    """Scores of a choice of frames. Raises OptionsError where there is no true depth."""

    def __init__(self, workspace: Workspace, options: EvaluateOptions, names: Sequence[str]) -> None:
        pairs = Pairs(workspace, options, Counting.read(options.names, options.offset, options.stride))
        self._truth = {}
        for name, pair in pairs:
            if name in names:
                known = pair.known if pair.moving is None else pair.known & ~pair.moving
                self._truth[name] = pair.truth, known, near_steps(pair.truth, pair.known)

    @property
    def names(self) -> list[str]:
        """Frames with true depth."""
        return list(self._truth)

    def row(self, found: dict[str, np.ndarray], cpu_s: float = 0.0) -> Row:
        """Of log inverse depth (h, w) by name, NaN where there is none."""
        median, kept = RatioMedian(), []
        for name, (truth, known, near) in self._truth.items():
            valid = np.isfinite(found[name])
            z = np.where(valid, np.exp(-np.where(valid, found[name], 0)), 0).astype(np.float32)
            estimate, valid = on_grid(z, valid, truth.shape)
            median.add(estimate, valid, truth, known)
            kept.append((estimate, valid, truth, known, near & known & valid))
        scale, scores, steps = np.float32(median.value()), [], []
        for estimate, valid, truth, known, near in kept:
            scores.append(score_depth(scale * estimate, valid, truth, known))
            steps.append(np.abs(scale * estimate[near] / truth[near] - 1).mean() if near.any() else np.nan)
        means = (
            float(np.mean([getattr(score, key) for score in scores])) for key in ("abs_rel", "median_rel", "within_5")
        )
        return Row(*means, float(np.nanmean(steps)), cpu_s)


def near_steps(truth: np.ndarray, known: np.ndarray) -> np.ndarray:
    import cv2

    x = np.log(np.where(known, truth, np.nan))
    step = np.zeros(truth.shape, dtype=np.uint8)
    right, down = np.abs(np.diff(x, axis=1)) > STEP, np.abs(np.diff(x, axis=0)) > STEP  # False with NaN
    step[:, 1:] |= right
    step[:, :-1] |= right
    step[1:] |= down
    step[:-1] |= down
    return cv2.dilate(step, np.ones((2 * NEAR_PX + 1,) * 2, np.uint8)) > 0


class Rendering:
    """Rendering of a scene's frames at the working size, in one thread.

    Give PyTorch one thread (`torch.set_num_threads`), or the seconds are those of several.
    """

    def __init__(self, workspace: Workspace, max_size: int) -> None:
        self._workspace, self._trajectory = workspace, workspace.trajectory()
        self._model = workspace.sparse_model()
        self._views = StereoViews(self._model, self._trajectory)
        self._pictures = WorkingPictures(workspace, self._trajectory, max_size, kept=64)
        self._row = {name: i for i, name in enumerate(self._trajectory.names)}
        self._rasterizer = CpuRasterizer(threads=1)

    def prior(self, name: str) -> np.ndarray:
        """(h, w) log inverse depth before refinement."""
        height, width = self._picture(name).camera.shape
        return prior_at(self._workspace.scene_depth(name, "mesh"), width, height)[0]

    def reference(
        self, name: str, settings: ReferenceSettings, moments_s: Sequence[float] = ()
    ) -> list[tuple[float, np.ndarray]]:
        """CPU seconds and log inverse depth as these moments pass, and at the end, of the published method."""
        views = [self._pictures.posed(j) for j in self._views.others(self._row[name], VIEWS)]
        waiting, kept, begun = sorted(moments_s), [], time.process_time()

        def watch(step, depth) -> None:
            nonlocal begun
            gone = time.process_time()
            if waiting and gone - begun >= waiting[0]:
                kept.append((gone - begun, -np.log(depth())))
                while waiting and gone - begun >= waiting[0]:
                    waiting.pop(0)
                begun += time.process_time() - gone  # looking costs nothing

        picture, prior = self._picture(name), np.exp(-self.prior(name))
        points = self._points(name)
        found = refine_by_reference(picture, prior, views, points, settings, self._rasterizer, watch)
        return [*kept, (time.process_time() - begun, -np.log(found.z))]

    def polished(
        self, name: str, surfaces: dict[str, np.ndarray], start: np.ndarray | None, settings: PolishSettings
    ) -> tuple[float, Polished]:
        """CPU seconds and the answer of our rendering from ``start``, or from the prior.

        Args:
            surfaces: log inverse depth of other frames by name, what hides what; the prior of those that are not there.
        """
        begun, picture, prior = time.process_time(), self._picture(name), self.prior(name)
        others = [self._trajectory.names[j] for j in self._views.others(self._row[name], VIEWS)]
        views = [self._view(other, surfaces[other] if other in surfaces else self.prior(other)) for other in others]
        problem = Problem(self._view(name, prior), np.ones_like(prior), *prior_springs(prior, picture.rgb), (), views)
        pictures = Pictures(picture.rgb, [self._picture(other).rgb for other in others])
        found = polish(problem, pictures, start, settings, self._rasterizer)
        return time.process_time() - begun, found

    def _picture(self, name: str) -> PosedPicture:
        return self._pictures.posed(self._row[name])

    def _view(self, name: str, x: np.ndarray) -> RefineView:
        view = self._pictures.grey(self._row[name])
        return RefineView(view.grey, x, np.zeros_like(x), view.camera, view.cam_from_world)

    def _points(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (K, 2) of the working size and z-depth (K,) of the sparse points that the frame observed."""
        model, picture = self._model, self._picture(name)
        rows = model.rows.get(name, np.zeros(0, dtype=int))
        rows = rows[(model.error_px[rows] <= POINT_ERROR_PX) & (model.track_length[rows] >= POINT_TRACK)]
        x, y, z, inside = projected(model.points[rows], picture.cam_from_world, picture.camera)
        return np.stack([x, y], axis=-1)[inside], z[inside]


def rendering_rows(
    scores: FrameScores,
    rendering: Rendering,
    ours: dict[str, np.ndarray],
    ours_s: float,
    settings: tuple[ReferenceSettings, PolishSettings],
) -> dict[str, Row]:
    """The prior, ours, the published method for as long as ours took and to its end, and ours polished.

    Args:
        ours: log inverse depth (h, w) by name of the frames to score, refined without rendering; neighbours may be
            among them, and are then what hides.
        ours_s: CPU seconds a frame of it. The published method begins with a network of random weights, so after so
            short a time its depth may be worse than the prior; without `network_steps` it starts from the prior.
    """
    names = scores.names
    rows = {"prior": scores.row({name: rendering.prior(name) for name in names}), "ours": scores.row(ours, ours_s)}
    short = replace(settings[0], network_steps=1, steps=1)
    rendering.reference(names[0], short)  # what is compiled at the first call counts for nobody
    rendering.polished(names[0], ours, ours[names[0]], replace(settings[1], steps=1))
    runs = {name: rendering.reference(name, settings[0], [ours_s]) for name in names}
    for row, moment in (("published, as long", 0), ("published", -1)):
        found = {name: run[moment][1] for name, run in runs.items()}
        rows[row] = scores.row(found, float(np.mean([run[moment][0] for run in runs.values()])))
    polished = {name: rendering.polished(name, ours, ours[name], settings[1]) for name in names}
    spent = float(np.mean([seconds for seconds, _ in polished.values()]))
    rows["polished"] = scores.row({name: found.x for name, (_, found) in polished.items()}, ours_s + spent)
    return rows

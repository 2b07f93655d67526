"""The rows of `bench_align.py`: what to compare the stage align with, and the scores of each."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from types import ModuleType

import numpy as np

from recon4d import AlignOptions, Workspace
from recon4d.evaluation.depth_scores import RatioMedian, mean_scores, score_depth
from recon4d.evaluation.sampling import on_grid
from recon4d.evaluation.temporal import SPAN, StabilityFrame, surface_flicker
from recon4d.evaluation.trajectory_scores import match_times
from recon4d.evaluation.truth import Counting
from recon4d.formats.trajectories import read_tum
from recon4d.geometry.alignment import to_domain
from recon4d.geometry.clip_fit import ClipFit
from recon4d.progress import Silent
from recon4d.scene.depth import SceneDepth
from recon4d.scene.sparse import SparseModel
from recon4d.scene.transforms import Rigid3
from recon4d.stages import align, align_evidence, align_fit
from recon4d.stages.align_fit import ClipAlignment, FitSettings
from recon4d.stages.align_report import residuals
from recon4d.stages.evaluate import EvaluateOptions
from recon4d.stages.evaluate_pairs import Pairs

ONE_LINE, LEAST_SQUARES = "(a) one line for the clip", "(b) least squares per frame"
OWN_DOMAIN = "(b') the same, absolute residuals"
LINES_ONLY, OURS = "(c) ours without correction", "(d) ours"
LEAST_POINTS = 2  # of a line; a frame with fewer, or whose line falls, takes that of the nearest frame with one
COMPARED = ("abs_rel", "delta1", "within_5", "completeness", "flicker", "held_out_median", "held_out_95", "drift")
MORE_IS_BETTER = ("delta1", "within_5", "completeness")


# -- running the stage ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """One call of a watched function, times in seconds of `time.perf_counter`."""

    arguments: tuple[object, ...]
    result: object
    start: float
    end: float


@dataclass(frozen=True)
class Watched:
    """A finished run of the stage, and what went through it."""

    frames: list  # of FrameEvidence
    settings: FitSettings
    arguments: tuple[object, ...]  # of `align_clip`
    clip: ClipAlignment
    surfaces: list[SceneDepth]  # as written
    far: float  # scene units, beyond which nothing is valid
    fit_s: float  # everything between reading and writing
    stage_s: float


@contextmanager
def watched(owner: ModuleType | type, name: str) -> Iterator[list[Call]]:
    """Replace a function by itself, with a record of its calls."""
    original, calls = getattr(owner, name), []

    def call(*arguments: object) -> object:
        # The fit empties the list of frames it is given.
        before = tuple(list(given) if isinstance(given, list) else given for given in arguments)
        start = time.perf_counter()
        result = original(*arguments)
        calls.append(Call(before, result, start, time.perf_counter()))
        return result

    setattr(owner, name, call)
    try:
        yield calls
    finally:
        setattr(owner, name, original)


def align_watched(workspace: Workspace, options: AlignOptions) -> Watched:
    """Run the stage anew, whatever is done already."""
    shutil.rmtree(workspace.unit_dir("align"), ignore_errors=True)
    started = time.perf_counter()
    with (
        watched(align_evidence.EvidenceReader, "read") as reading,
        watched(align_fit, "align_clip") as fitting,
        watched(align, "aligned") as writing,
    ):
        align.run(workspace, options)
    stage_s = time.perf_counter() - started
    frames, *_, settings, _ = fitting[0].arguments
    return Watched(
        frames=frames,
        settings=settings,
        arguments=fitting[0].arguments,
        clip=fitting[0].result,
        surfaces=[call.result for call in writing],
        far=writing[0].arguments[-1],
        fit_s=writing[0].start - reading[0].end,
        stage_s=stage_s,
    )


class Thinned(Workspace):
    """A scene that shows fewer sparse points than it has; nothing on the disk changes."""

    def __init__(self, root: object, per_frame: float, seed: int = 0) -> None:
        super().__init__(root)
        self._per_frame, self._seed = per_frame, seed

    def sparse_model(self) -> SparseModel:
        """Points drawn at random until a frame sees ``per_frame`` on average that the options let align use."""
        model, options = super().sparse_model(), AlignOptions()
        usable = (model.error_px <= options.max_error_px) & (model.track_length >= options.min_track)
        usable &= model.angle_deg >= options.min_angle_deg
        order = np.random.default_rng(self._seed).permutation(len(model))
        seen = np.cumsum(np.where(usable, model.track_length, 0)[order])
        kept = np.zeros(len(model), dtype=bool)
        kept[order[: np.searchsorted(seen, self._per_frame * len(model.rows)) + 1]] = True
        return thinned(model, kept)


def thinned(model: SparseModel, kept: np.ndarray) -> SparseModel:
    """The model with only the points that are ``kept`` (P,) bool; the tracks of those stay whole."""
    place = np.cumsum(kept) - 1
    return SparseModel(
        points=model.points[kept],
        error_px=model.error_px[kept],
        track_length=model.track_length[kept],
        angle_deg=model.angle_deg[kept],
        colors=model.colors[kept],
        pixels={name: model.pixels[name][kept[rows]] for name, rows in model.rows.items()},
        rows={name: place[rows[kept[rows]]] for name, rows in model.rows.items()},
    )


# -- the rows ------------------------------------------------------------------------------------------------------


def all_rows(workspace: Workspace, run: Watched, truth: Truth) -> list[dict[str, object]]:
    """Scores of (a) to (d) on the same evidence."""
    own, absolute = least_squares(run, relative=True), least_squares(run, relative=False)
    middle = ClipFit(*(np.full(len(line), np.median(line)) for line in (own.fit.gain, own.fit.shift)))
    started = time.perf_counter()
    without = align_fit.align_clip(
        list(run.frames), *run.arguments[1:4], replace(run.settings, correction="off"), Silent()
    )
    without_s = time.perf_counter() - started
    rows = [
        _row(ONE_LINE, workspace, run, truth, _lines(run, middle), own.seconds),
        _row(LEAST_SQUARES, workspace, run, truth, _lines(run, own.fit), own.seconds),
        _row(OWN_DOMAIN, workspace, run, truth, _lines(run, absolute.fit), absolute.seconds),
        _row(LINES_ONLY, workspace, run, truth, without, without_s),
        _row(OURS, workspace, run, truth, run.clip, run.fit_s),
    ]
    return _compared(rows)


def few_rows(workspace: Workspace, run: Watched, truth: Truth) -> list[dict[str, object]]:
    """Scores of (b) and (d) only."""
    own = least_squares(run, relative=True)
    rows = [
        _row(LEAST_SQUARES, workspace, run, truth, _lines(run, own.fit), own.seconds),
        _row(OURS, workspace, run, truth, run.clip, run.fit_s),
    ]
    return _compared(rows)


@dataclass(frozen=True)
class TimedFit:
    """A fit and what it took."""

    fit: ClipFit
    seconds: float


def least_squares(run: Watched, relative: bool) -> TimedFit:
    """The line of each frame that makes the squares of its residuals least, at its own points that the fit may use.

    ``relative``: of the residuals over the structure's value, which is how align weighs them; else as they are in the
    kind's own domain (1/z for disparities), the plain choice.
    """
    kind, started = run.clip.kind, time.perf_counter()
    lines = np.full((len(run.frames), 2), np.nan)
    for i, f in enumerate(run.frames):
        d, y = f.d[f.seen.own], to_domain(f.seen.z[f.seen.own], kind)
        if len(d) < LEAST_POINTS:
            continue
        columns = np.stack([d, np.ones_like(d)], axis=1)[:, : 2 if kind.has_shift else 1]
        unit = y if relative else np.ones_like(y)
        solution = np.linalg.lstsq(columns / unit[:, None], y / unit, rcond=None)[0]
        if solution[0] > 0:
            lines[i] = *solution, *[0.0] * (2 - len(solution))
    known = np.flatnonzero(np.isfinite(lines[:, 0]))
    nearest = known[np.abs(known[:, None] - np.arange(len(lines))).argmin(axis=0)]
    return TimedFit(ClipFit(*lines[nearest].T), time.perf_counter() - started)


def _lines(run: Watched, fit: ClipFit) -> ClipAlignment:
    return replace(run.clip, fit=fit, fields=None, style=None, curve=None)


def _row(
    label: str, workspace: Workspace, run: Watched, truth: Truth, clip: ClipAlignment, fit_s: float
) -> dict[str, object]:
    surfaces = run.surfaces if clip is run.clip else _surfaces(workspace, run, clip)
    held = np.concatenate([np.abs(residuals(clip, i, f.held_d, f.held)) for i, f in enumerate(run.frames)])
    points = [int(f.seen.own.sum()) for f in run.frames]
    style = clip.style
    return {
        "row": label,
        **truth.scores(surfaces, with_sigma=clip is run.clip),
        "held_out_points": len(held),
        "held_out_median": float(np.median(held)) if len(held) else None,
        "held_out_95": float(np.percentile(held, 95)) if len(held) else None,
        "points_per_frame": float(np.mean(points)),
        "least_points": min(points),
        "frames_without_own_line": sum(fit is None for fit in clip.own),
        "style": None if style is None else asdict(style),
        "fit_ms_per_frame": 1000 * fit_s / len(points),
        "stage_ms_per_frame": 1000 * run.stage_s / len(points) if clip is run.clip else None,
    }


def _surfaces(workspace: Workspace, run: Watched, clip: ClipAlignment) -> Iterator[SceneDepth]:
    source = run.arguments[1].name
    for i, f in enumerate(run.frames):
        # The stage's own sigma is not asked of the other rows.
        yield align.aligned(
            workspace.depth_map(f.view.name, source), f, replace(clip, curve=None), i, (0.01, 1.0), run.far
        )


def _compared(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """The rows with drift against (a) and AbsRel against (b)."""
    by_label = {row["row"]: row for row in rows}
    for row in rows:
        row["abs_rel_ratio"] = row["abs_rel"] / by_label[LEAST_SQUARES]["abs_rel"]
        row["drift_ratio"] = row["drift"] / by_label[ONE_LINE]["drift"] if ONE_LINE in by_label else None
    return rows


def worse_than_least_squares(rows: Sequence[dict[str, object]]) -> list[str]:
    """One line for each score in which (d) loses against (b) or (b')."""
    found = []
    for ours in (row for row in rows if row["row"] == OURS):
        same = (ours["clip"], ours["depth"])
        for plain in (row for row in rows if row["row"] in (LEAST_SQUARES, OWN_DOMAIN)):
            if (plain["clip"], plain["depth"]) != same:
                continue
            for score in (score for score in COMPARED if None not in (ours[score], plain[score])):
                lost = plain[score] - ours[score] if score in MORE_IS_BETTER else ours[score] - plain[score]
                if lost > 0:
                    found.append(f"{', '.join(same)}: {score} {ours[score]:.4g}, {plain[score]:.4g} by {plain['row']}")
    return found


# -- scores --------------------------------------------------------------------------------------------------------


class Truth:
    """True depth of a clip, read once; the frames of ``workspace`` must be aligned already.

    Static pixels alone count where masks say what moves. Scores are those of `recon4d evaluate`, under one scale for
    the clip, the median of truth over estimate.
    """

    def __init__(self, workspace: Workspace, options: EvaluateOptions) -> None:
        trajectory = workspace.trajectory()
        pairs = Pairs(workspace, options, Counting.read(options.names, options.offset, options.stride))
        self._row = {name: i for i, name in enumerate(trajectory.names)}
        self._frames = {}
        for name, pair in pairs:
            known = pair.known if pair.moving is None else pair.known & ~pair.moving
            self._frames[name] = (pair.camera, pair.truth, known)
        self._pose: dict[str, Rigid3] = {}
        if options.trajectory_gt is not None:
            times, world_from_cam = read_tum(options.trajectory_gt)
            ours, theirs = match_times(trajectory.timestamps_s, times, options.max_time_gap)
            self._pose = {trajectory.names[i]: world_from_cam[int(k)].inverse() for i, k in zip(ours, theirs)}

    def scores(self, surfaces: Sequence[SceneDepth] | Iterator[SceneDepth], with_sigma: bool) -> dict[str, object]:
        """Depth scores, flicker and drift of a clip's surfaces, in the order of its frames."""
        median, kept = RatioMedian(), {}
        for surface, name in zip(surfaces, self._row):
            if name not in self._frames:
                continue
            _, truth, known = self._frames[name]
            estimate, valid = on_grid(surface.depth, surface.valid, truth.shape)
            median.add(estimate, valid, truth, known)
            sigma = on_grid(surface.sigma, surface.valid, truth.shape)[0] if with_sigma else None
            kept[name] = estimate, valid, sigma
        scale = median.value()
        found, signed, within, flickers, window = [], [], [], [], deque(maxlen=SPAN)
        for name, (estimate, valid, sigma) in kept.items():
            camera, truth, known = self._frames[name]
            estimate = np.float32(scale) * estimate
            score = score_depth(estimate, valid, truth, known)
            if score is None:
                continue
            found.append(score)
            both = valid & known
            error = estimate[both] / truth[both]
            signed.append(float(np.log(np.median(error))))  # the log is monotonic: the median of logs
            if sigma is not None:
                off = np.abs(estimate[both] - truth[both]) / (scale * sigma[both])
                within.append([float((off < 1).mean()), float((off < 2).mean())])
            if name not in self._pose:
                window.clear()
                continue
            window.append(StabilityFrame(camera, self._pose[name], estimate, valid, truth, known))
            if len(window) == SPAN:
                flicker = surface_flicker(window)
                flickers += [flicker] if flicker is not None else []
        mean = mean_scores(found)
        one, two = np.mean(within, axis=0).tolist() if within else (None, None)
        return {
            "scale": scale,
            **{
                name: getattr(mean, name)
                for name in ("abs_rel", "median_rel", "delta1", "within_5", "completeness", "rmse")
            },
            "worst_frame": max(score.abs_rel for score in found),
            "flicker": float(np.mean([item.relative for item in flickers])) if flickers else None,
            "flicker_median": float(np.mean([item.median for item in flickers])) if flickers else None,
            "drift": float(np.std(signed)),
            "within_one_sigma": one,
            "within_two_sigma": two,
        }

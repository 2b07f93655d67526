"""Stage align: depth of any kind becomes z-depth in scene units."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import AlignmentError
from recon4d.progress import Progress
from recon4d.scene.depth import DepthKind, DepthMap, SceneDepth
from recon4d.stages.common import check_range, execute
from recon4d.workspace import StagePart, StageRecord, Workspace

if TYPE_CHECKING:
    from recon4d.geometry.alignment import ClipFit, FrameFit
    from recon4d.scene.trajectory import Trajectory

VERSION = 1
FARTHEST = 1e9  # scene units: stands for infinity where a residual is wanted
JUDGED_POINTS = 10  # fewer sparse points do not show whether a frame's depth is plausible
STRUCTURE_SIGMA = 0.02  # relative: self-calibrated structure from motion was 1.8 to 3 % off where truth is known
# Median relative residual at the sparse points. Weak networks reach 0.07 on a room, numbers of the wrong kind 0.4.
REFUSED_RESIDUAL = 0.35
SUSPECT_RESIDUAL = 0.15


@dataclass(frozen=True)
class AlignOptions:
    """How relative depth is fitted to the sparse points."""

    primary: str | None = None
    """Depth source to align; without it the first of those made."""
    min_points: int = 20
    """Frames with fewer sparse points on valid depth follow their neighbours in time."""
    max_error_px: float = 2.0
    """Sparse points with a larger mean reprojection error (pixels) are not used."""
    min_track: int = 3
    """Sparse points seen in fewer frames are not used."""
    min_angle_deg: float = 1.0
    """Sparse points whose rays never open this far (degrees) are not used: their depth is not known."""
    step: float = 0.03
    """How much gain and shift may change from frame to frame (relative, one standard deviation)."""
    max_depth_ratio: float = 20.0
    """Depth beyond this many times the clip's far sparse points (98th percentile) counts as sky or noise: not valid."""


@dataclass(frozen=True)
class FrameSamples:
    """Sparse points of one frame on its depth."""

    d: np.ndarray  # (K,) source values
    z: np.ndarray  # (K,) z-depth, scene units


@dataclass(frozen=True)
class FitRow:
    """One row of `fits.csv`: how the depth of a frame was brought to scene units, and how well it fits."""

    name: str
    gain: float
    shift: float
    points: int  # sparse points on valid depth
    inliers: int  # of them, within three robust sigmas of the frame's own fit; 0 when it has none
    residual_median: float  # relative; of frames without points the clip's
    carried: bool  # without a fit of its own: it follows its neighbours in time


def check_options(options: AlignOptions) -> None:
    """Refuse what cannot work, before any work is done. Raises OptionsError."""
    check_range("align", "min_points", options.min_points, low=2)
    check_range("align", "max_error_px", options.max_error_px, above=0.0)
    check_range("align", "min_track", options.min_track, low=2)
    check_range("align", "min_angle_deg", options.min_angle_deg, low=0.0, high=180.0)
    check_range("align", "step", options.step, above=0.0)
    check_range("align", "max_depth_ratio", options.max_depth_ratio, above=1.0)


def run(workspace: Workspace, options: AlignOptions, progress: Progress | None = None) -> StageRecord:
    """Fit the primary depth source to the sparse points, frame by frame and smooth in time."""
    check_options(options)
    source = _primary(workspace, options)
    reads = ("poses", f"depth/{source}")
    return execute(
        workspace, "align", VERSION, options, reads, lambda part: _work(workspace, options, source, part), progress
    )


def _primary(workspace: Workspace, options: AlignOptions) -> str:
    done = workspace.depth_sources()
    if not done:
        workspace.need("depth/precomputed", "align")
    if options.primary is None:
        named = str(workspace.record(f"depth/{done[0]}").options.get("source", "")).split(",")
        return next((name.strip() for name in named if name.strip() in done), done[0])
    if options.primary not in done:
        raise AlignmentError(f"align: there is no depth '{options.primary}', done are {', '.join(done)}: see --primary")
    return options.primary


def _work(workspace: Workspace, options: AlignOptions, source: str, part: StagePart) -> dict[str, object]:
    from recon4d.formats.arrays import write_scene_depth
    from recon4d.geometry.alignment import MIN_SIGMA

    poses, trajectory = workspace.need("poses", "align"), workspace.trajectory()
    kind = DepthKind(workspace.need(f"depth/{source}", "align").summary["kind"])
    if poses.summary["source"] == "none":
        raise AlignmentError(
            "align: the poses are 'none', so there is no scene to align to: use --poses.source colmap, import or static"
        )
    fit, samples, rows = _fit(workspace, options, source, kind, trajectory, part)
    far = _far_limit(samples, options)
    for name in part.pending(trajectory.names, "aligning"):
        i, camera = trajectory.names.index(name), trajectory[name].camera
        relative_sigma = max(1.4826 * rows[i].residual_median, MIN_SIGMA)
        surface = aligned(
            workspace.depth_map(name, source),
            camera.width,
            camera.height,
            fit.gain[i],
            fit.shift[i],
            relative_sigma,
            far,
        )
        if not surface.valid.any():
            raise AlignmentError(
                f"align: no pixel of frame {name} has a positive depth under its fit: check --depth.kind"
            )
        write_scene_depth(part.path / f"{name}.npz", surface)
    _write_tables(part.path, trajectory, rows, kind, poses.summary["source"])
    residuals = np.array([row.residual_median for row in rows if row.points])
    return {
        "source": source,
        "kind": kind.value,
        "frames": len(trajectory),
        "points_per_frame": float(np.median([row.points for row in rows])),
        "carried": sum(row.carried for row in rows),
        "residual_median": float(np.median(residuals)) if len(residuals) else None,
        "metres_per_unit": json.loads((part.path / "scale.json").read_text(encoding="utf-8"))["metres_per_unit"],
    }


def _fit(
    workspace: Workspace, options: AlignOptions, source: str, kind: DepthKind, trajectory: Trajectory, part: StagePart
) -> tuple[ClipFit, list[FrameSamples], list[FitRow]]:
    """Gain and shift per frame, the samples they come from, and the rows of `fits.csv`."""
    from recon4d.geometry.alignment import ClipFit, fit_frame, smooth_fits

    count = len(trajectory)
    samples = _gather(workspace, options, source, trajectory, part)
    _check_order(samples, kind)
    enough = options.min_points
    if not kind.has_gain or not any(len(s.d) for s in samples):
        if kind.has_shift:
            raise AlignmentError(
                f"align: there are no sparse points, and depth of kind {kind.value} has an unknown shift that only "
                "they can fix: move the camera sideways so that structure from motion works, or use metric depth"
            )
        fit, fits = ClipFit(np.ones(count), np.zeros(count)), [None] * count  # the depth's own unit is the scene's
    else:
        fits: list[FrameFit | None] = []
        for s in samples:
            try:
                fits.append(fit_frame(s.d, s.z, kind) if len(s.d) >= enough else None)
            except AlignmentError:
                fits.append(None)  # falls where it should rise: the neighbours decide
        usable = sum(fit is not None for fit in fits)
        if usable == 0:
            most = max(len(s.d) for s in samples)
            raise AlignmentError(
                f"align: no frame has {enough} sparse points on valid depth that a fit follows (the best has {most}): "
                "lower --align.min-points or give the poses stage more overlapping frames"
            )
        if usable < count:
            part.warn(f"align: {count - usable} of {count} frames have no fit of their own and follow their neighbours")
        fit = smooth_fits([(s.d, s.z) for s in samples], fits, kind, options.step)
    rows = _rows(trajectory, samples, fits, fit, kind)
    _check_residuals(rows, kind, part)
    return fit, samples, rows


def _check_order(samples: list[FrameSamples], kind: DepthKind) -> None:
    """Refuse depth that rises where the structure falls, in most frames. Raises AlignmentError."""
    from recon4d.geometry.alignment import rank_agreement

    agreement = [rank_agreement(s.d, s.z, kind) for s in samples if len(s.d) >= JUDGED_POINTS]
    against = sum(value < 0 for value in agreement)
    if against <= 0.5 * len(agreement):
        return
    other = "a kind of depth" if kind.is_disparity else "a kind of disparity"
    raise AlignmentError(
        f"align: in {against} of {len(agreement)} frames the depth falls where the structure says it rises: it is not "
        f"{kind.value}; name the right kind ({other}?) with --depth.kind, or check that it is of this clip"
    )


def _check_residuals(rows: list[FitRow], kind: DepthKind, part: StagePart) -> None:
    """Refuse depth that has nothing to do with the structure, warn of what fits badly. Raises AlignmentError."""
    judged = [row for row in rows if row.points >= JUDGED_POINTS]
    if not judged:
        return
    median = float(np.median([row.residual_median for row in judged]))
    if median > REFUSED_RESIDUAL:
        raise AlignmentError(
            f"align: as {kind.value} the depth is {100 * median:.0f} % off the structure, so that is not what it is: "
            "name the right kind with --depth.kind, or check that the depth is of this clip"
        )
    if median > SUSPECT_RESIDUAL:
        part.warn(
            f"align: depth and structure disagree by {100 * median:.0f} % in the median: is {kind.value} the right "
            "--depth.kind?"
        )
    bad = [row for row in judged if row.residual_median > max(SUSPECT_RESIDUAL, 4 * median)]
    if bad:
        worst = max(bad, key=lambda row: row.residual_median)
        part.warn(
            f"align: in {len(bad)} of {len(rows)} frames the depth contradicts the structure (frame {worst.name}: "
            f"{100 * worst.residual_median:.0f} % off): look at fits.csv, and leave such frames out"
        )


def _gather(
    workspace: Workspace, options: AlignOptions, source: str, trajectory: Trajectory, part: StagePart
) -> list[FrameSamples]:
    """Depth values and z at the well-triangulated sparse points of every frame."""
    from recon4d.geometry.resample import sample_grid

    model = workspace.sparse_model()
    good = (model.error_px <= options.max_error_px) & (model.track_length >= options.min_track)
    good &= model.angle_deg >= options.min_angle_deg
    samples = []
    with part.progress.bar("sampling sparse points", len(trajectory)) as bar:
        for view in trajectory:
            rows = model.rows.get(view.name, np.zeros(0, dtype=int))
            pixels = model.pixels.get(view.name, np.zeros((0, 2)))[good[rows]]
            rows = rows[good[rows]]
            z = (view.cam_from_world @ model.points[rows])[:, 2]
            depth = workspace.depth_map(view.name, source)
            height, width = depth.values.shape
            x, y = pixels[:, 0] * (width / view.camera.width), pixels[:, 1] * (height / view.camera.height)
            d, valid = sample_grid(depth.values, depth.valid, x, y)
            keep = valid & (z > 0)
            samples.append(FrameSamples(d[keep].astype(np.float64), z[keep]))
            bar.advance()
    return samples


def _far_limit(samples: list[FrameSamples], options: AlignOptions) -> float:
    z = np.concatenate([s.z for s in samples]) if samples else np.zeros(0)
    return options.max_depth_ratio * float(np.percentile(z, 98)) if len(z) else np.inf


def aligned(
    depth: DepthMap, width: int, height: int, gain: float, shift: float, relative_sigma: float, far: float
) -> SceneDepth:
    """z-depth in scene units on a ``width`` x ``height`` grid, under the fit of its frame."""
    from recon4d.geometry.alignment import z_from_values
    from recon4d.geometry.resample import resize_grid

    values, valid = resize_grid(depth.values, depth.valid, width, height)
    z = z_from_values(values, gain, shift, depth.kind)
    valid = valid & (z > 0) & (z < far)
    z = np.where(valid, z, 0.0)
    row = np.arange(height) * depth.values.shape[0] // height
    column = np.arange(width) * depth.values.shape[1] // width
    return SceneDepth(z, valid, relative_sigma * z, depth.provenance[np.ix_(row, column)])


def _rows(
    trajectory: Trajectory, samples: list[FrameSamples], fits: list[FrameFit | None], fit: ClipFit, kind: DepthKind
) -> list[FitRow]:
    from recon4d.geometry.alignment import z_from_values

    fitted = any(own is not None for own in fits)
    residuals = []
    for i, s in enumerate(samples):
        z = z_from_values(s.d, fit.gain[i], fit.shift[i], kind)
        residuals.append(float(np.median(np.abs(np.minimum(z, FARTHEST) / s.z - 1))) if len(s.z) else None)
    known = [residual for residual in residuals if residual is not None]
    clip = float(np.median(known)) if known else 0.0
    return [
        FitRow(
            name=name,
            gain=float(fit.gain[i]),
            shift=float(fit.shift[i]),
            points=len(samples[i].d),
            inliers=own.inliers if own else 0,
            residual_median=clip if residuals[i] is None else residuals[i],
            carried=own is None and fitted,
        )
        for i, (name, own) in enumerate(zip(trajectory.names, fits))
    ]


def _write_tables(
    folder: Path,
    trajectory: Trajectory,
    rows: list[FitRow],
    kind: DepthKind,
    poses_source: str,
) -> None:
    from recon4d.geometry.levelling import levelled_from_cameras

    with open(folder / "fits.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [column.name for column in fields(FitRow)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    scale = metric_scale(np.array([row.gain for row in rows if row.inliers]), kind)
    (folder / "scale.json").write_text(json.dumps(scale, indent=1) + "\n", encoding="utf-8")
    up = levelled_from_cameras(trajectory.cam_from_world)
    source = "a tripod's camera, taken as level" if poses_source == "static" else "cameras held level"
    levelled = {"levelled_from_scene": up.matrix.tolist(), "source": source}
    (folder / "world_up.json").write_text(json.dumps(levelled, indent=1) + "\n", encoding="utf-8")


def metric_scale(gain: np.ndarray, kind: DepthKind) -> dict[str, object]:
    """Content of `scale.json`: metres per scene unit where the depth is metric (z = gain * metres), else null.

    ``gain`` (N,) are those of the frames with a fit of their own. The interval is 1.96 standard errors of the median
    over frames, taken from the median absolute deviation of the logarithm; frames of one clip err together, so every
    tenth counts as independent. In quadrature comes what no frame can tell: the structure's own error. Without any
    fit (a tripod has no structure) the metric depth itself is the scene's unit.
    """
    if kind is not DepthKind.METRIC_Z:
        return {"metres_per_unit": None, "interval_95": None, "source": None}
    if not len(gain):
        return {"metres_per_unit": 1.0, "interval_95": [1.0, 1.0], "source": "metric depth, taken as it is"}
    logs = -np.log(gain)
    middle = float(np.median(logs))
    spread = 1.4826 * float(np.median(np.abs(logs - middle)))
    error = 1.2533 * spread / np.sqrt(max(len(gain) / 10, 1.0))  # 1.2533: of a median against a mean
    error = float(np.hypot(error, STRUCTURE_SIGMA))
    interval = [float(np.exp(middle - 1.96 * error)), float(np.exp(middle + 1.96 * error))]
    return {"metres_per_unit": float(np.exp(middle)), "interval_95": interval, "source": "metric depth"}

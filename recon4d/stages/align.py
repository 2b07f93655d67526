"""Stage align: depth of any kind becomes z-depth in scene units, with its error and, where cues allow, in metres."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import tyro

from recon4d.errors import AlignmentError, InputError
from recon4d.progress import Progress
from recon4d.scene.depth import DepthKind, DepthMap, SceneDepth
from recon4d.stages.common import PICTURES_BY_CONTENT, check_range, execute
from recon4d.stages.metres import (
    MetricDepth,
    MetricOptions,
    ScaleEvidence,
    check_metric_options,
    check_named_frames,
    measure_scale,
)
from recon4d.workspace import StagePart, StageRecord, Workspace

if TYPE_CHECKING:
    from recon4d.geometry.seen_points import SparseViews
    from recon4d.geometry.sky import SkyModel
    from recon4d.metric.scale import MetricScale
    from recon4d.scene.sparse import SparseModel
    from recon4d.scene.trajectory import Trajectory
    from recon4d.stages.align_evidence import FrameEvidence, SourceDepth
    from recon4d.stages.align_fit import ClipAlignment
    from recon4d.stages.align_report import FitRow, HeldOutErrors
    from recon4d.stages.levelling import Levelling

VERSION = 5
SURFACE_FRAMES = 40  # whose aligned depth is looked at for the ground and for planes
TIMES_USUAL_ERROR = 3.0  # the median reprojection error: points on what moves fit the static cameras worse
SEED = 0  # of which sparse points are held out


@dataclass(frozen=True)
class AlignOptions:
    """How depth is brought to the sparse points, and what is known of its size and of up."""

    primary: str | None = None
    """Depth source to align; without it the first of those made. The others anchor it with their own error."""
    min_points: int = 10
    """Frames with fewer sparse points on valid depth follow their neighbours in time."""
    max_error_px: float = 2.0
    """Sparse points with a larger mean reprojection error (pixels), or three times the median one, are not used."""
    min_track: int = 3
    """Sparse points seen in fewer frames are not used."""
    min_angle_deg: float = 1.0
    """Sparse points whose rays never open this far (degrees) are not used: their depth is not known."""
    held_out: float = 0.1
    """Share of the sparse points that never enters a fit; their residuals tell how good the result is. 0: none."""
    step: float | None = None
    """How much gain and shift usually change from frame to frame (relative, one standard deviation); left out: measured
    on the clip."""
    correction: Literal["auto", "on", "off"] = "auto"
    """Correction that varies over the picture: auto uses it where held-out points confirm it; never for a sensor's
    depth."""
    max_depth_ratio: float = 20.0
    """Depth beyond this many times the clip's far sparse points (98th percentile) counts as sky or noise: not valid."""
    gravity: Path | None = field(default=None, metadata=PICTURES_BY_CONTENT)
    """What tells up: a CSV of accelerometer readings (timestamp_s,ax,ay,az), or the folder of the original photos."""
    gravity_axes: Literal["camera", "phone"] = "camera"
    """Axes of that CSV: the camera's (x right, y down, z forward), or the phone's held upright."""
    ground: bool = True
    """Look for the ground and put z = 0 of the levelled world on it."""
    metric: Annotated[MetricOptions, tyro.conf.arg(name="metric", prefix_name=False)] = field(
        default_factory=MetricOptions
    )
    """What is known in metres."""


def check_options(options: AlignOptions) -> None:
    """Refuse what cannot work, before any work is done. Raises OptionsError or InputError."""
    check_range("align", "min_points", options.min_points, low=2)
    check_range("align", "max_error_px", options.max_error_px, above=0.0)
    check_range("align", "min_track", options.min_track, low=2)
    check_range("align", "min_angle_deg", options.min_angle_deg, low=0.0, high=180.0)
    check_range("align", "held_out", options.held_out, low=0.0, high=0.5)
    if options.step is not None:
        check_range("align", "step", options.step, above=0.0)
    check_range("align", "max_depth_ratio", options.max_depth_ratio, above=1.0)
    if options.gravity is not None and not Path(options.gravity).exists():
        raise InputError(f"align: {options.gravity} was not found: correct --align.gravity")
    check_metric_options(options.metric)


def run(workspace: Workspace, options: AlignOptions, progress: Progress | None = None) -> StageRecord:
    """Fit the primary depth source to the sparse points and find out how large the scene is."""
    check_options(options)
    sources = _sources(workspace, options)
    reads = ("poses", *(f"depth/{name}" for name in sources))
    return execute(
        workspace,
        "align",
        VERSION,
        options,
        reads,
        lambda part: _work(workspace, options, sources, part),
        progress,
        extra_key=extra_key(workspace, "align", options),
    )


def extra_key(workspace: Workspace, unit: str, options: AlignOptions) -> object:
    """What enters the key beside the options: which depth is the primary one."""
    return _sources(workspace, options)[:1]


def _sources(workspace: Workspace, options: AlignOptions) -> list[str]:
    """The primary depth source, then those that anchor it."""
    from recon4d.stages.depth import units_read_by_align

    done = workspace.depth_sources()
    if not done:
        workspace.need("depth/precomputed", "align")
    if options.primary is not None and options.primary not in done:
        raise AlignmentError(
            f"align: there is no depth '{options.primary}', done are {', '.join(done)}: correct --align.primary"
        )
    return [unit.partition("/")[2] for unit in units_read_by_align(done, options.primary)]


def _work(workspace: Workspace, options: AlignOptions, sources: list[str], part: StagePart) -> dict[str, object]:
    from recon4d.formats.arrays import write_scene_depth
    from recon4d.stages.align_evidence import SourceDepth, window_joints
    from recon4d.stages.align_fit import FitSettings, align_clip
    from recon4d.stages.align_page import page_evidence
    from recon4d.stages.align_report import (
        check_order,
        check_residuals,
        fit_rows,
        frame_sigma,
        held_out_errors,
        sigma_factor,
        write_fits,
    )
    from recon4d.stages.anchors import write_measured
    from recon4d.view.alignment_page import write_alignment_page

    poses, trajectory = workspace.need("poses", "align"), workspace.unrefined_trajectory()
    if poses.summary["source"] == "none":
        raise AlignmentError(
            "align: the poses are 'none', so there is no scene to align to: use --poses.source colmap, import or static"
        )
    check_named_frames(options.metric, trajectory)
    primary, *others = (SourceDepth.of(workspace, name) for name in sources)
    frames, views, sky = _read(workspace, trajectory, (primary, *others), options, part)
    check_order(frames, primary.kind)
    if not primary.kind.has_gain:
        part.progress.say(
            "  the depth is in scene units already: it is only checked at the sparse points, nothing is fitted"
        )
    joints = window_joints(workspace, primary.name, trajectory)
    settings = FitSettings(options.min_points, options.step, options.correction)
    clip = align_clip(frames, primary, others, joints, settings, part.progress)
    for source in others:
        if source.name not in [anchor.source.name for anchor in clip.anchors]:
            part.warn(
                f"align: the depth '{source.name}' ({source.kind.value}) cannot be brought to the sparse points, so it "
                "anchors nothing: check its kind in --depth.more"
            )
    rows = fit_rows(frames, clip)
    warned = check_residuals(frames, clip, rows, part)
    far = _far_limit(frames, options)
    row_of = {name: i for i, name in enumerate(trajectory.names)}

    def surface(name: str) -> SceneDepth:
        i = row_of[name]
        sigma = frame_sigma(rows[i], primary.sensor), sigma_factor(rows, i)
        return aligned(workspace.depth_map(name, primary.name), frames[i], clip, i, sigma, far)

    part.each(
        trajectory.names,
        "writing aligned depth",
        surface,
        lambda name, made: write_scene_depth(part.path / f"{name}.npz", made),
    )
    write_fits(part.path / "fits.csv", rows)
    write_measured(part.path, trajectory.names, primary, clip)
    levelling = _level(workspace, trajectory, views, options, part)
    scale = _scale(workspace, trajectory, clip, primary, levelling, options, part)
    held = held_out_errors(frames, clip, rows, primary.sensor)
    evidence = page_evidence(workspace, frames, clip, rows, joints, held, scale, warned)
    write_alignment_page(part.path / "fit.png", evidence)
    return {
        "source": primary.name,
        "kind": primary.kind.value,
        **_fit_summary(clip, rows, held),
        "joints": len(joints),
        "sky": sky.reason,
        "sky_share": float(np.mean([row.sky for row in rows])),
        "up": levelling.source,
        "ground": levelling.ground is not None,
        "metres_per_unit": scale.metres_per_unit,
        "interval_95": scale.interval_95,
        "scale_source": scale.as_json()["source"],
    }


def _read(
    workspace: Workspace,
    trajectory: Trajectory,
    sources: tuple[SourceDepth, ...],
    options: AlignOptions,
    part: StagePart,
) -> tuple[list[FrameEvidence], SparseViews, SkyModel]:
    """Evidence of all frames, the sparse points of the fit, and whether there is sky; pictures are let go again."""
    from recon4d.stages.align_evidence import EvidenceReader, read_pictures

    pictures = read_pictures(workspace, trajectory, part)
    greys = [picture.grey for picture in pictures]
    views, held_views = _split(workspace.sparse_model(), trajectory, greys, options)
    reader = EvidenceReader(workspace, trajectory, sources, pictures, views, held_views)
    return reader.read(part), views, reader.sky


def _split(
    model: SparseModel, trajectory: Trajectory, greys: list[np.ndarray], options: AlignOptions
) -> tuple[SparseViews, SparseViews]:
    """The static, well-triangulated sparse points, most for the fit and some held out: whole points, in all frames."""
    from recon4d.geometry.point_looks import PointLooks
    from recon4d.geometry.seen_points import SparseViews

    registered = sum(len(model.rows.get(name, ())) > 0 for name in trajectory.names)
    kept = {
        "--align.max-error-px": model.error_px <= options.max_error_px,
        # Two cameras cannot see a point three times.
        "--align.min-track": model.track_length >= min(options.min_track, max(registered, 2)),
        "--align.min-angle-deg": model.angle_deg >= options.min_angle_deg,
    }
    good = np.logical_and.reduce(list(kept.values()))
    if len(model) and not good.any():
        strictest = min(kept, key=lambda flag: int(kept[flag].sum()))
        raise AlignmentError(
            f"align: none of the {len(model)} sparse points is good enough ({kept[strictest].sum()} of them pass "
            f"{strictest}): loosen it, or give the poses stage more overlapping frames"
        )
    if good.any():
        good &= model.error_px <= TIMES_USUAL_ERROR * np.median(model.error_px[good])
    good &= PointLooks(greys, SparseViews(model, trajectory, good)).static_points()
    held = np.random.default_rng(SEED).random(len(model)) < options.held_out
    return SparseViews(model, trajectory, good & ~held), SparseViews(model, trajectory, good & held)


def _far_limit(frames: list[FrameEvidence], options: AlignOptions) -> float:
    z = np.concatenate([f.seen.z[f.seen.own] for f in frames])
    return options.max_depth_ratio * float(np.percentile(z, 98)) if len(z) else np.inf


def aligned(depth: DepthMap, frame: FrameEvidence, clip: ClipAlignment, i: int, sigma: float, far: float) -> SceneDepth:
    """z-depth in scene units on the grid of the picture.

    Args:
        depth: of frame ``i``, as the source gave it.
        sigma: relative standard deviation where the clip has no curve for it, and the factor on the curve where it has.
        far: scene units; what lies beyond is not valid.

    Raises:
        AlignmentError: no pixel is valid.
    """
    from recon4d.geometry.alignment import z_from_values
    from recon4d.geometry.resample import resize_grid

    width, height = frame.view.camera.width, frame.view.camera.height
    values, valid = resize_grid(depth.values, depth.valid, width, height)
    z = z_from_values(values, clip.fit.gain[i], clip.fit.shift[i], depth.kind)
    if clip.fields is not None:
        z = z * np.exp(-clip.fields[i].grid.spread(clip.fields[i].field, width, height))
    valid = valid & (z > 0) & (z < far)
    sky = frame.sky_mask()
    if sky is not None:
        valid &= ~sky
    if not valid.any():
        raise AlignmentError(
            f"align: no pixel of frame {frame.view.name} has a depth from 0 to {far:.3g} units under its fit (beyond "
            "--align.max-depth-ratio) outside the sky: check --depth.kind, or leave the frame out"
        )
    z = np.where(valid, z, 0.0)
    relative = _relative_sigma(depth, clip, i, sigma, width, height)
    row = np.arange(height) * depth.values.shape[0] // height
    column = np.arange(width) * depth.values.shape[1] // width
    return SceneDepth(z, valid, z * relative, depth.provenance[np.ix_(row, column)])


def _relative_sigma(
    depth: DepthMap, clip: ClipAlignment, i: int, sigma: tuple[float, float], width: int, height: int
) -> np.ndarray:
    """(height, width) relative standard deviation."""
    from recon4d.geometry.depth_sigma import relative_sigma
    from recon4d.geometry.doubt import doubted_sigma, is_doubted
    from recon4d.geometry.resample import resize_grid

    small = np.full((1, 1), sigma[0]) if clip.curve is None else sigma[1] * relative_sigma(clip.priors[i], clip.curve)
    if is_doubted(depth.confidence[depth.valid], depth.provenance[depth.valid]):
        usual, _ = resize_grid(small, np.ones(small.shape, dtype=bool), *depth.values.shape[::-1])
        small = doubted_sigma(usual, depth.confidence, depth.provenance)
    return resize_grid(small, np.ones(small.shape, dtype=bool), width, height)[0]


def _level(
    workspace: Workspace, trajectory: Trajectory, views: SparseViews, options: AlignOptions, part: StagePart
) -> Levelling:
    """Up and the ground, from the aligned depth just written."""
    from recon4d.formats.arrays import read_scene_depth
    from recon4d.geometry.world_points import WorldPoints, surface_points
    from recon4d.stages.levelling import Evidence, LevelOptions, level, write_world_up

    chosen = np.unique(np.linspace(0, len(trajectory) - 1, SURFACE_FRAMES).round().astype(int))
    surfaces = []
    for i in chosen:
        name = trajectory.names[i]
        surface = read_scene_depth(part.path / f"{name}.npz")
        surfaces.append(surface_points(trajectory[name], surface, int(i), workspace.ignored(name)))
    rows = np.unique(np.concatenate([views.own(i).rows for i in range(len(trajectory))]))
    structure = WorldPoints.of(views.points[rows], group=-1) if len(rows) else None
    settings = LevelOptions(options.gravity and Path(options.gravity), options.gravity_axes, options.ground)
    levelling = level(workspace, trajectory, Evidence(structure, WorldPoints.concatenate(surfaces)), settings)
    for sentence in levelling.warnings:
        part.warn(sentence)
    write_world_up(part.path / "world_up.json", levelling)
    return levelling


def _scale(
    workspace: Workspace,
    trajectory: Trajectory,
    clip: ClipAlignment,
    primary: SourceDepth,
    levelling: Levelling,
    options: AlignOptions,
    part: StagePart,
) -> MetricScale:
    """Metres per scene unit, written to `scale.json`."""
    from recon4d.formats.arrays import read_scene_depth

    metric = []
    if primary.kind is DepthKind.METRIC_Z:
        gains = np.array([fit.gain for fit in clip.own if fit is not None])
        metric.append(MetricDepth(primary.name, np.log(gains), primary.sensor))
    metric += [
        MetricDepth(anchor.source.name, anchor.log_gain, anchor.source.sensor)
        for anchor in clip.anchors
        if anchor.source.kind is DepthKind.METRIC_Z
    ]
    evidence = ScaleEvidence(lambda name: read_scene_depth(part.path / f"{name}.npz"), levelling.ground, tuple(metric))
    scale = measure_scale(workspace, trajectory, options.metric, evidence, part)
    (part.path / "scale.json").write_text(json.dumps(scale.as_json(), indent=1) + "\n", encoding="utf-8")
    return scale


def _fit_summary(clip: ClipAlignment, rows: list[FitRow], held: HeldOutErrors | None) -> dict[str, object]:
    """Key numbers of the fit for the record."""
    fitted = [row.residual_median for row in rows if row.points]
    return {
        "anchors": [anchor.source.name for anchor in clip.anchors],
        "frames": len(rows),
        "points_per_frame": float(np.median([row.points for row in rows])),
        "carried": sum(row.carried for row in rows),
        "residual_median": float(np.median(fitted)) if fitted else None,
        "correction": None if clip.style is None else asdict(clip.style),
        "held_out": None if held is None else asdict(held),
    }

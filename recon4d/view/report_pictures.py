"""What a report page shows, gathered from a scene: frames, depth, the camera's way, clouds, the stages' own pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from recon4d.errors import Recon4dError, WorkspaceError
from recon4d.formats.pictures import read_grey, read_rgb
from recon4d.geometry.random_rows import random_rows
from recon4d.scene.cloud import PointCloud
from recon4d.scene.depth import SceneDepth
from recon4d.scene.trajectory import Trajectory
from recon4d.view.alignment_page import diverging
from recon4d.view.cloud_view import view_cloud
from recon4d.view.contact_sheet import with_cuts
from recon4d.view.depth_colors import colorize_depth, depth_bar, depth_range
from recon4d.view.depth_nearness import depth_scale
from recon4d.view.depth_preview import SHEET, colored
from recon4d.view.drawing import resized
from recon4d.view.motion_page import overlay
from recon4d.view.report_axes import found_by_align, level_axes
from recon4d.view.report_charts import Way
from recon4d.workspace import Workspace

CONTACT_FRAMES, COMPARED_FRAMES, MASKED_FRAMES, MOMENTS = 12, 2, 4, 5
CLOUD_SIZE, WIDEST = (900, 560), 1800
MOVING_POINTS = 20_000  # of one moment; more change nothing one can see at this size
BAR_SIZE = (520, 34)
CHANGE = 0.10  # relative change of depth that gets the full colour


@dataclass(frozen=True)
class Shot:
    """Pictures that belong together, one above the other, and what they show."""

    caption: str
    pictures: tuple[np.ndarray, ...]  # each (H, W, 3) uint8 RGB


@dataclass(frozen=True)
class Comparison:
    """One frame's depth as it went through the stages."""

    name: str
    shots: tuple[Shot, ...]


@dataclass
class Gallery:
    """All pictures of a page; what could not be made is told in ``troubles`` by section."""

    frames: list[Shot] = field(default_factory=list)
    depth_bar: Shot | None = None
    way: Way | None = None
    sparse: Shot | None = None
    sources: dict[str, Shot] = field(default_factory=dict)  # unit of depth -> its sheet
    first_pass: list[Shot] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    pages: dict[str, Shot] = field(default_factory=dict)  # "align/fit.png" -> as the stage wrote it
    clouds: list[Shot] = field(default_factory=list)
    troubles: dict[str, list[str]] = field(default_factory=dict)


# Written by the stages themselves.
PAGES = {
    "align/fit.png": "align",
    "motion/motion.png": "motion",
    "refine/refine.png": "refine",
    "fuse/fuse.png": "fuse",
    "fuse/turntable.png": "fuse",
}


def gather(workspace: Workspace, sources: Sequence[str]) -> Gallery:
    """Make or read every picture of the stages that are done; a missing or damaged file costs its picture alone.

    Args:
        sources: units of depth to show, such as ``depth/mvs``.
    """
    gallery = Gallery()

    def attempt(section: str, work: Callable[[], None]) -> None:
        try:
            work()
        except (Recon4dError, OSError) as error:
            gallery.troubles.setdefault(section, []).append(str(error))

    def done(unit: str) -> bool:
        return workspace.record(unit) is not None

    if done("frames") or done("poses"):
        attempt("frames", lambda: _contact(workspace, gallery))
    if done("poses"):
        attempt("poses", lambda: _way(workspace, gallery))
        if (workspace.unit_dir("poses") / "sparse").is_dir():
            attempt("poses", lambda: _sparse(workspace, gallery))
    for unit in sources:
        attempt("depth", lambda unit=unit: gallery.sources.update(_sheet(workspace.unit_dir(unit) / SHEET, unit)))
    if done("first_pass"):
        attempt("motion", lambda: _first_pass(workspace, gallery))
    if done("align"):
        attempt("refine", lambda: _comparisons(workspace, gallery, sources))
    for file, unit in PAGES.items():
        if done(unit):
            attempt(unit, lambda file=file: gallery.pages.update(_sheet(workspace.root / file, file)))
    if done("fuse"):
        attempt("fuse", lambda: _clouds(workspace, gallery))
    return gallery


def _sheet(path: Path, key: str) -> dict[str, Shot]:
    """A picture that a stage wrote; none where the stage had nothing to show. Raises InputError."""
    if not path.exists():
        return {}
    picture = read_rgb(path)
    if picture.shape[1] > WIDEST:
        picture = resized(picture, (WIDEST, round(picture.shape[0] * WIDEST / picture.shape[1])))
    return {key: Shot("", (picture,))}


def spread(names: Sequence[str], count: int) -> list[str]:
    """At most ``count`` evenly chosen names, with the first and the last."""
    return [names[i] for i in np.unique(np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int))]


# -- frames and depth ------------------------------------------------------------------------------------------------


def _contact(workspace: Workspace, gallery: Gallery) -> None:
    """Evenly chosen frames, each with its best depth so far below it, on one scale."""
    read_depth = _best_depth(workspace)
    if workspace.record("poses") is None:
        recording = workspace.recording()
        for name, path, time in _recorded(recording, CONTACT_FRAMES):
            gallery.frames.append(Shot(f"{name} · {time:.2f} s", (_small(read_rgb(path)),)))
        return
    trajectory = workspace.trajectory()
    names = spread(trajectory.names, CONTACT_FRAMES)
    pictures = {name: _small(workspace.picture(name)) for name in names}
    try:
        depths = {name: read_depth(name) for name in names} if read_depth else {}
    except Recon4dError:
        # The frames can be shown all the same.
        gallery.frames += [Shot(_said(trajectory, name), (pictures[name],)) for name in names]
        raise
    known = [depth.depth[depth.valid] for depth in depths.values() if depth.valid.any()]
    near_far = depth_range(known) if known else None
    for name in names:
        below = (resized(_colors(depths[name], near_far), pictures[name].shape[1::-1]),) if near_far else ()
        gallery.frames.append(Shot(_said(trajectory, name), (pictures[name], *below)))
    if near_far:
        metres = _metres(workspace)
        bar = depth_bar(*(end * (metres or 1) for end in near_far), *BAR_SIZE, "m" if metres else "units")
        gallery.depth_bar = Shot("depth, from near (red) to far (blue)", (bar,))


def _recorded(recording: object, count: int) -> list[tuple[str, Path, float]]:
    rows = dict(zip(recording.names, zip(recording.pictures, recording.timestamps_s)))
    return [(name, *rows[name]) for name in spread(recording.names, count)]


def _said(trajectory: Trajectory, name: str) -> str:
    return f"{name} · {trajectory[name].timestamp_s:.2f} s"


def _best_depth(workspace: Workspace) -> Callable[[str], SceneDepth] | None:
    """How to read the depth of a frame from the latest stage that has it in scene units."""
    if workspace.record(workspace.surface_unit()) is not None:
        return lambda name: workspace.depth_mesh(name).surface
    return workspace.scene_depth if workspace.record("align") is not None else None


def _colors(depth: SceneDepth, near_far: tuple[float, float]) -> np.ndarray:
    return colorize_depth(depth.depth, depth.valid, *near_far)


def _small(picture: np.ndarray, longest: int = 400) -> np.ndarray:
    shrink = min(1.0, longest / max(picture.shape[:2]))
    return picture if shrink == 1 else resized(picture, tuple(round(side * shrink) for side in picture.shape[1::-1]))


def _metres(workspace: Workspace) -> float | None:
    return found_by_align(workspace, workspace.metres_per_unit)


def _comparisons(workspace: Workspace, gallery: Gallery, sources: Sequence[str]) -> None:
    """Some frames' depth as the source gave it, aligned, refined, and what refinement changed."""
    names = spread(workspace.trajectory().names, COMPARED_FRAMES + 2)[1:-1] or list(workspace.trajectory().names[:1])
    cut, refined = (workspace.record(unit) is not None for unit in ("mesh", "refine"))
    for name in names:
        picture = _small(workspace.picture(name))
        size, shots = picture.shape[1::-1], [Shot("the frame", (picture,))]
        for unit in sources:
            depth = workspace.depth_map(name, unit.partition("/")[2])
            raw = colored(depth, depth_scale([depth], 1, depth.kind))
            shots.append(Shot(f"as {unit} gives it (near is bright)", (resized(raw, size),)))
        aligned = workspace.scene_depth(name)
        if not aligned.valid.any():
            continue
        near_far = depth_range([aligned.depth[aligned.valid]])
        shots.append(Shot("aligned to the structure", (resized(_colors(aligned, near_far), size),)))
        if cut:
            mesh = workspace.depth_mesh(name, "mesh")
            surface = with_cuts(_colors(mesh.surface, near_far), mesh)
            shots.append(Shot("as a surface, dark where it is cut", (resized(surface, size),)))
        if refined:
            after = workspace.depth_mesh(name, "refine").surface
            shots.append(Shot("refined", (resized(_colors(after, near_far), size),)))
            shots.append(Shot(_change_said(aligned, after), (resized(_change(aligned, after), size),)))
        gallery.comparisons.append(Comparison(name, tuple(shots)))


def _log_change(before: SceneDepth, after: SceneDepth) -> np.ndarray:
    """(H, W) log(after / before), NaN where one of them has no depth."""
    both = before.valid & after.valid
    ratio = np.where(both, after.depth, 1.0) / np.where(both, before.depth, 1.0)
    return np.where(both, np.log(ratio), np.nan)


def _change(before: SceneDepth, after: SceneDepth) -> np.ndarray:
    if before.depth.shape != after.depth.shape:
        raise WorkspaceError(f"aligned depth is of {before.depth.shape}, refined of {after.depth.shape}")
    return diverging(_log_change(before, after), float(np.log1p(CHANGE)))


def _change_said(before: SceneDepth, after: SceneDepth) -> str:
    text = f"what refinement changed: blue came nearer, red went farther, full colour at {100 * CHANGE:.0f} %"
    change = np.abs(_log_change(before, after))
    change = change[np.isfinite(change)]
    return f"{text}; {100 * np.expm1(np.median(change)):.2f} % in the median" if len(change) else text


def _first_pass(workspace: Workspace, gallery: Gallery) -> None:
    """Frames of the first of two passes with what was left out of poses."""
    folder = workspace.unit_dir("first_pass") / "mask"
    masked = [row for row in _recorded(workspace.recording(), 10**6) if (folder / f"{row[0]}.png").exists()]
    for name, path, _ in (masked[i] for i in np.unique(np.linspace(0, len(masked) - 1, MASKED_FRAMES).astype(int))):
        picture, mask = read_rgb(path), read_grey(folder / f"{name}.png") > 127
        shown = overlay(picture, mask.astype(np.uint16)) if mask.shape == picture.shape[:2] else picture
        gallery.first_pass.append(Shot(name, (_small(shown),)))


# -- the world -------------------------------------------------------------------------------------------------------


def _way(workspace: Workspace, gallery: Gallery) -> None:
    trajectory = workspace.trajectory()
    level, levelled = level_axes(workspace, trajectory)
    metres = _metres(workspace)
    points = (level @ trajectory.centres) * (metres or 1.0)
    looks = trajectory.cam_from_world.rotation[:, 2] @ level.rotation.T
    # Turned so that the cameras look up the page in the mean, as one holds a map.
    ahead = looks[:, :2].sum(axis=0)
    if np.linalg.norm(ahead) > 1e-6:
        x, y = ahead / np.linalg.norm(ahead)
        turn = np.array([[y, -x, 0], [x, y, 0], [0, 0, 1]])
        points, looks = points @ turn.T, looks @ turn.T
    evidence = np.array([origin.is_evidence for origin in trajectory.origin])
    unit = "m" if metres else "units"
    gallery.way = Way(points, looks, np.asarray(trajectory.timestamps_s), evidence, unit, levelled)


def _sparse(workspace: Workspace, gallery: Gallery) -> None:
    model, trajectory = workspace.sparse_model(), workspace.trajectory()
    if not len(model):
        return
    up = level_axes(workspace, trajectory)[0].rotation[2]
    picture = view_cloud(PointCloud(model.points, model.colors), trajectory, CLOUD_SIZE, up=up)
    gallery.sparse = Shot("sparse points of structure from motion, the camera's way and some of its frames", (picture,))


def _clouds(workspace: Workspace, gallery: Gallery) -> None:
    """The background from behind and above, and with what moves at some moments."""
    scene = workspace.scene()
    up = level_axes(workspace, scene.trajectory)[0].rotation[2]
    background, static = "the background, and the way of the camera", scene.static
    for caption, elevation_deg in ((background, 25.0), ("the same from above", 75.0)):
        picture = view_cloud(static, scene.trajectory, CLOUD_SIZE, 0.0, elevation_deg, up)
        gallery.clouds.append(Shot(caption, (picture,)))
    clouds = [workspace.moving_cloud(name) for name in spread(scene.names, MOMENTS)]
    moving = [cloud[random_rows(len(cloud), MOVING_POINTS)] for cloud in clouds]
    if any(len(cloud) for cloud in moving):
        together = PointCloud.concatenate([static, *moving])
        caption = f"the background with what moves, at {len(moving)} moments at once"
        gallery.clouds.append(Shot(caption, (view_cloud(together, scene.trajectory, CLOUD_SIZE, 0.0, 25.0, up),)))

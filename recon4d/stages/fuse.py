"""Stage fuse: one background all views agree on, what moves in every frame, and `scene.json` that names both."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recon4d.progress import Progress
from recon4d.stages.common import check_range, execute
from recon4d.workspace import StagePart, StageRecord, Workspace

if TYPE_CHECKING:
    from recon4d.scene.trajectory import Trajectory

VERSION = 4
BACKGROUND_TOLD = "background.json"  # in the part: numbers of a finished background, for a run that goes on from it


@dataclass(frozen=True)
class FuseOptions:
    """What becomes background, and how dense clouds are."""

    voxel_size: float | None = None
    """Edge of a background voxel in scene units; without it twice the size of a pixel at the typical depth, or a third
    of the typical sigma of depth where that is more."""
    min_views: int | None = None
    """Surface that fewer frames see is not background, however sure they are; without it one for each 8 frames of
    the clip, at least 2 and at most 12."""
    min_agreement: float = 0.67
    """Surface is not background where frames that see it are less than this share of them and those that look through
    it, 0..1."""
    exposure: bool = True
    """Bring the colours of all frames to the same exposure, measured at the sparse points they share."""
    max_frame_points: int = 80_000
    """Upper bound of the points that move in one frame; the pixel grid is thinned evenly."""


def check_options(options: FuseOptions) -> None:
    """Refuse what cannot work, before any work is done. Raises OptionsError."""
    if options.voxel_size is not None:
        check_range("fuse", "voxel_size", options.voxel_size, above=0.0)
    if options.min_views is not None:
        check_range("fuse", "min_views", options.min_views, low=1)
    check_range("fuse", "min_agreement", options.min_agreement, low=0.0, high=1.0)
    check_range("fuse", "max_frame_points", options.max_frame_points, low=1)


def run(workspace: Workspace, options: FuseOptions, progress: Progress | None = None) -> StageRecord:
    """Fuse the surfaces of all frames."""
    check_options(options)
    reads = (workspace.surface_unit(), "motion", "align", "poses")
    return execute(workspace, "fuse", VERSION, options, reads, lambda part: _work(workspace, options, part), progress)


def _work(workspace: Workspace, options: FuseOptions, part: StagePart) -> dict[str, object]:
    from recon4d.formats.ply import read_cloud
    from recon4d.stages.fuse_moving import write_moving
    from recon4d.stages.fuse_report import write_report

    trajectory, told_in = workspace.trajectory(), part.path / BACKGROUND_TOLD
    if not (part.is_done("background") and told_in.exists()):
        told = _write_background(workspace, options, trajectory, part)
        told_in.write_text(json.dumps(told) + "\n", encoding="utf-8")
        part.mark_done("background")
    told = json.loads(told_in.read_text(encoding="utf-8"))
    if told["static_triangles"] == 0:
        part.warn(
            "fuse: too few views agree for a background mesh; static_mesh.ply is empty, static.ply has the points"
        )
    moving = write_moving(workspace, trajectory, options, part)
    _write_manifest(workspace, trajectory, part)
    report = write_report(workspace, trajectory, read_cloud(part.path / "static.ply"), part)
    told_in.unlink()
    return {"frames": len(trajectory), **told, **moving, **report}


def _write_background(
    workspace: Workspace, options: FuseOptions, trajectory: Trajectory, part: StagePart
) -> dict[str, object]:
    """Write `static.ply` and `static_mesh.ply`; returns their part of the record's summary."""
    from recon4d.formats.ply import write_cloud, write_mesh
    from recon4d.stages.fuse_static import make_background

    background = make_background(workspace, options, trajectory, part)
    judgement = background.judgement
    write_cloud(part.path / "static.ply", background.cloud)
    write_mesh(part.path / "static_mesh.ply", background.mesh)
    gains = np.array(list(background.gains.values())).reshape(-1, 3)
    return {
        "static_points": len(background.cloud),
        "static_triangles": len(background.mesh.faces),
        "voxel_size": float(background.sizes.voxel),
        "band": float(background.sizes.band),
        "min_views": background.sizes.min_views,
        "blocks": background.blocks,
        "kept_share": background.kept / max(background.kept + background.left, 1),
        "removed": {
            "seen_through": judgement.carved,
            "seldom_seen": judgement.lonely,
            "islands": judgement.islands,
            "stray_points": background.stray,
        },
        "exposure_spread": float(np.ptp(np.log(gains), axis=0).max()) if len(gains) else 0.0,
    }


def _write_manifest(workspace: Workspace, trajectory: Trajectory, part: StagePart) -> None:
    from recon4d.formats.scene_json import write_scene

    scale, levelled = workspace.metres_per_unit(), workspace.levelled_from_scene()
    cameras = "../refine/cameras.json" if workspace.surface_unit() == "refine" else "../poses/cameras.json"
    write_scene(part.path / "scene.json", trajectory, scale, levelled, cameras)

"""What fuse tells about its result: how much of the frames the background explains, and two pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from recon4d.scene.cloud import PointCloud
    from recon4d.scene.trajectory import Trajectory, View
    from recon4d.workspace import StagePart, Workspace

LOOKED_AT = 24  # frames, evenly chosen, that coverage is measured in
SHOWN = 6  # of them on the page
SAME = 0.05  # relative difference of depth that counts as the same surface
GAP = 0.75  # radius of a point over the distance to its neighbours: discs on a square grid just close


@dataclass(frozen=True)
class Look:
    """The background beside one frame."""

    background: np.ndarray  # (H, W, 3) uint8, seen from the frame's camera
    static: np.ndarray  # (H, W) bool: valid pixels of the frame that do not move
    explained: np.ndarray  # (H, W) bool: of these, the background is where the frame says
    in_front: np.ndarray  # (H, W) bool: of these, background stands before what the frame sees


def write_report(workspace: Workspace, trajectory: Trajectory, cloud: PointCloud, part: StagePart) -> dict[str, float]:
    """Write `fuse.png` and `turntable.png`; returns shares of the static pixels of the frames looked at.

    `coverage`: the background is within 5 % of the frame's depth; `in_front`: it is nearer by more than that, which
    is what floaters do; the rest is a hole, or background further off.
    """
    from recon4d.view.cloud_view import spacing
    from recon4d.view.fuse_page import FuseRow, write_fuse_page, write_turntable

    rows = np.unique(np.round(np.linspace(0, len(trajectory) - 1, LOOKED_AT)).astype(int))
    shown = set(rows[np.unique(np.round(np.linspace(0, len(rows) - 1, SHOWN)).astype(int))])
    gaps = spacing(cloud.points)
    gaps = np.minimum(gaps, 2.0 * np.median(gaps)) if len(gaps) else gaps
    counts, page = np.zeros(3), []
    with part.progress.bar("looking at the background", len(rows)) as bar:
        for row in rows:
            view = trajectory[trajectory.names[row]]
            look = look_from(workspace, view, cloud, gaps)
            counts += [look.static.sum(), look.explained.sum(), look.in_front.sum()]
            if row in shown:
                page.append(FuseRow(view.name, workspace.picture(view.name), *_fields(look)))
            bar.advance()
    static, explained, in_front = counts
    found = {"coverage": explained / max(static, 1.0), "in_front": in_front / max(static, 1.0)}
    numbers = (
        f"{len(cloud):,} background points   {100 * found['coverage']:.1f} % of what stands still in the frames is "
        f"where the background is, {100 * found['in_front']:.2f} % is hidden by it"
    )
    write_fuse_page(part.path / "fuse.png", workspace.title, numbers, page)
    write_turntable(part.path / "turntable.png", cloud, trajectory, _up(workspace))
    return {name: float(share) for name, share in found.items()}


def _fields(look: Look) -> tuple[np.ndarray, ...]:
    return look.background, look.static, look.explained, look.in_front


def look_from(workspace: Workspace, view: View, cloud: PointCloud, gaps: np.ndarray) -> Look:
    """Draw the background from a frame's camera and compare.

    Args:
        gaps: (N,) distance of each point to its neighbours, scene units.
    """
    from recon4d.render.points import splat_points
    from recon4d.stages.fuse_static import not_static

    in_cam = view.cam_from_world @ cloud.points.astype(np.float64)
    radii = np.clip(GAP * gaps * view.camera.fx / np.maximum(in_cam[:, 2], 1e-9), 0.7, 12.0)
    picture, depth = splat_points(in_cam, cloud.colors, view.camera, radii)
    surface = workspace.scene_depth(view.name, workspace.surface_unit())
    static = surface.valid & ~not_static(workspace, view.name, surface.valid.shape)
    off = np.divide(depth, surface.depth, out=np.zeros_like(depth), where=static) - 1
    drawn = static & (depth > 0)
    return Look(picture, static, drawn & (np.abs(off) <= SAME), drawn & (off < -SAME))


def _up(workspace: Workspace) -> np.ndarray | None:
    """(3,) upward direction of the world, None where it is not known."""
    levelled = workspace.levelled_from_scene()
    return None if levelled is None else levelled.rotation[2]

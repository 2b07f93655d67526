"""Stage fuse: one background all views agree on, and what moves before it."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import FuseError
from recon4d.progress import Progress
from recon4d.scene.cloud import PointCloud
from recon4d.scene.depth import Provenance
from recon4d.scene.mesh import DepthMesh, TriMesh
from recon4d.scene.trajectory import PoseOrigin
from recon4d.scene.transforms import Rigid3
from recon4d.stages.common import check_range, execute
from recon4d.workspace import StagePart, StageRecord, Workspace

if TYPE_CHECKING:
    from recon4d.geometry.fusion import ViewCounts
    from recon4d.scene.trajectory import Trajectory

VERSION = 2
DEPTHS_IN_MEMORY = 24
AGREEMENT = "agreement"  # folder of what the views say of every pixel: written in the first walk, read in the next


@dataclass(frozen=True)
class FuseOptions:
    """What becomes background, and how dense clouds are."""

    voxel_size: float | None = None
    """Edge of a background voxel in scene units; without it twice the size of a pixel at the typical depth."""
    neighbours: int = 8
    """How many other frames judge the points of a frame."""
    min_agreeing: int = 2
    """Points that fewer of them confirm are not background."""
    tolerance: float = 0.05
    """Relative difference of depth that counts as the same surface."""
    max_frame_points: int = 80_000
    """Upper bound of points in the cloud of one frame; the pixel grid is thinned evenly."""


def check_options(options: FuseOptions) -> None:
    """Refuse what cannot work, before any work is done. Raises OptionsError."""
    if options.voxel_size is not None:
        check_range("fuse", "voxel_size", options.voxel_size, above=0.0)
    check_range("fuse", "neighbours", options.neighbours, low=1, high=255)
    check_range("fuse", "min_agreeing", options.min_agreeing, low=0, high=options.neighbours)
    check_range("fuse", "tolerance", options.tolerance, above=0.0, high=1.0)
    check_range("fuse", "max_frame_points", options.max_frame_points, low=1)


def run(workspace: Workspace, options: FuseOptions, progress: Progress | None = None) -> StageRecord:
    """Fuse the surfaces of all frames."""
    check_options(options)
    reads = (workspace.surface_unit(), "align", "poses")
    return execute(workspace, "fuse", VERSION, options, reads, lambda part: _work(workspace, options, part), progress)


def _work(workspace: Workspace, options: FuseOptions, part: StagePart) -> dict[str, object]:
    from recon4d.formats.ply import write_cloud, write_mesh

    trajectory = workspace.trajectory()
    typical = _typical_depths(workspace, trajectory, part)
    voxel_size = options.voxel_size or 2.0 * float(np.median(typical)) / trajectory.cameras[0].fx
    _judge(workspace, options, trajectory, typical, part)
    cloud, confirmed = _merge(workspace, options, trajectory, voxel_size, part)
    if len(cloud) == 0:
        raise FuseError(
            f"fuse: {100 * confirmed:.1f} % of the pixels are confirmed by {options.min_agreeing} other views and none "
            "is left as background: raise --fuse.tolerance, or check that poses and depth belong to this clip"
        )
    write_cloud(part.path / "static.ply", cloud)
    mesh = _background_mesh(workspace, options, trajectory, cloud, voxel_size, part)
    if len(mesh.faces) == 0:
        part.warn(
            "fuse: too few views agree for a background mesh; static_mesh.ply is empty, static.ply has the points"
        )
    write_mesh(part.path / "static_mesh.ply", mesh)
    _write_manifest(workspace, trajectory, part)
    return {
        "frames": len(trajectory),
        "static_points": len(cloud),
        "static_triangles": len(mesh.faces),
        "voxel_size": voxel_size,
        "confirmed_share": confirmed,
    }


def _write_manifest(workspace: Workspace, trajectory: Trajectory, part: StagePart) -> None:
    from recon4d.formats.scene_json import write_scene

    align = workspace.unit_dir("align")
    scale = json.loads((align / "scale.json").read_text(encoding="utf-8"))["metres_per_unit"]
    up = json.loads((align / "world_up.json").read_text(encoding="utf-8"))["levelled_from_scene"]
    levelled = None if up is None else Rigid3.from_matrix(np.array(up))
    cameras = "../refine/cameras.json" if workspace.surface_unit() == "refine" else "../poses/cameras.json"
    write_scene(part.path / "scene.json", trajectory, scale, levelled, cameras)


def _typical_depths(workspace: Workspace, trajectory: Trajectory, part: StagePart) -> np.ndarray:
    """(N,) median depth of each frame."""
    medians = []
    with part.progress.bar("measuring depths", len(trajectory)) as bar:
        for name in trajectory.names:
            surface = workspace.scene_depth(name, workspace.surface_unit())
            medians.append(float(np.median(surface.depth[surface.valid])))
            bar.advance()
    return np.array(medians)


class _Depths:
    """Depth of frames, 0 where they cannot bear witness of their own; the last few are kept in memory."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.kept = workspace, OrderedDict()

    def __call__(self, name: str) -> np.ndarray:
        if name not in self.kept:
            surface = self.workspace.scene_depth(name, self.workspace.surface_unit())
            seen = _not_ignored(self.workspace, name, surface.valid & Provenance.first_hand(surface.provenance))
            self.kept[name] = np.where(seen, surface.depth, np.float32(0))
        self.kept.move_to_end(name)
        while len(self.kept) > DEPTHS_IN_MEMORY:
            self.kept.popitem(last=False)
        return self.kept[name]


def _judge(
    workspace: Workspace, options: FuseOptions, trajectory: Trajectory, typical: np.ndarray, part: StagePart
) -> None:
    """First walk: write what other views say of the pixels of every frame."""
    from recon4d.formats.arrays import write_arrays
    from recon4d.formats.ply import write_cloud
    from recon4d.formats.scene_json import MOVING
    from recon4d.geometry.fusion import count_views, frame_points
    from recon4d.geometry.neighbours import choose_neighbours

    depths = _Depths(workspace)
    placed = _placed(trajectory)
    may_judge = np.array([name in placed for name in trajectory.names])
    chosen = choose_neighbours(trajectory, typical, options.neighbours, may_judge)
    neighbours = dict(zip(trajectory.names, chosen))
    for folder in ("moving", AGREEMENT):
        (part.path / folder).mkdir(exist_ok=True)
    for name in part.pending(trajectory.names, "comparing views"):
        mesh = workspace.depth_mesh(name)
        frame = frame_points(trajectory[name], mesh)
        others = [trajectory[trajectory.names[row]] for row in neighbours[name]]
        counts = count_views(frame, ((other, depths(other.name)) for other in others), options.tolerance)
        write_cloud(part.path / MOVING.format(name=name), PointCloud.concatenate([]))
        write_arrays(
            part.path / AGREEMENT / f"{name}.npz", agreeing=counts.agreeing, seeing_through=counts.seeing_through
        )


def _merge(
    workspace: Workspace, options: FuseOptions, trajectory: Trajectory, voxel_size: float, part: StagePart
) -> tuple[PointCloud, float]:
    """Second walk: the background cloud of all confirmed pixels, and the share of pixels that are confirmed."""
    from recon4d.geometry.fusion import frame_points, point_weights, without_outliers
    from recon4d.geometry.voxels import VoxelMerger

    merger, shares, placed = VoxelMerger(voxel_size, columns=8), [], _placed(trajectory)
    with part.progress.bar("merging background", len(placed)) as bar:
        for name in placed:
            mesh = workspace.depth_mesh(name)
            frame, counts = frame_points(trajectory[name], mesh), _read_counts(part, name)
            static = _background(workspace, options, name, mesh, counts, len(placed))
            shares.append(static.mean())
            columns = np.concatenate(
                [
                    workspace.picture(name)[static],
                    frame.normals[static],
                    counts.confidence()[static][:, None],
                    mesh.surface.provenance[static][:, None],
                ],
                axis=1,
                dtype=np.float32,
            )
            merger.add(frame.points[static], point_weights(mesh.surface.depth, counts.agreeing)[static], columns)
            bar.advance()
    points, _, frames, columns = merger.result()
    keep = frames >= min(2, len(placed))
    points, columns = points[keep], columns[keep]
    keep = without_outliers(points)
    return _cloud(points[keep], columns[keep]), float(np.mean(shares))


def _cloud(points: np.ndarray, columns: np.ndarray) -> PointCloud:
    normals = columns[:, 3:6]
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return PointCloud(
        points=points,
        colors=np.clip(np.round(columns[:, :3]), 0, 255),
        normals=np.where(length > 1e-6, normals / np.maximum(length, 1e-6), 0.0),
        confidence=columns[:, 6],
        provenance=np.round(columns[:, 7]),
    )


def _not_ignored(workspace: Workspace, name: str, pixels: np.ndarray) -> np.ndarray:
    """The pixels (H, W) without those a user's mask takes out."""
    ignored = workspace.ignored(name)
    return pixels if ignored is None else pixels & ~ignored


def _placed(trajectory: Trajectory) -> list[str]:
    """Frames that were really located; an interpolated pose shows a frame, but is no evidence of what is where."""
    return [view.name for view in trajectory if view.origin is not PoseOrigin.INTERPOLATED]


def _background(
    workspace: Workspace, options: FuseOptions, name: str, mesh: DepthMesh, counts: ViewCounts, views: int
) -> np.ndarray:
    """(H, W) bool: pixels that belong to the background; never more views must agree than there are others.

    Only first-hand ones: what a frame was told by others is theirs to give, and what fills a hole is nobody's evidence.
    """
    from recon4d.geometry.meshing import well_joined

    own = mesh.surface.valid & Provenance.first_hand(mesh.surface.provenance)
    usable = _not_ignored(workspace, name, own & well_joined(mesh))
    return usable & counts.confirmed(min(options.min_agreeing, views - 1))


def _read_counts(part: StagePart, name: str) -> ViewCounts:
    from recon4d.formats.arrays import read_arrays
    from recon4d.geometry.fusion import ViewCounts

    return ViewCounts(**read_arrays(part.path / AGREEMENT / f"{name}.npz"))


def _background_mesh(
    workspace: Workspace,
    options: FuseOptions,
    trajectory: Trajectory,
    cloud: PointCloud,
    voxel_size: float,
    part: StagePart,
) -> TriMesh:
    """Third walk: the confirmed pixels in a signed distance volume."""
    from recon4d.geometry.fusion import BackgroundMesh

    volume, placed = BackgroundMesh(voxel_size, cloud.points), _placed(trajectory)
    with part.progress.bar("meshing background", len(placed)) as bar:
        for name in placed:
            mesh, view = workspace.depth_mesh(name), trajectory[name]
            static = _background(workspace, options, name, mesh, _read_counts(part, name), len(placed))
            depth = np.where(static, mesh.surface.depth, np.float32(0))
            volume.add(depth, workspace.picture(name), view.camera, view.cam_from_world)
            bar.advance()
    return TriMesh(*volume.extract(min_weight=min(3.0, len(placed))))

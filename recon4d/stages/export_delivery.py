"""What the writers of all export formats share: the scene in the delivered frame and unit, with the wanted parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from recon4d.formats.axes import Up
from recon4d.formats.disk import link_or_copy
from recon4d.geometry.grid_surface import GridSurface, free_surface, restricted
from recon4d.geometry.random_rows import random_rows
from recon4d.scene.cloud import PointCloud
from recon4d.scene.depth import SceneDepth
from recon4d.scene.mesh import DepthMesh, TriMesh
from recon4d.scene.scene4d import Scene4D, UpAxis
from recon4d.scene.trajectory import Trajectory
from recon4d.scene.transforms import Sim3
from recon4d.stage_part import StagePart
from recon4d.stages.common import flag
from recon4d.stages.export_meshes import EMPTY, of_provenance, simplified
from recon4d.stages.export_options import WITHOUT_POINTS, ExportOptions, Layer, choose_frames
from recon4d.workspace import Workspace

PLAYED_POINTS, PLAYED_STATIC_POINTS = 50_000, 500_000  # upper bounds for formats that play, where no option says


@dataclass(frozen=True)
class Delivery:
    """The scene as it is delivered: metres where known, the wanted axis up, the wanted frames, layers, provenance."""

    workspace: Workspace
    options: ExportOptions
    part: StagePart
    scene: Scene4D  # world frame, scene units, all frames
    up: UpAxis

    @cached_property
    def delivered_from_scene(self) -> Sim3:
        return self.scene.delivered_from_scene(self.up)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Frames that are written, in time order."""
        return choose_frames(self.scene.names, self.options.frames)

    @cached_property
    def trajectory(self) -> Trajectory:
        """Cameras of the written frames, delivered frame and unit."""
        chosen = self.scene.trajectory.part(self.names)
        return replace(chosen, cam_from_world=self.delivered_from_scene.apply_to_pose(chosen.cam_from_world))

    @property
    def data_up(self) -> Up:
        """Which axis of the delivered points is up, for formats that have a view of their own."""
        return {UpAxis.Z: Up.Z, UpAxis.Y: Up.Y, UpAxis.MODEL: Up.MINUS_Y}[self.up]

    @property
    def starts_s(self) -> np.ndarray:
        """(N,) seconds from the first written frame."""
        return self.trajectory.timestamps_s - self.trajectory.timestamps_s[0]

    @property
    def fps(self) -> float:
        """Frames per second of the written frames, the steady rate that their times follow best."""
        return replace(self.scene, trajectory=self.trajectory).fps

    @property
    def in_metres(self) -> bool:
        return self.scene.metres_per_unit is not None

    def folder(self, *parts: str) -> Path:
        """A folder below `export/`, made where it is not there."""
        path = self.part.path.joinpath(*parts)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def pending(self, kind: str, label: str) -> Iterator[str]:
        """The frames of a format that are not yet done, with progress."""
        for item in self.part.pending([f"{kind}/{name}" for name in self.names], label):
            yield item.partition("/")[2]

    # -- points ----------------------------------------------------------------------------------------------------

    def static(self, most: int | None = None) -> PointCloud:
        """The background; no points where it is not wanted.

        Args:
            most: upper bound of the points where no option gives one.
        """
        return at_most(self._static, self.options.max_static_points or self.options.max_points or most)

    @cached_property
    def _static(self) -> PointCloud:
        return self._delivered(self.scene.static, "static")

    def moving(self, name: str, most: int | None = None) -> PointCloud:
        """What moves in a frame; no points where it is not wanted. ``most`` as in `static`."""
        return at_most(self._delivered(self.scene.moving(name), "moving"), self.options.max_points or most)

    def _delivered(self, cloud: PointCloud, layer: Layer) -> PointCloud:
        if layer not in self.options.layers:
            cloud = cloud[:0]
        if self.options.provenance is not None:
            cloud = cloud[np.isin(cloud.provenance, self.options.provenance)]
        return cloud.transformed(self.delivered_from_scene)

    # -- surfaces --------------------------------------------------------------------------------------------------

    def static_mesh(self) -> TriMesh:
        """The background as a mesh; no triangles where it is not wanted."""
        mesh = self.workspace.static_mesh()
        if "static" not in self.options.layers:
            mesh = EMPTY
        if self.options.provenance is not None:
            mesh = of_provenance(mesh, self.scene.static, self.options.provenance)
        most = self.options.max_static_points or self.options.max_points
        if most is not None and len(mesh.vertices) > most:
            mesh = simplified(mesh, most)
        return replace(mesh, vertices=self.delivered_from_scene @ mesh.vertices.astype(np.float64))

    def surface(self, name: str, layers: tuple[Layer, ...] | None = None) -> GridSurface:
        """The surface of a frame with the pixel of each vertex; no triangles where nothing of it is wanted.

        Args:
            layers: the parts of the picture that are wanted, if the option wants them too; without it all it wants.
        """
        stride, mesh = self.options.mesh_stride, self.depth_mesh(name, layers)
        view, most = self.scene.trajectory[name], self.options.max_points
        surface = free_surface(mesh, view, stride)
        while most is not None and len(surface.vertices) > most:
            stride = max(stride + 1, int(stride * (len(surface.vertices) / most) ** 0.5))
            surface = free_surface(mesh, view, stride)
        return replace(surface, vertices=self.delivered_from_scene @ surface.vertices)

    def depth_mesh(self, name: str, layers: tuple[Layer, ...] | None = None) -> DepthMesh:
        """The depth grid of a frame, scene units, without what is not wanted. ``layers`` as in `surface`."""
        mesh = self.workspace.depth_mesh(name)
        wanted = set(self.options.layers) & set(layers or self.options.layers)
        keep = np.ones(mesh.surface.depth.shape, dtype=bool)
        if wanted != {"static", "moving"}:
            moves = self.workspace.motion(name).mask
            keep = (moves & ("moving" in wanted)) | (~moves & ("static" in wanted))
        if self.options.provenance is not None:
            keep &= np.isin(mesh.surface.provenance, self.options.provenance)
        return mesh if keep.all() else restricted(mesh, keep)

    def depth(self, name: str) -> SceneDepth:
        """z-depth of a frame's wanted pixels, delivered unit."""
        depth, scale = self.depth_mesh(name).surface, self.delivered_from_scene.scale
        return SceneDepth(
            depth.depth * np.float32(scale), depth.valid, depth.sigma * np.float32(scale), depth.provenance
        )

    @cached_property
    def farthest(self) -> float:
        """Largest depth of all written frames, delivered unit; 0 where none has any."""
        depths = (self.depth(name) for name in self.names)
        return max(float(depth.depth[depth.valid].max(initial=0)) for depth in depths)

    def normals(self, name: str) -> np.ndarray:
        """(H, W, 3) float32 unit normals of a frame's wanted pixels, delivered world axes; 0 where not known."""
        from recon4d.geometry.meshing import grid_normals

        mesh, view = self.depth_mesh(name), self.trajectory[name]
        in_cam = grid_normals(view.camera.unproject(mesh.surface.depth.astype(np.float64)), mesh)
        return (in_cam @ view.cam_from_world.rotation).astype(np.float32)  # rows: world_from_cam is the transpose

    # -- pictures --------------------------------------------------------------------------------------------------

    def usable(self, name: str) -> np.ndarray:
        """(H, W) bool: pixels a reconstruction of the background may use: not moving, not masked by the user."""
        moves, ignored = self.workspace.motion(name).mask, self.workspace.ignored_by_user(name)
        return ~moves if ignored is None else ~moves & ~ignored

    def link_pictures(self, folder: Path, names: Sequence[str] | None = None) -> dict[str, Path]:
        """The undistorted pictures of the written (or these) frames in a folder, by file name; name -> path there."""
        linked = {}
        for name in self.names if names is None else names:
            source = self.workspace.picture_path(name)
            linked[name] = folder / source.name
            link_or_copy(source, linked[name])
        return linked


def at_most(cloud: PointCloud, count: int | None) -> PointCloud:
    """The cloud, or a fixed random choice of its points: any regular choice of grid points shows as a pattern."""
    return cloud if count is None or len(cloud) <= count else cloud[random_rows(len(cloud), count)]


def warn_of_nothing(delivery: Delivery) -> None:
    """Say of each wanted part of the scene that there is not one point of it, where the options are to blame."""
    options, scene = delivery.options, delivery.scene
    if not set(options.to) - WITHOUT_POINTS:
        return
    chosen = options.provenance is not None
    if "static" in options.layers and not len(delivery.static()) and (chosen or options.layers == ("static",)):
        why = _not_chosen(options) if len(scene.static) else "there is none in the scene"
        delivery.part.warn(f"export: no point of the background is written: {why}")
    of_interest = "moving" in options.layers and (chosen or options.layers == ("moving",))
    if of_interest and not any(len(delivery.moving(name)) for name in delivery.names):
        moves = any(len(scene.moving(name)) for name in delivery.names)
        why = _not_chosen(options) if moves else "nothing moves in the written frames"
        delivery.part.warn(f"export: no point of what moves is written: {why}")


def _not_chosen(options: ExportOptions) -> str:
    return f"none came about as {flag('export', 'provenance')} {','.join(map(str, options.provenance))} wants it"

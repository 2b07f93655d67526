"""What a scene folder has to show, read when asked for and turned to the frame people look at it in."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from recon4d.errors import OptionsError, WorkspaceError
from recon4d.geometry.resample import resize_grid
from recon4d.scene.cloud import PointCloud
from recon4d.scene.depth import DepthMap, SceneDepth
from recon4d.scene.mesh import DepthMesh
from recon4d.scene.motion import FrameMotion
from recon4d.scene.scene4d import Scene4D
from recon4d.scene.scene_flow import SceneFlow
from recon4d.scene.sparse import SparseModel
from recon4d.scene.trajectory import Trajectory
from recon4d.scene.transforms import Sim3
from recon4d.view.live_cache import ByteCache
from recon4d.view.live_placed import placed
from recon4d.workspace import Workspace

RAW = "raw/"  # what the depth stage gave, by source: raw/mvs
CACHE_BYTES = 512 << 20
LOOKED_AT = 5  # frames that ranges of colours are taken from
FAR_POINT = 0.9  # quantile of distances that counts as the size of the scene
Item = TypeVar("Item")


@dataclass(frozen=True)
class FrameDepth:
    """Depth of one frame on the grid of its picture, whatever stage it is from."""

    depth: np.ndarray  # (H, W) float32 z, scene units
    valid: np.ndarray  # (H, W) bool
    sigma: np.ndarray | None  # (H, W) float32, scene units; None where the stage does not say
    provenance: np.ndarray  # (H, W) uint8


class LiveScene:
    """A scene folder as the viewer reads it; half-finished ones show what is there."""

    def __init__(self, workspace: Workspace, max_points: int, source: str | None = None) -> None:
        """Raises WorkspaceError where there is nothing to show yet, OptionsError for a depth source not there."""
        if workspace.record("poses") is None:
            raise WorkspaceError(
                f"view: {workspace.root} has nothing to show yet, the stage poses is not done: "
                f"run recon4d run --out {shlex.quote(str(workspace.root))} first"
            )
        known = workspace.depth_sources()
        if source is not None and source not in known:
            there = f"there is {', '.join(known)}" if known else "the stage depth is not done yet"
            raise OptionsError(f"view: --source {source} is no depth source of this scene; {there}")
        self.workspace, self.max_points = workspace, max_points
        self.sources = known if source is None else [source]
        self.cache = ByteCache(CACHE_BYTES)

    # -- the whole scene -------------------------------------------------------------------------------------------

    @cached_property
    def trajectory(self) -> Trajectory:
        """The best cameras there are, world frame, scene units."""
        return self.workspace.trajectory()

    @cached_property
    def before(self) -> Trajectory:
        """The cameras as the stage poses has them."""
        return self.workspace.unrefined_trajectory()

    @property
    def names(self) -> tuple[str, ...]:
        return self.trajectory.names

    def done(self, unit: str) -> bool:
        return self.workspace.record(unit) is not None

    @cached_property
    def refined(self) -> bool:
        """Whether refine is done, and of the results that are there now."""
        return self.workspace.surface_unit() == "refine"

    @cached_property
    def metres_per_unit(self) -> float | None:
        return self.workspace.metres_per_unit() if self.done("align") else None

    @cached_property
    def up_known(self) -> bool:
        return self.done("align") and self.workspace.levelled_from_scene() is not None

    @property
    def unit(self) -> str:
        """The shown unit in words."""
        return "m" if self.metres_per_unit else "units"

    @cached_property
    def shown_from_scene(self) -> Sim3:
        """Metres where known, z up; by the cameras' own up where up is not known."""
        levelled = self.workspace.levelled_from_scene() if self.done("align") else None
        nothing = PointCloud.concatenate([])
        scene = Scene4D(nothing, lambda name: nothing, self.trajectory, self.metres_per_unit, levelled)
        return scene.delivered_from_scene()

    def shown(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) float32 points of the world frame in the shown frame."""
        return (self.shown_from_scene @ np.asarray(points, dtype=np.float64)).astype(np.float32)

    @cached_property
    def size(self) -> float:
        """How far things are from the cameras, shown unit."""
        centres = self.trajectory.centres
        points = self.sparse().points if self.has_sparse else self._some_surface_points()
        far = np.linalg.norm(points - centres.mean(axis=0), axis=1)
        spread = np.linalg.norm(centres - centres.mean(axis=0), axis=1).max(initial=0.0)
        size = max(float(np.quantile(far, FAR_POINT)) if len(far) else 0.0, float(spread))
        return (size or 1.0) * self.shown_from_scene.scale

    def _some_surface_points(self) -> np.ndarray:
        """(N, 3) points of the aligned depth of the first frame, world frame; none where it is not there."""
        if not self.done("align"):
            return np.zeros((0, 3))
        view, depth = self.trajectory[self.names[0]], self.depth("align", self.names[0])
        return view.cam_from_world.inverse() @ view.camera.unproject(depth.depth.astype(np.float64))[depth.valid]

    @cached_property
    def floor(self) -> tuple[float, bool]:
        """Height of the floor in the shown frame, and whether it was found or is only below nearly all points."""
        if self.up_known:
            with self.workspace.reading("align", "view") as folder:
                if json.loads((folder / "world_up.json").read_text(encoding="utf-8")).get("ground"):
                    return 0.0, True  # the levelled world has its zero there
        points = self.sparse().points if self.has_sparse else self._some_surface_points()
        if not len(points):
            return 0.0, False
        return float(np.quantile(self.shown(points)[:, 2], 0.02)), False

    # -- read when asked for ---------------------------------------------------------------------------------------

    def _kept(self, key: tuple, read: Callable[[], Item]) -> Item:
        return self.cache.get(key, read)

    @cached_property
    def has_sparse(self) -> bool:
        return any((self.workspace.unit_dir("poses") / "sparse").glob("points3D.*")) and len(self.sparse()) > 0

    def sparse(self) -> SparseModel:
        return self._kept(("sparse",), self.workspace.sparse_model)

    def picture(self, name: str) -> np.ndarray:
        return self._kept(("picture", name), lambda: self.workspace.picture(name))

    def motion(self, name: str) -> FrameMotion:
        return self._kept(("motion", name), lambda: self.workspace.motion(name))

    def scene_flow(self, name: str) -> SceneFlow:
        return self._kept(("scene flow", name), lambda: self.workspace.scene_flow(name))

    def static_cloud(self) -> PointCloud:
        return self._kept(("static",), self.workspace.static_cloud)

    def moving_cloud(self, name: str) -> PointCloud:
        return self._kept(("moving", name), lambda: self.workspace.moving_cloud(name))

    def mesh(self, name: str) -> DepthMesh:
        return self._kept(("mesh", name), lambda: self.workspace.depth_mesh(name))

    def depth(self, stage: str, name: str) -> FrameDepth:
        """Depth of a frame from ``align``, ``refine``, or ``raw/SOURCE`` brought to the picture's grid and unit."""
        return self._kept(("depth", stage, name), lambda: self._read_depth(stage, name))

    def _read_depth(self, stage: str, name: str) -> FrameDepth:
        if not stage.startswith(RAW):
            found: SceneDepth = self.workspace.scene_depth(name, stage)
            return FrameDepth(found.depth, found.valid, found.sigma, found.provenance)
        raw, camera = self.raw(stage.removeprefix(RAW), name), self.trajectory[name].camera
        values, valid = resize_grid(raw.values, raw.valid, camera.width, camera.height)
        reference = self.workspace.scene_depth(name) if self.done("align") else None
        z, valid = placed(raw.kind, values, valid, reference, self.metres_per_unit)
        return FrameDepth(z, valid, None, nearest_grid(raw.provenance, camera.shape))

    def raw(self, source: str, name: str) -> DepthMap:
        """A frame's depth as the source gave it: its own size and kind."""
        return self._kept(("raw", source, name), lambda: self.workspace.depth_map(name, source))

    def sample_names(self) -> list[str]:
        """Some frames, evenly spread, that ranges of colours are taken from."""
        rows = np.unique(np.linspace(0, len(self.names) - 1, LOOKED_AT).round().astype(int))
        return [self.names[row] for row in rows]


def nearest_grid(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) grid of another size by the nearest pixel: numbers that mean kinds must not be mixed."""
    rows, columns = ((np.arange(n) + 0.5) * (have / n) for n, have in zip(shape, values.shape))
    return values[rows.astype(int)[:, None], columns.astype(int)]

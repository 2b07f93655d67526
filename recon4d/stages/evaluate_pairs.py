"""Estimate and truth of each frame on one grid, for `stages/evaluate.py`.

Truth belongs to the frames as decoded, our depth to the undistorted pictures. Where a lens was undistorted, truth is
carried into the undistorted picture (nearest pixel: depth must not be mixed across silhouettes; z does not change).
Otherwise scores are taken on the truth's own grid, and an estimate of another size is looked up bilinearly where all
four neighbours are valid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import EvaluationError, WorkspaceError
from recon4d.evaluation.affine_fit import AffineFit
from recon4d.evaluation.sampling import nearest_at, on_grid
from recon4d.evaluation.truth import Counting, GridTruth
from recon4d.formats.cameras_json import read_trajectory
from recon4d.poses.lens import Lens, read_lenses, undistortion_map
from recon4d.scene.camera import Camera
from recon4d.scene.depth import DepthKind

if TYPE_CHECKING:
    from recon4d.stages.evaluate import EvaluateOptions
    from recon4d.workspace import Workspace

Estimator = Callable[[str], tuple[np.ndarray, np.ndarray]]  # frame name -> depth (H, W), valid (H, W)


@dataclass(frozen=True)
class Pair:
    """One frame; all grids (H, W) of ``camera``."""

    camera: Camera
    estimate: np.ndarray  # z-depth; unit of the stage
    valid: np.ndarray
    truth: np.ndarray  # z-depth, metres
    known: np.ndarray  # pixels with truth within the limits
    moving: np.ndarray | None  # pixels of moving things, where masks were given


class Undistorter:
    """Brings grids of the decoded frames to the undistorted pictures."""

    def __init__(self, workspace: Workspace) -> None:
        self.trajectory = workspace.trajectory()
        poses = workspace.unit_dir("poses")
        self._lenses = read_lenses(poses / "lenses.json")
        self._drawn = read_trajectory(poses / "cameras.json")  # the cameras the pictures were undistorted to
        self._maps: dict[tuple[Lens, Camera], tuple[np.ndarray, np.ndarray] | None] = {}  # one per lens of the clip

    def __call__(self, name: str, grid: np.ndarray) -> np.ndarray:
        """The grid (H, W, ...) as it is where nothing was undistorted, else on the undistorted picture."""
        lens, camera = self._lenses[name], self._drawn[name].camera
        if (lens, camera) not in self._maps:
            self._maps[lens, camera] = None if lens.is_pinhole_like(camera) else undistortion_map(lens, camera)
        found = self._maps[lens, camera]
        if found is None:
            return grid
        x, y = found
        return nearest_at(grid, x * (grid.shape[1] / lens.width), y * (grid.shape[0] / lens.height))

    def camera(self, name: str, shape: tuple[int, int]) -> Camera:
        """The undistorted camera of a frame for a grid of ``shape`` = (H, W)."""
        return self.trajectory[name].camera.resized(shape[1], shape[0])


class Pairs:
    """All frames of the scene that have true depth, in time order, each read when its turn comes."""

    def __init__(self, workspace: Workspace, options: EvaluateOptions, counting: Counting) -> None:
        recording = workspace.recording()
        self._options = options
        self._depth = GridTruth(options.depth_gt, recording, counting, "--depth-gt")
        self.rules = {"depth": self._depth.match.rule}
        self._mask = None
        if options.mask_gt is not None:
            self._mask = GridTruth(options.mask_gt, recording, counting, "--mask-gt")
            self.rules["mask"] = self._mask.match.rule
        self._undistorted = Undistorter(workspace)
        self.names = [name for name in self._undistorted.trajectory.names if name in self._depth]
        if not self.names:
            raise EvaluationError("evaluate: none of the frames with true depth has a pose: nothing can be scored")
        self.remarks: list[str] = []
        self.stage = options.stage or ("refine" if workspace.record("refine") else "align")
        self.unit = unit_of(workspace, self.stage, options.source)
        self.in_scene_units, self.is_metric, self.is_fitted = True, False, False
        self._estimate = self._estimator(workspace)

    @property
    def limits(self) -> str:
        """The limits of true depth in words."""
        far = f"{self._options.max_depth:g}" if self._options.max_depth > 0 else "any"
        return f"{self._options.min_depth:g} to {far} m"

    def __iter__(self) -> Iterator[tuple[str, Pair]]:
        return ((name, self._pair(name)) for name in self.names)

    def _pair(self, name: str) -> Pair:
        truth, known = self._truth(name)
        estimate, valid = on_grid(*self._estimate(name), truth.shape)
        moving = None
        if self._mask is not None:
            if name not in self._mask:
                raise EvaluationError(f"evaluate: frame {name} has true depth but no mask in --mask-gt")
            moving = nearest_on(self._undistorted(name, self._mask[name]), truth.shape) != 0
        return Pair(self._undistorted.camera(name, truth.shape), estimate, valid, truth, known, moving)

    def _truth(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """True depth in metres, and where it is known."""
        raw = self._undistorted(name, self._depth[name])
        metres = np.nan_to_num(raw.astype(np.float32), posinf=0.0, neginf=0.0) * np.float32(
            self._options.depth_gt_scale
        )
        known = (metres > 0) & (metres >= self._options.min_depth)
        if self._options.max_depth > 0:
            known &= metres <= self._options.max_depth
        return metres, known

    def _estimator(self, workspace: Workspace) -> Estimator:
        """Where the estimate of a frame comes from."""
        if self.stage == "rendered":
            return _rendered(workspace, self._undistorted, self._options.splat_radius_px)
        if self.stage != "depth":
            return lambda name: _depth_of(workspace.scene_depth(name, self.stage))
        source = self.unit.partition("/")[2]
        kind = DepthKind(workspace.need(self.unit, "evaluate").summary["kind"])
        self.in_scene_units, self.is_metric = kind is DepthKind.SCENE_Z, kind is DepthKind.METRIC_Z
        gain, shift = self._clip_fit(workspace, source, kind) if kind.has_shift else (1.0, 0.0)
        return lambda name: _z_of_source(workspace, name, source, gain, shift)

    def _clip_fit(self, workspace: Workspace, source: str, kind: DepthKind) -> tuple[float, float]:
        """One gain and shift for the clip: without them the numbers of such a source have no unit at all."""
        fit = AffineFit()
        for name in self.names:
            truth, known = self._truth(name)
            item = workspace.depth_map(name, source)
            values, valid = on_grid(item.values, item.valid, truth.shape)
            both = valid & known
            fit.add(values[both], 1.0 / truth[both] if kind.is_disparity else truth[both])
        gain, shift = fit.solve()
        self.is_fitted = True
        self.remarks.append(
            f"{source} is {kind.value}: one scale ({gain:.4g}) and shift ({shift:.4g}) for the whole clip were fitted "
            "to the truth, as video depth benchmarks do; they stand in for the median scale"
        )
        return gain, shift


def unit_of(workspace: Workspace, stage: str, source: str | None) -> str:
    """The finished unit whose depth is scored. Raises WorkspaceError."""
    unit = "fuse" if stage == "rendered" else stage
    if stage == "depth":
        sources = workspace.depth_sources()
        if sources and source is not None and source not in sources:
            raise WorkspaceError(
                f"evaluate: there is no depth of the source '{source}', done are {', '.join(sources)}: "
                f"name one of them with --source, or run recon4d depth {workspace.root} for it first"
            )
        unit = f"depth/{source or sources[0]}" if sources else "depth"
    if stage == "refine" and workspace.record("refine") is None:
        raise WorkspaceError(
            "evaluate: this scene has no refined depth; what --stage can name in it: "
            f"{', '.join(_stages_with_depth(workspace)) or 'nothing yet'}"
        )
    workspace.need(unit, "evaluate")
    return unit


def _stages_with_depth(workspace: Workspace) -> list[str]:
    """Values of --stage that this scene has something for."""
    unit_of = {"align": "align", "mesh": "mesh", "rendered": "fuse"}
    found = [stage for stage, unit in unit_of.items() if workspace.record(unit) is not None]
    return ["depth", *found] if workspace.depth_sources() else found


def _depth_of(surface: object) -> tuple[np.ndarray, np.ndarray]:
    return surface.depth, surface.valid


def _z_of_source(workspace: Workspace, name: str, source: str, gain: float, shift: float) -> tuple:
    """z-depth of a source's own numbers under one fit; disparities of 0 or less are infinitely far, so not valid."""
    item = workspace.depth_map(name, source)
    y = gain * item.values.astype(np.float64) + shift
    valid = item.valid & (y > 0)
    z = np.divide(1.0, y, out=np.zeros_like(y), where=valid) if item.kind.is_disparity else np.where(valid, y, 0.0)
    return z.astype(np.float32), valid


def _rendered(workspace: Workspace, undistorted: Undistorter, radius_px: float) -> Estimator:
    """The fused background drawn from each frame's camera."""
    from recon4d.render.points import splat_points

    cloud = workspace.static_cloud()

    def estimate(name: str) -> tuple[np.ndarray, np.ndarray]:
        view = undistorted.trajectory[name]
        _, depth = splat_points(view.cam_from_world @ cloud.points, cloud.colors, view.camera, radius_px)
        return depth, depth > 0

    return estimate


def nearest_on(grid: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A grid of labels on another number of pixels."""
    if grid.shape[:2] == shape:
        return grid
    x = (np.arange(shape[1]) + 0.5) * (grid.shape[1] / shape[1])
    y = (np.arange(shape[0]) + 0.5) * (grid.shape[0] / shape[0])
    return nearest_at(grid, *np.meshgrid(x, y))

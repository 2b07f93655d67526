"""Views of a scene that no camera took: the sources of a picture, in the order of how much they are believed.

The frame of the wanted moment and the static parts of the frames nearest to the wanted camera are drawn together; the
fused background shows where none of them sees anything, or clearly in front; filled layers show in what is left open.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock

import numpy as np

from recon4d.errors import WorkspaceError
from recon4d.fill.composite import laid_over
from recon4d.geometry.point_squares import local_spacing
from recon4d.render.splatting import Rendered, Splats, splat
from recon4d.render.surface_splats import cloud_splats, grid_splats
from recon4d.scene.camera import Camera
from recon4d.scene.layered import LayeredDepth
from recon4d.scene.scene4d import Scene4D
from recon4d.scene.transforms import Rigid3
from recon4d.stages.fuse_static import looks_at_points
from recon4d.stages.layers import RIM
from recon4d.stages.working_pictures import no_part_of_background
from recon4d.workspace import Workspace

KEPT_FRAMES = 24  # whose splats stay in memory: 14 MB each at 640x480
SHARPNESS = 4.0  # power of closeness with which frames are mixed: twice as far counts a sixteenth
LEAST_WEIGHT = 1e-3
ASIDE = 0.5  # turning the camera away by a radian is as bad as moving it by so many focus distances
STEP_DEG = 75.0  # frames that look more than so many degrees elsewhere have nothing to say


@dataclass(frozen=True)
class Moment:
    """A time within the clip: between frame ``first`` and the next one, at ``share`` (0..1) of the way."""

    first: int
    share: float

    @staticmethod
    def at(time: float, frames: int) -> Moment:
        """Of a position counted in frames, held within the clip."""
        time = min(max(float(time), 0.0), frames - 1.0)
        first = min(int(np.floor(time)), frames - 1)
        share = time - first if first < frames - 1 else 0.0
        return Moment(first, share if share > 1e-6 else 0.0)


class NovelViews:
    """Renders a scene from anywhere at any time; may be called from several threads at once."""

    def __init__(
        self,
        workspace: Workspace,
        donors: int = 4,
        background: bool = True,
        layers: Callable[[str], LayeredDepth] | None = None,
        left_out: frozenset[str] = frozenset(),
    ) -> None:
        """Open what is drawn.

        Args:
            donors: so many frames are drawn together, that of the moment among them.
            background: whether the fused background is drawn.
            layers: name -> filled layers of that frame; None for nothing that was not seen.
            left_out: frames that are not drawn from.

        Raises:
            WorkspaceError: the scene is not fused yet, or all frames are left out.
        """
        self.workspace, self.scene = workspace, workspace.scene()
        self.trajectory, self.donors, self._layers = self.scene.trajectory, donors, layers
        self.rows = [row for row, name in enumerate(self.trajectory.names) if name not in left_out]
        if not self.rows:
            raise WorkspaceError("render: every frame is left out: nothing is there to draw from")
        self.focus = focus_distance(workspace, self.scene)
        self.gains = clip_gains(workspace)
        cloud = self.scene.static
        self._background = cloud_splats(cloud, local_spacing(cloud.points)) if background and len(cloud) else None
        self._kept: OrderedDict[tuple[str, str], Splats] = OrderedDict()
        self._lock = Lock()

    def render(self, time: float, cam_from_world: Rigid3, camera: Camera) -> Rendered:
        """The scene at a time (in frames of the clip, fractions between them) as a camera sees it.

        Colours are those of the exposure at that time.
        """
        moment = Moment.at(time, len(self.trajectory))
        now = moment.first if moment.share < 0.5 else moment.first + 1
        name = self.trajectory.names[now]
        parts = [self._static(row, weight, now) for row, weight in self._nearest(cam_from_world)]
        parts += self._moving(moment)
        sources = [splat(Splats.concatenate(parts), cam_from_world, camera)]
        if self._background is not None:
            sources.append(self._exposed(splat(self._background, cam_from_world, camera), 1 / self._gain(name)))
        result = laid_over(sources)
        if self._layers is not None:
            filled = splat(self._splats("layers", name, self._make_layers), cam_from_world, camera)
            result = laid_over([result, filled], in_front=None)
        return result

    # -- sources ---------------------------------------------------------------------------------------------------

    def _nearest(self, cam_from_world: Rigid3) -> list[tuple[int, float]]:
        """Rows of the frames that see what this camera sees, with their weights, the nearest one's being 1."""
        world_from_cam = self.trajectory.cam_from_world[np.array(self.rows)].inverse()
        here = cam_from_world.inverse()
        moved = np.linalg.norm(world_from_cam.translation - here.translation, axis=1) / self.focus
        cosine = np.clip(world_from_cam.rotation[:, :, 2] @ here.rotation[:, 2], -1, 1)
        angle = np.arccos(cosine)
        far = np.hypot(moved, ASIDE * angle)
        far[angle > np.radians(STEP_DEG)] = np.inf
        order = np.argsort(far, kind="stable")[: self.donors]
        order = order[np.isfinite(far[order])]
        # An exact hit counts as a tenth of a percent off: no weight is infinite.
        weight = (np.maximum(far[order], 1e-3) / max(far[order[0]], 1e-3)) ** -SHARPNESS if len(order) else []
        return [(self.rows[k], float(max(w, LEAST_WEIGHT))) for k, w in zip(order, weight)]

    def _static(self, row: int, weight: float, now: int) -> Splats:
        name, own = self.trajectory.names[row], self.trajectory.names[now]
        splats = self._splats("static", name, self._make_static)
        gain = (self._gain(name) / self._gain(own)).astype(np.float32)
        return replace(splats, colors=splats.colors * gain, weight=splats.weight * np.float32(weight))

    def _moving(self, moment: Moment) -> list[Splats]:
        """What moves at a moment: that of the frame before it on its way there, and that of the frame after it."""
        names, rows = self.trajectory.names, set(self.rows)
        parts = []
        if moment.share == 0.0:
            return [self._splats("moving", names[moment.first], self._make_moving)] if moment.first in rows else []
        ends = ((moment.first, moment.share, "next"), (moment.first + 1, 1 - moment.share, "prev"))
        for row, way, side in ends:
            if row not in rows:
                continue
            splats = self._splats("moving", names[row], self._make_moving)
            moved = self._displaced(names[row], splats, way, side)
            parts.append(replace(moved, weight=moved.weight * np.float32(max(1 - way, LEAST_WEIGHT))))
        return parts

    def _displaced(self, name: str, splats: Splats, way: float, side: str) -> Splats:
        """Moving splats after a share of their way to a neighbouring frame; those whose way is not known are gone."""
        if not len(splats):
            return splats
        flow = getattr(self.workspace.scene_flow(name), side)[self._moving_pixels(name)]
        known = np.isfinite(flow).all(axis=1)
        return replace(splats[known], points=splats.points[known] + np.float32(way) * flow[known])

    def _moving_pixels(self, name: str) -> np.ndarray:
        return self.workspace.depth_mesh(name).surface.valid & self.workspace.motion(name).mask

    def _make_static(self, name: str) -> Splats:
        from recon4d.geometry.meshing import well_joined

        mesh, view = self.workspace.depth_mesh(name), self.trajectory[name]
        still, left_out = well_joined(mesh), no_part_of_background(self.workspace, name, RIM)
        if left_out is not None:  # what moves has blurred edges: they would stay behind as a ghost
            still = still & ~left_out
        return grid_splats(mesh, self.workspace.picture(name), view.cam_from_world, view.camera, still)

    def _make_moving(self, name: str) -> Splats:
        mesh, view = self.workspace.depth_mesh(name), self.trajectory[name]
        moves = self.workspace.motion(name).mask
        return grid_splats(mesh, self.workspace.picture(name), view.cam_from_world, view.camera, moves)

    def _make_layers(self, name: str) -> Splats:
        return layer_splats(self._layers(name), self.trajectory[name].cam_from_world)

    def _splats(self, kind: str, name: str, make: Callable[[str], Splats]) -> Splats:
        with self._lock:
            found = self._kept.get((kind, name))
            if found is not None:
                self._kept.move_to_end((kind, name))
                return found
        made = make(name)
        with self._lock:
            self._kept[kind, name] = made
            while len(self._kept) > KEPT_FRAMES:
                self._kept.popitem(last=False)
        return made

    def _gain(self, name: str) -> np.ndarray:
        return self.gains.get(name, np.ones(3))

    @staticmethod
    def _exposed(rendered: Rendered, gain: np.ndarray) -> Rendered:
        return replace(rendered, color=np.clip(rendered.color * gain.astype(np.float32), 0, 255))


def filled_layers(workspace: Workspace) -> Callable[[str], LayeredDepth]:
    """name -> the layers of that frame: from `recon4d layers` where they are of this scene, else made when asked."""
    from recon4d.formats.layer_files import read_layers
    from recon4d.stages.layers import VERSION, LayerMaker

    record = workspace.record("layers")
    inputs = {} if record is None else record.inputs
    current = {unit: found.key for unit in inputs if (found := workspace.record(unit)) is not None}
    folder = workspace.unit_dir("layers") if record and record.version == VERSION and current == inputs else None
    maker = LayerMaker(workspace)

    def layers(name: str) -> LayeredDepth:
        if folder is not None and (folder / f"{name}.npz").exists():
            with workspace.reading("layers", "render"):
                return read_layers(folder / f"{name}.npz")
        return maker.make(name).layered

    return layers


def layer_splats(layered: LayeredDepth, cam_from_world: Rigid3) -> Splats:
    """All layers of a frame as splats."""
    from recon4d.geometry.meshing import cut_silhouettes
    from recon4d.scene.depth import SceneDepth

    parts = []
    for layer in layered.layers:
        surface = SceneDepth(layer.depth, layer.shown, np.zeros_like(layer.depth), layer.provenance)
        mesh = cut_silhouettes(surface, layered.camera, max_ratio=1.1, min_angle_deg=3.0)
        weight = np.maximum(layer.alpha, LEAST_WEIGHT)
        parts.append(grid_splats(mesh, layer.color, cam_from_world, layered.camera, weight=weight))
    return Splats.concatenate(parts)


def clip_gains(workspace: Workspace) -> dict[str, np.ndarray]:
    """name -> (3,) that bring a frame's colours to those of the clip, as `fuse` has it; empty without sparse points."""
    from recon4d.geometry.exposure import exposure_gains

    model = workspace.sparse_model()
    names = [name for name in workspace.trajectory().names if name in model.rows]
    return exposure_gains(
        {name: looks_at_points(workspace.picture(name), model.rows[name], model.pixels[name]) for name in names}
    )


def focus_distance(workspace: Workspace, scene: Scene4D) -> float:
    """Median depth in the middle of the frames, scene units."""
    names = scene.names[:: max(1, len(scene.names) // 8)]
    found = []
    for name in names:
        depth = workspace.depth_mesh(name).surface
        height, width = depth.depth.shape
        middle = slice(height // 4, -(height // 4) or None), slice(width // 4, -(width // 4) or None)
        found.append(depth.depth[middle][depth.valid[middle]])
    depths = np.concatenate(found)
    if not len(depths):
        raise WorkspaceError("render: no frame has depth in its middle: look at the stages depth and align")
    return float(np.median(depths))

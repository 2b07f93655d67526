"""What align needs of every frame, read once: depth at the sparse points, and everything else on small grids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from recon4d.scene.depth import DepthKind, DepthMap
from recon4d.workspace import StagePart, Workspace

if TYPE_CHECKING:
    from recon4d.geometry.clip_fit import WindowJoint
    from recon4d.geometry.gain_field import Stiffness
    from recon4d.geometry.seen_points import SeenPoints, SparseViews
    from recon4d.geometry.sky import SkyFrame, SkyModel
    from recon4d.scene.trajectory import Trajectory, View

SMALL_SIDE = 160  # pixels along the longer side of the grid on which a frame's depth is kept
ANCHOR_SIDE = 40  # the same, of the places where other sources are heard
GREY_SIDE = 320  # of the picture whose brightness steps are looked for
SKY_FRAMES = 12  # are asked whether the clip shows sky
OVERLAP_SIDE = 24  # places along the longer side where two windows are compared
SEED = 0


@dataclass(frozen=True)
class AnchorSamples:
    """What another depth source says of a frame."""

    x: np.ndarray  # (A,) pixels of the picture
    y: np.ndarray
    d: np.ndarray  # (A,) values of its kind
    at_points: np.ndarray  # (K,) values at the frame's `seen` points, NaN where not valid


@dataclass(frozen=True)
class FrameEvidence:
    """One frame, without its full-size grids."""

    view: View
    seen: SeenPoints  # usable sparse points on valid depth, the frame's own first; none that is held out
    d: np.ndarray  # (K,) source values there
    held: SeenPoints  # points that take no part in any fit
    held_d: np.ndarray  # (M,) source values there
    held_confidence: np.ndarray  # (M,) what the source says of them, 0..1
    held_provenance: np.ndarray  # (M,) see `Provenance`
    values: np.ndarray  # (h, w) float32 source values on the small grid; NaN where not valid
    contrast: Stiffness
    anchors: tuple[AnchorSamples, ...]  # in the order of the other sources
    sky: np.ndarray | None  # packed bits of the (H, W) mask; None where there is no sky

    def after_fit(self) -> FrameEvidence:
        """Without what only the fit needs: lent points, the small grid, other sources."""
        own = self.seen.own
        return replace(self, seen=self.seen[own], d=self.d[own], values=np.zeros((0, 0), dtype=np.float32), anchors=())

    def sky_mask(self) -> np.ndarray | None:
        """(H, W) bool on the picture."""
        if self.sky is None:
            return None
        height, width = self.view.camera.shape
        return np.unpackbits(self.sky, count=height * width).reshape(height, width).astype(bool)


@dataclass(frozen=True)
class SourceDepth:
    """A depth source of the scene."""

    name: str
    kind: DepthKind
    sensor: bool

    @classmethod
    def of(cls, workspace: Workspace, name: str) -> SourceDepth:
        summary = workspace.need(f"depth/{name}", "align").summary
        return cls(name, DepthKind(summary["kind"]), bool(summary.get("sensor", False)))


@dataclass(frozen=True)
class PictureLooks:
    """What is kept of a frame's picture."""

    grey: np.ndarray  # (h, w) uint8, reduced and slightly blurred
    contrast: Stiffness  # brightness steps between the nodes of the field


def read_pictures(workspace: Workspace, trajectory: Trajectory, part: StagePart) -> list[PictureLooks]:
    """All frames' pictures, reduced, with progress."""
    found = []
    with part.progress.bar("looking at the pictures", len(trajectory)) as bar:
        for view in trajectory:
            found.append(_looks(workspace.picture(view.name), view))
            bar.advance()
    return found


class EvidenceReader:
    """Reads the frames of a scene one after the other."""

    def __init__(
        self,
        workspace: Workspace,
        trajectory: Trajectory,
        sources: Sequence[SourceDepth],
        pictures: Sequence[PictureLooks],
        views: SparseViews,
        held_views: SparseViews,
    ) -> None:
        from recon4d.geometry.levelling import up_from_cameras
        from recon4d.geometry.point_looks import PointLooks

        self._workspace, self._trajectory = workspace, trajectory
        self._primary, self._others = sources[0], sources[1:]
        self._pictures, self._views, self._held = pictures, views, held_views
        self._point_looks = PointLooks([picture.grey for picture in pictures], views)
        self._up_in_world = up_from_cameras(trajectory.cam_from_world).up
        self.sky: SkyModel | None = None

    def read(self, part: StagePart) -> list[FrameEvidence]:
        """Evidence of all frames, with progress."""
        from recon4d.geometry.sky import fit_sky

        count = len(self._trajectory)
        chosen = np.unique(np.linspace(0, count - 1, SKY_FRAMES).round().astype(int))
        self.sky = fit_sky(self._sky_frame(i) for i in chosen)
        found = []
        with part.progress.bar("reading depth at the sparse points", count) as bar:
            for i in range(count):
                found.append(self._frame(i))
                bar.advance()
        return found

    def _frame(self, i: int) -> FrameEvidence:
        name = self._trajectory.names[i]
        view, depth = self._trajectory[name], self._workspace.depth_map(name, self._primary.name)
        ignored = self._workspace.ignored(name)
        sky = self._sky_mask(i, depth)
        hidden = _either(sky, ignored)
        points = self._views.with_lent(i)
        lent = np.flatnonzero(~points.own)
        visible = np.ones(len(points), dtype=bool)
        visible[lent] = ~self._point_looks.hidden(i, points[lent])
        seen, d = self._on_depth(points[visible], depth, view, hidden)
        held, held_d = self._on_depth(self._held.own(i), depth, view, hidden)
        return FrameEvidence(
            view=view,
            seen=seen,
            d=d,
            held=held,
            held_d=held_d,
            held_confidence=_at(depth.confidence, *_on_grid(depth, view, held.x, held.y)),
            held_provenance=_at(depth.provenance, *_on_grid(depth, view, held.x, held.y)),
            values=_small(depth, view, hidden),
            contrast=self._pictures[i].contrast,
            anchors=tuple(self._anchor(name, source, view, seen, hidden) for source in self._others),
            sky=None if sky is None else np.packbits(sky),
        )

    def _on_depth(
        self, points: SeenPoints, depth: DepthMap, view: View, hidden: np.ndarray | None
    ) -> tuple[SeenPoints, np.ndarray]:
        d, valid = _sampled(depth, view, points.x, points.y)
        if hidden is not None:
            valid &= ~_at(hidden, points.x, points.y)
        return points[valid], d[valid].astype(np.float64)

    def _anchor(
        self, name: str, source: SourceDepth, view: View, seen: SeenPoints, hidden: np.ndarray | None
    ) -> AnchorSamples:
        depth = self._workspace.depth_map(name, source.name)
        depth = replace(depth, valid=depth.is_evidence)
        x, y = _even_places(view, ANCHOR_SIDE)
        d, valid = _sampled(depth, view, x, y)
        if hidden is not None:
            valid &= ~_at(hidden, x, y)
        at_points, known = _sampled(depth, view, seen.x, seen.y)
        return AnchorSamples(
            x[valid], y[valid], d[valid].astype(np.float64), np.where(known, at_points.astype(np.float64), np.nan)
        )

    def _sky_frame(self, i: int, depth: DepthMap | None = None) -> SkyFrame:
        from recon4d.geometry.sky import SkyFrame, nearness, up_in_picture

        name = self._trajectory.names[i]
        depth = self._workspace.depth_map(name, self._primary.name) if depth is None else depth
        own = self._views.own(i)
        rotation = self._trajectory[name].cam_from_world.rotation
        return SkyFrame(
            picture=self._workspace.picture(name),
            nearness=nearness(depth.values, depth.valid, depth.kind),
            valid=depth.valid,
            pixels=np.stack([own.x, own.y], axis=1),
            z=own.z,
            up=up_in_picture(rotation, self._up_in_world),
        )

    def _sky_mask(self, i: int, depth: DepthMap) -> np.ndarray | None:
        from recon4d.geometry.sky import sky_mask

        if not self.sky.present:
            return None
        mask = sky_mask(self._sky_frame(i, depth), self.sky)
        return mask if mask.any() else None


def window_joints(workspace: Workspace, source: str, trajectory: Trajectory) -> list[WindowJoint]:
    """Where the windows of a source join, with what both say of the frames they share."""
    from recon4d.geometry.clip_fit import WindowJoint
    from recon4d.stages.depth import sample_overlap

    windows = workspace.depth_windows(source)
    if windows is None:
        return []
    row = {name: i for i, name in enumerate(trajectory.names)}
    joints = []
    for k in range(len(windows.windows) - 1):
        shared = [name for name in windows.shared(k) if name in row]
        earlier_alone = [row[name] for name in windows.windows[k] if name in row and name not in shared]
        later_alone = [row[name] for name in windows.windows[k + 1] if name in row and name not in shared]
        if not earlier_alone or not later_alone:
            continue
        pairs = [(trajectory[name], pair) for name in shared if (pair := windows.overlap(name)) is not None]
        values = [np.zeros((2, 0))]
        for view, pair in pairs:
            x, y = _even_places(view, OVERLAP_SIDE)
            earlier, later, valid = sample_overlap(pair, x / view.camera.width, y / view.camera.height)
            values.append(np.stack([earlier[valid], later[valid]]).astype(np.float64))
        earlier, later = np.concatenate(values, axis=1)
        joints.append(WindowJoint(max(earlier_alone), min(later_alone), earlier, later))
    return joints


def _either(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
    return b if a is None else a if b is None else a | b


def _at(grid: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    height, width = grid.shape
    return grid[np.clip(y.astype(int), 0, height - 1), np.clip(x.astype(int), 0, width - 1)]


def _sampled(depth: DepthMap, view: View, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Source values at pixels of the picture, and which are valid."""
    from recon4d.geometry.resample import sample_grid

    return sample_grid(depth.values, depth.valid, *_on_grid(depth, view, x, y))


def _on_grid(depth: DepthMap, view: View, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of the picture as pixels of the source's grid."""
    height, width = depth.values.shape
    return x * (width / view.camera.width), y * (height / view.camera.height)


def _even_places(view: View, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel positions (S,) spread evenly over the picture, ``side`` of them along its longer side."""
    width, height = view.camera.width, view.camera.height
    step = max(width, height) / side
    x, y = np.meshgrid(np.arange(step / 2, width, step), np.arange(step / 2, height, step))
    return x.ravel(), y.ravel()


def _small(depth: DepthMap, view: View, hidden: np.ndarray | None) -> np.ndarray:
    """(h, w) float32 source values on the small grid, NaN where not valid."""
    from recon4d.geometry.resample import resize_grid

    scale = min(1.0, SMALL_SIDE / max(view.camera.width, view.camera.height))
    width, height = max(2, round(view.camera.width * scale)), max(2, round(view.camera.height * scale))
    values, valid = resize_grid(depth.values, depth.valid, width, height)
    if hidden is not None:
        x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        valid = valid & ~_at(hidden, x * (view.camera.width / width), y * (view.camera.height / height))
    return np.where(valid, values, np.nan).astype(np.float32)


def _looks(picture: np.ndarray, view: View) -> PictureLooks:
    import cv2

    from recon4d.geometry.gain_field import FieldGrid, node_contrast

    scale = min(1.0, GREY_SIDE / max(picture.shape[:2]))
    size = max(2, round(picture.shape[1] * scale)), max(2, round(picture.shape[0] * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA) if scale < 1 else picture
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    contrast = node_contrast(cv2.GaussianBlur(grey, (0, 0), 1.0), FieldGrid.over(view.camera.width, view.camera.height))
    return PictureLooks(np.round(cv2.GaussianBlur(grey, (0, 0), 0.7)).astype(np.uint8), contrast)

"""The gain fields of all frames of a clip, so that they agree with the sparse points and with each other.

First every frame's field follows the sparse points it sees. Then it also follows what the depth of other frames, under
their fields, says about it (points of their surfaces, moved into this frame by the poses), and so once more. Errors
that differ from frame to frame average out, and what flickered stands still; nothing is smoothed in picture
coordinates, where the error moves with the scene.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recon4d.geometry.gain_field import FieldGrid, FieldSamples, FieldStyle, Stiffness, robust_field
from recon4d.geometry.resample import sample_grid
from recon4d.geometry.seen_points import projected
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

OFFSETS = (-20, -10, -5, -2, 2, 5, 10, 20)  # frames whose depth is heard; near ones err alike, far ones see otherwise
FEW_OTHERS = 4  # with fewer, a frame hears itself too: two that heard only each other would swap their errors
SHORT_CLIP = 5  # frames; in shorter ones not every frame has a neighbour at those offsets
PASSES = 3
CROSS_WEIGHT = 1.0  # of a lent surface point against a sparse point
AGREES_WITHIN = 0.12  # log depth; beyond, the two frames see different surfaces there
SURFACE_POINTS = 40  # lent per frame, along the longer side
CALM_STEP = 0.05  # log depth between neighbouring lent points; at silhouettes a small pose error moves depth by a jump


@dataclass(frozen=True)
class FramePrior:
    """What the fit of the fields knows of one frame."""

    camera: Camera
    cam_from_world: Rigid3
    log_disparity: np.ndarray  # (h, w) float32: log of the prior's 1/z on a reduced grid; NaN where not valid
    contrast: Stiffness  # brightness steps between nodes, see `node_contrast`
    samples: FieldSamples  # at the sparse points, then at other known depth
    sparse: int  # so many samples are sparse points
    lends: bool = True  # its pose is good enough for other frames to hear its depth

    @property
    def own(self) -> np.ndarray:
        """(K,) bool: samples at sparse points this frame itself observed."""
        return (np.arange(len(self.samples)) < self.sparse) & (self.samples.weight >= 1.0)


@dataclass(frozen=True)
class FrameField:
    """The correction of one frame: its disparity is the prior's times exp(field)."""

    grid: FieldGrid
    field: np.ndarray  # (nodes_y, nodes_x)


class ClipField:
    """Fits the fields of a clip's frames."""

    def __init__(self, priors: Sequence[FramePrior]) -> None:
        self._priors = priors
        self._surfaces = [_Surface(prior) for prior in priors]
        self._lends = [prior.lends and len(surface.x) > 0 for prior, surface in zip(priors, self._surfaces)]

    def alone(self, i: int, style: FieldStyle, kept: np.ndarray | None = None) -> FrameField:
        """Frame ``i`` fitted to its own samples, or to those of them that are ``kept`` (K,)."""
        prior = self._priors[i]
        grid = FieldGrid.over(prior.camera.width, prior.camera.height)
        samples = prior.samples if kept is None else prior.samples[kept]
        if not len(samples):
            return FrameField(grid, np.zeros(grid.shape))
        judged = prior.sparse if kept is None else int(kept[: prior.sparse].sum())
        return FrameField(grid, robust_field(grid, samples, self.stiffness(i, style), judged))

    def stiffness(self, i: int, style: FieldStyle) -> Stiffness:
        """Stiffness of frame ``i`` under a style."""
        log_disparity = self._priors[i].log_disparity
        camera = self._priors[i].camera
        column, row = FieldGrid.over(camera.width, camera.height).node_pixels(*log_disparity.shape[::-1])
        at_nodes = log_disparity[np.ix_(row, column)]
        return style.stiffness(np.nan_to_num(at_nodes, nan=_middle(at_nodes)), self._priors[i].contrast)

    def fit(self, style: FieldStyle, advance: Callable[[], None] = lambda: None) -> list[FrameField]:
        """Fields of all frames; ``advance`` is called after each frame in each of 1 + `PASSES` passes."""
        found = []
        for i in range(len(self._priors)):
            found.append(self.alone(i, style))
            advance()
        sampled = [len(prior.samples) > 0 for prior in self._priors]
        taught = sampled if any(sampled) else [True] * len(sampled)
        for _ in range(PASSES):
            lent = [surface.in_world(field) for surface, field in zip(self._surfaces, found)]
            heard = [self._heard_by(i, taught) for i in range(len(found))]
            found = [
                self._following(i, found[i], [lent[j] for j in rows], style, advance) for i, rows in enumerate(heard)
            ]
            taught = [before or len(rows) > 0 for before, rows in zip(taught, heard)]
        return found

    def _heard_by(self, i: int, taught: Sequence[bool]) -> list[int]:
        """Rows of the frames that frame ``i`` hears; one that neither samples nor others taught has nothing to say."""
        offsets = OFFSETS if len(taught) >= SHORT_CLIP else (-1, 1)
        rows = [j for j in (i + offset for offset in offsets) if 0 <= j < len(taught)]
        rows = [j for j in rows if taught[j] and self._lends[j]]
        return [*rows, i] if taught[i] and 0 < len(rows) < FEW_OTHERS else rows

    def _following(
        self, i: int, own: FrameField, points: list[np.ndarray], style: FieldStyle, advance: Callable[[], None]
    ) -> FrameField:
        """Frame ``i`` fitted to its samples and to points (S, 3) of surfaces in the world."""
        advance()
        if not points:
            return own
        prior = self._priors[i]
        x, y, z, inside = projected(np.concatenate(points), prior.cam_from_world, prior.camera)
        x, y, z = x[inside], y[inside], z[inside]
        height, width = prior.log_disparity.shape
        known = np.isfinite(prior.log_disparity)
        here, valid = sample_grid(
            prior.log_disparity, known, x * (width / prior.camera.width), y * (height / prior.camera.height)
        )
        ratio = -np.log(z) - here
        agrees = valid & (np.abs(ratio - own.grid.read(own.field, x, y)) < AGREES_WITHIN)
        heard = FieldSamples(x[agrees], y[agrees], ratio[agrees], np.full(int(agrees.sum()), CROSS_WEIGHT))
        samples = prior.samples.joined(heard)
        return FrameField(own.grid, robust_field(own.grid, samples, self.stiffness(i, style), prior.sparse, own.field))


class _Surface:
    """Evenly spread points of a frame's prior that a small error of the pose does not move."""

    def __init__(self, prior: FramePrior) -> None:
        height, width = prior.log_disparity.shape
        step = max(1, round(max(height, width) / SURFACE_POINTS))
        grid = prior.log_disparity[step // 2 :: step, step // 2 :: step]
        with np.errstate(invalid="ignore"):
            across, down = np.abs(np.diff(grid, axis=1)), np.abs(np.diff(grid, axis=0))
            steep = np.zeros(grid.shape, dtype=np.float32)
            for side in (steep[:, :-1], steep[:, 1:]):
                np.fmax(side, across, out=side)
            for side in (steep[:-1], steep[1:]):
                np.fmax(side, down, out=side)
        calm = np.isfinite(grid) & (steep < CALM_STEP)
        row, column = np.nonzero(calm)
        self.x = (column * step + step // 2 + 0.5) * (prior.camera.width / width)
        self.y = (row * step + step // 2 + 0.5) * (prior.camera.height / height)
        self.log_disparity = grid[calm].astype(np.float64)
        self._rays, self._world_from_cam = prior.camera.rays_at(self.x, self.y), prior.cam_from_world.inverse()

    def in_world(self, fitted: FrameField) -> np.ndarray:
        """(S, 3) points, world frame, scene units."""
        z = np.exp(-self.log_disparity - fitted.grid.read(fitted.field, self.x, self.y))
        return self._world_from_cam @ (self._rays * z[:, None])


def _middle(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else 0.0

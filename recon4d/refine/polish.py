"""Refinement by rendering, on our terms: a frame's mesh is moved until it looks like the views that see it.

Rendering knows what warping does not: where the surface hides itself, and that a silhouette in the wrong place looks
wrong. It is slow, so it comes last and starts from what Gauss-Newton has found; or it comes alone (`RENDER`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional

from recon4d.refine.frame import Problem
from recon4d.refine.grid_mesh import GridMesh
from recon4d.render.rasterizer import Rasterizer

LEAST_VIEWS = 3
HIDING = 1.04  # times nearer than the mesh: what the view has there hides it
TORN = 0.03  # of x per pixel between vertices: beyond, a triangle is no surface but the gap between two
ALIKE = 0.08  # of colour (0..1): root mean square over channels at which the robust cost is one half
WIDE = 0.02  # of x that vertices of a pixel's triangle move apart: then the pixel goes with one of them
UNKNOWN = 0.25  # cost of a pixel of which nothing is known, where it must be compared with one that is known
PULL = 1.6e-4  # of the springs' strength: faint pull of every vertex to its start


@dataclass(frozen=True)
class PolishSettings:
    """How long and how boldly; lengths are pixels of the working size."""

    steps: int = 100
    rate: float = 0.1  # of x a step, Adam's; falls to nothing along a cosine
    least: float = 10.0  # of a pixel's cost by x: a gradient as small moves a vertex half as far as a large one
    batch: int = 4  # views a step
    spacing: int = 2  # of vertices
    reach: int | None = 5  # from the depth steps of the start and the prior: vertices farther away stay; None: all move
    held_out: int = 4  # every so many views one judges, and is not fitted
    blurs: tuple[float, ...] = (0.8,)  # standard deviation, of both pictures; an equal part of the steps for each
    scales: tuple[int, ...] = (1,)  # vertices between knots of the fields whose sum moves the mesh
    stiffness: float = 1000.0  # of springs, against a cost of 0..1 of a pixel
    jump: float = 0.01  # of x from pixel to pixel, beyond which a spring gives way
    seed: int = 0


RENDER = PolishSettings(steps=600, rate=1e-2, reach=None, stiffness=2000.0, blurs=(4.0, 2.0, 0.8), scales=(1, 4, 16))


@dataclass(frozen=True)
class Pictures:
    """Colours of a `Problem`, (h, w, 3) uint8 each."""

    own: np.ndarray
    views: Sequence[np.ndarray]  # in the order of the problem's


@dataclass(frozen=True)
class Polished:
    """The answer for a frame."""

    x: np.ndarray  # (h, w) as the start's; the start itself where not ``kept``
    kept: bool  # the views that judge look more alike than before
    before: float  # mean cost of a pixel, 0..1, in the views that judge; NaN when there are too few views
    after: float
    curve: list[dict[str, float]] = field(default_factory=list)  # terms of each step


def polish(
    problem: Problem, pictures: Pictures, start: np.ndarray | None, settings: PolishSettings, rasterizer: Rasterizer
) -> Polished:
    """Move a frame's depth until its rendering looks like the other views; keep it if views not asked agree.

    The energy is the mean over views and pixels of  r^2 / (r^2 + ALIKE^2)  with r the difference of colour under the
    gain of each channel that fits best, where a view sees the frame's surface; plus, as mean over the vertices,
    stiffness times the squared change of delta = x - start from vertex to vertex, under the prior's springs, which give
    way as in `terms.springs`.

    A view does not see what its own depth hides; pixels that see a torn triangle, or what moves, take no part.

    Args:
        start: (h, w) log inverse depth, NaN where there is none; the prior when left out.
    """
    start = problem.own.x if start is None else start
    if len(problem.views) < LEAST_VIEWS or not np.isfinite(start).any():
        return Polished(start, False, math.nan, math.nan)
    search = _Polish(problem, pictures, start, settings, rasterizer)
    search.run()
    before, after = search.judged()
    if not after < before:
        return Polished(start, False, before, after, search.curve)
    x = _on_pixels(search.mesh, search.delta(), start, pictures.own)
    return Polished(x.astype(start.dtype), True, before, after, search.curve)


class _Polish:
    """The state of one frame's polish."""

    def __init__(self, problem, pictures, start, settings, rasterizer) -> None:
        self._problem, self._pictures, self._settings = problem, pictures, settings
        own, known = problem.own, np.isfinite(start)
        self._device = rasterizer.device
        self.mesh = GridMesh(own.camera, known, settings.spacing, rasterizer)
        filled = np.where(known, start, np.median(start[known]))
        self._start = self._tensor(self.mesh.at_vertices(filled))
        moves = np.ones(start.shape) if settings.reach is None else _near_steps((start, own.x), settings.reach)
        self._moves = self._tensor(self.mesh.at_vertices(moves))
        self._static = self._tensor(np.where(known, problem.static, 0))[..., None]
        depths = np.exp(-start[known])
        self._clips = [self.mesh.clip_from_frame(own, view, depths) for view in problem.views]
        self._theirs = [self._tensor(np.where(np.isfinite(v.x), np.exp(v.x), 0)) for v in problem.views]
        self._seen = [self._tensor(np.isfinite(view.grey)) for view in problem.views]
        self._springs = _Springs(problem, self.mesh, settings, self._tensor)
        shapes = [tuple(2 + (n - 2) // scale for n in self.mesh.shape) for scale in settings.scales]
        self._fields = [torch.zeros((1, 1, *shape), device=self._device, requires_grad=True) for shape in shapes]
        self._judges = list(range(1, len(problem.views), settings.held_out))
        self._fitted = [k for k in range(len(problem.views)) if k not in self._judges]
        self.curve: list[dict[str, float]] = []

    def run(self) -> None:
        """All steps."""
        settings, random = self._settings, np.random.default_rng(self._settings.seed)
        adam = torch.optim.Adam(self._fields, lr=settings.rate, eps=settings.least)
        blur = None
        for step in range(settings.steps):
            wanted = settings.blurs[step * len(settings.blurs) // settings.steps]
            if wanted != blur:
                blur, pictures = wanted, self._blurred(wanted)
            for group in adam.param_groups:
                group["lr"] = settings.rate * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
            batch = random.choice(self._fitted, min(settings.batch, len(self._fitted)), replace=False)
            delta = self._delta()
            unlike = sum(self._unlike(delta, int(view), pictures) for view in batch) / len(batch)
            losses = {"color": unlike, "shape": self._springs.energy(delta)}
            adam.zero_grad()
            (len(self._start) * sum(losses.values())).backward()
            adam.step()
            self.curve.append({name: float(loss.detach()) for name, loss in losses.items()})

    def delta(self) -> np.ndarray:
        """(V,) what is added to x at the vertices."""
        with torch.no_grad():
            return self._delta().cpu().numpy()

    def judged(self) -> tuple[float, float]:
        """Mean cost of the views that were not fitted, at the start and now, over pixels that count in either.

        Where one of the two does not count it costs `UNKNOWN`, or tearing the mesh where it is wrong would pay.
        """
        pictures, total, count = self._blurred(self._settings.blurs[-1]), np.zeros(2), 0.0
        with torch.no_grad():
            states = torch.zeros_like(self._start), self._delta()
            for view in self._judges:
                seen = [self._compared(delta, view, pictures) for delta in states]
                either = torch.maximum(seen[0][1], seen[1][1])
                for k, (color, mask) in enumerate(seen):
                    cost = mask * _cost(color, mask, pictures[1][view]) + (either - mask) * UNKNOWN
                    total[k] += float(cost.sum())
                count += float(either.sum())
        before, after = total / max(count, 1e-9)
        return float(before), float(after)

    def _delta(self) -> torch.Tensor:
        grown = [functional.interpolate(f, self.mesh.shape, mode="bilinear", align_corners=True) for f in self._fields]
        return self._moves * sum(grown).reshape(-1)

    def _unlike(self, delta, view: int, pictures):
        color, mask = self._compared(delta, view, pictures)
        return (mask * _cost(color, mask, pictures[1][view])).sum() / mask.sum().clamp(min=1)

    def _compared(self, delta, view: int, pictures) -> tuple[torch.Tensor, torch.Tensor]:
        """What a view sees of the mesh (h, w, 3), and how far each pixel of it counts (h, w)."""
        x, target = self._start + delta, pictures[1][view]
        depth = torch.exp(-x)
        drawn = self.mesh.draw(self.mesh.pixels, depth, self._clips[view], tuple(target.shape[:2]), pictures[0])
        with torch.no_grad():
            torn = self.mesh.stretched(x, TORN * self._settings.spacing)
            shown = (drawn.triangle >= 0) & ~torn[drawn.triangle.clamp(min=0)]
            hidden = self._theirs[view] * drawn.depth > HIDING
            mask = (shown & ~hidden) * self._seen[view] * drawn.extra[..., 0]
        return drawn.color, mask

    def _blurred(self, sigma: float) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The frame's picture with what does not move as fourth channel (1, h, w, 4), and those of the views."""
        import cv2

        own, *views = (
            self._tensor(cv2.GaussianBlur(rgb.astype(np.float32) / 255, (0, 0), sigma))
            for rgb in (self._pictures.own, *self._pictures.views)
        )
        return torch.cat([own, self._static], dim=-1)[None], views

    def _tensor(self, values) -> torch.Tensor:
        return torch.tensor(np.asarray(values), dtype=torch.float32, device=self._device)


def _cost(color: torch.Tensor, mask: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """(h, w) robust cost 0..1 of the difference of colours (h, w, 3), under the best gain of each channel."""
    with torch.no_grad():
        weight = mask
        for _ in range(2):  # once by all pixels, then by those that are alike
            gain = (weight[..., None] * color * target).sum(dim=(0, 1))
            gain = gain / (weight[..., None] * target.square()).sum(dim=(0, 1)).clamp(min=1e-6)
            away = (color - gain * target).square().mean(dim=-1)
            weight = mask * (ALIKE**2 / (ALIKE**2 + away)).square()
    away = (color - gain * target).square().mean(dim=-1)
    return away / (ALIKE**2 + away)


class _Springs:
    """The prior's springs between vertices."""

    def __init__(self, problem, mesh, settings, tensor) -> None:
        self._shape, self._settings = mesh.shape, settings
        columns, rows = mesh.columns, mesh.rows
        right = np.minimum.reduceat(problem.right[rows][:, : columns[-1]], columns[:-1], axis=1)
        down = np.minimum.reduceat(problem.down[: rows[-1]][:, columns], rows[:-1], axis=0)
        self._gaps = tensor(np.diff(columns))[None, :], tensor(np.diff(rows))[:, None]
        self._strength = tensor(right), tensor(down)

    def energy(self, delta: torch.Tensor) -> torch.Tensor:
        """Mean over the vertices."""
        settings, grid = self._settings, delta.reshape(self._shape)
        total = PULL * grid.square().sum()
        for axis, gap, strength in zip((1, 0), self._gaps, self._strength):
            change2 = (torch.diff(grid, dim=axis) / gap).square()
            total = total + (strength * change2 / (1 + change2 / settings.jump**2)).sum()
        return 0.5 * settings.stiffness * total / delta.numel()


def _near_steps(surfaces: Sequence[np.ndarray], reach: int) -> np.ndarray:
    """(h, w) uint8: 1 where a surface has a step within ``reach`` pixels."""
    import cv2

    steps = np.zeros(surfaces[0].shape, dtype=np.uint8)
    for x in surfaces:
        steps[:, 1:] |= np.abs(np.diff(x, axis=1)) > TORN  # False with NaN
        steps[1:] |= np.abs(np.diff(x, axis=0)) > TORN
    return cv2.dilate(steps, np.ones((2 * reach + 1,) * 2, dtype=np.uint8))


def _on_pixels(mesh: GridMesh, delta: np.ndarray, start: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """x of all pixels: the start plus delta between the vertices, or, where these part, x of the one of like colour."""
    corners, weights = mesh.corners_of_pixels()
    moved = delta[corners]
    x = start + (weights * moved).sum(axis=-1)
    parted = (np.ptp(moved, axis=-1) > WIDE) & np.isfinite(start)
    there = mesh.at_vertices(start) + delta
    colors = mesh.at_vertices(rgb).astype(np.float32)[corners[parted]]
    away = np.abs(colors - rgb[parted][:, None].astype(np.float32)).mean(axis=-1)
    away = away + 10 * (1 - weights[parted])  # grey levels: of two alike the nearer one
    away[~np.isfinite(there[corners[parted]])] = np.inf
    best = np.take_along_axis(corners[parted], away.argmin(axis=-1)[:, None], axis=-1)[:, 0]
    x[parted] = there[best]
    return x

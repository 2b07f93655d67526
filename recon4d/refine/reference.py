"""Refinement by rendering alone, as published: what ours is compared with.

Source: Fink et al., Refinement of Monocular Depth Maps via Multi-View Differentiable Rendering, VMV 2025. One frame's
depth is a mesh that carries the frame's picture. First a small network moves its depth towards sparse points, then Adam
moves every vertex until the mesh looks in other views as these do, with the prior's gradients as a regulariser.

Written from the description of the method, on our rasteriser. What differs, and why:

- It starts from depth that `align` has brought to the scene's scale, robustly and with paired points.
- Lengths in its formulas are metres of rooms. Here the median depth of the frame counts as `MEDIAN_M` of them. Pixels
  in its formulas are those of a picture `WIDTH` wide; in a smaller one differences are reckoned per such pixel.
- Its shape term compares with the prior as the mesh shows it, or else it pulls at silhouettes from the first;
  and the prior goes through no median filter. The answer is the prior times what the mesh's depth has changed by, so
  that relief finer than the mesh is kept.
- The mesh is as fine, for the field of view, as theirs after decimation, so nothing is decimated (`vertex_spacing`).
- Its first stage has no photometric term, so nothing is drawn into other views there. Borders of pictures do not wrap
  around, and vertices are pulled to edges by the edge map at the vertex.
- Neither its normals (weight 0.01, from a network of their own) nor its tone curve are here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional

from recon4d.geometry.photo_cost import Posed
from recon4d.refine.grid_mesh import GridMesh
from recon4d.render.rasterizer import Rasterizer

WIDTH = 1280  # pixels of the pictures its numbers are meant for
MEDIAN_M = 2.0  # what the median depth counts as
SPACING = 4 * math.sqrt(2)  # pixels of such a picture between vertices: every fourth, half of the triangles decimated
LEAST_SPACING = 2  # pixels: silhouettes of smaller triangles are missed
SLIDE = 0.125  # of the spacing: how far a vertex may leave its place
COLOR, SHAPE, POINTS, NETWORK_POINTS, EDGES, EDGINESS = 1.0, 400.0, 0.1, 1.0, 0.1, 0.1  # weights of the terms
HUBER = 0.5  # metres
STEEPNESS = 10.0  # how fast the shape term gives way where the prior is steep
EDGE = 5.0  # slope, relative to depth, at which the edge map starts to count
BENDS, DEPTH_BENDS, HIDDEN = 3, 5, 16  # octaves of place and of depth that the network is given; its width
SPREAD = 0.1  # standard deviation of its weights at the start


class Picture(Posed, Protocol):
    """A picture and the camera that took it."""

    @property
    def rgb(self) -> np.ndarray: ...  # (h, w, 3) uint8, of the camera's size


@dataclass(frozen=True)
class ReferenceSettings:
    """Lengths of the two stages, and Adam's rates, which are not published: chosen on one clip (7-Scenes kitchen)."""

    network_steps: int = 401
    steps: int = 6001
    batch: int = 4  # views a step
    network_rate: float = 5e-3
    slide_rate: float = 5e-4  # of where vertices are, pixels
    rate: float = 2e-4  # of the factor on inverse depth; at 1e-3 the loss rises again on real pictures
    seed: int = 0


@dataclass(frozen=True)
class ByReference:
    """The answer for a frame."""

    z: np.ndarray  # (h, w) float32, NaN where the prior has none
    curve: list[dict[str, float]]  # weighted terms of each step


Watch = Callable[[int, Callable[[], np.ndarray]], None]


def vertex_spacing(width: int) -> int:
    """Pixels between vertices in a picture ``width`` wide: 2 up to 500 pixels, 3 at 640, 6 at 1280."""
    return max(LEAST_SPACING, round(SPACING * width / WIDTH))


def refine_by_reference(
    frame: Picture,
    prior: np.ndarray,
    views: Sequence[Picture],
    points: tuple[np.ndarray, np.ndarray],
    settings: ReferenceSettings,
    rasterizer: Rasterizer,
    watch: Watch | None = None,
) -> ByReference:
    """Depth of a frame by rendering it into other views.

    Args:
        prior: (h, w) z-depth, scene units, NaN where there is none.
        views: of any size; chosen beforehand, drawn at random.
        points: pixels (K, 2), first centre (0.5, 0.5), and z-depth (K,) there, scene units. Without any, the network
            has nothing to go by and is left out, as it is with no `network_steps`.
        watch: called after each step with its number, those of the network included, and a function that gives the
            depth as it is then.

    The same seed gives the same answer on the same machine.
    """
    if not (np.isfinite(prior) & (prior > 0)).any():
        return ByReference(prior, [])
    search = _Search(frame, prior, views, points, settings, rasterizer)
    if len(points[1]) and settings.network_steps:
        search.bend(watch)
    if views:
        search.fit(watch)
    return ByReference(search.depth(), search.curve)


class _Search:
    """The state of one frame's refinement; lengths are "metres"."""

    def __init__(self, frame, prior, views, points, settings, rasterizer) -> None:
        self._frame, self._settings, self._views = frame, settings, views
        known = np.isfinite(prior) & (prior > 0)
        self._known = known
        self._metre = float(np.median(prior[known])) / MEDIAN_M  # in scene units
        z = np.where(known, prior, np.median(prior[known])).astype(np.float32) / np.float32(self._metre)
        self._spacing = vertex_spacing(frame.camera.width)
        self._mesh = GridMesh(frame.camera, known, self._spacing, rasterizer)
        self._device = rasterizer.device
        self._own = self._mesh.clip_from_frame(frame, frame, z)
        self._clips = [self._mesh.clip_from_frame(frame, view, self._metre * z) for view in views]
        self._targets = [self._tensor(view.rgb) / 255 for view in views]
        rows, columns = (
            np.floor(points[0][:, k]).astype(np.intp).clip(0, n - 1) for k, n in ((1, z.shape[0]), (0, z.shape[1]))
        )
        self._at = torch.as_tensor(rows, device=self._device), torch.as_tensor(columns, device=self._device)
        self._points, self._points_z = self._tensor(points[0]), self._tensor(points[1]) / self._metre
        self._prior = self._tensor(z)
        self._z = self._tensor(self._mesh.at_vertices(z))  # of vertices, what is done to them so far included
        self._slide = torch.zeros_like(self._mesh.pixels)
        self._first = self._drawn_depth(self._mesh.pixels, self._z)
        self._terms = _OwnTerms(self._first, self._tensor(known), WIDTH / frame.camera.width)
        edges = self._terms.first_edges.clamp(0, 1)
        self._edges = edges[None, None]
        self._texture = torch.cat([self._tensor(frame.rgb) / 255, edges[..., None]], dim=-1)[None]
        self._bounds = float(z.min()), float(z.max())
        self._random = np.random.default_rng(settings.seed)
        self.curve: list[dict[str, float]] = []

    def bend(self, watch: Watch | None) -> None:
        """Stage one: a network of place and depth bends the whole surface, without looking at other views."""
        generator = torch.Generator().manual_seed(self._settings.seed)
        sizes = [3 + 2 * BENDS + DEPTH_BENDS, HIDDEN, HIDDEN, 2]
        layers = []
        for before, after in itertools.pairwise(sizes):
            layers += [SPREAD * torch.randn(before, after, generator=generator)]
            layers += [SPREAD * torch.randn(after, generator=generator)]
        layers = [layer.to(self._device).requires_grad_() for layer in layers]
        slide = self._slide.clone().requires_grad_()
        adam = torch.optim.Adam(
            [
                {"params": layers, "lr": self._settings.network_rate},
                {"params": [slide], "lr": self._settings.slide_rate},
            ]
        )
        start = self._z

        def state() -> tuple[torch.Tensor, torch.Tensor]:
            pixels = self._moved(slide)
            return pixels, self._bent(layers, pixels, start)

        at_points = self._prior[self._at]
        for step in range(self._settings.network_steps):
            pixels, z = state()
            losses = self._own_losses(self._drawn_depth(pixels, z), pixels)
            losses["network points"] = NETWORK_POINTS * self._misses(self._bent(layers, self._points, at_points))
            self._advance(adam, losses)
            if watch is not None:
                watch(step, lambda: self._depth(*state()))
        with torch.no_grad():
            pixels, self._z = state()
            self._slide = self._clamped(slide)

    def fit(self, watch: Watch | None) -> None:
        """Stage two: a factor on every vertex's inverse depth, until the mesh looks like the other views."""
        factor = torch.ones_like(self._z).requires_grad_()
        slide = self._slide.detach().clone().requires_grad_()
        adam = torch.optim.Adam(
            [{"params": [factor], "lr": self._settings.rate}, {"params": [slide], "lr": self._settings.slide_rate}]
        )
        start, before = self._z, len(self.curve)

        def state() -> tuple[torch.Tensor, torch.Tensor]:
            return self._moved(slide), self._bounded(start / factor.clamp(min=1e-12))

        for step, batch in zip(range(self._settings.steps), self._batches()):
            pixels, z = state()
            losses = self._own_losses(self._drawn_depth(pixels, z), pixels)
            losses["color"] = COLOR * sum(self._unlike(pixels, z, view) for view in batch) / len(batch)
            self._advance(adam, losses)
            if watch is not None:
                watch(before + step, lambda: self._depth(*state()))
        with torch.no_grad():
            pixels, self._z = state()
            self._slide = self._clamped(slide)

    def depth(self) -> np.ndarray:
        """(h, w) scene units: the surface as it is."""
        return self._depth(self._moved(self._slide), self._z)

    def _depth(self, pixels, z) -> np.ndarray:
        with torch.no_grad():
            found = self._drawn_depth(pixels, z)
        found = self._prior * found / self._first
        return np.where(self._known, self._metre * found.cpu().numpy(), np.nan).astype(np.float32)

    def _drawn_depth(self, pixels, z):
        """(h, w) metres: the surface as its own frame sees it; where it has moved away from a pixel, the prior."""
        found = self._mesh.draw_depth(pixels, z, self._own, self._frame.camera.shape)
        return torch.where(found > 0, found, self._prior)

    def _own_losses(self, depth, pixels) -> dict[str, torch.Tensor]:
        losses = {"shape": SHAPE * self._terms.shape(depth), "edges": EDGES * self._terms.edges_moved(depth)}
        place = 2 * pixels / pixels.new_tensor(self._frame.camera.shape[::-1]) - 1
        read = functional.grid_sample(self._edges, place[None, None], padding_mode="border", align_corners=False)
        losses["edginess"] = EDGINESS * read.mean()
        if len(self._points_z):
            losses["points"] = POINTS * self._misses(depth[self._at])
        return losses

    def _misses(self, z):
        """Mean Huber loss, relative to depth, of depths ``z`` (K,) where the points are."""
        return (functional.huber_loss(z, self._points_z, reduction="none", delta=HUBER) / self._points_z).mean()

    def _unlike(self, pixels, z, view: int):
        """Mean squared difference of colour to a view, where the mesh is seen and has no edge."""
        target = self._targets[view]
        size = tuple(target.shape[:2])
        drawn = self._mesh.draw(pixels, self._metre * z, self._clips[view], size, self._texture)
        mask = drawn.extra.clamp(0, 1)
        unlike = (mask * (drawn.color - target)).square().mean()
        return unlike * (1 + (1 - mask).mean())

    def _bent(self, layers, pixels, z):
        """The network on vertices or points: depth times one factor plus one shift."""
        place = pixels / pixels.new_tensor(self._frame.camera.shape[::-1])
        low, high = self._bounds
        deep = ((z - low) / max(high - low, 1e-6))[:, None]
        given = [place, deep]
        given += [torch.sin(2**k * math.pi * place) for k in range(1, BENDS + 1)]
        given += [torch.sin(2**k * math.pi * deep) for k in range(1, DEPTH_BENDS + 1)]
        found = torch.cat(given, dim=1)
        for k in range(0, len(layers), 2):
            found = found @ layers[k] + layers[k + 1]
            found = torch.relu(found) if k + 2 < len(layers) else found
        return self._bounded(z * (1 + found[:, 0]).abs().clamp(min=1e-8) + found[:, 1])

    def _bounded(self, z):
        """Well between the planes that cut."""
        return z.clamp(self._bounds[0] / 10, 10 * self._bounds[1])

    def _clamped(self, slide):
        return slide.clamp(-SLIDE * self._spacing, SLIDE * self._spacing) * self._mesh.inside

    def _moved(self, slide):
        return self._mesh.pixels + self._clamped(slide)

    def _batches(self):
        """Rows of views, all of them in a new order again and again."""
        waiting: list[int] = []
        while True:
            while len(waiting) < min(self._settings.batch, len(self._views)):
                waiting += self._random.permutation(len(self._views)).tolist()
            count = self._settings.batch
            yield waiting[:count]
            waiting = waiting[count:]

    def _advance(self, adam, losses: dict[str, torch.Tensor]) -> None:
        adam.zero_grad()
        sum(losses.values()).backward()
        adam.step()
        self.curve.append({name: float(loss.detach()) for name, loss in losses.items()})

    def _tensor(self, values) -> torch.Tensor:
        return torch.tensor(np.asarray(values), dtype=torch.float32, device=self._device)


class _OwnTerms:
    """Terms of a frame's depth that need no other view.

    Args:
        prior: (h, w) metres, without holes.
        known: (h, w) 0 or 1.
        per_pixel: pixels of a picture `WIDTH` wide in one of these.
    """

    def __init__(self, prior: torch.Tensor, known: torch.Tensor, per_pixel: float) -> None:
        self._per_pixel = per_pixel
        low, high = torch.quantile(prior[known > 0], prior.new_tensor([0.001, 0.999]))
        self._range = torch.clamp(high - low, min=1e-3 * high)
        self._prior = prior
        scaled = ((prior - low) / self._range).clamp(min=0)
        self._weights, self._smooth = [], []
        for axis in (1, 0):
            step = self._change(scaled, axis)
            both = known * torch.roll(known, -1, dims=axis)
            both.select(axis, -1).zero_()
            weight = both * torch.exp(-STEEPNESS * (step / (scaled + 1e-5)).abs())
            self._weights.append(weight)
            self._smooth.append(_blur(weight, SMOOTH).clamp(min=1e-6))
        self.first_edges = self.edges(prior)

    def shape(self, z: torch.Tensor) -> torch.Tensor:
        """Mean squared change of what is between the depth and the prior, smoothed, where the prior is not steep."""
        away = (z - self._prior) / self._range
        total = 0
        for axis, weight, smooth in zip((1, 0), self._weights, self._smooth):
            change = _blur(weight * self._change(away, axis), SMOOTH) / smooth
            total = total + (weight * change).square().mean()
        return total

    def edges(self, z: torch.Tensor) -> torch.Tensor:
        """(h, w): 1 on flat depth, 0 and less where it is steep."""
        padded = functional.pad(z[None, None], (1, 1, 1, 1), mode="replicate")
        kernel = z.new_tensor([[-1.0, 0, 1]] * 3)
        slopes = functional.conv2d(padded, torch.stack([kernel, kernel.T])[:, None])[0] / self._per_pixel
        steep = ((EDGE * slopes / z).square().sum(dim=0) + 1e-6).sqrt()
        return _blur(1 - steep, GAUSS)

    def edges_moved(self, z: torch.Tensor) -> torch.Tensor:
        """Mean squared change of the edge map."""
        return (self.edges(z).clamp(-1, 1) - self.first_edges.clamp(-1, 1)).square().mean()

    def _change(self, values: torch.Tensor, axis: int) -> torch.Tensor:
        """Forward difference along an axis, per pixel of the large picture; of no use in the last row or column."""
        return (torch.roll(values, -1, dims=axis) - values) / self._per_pixel


SMOOTH = (1 / 6, 2 / 3, 1.0, 2 / 3, 1 / 6)
_BELL = tuple(math.exp(-0.5 * (k / 1.5) ** 2) for k in range(-3, 4))
GAUSS = tuple(value / sum(_BELL) for value in _BELL)


def _blur(values: torch.Tensor, kernel: tuple[float, ...]) -> torch.Tensor:
    """(h, w) convolved with a kernel along both axes; the border's values go on beyond it."""
    weights, half = values.new_tensor(kernel), len(kernel) // 2
    padded = functional.pad(values[None, None], (half,) * 4, mode="replicate")
    return functional.conv2d(functional.conv2d(padded, weights[None, None, None]), weights[None, None, :, None])[0, 0]

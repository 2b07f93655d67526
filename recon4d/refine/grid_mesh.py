"""A frame's depth as a mesh over its picture, drawn as other views see it, with gradients to every vertex."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from recon4d.geometry.photo_cost import Posed
from recon4d.render.rasterizer import Rasterizer, clip_from_camera, to_clip
from recon4d.scene.camera import Camera

NEARER, FARTHER = 0.05, 20.0  # than anything in the frame: where the planes are that cut


class Drawn(NamedTuple):
    """What a view sees of a mesh."""

    color: torch.Tensor  # (H, W, C), antialiased, 0 where nothing is seen
    extra: torch.Tensor  # (H, W, D), channels of the texture that are not antialiased
    depth: torch.Tensor  # (H, W), of the view; 0 where nothing is seen
    triangle: torch.Tensor  # (H, W) int64, -1 where nothing is seen


class GridMesh:
    """Every ``spacing``-th pixel a vertex, and the picture's border; one sheet that is cut nowhere.

    A sheet between the sides of a depth step is what makes silhouettes differentiable: where it folds, what is near
    hides what is far and antialiasing tells both apart; where it is torn open nothing is known, see `stretched`.

    Args:
        camera: whose picture it is.
        known: (H, W) bool; triangles with a corner elsewhere are left out.
        spacing: of the vertices, pixels.
    """

    def __init__(self, camera: Camera, known: np.ndarray, spacing: int, rasterizer: Rasterizer) -> None:
        self._rasterizer, self._device = rasterizer, rasterizer.device
        self.columns, self.rows = _every(camera.width, spacing), _every(camera.height, spacing)
        self.shape = len(self.rows), len(self.columns)
        across, down = np.meshgrid(_places(self.columns, camera.width), _places(self.rows, camera.height))
        self.pixels = self._tensor(np.stack([across.ravel(), down.ravel()], axis=-1))  # (V, 2), first centre 0.5
        inside = (across > 0) & (across < camera.width) & (down > 0) & (down < camera.height)
        self.inside = self._tensor(inside.reshape(-1, 1))  # (V, 1), 0 for vertices on the border
        self._size = self._tensor([camera.width, camera.height])
        self._focal, self._centre = self._tensor([camera.fx, camera.fy]), self._tensor([camera.cx, camera.cy])
        corners, self._falling = _triangles(self.shape)
        whole = self.at_vertices(known)[corners].all(axis=1)
        corners = np.where(whole[:, None], corners, -1)
        self.tri = torch.tensor(corners.astype(np.int32), device=self._device)
        self._topology = rasterizer.topology(self.tri)
        self._camera = camera

    def at_vertices(self, grid: np.ndarray) -> np.ndarray:
        """(V, ...) of a grid (H, W, ...): the pixel of each vertex."""
        found = grid[np.ix_(self.rows, self.columns)]
        return found.reshape(-1, *found.shape[2:])

    def clip_from_frame(self, frame: Posed, view: Posed, depths: np.ndarray) -> torch.Tensor:
        """(4, 4) from the frame's camera to the clip space of a view; ``depths`` are all there are in the frame."""
        near, far = NEARER * float(depths.min()), FARTHER * float(depths.max())
        view_from_frame = view.cam_from_world @ frame.cam_from_world.inverse()
        return self._tensor(clip_from_camera(view.camera, near, far) @ view_from_frame.matrix)

    def draw(
        self,
        pixels: torch.Tensor,
        depth: torch.Tensor,
        clip_from_frame: torch.Tensor,
        size: tuple[int, int],
        texture: torch.Tensor,
        colors: int = 3,
    ) -> Drawn:
        """The mesh in a view, with its frame's picture on it.

        Args:
            pixels: (V, 2), where in the frame's picture the vertices are: `pixels`, or moved from there.
            depth: (V,) > 0.
            size: (H, W) of the view.
            texture: (1, h, w, C + D) of the frame, the first ``colors`` to be antialiased.
        """
        draw, pos = self._rasterizer, self._clip(pixels, depth, clip_from_frame)
        rast = draw.rasterize(pos, self.tri, size)
        placed = torch.cat([pixels / self._size, pos[0, :, 3:]], dim=1)[None].contiguous()
        placed = draw.interpolate(placed, rast, self.tri)
        read = draw.texture(texture, placed[..., :2].contiguous())
        read = read * (rast[..., 3:] > 0)
        color = draw.antialias(read[..., :colors].contiguous(), rast, pos, self.tri, self._topology)
        return Drawn(color[0], read[0, ..., colors:], placed[0, ..., 2], rast[0, ..., 3].detach().long() - 1)

    def draw_depth(
        self, pixels: torch.Tensor, depth: torch.Tensor, clip_from_frame: torch.Tensor, size: tuple[int, int]
    ) -> torch.Tensor:
        """(H, W), the depth of `draw` alone."""
        pos = self._clip(pixels, depth, clip_from_frame)
        rast = self._rasterizer.rasterize(pos, self.tri, size)
        return self._rasterizer.interpolate(pos[..., 3:].contiguous(), rast, self.tri)[0, ..., 0]

    def _clip(self, pixels: torch.Tensor, depth: torch.Tensor, clip_from_frame: torch.Tensor) -> torch.Tensor:
        rays = torch.cat([(pixels - self._centre) / self._focal, torch.ones_like(depth)[:, None]], dim=1)
        return to_clip(rays * depth[:, None], clip_from_frame)

    def stretched(self, x: torch.Tensor, most: float) -> torch.Tensor:
        """(T,) bool: triangles over whose corners ``x`` (V,) differs by more than ``most``."""
        corners = x.detach()[self.tri.long().clamp(min=0)]
        return corners.amax(dim=1) - corners.amin(dim=1) > most

    def corners_of_pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Of every pixel's triangle the vertices (H, W, 3) and their weights (H, W, 3), in the frame itself."""
        left, across = _cell(_places(self.columns, self._camera.width), self._camera.width)
        top, down = _cell(_places(self.rows, self._camera.height), self._camera.height)
        first = top[:, None] * self.shape[1] + left
        a, b = np.broadcast_arrays(across, down[:, None])
        width = self.shape[1]
        falling = self._falling[top[:, None], left]
        ends = np.stack([first, first + width + 1], axis=-1)  # of the diagonal
        rising_ends = np.stack([first + 1, first + width], axis=-1)
        third = np.where(a >= b, first + 1, first + width)
        rising_third = np.where(a + b <= 1, first, first + width + 1)
        weights = np.stack([1 - np.maximum(a, b), np.minimum(a, b), np.abs(a - b)], axis=-1)
        upper = a + b <= 1
        rising = np.stack(
            [np.where(upper, a, 1 - b), np.where(upper, b, 1 - a), np.abs(1 - a - b)],
            axis=-1,
        )
        corners = np.where(
            falling[..., None],
            np.concatenate([ends, third[..., None]], axis=-1),
            np.concatenate([rising_ends, rising_third[..., None]], axis=-1),
        )
        return corners, np.where(falling[..., None], weights, rising)

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.tensor(np.asarray(values), dtype=torch.float32, device=self._device)


def _every(count: int, spacing: int) -> np.ndarray:
    """Every ``spacing``-th of ``count`` pixels, and the last."""
    return np.unique(np.append(np.arange(0, count, spacing), count - 1))


def _places(chosen: np.ndarray, count: int) -> np.ndarray:
    """Where their vertices are: at the centres, the outermost at the border so that every pixel is covered."""
    places = chosen + 0.5
    places[0], places[-1] = 0, count
    return places


def _cell(places: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each of ``count`` pixels the cell it is in, and how far across it lies, 0..1."""
    centres = np.arange(count) + 0.5
    cell = np.clip(np.searchsorted(places, centres, side="right") - 1, 0, len(places) - 2)
    return cell, (centres - places[cell]) / (places[cell + 1] - places[cell])


def _triangles(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(T, 3) corners, two triangles a cell, and (h, w) bool: whose diagonal falls to the right, as on a chessboard."""
    rows, columns = shape
    index = np.arange(rows * columns).reshape(shape)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    falling = np.add.outer(np.arange(rows - 1), np.arange(columns - 1)) % 2 == 0
    upper = np.where(falling[..., None], np.stack([a, d, b], axis=-1), np.stack([a, c, b], axis=-1))
    lower = np.where(falling[..., None], np.stack([a, c, d], axis=-1), np.stack([b, c, d], axis=-1))
    return np.stack([upper, lower], axis=2).reshape(-1, 3), falling

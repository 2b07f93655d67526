"""The rasteriser once more, slow and short: every formula as it is written down, gradients by PyTorch itself.

Python loops over triangles and over pairs of pixels; whatever decides (who covers a pixel, which edge) is settled with
plain numbers, whatever has a gradient is a tensor. Nothing is clipped: pictures with triangles across the near plane
have other tests.
"""

from __future__ import annotations

import numpy as np
import torch

DEEPEST = 2**30 - 1


def centre(index: int | np.ndarray, size: int):
    """ndc of a pixel's centre along one axis."""
    return (2 * index + 1) / size - 1


def rasterize(pos: torch.Tensor, tri: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(B, H, W, 4) of triangles wholly in front of the camera."""
    return torch.stack([_rasterize_one(vertices, tri, size) for vertices in pos])


def _rasterize_one(pos, tri, size):
    height, width = size
    seen = nearest(pos.detach().double().numpy(), tri.numpy(), size)
    rows, columns = np.nonzero(seen >= 0)
    number = seen[rows, columns]
    fx, fy = (torch.tensor(centre(i, n), dtype=pos.dtype) for i, n in ((columns, width), (rows, height)))
    p = pos[tri[number].long()]  # (N, 3, 4)
    x, y, z, w = p.unbind(-1)
    q = torch.stack([x - fx[:, None] * w, y - fy[:, None] * w], dim=-1)  # (N, 3, 2)
    a = torch.stack([_cross(q[:, (k + 1) % 3], q[:, (k + 2) % 3]) for k in range(3)], dim=-1)
    weights = a / a.sum(-1, keepdim=True)
    kept = weights[:, :2].detach().clamp(0, 1)
    kept = kept / kept.sum(-1, keepdim=True).clamp(min=1)
    u, v = (weights[:, :2] + (kept - weights[:, :2]).detach()).unbind(-1)  # clamping leaves the gradient alone
    depth = ((z * a).sum(-1) / (w * a).sum(-1)).detach().clamp(-1, 1)
    out = pos.new_zeros((height, width, 4))
    values = torch.stack([u, v, depth, torch.tensor(number + 1.0, dtype=pos.dtype)], dim=-1)
    return out.index_put((torch.from_numpy(rows), torch.from_numpy(columns)), values)


def nearest(pos: np.ndarray, tri: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) number of the triangle each pixel sees, -1 for none; snapped coverage, shared edges owned once."""
    height, width = size
    seen = np.full(size, -1)
    depth = np.full(size, 2 * DEEPEST + 1)
    column, row = 16 * np.arange(width) + 8 - 8 * width, (16 * np.arange(height) + 8 - 8 * height)[:, None]
    for number, corners in enumerate(tri):
        if not ((corners >= 0) & (corners < len(pos))).all():
            continue
        p = pos[corners]
        ndc = p[:, :3] / p[:, 3:]
        x, y = np.rint(ndc[:, 0] * 8 * width), np.rint(ndc[:, 1] * 8 * height)
        area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
        if area == 0:
            continue
        order = [0, 1, 2] if area > 0 else [0, 2, 1]
        covered = np.ones(size, dtype=bool)
        steps = np.zeros(size)
        for k in range(3):
            own, a, b = order[k], order[(k + 1) % 3], order[(k + 2) % 3]
            dx, dy = x[b] - x[a], y[b] - y[a]
            e = dx * (row - y[a]) - dy * (column - x[a])
            covered &= (e > 0) | ((e == 0) & (dy > 0 or (dy == 0 and dx < 0)))
            steps += e / abs(area) * (ndc[own, 2] + 1) * DEEPEST
        wins = covered & (np.floor(steps) < depth)
        seen[wins], depth[wins] = number, np.floor(steps)[wins]
    return seen


def interpolate(attr: torch.Tensor, rast: torch.Tensor, tri: torch.Tensor) -> torch.Tensor:
    """(B, H, W, A)."""
    out = []
    for n, picture in enumerate(rast):
        values = attr[n if len(attr) > 1 else 0]
        number = picture[..., 3].detach().long() - 1
        corners = tri[number.clamp(min=0)].long() if len(tri) else torch.zeros((*number.shape, 3), dtype=torch.long)
        a0, a1, a2 = values[corners].unbind(-2) if len(values) else (values.new_zeros((*number.shape, 1)),) * 3
        u, v = picture[..., :1], picture[..., 1:2]
        out.append(torch.where(number[..., None] >= 0, u * a0 + v * a1 + (1 - u - v) * a2, 0.0))
    return torch.stack(out)


def texture(tex: torch.Tensor, uv: torch.Tensor, filter_mode: str, boundary_mode: str) -> torch.Tensor:
    """(B, H, W, C), four texels or one."""
    height, width = tex.shape[1:3]
    x, y = uv[..., 0] * width, uv[..., 1] * height
    if filter_mode == "nearest":
        return _texel(tex, x.detach().floor().long(), y.detach().floor().long(), boundary_mode)
    x, y = x - 0.5, y - 0.5
    column, row = x.detach().floor().long(), y.detach().floor().long()
    s, t = (x - column)[..., None], (y - row)[..., None]
    upper = (1 - s) * _texel(tex, column, row, boundary_mode) + s * _texel(tex, column + 1, row, boundary_mode)
    lower = (1 - s) * _texel(tex, column, row + 1, boundary_mode) + s * _texel(tex, column + 1, row + 1, boundary_mode)
    return (1 - t) * upper + t * lower


def _texel(tex, column, row, boundary_mode):
    height, width = tex.shape[1:3]
    inside = ((column >= 0) & (column < width) & (row >= 0) & (row < height))[..., None]
    if boundary_mode == "wrap":
        column, row = column % width, row % height
    column, row = column.clamp(0, width - 1), row.clamp(0, height - 1)
    batch = torch.arange(len(column))[:, None, None] if len(tex) > 1 else 0
    value = tex[batch, row, column]
    return torch.where(inside, value, 0.0) if boundary_mode == "zero" else value


def antialias(color: torch.Tensor, rast: torch.Tensor, pos: torch.Tensor, tri: torch.Tensor) -> torch.Tensor:
    """(B, H, W, C)."""
    return torch.stack(
        [_antialias_one(color[n], rast[n].detach(), pos[n if len(pos) > 1 else 0], tri) for n in range(len(color))]
    )


def _antialias_one(color, rast, pos, tri):
    height, width = rast.shape[:2]
    size = (width, height)
    out = [[color[row, column] for column in range(width)] for row in range(height)]
    wings = wing_vertices(tri)
    for row in range(height):
        for column in range(width):
            for other_row, other_column in ((row, column + 1), (row + 1, column)):
                if other_row < height and other_column < width:
                    pair = ((column, row), (other_column, other_row))
                    alpha = _alpha(rast, pos, tri, wings, pair, size)
                    target = (row, column) if alpha > 0 else (other_row, other_column)
                    step = color[other_row, other_column] - color[row, column]
                    out[target[0]][target[1]] = out[target[0]][target[1]] + alpha * step
    return torch.stack([torch.stack(line) for line in out])


def wing_vertices(tri: torch.Tensor) -> dict[tuple[int, int], list[int]]:
    """Vertices opposite an edge (its two ends in order), of all triangles that have it."""
    wings = {}
    for corners in tri.tolist():
        for k in range(3):
            edge = tuple(sorted((corners[(k + 1) % 3], corners[(k + 2) % 3])))
            wings.setdefault(edge, []).append(corners[k])
    return wings


def _alpha(rast, pos, tri, wings, pair, size):
    """By how much a pair of pixels is blended; a tensor if the vertices have something to do with it."""
    (c0, r0), (c1, r1) = pair
    t0, t1 = int(rast[r0, c0, 3]) - 1, int(rast[r1, c1, 3]) - 1
    if t0 == t1:
        return torch.zeros(())
    first = t1 < 0 or (t0 >= 0 and rast[r0, c0, 2] <= rast[r1, c1, 2])
    corners = tri[t0 if first else t1].tolist()
    axis = 0 if r0 == r1 else 1  # the pair lies along x or y
    here, there = pair if first else pair[::-1]
    screen = [(pos[i, :2] / pos[i, 3] + 1) * torch.tensor(size, dtype=pos.dtype) / 2 for i in corners]  # pixels
    crossings = []
    for k in range(3):
        a, b = screen[(k + 1) % 3], screen[(k + 2) % 3]
        line = here[1 - axis] + 0.5
        if (a[1 - axis] < line) != (b[1 - axis] < line):
            share = (line - a[1 - axis]) / (b[1 - axis] - a[1 - axis])
            place = a[axis] + share * (b[axis] - a[axis])
            crossings.append(((place - here[axis] - 0.5) * (there[axis] - here[axis]), k))
    if not crossings:
        return torch.zeros(())
    along, k = max(crossings, key=lambda crossing: crossing[0].item())
    a, b = screen[(k + 1) % 3], screen[(k + 2) % 3]
    steep = abs(a[1 - axis] - b[1 - axis]) >= abs(a[axis] - b[axis])
    behind = list(wings[tuple(sorted((corners[(k + 1) % 3], corners[(k + 2) % 3])))])
    behind.remove(corners[k])
    if behind:
        beyond = (pos[behind[0], :2] / pos[behind[0], 3] + 1) * torch.tensor(size, dtype=pos.dtype) / 2
        same_side = _cross(b - a, screen[k] - a) * _cross(b - a, beyond - a) > 0
    if not steep or (behind and not same_side) or not -1 / 16 <= along <= 17 / 16:
        return torch.zeros(())
    along = along.clamp(0, 1)
    return 0.5 - along if first else along - 0.5


def _cross(p, q):
    return p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]

"""Pictures from surface points with a footprint: antialiased, with coverage, depth and provenance, on the CPU.

Each point covers a small parallelogram of its surface. Seen by a camera this is an ellipse with the weight of a
Gaussian, normalised so that the weights of a closed surface add up to one in every pixel; a depth buffer keeps what
lies behind out of the sum. Source: Zwicker et al., Surface splatting, SIGGRAPH 2001, with the perspective linearised
at each point.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numba
import numpy as np

from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

NOTHING = 255  # provenance of pixels that show nothing
SIGMA = 0.35  # of the Gaussian, in spacings of the points, or pixels where these lie wider
CORE = 1.7  # so many sigmas around its centre a point hides what is behind: 0.6 spacings
REACH = 2.6  # beyond so many its weight is below 4 %
FULL = 0.6  # sum of weights that hides all behind; between grid points it falls to 0.8 even of a closed surface
LARGEST_PX = 24.0  # of a point's reach; points right before the camera would cover the picture


@dataclass(frozen=True)
class Splats:
    """N points of surfaces with colour and footprint, world frame, scene units."""

    points: np.ndarray  # (N, 3) float32
    tangents: np.ndarray  # (N, 2, 3) float32: from the point to its neighbours along two directions of its surface
    colors: np.ndarray  # (N, 3) float32, sRGB 0..255
    provenance: np.ndarray  # (N,) uint8, see Provenance
    weight: np.ndarray  # (N,) float32: how much the point counts among others at the same place, above 0

    def __post_init__(self) -> None:
        count = len(self.points)
        shapes = {"points": (3,), "tangents": (2, 3), "colors": (3,), "provenance": (), "weight": ()}
        for field, own in shapes.items():
            dtype = np.uint8 if field == "provenance" else np.float32
            array = np.ascontiguousarray(getattr(self, field), dtype=dtype)
            if array.shape != (count, *own):
                raise ValueError(f"Splats: {field} is {array.shape}, {(count, *own)} is expected")
            object.__setattr__(self, field, array)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, rows: np.ndarray | slice) -> Splats:
        return Splats(*(getattr(self, field.name)[rows] for field in fields(self)))

    @staticmethod
    def concatenate(parts: list[Splats]) -> Splats:
        """All points of several, in order."""
        if not parts:
            return Splats(np.zeros((0, 3)), np.zeros((0, 2, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros(0))
        return Splats(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Splats)))


@dataclass(frozen=True)
class Rendered:
    """A picture of splats."""

    color: np.ndarray  # (H, W, 3) float32, sRGB 0..255, not multiplied with alpha; 0 where alpha is 0
    alpha: np.ndarray  # (H, W) float32, 0..1: share of the pixel that is covered
    depth: np.ndarray  # (H, W) float32 z, scene units, 0 where alpha is 0
    provenance: np.ndarray  # (H, W) uint8 of the point with most weight, `NOTHING` where alpha is 0

    def picture(self, background: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
        """(H, W, 3) uint8 over a plain background."""
        alpha = self.alpha[..., None]
        mixed = self.color * alpha + np.float32(background) * (1 - alpha)
        return np.clip(np.round(mixed), 0, 255).astype(np.uint8)


def splat(splats: Splats, cam_from_world: Rigid3, camera: Camera, tolerance: float = 0.02) -> Rendered:
    """What a camera sees of splats.

    Args:
        tolerance: points so much (relative) behind the nearest one of a pixel still are the same surface.

    Points behind the camera or without finite coordinates are left out. One thread: frames are rendered side by side.
    """
    height, width = camera.shape
    with np.errstate(invalid="ignore"):  # of points that are not finite
        in_cam = np.ascontiguousarray(cam_from_world @ splats.points, dtype=np.float32)
    turn = cam_from_world.rotation.astype(np.float32)
    nearest = np.full((height, width), np.inf, dtype=np.float32)
    sums = np.zeros((height, width, 5), dtype=np.float32)  # weight, weight * z, weight * colour
    most = np.zeros((height, width), dtype=np.float32)
    provenance = np.full((height, width), NOTHING, dtype=np.uint8)
    coverage = np.zeros((height, width), dtype=np.float32)
    lens = np.array([camera.fx, camera.fy, camera.cx, camera.cy], dtype=np.float32)
    inputs = (in_cam, splats.tangents, turn, lens)
    ellipses = np.empty((len(splats), 7), dtype=np.float32)
    _ellipses(*inputs, width, height, ellipses)
    _nearest(in_cam, ellipses, nearest)
    rows = (splats.colors, splats.provenance, splats.weight)
    _sum(in_cam, ellipses, *rows, np.float32(tolerance), nearest, sums, coverage, most, provenance)
    weight = sums[..., 0]
    seen = weight > 1e-6
    share = np.where(seen, 1 / np.where(seen, weight, 1), 0).astype(np.float32)
    provenance[~seen] = NOTHING
    return Rendered(
        color=sums[..., 2:] * share[..., None],
        alpha=np.where(seen, np.minimum(coverage / np.float32(FULL), 1), 0).astype(np.float32),
        depth=sums[..., 1] * share,
        provenance=provenance,
    )


@numba.njit(cache=True, nogil=True)
def _ellipses(in_cam, tangents, turn, lens, width, height, out):
    """Per point: centre, inverse covariance (a, b, c), weight per area, extent in depth; weight 0 leaves it out."""
    fx, fy, cx, cy = lens
    for i in range(len(in_cam)):
        x, y, z = in_cam[i]
        out[i, 5] = 0.0
        if not (z > 1e-9 and np.isfinite(x) and np.isfinite(y) and np.isfinite(z)):
            continue
        u, v = fx * x / z + cx, fy * y / z + cy
        if not (-LARGEST_PX < u < width + LARGEST_PX and -LARGEST_PX < v < height + LARGEST_PX):
            continue
        extent = 0.0
        p, q, r, s = 0.0, 0.0, 0.0, 0.0
        for k in range(2):
            tx, ty, tz = tangents[i, k]
            ax = turn[0, 0] * tx + turn[0, 1] * ty + turn[0, 2] * tz
            ay = turn[1, 0] * tx + turn[1, 1] * ty + turn[1, 2] * tz
            az = turn[2, 0] * tx + turn[2, 1] * ty + turn[2, 2] * tz
            du, dv = fx * (ax - x * az / z) / z, fy * (ay - y * az / z) / z
            extent += abs(az)
            if k == 0:
                p, q = du, dv
            else:
                r, s = du, dv
        area = abs(p * s - q * r)
        # Covariance of the footprint, and of the pixel where the points lie closer than that.
        a, b, c = p * p + r * r, p * q + r * s, q * q + s * s
        middle, half = (a + c) / 2, np.sqrt(((a - c) / 2) ** 2 + b * b)
        low, high = middle - half, middle + half
        if low < 1.0:  # raise the eigenvalues below one pixel to it
            if half > 1e-6 * middle and high > 1.0:
                f = (1.0 - low) / (2 * half)
                a, c, b = a + f * (high - a), c + f * (high - c), b - f * b
            elif high <= 1.0 or half <= 1e-6 * middle:
                a, b, c = 1.0, 0.0, 1.0
        a, b, c = a * SIGMA * SIGMA, b * SIGMA * SIGMA, c * SIGMA * SIGMA
        det = a * c - b * b
        if not det > 1e-12:
            continue
        out[i, 0], out[i, 1] = u, v
        out[i, 2], out[i, 3], out[i, 4] = c / det, -b / det, a / det
        # A point seen from the edge, or of a finer grid than the pixels, stands for as much as it covers.
        out[i, 5] = max(area, 1e-3) / (2 * np.pi * np.sqrt(det))
        out[i, 6] = extent


@numba.njit(cache=True, nogil=True, inline="always")
def _box(ellipse, reach, width, height):
    """First and last row and column that a point reaches."""
    a, b, c = ellipse[2], ellipse[3], ellipse[4]
    det = a * c - b * b
    du = min(reach * np.sqrt(c / det), LARGEST_PX)
    dv = min(reach * np.sqrt(a / det), LARGEST_PX)
    u, v = ellipse[0], ellipse[1]
    left, right = max(0, int(np.ceil(u - du - 0.5))), min(width - 1, int(np.floor(u + du - 0.5)))
    top, bottom = max(0, int(np.ceil(v - dv - 0.5))), min(height - 1, int(np.floor(v + dv - 0.5)))
    return left, right, top, bottom


@numba.njit(cache=True, nogil=True)
def _nearest(in_cam, ellipses, nearest):
    height, width = nearest.shape
    for i in range(len(in_cam)):
        e = ellipses[i]
        if e[5] == 0.0:
            continue
        z = in_cam[i, 2]
        left, right, top, bottom = _box(e, CORE, width, height)
        for row in range(top, bottom + 1):
            dv = row + 0.5 - e[1]
            for column in range(left, right + 1):
                du = column + 0.5 - e[0]
                if e[2] * du * du + 2 * e[3] * du * dv + e[4] * dv * dv <= CORE * CORE and z < nearest[row, column]:
                    nearest[row, column] = z


@numba.njit(cache=True, nogil=True)
def _sum(in_cam, ellipses, colors, origin, weights, tolerance, nearest, sums, coverage, most, provenance):
    height, width = nearest.shape
    for i in range(len(in_cam)):
        e = ellipses[i]
        if e[5] == 0.0:
            continue
        z = in_cam[i, 2]
        left, right, top, bottom = _box(e, REACH, width, height)
        for row in range(top, bottom + 1):
            dv = row + 0.5 - e[1]
            for column in range(left, right + 1):
                if z > nearest[row, column] * (1 + tolerance) + e[6]:
                    continue
                du = column + 0.5 - e[0]
                far = e[2] * du * du + 2 * e[3] * du * dv + e[4] * dv * dv
                if far > REACH * REACH:
                    continue
                cover = e[5] * np.exp(-0.5 * far)
                w = cover * weights[i]
                sums[row, column, 0] += w
                sums[row, column, 1] += w * z
                for k in range(3):
                    sums[row, column, 2 + k] += w * colors[i, k]
                coverage[row, column] += cover
                if w > most[row, column]:
                    most[row, column] = w
                    provenance[row, column] = origin[i]

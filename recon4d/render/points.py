"""Points as small discs into a picture and a depth map, on the CPU."""

from __future__ import annotations

import numba
import numpy as np

from recon4d.scene.camera import Camera

DARK_GREY = (26, 27, 31)


def splat_points(
    points_in_cam: np.ndarray,
    colors: np.ndarray,
    camera: Camera,
    radius_px: float | np.ndarray = 1.0,
    background: tuple[int, int, int] = DARK_GREY,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw points with a depth buffer: the nearest one wins a pixel, the first of equally near ones.

    Each point covers the pixel it falls into and every pixel whose centre is within ``radius_px`` of it. Points that
    are not in front of the camera, or not finite, are left out.

    Args:
        points_in_cam: (N, 3) float, camera frame (x right, y down, z forward), any unit.
        colors: (N, 3) uint8.
        camera: pinhole of the picture to draw.
        radius_px: radius of all discs, or (N,) one for each, pixels.
        background: colour where no point falls.

    Returns:
        (H, W, 3) uint8 picture, and (H, W) float32 z-depth in the points' unit, 0 where no point falls.
    """
    points_in_cam = np.ascontiguousarray(points_in_cam, dtype=np.float64).reshape(-1, 3)
    colors = np.ascontiguousarray(colors, dtype=np.uint8).reshape(-1, 3)
    if len(points_in_cam) != len(colors):
        raise ValueError(f"splat_points: {len(points_in_cam)} points but {len(colors)} colours")
    picture = np.empty((*camera.shape, 3), dtype=np.uint8)
    picture[:] = background
    depth = np.zeros(camera.shape, dtype=np.float32)
    radii = np.broadcast_to(np.asarray(radius_px, dtype=np.float64), len(points_in_cam))
    calibration = (float(camera.fx), float(camera.fy), float(camera.cx), float(camera.cy))
    _splat(points_in_cam, colors, calibration, np.ascontiguousarray(radii), picture, depth)
    return picture, depth


@numba.njit(cache=True)
def _splat(points, colors, calibration, radii, picture, depth):  # one thread: the result never depends on their number
    fx, fy, cx, cy = calibration
    height, width = depth.shape
    for i in range(len(points)):
        x, y, z = points[i]
        radius = radii[i]
        if not (z > 0 and np.isfinite(z)):
            continue
        u, v = fx * x / z + cx, fy * y / z + cy
        if not (-radius < u < width + radius and -radius < v < height + radius):
            continue
        own_column, own_row = int(np.floor(u)), int(np.floor(v))
        near = np.float32(z)
        # Pixel centres lie at +0.5: columns from ceil(u - r - 0.5) to floor(u + r - 0.5), and always the own one.
        for row in range(max(0, min(own_row, int(np.ceil(v - radius - 0.5)))), min(height, own_row + int(radius) + 2)):
            for column in range(
                max(0, min(own_column, int(np.ceil(u - radius - 0.5)))), min(width, own_column + int(radius) + 2)
            ):
                du, dv = column + 0.5 - u, row + 0.5 - v
                if du * du + dv * dv > radius * radius and not (row == own_row and column == own_column):
                    continue
                if depth[row, column] == 0 or near < depth[row, column]:
                    depth[row, column] = near
                    for channel in range(3):
                        picture[row, column, channel] = colors[i, channel]

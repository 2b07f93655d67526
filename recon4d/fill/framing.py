"""Keeping the scene in view: the output camera of a wanted size, and amplitudes that do not leave what was recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from recon4d.errors import OptionsError
from recon4d.fill.path_base import CameraPath
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

COVERED = 0.9  # of the picture that has to show something, as share of what the reference camera shows
CELLS = 32  # of the coarse grid along the picture's longer side
LOOKS = 16  # pictures of a path that are looked at
HALVINGS = 6  # 1/64 of the wanted amplitude is near enough


@dataclass(frozen=True)
class Framing:
    """What was chosen."""

    path: CameraPath
    amplitude: float
    covered: float  # share of the worst picture, 0..1
    shrunk: bool  # the wanted amplitude would have shown too much of nothing


def output_camera(source: Camera, width: int, height: int) -> Camera:
    """Square pixels and a picture that lies inside the source's: as wide or as high, no more (cover, no bars).

    The picture is cut from the middle of the source's, so that the principal point keeps its angle off the middle.
    """
    if width < 1 or height < 1:
        raise OptionsError(f"camera path: size {width}x{height} is empty, give WxH such as 1280x720")
    # Each side alone asks for a focal length; the longer one shows less than the source of the other side, not more.
    focal = max(source.fx * width / source.width, source.fy * height / source.height)
    cx = width / 2 + (source.cx - source.width / 2) * focal / source.fx
    cy = height / 2 + (source.cy - source.height / 2) * focal / source.fy
    return Camera(width, height, focal, focal, cx, cy)


def sized(path: CameraPath, width: int, height: int) -> CameraPath:
    """The path with cameras of another picture size, each as `output_camera` of its own."""
    made = {camera: output_camera(camera, width, height) for camera in set(path.cameras)}
    return replace(path, cameras=tuple(made[camera] for camera in path.cameras))


def covered_share(points: np.ndarray, cam_from_world: Rigid3, camera: Camera) -> float:
    """Share of the picture's cells that a point (N, 3), world frame, falls into; a coarse grid stands for pixels."""
    scale = CELLS / max(camera.width, camera.height)
    coarse = camera.resized(max(round(camera.width * scale), 1), max(round(camera.height * scale), 1))
    pixels = coarse.project(cam_from_world @ points)
    inside = ((pixels >= 0) & (pixels < [coarse.width, coarse.height])).all(axis=1)  # NaN, behind, is not
    x, y = pixels[inside].astype(int).T
    hit = np.zeros(coarse.shape, dtype=bool)
    hit[y, x] = True
    return float(hit.mean())


def worst_share(path: CameraPath, points_at: Callable[[float], np.ndarray]) -> float:
    """The smallest covered share of some pictures of a path, first and last among them.

    Args:
        points_at: position in the clip's frames -> (N, 3) what the scene has then, world frame; some thousand suffice.
    """
    rows = np.unique(np.round(np.linspace(0, len(path) - 1, LOOKS)).astype(int))
    cam_from_world = path.world_from_cam.inverse()
    return min(covered_share(points_at(float(path.times[i])), cam_from_world[i], path.cameras[i]) for i in rows)


def framed(
    maker: Callable[[float], CameraPath],
    wanted: float,
    points_at: Callable[[float], np.ndarray],
    share: float = COVERED,
) -> Framing:
    """The path of the largest amplitude up to ``wanted`` whose pictures all show enough of the scene.

    Args:
        maker: amplitude -> path; amplitude 0 is the reference camera.
        points_at: see `worst_share`.
        share: of what the reference camera shows, 0..1; its own holes, such as the sky, are no reason to stay.

    Coverage need not fall evenly with the amplitude; halving finds one crossing, and its lower side is sure to do.
    """
    path = maker(wanted)
    found = worst_share(path, points_at)
    still = maker(0.0)
    unmoved = worst_share(still, points_at)
    if found >= share * unmoved or wanted <= 0:
        return Framing(path, wanted, found, False)
    best, good, bad = Framing(still, 0.0, unmoved, True), 0.0, wanted
    for _ in range(HALVINGS):
        middle = (good + bad) / 2
        path = maker(middle)
        found = worst_share(path, points_at)
        if found >= share * unmoved:
            best, good = Framing(path, middle, found, True), middle
        else:
            bad = middle
    return best

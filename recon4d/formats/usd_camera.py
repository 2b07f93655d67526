"""Cameras and times of a recording in the words of USD.

Source: OpenUSD documentation of UsdGeomCamera (apertures, offsets, looking along -z) and of stage metadata.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recon4d.formats.axes import OPENGL_FROM_OPENCV
from recon4d.scene.camera import Camera
from recon4d.scene.trajectory import Trajectory

if TYPE_CHECKING:
    from pxr import Usd

FILM_WIDTH = 0.36  # tenths of a unit, as USD counts lenses: 36 mm in metres; only ratios matter for the picture
NEAR_WHOLE = 0.1  # frames: a time nearer to a whole time code is put onto it


@dataclass(frozen=True)
class Lens:
    """A pinhole as USD has it: lengths in one unit, offsets of the picture's centre to the right and up."""

    focal_length: float
    horizontal_aperture: float
    vertical_aperture: float
    horizontal_offset: float
    vertical_offset: float

    @staticmethod
    def of(camera: Camera) -> Lens:
        """The lens whose frustum is that of the pinhole, also where the centre lies beside the middle."""
        focal = FILM_WIDTH * camera.fx / camera.width
        height = focal * camera.height / camera.fy  # fx != fy gives pixels that are not square
        return Lens(
            focal_length=focal,
            horizontal_aperture=FILM_WIDTH,
            vertical_aperture=height,
            horizontal_offset=FILM_WIDTH * (0.5 - camera.cx / camera.width),
            vertical_offset=height * (camera.cy / camera.height - 0.5),
        )


def time_codes(starts_s: np.ndarray, fps: float) -> np.ndarray:
    """(N,) time codes of frames: seconds from the first times frames per second, fractional where times are uneven.

    Programs that step in whole frames show at each the last sample not after it: a sample a thousandth late would show
    a frame late. So codes nearer than a tenth to a whole one become whole, where all still increase.
    """
    exact = (np.asarray(starts_s, dtype=np.float64) - starts_s[0]) * fps
    whole = np.round(exact)
    codes = np.where(np.abs(exact - whole) <= NEAR_WHOLE, whole, np.round(exact, 6))
    return codes if (np.diff(codes) > 0).all() else exact


def add_camera(stage: Usd.Stage, path: str, trajectory: Trajectory, codes: np.ndarray, far: float) -> None:
    """An animated camera; lens values are sampled only where they change.

    Args:
        path: the prim's path.
        codes: (N,) time code of each frame.
        far: distance of the far clipping plane; the near one is at a hundred-thousandth of it.
    """
    from pxr import Gf, UsdGeom

    camera = UsdGeom.Camera.Define(stage, path)
    camera.CreateProjectionAttr(UsdGeom.Tokens.perspective)
    camera.CreateClippingRangeAttr(Gf.Vec2f(far * 1e-5, far))
    pose = camera.AddTransformOp()
    # USD multiplies row vectors from the left: its matrices are the transposes of ours.
    for code, matrix in zip(codes, trajectory.cam_from_world.inverse().matrix @ OPENGL_FROM_OPENCV, strict=True):
        pose.Set(Gf.Matrix4d(matrix.T.tolist()), float(code))
    lenses = [Lens.of(item) for item in trajectory.cameras]
    _set(camera.CreateFocalLengthAttr(), [lens.focal_length for lens in lenses], codes)
    _set(camera.CreateHorizontalApertureAttr(), [lens.horizontal_aperture for lens in lenses], codes)
    _set(camera.CreateVerticalApertureAttr(), [lens.vertical_aperture for lens in lenses], codes)
    _set(camera.CreateHorizontalApertureOffsetAttr(), [lens.horizontal_offset for lens in lenses], codes)
    _set(camera.CreateVerticalApertureOffsetAttr(), [lens.vertical_offset for lens in lenses], codes)


def _set(attribute: Usd.Attribute, values: Sequence[float], codes: np.ndarray) -> None:
    if len(set(values)) == 1:
        attribute.Set(values[0])
        return
    for code, value in zip(codes, values, strict=True):
        attribute.Set(value, float(code))

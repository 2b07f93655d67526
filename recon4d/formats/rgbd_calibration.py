"""The calibration file of an RGB-D folder.

    {
      "color_camera": {"width": 640, "height": 480, "fx": 527.2, "fy": 527.2, "cx": 322.8, "cy": 238.5},
      "depth_camera": {"width": 640, "height": 480, "fx": 585.0, "fy": 585.0, "cx": 320.0, "cy": 240.0},
      "color_from_depth": [[1, 0, 0, -0.033], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
      "metres_per_value": 0.001,
      "invalid_values": [0, 65535],
      "fps": 30.0,
      "first_pixel_centre": 0.0
    }

Only ``color_camera`` must be there. ``width`` and ``height`` may stand once, beside the cameras. Without a depth camera
the depth pictures cover the colour pictures (registered). ``color_from_depth`` brings points of the depth camera to
the colour camera, metres, OpenCV axes; ``color_from_depth_translation_m`` gives a motion that does not turn.
``metres_per_value`` is what a stored 1 stands for (without it 0.001 for whole numbers, 1 for floats). With ``fps``,
files named by a number are frames of that number. ``first_pixel_centre`` is 0 where pixels are counted 0, 1, 2 (as most
programs do), 0.5 where the picture begins at 0. Open3D's ``camera_intrinsic.json`` is read too.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.rgbd import RgbdCalibration
from recon4d.formats.rgbd_files import rigid_of_matrix
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

FILES = ("calibration.json", "intrinsics.json", "camera_intrinsic.json", "intrinsic.json", "camera.json")
MOST_BYTES = 16 << 20
DISTORTION = ("distortion", "distortion_coefficients", "k1", "k2", "k3", "p1", "p2")


@dataclass(frozen=True)
class CalibrationFile:
    """What the file says."""

    calibration: RgbdCalibration
    metres_per_value: float | None
    invalid: tuple[float, ...]
    fps: float | None


def calibration_file(folder: Path) -> Path | None:
    """The calibration file directly in a folder, if there is one."""
    return next((path for name in FILES if (path := folder / name).is_file()), None)


def read_calibration(path: Path) -> CalibrationFile:
    """Read the file. Raises InputError with the name of what is wrong in it."""
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"{path} has {path.stat().st_size} bytes: that is no calibration")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable JSON ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is no table of names and values: a calibration has a color_camera")
    try:
        return _from_content(content, path)
    except KeyError as error:
        raise InputError(f"{path}: {error.args[0]!r} is missing") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path} cannot be used ({error})") from None


def _from_content(content: dict[str, object], path: Path) -> CalibrationFile:
    centre = float(content.get("first_pixel_centre", 0.0))
    if centre not in (0.0, 0.5):
        raise ValueError(f"first_pixel_centre is {centre:g}, 0 or 0.5 is expected")
    if "intrinsic_matrix" in content:  # Open3D: column by column
        matrix = np.array(content["intrinsic_matrix"], dtype=np.float64).reshape(3, 3).T
        named = {"fx": matrix[0, 0], "fy": matrix[1, 1], "cx": matrix[0, 2], "cy": matrix[1, 2]}
        color, depth = _camera(content | named, {}, centre), None
    else:
        color = _camera(_first(content, "color_camera", "color_camera_estimated"), content, centre)
        depth = _camera(content["depth_camera"], content, centre) if content.get("depth_camera") else None
    invalid = content.get("invalid_values", content.get("invalid_depth", ()))
    return CalibrationFile(
        RgbdCalibration(color, depth, _motion(content, path), path.name),
        _positive(content, "metres_per_value", "depth_scale_to_m"),
        tuple(float(value) for value in invalid),
        _positive(content, "fps"),
    )


def _first(content: dict[str, object], *keys: str) -> dict[str, object]:
    found = next((content[key] for key in keys if content.get(key) is not None), None)
    if found is None:
        raise KeyError(keys[0])
    return found


def _camera(values: object, shared: dict[str, object], centre: float) -> Camera:
    if not isinstance(values, dict):
        raise TypeError("a camera is no table with fx, fy, cx, cy")
    if any(np.any(np.asarray(values[key], dtype=np.float64) != 0) for key in DISTORTION if values.get(key) is not None):
        raise ValueError("a camera has lens distortion, which sensor depth is not registered through: undistort first")
    width, height = (values[key] if key in values else shared[key] for key in ("width", "height"))
    fx, fy, cx, cy = (float(values[key]) for key in ("fx", "fy", "cx", "cy"))
    return Camera(int(width), int(height), fx, fy, cx + 0.5 - centre, cy + 0.5 - centre)


def _motion(content: dict[str, object], path: Path) -> Rigid3:
    if "color_from_depth" in content or "depth_to_color" in content:
        matrix = np.array(content.get("color_from_depth", content.get("depth_to_color")), dtype=np.float64)
        return rigid_of_matrix(matrix, f"color_from_depth in {path}")
    shift = np.array(content.get("color_from_depth_translation_m", (0.0, 0.0, 0.0)), dtype=np.float64)
    if shift.shape != (3,) or not np.isfinite(shift).all():
        raise ValueError("color_from_depth_translation_m is not three finite numbers")
    return Rigid3(np.eye(3), shift)


def _positive(content: dict[str, object], *keys: str) -> float | None:
    found = next((content[key] for key in keys if content.get(key) is not None), None)
    if found is None:
        return None
    value = float(found)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{keys[0]} is {value:g}, a number above 0 is expected")
    return value

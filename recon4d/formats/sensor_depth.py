"""`frames/sensor_depth`: what the sensor saw in each chosen frame, on its own grid, and how it lies in the picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.arrays import read_arrays, write_arrays
from recon4d.formats.rgbd import RgbdCalibration, SensorPicture
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

FOLDER, CAMERAS = "sensor_depth", "cameras.json"


def write_sensor_picture(folder: Path, name: str, picture: SensorPicture) -> None:
    """Write ``NAME.npz``: ``depth`` float32 (h, w) metres, 0 = none; ``confidence`` float32 where it is known."""
    more = {} if picture.confidence is None else {"confidence": picture.confidence}
    write_arrays(folder / f"{name}.npz", depth=picture.metres, **more)


def read_sensor_picture(folder: Path, name: str) -> SensorPicture | None:
    """Reverse of `write_sensor_picture`; None where the frame has none. Raises InputError."""
    path = folder / f"{name}.npz"
    if not path.is_file():
        return None
    arrays = read_arrays(path)
    if "depth" not in arrays or arrays["depth"].ndim != 2:
        raise InputError(f"{path} holds no depth (height, width): run recon4d frames again")
    confidence = arrays.get("confidence")
    return SensorPicture(arrays["depth"], confidence)


def write_cameras(folder: Path, calibration: RgbdCalibration) -> None:
    """Write ``cameras.json``; the colour camera is in pixels of the pictures in ``frames/``."""
    content = {
        "convention": "pixel centre of the top-left pixel is (0.5, 0.5); metres; axes x right, y down, z forward",
        "color_camera": _values(calibration.color),
        "depth_camera": _values(calibration.depth),
        "color_from_depth": calibration.color_from_depth.matrix[:3].tolist(),
        "registered": calibration.is_registered,
        "source": calibration.source,
    }
    (folder / CAMERAS).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_cameras(folder: Path) -> RgbdCalibration:
    """Reverse of `write_cameras`. Raises InputError."""
    path = folder / CAMERAS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        matrix = np.array(content["color_from_depth"], dtype=np.float64)
        color, depth = (
            None if content[key] is None else Camera(**content[key]) for key in ("color_camera", "depth_camera")
        )
        return RgbdCalibration(color, depth, Rigid3(matrix[:, :3], matrix[:, 3]), str(content["source"]))
    except FileNotFoundError:
        raise InputError(f"{path} was not found: run recon4d frames again") from None
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path} is damaged ({error!r}): run recon4d frames again") from None


def _values(camera: Camera | None) -> dict[str, float] | None:
    return None if camera is None else {key: getattr(camera, key) for key in Camera.__dataclass_fields__}

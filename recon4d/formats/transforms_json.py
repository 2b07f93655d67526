"""`transforms.json` of nerfstudio and Instant-NGP: lenses and camera-to-world poses with OpenGL camera axes."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.axes import OPENGL_FROM_OPENCV
from recon4d.formats.pictures import PICTURE_SUFFIXES, read_rgb
from recon4d.scene.camera import Camera
from recon4d.scene.trajectory import Trajectory
from recon4d.scene.transforms import Rigid3


@dataclass(frozen=True)
class TransformsFrame:
    """One entry of the file."""

    file_path: str  # as written in the file
    width: int
    height: int
    model: str  # COLMAP's name of the lens model
    params: tuple[float, ...]  # in COLMAP's order, pixels; first pixel centre (0.5, 0.5)


@dataclass(frozen=True)
class Transforms:
    """What a `transforms.json` says."""

    frames: tuple[TransformsFrame, ...]
    world_from_cam: Rigid3  # batch (N,), OpenCV camera axes
    missing: tuple[str, ...]  # pictures the file names that are not there


def read_transforms(path: Path) -> Transforms:
    """Read a `transforms.json`; lens values of a frame go before those of the file.

    Raises:
        InputError: the file is missing or damaged, a value is missing, or the lens model is not one of PINHOLE,
            SIMPLE_PINHOLE, OPENCV, OPENCV_FISHEYE.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entries = content["frames"]
    except FileNotFoundError:
        raise InputError(f"{path} was not found") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f'{path} is no transforms.json (a "frames" list is expected): {error!r}') from None
    if not entries:
        raise InputError(f"{path} lists no frames")
    shared = {key: value for key, value in content.items() if key != "frames"}
    frames, matrices, missing = [], [], []
    for number, entry in enumerate(entries):
        try:
            matrix = np.array(entry["transform_matrix"], dtype=np.float64)
            picture = _picture(path.parent, str(entry["file_path"]))
            if matrix.shape not in ((4, 4), (3, 4)) or not np.isfinite(matrix).all():
                raise ValueError(f"transform_matrix is {matrix.shape} or not finite, 4x4 numbers are expected")
            frames.append(_frame(shared | entry, picture))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            raise InputError(f"{path}, frame {number}: {reason}") from None
        matrices.append(matrix[:3])
        if picture is None:
            missing.append(str(entry["file_path"]))
    opencv = np.array(matrices) @ OPENGL_FROM_OPENCV
    return Transforms(tuple(frames), Rigid3.from_matrix(opencv), tuple(missing))


def _picture(folder: Path, file_path: str) -> Path | None:
    """The picture of a frame, or None; some files leave the suffix out."""
    named = folder / file_path
    candidates = [named, *(named.with_name(named.name + suffix) for suffix in PICTURE_SUFFIXES)]
    return next((item for item in candidates if item.is_file()), None)


def _frame(values: dict[str, object], picture: Path | None) -> TransformsFrame:
    if "w" in values and "h" in values:
        width, height = round(float(values["w"])), round(float(values["h"]))
    elif picture is not None:
        height, width = read_rgb(picture).shape[:2]
    else:
        raise KeyError("w")
    if "fl_x" in values:
        fx = float(values["fl_x"])
    elif "camera_angle_x" in values:
        fx = 0.5 * width / math.tan(0.5 * float(values["camera_angle_x"]))
    else:
        raise KeyError("fl_x")
    fy, cx, cy = (float(values.get(key, other)) for key, other in (("fl_y", fx), ("cx", width / 2), ("cy", height / 2)))
    model, distortion = _lens(values)
    return TransformsFrame(str(values["file_path"]), width, height, model, (fx, fy, cx, cy, *distortion))


def _lens(values: dict[str, object]) -> tuple[str, tuple[float, ...]]:
    """COLMAP's model name and its distortion parameters."""
    model = str(values.get("camera_model", "OPENCV")).upper()
    k1, k2, k3, k4, p1, p2 = (float(values.get(key, 0.0)) for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
    if model in ("OPENCV_FISHEYE", "FISHEYE") or values.get("is_fisheye"):
        return "OPENCV_FISHEYE", (k1, k2, k3, k4)
    if model not in ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL"):
        raise ValueError(f"camera_model {model} is not supported, PINHOLE, OPENCV or OPENCV_FISHEYE is expected")
    if k3 or k4:  # as in nerfstudio, k4 is the fourth radial term here, which no OpenCV model has
        if k4:
            raise ValueError("camera_model OPENCV with k4 is not supported, k1 k2 p1 p2 k3 are")
        return "FULL_OPENCV", (k1, k2, p1, p2, k3, 0.0, 0.0, 0.0)
    if k1 or k2 or p1 or p2:
        return "OPENCV", (k1, k2, p1, p2)
    return "PINHOLE", ()


def write_transforms(
    path: Path,
    trajectory: Trajectory,
    file_paths: dict[str, str],
    extra: dict[str, dict[str, object]] | None = None,
    head: dict[str, object] | None = None,
) -> None:
    """Write undistorted cameras and poses.

    Args:
        path: the file to write.
        trajectory: poses and cameras of the frames.
        file_paths: name -> path of its picture relative to the file's folder.
        extra: name -> further entries of the frame, such as ``depth_file_path``.
        head: further entries of the file.
    """
    cameras = set(trajectory.cameras)
    content: dict[str, object] = {"camera_model": "OPENCV"} | (head or {})
    if len(cameras) == 1:
        content |= _camera_values(trajectory.cameras[0])
    frames = []
    for view in trajectory:
        frame: dict[str, object] = {"file_path": file_paths[view.name]}
        if len(cameras) > 1:
            frame |= _camera_values(view.camera)
        opengl = view.cam_from_world.inverse().matrix @ OPENGL_FROM_OPENCV
        frame["transform_matrix"] = opengl.tolist()
        frames.append(frame | (extra or {}).get(view.name, {}))
    path.write_text(json.dumps(content | {"frames": frames}, indent=1) + "\n", encoding="utf-8")


def _camera_values(camera: Camera) -> dict[str, object]:
    lens = {"fl_x": camera.fx, "fl_y": camera.fy, "cx": camera.cx, "cy": camera.cy}
    return lens | {"w": camera.width, "h": camera.height, "k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0}

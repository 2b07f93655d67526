"""Camera paths of other programs: TUM, KITTI, transforms.json, nerfstudio, Blender, and a JSON of our own.

Our own is ``{"poses": [{"time": 0.0, "world_from_cam": [[4x4]], "fov_deg": 50.0, "clip_frame": 12.5}, ...]}``, or the
list alone. Camera axes are x right, y down, z forward. All but ``world_from_cam`` may be left out, in all entries
alike: ``time`` says how the poses are spread (any unit), ``fov_deg`` is the vertical field of view, ``clip_frame`` the
moment of the recording that is shown. ``focal_px`` may stand for ``fov_deg``; ``"height"`` beside ``"poses"`` then is
the height of the picture that it is measured in.

Blender: ``{"resolution": [1920, 1080], "matrix_world": [[[4x4]], ...], "lens": [...], "sensor_width": 36.0}`` of

    import bpy, json
    scene, camera = bpy.context.scene, bpy.context.scene.camera
    path = {"resolution": [scene.render.resolution_x, scene.render.resolution_y], "matrix_world": [], "lens": []}
    path["sensor_width"] = camera.data.sensor_width
    for frame in range(scene.frame_start, scene.frame_end + 1):
        scene.frame_set(frame)
        path["matrix_world"].append([list(row) for row in camera.matrix_world])
        path["lens"].append(camera.data.lens)
    with open(bpy.path.abspath("//camera_path.json"), "w") as file:
        json.dump(path, file)

Blender's camera has y up and z backward like OpenGL's, its sensor's fit is to be "Auto"; instead of ``lens`` (mm)
there may be ``angle`` (radians, across the picture's longer side).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.axes import OPENGL_FROM_OPENCV
from recon4d.formats.matrices import are_rotations
from recon4d.formats.trajectories import read_kitti, read_tum
from recon4d.formats.transforms_json import read_transforms
from recon4d.scene.path_keys import PathKeys
from recon4d.scene.transforms import Rigid3, Sim3

SENSOR_WIDTH_MM = 36.0  # Blender's own default
KINDS = "lines of TUM or KITTI, a transforms.json, nerfstudio's camera_path.json, Blender's matrices or our poses"


def read_camera_path(path: Path) -> PathKeys:
    """Read a camera path, in its own coordinates; its kind is told by what it holds.

    nerfstudio moves and scales a scene when it trains: where its ``dataparser_transforms.json`` lies beside the path,
    that is undone. Otherwise train with orientation, centring and scaling off.

    Raises:
        InputError: the file is missing, of no known kind, or a value is missing or damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"camera path {path} was not found") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"camera path {path} is not a readable text file ({error}): {KINDS} are expected") from None
    is_json = text.lstrip()[:1] in ("{", "[")
    try:
        content = json.loads(text) if is_json else None
    except ValueError as error:
        raise InputError(f"camera path {path} is damaged JSON ({error}): write it again") from None
    try:
        return _read_json(path, content) if is_json else _read_lines(path, text)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"camera path {path}: {reason}; {KINDS} are expected") from None


def write_camera_path(path: Path, keys: PathKeys) -> None:
    """Write our own JSON."""
    rows = []
    angles = None if keys.tan_half_height is None else 2 * np.degrees(np.arctan(keys.tan_half_height))
    for i, matrix in enumerate(keys.world_from_cam.matrix):
        row: dict[str, object] = {"world_from_cam": matrix.tolist()}
        for name, values in (("time", keys.key_times), ("fov_deg", angles), ("clip_frame", keys.clip_frames)):
            if values is not None:
                row[name] = float(values[i])
        rows.append(row)
    path.write_text(json.dumps({"poses": rows}, indent=1) + "\n", encoding="utf-8")


def _read_lines(path: Path, text: str) -> PathKeys:
    rows = (line.replace(",", " ").split() for line in text.splitlines())
    first = next((words for words in rows if words and not words[0].startswith("#")), [])
    if len(first) == 12:
        return PathKeys(read_kitti(path))
    times, poses = read_tum(path)
    return PathKeys(poses, times)


def _read_json(path: Path, content: object) -> PathKeys:
    if isinstance(content, list):
        content = {"matrix_world" if content and "matrix_world" in content[0] else "poses": content}
    if "frames" in content:
        return _of_transforms(path, content)
    if content.get("camera_path") or content.get("keyframes"):
        return _of_nerfstudio(path, content)
    if "matrix_world" in content:
        return _of_blender(content)
    if "poses" in content:
        return _of_ours(content)
    raise ValueError(f"it holds {', '.join(map(repr, list(content)[:5])) or 'nothing'}")


def _of_ours(content: dict) -> PathKeys:
    rows = content["poses"]
    poses = _poses([row["world_from_cam"] for row in rows])
    fov, focal = _numbers(rows, "fov_deg"), _numbers(rows, "focal_px")
    tan = None if fov is None else np.tan(np.radians(_in_range(fov, 180.0, "fov_deg")) / 2)
    if focal is not None:
        tan = float(content["height"]) / 2 / _in_range(focal, np.inf, "focal_px")
    return PathKeys(poses, _numbers(rows, "time"), tan, _numbers(rows, "clip_frame"))


def _of_transforms(path: Path, content: dict) -> PathKeys:
    _poses([row["transform_matrix"] for row in content["frames"]])  # says what is wrong where a matrix is
    found = read_transforms(path)
    tan = np.array([frame.height / (2 * frame.params[1]) for frame in found.frames])
    return PathKeys(found.world_from_cam, tan_half_height=tan)


def _of_nerfstudio(path: Path, content: dict) -> PathKeys:
    dense = content.get("camera_path")
    rows = dense or content["keyframes"]
    matrices = []
    for row in rows:
        values = row["camera_to_world"] if dense else row["matrix"]
        matrix = np.array(json.loads(values) if isinstance(values, str) else values, dtype=np.float64).reshape(4, 4)
        # The old viewer wrote keyframes column by column, the new one row by row: the row 0 0 0 1 tells.
        matrices.append(matrix if np.allclose(matrix[3], [0, 0, 0, 1]) else matrix.T)
    poses = _from_opengl(_poses(matrices))
    beside = path.parent / "dataparser_transforms.json"
    if beside.is_file():
        poses = _before_training(poses, json.loads(beside.read_text(encoding="utf-8")))
    fov = _numbers(rows, "fov")
    tan = None if fov is None else np.tan(np.radians(_in_range(fov, 180.0, "fov")) / 2)
    return PathKeys(poses, tan_half_height=tan)


def _before_training(poses: Rigid3, moved: dict) -> Rigid3:
    """Undo nerfstudio's ``scale * (transform @ x)`` of camera positions."""
    transform = Rigid3.from_matrix(np.array(moved["transform"], dtype=np.float64))
    scale = float(_in_range(np.array([moved["scale"]], dtype=np.float64), np.inf, "scale")[0])
    back = Sim3(scale, transform.rotation, scale * transform.translation).inverse()
    return Rigid3(back.rotation @ poses.rotation, back @ poses.translation)


def _of_blender(content: dict) -> PathKeys:
    rows = content["matrix_world"]
    per_row = isinstance(rows[0], dict)
    poses = _from_opengl(_poses([row["matrix_world"] for row in rows] if per_row else rows))
    values = {k: _numbers(rows, k) if per_row else content.get(k) for k in ("angle", "lens")}
    if values["angle"] is not None:
        tan_longer = np.tan(_in_range(np.array(values["angle"], dtype=np.float64), np.pi, "angle") / 2)
    elif values["lens"] is not None:
        lens = _in_range(np.array(values["lens"], dtype=np.float64), np.inf, "lens")
        tan_longer = float(content.get("sensor_width", SENSOR_WIDTH_MM)) / 2 / lens
    else:
        return PathKeys(poses)
    width, height = (float(side) for side in content["resolution"])
    tan = np.broadcast_to(tan_longer * height / max(width, height), len(poses)).copy()
    return PathKeys(poses, tan_half_height=tan)


def _from_opengl(poses: Rigid3) -> Rigid3:
    """The same cameras with x right, y down, z forward."""
    return Rigid3(poses.rotation @ OPENGL_FROM_OPENCV[:3, :3], poses.translation)


def _poses(matrices: list) -> Rigid3:
    """Poses (K,) of 4x4 or 3x4 lists; a scaled matrix (Blender's objects may be) loses its scale."""
    if not matrices:
        raise ValueError("it has no pose")
    array = np.array(matrices, dtype=np.float64)
    if array.ndim != 3 or array.shape[1:] not in ((4, 4), (3, 4)) or not np.isfinite(array).all():
        raise ValueError(f"its matrices are {array.shape} or not finite, 4x4 numbers each")
    turns = array[:, :3, :3]
    length = np.linalg.norm(turns, axis=1, keepdims=True)
    turns = turns / np.where(length > 0, length, 1)
    wrong = np.flatnonzero(~are_rotations(turns))
    if len(wrong):
        raise ValueError(f"the left upper 3x3 of matrix {wrong[0]} is not a rotation")
    return Rigid3.from_matrix(np.concatenate([turns, array[:, :3, 3:]], axis=2))


def _numbers(rows: list[dict], key: str) -> np.ndarray | None:
    """(K,) float64 of an entry that all rows have; None where none has it."""
    have = [key in row for row in rows]
    if not any(have):
        return None
    if not all(have):
        raise ValueError(f"{key!r} is missing in entry {have.index(False)} but not in all")
    values = np.array([row[key] for row in rows], dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{key!r} is not finite in all entries")
    return values


def _in_range(values: np.ndarray, below: float, what: str) -> np.ndarray:
    if not ((values > 0) & (values < below)).all():
        raise ValueError(f"{what} is not between 0 and {below:g} everywhere")
    return values

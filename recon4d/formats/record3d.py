"""Recordings of the iPhone app Record3D: ``.r3d``, a zip of ``metadata`` and ``rgbd/N.jpg``, ``N.depth``, ``N.conf``.

``metadata`` is JSON: size of the pictures ``w h`` and of the depth ``dw dh``, ``K`` column by column, ``poses`` (camera
to world, quaternion x y z w and position, OpenGL axes), ``frameTimestamps``, ``perFrameIntrinsicCoeffs`` (fx fy cx cy).
Depth is float32 metres and covers the picture; confidence is 0, 1 or 2 per pixel. Nothing is ever unpacked by the name
it has in the archive.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.arrays import ZIP_DAMAGE
from recon4d.formats.axes import OPENGL_FROM_OPENCV
from recon4d.formats.lzfse import decompressed, is_lzfse
from recon4d.formats.rgbd import RgbdCalibration, RgbdFrame, RgbdPoses, RgbdRecording, SensorPicture
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

SUFFIX, METADATA, FOLDER = ".r3d", "metadata", "rgbd"
MOST_METADATA, MOST_PICTURE, MOST_PACKED = 64 << 20, 128 << 20, 1 << 20  # bytes; the last beyond the unpacked size
MOST_PIXELS = 1 << 26  # of a depth picture
CHANCE_OF = np.array([0.25, 0.75, 1.0], dtype=np.float32)  # of ARKit's low, medium, high: low is what apps throw away


def is_here(path: Path) -> bool:
    if path.is_dir():
        return (path / METADATA).is_file() and (path / FOLDER).is_dir()
    return path.is_file() and path.suffix.lower() == SUFFIX


def open_recording(path: Path) -> RgbdRecording:
    """Read the metadata and list the frames. Raises InputError."""
    members = _Members(path)
    told = _read_metadata(members)
    numbers = members.numbers()
    if not numbers:
        raise InputError(f"frames: {path} holds no {FOLDER}/0.jpg, 1.jpg, ...: export it from Record3D again")
    frames = tuple(
        RgbdFrame(
            name=f"{number:06d}",
            source_index=number,
            source_name=path.name,
            timestamp_s=told.time_s(number),
            color=f"{FOLDER}/{number}.jpg",
            depth=f"{FOLDER}/{number}.depth" if members.has(f"{FOLDER}/{number}.depth") else None,
        )
        for number in numbers
    )
    if any(a.timestamp_s >= b.timestamp_s for a, b in pairwise(frames)):
        raise InputError(f"frames: the times in {path} do not rise from frame to frame: export it again")
    return RgbdRecording(
        kind="Record3D recording",
        frames=frames,
        calibration=RgbdCalibration(told.typical_camera(), None, Rigid3.identity(), f"{METADATA} of Record3D"),
        time_source="frameTimestamps" if told.times_s is not None else "frame number / fps",
        files=members.files(),
        picture=members.picture,
        depth=lambda frame: _depth(members, frame, told),
        poses=lambda: _poses(frames, told),
    )


class _Members:
    """Files in the archive, or in a folder it was unpacked to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.is_dir():
            self._sizes = {
                item.relative_to(path).as_posix(): item.stat().st_size
                for item in [path / METADATA, *(path / FOLDER).iterdir()]
                if item.is_file()
            }
        else:
            with self._archive() as archive:
                self._sizes = {entry.filename: entry.file_size for entry in archive.infolist()}

    @contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except ZIP_DAMAGE as error:
            raise InputError(f"frames: {self.path} is no readable .r3d archive ({error}): export it again") from error

    def has(self, name: str) -> bool:
        return name in self._sizes

    def numbers(self) -> list[int]:
        found = (re.fullmatch(rf"{FOLDER}/(0|[1-9][0-9]{{0,7}})\.jpg", name) for name in self._sizes)
        return sorted(int(match.group(1)) for match in found if match)

    def files(self) -> tuple[Path, ...]:
        if not self.path.is_dir():
            return (self.path,)
        return tuple(self.path / name for name in sorted(self._sizes))

    def read(self, name: str, most: int) -> bytes:
        """The bytes of a file, ``most`` at most. Raises InputError."""
        size = self._sizes.get(name)
        if size is None:
            raise InputError(f"frames: {self.path} holds no {name}: export it from Record3D again")
        if size > most:
            raise InputError(f"frames: {name} in {self.path} has {size} bytes, {most} at most are expected: damaged?")
        if self.path.is_dir():
            return (self.path / name).read_bytes()
        with self._archive() as archive, archive.open(name) as file:
            return file.read(most)

    def picture(self, frame: RgbdFrame, scratch: Path) -> Path:
        if self.path.is_dir():
            return self.path / frame.color
        scratch.write_bytes(self.read(frame.color, MOST_PICTURE))
        return scratch


@dataclass(frozen=True)
class _Metadata:
    size: tuple[int, int]  # (width, height) that the lens is in
    depth_size: tuple[int, int]
    lens: np.ndarray  # (4,) fx fy cx cy
    lenses: np.ndarray | None  # (N, 4) the same of every frame
    times_s: np.ndarray | None  # (N,)
    fps: float
    poses: np.ndarray | None  # (N, 7)

    def time_s(self, number: int) -> float:
        if self.times_s is None:
            return number / self.fps
        if number >= len(self.times_s):
            raise InputError(f"frames: frame {number} of the Record3D recording has no time: export it again")
        return float(self.times_s[number])

    def camera(self, number: int) -> Camera:
        own = self.lenses is not None and number < len(self.lenses)
        return Camera(*self.size, *(float(value) for value in (self.lenses[number] if own else self.lens)))

    def typical_camera(self) -> Camera:
        lens = self.lens if self.lenses is None else np.median(self.lenses, axis=0)
        return Camera(*self.size, *(float(value) for value in lens))


def _read_metadata(members: _Members) -> _Metadata:
    where = f"{METADATA} of {members.path}"
    try:
        content = json.loads(members.read(METADATA, MOST_METADATA).decode("utf-8"))
        # Apple counts pixels from the corner of the picture, as we do: nothing to add to the centre.
        matrix = np.array(content["K"], dtype=np.float64).reshape(3, 3).T
        size = int(content["w"]), int(content["h"])
        depth_size = int(content.get("dw", size[0])), int(content.get("dh", size[1]))
        told = _Metadata(
            size=size,
            depth_size=depth_size,
            lens=np.array([matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]]),
            lenses=_table(content, "perFrameIntrinsicCoeffs", 4),
            times_s=_table(content, "frameTimestamps", None),
            fps=float(content.get("fps", 30.0)),
            poses=_table(content, "poses", 7),
        )
        _check(told)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"frames: {where} is not readable JSON ({error}): export it again") from None
    except KeyError as error:
        raise InputError(f"frames: {where} lacks {error.args[0]!r}: export it from Record3D again") from None
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"frames: {where} cannot be used ({error}): export it again") from None
    if abs(depth_size[0] * size[1] - depth_size[1] * size[0]) > 0.02 * depth_size[1] * size[0]:
        raise InputError(f"frames: {where} has depth of {depth_size} for pictures of {size}: another shape")
    return told


def _check(told: _Metadata) -> None:
    for number in range(0 if told.lenses is None else len(told.lenses)):
        told.camera(number)
    told.typical_camera()
    for (width, height), keys in ((told.size, "w and h"), (told.depth_size, "dw and dh")):
        if not (min(width, height) > 0 and width * height <= MOST_PIXELS):
            raise ValueError(f"{keys} are {width} and {height}")
    if not told.fps > 0:
        raise ValueError(f"fps is {told.fps:g}")


def _table(content: dict[str, object], key: str, columns: int | None) -> np.ndarray | None:
    """(N, columns) or (N,) finite numbers; None where there are none."""
    if not content.get(key):
        return None
    table = np.array(content[key], dtype=np.float64)
    if table.ndim != (1 if columns is None else 2) or (columns and table.shape[1] != columns):
        raise ValueError(f"{key} is {table.shape}, (frames{'' if columns is None else f', {columns}'}) is expected")
    if not np.isfinite(table).all():
        raise ValueError(f"{key} is not finite")
    return table


def _depth(members: _Members, frame: RgbdFrame, told: _Metadata) -> SensorPicture:
    width, height = told.depth_size
    data = _unpacked(members, frame.depth, 4 * width * height)
    metres = np.frombuffer(data, dtype="<f4").reshape(height, width)
    valid = np.isfinite(metres) & (metres > 0)
    confidence, name = None, frame.depth.removesuffix(".depth") + ".conf"
    if members.has(name):
        levels = np.frombuffer(_unpacked(members, name, width * height), dtype=np.uint8).reshape(height, width)
        confidence = CHANCE_OF[np.minimum(levels, len(CHANCE_OF) - 1)]
    return SensorPicture(np.where(valid, metres, 0).astype(np.float32), confidence)


def _unpacked(members: _Members, name: str, size: int) -> bytes:
    """The ``size`` bytes of a file that is LZFSE, zlib or as it is."""
    data, where = members.read(name, size + MOST_PACKED), f"depth: {name} in {members.path}"
    if is_lzfse(data):
        return decompressed(data, size, where)
    if len(data) != size and data[:1] == b"\x78":
        try:
            data = zlib.decompressobj().decompress(data, size + 1)
        except zlib.error as error:
            raise InputError(f"{where} is damaged ({error}): export the recording again") from error
    if len(data) != size:
        raise InputError(f"{where} has {len(data)} bytes, {size} are expected: it is damaged or of another size")
    return data


def _poses(frames: tuple[RgbdFrame, ...], told: _Metadata) -> RgbdPoses | None:
    known = [frame for frame in frames if told.poses is not None and frame.source_index < len(told.poses)]
    if not known:
        return None
    rows = told.poses[[frame.source_index for frame in known]]
    if (np.linalg.norm(rows[:, :4], axis=1) < 1e-6).any():
        raise InputError("poses: a pose of the Record3D recording has a quaternion of 0: export it again")
    opengl = Rigid3.from_quat_xyzw(rows[:, :4], rows[:, 4:])
    return RgbdPoses(
        names=tuple(frame.name for frame in known),
        world_from_color=Rigid3(opengl.rotation @ OPENGL_FROM_OPENCV[:3, :3], opengl.translation),
        cameras=tuple(told.camera(frame.source_index) for frame in known),
        kind="Record3D recording",
    )

"""ViPE's folder: ``depth/NAME.zip`` of EXR pictures, ``pose/NAME.npz``, ``intrinsics/NAME.npz``."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.arrays import ZIP_DAMAGE
from recon4d.formats.depth_files import read_npz_array
from recon4d.formats.exr_files import decode_exr
from recon4d.formats.matrices import HALF_PIXEL, rigid_of
from recon4d.formats.peers import PeerCameras, PeerDepth, WithHoles
from recon4d.scene.depth import DepthKind

FRAME = re.compile(r"([0-9]{1,9})\.exr")
LARGEST_FRAME = 1 << 30  # bytes of an EXR picture


def read_vipe(path: Path, key: str | None) -> PeerDepth | None:
    """Depth in metres, half precision; 0 and what is not finite is none."""
    archive = _archive(path)
    if archive is None:
        return None
    files = ExrZip(archive)
    return PeerDepth(
        WithHoles(files, lambda raw, _: ~(raw > 0)),
        program="ViPE",
        kind=DepthKind.METRIC_Z,
        why="depth as ViPE writes it, in metres as far as its learned prior knows them",
        numbers=files.numbers,
    )


def vipe_cameras(path: Path) -> PeerCameras | None:
    """``data`` (N, 4, 4) camera-to-world and (N, 4) fx, fy, cx, cy, with ``inds`` (N,) that count frames.

    Raises InputError: also for lenses other than a pinhole, and for a file out of the folder.
    """
    if path.is_file():
        if path.suffix.lower() == ".zip" or (path.parent.name == "pose" and path.suffix.lower() == ".npz"):
            raise InputError(
                f"poses: {path} holds only a part of what ViPE knows of its cameras: give the folder with 'pose' and "
                "'intrinsics' in it (with those of one clip alone)"
            )
        return None
    pose = _only(path / "pose", ".npz")
    if pose is None:
        return None
    data, numbers = read_npz_array(pose, "data"), _numbers(pose)
    if data is None or data.shape != (len(numbers), 4, 4):
        found = None if data is None else data.shape
        raise InputError(f"{pose}: 'data' is {found}, ({len(numbers)}, 4, 4) camera-to-world is expected")
    matrices = rigid_of(data, f"{pose}: 'data'")
    archive = _archive(path)
    size = None if archive is None else ExrZip(archive).size
    return PeerCameras("ViPE", matrices, _pinholes(pose, numbers), size, numbers=numbers)


def _pinholes(pose: Path, wanted: tuple[int, ...]) -> np.ndarray | None:
    path = pose.parent.parent / "intrinsics" / pose.name
    if not path.is_file():
        return None
    kinds = path.with_name(f"{path.stem}_camera.txt")
    if kinds.is_file():
        said = {
            line.partition(":")[2].strip() for line in kinds.read_text(encoding="utf-8", errors="replace").split("\n")
        }
        if not said <= {"PINHOLE", ""}:
            raise InputError(f"{kinds} names lenses other than PINHOLE: undistort the video first, or run colmap")
    data, numbers = read_npz_array(path, "data"), _numbers(path)
    if data is None or data.ndim != 2 or data.shape[0] != len(numbers) or data.shape[1] < 4:
        raise InputError(f"{path}: 'data' is {None if data is None else data.shape}, ({len(numbers)}, 4) is expected")
    row_of = {number: row for row, number in enumerate(numbers)}
    missing = [number for number in wanted if number not in row_of]
    if missing:
        raise InputError(f"{path} has no lens for frame {missing[0]}, which has a pose: make it again")
    found = data[[row_of[number] for number in wanted], :4].astype(np.float64)
    if not (np.isfinite(found).all() and (found[:, :2] > 0).all()):
        raise InputError(f"{path} has focal lengths that are not above 0: make it again")
    return found + np.array([0.0, 0.0, HALF_PIXEL, HALF_PIXEL])


def _numbers(path: Path) -> tuple[int, ...]:
    inds = read_npz_array(path, "inds")
    if inds is None or inds.ndim != 1 or inds.dtype.kind not in "ui" or len(set(inds.tolist())) != len(inds):
        raise InputError(f"{path} has no list 'inds' of different frame numbers: make it again")
    return tuple(int(number) for number in inds)


def _archive(path: Path) -> Path | None:
    """The zip with the depth: the path itself, or the one in its folder ``depth``."""
    if path.is_file():
        return path if path.suffix.lower() == ".zip" else None
    return _only(path / "depth", ".zip") if (path / "pose").is_dir() or (path / "intrinsics").is_dir() else None


def _only(folder: Path, suffix: str) -> Path | None:
    """The one file of a suffix in a folder; None where there is none. Raises InputError where there are several."""
    found = sorted(folder.glob(f"*{suffix}"))
    if len(found) > 1:
        raise InputError(
            f"{folder} holds {len(found)} clips ({found[0].stem}, {found[1].stem}, ...): copy what is of one clip into "
            f"a folder of its own, or, for depth alone, give its zip in {folder.parent / 'depth'}"
        )
    return found[0] if found else None


class ExrZip:
    """Rows of a zip of EXR pictures called by their frame numbers; nothing is ever unpacked to the disk."""

    names, key = None, ".exr"

    def __init__(self, path: Path) -> None:
        """Raises InputError when it is no zip, or holds anything but pictures called by numbers."""
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(f"depth: {path} is not a readable zip ({error}): copy it again") from error
        entries = {}
        for entry in self._zip.infolist():
            match = FRAME.fullmatch(entry.filename)
            if match is None or entry.file_size > LARGEST_FRAME or int(match[1]) in entries:
                raise InputError(
                    f"depth: {path} holds '{entry.filename[:80]}' ({entry.file_size} bytes); only pictures called by "
                    "their frame numbers, such as 00000.exr, are expected"
                )
            entries[int(match[1])] = entry
        if not entries:
            raise InputError(f"depth: {path} holds no EXR pictures")
        self.numbers = tuple(sorted(entries))
        self._entries = [entries[number] for number in self.numbers]

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the first picture."""
        height, width = self.row(0).shape
        return width, height

    def row(self, index: int) -> np.ndarray:
        entry = self._entries[index]
        what = f"{self.path}: {entry.filename}"
        try:
            with self._zip.open(entry) as stream:
                data = stream.read(entry.file_size)
        except ZIP_DAMAGE as error:
            raise InputError(f"depth: {what} is damaged ({error}): copy it again") from error
        return decode_exr(data, what, ("Z", "Y", "R"))

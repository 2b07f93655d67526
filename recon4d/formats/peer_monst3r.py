"""MonST3R's folder: ``frame_0000.npy``, ``conf_0.npy``, ``pred_traj.txt``, ``pred_intrinsics.txt``."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.depth_files import read_depth_file
from recon4d.formats.matrices import pinhole_of
from recon4d.formats.peers import PeerCameras, PeerDepth, PicturePart
from recon4d.scene.depth import DepthKind
from recon4d.scene.transforms import Rigid3

TRAJECTORY, INTRINSICS = "pred_traj.txt", "pred_intrinsics.txt"
LONG_SIDE, GRID = 512, 16  # its pictures are resized to this side, and cut to such steps
DOUBTFUL = 0.1  # its viewer drops points whose confidence is below 1.1


def read_monst3r(path: Path, key: str | None) -> PeerDepth | None:
    """Depth z of one unknown scale, and confidence; the pictures and masks beside them are not read."""
    if not _is_monst3r(path):
        return None
    frames = _numbered(path, "frame_")
    trust = _Logarithms(_numbered(path, "conf_").files) if (path / "conf_0.npy").is_file() else None
    if trust is not None and len(trust) != len(frames):
        raise InputError(f"depth: {path} has {len(frames)} frames and {len(trust)} conf_*.npy: copy it again")
    return PeerDepth(
        frames,
        program="MonST3R",
        kind=DepthKind.SCALE_FREE_Z,
        why="depth as MonST3R writes it, of unknown size",
        numbers=tuple(range(len(frames))),
        trust=trust,
        doubtful=DOUBTFUL,
        part=_part,
    )


def monst3r_cameras(path: Path) -> PeerCameras | None:
    """Camera-to-world as ``i x y z qw qx qy qz``, and a 3x3 matrix per line in pixels of its pictures.

    Raises InputError.
    """
    if not _is_monst3r(path):
        return None
    rows = _numbers(path / TRAJECTORY, 8)
    quat_xyzw = rows[:, [5, 6, 7, 4]]  # it writes qw first, unlike TUM
    if (np.linalg.norm(quat_xyzw, axis=1) < 1e-6).any():
        raise InputError(f"{path / TRAJECTORY} has a quaternion of 0: make it again")
    matrices = Rigid3.from_quat_xyzw(quat_xyzw, rows[:, 1:4]).matrix[:, :3]
    pinhole = None
    if (path / INTRINSICS).is_file():
        intrinsics = _numbers(path / INTRINSICS, 9)
        if len(intrinsics) not in (1, len(rows)):
            raise InputError(
                f"{path / INTRINSICS} has {len(intrinsics)} lines, {len(rows)} are expected as in {TRAJECTORY}"
            )
        pinhole = np.broadcast_to(pinhole_of(intrinsics.reshape(-1, 3, 3), str(path / INTRINSICS)), (len(rows), 4))
    height, width = _numbered(path, "frame_").row(0).shape
    return PeerCameras("MonST3R", matrices, pinhole, (width, height), numbers=tuple(range(len(rows))), part=_part)


def _is_monst3r(path: Path) -> bool:
    return (path / TRAJECTORY).is_file() and (path / "frame_0000.npy").is_file()


def _part(width: int, height: int) -> tuple[PicturePart, tuple[int, int]]:
    """It resizes the longer side to 512 and cuts evenly on both sides; square pictures become 4:3."""
    longest = max(width, height)
    wide, high = (round(side * LONG_SIDE / longest) for side in (width, height))
    half_wide, half_high = (2 * (side // 2) // GRID * (GRID // 2) for side in (wide, high))
    if wide == high:
        half_high = 3 * half_wide // 4
    part = PicturePart(wide, high, wide // 2 - half_wide, high // 2 - half_high)
    return part, (2 * half_wide, 2 * half_high)


class _Rows:
    """One npy file per row."""

    names, key = None, ".npy"

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def row(self, index: int) -> np.ndarray:
        return read_depth_file(self.files[index])


class _Logarithms(_Rows):
    """Confidence whose logarithm was stored."""

    def row(self, index: int) -> np.ndarray:
        return np.exp(np.minimum(super().row(index).astype(np.float32), 20.0))


def _numbered(path: Path, prefix: str) -> _Rows:
    """The files PREFIX0.npy, PREFIX1.npy, ... of any number of digits. Raises InputError when one is missing."""
    found = {}
    for file in path.glob(f"{prefix}*.npy"):
        match = re.fullmatch(re.escape(prefix) + r"([0-9]{1,9})\.npy", file.name)
        if match:
            found[int(match[1])] = file
    missing = next((number for number in range(len(found)) if number not in found), None)
    if missing is not None:
        raise InputError(
            f"depth: {path} has {len(found)} files {prefix}*.npy, but none of number {missing}: copy it again"
        )
    return _Rows([found[number] for number in range(len(found))])


def _numbers(path: Path, count: int) -> np.ndarray:
    """(N, count) numbers of the lines of a text. Raises InputError."""
    try:
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        values = np.array([[float(word) for word in row] for row in rows], dtype=np.float64)
    except (OSError, ValueError) as error:  # a word that is no number, lines of different length, no text
        raise InputError(f"{path} is not readable ({error}): {count} numbers per line are expected") from error
    if values.ndim != 2 or values.shape[1] != count or not np.isfinite(values).all():
        raise InputError(f"{path} does not have {count} finite numbers in every line: make it again")
    return values

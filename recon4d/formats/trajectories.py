"""Trajectories as text: TUM (time, position, quaternion) and KITTI (3x4 matrix per line), both camera-to-world."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.matrices import are_rotations
from recon4d.scene.transforms import Rigid3


def read_tum(path: Path) -> tuple[np.ndarray, Rigid3]:
    """Times (N,) float64 seconds and ``world_from_cam`` (N,) of lines ``t tx ty tz qx qy qz qw``.

    Lines that start with ``#`` and empty lines are skipped; the quaternion may have any length but 0.

    Raises:
        InputError: the file is missing, has no pose, or a line does not hold 8 finite numbers.
    """
    rows = _number_rows(path, 8, "timestamp tx ty tz qx qy qz qw")
    values = np.array([row for _, row in rows])
    for (line, _), length in zip(rows, np.linalg.norm(values[:, 4:], axis=1)):
        if length < 1e-6:
            raise InputError(f"{path}, line {line}: the quaternion is 0, a rotation qx qy qz qw is expected")
    return values[:, 0], Rigid3.from_quat_xyzw(values[:, 4:], values[:, 1:4])


def write_tum(path: Path, timestamps_s: np.ndarray, world_from_cam: Rigid3) -> None:
    """Write times (N,) and poses (N,) as ``t tx ty tz qx qy qz qw``."""
    lines = ["# timestamp tx ty tz qx qy qz qw   (camera-to-world; x right, y down, z forward)\n"]
    for time_s, position, quat in zip(timestamps_s, world_from_cam.translation, world_from_cam.quat_xyzw):
        lines.append(f"{time_s:.9f} " + _numbers([*position, *quat]))
    path.write_text("".join(lines), encoding="utf-8")


def read_kitti(path: Path) -> Rigid3:
    """``world_from_cam`` (N,) of lines with the 12 numbers of the 3x4 matrix, row by row.

    Raises:
        InputError: the file is missing, has no pose, or a line does not hold 12 finite numbers with a rotation.
    """
    rows = _number_rows(path, 12, "the 3x4 matrix row by row")
    matrices = np.array([row for _, row in rows]).reshape(-1, 3, 4)
    for (line, _), is_one in zip(rows, are_rotations(matrices[:, :, :3])):
        if not is_one:
            raise InputError(f"{path}, line {line}: the left 3x3 part is not a rotation (R R^T differs from 1)")
    return Rigid3.from_matrix(matrices)


def write_kitti(path: Path, world_from_cam: Rigid3) -> None:
    """Write poses (N,) as 12 numbers per line."""
    path.write_text("".join(_numbers(matrix[:3].ravel()) for matrix in world_from_cam.matrix), encoding="utf-8")


def write_times(path: Path, timestamps_s: np.ndarray) -> None:
    """Write times (N,) seconds, one per line: KITTI's `times.txt`."""
    path.write_text("".join(f"{time_s:.9f}\n" for time_s in timestamps_s), encoding="utf-8")


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.12g}" for value in values) + "\n"


def _number_rows(path: Path, count: int, meaning: str) -> list[tuple[int, list[float]]]:
    """Line number and numbers of every line that is not empty or a comment."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path} was not found") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is not a readable text file ({error}): {count} numbers per line are expected"
        ) from None
    rows = []
    for number, line in enumerate(lines, start=1):
        words = line.replace(",", " ").split()
        if not words or words[0].startswith("#"):
            continue
        try:
            row = [float(word) for word in words]
        except ValueError:
            row = []
        if len(row) != count or not np.isfinite(row).all():
            raise InputError(f"{path}, line {number}: {line[:60]!r} is not {count} finite numbers ({meaning})")
        rows.append((number, row))
    if not rows:
        raise InputError(f"{path} has no pose: lines of {count} numbers are expected ({meaning})")
    return rows

"""Corrected cameras for the stage refine: asked for once, between the first walk and the rest, and kept in the part."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.formats.arrays import read_arrays, write_arrays
from recon4d.formats.cameras_json import read_trajectory, write_trajectory
from recon4d.formats.text_files import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recon4d.refine.cameras import CameraFrame
    from recon4d.scene.sparse import SparseModel
    from recon4d.scene.trajectory import Trajectory
    from recon4d.stages.refine_walks import Walks

SIZE = 160  # of the longer side: cameras need no fine pictures
COMPARED = 8  # other frames
SIGMA = 0.03  # of log inverse depth after a walk, at a chance of one; it is divided by the chance
FILES = ("corrected.json", "corrected.npz", "corrected_report.json")


@dataclass(frozen=True)
class Cameras:
    """Cameras and what goes with them."""

    trajectory: Trajectory
    model: SparseModel
    depth_ratio: np.ndarray  # (N,) what depth reckoned with the cameras before is to be multiplied with
    report: dict[str, object]  # in plain numbers and words; empty where nothing was asked for


def as_they_are(trajectory: Trajectory, model: SparseModel) -> Cameras:
    """The cameras of structure from motion."""
    return Cameras(trajectory, model, np.ones(len(trajectory)), {})


def corrected(cameras: Cameras, walks: Walks, neighbours: Sequence[Sequence[int]], part: Path, workers: int) -> Cameras:
    """Cameras under which the depth of the first walk makes the frames look most alike; read where they are known."""
    from recon4d.refine.cameras import CameraOptions, correct_cameras

    names, arrays, told = (part / name for name in FILES)
    if not told.exists():
        frames, options = _Frames(walks, len(cameras.trajectory)), CameraOptions(workers=workers)
        found = correct_cameras(cameras.trajectory, frames, neighbours, cameras.model, options)
        report = found.report
        write_trajectory(names, found.trajectory)
        write_arrays(arrays, points=found.points, depth_ratio=found.depth_ratio)
        numbers = {
            "changed": report.changed,
            "reason": report.reason,
            "rotation_deg": float(np.median(report.rotation_deg)),
            "translation": float(np.median(report.translation)),
            "focal_change": float(np.median(report.focal_change)),
            "unlike": _known(report.unlike_before, report.unlike_after),
            "reprojection_px": _known(report.reprojection_px_before, report.reprojection_px_after),
        }
        write_text(told, json.dumps(numbers))
    kept = read_arrays(arrays)
    return Cameras(
        read_trajectory(names),
        replace(cameras.model, points=kept["points"]),
        kept["depth_ratio"],
        json.loads(told.read_text(encoding="utf-8")),
    )


def _known(*values: float) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in values]


class _Frames:
    """The frames of a clip at the size for cameras, each made when it is asked for."""

    def __init__(self, walks: Walks, count: int) -> None:
        self._walks, self._count = walks, count
        self._frame = walks.pictures.remembered(self._made)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, i: int) -> CameraFrame:
        if not 0 <= i < self._count:
            raise IndexError(i)
        return self._frame(i)

    def _made(self, i: int) -> CameraFrame:
        import cv2

        from recon4d.refine.cameras import CameraFrame

        found, grey = self._walks.read(0, i), self._walks.pictures.grey(i).grey
        height, width = grey.shape
        scale = min(1.0, SIZE / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))

        def smaller(values: np.ndarray, how: int) -> np.ndarray:
            return cv2.resize(values.astype(np.float32), size, interpolation=how)

        moving = self._walks.moving(i)
        return CameraFrame(
            grey=smaller(grey, cv2.INTER_AREA),
            x=smaller(found.x, cv2.INTER_NEAREST),
            sigma=smaller(SIGMA / np.maximum(found.chance, 0.1), cv2.INTER_NEAREST),
            static=smaller(~moving, cv2.INTER_NEAREST),
        )

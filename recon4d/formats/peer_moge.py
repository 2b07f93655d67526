"""MoGe's maps: a folder per picture with ``depth.exr``, ``fov.json``, and from version 2 ``normal.png``."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.exr_files import read_exr
from recon4d.formats.natural import natural_key
from recon4d.formats.peers import PeerCameras, PeerDepth
from recon4d.scene.depth import DepthKind

DEPTH, FIELD_OF_VIEW, NORMALS = "depth.exr", "fov.json", "normal.png"


def read_moge(path: Path, key: str | None) -> PeerDepth | None:
    """z-depth, infinite where there is none; the rows are called by the folders, as the pictures were."""
    folders = _folders(path)
    if not folders:
        return None
    metric = all((folder / NORMALS).is_file() for folder in folders)
    return PeerDepth(
        _Maps(folders),
        program="MoGe",
        kind=DepthKind.METRIC_Z if metric else DepthKind.SCALE_FREE_Z,
        why="maps of MoGe 2, in metres"
        if metric
        else "maps of MoGe without normals, as version 1 writes them, of "
        "unknown size; say --depth.kind metric_z for version 2",
    )


def moge_cameras(path: Path) -> PeerCameras | None:
    """The field of view of each picture: no poses, and the principal point in the middle. Raises InputError."""
    folders = _folders(path)
    if not folders:
        return None
    height, width = _Maps(folders).row(0).shape  # pictures of one recording have one size
    lenses = np.array([_pinhole(folder / FIELD_OF_VIEW, width, height) for folder in folders])
    return PeerCameras("MoGe", None, lenses, (width, height), names=tuple(f.name for f in folders))


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    if (path / DEPTH).is_file():
        return [path]
    return sorted((f.parent for f in path.glob(f"*/{DEPTH}")), key=lambda folder: natural_key(folder.name))


def _pinhole(path: Path, width: int, height: int) -> tuple[float, float, float, float]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        across, down = (math.radians(float(content[name])) for name in ("fov_x", "fov_y"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not readable ({error}): 'fov_x' and 'fov_y' in degrees are expected") from error
    if not (0 < across < math.pi and 0 < down < math.pi):
        raise InputError(f"{path} has a field of view that is not between 0 and 180 degrees: make it again")
    return width / (2 * math.tan(across / 2)), height / (2 * math.tan(down / 2)), width / 2, height / 2


class _Maps:
    key = ".exr"

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders
        self.names = tuple(folder.name for folder in folders)

    def __len__(self) -> int:
        return len(self._folders)

    def row(self, index: int) -> np.ndarray:
        return read_exr(self._folders[index] / DEPTH)

"""`depth/SOURCE/windows.json` and `depth/SOURCE/overlap/NAME.npz`: the windows in which a video model worked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.arrays import read_arrays, write_arrays
from recon4d.scene.windows import DepthWindows, OverlapPair

FILE, FOLDER = "windows.json", "overlap"


def write_windows(folder: Path, windows: Sequence[Sequence[str]]) -> None:
    """``{"windows": [[first NAME, last NAME], ...]}``, from the names of the frames of each window, in order."""
    ends = [[names[0], names[-1]] for names in windows]
    (folder / FILE).write_text(json.dumps({"windows": ends}, indent=1) + "\n", encoding="utf-8")


def write_overlap(folder: Path, name: str, pair: OverlapPair) -> None:
    """``overlap/NAME.npz`` with ``earlier``, ``later`` (h, w) float32 and ``valid`` (h, w) bool."""
    (folder / FOLDER).mkdir(exist_ok=True)
    write_arrays(
        folder / FOLDER / f"{name}.npz",
        earlier=np.asarray(pair.earlier, dtype=np.float32),
        later=np.asarray(pair.later, dtype=np.float32),
        valid=np.asarray(pair.valid, dtype=bool),
    )


def read_windows(folder: Path, names: Sequence[str]) -> DepthWindows | None:
    """Windows over these frames, in order; None where the source has none. Overlaps are read when asked for.

    Raises:
        InputError: the file is damaged, or names frames that are not among these.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        ends = json.loads(path.read_text(encoding="utf-8"))["windows"]
        row_of = {name: row for row, name in enumerate(names)}
        rows = [(row_of[first], row_of[last]) for first, last in ends]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} does not hold windows from frame to frame of the scene ({error!r})") from error
    if not rows or any(last < first for first, last in rows):
        raise InputError(f"{path} holds no window, or one that ends before it begins")
    windows = tuple(tuple(names[first : last + 1]) for first, last in rows)
    return DepthWindows(windows, lambda name: read_overlap(folder, name))


def read_overlap(folder: Path, name: str) -> OverlapPair | None:
    """A frame as two windows saw it; None where the source gave no such pair. Raises InputError when damaged."""
    path = folder / FOLDER / f"{name}.npz"
    if not path.exists():
        return None
    arrays = read_arrays(path)
    try:
        pair = OverlapPair(*(arrays[field] for field in OverlapPair._fields))
    except KeyError as error:
        raise InputError(f"{path} has no array {error}, earlier, later and valid are expected") from None
    if pair.earlier.ndim != 2 or not pair.earlier.shape == pair.later.shape == pair.valid.shape:
        shapes = ", ".join(str(array.shape) for array in pair)
        raise InputError(f"{path} has arrays of shape {shapes}, one (h, w) is expected")
    if pair.valid.dtype != bool or not all(np.isfinite(grid[pair.valid]).all() for grid in pair[:2]):
        raise InputError(f"{path} has a valid value that is not finite, or valid is not bool")
    return pair

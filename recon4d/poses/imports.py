"""Poses that somebody else made: COLMAP, transforms.json, TUM, KITTI, an npz or a program with depth, as one table."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon4d.errors import InputError, PosesError
from recon4d.formats.arrays import read_arrays
from recon4d.formats.colmap_model import read_reconstruction
from recon4d.formats.matrices import pinhole_of, rigid_of
from recon4d.formats.row_numbers import rows_by_count
from recon4d.formats.trajectories import read_kitti, read_tum
from recon4d.formats.transforms_json import read_transforms
from recon4d.poses.import_peers import read_peers
from recon4d.poses.import_rgbd import read_rgbd_poses
from recon4d.poses.import_rows import COLMAP_PLACES, ImportedPoses
from recon4d.poses.lens import Lens
from recon4d.scene.recording import Recording
from recon4d.scene.transforms import Rigid3


@dataclass(frozen=True)
class Matching:
    """Which row of an import belongs to which frame."""

    row_of: dict[str, int]  # by frame name
    rule: str  # one sentence


def read_import(path: Path) -> ImportedPoses:
    """Read poses of any of the known kinds. Raises InputError."""
    if not path.exists():
        raise InputError(f"poses: {path} was not found: check --poses.path")
    for reader in (read_peers, read_rgbd_poses):
        found = reader(path)
        if found is not None:
            return found
    if path.is_dir():
        return _read_colmap(path)
    if path.suffix.lower() == ".json":
        return _read_transforms(path)
    if path.suffix.lower() == ".npz" or zipfile.is_zipfile(path):
        return _read_npz(path)
    return _read_text(path)


def _read_colmap(path: Path) -> ImportedPoses:
    found = [path / place for place in COLMAP_PLACES if any((path / place).glob("images.*"))]
    model = read_reconstruction(found[0] if found else path)
    images = sorted((model.images[i] for i in model.reg_image_ids()), key=lambda image: image.name)
    if not images:
        raise InputError(f"poses: the COLMAP model in {path} has no registered image")
    matrices = np.array([image.cam_from_world().matrix() for image in images])
    return ImportedPoses(
        kind="COLMAP model",
        world_from_cam=Rigid3.from_matrix(matrices).inverse(),
        names=tuple(image.name for image in images),
        lenses=tuple(Lens.from_native(image.camera) for image in images),
        model=model if model.num_points3D() else None,
    )


def _read_transforms(path: Path) -> ImportedPoses:
    content = read_transforms(path)
    return ImportedPoses(
        kind="transforms.json",
        world_from_cam=content.world_from_cam,
        names=tuple(frame.file_path for frame in content.frames),
        lenses=tuple(Lens(frame.model, frame.width, frame.height, frame.params) for frame in content.frames),
        missing=content.missing,
    )


def _read_npz(path: Path) -> ImportedPoses:
    arrays = read_arrays(path)
    if "poses" not in arrays:
        raise InputError(
            f"poses: {path} has the keys {', '.join(sorted(arrays))}: 'poses' (N,4,4) camera-to-world and 'intrinsics' "
            "(N,3,3) or (3,3) in pixels are expected"
        )
    poses = rigid_of(arrays["poses"], f"poses: 'poses' in {path}")
    names = tuple(str(name) for name in arrays["names"]) if "names" in arrays else None
    if names is not None and len(names) != len(poses):
        raise InputError(f"poses: {path} has {len(names)} names and {len(poses)} poses")
    lenses, has_size = _npz_lenses(path, arrays, len(poses))
    return ImportedPoses("npz", Rigid3.from_matrix(poses), names=names, lenses=lenses, lens_has_size=has_size)


def _npz_lenses(path: Path, arrays: dict[str, np.ndarray], count: int) -> tuple[tuple[Lens, ...] | None, bool]:
    if "intrinsics" not in arrays:
        return None, True
    matrices = arrays["intrinsics"]
    if matrices.shape not in ((3, 3), (1, 3, 3), (count, 3, 3)):
        raise InputError(
            f"poses: 'intrinsics' in {path} is {matrices.shape}, ({count},3,3) or (3,3) matrices in pixels are expected"
        )
    rows = pinhole_of(np.broadcast_to(matrices, (count, 3, 3)), f"poses: {path}")
    depths = arrays.get("depths", arrays.get("depth"))
    height, width = depths.shape[1:3] if depths is not None and depths.ndim >= 3 else (0, 0)
    return tuple(Lens("PINHOLE", width, height, tuple(float(value) for value in row)) for row in rows), width > 0


def _read_text(path: Path) -> ImportedPoses:
    """TUM or KITTI, told apart by the numbers in the first line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    first = next((line for line in lines if line.strip() and not line.lstrip().startswith("#")), "")
    count = len(first.replace(",", " ").split())
    if count == 8:
        timestamps_s, world_from_cam = read_tum(path)
        return ImportedPoses("TUM trajectory", world_from_cam, timestamps_s=timestamps_s)
    if count == 12:
        return ImportedPoses("KITTI trajectory", read_kitti(path))
    raise InputError(
        f"poses: {path} is none of the known imports: a COLMAP model folder, transforms.json, a text file with 8 "
        "(TUM) or 12 (KITTI) numbers per line, or an npz with 'poses' is expected"
    )


def match_to_frames(
    imported: ImportedPoses, recording: Recording, source_frames: int, source_fps: float | None
) -> Matching:
    """Find the row of each frame: by name, else by time, else by place.

    Args:
        imported: the rows.
        recording: the chosen frames.
        source_frames: number of frames in the video or of pictures in the folder.
        source_fps: of the video; None for pictures.

    Raises:
        PosesError: no rule gives a row to any frame, or the number of rows says nothing.
    """
    if imported.names is not None:
        return _by_name(imported.names, recording)
    if imported.timestamps_s is not None:
        timed = _by_time(imported.timestamps_s, recording, source_fps)
        if 2 * len(timed.row_of) >= len(recording):
            return timed
    return _by_row(imported, recording, source_frames)


def _by_name(names: Sequence[str], recording: Recording) -> Matching:
    rows: dict[str, int] = {}
    for row, name in enumerate(names):
        rows.setdefault(Path(name).name, row)
        rows.setdefault(Path(name).stem, row)
        if Path(name).suffix == "" or name not in rows:
            rows.setdefault(name, row)
    row_of = {}
    for frame in recording.frames:
        keys = (frame.source_name, Path(frame.source_name).stem, frame.name)
        if len({other.source_name for other in recording.frames}) == 1 and len(recording) > 1:
            keys = (frame.name,)  # a video: its one file name says nothing about the frame
        found = next((rows[key] for key in keys if key in rows), None)
        if found is not None:
            row_of[frame.name] = found
    if not row_of:
        raise PosesError(
            f"poses: none of the {len(names)} names in the import (such as {names[0]}) is the name of a frame (such as "
            f"{recording.names[0]}): rename them to the frames' names, see frames.csv"
        )
    return Matching(row_of, "by name")


def _by_time(timestamps_s: np.ndarray, recording: Recording, source_fps: float | None) -> Matching:
    """The nearest time within half a frame of the source (of the chosen frames, where the source has no rate)."""
    order = np.argsort(timestamps_s, kind="stable")
    times, wanted = timestamps_s[order], recording.timestamps_s
    interval_s = 1 / source_fps if source_fps else float(np.median(np.diff(wanted))) if len(wanted) > 1 else 1.0
    tolerance = 0.501 * interval_s  # a little more than half: times are written with few digits
    after = np.clip(np.searchsorted(times, wanted), 1, max(len(times) - 1, 1))
    after = np.minimum(after, len(times) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(np.abs(times[before] - wanted) <= np.abs(times[after] - wanted), before, after)
    gap = np.abs(times[nearest] - wanted)
    row_of = {name: int(order[row]) for name, row, far in zip(recording.names, nearest, gap) if far <= tolerance}
    return Matching(row_of, f"by time, nearest within {tolerance:.2g} s")


def _by_row(imported: ImportedPoses, recording: Recording, source_frames: int) -> Matching:
    count = len(imported.world_from_cam)
    found = rows_by_count(count, imported.numbers, recording, source_frames, f"poses: the poses of {imported.kind}")
    if found is not None:
        return Matching(found.row_of, found.rule)
    timed = "" if imported.timestamps_s is None else "its times are not those of the frames, and "
    raise PosesError(
        f"poses: the {imported.kind} has {count} poses; {timed}{len(recording)} (chosen frames) or {source_frames} "
        "(frames of the source) are expected: choose the frames it was made for with --frames.stride or "
        "--frames.max-frames"
    )

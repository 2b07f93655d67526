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
from recon4d.formats.trajectories import read_kitti, read_tum
from recon4d.formats.transforms_json import read_transforms
from recon4d.poses.import_peers import read_peers
from recon4d.poses.import_rgbd import read_rgbd_poses
from recon4d.poses.import_rows import ImportedPoses
from recon4d.poses.lens import Lens
from recon4d.scene.recording import Recording
from recon4d.scene.transforms import Rigid3

COLMAP_PLACES = (".", "sparse/0", "sparse", "0")


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
    poses = arrays["poses"].astype(np.float64)
    if poses.ndim != 3 or poses.shape[1:] not in ((4, 4), (3, 4)) or not len(poses) or not np.isfinite(poses).all():
        raise InputError(f"poses: 'poses' in {path} is {poses.shape} or not finite, (N,4,4) numbers are expected")
    rotation = poses[:, :3, :3]
    if np.abs(rotation @ np.swapaxes(rotation, 1, 2) - np.eye(3)).max() > 1e-2:
        raise InputError(f"poses: 'poses' in {path} hold matrices that are no rotations")
    names = tuple(str(name) for name in arrays["names"]) if "names" in arrays else None
    if names is not None and len(names) != len(poses):
        raise InputError(f"poses: {path} has {len(names)} names and {len(poses)} poses")
    lenses, has_size = _npz_lenses(path, arrays, len(poses))
    return ImportedPoses("npz", Rigid3.from_matrix(poses), names=names, lenses=lenses, lens_has_size=has_size)


def _npz_lenses(path: Path, arrays: dict[str, np.ndarray], count: int) -> tuple[tuple[Lens, ...] | None, bool]:
    if "intrinsics" not in arrays:
        return None, True
    matrices = np.broadcast_to(arrays["intrinsics"].astype(np.float64), (count, 3, 3)) if _is_k(arrays, count) else None
    if matrices is None or not (matrices[:, [0, 1], [0, 1]] > 0).all():
        raise InputError(
            f"poses: 'intrinsics' in {path} is {arrays['intrinsics'].shape}, ({count},3,3) or (3,3) matrices in pixels "
            "with focal lengths above 0 are expected"
        )
    depths = arrays.get("depths", arrays.get("depth"))
    height, width = depths.shape[1:3] if depths is not None and depths.ndim >= 3 else (0, 0)
    # Matrices in arrays come from programs that count pixel centres 0, 1, 2; ours are 0.5, 1.5, 2.5.
    lenses = tuple(
        Lens("PINHOLE", width, height, tuple(float(v) for v in (k[0, 0], k[1, 1], k[0, 2] + 0.5, k[1, 2] + 0.5)))
        for k in matrices
    )
    return lenses, width > 0


def _is_k(arrays: dict[str, np.ndarray], count: int) -> bool:
    return arrays["intrinsics"].shape in ((3, 3), (1, 3, 3), (count, 3, 3))


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
    if imported.numbers is not None and imported.numbers != tuple(range(count)):
        return _by_number(imported, recording, source_frames)
    if count == len(recording):
        return Matching({name: row for row, name in enumerate(recording.names)}, "by row, one row per chosen frame")
    if count == source_frames:
        return Matching(
            {frame.name: frame.source_index for frame in recording.frames}, "by row, one row per frame of the source"
        )
    timed = "" if imported.timestamps_s is None else "its times are not those of the frames, and "
    raise PosesError(
        f"poses: the {imported.kind} has {count} poses; {timed}{len(recording)} (chosen frames) or {source_frames} "
        "(frames of the source) are expected: choose the frames it was made for with --frames.stride or "
        "--frames.max-frames"
    )


def _by_number(imported: ImportedPoses, recording: Recording, source_frames: int) -> Matching:
    """A program that left frames out says which ones it has; it was given the source, or the chosen frames alone."""
    if max(imported.numbers) >= source_frames:
        raise PosesError(
            f"poses: the {imported.kind} has a pose of frame {max(imported.numbers)}, the source has {source_frames} "
            "frames: is it of another recording?"
        )
    row_of_number = {number: row for row, number in enumerate(imported.numbers)}
    row_of = {f.name: row_of_number[f.source_index] for f in recording.frames if f.source_index in row_of_number}
    return Matching(row_of, "by the numbers of the frames in the source")

"""Depth and cameras in one npz: MegaSaM, Depth Anything 3, Video-Depth-Anything."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.depth_files import DepthFiles, NpyStack, NpzArray, NpzStack, npz_shapes, read_npz_array
from recon4d.formats.matrices import pinhole_of, rigid_of
from recon4d.formats.peers import PeerCameras, PeerDepth, PicturePart, WithHoles
from recon4d.scene.depth import DepthKind

MEGASAM_RANGE = (1e-3, 1e2)  # to which it clips its depth
MEGASAM_PIXELS, MEGASAM_GRID = 384 * 512, 8  # its pictures have about so many pixels and sides in such steps
DA3_DOUBTFUL = 0.05  # its viewer drops points whose confidence is below 1.05
DA3_RESULTS = ("exports/npz/results.npz", "exports/mini_npz/results.npz", "exports/npy", "exports/mini_npy")


# -- MegaSaM -----------------------------------------------------------------------------------------------------------


def read_megasam(path: Path, key: str | None) -> PeerDepth | None:
    """``depths`` (T, h, w) z beside ``cam_c2w`` and ``intrinsic``; what was clipped is no depth."""
    if not _is_megasam(path) or key not in (None, "depths"):
        return None
    files = NpzStack(path, "depths")
    low, high = (np.float32(np.float16(bound)) for bound in MEGASAM_RANGE)
    return PeerDepth(
        WithHoles(files, lambda raw, _: (raw <= low) | (raw >= high)),
        program="MegaSaM",
        kind=DepthKind.SCALE_FREE_Z,
        why="depth as MegaSaM writes it, whose size is a learned guess; say --depth.kind metric_z to trust it",
        numbers=tuple(range(len(files))),
        part=_megasam_part,
    )


def megasam_cameras(path: Path) -> PeerCameras | None:
    """``cam_c2w`` (T, 4, 4) camera-to-world and one ``intrinsic`` (3, 3) in its pixels. Raises InputError."""
    if not _is_megasam(path):
        return None
    matrices = rigid_of(_needed(path, "cam_c2w"), f"{path}: 'cam_c2w'")
    intrinsic = _needed(path, "intrinsic")
    if intrinsic.shape != (3, 3):
        raise InputError(f"{path}: 'intrinsic' is {intrinsic.shape}, one (3, 3) matrix in pixels is expected")
    shape = npz_shapes(path)["depths"]
    return PeerCameras(
        "MegaSaM",
        matrices,
        pinhole_of(np.broadcast_to(intrinsic, (len(matrices), 3, 3)), str(path)),
        (shape[2], shape[1]) if len(shape) == 3 else None,
        numbers=tuple(range(len(matrices))),
        part=_megasam_part,
    )


def _is_megasam(path: Path) -> bool:
    return _is_npz(path) and {"depths", "cam_c2w", "intrinsic"} <= set(npz_shapes(path))


def _megasam_part(width: int, height: int) -> tuple[PicturePart, tuple[int, int]]:
    """It resizes to about 384x512 pixels and cuts the right and the lower border off, up to 7 pixels each."""
    shrink = math.sqrt(MEGASAM_PIXELS / (width * height))
    wide, high = int(width * shrink), int(height * shrink)
    return PicturePart(wide, high, 0, 0), (wide - wide % MEGASAM_GRID, high - high % MEGASAM_GRID)


# -- Depth Anything 3 --------------------------------------------------------------------------------------------------


def read_depth_anything_3(path: Path, key: str | None) -> PeerDepth | None:
    """``depth`` (N, h, w) z with ``conf`` (N, h, w), or the same names as npy files of one folder."""
    place = _da3_place(path)
    if place is None:
        return None
    name = "depth" if place.is_dir() or "depth" in npz_shapes(place) else "depths"
    if key not in (None, name):
        return None
    files = _stack(place, name)
    trust = _same_grid(place, files, "conf")
    sky = _same_grid(place, files, "sky")
    return PeerDepth(
        files if sky is None else WithHoles(files, lambda _, row: sky.row(row).astype(np.float32) > 0.5),
        program="Depth Anything 3",
        kind=DepthKind.SCALE_FREE_Z,
        why="depth as Depth Anything 3 writes it; in metres only from its nested model, then say --depth.kind metric_z",
        numbers=tuple(range(len(files))),
        trust=trust,
        doubtful=DA3_DOUBTFUL,
    )


def depth_anything_3_cameras(path: Path) -> PeerCameras | None:
    """``extrinsics`` (N, 3, 4) world-to-camera and ``intrinsics`` (N, 3, 3) at the size of its depth.

    Raises InputError.
    """
    place = _da3_place(path)
    if place is None:
        return None
    extrinsics = _needed(place, "extrinsics", "its single-picture models give no cameras; use poses from elsewhere")
    cam_from_world = rigid_of(extrinsics, f"{place}: 'extrinsics'")
    rotation = np.swapaxes(cam_from_world[:, :, :3], 1, 2)
    centre = -np.einsum("nij,nj->ni", rotation, cam_from_world[:, :, 3])
    matrices = np.concatenate([rotation, centre[:, :, None]], axis=2)
    intrinsics = _optional(place, "intrinsics")
    if intrinsics is not None and intrinsics.shape != (len(matrices), 3, 3):
        raise InputError(f"{place}: 'intrinsics' is {intrinsics.shape}, ({len(matrices)}, 3, 3) in pixels is expected")
    shape = _depth_shape(place)
    return PeerCameras(
        "Depth Anything 3",
        matrices,
        None if intrinsics is None else pinhole_of(intrinsics, str(place)),
        (shape[2], shape[1]),
        numbers=tuple(range(len(matrices))),
    )


def _da3_place(path: Path) -> Path | None:
    """The npz, or the folder with npy files, of an export of Depth Anything 3; None when it is none."""
    for place in (path, *(path / result for result in DA3_RESULTS)):
        if _is_npz(place):
            shapes = npz_shapes(place)
            stack = shapes.get("depth", shapes.get("depths", ()))
            known = "extrinsics" in shapes or ("conf" in shapes and place.stem == "results")
            if known and len(stack) in (3, 4) and not {"poses", "video"} & set(shapes):  # others' names, other rules
                return place
        elif (place / "depth.npy").is_file() and any((place / f"{n}.npy").is_file() for n in ("conf", "extrinsics")):
            return place
    return None


def _depth_shape(place: Path) -> tuple[int, ...]:
    stack = _stack(place, "depth" if place.is_dir() or "depth" in npz_shapes(place) else "depths")
    return (len(stack), *stack.row(0).shape)


def _same_grid(place: Path, files: DepthFiles, name: str) -> DepthFiles | None:
    """Numbers for each pixel of the depth, under another name. Raises InputError when they do not fit."""
    if not (place / f"{name}.npy").is_file() if place.is_dir() else name not in npz_shapes(place):
        return None
    other = _stack(place, name)
    ours, theirs = ((len(stack), *stack.row(0).shape) for stack in (files, other))
    if ours != theirs:
        raise InputError(f"depth: '{name}' in {place} is {theirs}, the depth is {ours}: both belong together")
    return other


# -- Video-Depth-Anything ----------------------------------------------------------------------------------------------


def read_video_depth_anything(path: Path, key: str | None) -> PeerDepth | None:
    """``depths`` (T, h, w) alone in ``NAME_depths.npz``: disparity of the usual models, z of the metric ones."""
    if not (_is_npz(path) and path.stem.endswith("_depths")) or key not in (None, "depths"):
        return None
    if set(npz_shapes(path)) != {"depths"}:
        return None
    return video_depth_anything(NpzStack(path, "depths"))


def video_depth_anything(files: DepthFiles) -> PeerDepth:
    """Rows of that program, in whatever files it wrote them."""
    return PeerDepth(
        files,
        program="Video-Depth-Anything",
        kind=DepthKind.AFFINE_DISPARITY,
        why="as Video-Depth-Anything writes it; its metric models give metric_z",
        otherwise=DepthKind.METRIC_Z,
        numbers=tuple(range(len(files))),
    )


# -- shared ------------------------------------------------------------------------------------------------------------


def _is_npz(path: Path) -> bool:
    return path.suffix.lower() == ".npz" and path.is_file()


def _stack(place: Path, name: str) -> DepthFiles:
    if place.is_dir():
        return NpyStack(place / f"{name}.npy")
    return NpzStack(place, name) if name in ("depth", "depths") else _Named(place, name)


class _Named(NpzArray):
    """An array beside the depth; its rows have the names of the depth's."""

    names = None


def _optional(place: Path, name: str) -> np.ndarray | None:
    if not place.is_dir():
        return read_npz_array(place, name)
    path = place / f"{name}.npy"
    try:
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False)) if path.is_file() else None
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path} is not a readable npy file ({error}): make it again") from error


def _needed(place: Path, name: str, way_out: str = "make it again") -> np.ndarray:
    found = _optional(place, name)
    if found is None:
        raise InputError(f"{place} has no '{name}': {way_out}")
    return found

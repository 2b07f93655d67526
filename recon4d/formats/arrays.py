"""Named arrays in one `.npz`, readable by `numpy.load`, the same bytes for the same arrays."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from recon4d.errors import InputError
from recon4d.scene.depth import DepthKind, DepthMap, SceneDepth
from recon4d.scene.mesh import DepthMesh
from recon4d.scene.motion import FrameMotion
from recon4d.scene.scene_flow import SceneFlow

FAST = 1  # of zlib's levels

# What reading a damaged, encrypted or oddly packed member of a zip raises; the last one is the base of several.
ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError)
# What numpy and zipfile raise on damaged, encrypted, strangely packed or lying files. InputError is none of these.
DAMAGE = (*ZIP_DAMAGE, ValueError, TypeError, OverflowError, MemoryError, SyntaxError, tokenize.TokenError)


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays with fast deflate; `numpy.savez_compressed` takes three times as long for 1 % less."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # its default date makes files reproducible
            entry.compress_type = zipfile.ZIP_DEFLATED
            # An entry of its own does not take the archive's level; before Python 3.13 it has a private name.
            setattr(entry, "compress_level" if hasattr(entry, "compress_level") else "_compresslevel", FAST)
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz. Raises InputError when the file is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise InputError(f"{path} was not found") from None
    except DAMAGE as error:
        raise InputError(f"{path} is not a readable npz file ({error}): make it again") from error


def write_depth_map(path: Path, depth: DepthMap) -> None:
    """`depth/SOURCE/NAME.npz`; the kind is in the stage's record."""
    write_arrays(path, values=depth.values, valid=depth.valid, confidence=depth.confidence, provenance=depth.provenance)


def read_depth_map(path: Path, kind: DepthKind) -> DepthMap:
    """Reverse of `write_depth_map`."""
    return DepthMap(kind, **read_arrays(path))


def write_scene_depth(path: Path, surface: SceneDepth) -> None:
    """`align/NAME.npz`."""
    write_arrays(path, depth=surface.depth, valid=surface.valid, sigma=surface.sigma, provenance=surface.provenance)


def read_scene_depth(path: Path) -> SceneDepth:
    """`align/NAME.npz`, `mesh/NAME.npz` or `refine/NAME.npz` without the joins."""
    arrays = read_arrays(path)
    return SceneDepth(*(arrays[field] for field in ("depth", "valid", "sigma", "provenance")))


def write_depth_mesh(path: Path, mesh: DepthMesh) -> None:
    """`mesh/NAME.npz`, `refine/NAME.npz`."""
    surface = mesh.surface
    write_arrays(
        path,
        depth=surface.depth,
        valid=surface.valid,
        sigma=surface.sigma,
        provenance=surface.provenance,
        join_right=mesh.join_right,
        join_down=mesh.join_down,
    )


def read_depth_mesh(path: Path) -> DepthMesh:
    """Reverse of `write_depth_mesh`."""
    arrays = read_arrays(path)
    surface = SceneDepth(*(arrays[field] for field in ("depth", "valid", "sigma", "provenance")))
    return DepthMesh(surface, arrays["join_right"], arrays["join_down"])


def write_motion(path: Path, motion: FrameMotion) -> None:
    """`motion/NAME.npz`; flow in half precision, good to an eighth of a pixel at 256 px and better below."""
    write_arrays(
        path,
        moving=motion.moving,
        flow_next=motion.flow_next.astype(np.float16),
        flow_prev=motion.flow_prev.astype(np.float16),
        object_id=motion.object_id,
    )


def read_motion(path: Path) -> FrameMotion:
    """Reverse of `write_motion`."""
    return FrameMotion(**read_arrays(path))


def write_scene_flow(path: Path, flow: SceneFlow) -> None:
    """`fuse/scene_flow/NAME.npz`; half precision, good to a two-thousandth of the way."""
    write_arrays(path, next=flow.next.astype(np.float16), prev=flow.prev.astype(np.float16))


def read_scene_flow(path: Path) -> SceneFlow:
    """Reverse of `write_scene_flow`."""
    return SceneFlow(**read_arrays(path))

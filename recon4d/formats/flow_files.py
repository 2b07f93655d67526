"""Optical flow in files: Middlebury's .flo, KITTI's 16-bit PNG, and arrays. In memory: pixels, NaN where not known."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.arrays import read_arrays

FLOW_SUFFIXES = (".flo", ".png", ".npy", ".npz")
FLO_HEADER = struct.Struct("<4sii")  # magic, width, height
FLO_MAGIC = b"PIEH"  # 202021.25 as a float
FLO_UNKNOWN, FLO_LARGEST = 1e10, 1e9  # larger numbers mean: not known
KITTI_STEPS, KITTI_ZERO = 64.0, 1 << 15  # per pixel; the number that stands for no motion
KEYS = ("flow", "arr_0")


def read_flow(path: Path) -> np.ndarray:
    """(H, W, 2) float32 flow of a file, pixels right and down, NaN where it is not known.

    An array is (H, W, 2) or (2, H, W); that of an npz is called flow, or is the only one.

    Raises:
        InputError: missing, damaged, or no flow.
    """
    readers = {".flo": read_flo, ".png": read_kitti_flow, ".npy": _read_npy, ".npz": _read_npz}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"flow: {path} is none of {', '.join(FLOW_SUFFIXES)}")
    if not path.is_file():
        raise InputError(f"flow: {path} was not found")
    return reader(path)


def read_flo(path: Path) -> np.ndarray:
    """Middlebury's format. Raises InputError."""
    data = path.read_bytes()
    magic, width, height = FLO_HEADER.unpack_from(data) if len(data) >= FLO_HEADER.size else (b"", 0, 0)
    if magic != FLO_MAGIC or width < 1 or height < 1:
        raise InputError(f"flow: {path} is no .flo file: it does not start with PIEH, a width and a height")
    expected = FLO_HEADER.size + 8 * width * height
    if len(data) != expected:
        raise InputError(f"flow: {path} has {len(data)} bytes, {expected} are expected for {width}x{height} pixels")
    flow = np.frombuffer(data, dtype="<f4", offset=FLO_HEADER.size).reshape(height, width, 2)
    return _known(flow, np.abs(np.nan_to_num(flow, nan=np.inf)).max(axis=-1) <= FLO_LARGEST)


def write_flo(path: Path, flow: np.ndarray) -> None:
    """Middlebury's format, exact."""
    known = np.isfinite(flow).all(axis=-1, keepdims=True)
    header = FLO_HEADER.pack(FLO_MAGIC, flow.shape[1], flow.shape[0])
    path.write_bytes(header + np.where(known, flow, FLO_UNKNOWN).astype("<f4").tobytes())


def read_kitti_flow(path: Path) -> np.ndarray:
    """KITTI's format: red and green are 64 steps per pixel about 32768, blue is 0 where nothing is known.

    Raises InputError.
    """
    import cv2

    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)  # blue, green, red
    if stored is None or stored.dtype != np.uint16 or stored.ndim != 3 or stored.shape[2] != 3:
        raise InputError(f"flow: {path} is no 16-bit PNG with three channels, as KITTI's flow is")
    flow = (stored[..., :0:-1].astype(np.float32) - KITTI_ZERO) / np.float32(KITTI_STEPS)
    return _known(flow, stored[..., 0] > 0)


def write_kitti_flow(path: Path, flow: np.ndarray) -> None:
    """KITTI's format, to 1/64 pixel. Raises ValueError for flow beyond its range of 512 pixels."""
    import cv2

    known = np.isfinite(flow).all(axis=-1)
    steps = np.round(np.where(known[..., None], flow, 0) * KITTI_STEPS) + KITTI_ZERO
    if steps.min() < 0 or steps.max() > 65535:
        raise ValueError(f"{path.name}: KITTI's format holds flow from -512 to 511.98 px")
    stored = np.concatenate([known[..., None], steps[..., ::-1]], axis=-1).astype(np.uint16)
    done, data = cv2.imencode(".png", stored)
    assert done
    path.write_bytes(data.tobytes())


def _read_npy(path: Path) -> np.ndarray:
    try:
        return _from_array(path, np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"flow: {path} is not a readable npy file ({error})") from error


def _read_npz(path: Path) -> np.ndarray:
    arrays = read_arrays(path)
    key = next((key for key in KEYS if key in arrays), next(iter(arrays)) if len(arrays) == 1 else None)
    if key is None:
        raise InputError(
            f"flow: {path} has the arrays {', '.join(arrays) or 'none'}: name the one with the flow 'flow'"
        )
    return _from_array(path, arrays[key])


def _from_array(path: Path, array: np.ndarray) -> np.ndarray:
    if array.ndim == 3 and array.shape[2] != 2 and array.shape[0] == 2:
        array = np.moveaxis(array, 0, 2)
    if array.ndim != 3 or array.shape[2] != 2 or array.dtype.kind not in "fiu" or array.size == 0:
        raise InputError(f"flow: {path} holds {array.dtype} {array.shape}, numbers (height, width, 2) are expected")
    flow = array.astype(np.float32)
    return _known(flow, np.isfinite(flow).all(axis=-1))


def _known(flow: np.ndarray, known: np.ndarray) -> np.ndarray:
    return np.where(known[..., None], flow, np.float32(np.nan)).astype(np.float32)

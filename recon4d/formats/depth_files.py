"""Depth other programs wrote: a stack of frames in one npz or npy, or a folder with a file per frame."""

from __future__ import annotations

import contextlib
import math
import tokenize
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from recon4d.errors import InputError
from recon4d.formats.arrays import DAMAGE
from recon4d.formats.exr_files import MOST_PIXELS, read_exr
from recon4d.formats.natural import natural_key
from recon4d.formats.pictures import read_grey

DEPTH_SUFFIXES = (".npz", ".npy", ".png", ".exr", ".tif", ".tiff")
# Names under which programs store depth in an npz, in the order in which they are tried.
KEYS = ("depth", "depths", "disparity", "disp", "inv_depth", "pred", "arr_0")

MOST_ROWS = 1 << 20  # frames of a stack: ten hours
MOST_BESIDE = 1 << 28  # bytes of an array beside the depth: names, cameras
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # as numpy does


class DepthFiles(Protocol):
    """Rows of raw depth, each (h, w), dtype as stored."""

    names: tuple[str, ...] | None  # what the rows are called, where the files say so
    key: str  # under which name the numbers are stored: an npz key, or the suffix of the files

    def __len__(self) -> int: ...

    def row(self, index: int) -> np.ndarray:
        """(h, w) raw numbers of one row. Raises InputError."""


def open_depth_files(path: Path, key: str | None = None) -> DepthFiles:
    """Open a stack (.npz, .npy) or a folder. ``key`` names the array of an npz. Raises InputError."""
    if not path.exists():
        raise InputError(f"depth: {path} was not found")
    if path.is_dir():
        return DepthFolder(path, key)
    if path.suffix.lower() == ".npz":
        return NpzStack(path, key)
    if path.suffix.lower() == ".npy":
        return NpyStack(path)
    raise InputError(
        f"depth: {path} is neither a folder nor an .npz or .npy stack of depth frames, nor depth as programs write it "
        "(a zip of EXR pictures, a grey or inferno video)"
    )


class NpzArray:
    """One (T, h, w) array of an npz, read forward frame by frame: a long clip never lies in memory as a whole."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        with _open_npz(path) as archive:
            if f"{key}.npy" not in archive.namelist():
                raise InputError(f"depth: {path} has no array '{key}', found {', '.join(_members(archive))}")
            with _member(path, archive, key) as stream:
                shape, fortran, self.dtype = _read_header(stream)
        if fortran and len(shape) > 1:
            raise InputError(f"depth: the array in {path} is not a plain C-ordered array of numbers: save it again")
        self.shape = _stack_shape(path, shape, self.dtype)
        self._archive: zipfile.ZipFile | None = None
        self._stream: IO[bytes] | None = None
        self._next = 0

    def __len__(self) -> int:
        return self.shape[0]

    def row(self, index: int) -> np.ndarray:
        size = self.shape[1] * self.shape[2] * self.dtype.itemsize
        try:
            if self._stream is None or index < self._next:
                self._rewind()
            while self._next < index:
                self._read_exactly(size)
                self._next += 1
            data = self._read_exactly(size)
        except DAMAGE as error:
            raise InputError(f"depth: {self.path} is damaged at row {self._next} ({error}): make it again") from error
        self._next += 1
        return np.frombuffer(data, dtype=self.dtype).reshape(self.shape[1:])

    def _read_exactly(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise EOFError("the file ends too early")
        return data

    def _rewind(self) -> None:
        if self._archive is None:
            self._archive = zipfile.ZipFile(self.path)
        self._stream = _member(self.path, self._archive, self.key)
        _read_header(self._stream)
        self._next = 0


class NpzStack(NpzArray):
    """(T, h, w) in an npz, with the names of its rows where the npz has them."""

    def __init__(self, path: Path, key: str | None) -> None:
        with _open_npz(path) as archive:
            members = _members(archive)
        super().__init__(path, _pick_key(path, members, key))
        names = read_npz_array(path, "names")
        try:
            self.names = None if names is None else tuple(names.astype(str).ravel().tolist())
        except UnicodeDecodeError as error:
            raise InputError(f"depth: the names in {path} are not text ({error}): save them as such") from error
        if self.names is not None and len(self.names) != len(self):
            raise InputError(f"depth: {path} has {len(self)} frames of depth but {len(self.names)} names")


class NpyStack:
    """(T, h, w) in an npy, mapped into memory."""

    def __init__(self, path: Path) -> None:
        self.path, self.names, self.key = path, None, ".npy"
        stack = open_npy(path)
        self._stack = stack.reshape(_stack_shape(path, stack.shape, stack.dtype))

    def __len__(self) -> int:
        return len(self._stack)

    def row(self, index: int) -> np.ndarray:
        return np.array(self._stack[index])


class DepthFolder:
    """One file per frame; the rows are called by the files' stems."""

    def __init__(self, path: Path, key: str | None) -> None:
        found = (p for p in path.iterdir() if p.suffix.lower() in DEPTH_SUFFIXES and not p.name.startswith("."))
        files = sorted(found, key=lambda p: natural_key(p.name))  # depth_2 before depth_10
        if not files:
            raise InputError(f"depth: {path} holds no depth files ({', '.join(DEPTH_SUFFIXES)})")
        suffixes = {p.suffix.lower() for p in files}
        if len(suffixes) > 1:
            raise InputError(
                f"depth: {path} mixes files of kind {', '.join(sorted(suffixes))}: keep one kind of depth in a folder"
            )
        self.files = files
        self.names = tuple(p.stem for p in files)
        self.key = files[0].suffix.lower()
        self._npz_key = key

    def __len__(self) -> int:
        return len(self.files)

    def row(self, index: int) -> np.ndarray:
        return read_depth_file(self.files[index], self._npz_key)


def read_depth_file(path: Path, key: str | None = None) -> np.ndarray:
    """(h, w) raw numbers of one depth file (npz, npy, png, tiff, exr), dtype as stored. Raises InputError."""
    suffix = path.suffix.lower()
    if suffix == ".npz":
        with _open_npz(path) as archive:
            depth = _read_member(path, archive, _pick_key(path, _members(archive), key), MOST_PIXELS)
    elif suffix == ".npy":
        depth = open_npy(path)
        _check_numbers(path, depth.shape, depth.dtype, MOST_PIXELS)
        depth = np.array(depth)
    elif suffix == ".exr":
        depth = read_exr(path)
    else:
        depth = read_grey(path)
    depth = np.squeeze(depth)
    if depth.ndim != 2:
        raise InputError(f"depth: {path} has shape {depth.shape}, one (height, width) picture is expected")
    return depth


def open_npy(path: Path) -> np.ndarray:
    """The array of an npy file, mapped into memory: never more than the file has. Raises InputError."""
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except DAMAGE as error:
        raise InputError(f"depth: {path} is not a readable npy file ({error}): make it again") from error


@contextmanager
def _open_npz(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except DAMAGE as error:
        raise InputError(f"depth: {path} is not a readable npz file ({error}): make it again") from error


def npz_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of an npz by name, without reading them; odd members have none. Raises InputError."""
    shapes = {}
    with _open_npz(path) as archive:
        for name in _members(archive):
            odd = contextlib.suppress(ValueError, EOFError, SyntaxError, TypeError, tokenize.TokenError)
            with odd, _member(path, archive, name) as stream:
                shapes[name] = tuple(_read_header(stream)[0])
    return shapes


def _members(archive: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def read_npz_array(path: Path, key: str) -> np.ndarray | None:
    """A small array of numbers or texts beside the depth; None where there is none of this name. Raises InputError."""
    with _open_npz(path) as archive:
        return _read_member(path, archive, key, None) if f"{key}.npy" in archive.namelist() else None


def _member(path: Path, archive: zipfile.ZipFile, key: str) -> IO[bytes]:
    """An array of an npz, packed as numpy does. Raises InputError for other packings, and what zipfile raises."""
    entry = archive.getinfo(f"{key}.npy")
    if entry.compress_type not in PACKED:
        raise InputError(f"depth: the array '{key}' in {path} is packed as numpy never does: save it again")
    return archive.open(entry)


def _read_member(path: Path, archive: zipfile.ZipFile, key: str, most_pixels: int | None) -> np.ndarray:
    """A whole array: numbers, up to so many; without a limit texts, too, and `MOST_BESIDE` bytes."""
    with _member(path, archive, key) as stream:
        try:
            shape, _, dtype = _read_header(stream)
            if most_pixels is not None:
                _check_numbers(path, shape, dtype, most_pixels)
            elif math.prod(shape) * dtype.itemsize > MOST_BESIDE or dtype.kind not in "fuibUS":
                raise ValueError(f"it claims to be {dtype} of the shape {shape}")
            stream.seek(0)
            return np.lib.format.read_array(stream, allow_pickle=False)
        except DAMAGE as error:
            raise InputError(f"depth: the array '{key}' in {path} is not readable ({error}): save it again") from error


def _pick_key(path: Path, found: list[str], wanted: str | None) -> str:
    for key in [wanted] if wanted else KEYS:
        if key in found:
            return key
    expected = wanted or "depth"
    raise InputError(
        f"depth: {path} has no array '{expected}', found {', '.join(found) or 'none'}: "
        "name the right one with --depth.key, or store it as 'depth'"
    )


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns come first, and type, as the file says. Raises what numpy raises."""
    version = np.lib.format.read_magic(stream)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(stream)
    if min(shape, default=0) < 0:
        raise ValueError(f"it claims the shape {shape}")
    return shape, fortran, dtype


def _check_numbers(path: Path, shape: tuple[int, ...], dtype: np.dtype, most_pixels: int) -> None:
    if dtype.kind not in "fuib":
        raise InputError(f"depth: the array in {path} is of type {dtype}, plain numbers are expected: save it again")
    if math.prod(shape) > most_pixels:
        raise InputError(f"depth: the array in {path} claims the shape {shape}, more than any picture: make it again")


def _stack_shape(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> tuple[int, int, int]:
    """(T, h, w), also of (T, 1, h, w) or (T, h, w, 1). Raises InputError."""
    found = shape
    if len(shape) == 4 and 1 in (shape[1], shape[3]):
        found = (shape[0], *(shape[2:] if shape[1] == 1 else shape[1:3]))
    if len(found) != 3 or 0 in found or found[0] > MOST_ROWS:
        raise InputError(f"depth: the array in {path} has shape {shape}, (frames, height, width) is expected")
    _check_numbers(path, found[1:], dtype, MOST_PIXELS)
    return found

"""Which rows of a stack each window of a video model covered, and what two windows said about a row they share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recon4d.errors import DepthError, OptionsError
from recon4d.formats.depth_files import NpzArray, read_npz_array

RANGES, ROWS, EARLIER, LATER = "windows", "overlap_rows", "overlap_earlier", "overlap_later"


def parse_windows(text: str) -> tuple[int, int]:
    """(length, overlap) of ``LENGTH:OVERLAP``, in rows. Raises OptionsError."""
    words = text.split(":")
    if len(words) == 2 and all(word.isascii() and word.isdigit() for word in words):
        length, overlap = int(words[0]), int(words[1])
        if overlap < length:
            return length, overlap
    raise OptionsError(
        f"depth: --depth.windows is '{text}', LENGTH:OVERLAP in frames that the model saw is expected, the overlap "
        "shorter than the length: 110:25 for DepthCrafter as it comes"
    )


def counted_windows(rows: int, length: int, overlap: int) -> list[tuple[int, int]]:
    """First and last row of the windows that cover ``rows`` rows; the last one may be short.

    Each begins ``length - overlap`` rows after the one before, as long as there are rows not yet covered: the count
    of DepthCrafter, max(1, ceil((rows - overlap) / (length - overlap))).
    """
    starts = range(0, max(rows - overlap, 1), length - overlap)
    return [(start, min(start + length, rows) - 1) for start in starts]


class StoredWindows:
    """Windows and overlaps as an npz brings them along.

    ``windows`` (K, 2) int holds the first and last row of each; ``overlap_rows`` (M,) int the rows for which
    ``overlap_earlier`` and ``overlap_later`` (M, h, w) hold the values of both windows.
    """

    def __init__(self, path: Path, rows: int) -> None:
        """Raises DepthError or InputError when the arrays do not fit together."""
        self.ranges = _ranges(path, rows)
        listed = read_npz_array(path, ROWS)
        self._place: dict[int, int] = {}
        if listed is None:
            return
        if listed.ndim != 1 or listed.dtype.kind not in "ui" or len(set(listed.tolist())) != len(listed):
            raise DepthError(f"depth: '{ROWS}' in {path} is no list of different row numbers: make the file again")
        self._earlier, self._later = NpzArray(path, EARLIER), NpzArray(path, LATER)
        if not len(self._earlier) == len(self._later) == len(listed) or self._earlier.shape != self._later.shape:
            raise DepthError(
                f"depth: {path} has {len(listed)} '{ROWS}', but '{EARLIER}' of shape {self._earlier.shape} and "
                f"'{LATER}' of shape {self._later.shape}: all three belong together"
            )
        self._place = {int(row): place for place, row in enumerate(listed)}
        for row in self._place:
            if sum(first <= row <= last for first, last in self.ranges) < 2:
                raise DepthError(f"depth: row {row} of '{ROWS}' in {path} does not lie in two of its windows")

    @property
    def overlap_shape(self) -> tuple[int, int] | None:
        """(h, w) of the overlaps; None where there are none."""
        return self._earlier.shape[1:] if self._place else None

    def overlap(self, row: int) -> tuple[np.ndarray, np.ndarray] | None:
        """(h, w) raw numbers of the earlier and the later window; None for a row without both."""
        place = self._place.get(row)
        return None if place is None else (self._earlier.row(place), self._later.row(place))


def stored_windows(path: Path, rows: int) -> StoredWindows | None:
    """The windows that a file brings along, or None. Raises DepthError or InputError."""
    if path.suffix.lower() != ".npz" or not path.is_file() or read_npz_array(path, RANGES) is None:
        return None
    return StoredWindows(path, rows)


def _ranges(path: Path, rows: int) -> list[tuple[int, int]]:
    ranges = read_npz_array(path, RANGES)
    if ranges.ndim != 2 or ranges.shape[1] != 2 or len(ranges) == 0 or ranges.dtype.kind not in "ui":
        raise DepthError(
            f"depth: '{RANGES}' in {path} has shape {ranges.shape} and type {ranges.dtype}, whole numbers (K, 2) with "
            "the first and last row of each window are expected"
        )
    first, last = ranges.astype(np.int64).T
    if (first > last).any() or first.min() < 0 or last.max() >= rows or (np.diff(first) <= 0).any():
        raise DepthError(
            f"depth: '{RANGES}' in {path} are not ranges of its {rows} rows in the order in which they begin: "
            "first and last row of each window are expected, counted from 0"
        )
    return [(int(a), int(b)) for a, b in zip(first, last)]

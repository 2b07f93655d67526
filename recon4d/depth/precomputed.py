"""Depth that another program has made, in the layout that it writes, or as plain stacks and folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon4d.depth.matching import RowCounting, RowLabels, RowMatch, match_rows
from recon4d.depth.windows import StoredWindows, counted_windows, stored_windows
from recon4d.errors import DepthError
from recon4d.formats.depth_numbers import is_blind, metres_of_one
from recon4d.formats.peers import PeerDepth, PicturePart, part_seen, read_peer_depth
from recon4d.geometry.proportions import same_proportions
from recon4d.scene.depth import DepthKind, DepthMap, Provenance
from recon4d.scene.recording import Recording

UNIT_REMARK = "one stored unit is"


@dataclass(frozen=True)
class PrecomputedRequest:
    """What the user said about the files."""

    path: Path
    kind: DepthKind | None = None  # None: detected
    key: str | None = None
    metres_per_value: float | None = None  # for metric files; None: millimetres for integers, metres for floats
    sensor: bool = False
    counting: RowCounting | None = None  # None: nobody can be asked how the rows count
    windows: tuple[int, int] | None = None  # length and overlap of the model's windows, rows; None: as the file says


@dataclass(frozen=True)
class Sight:
    """What a first look at the files has shown."""

    part: PicturePart | None  # what of the picture the rows show; None: all of it
    shape: tuple[int, int]  # (h, w) of the rows
    metres_of_one: float  # that a stored 1 stands for, if the numbers are z


class Precomputed:
    """Rows of files as `DepthMap`s of frames."""

    def __init__(
        self, peer: PeerDepth, request: PrecomputedRequest, match: RowMatch, kind: DepthKind, sight: Sight
    ) -> None:
        self.files, self.kind = peer.files, kind
        self.told = request.kind is not None  # the user named the kind
        self.otherwise = peer.otherwise  # the kind, where structure shows that larger numbers mean the other thing
        self.provenance = Provenance.MEASURED if request.sensor else Provenance.FITTED
        self.remarks: tuple[str, ...] = ()
        self.windows: tuple[tuple[str, ...], ...] = ()
        self.stored: StoredWindows | None = None
        self._peer, self._request, self.match, self._sight = peer, request, match, sight
        # What a stored 1 stands for, in the unit of the kind.
        told = request.metres_per_value
        self.factor = told if told is not None else (sight.metres_of_one if kind is DepthKind.METRIC_Z else 1.0)

    def of_kind(self, kind: DepthKind) -> Precomputed:
        """The same numbers, read as another kind."""
        other = Precomputed(self._peer, self._request, self.match, kind, self._sight)
        kept = tuple(remark for remark in self.remarks if not remark.startswith(UNIT_REMARK))
        other.remarks, other.windows, other.stored = kept, self.windows, self.stored
        return other

    def depth(self, name: str) -> DepthMap:
        row = self.match.row_of[name]
        raw, confidence = self.files.row(row), self._peer.confidence(row)
        self._check_row(name, "depth", raw)
        if confidence is not None:
            self._check_row(name, "confidence", confidence)
        depth = self._map(raw, confidence)
        inside = depth.values[depth.valid]
        if inside.size and np.ptp(inside) == 0:
            raise DepthError(
                f"depth: frame {name} has the same value {inside[0]:g} everywhere: that is no depth, make it again"
            )
        return depth

    def overlap(self, name: str) -> tuple[DepthMap, DepthMap] | None:
        pair = self.stored.overlap(self.match.row_of[name]) if self.stored else None
        return None if pair is None else (self._map(pair[0]), self._map(pair[1]))

    def _check_row(self, name: str, what: str, row: np.ndarray) -> None:
        if row.shape != self._sight.shape:
            (height, width), (first_height, first_width) = row.shape, self._sight.shape
            raise DepthError(
                f"depth: the {what} of frame {name} is {width}x{height}, the depth of the first frame is {first_width}x"
                f"{first_height}: frames of one clip have one size, make it again"
            )

    def _map(self, raw: np.ndarray, confidence: np.ndarray | None = None) -> DepthMap:
        """(h, w) stored numbers with their holes found and in the unit of their kind."""
        valid = np.isfinite(raw)
        if self.kind in (DepthKind.METRIC_Z, DepthKind.SCENE_Z, DepthKind.SCALE_FREE_Z, DepthKind.SCALE_FREE_DISPARITY):
            valid &= raw > 0  # 0 and negative numbers mark holes where the kind has a true zero
        if self.kind in (DepthKind.METRIC_Z, DepthKind.SCENE_Z):
            valid &= ~is_blind(raw)
        with np.errstate(over="ignore"):
            values = np.where(valid, raw, 0).astype(np.float32) * np.float32(self.factor)
        valid &= np.isfinite(values)  # beyond single precision there is no depth
        values[~valid] = 0
        trust = valid.astype(np.float32) if confidence is None else np.where(valid, confidence, np.float32(0))
        values, valid, trust = (_on_whole_picture(grid, self._sight.part) for grid in (values, valid, trust))
        return DepthMap(self.kind, values, valid, trust, np.full(valid.shape, self.provenance, dtype=np.uint8))


def _on_whole_picture(grid: np.ndarray, part: PicturePart | None) -> np.ndarray:
    """A grid of what a program saw of a picture, with 0 or False on what it cut away."""
    if part is None:
        return grid
    height, width = grid.shape
    whole = np.zeros((part.height, part.width), dtype=grid.dtype)
    whole[part.top : part.top + height, part.left : part.left + width] = grid
    return whole


def open_precomputed(
    request: PrecomputedRequest,
    recording: Recording,
    picture_size: tuple[int, int],
    source_frames: int,
    source_size: tuple[int, int] | None = None,
) -> Precomputed:
    """Open the files, find out what they hold, and match them to the frames.

    Args:
        picture_size: (width, height) of the frames.
        source_frames: number of frames or pictures in the whole source.
        source_size: (width, height) of them before they were made smaller; None where they were not.

    Raises:
        InputError, DepthError: unreadable, not matching, of another shape, or empty.
    """
    peer = read_peer_depth(request.path, request.key)
    rows = RowLabels(len(peer.files), peer.files.names, peer.numbers)
    match = match_rows(recording, rows, request.counting, source_frames)
    found = sorted(match.row_of.values())
    sample = [peer.files.row(r) for r in sorted({found[0], found[len(found) // 2], found[-1]})]
    part = _part(peer, sample[0].shape, (source_size or picture_size, picture_size))
    _check_grid(request.path, sample[0].shape if part is None else (part.height, part.width), picture_size)
    kind, why = _kind(request, peer, sample)
    source = Precomputed(peer, request, match, kind, Sight(part, sample[0].shape, metres_of_one(sample[0].dtype)))
    source.remarks = (f"kind {kind.value} ({why})", f"matched to the frames {match.rule}")
    if kind is DepthKind.METRIC_Z:
        source.remarks += (f"{UNIT_REMARK} {source.factor:g} m",)
    if peer.trust is not None:
        source.remarks += (f"the confidence of {peer.program} is used",)
    if part is not None:
        share = 1 - sample[0].size / (part.width * part.height)
        source.remarks += (f"{peer.program} cut {100 * share:.1f} % of the picture off: there is no depth there",)
    _find_windows(source, request, picture_size)
    return source


def _part(peer: PeerDepth, shape: tuple[int, ...], given: Sequence[tuple[int, int]]) -> PicturePart | None:
    """What of the picture the program saw; None where that is all of it."""
    height, width = shape
    part = part_seen(peer.part, (width, height), given)
    return None if part is None or (part.width, part.height) == (width, height) else part


def _kind(request: PrecomputedRequest, peer: PeerDepth, sample: Sequence[np.ndarray]) -> tuple[DepthKind, str]:
    if request.kind is not None:
        return request.kind, "as told"
    return (peer.kind, peer.why) if peer.kind is not None else detect_kind(peer.files.key, sample)


def _find_windows(source: Precomputed, request: PrecomputedRequest, picture_size: tuple[int, int]) -> None:
    """Put the windows of the model into the source: those the user counts, else those the file brings along."""
    rows = len(source.files)
    if request.windows is not None:
        ranges = counted_windows(rows, *request.windows)
    else:
        source.stored = stored_windows(request.path, rows)
        if source.stored is None:
            return
        ranges = source.stored.ranges
        if source.stored.overlap_shape is not None:
            _check_grid(request.path, source.stored.overlap_shape, picture_size)
    row_of = source.match.row_of  # in the order of the frames
    if (np.diff(list(row_of.values())) <= 0).any():
        raise DepthError(
            f"depth: the rows of {request.path} do not follow the order of the frames, so its windows are not "
            "stretches of time: save it again in their order, or without windows"
        )
    windows = (tuple(name for name, row in row_of.items() if first <= row <= last) for first, last in ranges)
    source.windows = tuple(window for window in windows if window)
    source.remarks += (f"the model worked in {len(ranges)} windows of up to {_longest(ranges)} frames",)


def _longest(ranges: list[tuple[int, int]]) -> int:
    return max(last - first + 1 for first, last in ranges)


def detect_kind(key: str, sample: Sequence[np.ndarray]) -> tuple[DepthKind, str]:
    """What the numbers mean, from how they are stored; and the reason in words.

    Raises DepthError when no number is finite.
    """
    finite = np.concatenate([s[np.isfinite(s)].ravel() for s in sample]).astype(np.float64)
    if finite.size == 0:
        raise DepthError("depth: none of the numbers is finite: make the depth again")
    low, high = finite.min(), finite.max()
    if sample[0].dtype.itemsize == 1:
        raise DepthError(
            "depth: 8-bit numbers do not say what they mean: name it with --depth.kind, or NAME:KIND=PATH in "
            "--depth.more (a grey picture in which brighter is nearer is affine_disparity)"
        )
    if sample[0].dtype.kind in "ui":
        return DepthKind.METRIC_Z, "whole numbers are taken as depth in millimetres"
    if key in ("disparity", "disp", "inv_depth"):
        return DepthKind.AFFINE_DISPARITY, f"stored as '{key}'"
    if low >= 0 and high <= 1:
        return (
            DepthKind.AFFINE_DISPARITY,
            "numbers from 0 to 1 are taken as relative, larger is nearer, as DepthCrafter writes",
        )
    return DepthKind.METRIC_Z, f"numbers up to {high:.3g} are taken as depth in metres"


def _check_grid(path: Path, shape: tuple[int, ...], picture_size: tuple[int, int]) -> None:
    width, height = picture_size
    if not same_proportions(shape, (height, width)):
        raise DepthError(
            f"depth: {path} has {shape[1]}x{shape[0]} pixels, the frames have {width}x{height}: the sides differ in "
            "proportion, so this depth is of another or a turned or cropped picture"
        )

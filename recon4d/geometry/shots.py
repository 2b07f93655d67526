"""Shots of a video, the sharpness of a frame, and which frames of a shot to keep. Numbers only.

A cut is found where three things come together: the colours change, the layout changes, and both last. Fast pans and
shaking hands change the layout but hardly the colours; exposure and lights change the colours but not the layout;
flashes change both and go away again. Dissolves are not looked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

THUMBNAIL_SIZE = 32  # px, both sides; the aspect ratio does not matter here
MAX_SHIFT = 6  # px of the thumbnail, a fifth of the picture: what shaking hands and pans may move between two frames
NEIGHBOURHOOD = 8  # frames on each side that tell how much change is usual here
RESTLESS = 0.1  # loss of correlation that motion within a pixel of the thumbnail causes; counts as none
LASTING = 3  # frames on each side that must differ: shorter disturbances are flashes, not shots

# Measured between neighbouring frames of seven handheld and driving clips (10 to 30 frames per second): at most 0.02,
# of photos from a walk around an object: at most 0.15; between frames of different scenes: at least 0.155, median 0.47.
LEAST_CHANGE = 0.15
LEAST_CONTRAST = 6.0  # times the usual change around it
USUAL_FLOOR = 0.01  # change of a resting camera by noise and compression

_LUMA = np.array([0.299, 0.587, 0.114])  # BT.601
_BINS = (8, 16, 16)  # luma, blue difference, red difference


@dataclass(frozen=True)
class Look:
    """What a thumbnail looks like: colours and layout, ready to be compared."""

    colours: np.ndarray  # (8, 16, 16) float64, square root of the smoothed histogram: its squares sum to 1
    layout: np.ndarray  # (32, 17) complex128, spectrum of the luma with mean 0 and norm 1 (all 0 for a flat picture)

    @classmethod
    def of(cls, thumbnail: np.ndarray) -> Look:
        """From (32, 32, 3) uint8 RGB."""
        rgb = thumbnail.astype(np.float64)
        luma = rgb @ _LUMA
        return cls(_colours(rgb, luma), _layout(luma))

    def change_to(self, other: Look) -> float:
        """0 (same colours, or same layout) to 1 (nothing in common): geometric mean of both distances.

        Colours: 1 - Bhattacharyya coefficient. Layout: 1 - largest circular cross-correlation within MAX_SHIFT, of
        which the first RESTLESS do not count.
        """
        colour_change = max(0.0, 1.0 - float((self.colours * other.colours).sum()))
        shape = (THUMBNAIL_SIZE, THUMBNAIL_SIZE)
        correlation = np.fft.fftshift(np.fft.irfft2(self.layout * other.layout.conj(), s=shape))
        near = slice(THUMBNAIL_SIZE // 2 - MAX_SHIFT, THUMBNAIL_SIZE // 2 + MAX_SHIFT + 1)
        lost = 1.0 - float(correlation[near, near].max())
        layout_change = min(1.0, max(0.0, (lost - RESTLESS) / (1.0 - RESTLESS)))
        return float(np.sqrt(colour_change * layout_change))


def _colours(rgb: np.ndarray, luma: np.ndarray) -> np.ndarray:
    blue = (rgb[..., 2] - luma) * 0.564 + 128
    red = (rgb[..., 0] - luma) * 0.713 + 128
    places = [
        np.clip(values * count / 256, 0, count - 1).astype(np.intp) for values, count in zip((luma, blue, red), _BINS)
    ]
    flat = np.ravel_multi_index([place.ravel() for place in places], _BINS)
    histogram = np.bincount(flat, minlength=int(np.prod(_BINS))).reshape(_BINS) / flat.size
    for axis in range(3):  # smoothed 1-2-1, so that a value on the border of two bins does not jump between them
        padded = np.pad(histogram, [(1, 1) if axis == other else (0, 0) for other in range(3)], mode="edge")
        count = _BINS[axis]
        before, here, after = (padded.take(range(start, start + count), axis) for start in range(3))
        histogram = (before + 2 * here + after) / 4
    return np.sqrt(histogram / histogram.sum())


def _layout(luma: np.ndarray) -> np.ndarray:
    # The square root of a Hann window: content that enters at a border counts less than what stays in the picture.
    window = np.sqrt(np.hanning(THUMBNAIL_SIZE + 2)[1:-1])
    centred = (luma - luma.mean()) * np.outer(window, window)
    norm = float(np.linalg.norm(centred))
    return np.fft.rfft2(centred / norm if norm > 1e-6 else np.zeros_like(centred))


class ShotFinder:
    """Finds the cuts of a video that is walked through once; keeps six looks and one number per frame."""

    def __init__(self) -> None:
        self._recent: deque[Look] = deque(maxlen=2 * LASTING)
        self._changes: list[float] = []  # [k]: from frame k to frame k + 1
        self._lasting: dict[int, float] = {}  # first frame after a possible cut -> least change across it
        self._count = 0

    def add(self, thumbnail: np.ndarray) -> None:
        """The next frame: (32, 32, 3) uint8 RGB."""
        look = Look.of(thumbnail)
        if self._recent:
            self._changes.append(self._recent[-1].change_to(look))
        self._recent.append(look)
        self._count += 1
        self._judge(self._count - LASTING)

    def _judge(self, first: int) -> None:
        """Least change between the frames just before and from ``first`` on, if it may be the first after a cut."""
        if first < 1 or self._changes[first - 1] < LEAST_CHANGE:
            return
        split = first - (self._count - len(self._recent))  # its place among the recent looks
        recent = list(self._recent)
        before, after = recent[max(0, split - LASTING) : split], recent[split : split + LASTING]
        self._lasting[first] = min(one.change_to(other) for one in before for other in after)

    def starts(self) -> tuple[int, ...]:
        """First frame of each shot, counted in calls of `add`, ascending from 0; empty when there was no frame."""
        for first in range(max(1, self._count - LASTING + 1), self._count):
            self._judge(first)
        cuts = [first for first, change in sorted(self._lasting.items()) if change >= self._needed(first)]
        return (0, *cuts) if self._count else ()

    def _needed(self, first: int) -> float:
        at = first - 1
        around = self._changes[max(0, at - NEIGHBOURHOOD) : at] + self._changes[at + 1 : at + 1 + NEIGHBOURHOOD]
        # The upper quartile, not the largest: other cuts nearby must not hide this one.
        usual = float(np.quantile(around, 0.75)) if around else 0.0
        return max(LEAST_CHANGE, LEAST_CONTRAST * (usual + USUAL_FLOOR))


def sharpness(luma: np.ndarray) -> float:
    """Mean square of the Laplacian of (H, W) luma, grey values^2: comparable only between frames of one scene.

    Source: Pech-Pacheco et al., ICPR 2000 ("variance of Laplacian"; its mean is 0 but for the border).
    """
    grey = luma.astype(np.float32)
    if min(grey.shape) < 3:
        return 0.0
    centre = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * centre
    return float(np.mean(laplacian**2))


def spread_stride(count: int, max_frames: int) -> int:
    """Smallest stride that takes at most ``max_frames`` of ``count`` frames."""
    return max(1, -(-count // max_frames))


def choose_by_stride(count: int, stride: int, sharpnesses: Sequence[float] | None = None) -> list[int]:
    """The first (or, with sharpnesses, the sharpest) of each group of ``stride`` frames, as positions 0..count-1."""
    groups = [range(start, min(start + stride, count)) for start in range(0, count, stride)]
    if sharpnesses is None:
        return [group[0] for group in groups]
    return [max(group, key=lambda position: sharpnesses[position]) for group in groups]


def choose_by_rate(timestamps_s: Sequence[float], fps: float, sharpnesses: Sequence[float] | None = None) -> list[int]:
    """The frame nearest to each tick of a clock that starts with the first frame, as positions.

    Each frame belongs to its nearest tick; with sharpnesses the sharpest frame of each tick is taken. A tick without a
    frame is left out: nothing is repeated where the recording is slower than ``fps``. So is a tick that lies more than
    a quarter period after the last frame.
    """
    groups: dict[int, list[int]] = {}
    ticks = [(time - timestamps_s[0]) * fps for time in timestamps_s]
    for position, tick in enumerate(ticks):
        if round(tick) <= ticks[-1] + 0.25:
            groups.setdefault(round(tick), []).append(position)
    if sharpnesses is None:
        return [min(group, key=lambda position: abs(ticks[position] - tick)) for tick, group in groups.items()]
    return [max(group, key=lambda position: sharpnesses[position]) for group in groups.values()]

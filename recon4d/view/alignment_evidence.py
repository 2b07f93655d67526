"""What the page of a clip's alignment shows, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FitPoints:
    """A sample of the sparse points on the depth, in the domain of the fit."""

    d: np.ndarray  # (K,) source values
    y: np.ndarray  # (K,) what gain * d + shift should give: 1 / z or z, scene units
    frame: np.ndarray  # (K,) int rows of the frames
    x_label: str  # "source disparity"
    y_label: str  # "1 / depth of the structure (1/units)"


@dataclass(frozen=True)
class FrameFits:
    """Gain and shift of every frame; NaN where a frame has none."""

    gain: np.ndarray  # (N,) of the joint fit
    own_gain: np.ndarray  # (N,) of each frame's own free fit
    carried: np.ndarray  # (N,) bool: no fit of its own
    shift: np.ndarray | None = None  # (N,); None where the kind has none
    own_shift: np.ndarray | None = None  # (N,)


@dataclass(frozen=True)
class FrameErrors:
    """Relative error of every frame at its sparse points, 0.05 for 5 %; NaN where it is not known."""

    one_scale: np.ndarray  # (N,) median under one scale for the clip
    own_fit: np.ndarray  # (N,) median under each frame's own free fit
    final: np.ndarray  # (N,) median under the final one
    held_out_median: np.ndarray  # (N,) at points that took no part in any fit
    held_out_95: np.ndarray  # (N,) 95th percentile of the same


@dataclass(frozen=True)
class SpaceErrors:
    """Where in the picture the error lies, as log(depth / depth of the structure): positive is too far."""

    before: np.ndarray  # (h, w) mean over the clip before the spatial correction; NaN where no points were
    after: np.ndarray | None = None  # (h, w) after it; None where there was none
    correction: np.ndarray | None = None  # (h, w) log correction of one frame
    picture: np.ndarray | None = None  # (H, W, 3) uint8 of that frame
    name: str = ""  # of that frame


@dataclass(frozen=True)
class SigmaShares:
    """Share of held-out points within one and two sigma, 0..1; 0.68 and 0.95 are wanted."""

    within_one: float
    within_two: float
    points: int


@dataclass(frozen=True)
class CueScale:
    """Metres per unit as one cue says it."""

    name: str
    metres_per_unit: float
    low: float  # ends of the 95 % interval
    high: float


@dataclass(frozen=True)
class AlignmentEvidence:
    """All that the page of a clip shows."""

    clip: str
    names: tuple[str, ...]  # of the N frames, in order
    key_numbers: tuple[str, ...]  # for the head of the page
    fits: FrameFits
    errors: FrameErrors
    points: FitPoints | None = None  # None: there were no sparse points
    space: SpaceErrors | None = None
    sigma: SigmaShares | None = None
    scale: CueScale | None = None  # all cues together
    cues: tuple[CueScale, ...] = ()
    seams: tuple[float, ...] = ()  # rows of frames where windows of the source join
    warned: tuple[tuple[int, int], ...] = ()  # first and last row of frames that were warned about

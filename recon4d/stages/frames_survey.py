"""What the frames stage knows of a recording before it chooses frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from recon4d.scene.recording import Frame
from recon4d.workspace import StagePart

SHARPNESS_SIZE = 640  # px of the longest side: fine enough to see blur, coarse enough to be quick


@dataclass(frozen=True)
class Survey:
    """The frames that may be chosen, all of one shot and within the wanted time, and how to write them."""

    indices: Sequence[int]  # in the source, ascending
    timestamps_s: Sequence[float]
    sharpnesses: Sequence[float] | None  # None unless asked for
    frame_at: Callable[[int], Frame]  # of a position in `indices`
    write: Callable[[StagePart, Sequence[Frame], tuple[int, int]], None]  # pictures of this (width, height), and tables
    size: tuple[int, int]  # (width, height) of a whole frame: upright, square pixels
    focal_px: float | None = None  # at `size`
    focal_source: str | None = None
    facts: dict[str, object] = field(default_factory=dict)  # for the summary

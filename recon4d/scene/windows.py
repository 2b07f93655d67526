"""The windows of frames in which a video model worked; each has a scale and shift of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class OverlapPair(NamedTuple):
    """One frame as two windows saw it, values of the source's kind on one grid that covers the picture."""

    earlier: np.ndarray  # (h, w) float32, of the window that began first
    later: np.ndarray  # (h, w) float32
    valid: np.ndarray  # (h, w) bool, in both


@dataclass(frozen=True)
class DepthWindows:
    """Windows in the order of time; neighbours may share frames."""

    windows: tuple[tuple[str, ...], ...]  # names of the frames of each, in order
    overlap: Callable[[str], OverlapPair | None]  # read when asked for; None where both values are not known

    def __post_init__(self) -> None:
        if not self.windows or not all(self.windows):
            raise ValueError("DepthWindows: a window without frames")

    def shared(self, earlier: int) -> tuple[str, ...]:
        """Names of the frames in a window and in the one after it, in order."""
        later = set(self.windows[earlier + 1])
        return tuple(name for name in self.windows[earlier] if name in later)

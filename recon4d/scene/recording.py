"""What was recorded: the frames chosen from a video or a folder of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Frame:
    """One chosen frame."""

    name: str  # unique; for video the six-digit index of the decoded frame, for a folder the stem of the file
    source_index: int  # place in the video or in the naturally sorted folder
    source_name: str  # file the picture came from
    timestamp_s: float
    shot: int  # number of the shot it belongs to, from 0


@dataclass(frozen=True)
class Recording:
    """The frames of one shot in time order, and where their pictures lie."""

    frames: tuple[Frame, ...]
    pictures: tuple[Path, ...]  # upright 8-bit RGB pictures, row i belongs to frames[i]
    masks: tuple[Path | None, ...]  # 255 = ignore; None where the user gave none

    def __post_init__(self) -> None:
        if not len(self.frames) == len(self.pictures) == len(self.masks):
            raise ValueError("Recording: fields of different length")
        if len(set(self.names)) != len(self.frames):
            raise ValueError("Recording: names are not unique")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(frame.name for frame in self.frames)

    @property
    def timestamps_s(self) -> np.ndarray:
        """(N,) float64 seconds."""
        return np.array([frame.timestamp_s for frame in self.frames], dtype=np.float64)

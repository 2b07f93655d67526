"""What moves in one frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FrameMotion:
    """What moves in a frame, and where its pixels are in the frames beside it in time."""

    moving: np.ndarray  # (H, W) float32, probability 0..1
    flow_next: np.ndarray  # (H, W, 2) float32 pixels (right, down) to the next frame, NaN where it is not known
    flow_prev: np.ndarray  # (H, W, 2) float32 pixels to the frame before, NaN where it is not known
    object_id: np.ndarray  # (H, W) uint16, 0 = background; each object keeps its number over the clip

    def __post_init__(self) -> None:
        height, width = np.shape(self.moving)
        for field, dtype, more in (
            ("moving", np.float32, ()),
            ("flow_next", np.float32, (2,)),
            ("flow_prev", np.float32, (2,)),
            ("object_id", np.uint16, ()),
        ):
            array = np.ascontiguousarray(getattr(self, field), dtype=dtype)
            if array.shape != (height, width, *more):
                raise ValueError(f"FrameMotion: {field} is {array.shape}, {(height, width, *more)} is expected")
            object.__setattr__(self, field, array)

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool: pixels that belong to something that moves."""
        return self.object_id > 0

"""Where the surface seen in a frame goes in the world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SceneFlow:
    """Displacement of the surface in each pixel to the frames beside it in time; exactly 0 where nothing moves.

    The first frame has no ``prev`` and the last no ``next``: what moves is NaN there.
    """

    next: np.ndarray  # (H, W, 3) float32, world axes, scene units, NaN where it is not known
    prev: np.ndarray  # (H, W, 3) float32, to where the surface was in the frame before

    def __post_init__(self) -> None:
        for field in ("next", "prev"):
            array = np.ascontiguousarray(getattr(self, field), dtype=np.float32)
            if array.ndim != 3 or array.shape[2] != 3 or array.shape != np.shape(self.next):
                raise ValueError(f"SceneFlow: {field} is {array.shape}, (H, W, 3) of one size is expected")
            object.__setattr__(self, field, array)

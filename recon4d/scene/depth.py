"""Depth of one frame: as a source gives it (`DepthMap`) and after alignment (`SceneDepth`)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

import numpy as np


class DepthKind(str, Enum):
    """What the numbers of a depth source mean; `align` fits the unknowns in the kind's own domain.

    ========================  ==============================  ==================
    kind                      relation to z in scene units     unknowns
    ========================  ==============================  ==================
    SCENE_Z                   z = d                            none
    METRIC_Z                  z = gain * d (d in metres)       gain
    SCALE_FREE_Z              z = gain * d                     gain
    AFFINE_Z                  z = gain * d + shift             gain, shift
    SCALE_FREE_DISPARITY      1/z = gain * d                   gain
    AFFINE_DISPARITY          1/z = gain * d + shift           gain, shift
    ========================  ==============================  ==================
    """

    SCENE_Z = "scene_z"
    METRIC_Z = "metric_z"
    SCALE_FREE_Z = "scale_free_z"
    AFFINE_Z = "affine_z"
    SCALE_FREE_DISPARITY = "scale_free_disparity"
    AFFINE_DISPARITY = "affine_disparity"

    @property
    def is_disparity(self) -> bool:
        """Larger is nearer."""
        return self in (DepthKind.SCALE_FREE_DISPARITY, DepthKind.AFFINE_DISPARITY)

    @property
    def has_shift(self) -> bool:
        return self in (DepthKind.AFFINE_Z, DepthKind.AFFINE_DISPARITY)

    @property
    def has_gain(self) -> bool:
        return self is not DepthKind.SCENE_Z


class Provenance(IntEnum):
    """Where a depth value comes from; one table for the whole project, stored as uint8."""

    MEASURED = 0  # two or more views, or a sensor
    FITTED = 1  # a network's shape fitted to structure
    OTHER_FRAME = 2  # seen in another frame
    COMPLETED = 3  # filled from its surroundings
    GENERATED = 4  # made up by a generative model

    @classmethod
    def first_hand(cls, provenance: np.ndarray) -> np.ndarray:
        """Bool, shaped like ``provenance``: the frame's own word, not what it was told or what fills a hole."""
        return np.asarray(provenance) <= cls.FITTED


@dataclass(frozen=True)
class DepthMap:
    """Depth as a source gives it, in the kind it gives."""

    kind: DepthKind
    values: np.ndarray  # (H, W) float32
    valid: np.ndarray  # (H, W) bool
    confidence: np.ndarray  # (H, W) float32, 0..1: chance to be within 5 % of the truth; 1 where a source does not say
    provenance: np.ndarray  # (H, W) uint8, see Provenance

    def __post_init__(self) -> None:
        _check_grids(self, values=np.float32, valid=bool, confidence=np.float32, provenance=np.uint8)
        if not np.isfinite(self.values[self.valid]).all():
            raise ValueError("DepthMap: a valid value is not finite")

    @property
    def is_evidence(self) -> np.ndarray:
        """(H, W) bool: valid, first-hand, and more likely right than not."""
        return self.valid & Provenance.first_hand(self.provenance) & (self.confidence >= 0.5)


@dataclass(frozen=True)
class SceneDepth:
    """z-depth in scene units on the grid of the undistorted picture."""

    depth: np.ndarray  # (H, W) float32, scene units; 0 where not valid
    valid: np.ndarray  # (H, W) bool
    sigma: np.ndarray  # (H, W) float32, one standard deviation, scene units
    provenance: np.ndarray  # (H, W) uint8, see Provenance

    def __post_init__(self) -> None:
        _check_grids(self, depth=np.float32, valid=bool, sigma=np.float32, provenance=np.uint8)
        inside = self.depth[self.valid]
        if not (np.isfinite(inside).all() and (inside > 0).all()):
            raise ValueError("SceneDepth: a valid depth is not finite and positive")


def _check_grids(item: object, **dtypes: type) -> None:
    """Bring the named fields to their dtype and insist on one common (H, W)."""
    shapes = set()
    for field, dtype in dtypes.items():
        array = np.ascontiguousarray(getattr(item, field), dtype=dtype)
        object.__setattr__(item, field, array)
        shapes.add(array.shape)
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError(f"{type(item).__name__}: fields must share one (H, W), found {sorted(shapes)}")

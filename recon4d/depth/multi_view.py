"""Depth without weights: what the posed pictures of a clip say of each other (multi-view stereo)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recon4d.geometry.photo_cost import GreyView, Labels, photo_costs
from recon4d.geometry.semi_global import Smoothness, semi_global
from recon4d.scene.camera import Camera
from recon4d.scene.depth import DepthKind, DepthMap, Provenance
from recon4d.scene.transforms import Rigid3

PLANES = 64


@dataclass(frozen=True)
class PosedPicture:
    """A picture at working resolution and the camera that took it."""

    rgb: np.ndarray  # (H, W, 3) uint8
    camera: Camera  # of this size
    cam_from_world: Rigid3

    def grey(self) -> GreyView:
        """The same in grey levels."""
        weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
        return GreyView(self.rgb.astype(np.float32) @ weights, self.camera, self.cam_from_world)


@dataclass(frozen=True)
class Look:
    """What one frame and its neighbours say of its depth: the first, raw answer."""

    inverse_depth: np.ndarray  # (H, W) float32, inverse scene units, > 0
    confidence: np.ndarray  # (H, W) float32: chance to lie within 5 % of the truth


def first_look(frame: GreyView, others: Sequence[GreyView], near: float, far: float) -> Look:
    """Plane sweep against the other views between two depths (scene units), smoothed along eight paths."""
    labels = Labels.sweep(frame.grey.shape, near, far, PLANES)
    choice = semi_global(photo_costs(frame, others, labels), frame.grey, Smoothness())
    return Look(labels.inverse_depth(choice.label), np.clip(choice.margin, 0, 1))


def settle(frame: PosedPicture, look: Look, others: Sequence[tuple[PosedPicture, Look]], complete: bool) -> DepthMap:
    """The final depth of a frame, from its own look and those of other frames.

    Args:
        complete: also give depth where nothing was measured, as provenance OTHER_FRAME and COMPLETED.
    """
    valid = np.ones(look.inverse_depth.shape, dtype=bool)
    provenance = np.full(valid.shape, Provenance.MEASURED, dtype=np.uint8)
    return DepthMap(DepthKind.SCENE_Z, 1 / look.inverse_depth, valid, look.confidence, provenance)

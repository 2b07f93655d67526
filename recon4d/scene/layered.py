"""A layered depth image: what a frame sees, and behind it what it would see without the nearer things."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon4d.scene.camera import Camera


@dataclass(frozen=True)
class Layer:
    """One surface per pixel, where there is one."""

    color: np.ndarray  # (H, W, 3) uint8 sRGB, 0 where alpha is 0
    depth: np.ndarray  # (H, W) float32 z, scene units, 0 where alpha is 0
    alpha: np.ndarray  # (H, W) float32, 0..1
    provenance: np.ndarray  # (H, W) uint8, see Provenance; of pixels with alpha 0 it means nothing

    def __post_init__(self) -> None:
        for field, dtype in (
            ("color", np.uint8),
            ("depth", np.float32),
            ("alpha", np.float32),
            ("provenance", np.uint8),
        ):
            object.__setattr__(self, field, np.ascontiguousarray(getattr(self, field), dtype=dtype))
        shape = self.depth.shape
        if self.color.shape != (*shape, 3) or self.alpha.shape != shape or self.provenance.shape != shape:
            raise ValueError(f"Layer: {self.color.shape}, {shape}, {self.alpha.shape}, {self.provenance.shape} differ")
        shown = self.depth[self.alpha > 0]
        if not (np.isfinite(shown).all() and (shown > 0).all()):
            raise ValueError("Layer: a visible depth is not finite and positive")

    @property
    def shown(self) -> np.ndarray:
        """(H, W) bool: where there is a surface."""
        return self.alpha > 0


@dataclass(frozen=True)
class LayeredDepth:
    """The layers of one frame, nearest first; at each pixel every layer lies behind those before it."""

    camera: Camera  # of all layers; its picture may be larger than the frame's by a border that the cascade filled
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        nearest = np.zeros(self.camera.shape, dtype=np.float32)
        for number, layer in enumerate(self.layers):
            if layer.depth.shape != self.camera.shape:
                raise ValueError(f"LayeredDepth: layer {number} is {layer.depth.shape}, the camera {self.camera.shape}")
            if (layer.shown & (layer.depth <= nearest)).any():
                raise ValueError(f"LayeredDepth: layer {number} is not behind the layers before it")
            nearest = np.where(layer.shown, layer.depth, nearest)

"""How near the numbers of a depth source are, on one scale for a whole clip, and what that scale says in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from recon4d.scene.depth import DepthKind, DepthMap

LOOKED_AT = 400_000  # pixels of a clip that its range is taken from
MOST, FEWEST = 4096, 64  # of a frame
SHOWN = (1.0, 99.0)  # percentiles of nearness that get the ends of the colours
TOLD = (5.0, 50.0, 95.0)  # percentiles of the numbers themselves, for people
UNITS = {DepthKind.SCENE_Z: "units", DepthKind.METRIC_Z: "m"}
WORDS = {
    DepthKind.SCENE_Z: "z-depth in units of the scene",
    DepthKind.METRIC_Z: "z-depth in metres, as the source says",
    DepthKind.SCALE_FREE_Z: "z-depth, scale not known",
    DepthKind.AFFINE_Z: "z-depth, scale and shift not known",
    DepthKind.SCALE_FREE_DISPARITY: "inverse depth, scale not known",
    DepthKind.AFFINE_DISPARITY: "inverse depth, scale and shift not known",
}


def nearness(values: np.ndarray, valid: np.ndarray, kind: DepthKind) -> tuple[np.ndarray, np.ndarray]:
    """Numbers that grow towards the camera, evenly as the picture does, and where there are any.

    Disparity as it is; z as 1 / z where it is positive; z of unknown shift as -z, for which 1 / z means nothing.

    Args:
        values: any one shape, float.
        valid: bool, of the same shape.

    Returns:
        float32 and bool, of the same shape; 0 where there is none.
    """
    if kind.is_disparity or kind is DepthKind.AFFINE_Z:
        sign = np.float32(1 if kind.is_disparity else -1)
        return np.where(valid, sign * values, 0).astype(np.float32), valid
    usable = valid & (values > 0)
    return np.where(usable, 1 / np.where(usable, values, 1), 0).astype(np.float32), usable


@dataclass(frozen=True)
class DepthScale:
    """The one scale that all frames of a clip are shown on."""

    kind: DepthKind
    low: float  # nearness that gets the darkest colour; above it in every case
    high: float  # nearness that gets the brightest one
    quantiles: tuple[float, float, float]  # 5, 50 and 95 % of the source's own numbers; NaN without any
    without: float  # share of all pixels that have no depth
    frames: int

    def share(self, depth: DepthMap) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) float32 0 (far) to 1 (near), and (H, W) bool where there is depth."""
        near, usable = nearness(depth.values, depth.valid, self.kind)
        share = (near.astype(np.float64) - self.low) / (self.high - self.low)
        return np.clip(share, 0, 1).astype(np.float32), usable

    def label(self, share: float) -> str:
        """What a place on the scale means, as short as can be."""
        near = self.low + share * (self.high - self.low)
        if self.kind in UNITS:
            return f"{1 / max(near, 1e-9):.3g} {UNITS[self.kind]}"
        if self.kind is DepthKind.AFFINE_DISPARITY or self.kind is DepthKind.AFFINE_Z:
            return {0.0: "far", 1.0: "near"}.get(share, "")
        # Of scale-free numbers the ratio to what is nearest is known.
        return "nearest" if share == 1 else f"{self.high / max(near, 1e-9):.3g} times as far"

    def record(self) -> dict[str, object]:
        """Numbers for the record of the source, as `depth_summary` reads them."""
        low, middle, high = (None if np.isnan(value) else float(f"{value:.5g}") for value in self.quantiles)
        return {"values_5_50_95": [low, middle, high], "without_depth": round(self.without, 5)}


def depth_scale(depths: Iterable[DepthMap], frames: int, kind: DepthKind) -> DepthScale:
    """The scale of a clip, from some pixels of every frame.

    Args:
        depths: the frames, each in memory when its turn comes.
        frames: how many there are.
    """
    each = int(np.clip(LOOKED_AT // max(frames, 1), FEWEST, MOST))
    near, own, without = [], [], 0.0
    for depth in depths:
        step = max(1, round((depth.values.size / each) ** 0.5))
        some = (slice(step // 2, None, step),) * 2
        values, valid = depth.values[some], depth.valid[some]
        own.append(values[valid])
        found, usable = nearness(values, valid, kind)
        near.append(found[usable])
        without += 1.0 - float(depth.valid.mean())
    numbers = np.concatenate(own or [np.zeros(0)]).astype(np.float64)
    seen = np.concatenate(near or [np.zeros(0)]).astype(np.float64)
    low, high = np.percentile(seen, SHOWN) if seen.size else (0.0, 1.0)
    # A clip that is the same everywhere is shown in the middle of the colours.
    room = max(abs(low), abs(high), 1e-12) * 1e-6
    if high - low < room:
        low, high = low - room, high + room
    told = np.percentile(numbers, TOLD) if numbers.size else np.full(3, np.nan)
    return DepthScale(kind, float(low), float(high), tuple(map(float, told)), without / max(frames, 1), frames)

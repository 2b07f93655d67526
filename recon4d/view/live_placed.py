"""Raw depth where it can be looked at beside aligned depth: as it is, or after the plainest fit there is."""

from __future__ import annotations

import numpy as np

from recon4d.scene.depth import DepthKind, SceneDepth

# Of the farthest aligned depth. The far end of an inverse scale, fitted by two numbers, runs off to infinity.
FARTHEST = 3.0
LEAST_PIXELS = 16


def needs_fit(kind: DepthKind, metres_per_unit: float | None) -> bool:
    """Whether depth of this kind has no place in the scene without a fit."""
    return not (kind is DepthKind.SCENE_Z or (kind is DepthKind.METRIC_Z and metres_per_unit))


def how_placed(kind: DepthKind, metres_per_unit: float | None) -> str:
    """In words, how `placed` places it."""
    if kind is DepthKind.SCENE_Z:
        return "As the source gave it: its depth is in the units of the scene."
    if not needs_fit(kind, metres_per_unit):
        return "As the source gave it, in its own metres."
    numbers = "median and mean deviation" if kind.has_shift else "median"
    return (
        f"The source says no distances ({kind.value}). Each frame is fitted to its aligned depth by {numbers} alone, "
        "so what differs in shape is what the stage align has done."
    )


def placed(
    kind: DepthKind, values: np.ndarray, valid: np.ndarray, aligned: SceneDepth | None, metres_per_unit: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """z-depth of one frame in scene units, and where there is any.

    Depth in scene units, and in metres where their size is known, stays as it is. The others are fitted in their own
    domain: a gain by the median of ratios; gain and shift such that median and mean absolute deviation agree.

    Args:
        values: (H, W) float, the source's own numbers.
        valid: (H, W) bool.
        aligned: of the same frame and size; nothing can be placed without it where a fit is needed.

    Returns:
        (H, W) float32, 0 where there is none, and (H, W) bool.

    Source: Ranftl et al., TPAMI 2022 (MiDaS), eq. 6, for gain and shift.
    """
    usable = valid & np.isfinite(values)
    if not needs_fit(kind, metres_per_unit):
        z = values / (metres_per_unit if kind is DepthKind.METRIC_Z else 1.0)
        return _positive(z, usable, np.inf)
    both = usable & aligned.valid if aligned is not None else np.zeros_like(usable)
    if not kind.has_shift:
        both &= values > 0
    if both.sum() < LEAST_PIXELS:
        return np.zeros(values.shape, dtype=np.float32), np.zeros_like(usable)
    d, z = values[both].astype(np.float64), aligned.depth[both].astype(np.float64)
    gain, shift = median_fit(d, 1 / z if kind.is_disparity else z, kind.has_shift)
    fitted = gain * values.astype(np.float64) + shift
    if kind.is_disparity:
        usable = usable & (fitted > 0)
        fitted = 1 / np.where(usable, fitted, 1)
    return _positive(fitted, usable, FARTHEST * z.max())


def median_fit(d: np.ndarray, y: np.ndarray, with_shift: bool) -> tuple[float, float]:
    """Gain and shift that bring the numbers ``d`` (K,) to the level, and with a shift to the spread, of ``y`` (K,)."""
    if not with_shift:
        return float(np.median(y / d)), 0.0
    middle_d, middle_y = np.median(d), np.median(y)
    spread_d, spread_y = np.abs(d - middle_d).mean(), np.abs(y - middle_y).mean()
    gain = spread_y / spread_d if spread_d > 0 else 0.0
    return float(gain), float(middle_y - gain * middle_d)


def _positive(z: np.ndarray, usable: np.ndarray, most: float) -> tuple[np.ndarray, np.ndarray]:
    good = usable & (z > 0) & (z <= most)
    return np.where(good, z, 0).astype(np.float32), good

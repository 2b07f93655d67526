"""How alike two pictures are, over the pixels of a mask."""

from __future__ import annotations

import numpy as np

WINDOW_PX = 11
SIGMA_PX = 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def psnr(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio of pictures (H, W, 3) 0..255, dB: infinite where equal, NaN where nothing counts.

    Args:
        mask: (H, W) bool of the pixels that count; None for all.
    """
    error = mean_square(a, b, mask)
    if np.isnan(error):
        return float("nan")
    return float("inf") if error == 0 else float(10 * np.log10(255.0**2 / error))


def mean_square(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean squared difference over the pixels of a mask and all channels; NaN where nothing counts."""
    a, b, mask = _checked(a, b, mask)
    if not mask.any():
        return float("nan")
    return float(((a[mask].astype(np.float64) - b[mask]) ** 2).mean())


def ssim(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean structural similarity of the brightness of pictures (H, W, 3) 0..255 over the pixels of a mask.

    Windows of pixels near a mask's edge reach beyond it; the pictures are mirrored at their borders.

    Source: Wang et al., IEEE TIP 2004: Gaussian window of 11x11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03.
    """
    a, b, mask = _checked(a, b, mask)
    if not mask.any():
        return float("nan")
    return float(ssim_map(a, b)[mask].mean())


def ssim_map(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(H, W) float64 structural similarity, -1..1, of pictures (H, W, 3) 0..255."""
    x, y = a.astype(np.float64) @ LUMA, b.astype(np.float64) @ LUMA
    mean_x, mean_y = _windowed(x), _windowed(y)
    var_x, var_y = _windowed(x * x) - mean_x**2, _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    return likeness / ((mean_x**2 + mean_y**2 + C1) * (var_x + var_y + C2))


def _windowed(values: np.ndarray) -> np.ndarray:
    from scipy.ndimage import correlate1d

    offset = np.arange(WINDOW_PX) - WINDOW_PX // 2
    weight = np.exp(-0.5 * (offset / SIGMA_PX) ** 2)
    weight /= weight.sum()
    return correlate1d(correlate1d(values, weight, axis=0, mode="mirror"), weight, axis=1, mode="mirror")


def _checked(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if mask is None:
        mask = np.ones(a.shape[:2], dtype=bool)
    if a.ndim != 3 or a.shape != b.shape or mask.shape != a.shape[:2]:
        raise ValueError(f"picture scores: pictures {a.shape} and {b.shape} and a mask {mask.shape} do not match")
    return a, b, mask

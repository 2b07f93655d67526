"""Depth as colours, and the bar that explains them."""

from __future__ import annotations

import numpy as np

NO_DEPTH = (38, 39, 44)  # where there is no depth


def colorize_depth(depth: np.ndarray, valid: np.ndarray, near: float, far: float) -> np.ndarray:
    """(H, W, 3) uint8 RGB: red is near, blue is far, even in 1 / depth so that near things keep their detail.

    Args:
        depth: (H, W) float, any unit.
        valid: (H, W) bool.
        near: depth that gets the first colour, same unit; nearer gets it too.
        far: depth that gets the last colour.
    """
    import cv2

    if not 0 < near < far:
        raise ValueError(f"colorize_depth: near {near} and far {far} are no range")
    usable = valid & (depth > 0)
    inverse = 1.0 / np.where(usable, depth, far).astype(np.float64)
    nearness = np.clip((inverse - 1 / far) / (1 / near - 1 / far), 0, 1)
    colors = cv2.applyColorMap(np.round(nearness * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    return np.where(usable[..., None], colors, np.array(NO_DEPTH, dtype=np.uint8))


def depth_range(samples: list[np.ndarray]) -> tuple[float, float]:
    """Near and far that show 98 % of some valid depths, never an empty range."""
    near, far = np.quantile(np.concatenate(samples), [0.01, 0.99])
    return float(near), float(max(far, 1.01 * near))


def depth_bar(near: float, far: float, width: int, height: int, unit: str) -> np.ndarray:
    """(height, width, 3) uint8 bar over all colours with depths written under it."""
    import cv2

    bar_height = max(4, height - 18)
    nearness = np.linspace(1, 0, width)
    depth = 1.0 / (nearness * (1 / near - 1 / far) + 1 / far)
    out = np.empty((height, width, 3), dtype=np.uint8)
    out[:] = (24, 25, 29)
    out[:bar_height] = colorize_depth(depth[None], np.ones((1, width), dtype=bool), near, far)
    for share in np.linspace(0, 1, max(2, width // 80)):  # as many labels as fit
        column = min(int(share * width), width - 1)
        text = f"{depth[column]:.2f} {unit}" if far < 20 else f"{depth[column]:.1f} {unit}"
        (text_width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.38, 1)
        left = int(np.clip(column - text_width / 2, 0, width - text_width))
        cv2.putText(out, text, (left, height - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (190, 192, 198), 1, cv2.LINE_AA)
    return out

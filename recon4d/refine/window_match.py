"""How alike a frame and another view are at the frame's depth, window by window: 1 - ZNCC and its exact gradient."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LEAST_SEEN = 0.6  # of a window's pixels: fewer say nothing
FLOOR = 4.0  # grey levels squared, see `photo_cost.VARIANCE_FLOOR`


class Likeness(NamedTuple):
    """Of a frame's windows to what another view shows there; all (H, W) float32."""

    energy: float  # sum over the windows
    gradient: np.ndarray  # of it by x
    hessian: np.ndarray  # Gauss-Newton's, diagonal
    zncc: np.ndarray  # of the window about each pixel, 0 where too little of it is seen
    seen: np.ndarray  # bool: enough is


def likeness(
    own: np.ndarray, warped: np.ndarray, slope: np.ndarray, share: np.ndarray, radius: int, cut: float
) -> Likeness:
    """Sum over windows of the robust cost of 1 - ZNCC and its derivatives.

    Args:
        own: (H, W) float grey levels of the frame, NaN where masked.
        warped: (H, W) float, grey levels the view shows there, NaN where it does not see the pixel.
        slope: (H, W) float32, d warped / d x.
        share: (H, W) float32 0..1, weight of the window about each pixel.
        radius: of the window, pixels.
        cut: of 1 - ZNCC, beyond which a window counts little.

    With m and s^2 the mean and variance (plus `FLOOR`) over the window's pixels that are seen, ZNCC is
    (mean(o w) - m_o m_w) / (s_o s_w), and  d ZNCC / d w(q) = ((o(q) - m_o) / s_o - ZNCC (w(q) - m_w) / s_w) / (n s_w).
    """
    import cv2

    size = (2 * radius + 1,) * 2

    def box(values):
        return cv2.boxFilter(values, -1, size, normalize=False, borderType=cv2.BORDER_CONSTANT)

    seen = np.isfinite(warped) & np.isfinite(own)
    known = seen.astype(own.dtype)
    o, w = np.where(seen, own - 128, 0), np.where(seen, warped - 128, 0)
    n = box(known)
    enough = n >= LEAST_SEEN * size[0] * size[1]
    per = 1 / np.maximum(n, 1)
    mo, mw = box(o) * per, box(w) * per
    so = 1 / np.sqrt(np.maximum(box(o * o) * per - mo * mo, 0) + FLOOR)
    sw = 1 / np.sqrt(np.maximum(box(w * w) * per - mw * mw, 0) + FLOOR)
    zncc = (box(o * w) * per - mo * mw) * so * sw
    cost = 1 - zncc
    over = cut / (cut + cost)  # cost * cut / (cut + cost): its slope is over^2
    weight = np.where(enough, share, 0) * over * over
    energy = float((np.where(enough, share, 0) * cost * over).sum(dtype=np.float64))
    k = weight * per * sw
    both, self_ = k * so, k * zncc * sw
    gradient = -(o * box(both) - box(both * mo) - w * box(self_) + box(self_ * mw)) * slope * known
    hessian = slope * slope * known * box(k * sw)
    return Likeness(energy, gradient, hessian, np.where(enough, zncc, zncc.dtype.type(0)), enough)

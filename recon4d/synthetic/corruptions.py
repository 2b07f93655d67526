"""What video depth models do to depth, one fault per function; each is pure and seeded.

All work on disparity (1/z, larger = nearer) of a whole clip, (T, h, w) float, and return a new array of the same shape.
Strengths are those measured on, or made for, relative video depth: errors that are smooth in space and slow in time
are large, errors of a single frame small.
"""

from __future__ import annotations

import numpy as np


def smeared_edges(disparity: np.ndarray, sigma_px: float = 1.0) -> np.ndarray:
    """Silhouettes run over 2-3 pixels: a Gaussian blur of each frame, ``sigma_px`` in pixels of the given grid."""
    from scipy.ndimage import gaussian_filter

    return np.stack([gaussian_filter(frame, sigma_px, mode="nearest") for frame in disparity])


def bending(disparity: np.ndarray, seed: int, strength: float = 0.055, period: float = 60.0) -> np.ndarray:
    """Flat things bend: disparity is multiplied by 1 plus four slow travelling waves of 2-3 cycles per picture.

    Args:
        disparity: (T, h, w).
        seed: of directions and phases.
        strength: amplitude of the one sine that would be as strong (in rms) as the four together.
        period: frames a wave takes to travel by its own length.
    """
    rng = np.random.default_rng(seed)
    count, height, width = disparity.shape
    y, x = (np.arange(height) + 0.5)[:, None] / height, (np.arange(width) + 0.5)[None, :] / width
    waves = [
        (rng.uniform(2, 3), rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi), rng.choice([-1, 1])) for _ in range(4)
    ]
    out = np.empty_like(disparity)
    for t in range(count):
        field = np.zeros((height, width))
        for cycles, heading, phase, sense in waves:
            along = x * np.cos(heading) + y * np.sin(heading)
            field += np.sin(2 * np.pi * (cycles * along + sense * t / period) + phase)
        out[t] = disparity[t] * (1 + strength / 2 * field)  # 4 independent sines have twice the rms of one
    return out


def window_drift(
    disparity: np.ndarray,
    seed: int,
    window: int = 40,
    overlap: int = 10,
    gain_sigma: float = 0.035,
    shift_sigma: float = 0.025,
) -> np.ndarray:
    """Windows made one after the other differ in scale and shift; where they overlap, one fades into the next.

    Args:
        disparity: (T, h, w).
        seed: of the windows' scales and shifts.
        window: frames per window (DepthCrafter: 110).
        overlap: frames two windows share, fewer than ``window`` (DepthCrafter: 25), cross-faded linearly.
        gain_sigma: standard deviation of the scales about 1.
        shift_sigma: standard deviation of the shifts, as a share of the clip's range of disparity.
    """
    if not 0 <= overlap < window:
        raise ValueError(f"window_drift: overlap {overlap} must be at least 0 and less than the window {window}")
    rng = np.random.default_rng(seed)
    count, step = len(disparity), window - overlap
    windows = max(1, -(-(count - overlap) // step))
    gains = 1 + gain_sigma * rng.standard_normal(windows)
    shifts = shift_sigma * float(np.ptp(disparity)) * rng.standard_normal(windows)
    weights = np.zeros((count, windows))
    for k in range(windows):
        rise = (np.arange(count) - k * step + 1) / (overlap + 1) if k else np.ones(count)
        fall = ((k + 1) * step - np.arange(count) + overlap) / (overlap + 1) if k < windows - 1 else np.ones(count)
        weights[:, k] = np.clip(np.minimum(rise, fall), 0, 1)
    weights /= weights.sum(axis=1, keepdims=True)
    return disparity * (weights @ gains)[:, None, None] + (weights @ shifts)[:, None, None]


def flicker(disparity: np.ndarray, seed: int, gain_sigma: float = 0.003, shift_sigma: float = 0.002) -> np.ndarray:
    """Every frame has a scale and shift of its own, independent of its neighbours.

    ``gain_sigma`` is the standard deviation of the scales about 1, ``shift_sigma`` that of the shifts as a share of the
    clip's range of disparity.
    """
    rng = np.random.default_rng(seed)
    gains = 1 + gain_sigma * rng.standard_normal(len(disparity))
    shifts = shift_sigma * float(np.ptp(disparity)) * rng.standard_normal(len(disparity))
    return disparity * gains[:, None, None] + shifts[:, None, None]


def affine_disparity(disparity: np.ndarray) -> np.ndarray:
    """Scale and shift are lost: 0..1 by the smallest and largest value of the whole clip, as DepthCrafter writes it."""
    low, high = float(disparity.min()), float(disparity.max())
    if not high > low:
        raise ValueError("affine_disparity: the clip is constant")
    return (disparity - low) / (high - low)


def simulate_video_depth(depth: np.ndarray, seed: int = 0, reduce: int = 1) -> np.ndarray:
    """An imitation of a video depth model, made from true depth; it is no network and must not be cited as one.

    Args:
        depth: (T, H, W) true z-depth, all positive.
        seed: of all its faults.
        reduce: 2 gives half resolution (means of 2x2 pixels of disparity); must divide both sides.

    Returns:
        (T, H/reduce, W/reduce) float16 relative disparity 0..1, larger = nearer; scale and shift unknown, drifting per
        window, flickering per frame, bent, with smeared edges.
    """
    count, height, width = depth.shape
    if height % reduce or width % reduce:
        raise ValueError(f"simulate_video_depth: {width}x{height} pixels cannot be reduced by {reduce}")
    disparity = (1.0 / depth.astype(np.float32)).reshape(count, height // reduce, reduce, width // reduce, reduce)
    disparity = smeared_edges(disparity.mean(axis=(2, 4)))
    disparity = bending(disparity, seed)
    disparity = window_drift(disparity, seed + 1)
    disparity = flicker(disparity, seed + 2)
    return affine_disparity(disparity).astype(np.float16)

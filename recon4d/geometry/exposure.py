"""How much brighter one picture is than another: gains that make the same surface the same colour in all frames."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

DARKEST, BRIGHTEST = 8, 247  # colours beyond tell of the sensor's limits, not of the light
HUBER = 0.05  # of the logarithm: about 5 %; shine and false matches beyond it count less
PRIOR = 1e-2  # weight of the opinion that a gain is 1, in observations
ROUNDS = 20


def exposure_gains(observations: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    """Gains of frames from the colours in which they see common points.

    Args:
        observations: name -> rows (K,) int of points, and their colours (K, 3), 0..255, in that frame.

    Returns:
        name -> (3,) float64, per channel what the colours must be multiplied with; their product over frames is 1.
        1 for frames that see no common point.

    The model is log colour = log albedo of the point + log exposure of the frame; least squares of its Huber cost by
    reweighting, points eliminated. Source: Goldman and Chen, ICCV 2005, without their response curve.
    """
    names = list(observations)
    count = len(names)
    if count == 0:
        return {}
    frame = np.concatenate([np.full(len(observations[name][0]), i) for i, name in enumerate(names)])
    rows = np.concatenate([np.asarray(observations[name][0], dtype=np.int64) for name in names])
    colors = np.concatenate([np.asarray(observations[name][1], dtype=np.float64).reshape(-1, 3) for name in names])
    _, point = np.unique(rows, return_inverse=True)
    logs = np.zeros((count, 3))
    for channel in range(3):
        good = (colors[:, channel] >= DARKEST) & (colors[:, channel] <= BRIGHTEST)
        if good.any():
            logs[:, channel] = _solve(frame[good], point[good], np.log(colors[good, channel]), count)
    return {name: np.exp(-logs[i]) for i, name in enumerate(names)}


def _solve(frame: np.ndarray, point: np.ndarray, value: np.ndarray, count: int) -> np.ndarray:
    """(F,) log exposures with sum 0 from observations (K,) of points by frames."""
    from scipy.sparse import coo_array

    points = int(point.max()) + 1
    exposure, weight = np.zeros(count), np.ones(len(value))
    for _ in range(ROUNDS):
        of_point = np.maximum(np.bincount(point, weight, points), 1e-12)
        mean = np.bincount(point, weight * value, points) / of_point
        # Reduced normal equations: (D_f - W D_p^-1 W^T) exposure = W (value - mean of the point).
        shared = coo_array((weight, (frame, point)), shape=(count, points)).tocsr()
        matrix = (
            np.diag(np.bincount(frame, weight, count)) - (shared.multiply(1.0 / of_point[None, :]) @ shared.T).toarray()
        )
        right = np.bincount(frame, weight * (value - mean[point]), count)
        before, exposure = exposure, np.linalg.solve(matrix + PRIOR * np.eye(count), right)
        exposure -= exposure.mean()
        albedo = np.bincount(point, weight * (value - exposure[frame]), points) / of_point
        residual = np.abs(value - exposure[frame] - albedo[point])
        weight = np.minimum(1.0, HUBER / np.maximum(residual, 1e-12))
        if np.abs(exposure - before).max() < 1e-6:
            break
    return exposure

"""Optical flow as numbers: does it come back, and the same flow on pictures of another size."""

from __future__ import annotations

import numpy as np

RETURN_PX, RETURN_SHARE = 0.5, 0.05
NEVER = 1e6  # pixels: a way that leads nowhere


def flow_map(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns x and rows y (H, W) float32 of where a flow leads, as `cv2.remap` takes them: the first pixel is at 0.

    Where the flow (H, W, 2) is NaN they are far outside of any picture.
    """
    height, width = flow.shape[:2]
    x = np.nan_to_num(flow[..., 0] + np.arange(width), nan=-NEVER).astype(np.float32)
    y = np.nan_to_num(flow[..., 1] + np.arange(height)[:, None], nan=-NEVER).astype(np.float32)
    return x, y


def checked_flow(
    forward: np.ndarray, backward: np.ndarray, return_px: float = RETURN_PX, return_share: float = RETURN_SHARE
) -> np.ndarray:
    """The flow to another picture where the flow back from there returns to the same pixel, NaN elsewhere.

    What is hidden in the other picture, lies outside it, or looks like something else there does not come back.

    Args:
        forward: (H, W, 2) pixels (right, down) from this picture to the other, NaN where it is not known.
        backward: (h, w, 2) pixels from the other picture to this one, NaN where it is not known.
        return_px: a pixel must come back to nearer than this plus ``return_share`` of the length of its way.

    Source: Sundaram, Brox and Keutzer, ECCV 2010, eq. 5, with lengths for squares.
    """
    import cv2

    forward = np.ascontiguousarray(forward, dtype=np.float32)
    # NaN would take pixels with it of which it has no part: a weight of 0 times NaN is NaN.
    back = np.nan_to_num(np.asarray(backward, dtype=np.float32), nan=NEVER)
    x, y = flow_map(forward)
    returned = cv2.remap(back, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(NEVER,) * 2)
    error = np.linalg.norm(forward + returned, axis=-1)
    sure = error < return_px + return_share * np.linalg.norm(forward, axis=-1)  # False for NaN
    return np.where(sure[..., None], forward, np.float32(np.nan))


def resized_flow(flow: np.ndarray, width: int, height: int) -> np.ndarray:
    """The flow between the same two pictures at another size: the displacements grow with the pictures.

    Args:
        flow: (h, w, 2) pixels, NaN where it is not known.

    Returns:
        (height, width, 2) float32; the flow itself where the size is the same.
    """
    from recon4d.geometry.resample import resize_grid

    flow = np.asarray(flow, dtype=np.float32)
    if flow.shape[:2] == (height, width):
        return flow
    known = np.isfinite(flow).all(axis=-1)
    out = np.empty((height, width, 2), dtype=np.float32)
    for axis, factor in enumerate((width / flow.shape[1], height / flow.shape[0])):
        values, valid = resize_grid(flow[..., axis], known, width, height)
        out[..., axis] = np.where(valid, values * np.float32(factor), np.float32(np.nan))
    return out

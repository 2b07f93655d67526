"""Depth of a small grid brought to the size of its picture, with its steps where the picture has them."""

from __future__ import annotations

import numpy as np
from numba import njit

from recon4d.geometry.resample import resize_grid

REACH = 3  # cells of the small grid to each side that a pixel may belong to
SHARP, SOFT = 0.6, 2.0  # cells over which their weight falls, at a step of one cell and at most
COLOUR = 40.0  # grey levels, all channels together, over which likeness falls to 1 / e
RAMP = 0.12  # of the range of the surroundings: cells with steeper ones next to them lie between two surfaces
SAME = 0.25  # of the range of the surroundings: cells this near to the chosen value are of the same surface
STEEP = 0.2  # of the range of the surroundings: cells with no steeper ones next to them keep what they have
BINS = 32  # of the range of the surroundings
BENT = 0.02  # of the picture's spread: surroundings this far from one plane begin to hold a step
NUMERIC = {"contract", "arcp", "nsz"}


def upsampled(values: np.ndarray, valid: np.ndarray, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth or disparity, in any unit and with any offset, on the grid of the picture it belongs to.

    Where the grid is locally a plane it is read bilinearly, whatever texture the picture has. Near steps a pixel takes
    the value of those cells around it whose colour it has: the weighted median of them, then the mean of what is of
    the same surface. Values between two surfaces, which networks and bilinear reading leave along steps, count little.
    No value is outside the range of the cells around it, and gain * values + shift gives gain * result + shift.
    A grid larger than the picture is averaged over the valid part of each pixel.

    Args:
        values: (h, w) float32.
        valid: (h, w) bool; values that are not finite count as invalid.
        rgb: (H, W, 3) uint8.

    Returns:
        values (H, W) float32, 0 where not valid, and valid (H, W) bool; those given when the sizes are equal.

    Raises:
        ValueError: the shapes are not those above.

    Source: Kopf et al., Joint bilateral upsampling, SIGGRAPH 2007 (weights by the fine picture's colour); Ma et al.,
    Constant time weighted median filtering, ICCV 2013 (the median instead of the mean).
    """
    values, valid = np.asarray(values, dtype=np.float32), np.asarray(valid, dtype=bool)
    if values.ndim != 2 or valid.shape != values.shape or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"upsampled: values {values.shape}, valid {valid.shape}, picture {rgb.shape} do not fit")
    height, width = rgb.shape[:2]
    if values.shape == (height, width):
        return values, valid
    valid = valid & np.isfinite(values)
    values = np.where(valid, values, np.float32(0))
    if values.shape[0] > height or values.shape[1] > width:
        values, valid = _averaged(values, valid, min(height, values.shape[0]), min(width, values.shape[1]))
    coarse = np.ascontiguousarray(values), np.ascontiguousarray(valid)
    out, out_valid = resize_grid(*coarse, width, height)
    bent = _bent(*coarse) if values.shape != (height, width) else None
    if bent is not None:
        ranges = (_range(*coarse, 3), _range(*coarse, 2 * REACH + 1))
        _choose(coarse, (bent, *ranges), _pictures(rgb, values.shape), _likeness(), out, out_valid)
    return out, out_valid


def _averaged(values: np.ndarray, valid: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the valid part of each larger pixel; valid where half of it is."""
    import cv2

    if not valid.any():
        return np.zeros((height, width), np.float32), np.zeros((height, width), bool)
    share = cv2.resize(valid.astype(np.float64), (width, height), interpolation=cv2.INTER_AREA)
    base = float(values[valid].mean(dtype=np.float64))  # large offsets would cost digits
    total = cv2.resize(np.where(valid, values - base, 0.0), (width, height), interpolation=cv2.INTER_AREA)
    out_valid = share >= 0.5 - 1e-9
    mean = base + total / np.maximum(share, 1e-9)
    return np.where(out_valid, mean, 0).astype(np.float32), out_valid


def _bent(values: np.ndarray, valid: np.ndarray) -> np.ndarray | None:
    """(h, w) float32: how far 5 x 5 cells are from one plane, in shares of the picture's spread; None without spread.

    Invalid cells take the mean of the valid ones around them, so that the border of a hole is no step.
    """
    import cv2

    if not valid.any():
        return None
    inside = values[valid].astype(np.float64)
    middle = np.median(inside)
    # The median deviation is not stretched by a sky ten kilometres away; it is 0 where most is one plane.
    spread = np.median(np.abs(inside - middle)) or np.abs(inside - middle).max() / 4
    if not spread > 0:
        return None
    x = np.where(valid, (values - middle) / spread, 0.0)
    size = (5, 5)
    count = cv2.blur(valid.astype(np.float64), size, borderType=cv2.BORDER_REFLECT)
    x = np.where(valid, x, cv2.blur(x, size, borderType=cv2.BORDER_REFLECT) / np.maximum(count, 1 / 50))
    # Beyond the border planes go on: mirrored they would be bent there.
    x = np.pad(x, 2, mode="reflect", reflect_type="odd")
    mean = cv2.blur(x, size)
    ramp = np.arange(-2.0, 3.0)
    slopes = [
        cv2.sepFilter2D(x, -1, *kernels) / 50  # sum of ramp ** 2 over the window
        for kernels in ((ramp, np.ones(5)), (np.ones(5), ramp))
    ]
    about = cv2.blur(x**2, size) - mean**2
    rest = about - 2 * (slopes[0] ** 2 + slopes[1] ** 2)  # 2: mean of ramp ** 2
    return np.sqrt(np.maximum(rest, 0))[2:-2, 2:-2].astype(np.float32)


def _pictures(rgb: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Mean colours of the small grid's cells, and the picture, a little smoothed."""
    import cv2

    small = cv2.resize(rgb, shape[::-1], interpolation=cv2.INTER_AREA)
    return small, cv2.GaussianBlur(rgb, (0, 0), 0.7)


def _range(values: np.ndarray, valid: np.ndarray, side: int) -> np.ndarray:
    """(h, w) float32: largest minus smallest valid value of ``side`` x ``side`` cells, 0 where there is none."""
    import cv2

    window = np.ones((side, side), dtype=np.uint8)
    high = cv2.dilate(np.where(valid, values, np.float32(-np.inf)), window)
    low = cv2.erode(np.where(valid, values, np.float32(np.inf)), window)
    some = high >= low
    return np.subtract(high, low, out=np.zeros_like(values), where=some)


def _likeness() -> np.ndarray:
    """(766,) float32 by the difference of colours, all channels together."""
    return np.exp(-np.arange(766) / COLOUR).astype(np.float32)


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy")
def _choose(coarse, shape_of, pictures, likeness, out, out_valid):
    bent, steep, extent_of = shape_of
    height, width = bent.shape
    side = 2 * REACH + 1
    found, weights, near = np.empty(side**2, np.float32), np.empty(side**2, np.float32), np.empty(side**2, np.float32)
    room = np.empty(side, np.float32), np.empty((2, BINS))
    for row in range(out.shape[0]):
        v = (row + 0.5) * height / out.shape[0] - 0.5
        r = min(max(int(np.floor(v + 0.5)), 0), height - 1)
        for column in range(out.shape[1]):
            u = (column + 0.5) * width / out.shape[1] - 0.5
            c = min(max(int(np.floor(u + 0.5)), 0), width - 1)
            extent = extent_of[r, c]
            if not out_valid[row, column] or bent[r, c] <= BENT or not steep[r, c] > np.float32(STEEP) * extent:
                continue
            steepness = steep[r, c] / extent
            place = row, column, v, u, r, c, min(SHARP / steepness, SOFT), extent
            n = _gather(coarse, steep, pictures, likeness, place, room[0], found, weights, near)
            chosen = _weighted_median(found, weights, n, extent, room[1])
            total, mean = 0.0, 0.0
            for k in range(n):
                if abs(found[k] - chosen) <= np.float32(SAME) * extent:
                    total += near[k]
                    mean += near[k] * (np.float64(found[k]) - chosen)
            # Both limits are approached softly: no seam between what is chosen and what is read bilinearly.
            share = min(bent[r, c] / BENT - 1, 1.0) * min(steepness / STEEP - 1, 1.0)
            out[row, column] += share * (chosen + mean / total - out[row, column])


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy", inline="always")
def _gather(coarse, steep, pictures, likeness, place, across, found, weights, near):
    """Values of the cells around a pixel, their weights without and with likeness of colour; their number."""
    values, valid = coarse
    small, picture = pictures
    row, column, v, u, r, c, spread, extent = place
    height, width = values.shape
    fall = -0.5 / spread**2
    n = 0
    left, right = max(0, c - REACH), min(width, c + REACH + 1)
    for x in range(left, right):
        across[x - left] = np.exp(fall * (x - u) ** 2)
    for y in range(max(0, r - REACH), min(height, r + REACH + 1)):
        down = np.float32(np.exp(fall * (y - v) ** 2))
        for x in range(left, right):
            if not valid[y, x]:
                continue
            unlike = 0
            for k in range(3):
                unlike += abs(np.int64(small[y, x, k]) - np.int64(picture[row, column, k]))
            doubt = steep[y, x] / (np.float32(RAMP) * extent)
            found[n] = values[y, x]
            near[n] = down * across[x - left] / (1 + doubt * doubt)
            weights[n] = near[n] * likeness[unlike] + np.float32(1e-12)
            n += 1
    return n


@njit(cache=True, nogil=True, fastmath=NUMERIC, error_model="numpy")
def _weighted_median(values, weights, n, extent, bins):
    """The value at which half of the weight is reached, to a bin of the range: the mean of what is in that bin."""
    low = values[0]
    for k in range(1, n):
        low = min(low, values[k])
    held, sums, total = bins[0], bins[1], 0.0
    bins[:] = 0.0
    for k in range(n):
        bin_of = min(int((values[k] - low) / extent * BINS), BINS - 1)
        held[bin_of] += weights[k]
        sums[bin_of] += weights[k] * np.float64(values[k] - low)
        total += weights[k]
    reached = 0.0
    for k in range(BINS):
        reached += held[k]
        if reached >= 0.5 * total and held[k] > 0:
            return low + sums[k] / held[k]
    return np.float64(low)

"""From a coarse mask to the picture's own edges: colours decide in a narrow band around the outline."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from recon4d.geometry.smooth_solver import solve
from recon4d.motion.labels import colour_springs
from recon4d.motion.nearest_number import nearest_number

INSIDE, OUTSIDE = 5 / 640, 3 / 640  # of the longer side: so far from the coarse outline the label is certain
CERTAIN, LEFT = 100.0, 0.002  # weights of what is certain and of the coarse label in the band
COLOUR = 0.2  # weight of a colour that only one side has
STIFFNESS, SOFTEST, EDGE = 1.0, 1e-3, 6.0  # of springs; see `colour_springs`
SURROUNDINGS = 20 / 640  # of the longer side, of which the colours beside an object are taken
BINS = 16  # along each channel of a colour histogram
LEAST_PIXELS = 30  # on either side, for its colours to be known
LEAST_CHANCE = 1e-4  # of a colour that was not seen: it speaks for neither side


def outlined(label: np.ndarray, rgb: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """A label of the picture's size that follows its edges.

    Args:
        label: (h, w) float32 coarse label, 0..1.
        rgb: (H, W, 3) uint8.
        threshold: the mask is where the label is more than this, in what is given and in what comes back.

    Returns:
        (H, W) float32, 0..1.
    """
    height, width = rgb.shape[:2]
    coarse = np.clip(cv2.resize(label, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1)
    # In between everything is symmetric: the threshold becomes a half and a half the threshold again.
    coarse = np.interp(coarse, (0, threshold, 1), (0, 0.5, 1)).astype(np.float32)
    mask = (coarse > 0.5).astype(np.uint8)
    if mask.any():
        box = _box(mask, round(2 * SURROUNDINGS * max(height, width)))
        coarse[box] = _in_box(coarse[box], mask[box], np.ascontiguousarray(rgb[box]), max(height, width))
    return np.interp(coarse, (0, 0.5, 1), (0, threshold, 1)).astype(np.float32)


def _box(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """The part of the picture around all of the mask."""
    return tuple(
        slice(max(int(filled[0]) - margin, 0), int(filled[-1]) + margin + 1)
        for filled in (np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0)))
    )


def _in_box(coarse: np.ndarray, mask: np.ndarray, rgb: np.ndarray, longer: int) -> np.ndarray:
    inside = cv2.erode(mask, _disc(INSIDE * longer)) > 0
    outside = cv2.dilate(mask, _disc(OUTSIDE * longer)) == 0
    sure = inside | outside
    weight = np.where(sure, CERTAIN, LEFT).astype(np.float32)
    target = np.where(sure, CERTAIN * inside, LEFT * coarse).astype(np.float32)
    count, parts = cv2.connectedComponents((~outside).astype(np.uint8))
    for part in range(1, count):
        colours = _by_colour(parts == part, inside, outside, rgb, round(SURROUNDINGS * longer))
        if colours is not None:
            band, chance = colours
            strength = COLOUR * np.abs(2 * chance - 1)
            weight[band] += strength
            target[band] += strength * chance
    springs = colour_springs(rgb, STIFFNESS, SOFTEST, EDGE)
    return np.clip(solve(weight, *springs, target), 0, 1)


def _by_colour(
    part: np.ndarray, inside: np.ndarray, outside: np.ndarray, rgb: np.ndarray, ring: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """The band (H, W) bool of one part, and the chance (N,) that its pixels are the object's, by their colours."""
    around = tuple(slice(s.start, s.stop) for s in _box(part, ring))
    own, beside = part[around] & inside[around], outside[around]
    if own.sum() < LEAST_PIXELS or beside.sum() < LEAST_PIXELS:
        return None
    colour = _bins(rgb[around])
    fore, back = (_histogram(colour[side]) for side in (own, beside))
    ratio = np.log((fore + LEAST_CHANCE) / (back + LEAST_CHANCE)).astype(np.float32)[colour]
    chance = 1 / (1 + np.exp(-cv2.blur(ratio, (3, 3))))
    band = np.zeros_like(part)
    band[around] = part[around] & ~inside[around]
    return band, chance[band[around]]


def _bins(rgb: np.ndarray) -> np.ndarray:
    """(H, W) int bin of each colour."""
    step = (rgb // (256 // BINS)).astype(np.int64)
    return (step[..., 0] * BINS + step[..., 1]) * BINS + step[..., 2]


def _histogram(colour: np.ndarray) -> np.ndarray:
    """(BINS ** 3,) share of each bin, smoothed over neighbouring colours."""
    counts = np.bincount(colour, minlength=BINS**3).astype(np.float64).reshape((BINS,) * 3)
    counts = gaussian_filter(counts, 0.7).ravel()
    return counts / counts.sum()


def _disc(radius: float) -> np.ndarray:
    size = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))


def numbered(label: np.ndarray, numbers: np.ndarray, threshold: float) -> np.ndarray:
    """(H, W) uint16 object of each pixel whose label exceeds the threshold, 0 elsewhere.

    A pixel has the number of the nearest coarse pixel with one; parts without any such pixel belong to none.

    Args:
        label: (H, W) float32 of the picture's size.
        numbers: (h, w) uint16 at the coarse size.
    """
    height, width = label.shape
    seeds = cv2.resize(numbers, (width, height), interpolation=cv2.INTER_NEAREST)
    mask = label > threshold
    _, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    kept = np.unique(parts[mask & (seeds > 0)])
    mask &= np.isin(parts, kept[kept > 0])
    return np.where(mask, nearest_number(seeds), 0).astype(np.uint16)

"""Whether two grids can be of the same picture."""

from __future__ import annotations

# Networks round sides to multiples of up to 64 pixels: that changes their ratio by up to 7 % each.
MAX_CHANGE = 0.16


def same_proportions(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether grids of (height, width, ...) cover one picture: else it is another one, or turned, or cropped."""
    change = (shape[1] / shape[0]) / (other[1] / other[0])
    return 1 / (1 + MAX_CHANGE) <= change <= 1 + MAX_CHANGE

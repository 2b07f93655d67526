"""A plot's axes on a picture: round ticks, robust ranges, lines, points and marks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recon4d.view.drawing import FAINT, Color, blend, text_width, write

GROUND, GRID, EDGE = (31, 32, 37), (50, 52, 58), (92, 95, 102)
LABEL = 0.4  # size of the letters at the ticks
EMPTY_RANGE = (0.0, 1.0)


@dataclass(frozen=True)
class Axes:
    """Where numbers lie on a picture."""

    left: int
    top: int
    width: int
    height: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    log_y: bool = False  # y_range is positive then
    has_y: bool = True  # False: rows mean nothing but their order

    def columns(self, x: np.ndarray) -> np.ndarray:
        """Pixel columns (float) of x."""
        low, high = self.x_range
        return self.left + (np.asarray(x, dtype=np.float64) - low) / (high - low) * (self.width - 1)

    def rows(self, y: np.ndarray) -> np.ndarray:
        """Pixel rows (float) of y; NaN where a logarithm needs a positive number."""
        y, (low, high) = np.asarray(y, dtype=np.float64), self.y_range
        if self.log_y:
            y = np.log(np.where(y > 0, y, np.nan))
            low, high = np.log(low), np.log(high)
        return self.top + self.height - 1 - (y - low) / (high - low) * (self.height - 1)

    def draw(
        self,
        picture: np.ndarray,
        x_name: Callable[[float], str] | None = None,
        whole_x: bool = False,
    ) -> None:
        """Ground, grid and labels at round numbers.

        Args:
            x_name: writes a tick in other words than as a number.
            whole_x: ticks at whole numbers only.
        """
        self.inside(picture)[:] = GROUND
        xs = round_ticks(*self.x_range, most=max(3, self.width // (90 if whole_x else 65)), whole=whole_x)
        if self.log_y:
            ys = log_ticks(*self.y_range)
        else:
            ys = round_ticks(*self.y_range, most=max(2, self.height // 34)) if self.has_y else np.zeros(0)
        bottom, right = self.top + self.height, self.left + self.width
        for column, text in zip(
            self.columns(xs).round().astype(int), [x_name(x) for x in xs] if x_name else tick_texts(xs)
        ):
            picture[self.top : bottom, column] = GRID
            half = text_width(text, LABEL) // 2
            write(
                picture, text, (int(np.clip(column - half, 0, picture.shape[1] - 2 * half)), bottom + 15), LABEL, FAINT
            )
        for row, text in zip(self.rows(ys).round().astype(int), tick_texts(ys)):
            picture[row, self.left : right] = GRID
            write(picture, text, (self.left - 6 - text_width(text, LABEL), row + 4), LABEL, FAINT)
        picture[self.top : bottom, self.left] = EDGE
        picture[bottom - 1, self.left : right] = EDGE

    def inside(self, picture: np.ndarray) -> np.ndarray:
        """The part of a picture that the axes cover."""
        return picture[self.top : self.top + self.height, self.left : self.left + self.width]

    def line(self, picture: np.ndarray, x: np.ndarray, y: np.ndarray, color: Color, thickness: int = 1) -> None:
        """A line through points, interrupted where one is NaN; a lone point becomes a dot."""
        import cv2

        columns, rows = self.columns(x) - self.left, self.rows(y) - self.top
        known = np.isfinite(columns) & np.isfinite(rows)
        view = self._drawable(picture)
        for run in _runs(known):
            # Far outside numbers would not fit the drawing's integers.
            points = np.stack([columns[run], rows[run].clip(-10 * self.height, 11 * self.height)], axis=-1)
            if len(points) == 1:
                cv2.circle(view, tuple(points[0].round().astype(int)), thickness + 1, color, -1, cv2.LINE_AA)
            else:
                fixed = np.round(points * 16).astype(np.int32)[:, None]
                cv2.polylines(view, [fixed], False, color, thickness, cv2.LINE_AA, 4)
        self.inside(picture)[:] = view

    def dots(self, picture: np.ndarray, x: np.ndarray, y: np.ndarray, colors: np.ndarray, size: int = 2) -> None:
        """Small squares, ``colors`` (K, 3) or (3,); what lies above or below the range sits at its edge."""
        columns, rows = self.columns(x) - self.left, self.rows(y) - self.top
        known = np.isfinite(columns) & np.isfinite(rows) & (columns >= 0) & (columns <= self.width - 1)
        colors = np.broadcast_to(np.asarray(colors, dtype=np.uint8), (len(columns), 3))[known]
        half = (size - 1) / 2
        columns = (columns[known] - half).round().astype(int).clip(0, self.width - size)
        rows = (rows[known] - half).clip(0, self.height - size).round().astype(int)
        view = self.inside(picture)
        for down in range(size):
            for right in range(size):
                view[rows + down, columns + right] = colors

    def upright(self, picture: np.ndarray, x: float, color: Color) -> None:
        """A broken line from bottom to top."""
        column = int(np.clip(round(float(self.columns(np.array(x)))), self.left, self.left + self.width - 1))
        for row in range(self.top, self.top + self.height, 7):
            picture[row : min(row + 4, self.top + self.height), column] = color

    def span(self, picture: np.ndarray, first: float, last: float, color: Color, share: float = 0.35) -> None:
        """Tint all between two x."""
        columns = self.columns(np.array([first, last])).round().astype(int)
        low, high = columns.clip(self.left, self.left + self.width)
        blend(picture[self.top : self.top + self.height, low : max(high, low + 2)], color, share)

    def say(self, picture: np.ndarray, text: str) -> None:
        """A sentence near the top, where there is nothing to plot."""
        column = self.left + (self.width - text_width(text, 0.45)) // 2
        write(picture, text, (max(column, self.left + 6), self.top + self.height // 4 + 5), 0.45, FAINT)

    def _drawable(self, picture: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(self.inside(picture))


def round_ticks(low: float, high: float, most: int, whole: bool = False) -> np.ndarray:
    """At most ``most`` multiples of 1, 2 or 5 times a power of ten within a range."""
    step = 10.0 ** np.floor(np.log10((high - low) / most))
    step = max(step, 1.0) if whole else step
    while True:
        for factor in (1, 2, 5):
            first, last = np.ceil(low / (factor * step) - 1e-9), np.floor(high / (factor * step) + 1e-9)
            if last - first + 1 <= most:
                return factor * step * np.arange(first, last + 1)
        step *= 10


def log_ticks(low: float, high: float) -> np.ndarray:
    """1, 2 and 5 times powers of ten within a positive range; powers of ten alone where those are many."""
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks = np.outer(powers, [1, 2, 5] if high / low < 1e3 else [1]).ravel()
    return ticks[(ticks >= low * (1 - 1e-9)) & (ticks <= high * (1 + 1e-9))]


def robust_range(
    values: Sequence[np.ndarray], share: float = 0.98, pad: float = 0.08, least: float = 0.0
) -> tuple[float, float]:
    """A range that holds this share of the finite numbers of each of several series, with a margin.

    Args:
        least: width of the range at least, relative to the numbers' size: noise in the last digit is no change.
    """
    finite = [np.asarray(v, dtype=np.float64)[np.isfinite(v)] for v in values]
    ends = [np.quantile(v, [(1 - share) / 2, (1 + share) / 2]) for v in finite if len(v)]
    if not ends:
        return EMPTY_RANGE
    low, high = float(min(e[0] for e in ends)), float(max(e[1] for e in ends))
    middle, size = (low + high) / 2, max(abs(low), abs(high))
    half = max((high - low) / 2 * (1 + 2 * pad), least * size / 2, 1e-6 * size, 1e-12)
    return middle - half, middle + half


def tick_texts(ticks: np.ndarray) -> list[str]:
    """Ticks as numbers with the same, fewest decimals; far from 1 in powers of ten."""
    size = float(np.abs(ticks).max(initial=0.0))
    if size and (size >= 1e5 or size < 1e-3):
        return [
            f"{tick:.6g}" if tick == 0 else f"{tick:.1e}".replace("e-0", "e-").replace("e+0", "e") for tick in ticks
        ]
    for decimals in range(7):
        texts = [f"{tick:.{decimals}f}" for tick in ticks]
        if all(abs(float(text) - tick) <= 1e-6 * max(size, 1e-12) for text, tick in zip(texts, ticks)):
            return [text.replace("-0", "0") if float(text) == 0 else text for text in texts]
    return [f"{tick:.3g}" for tick in ticks]


def _runs(known: np.ndarray) -> list[slice]:
    """Stretches of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], known.astype(np.int8), [0]])))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2])]

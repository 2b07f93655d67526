"""The paper, the ink and the lines that pictures for people are drawn with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PAPER, INK, FAINT = (24, 25, 29), (236, 236, 238), (150, 153, 160)
Color = tuple[int, int, int]


def paper(height: int, width: int, color: Color = PAPER) -> np.ndarray:
    """(height, width, 3) uint8 of one colour."""
    out = np.empty((height, width, 3), dtype=np.uint8)
    out[:] = color
    return out


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture brought to (width, height)."""
    import cv2

    shrinks = picture.shape[0] > size[1]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def write(picture: np.ndarray, text: str, at: tuple[int, int], size: float, color: Color) -> None:
    """One line of text with its left end of the base line at a pixel; the font has ASCII only, other signs become ?."""
    import cv2

    shown = text.encode("ascii", "replace").decode("ascii")
    cv2.putText(picture, shown, at, cv2.FONT_HERSHEY_SIMPLEX, size, color, 1, cv2.LINE_AA)


def text_width(text: str, size: float) -> int:
    """Width of `write`'s line, pixels."""
    import cv2

    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    return width


def shortened(text: str, size: float, width: int) -> str:
    """The text, with its end cut off where it would be wider than ``width`` pixels."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(f"{text}...", size) > width:
        text = text[:-1]
    return f"{text}..."


def tag(picture: np.ndarray, text: str) -> None:
    """Text on a darkened patch in the lower left corner."""
    patch = picture[-22:, : text_width(text, 0.4) + 14]
    patch[:] = patch // 4
    write(picture, text, (7, picture.shape[0] - 7), 0.4, INK)


def legend(picture: np.ndarray, entries: Sequence[tuple[str, Color]], right: int, baseline: int) -> int:
    """Names in their colours, ending at the column ``right``; returns the column they begin at."""
    for text, color in reversed(entries):
        right -= text_width(text, 0.42)
        write(picture, text, (right, baseline), 0.42, color)
        picture[baseline - 6 : baseline - 2, max(right - 20, 0) : max(right - 6, 0)] = color
        right -= 40
    return right


def blend(picture: np.ndarray, color: Color, share: float) -> None:
    """Tint part of a picture in place."""
    picture[:] = (picture * (1.0 - share) + np.array(color) * share).astype(np.uint8)

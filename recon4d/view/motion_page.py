"""One picture of what moves: frames with their objects in colours, and when each object is seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.formats.arrays import read_motion
from recon4d.formats.pictures import write_picture
from recon4d.view.contact_sheet import cell_size
from recon4d.view.drawing import FAINT, INK, Color, paper, resized, tag, write

if TYPE_CHECKING:
    from recon4d.workspace import Workspace

MARGIN, GAP, HEAD = 24, 8, 64
COLUMNS, ROWS = 4, 3
LINE = 20  # pixels of an object's line in the table of times
MOST_LINES = 24
COLORS: tuple[Color, ...] = (
    (255, 99, 71), (64, 160, 255), (255, 205, 60), (110, 220, 110), (220, 110, 255), (80, 230, 220), (255, 150, 200)
)  # fmt: skip


def object_color(number: int) -> Color:
    """The colour of an object; they come again after some."""
    return COLORS[(number - 1) % len(COLORS)]


def write_motion_page(
    path: Path, workspace: Workspace, folder: Path, names: Sequence[str], objects: Sequence[dict[str, object]]
) -> None:
    """Write a PNG.

    Args:
        folder: with ``NAME.npz`` of all frames.
        objects: id, names and pixels of each, as in ``objects.json``.
    """
    cell = cell_size(workspace.unrefined_trajectory().cameras[0])
    shown = np.unique(np.round(np.linspace(0, len(names) - 1, COLUMNS * ROWS)).astype(int))
    rows = -(-len(shown) // COLUMNS)
    lines = min(len(objects), MOST_LINES)
    table = HEAD + rows * (cell[1] + GAP) + 2 * GAP
    sheet = paper(table + (lines + 1) * LINE + MARGIN, 2 * MARGIN + COLUMNS * (cell[0] + GAP) - GAP)
    write(sheet, "what moves", (MARGIN, 40), 0.8, INK)
    for k, row in enumerate(shown):
        picture = resized(
            overlay(workspace.picture(names[row]), read_motion(folder / f"{names[row]}.npz").object_id), cell
        )
        tag(picture, names[row])
        top, left = HEAD + (k // COLUMNS) * (cell[1] + GAP), MARGIN + (k % COLUMNS) * (cell[0] + GAP)
        sheet[top : top + cell[1], left : left + cell[0]] = picture
    _write_times(sheet, table, names, objects[:MOST_LINES])
    write_picture(path, sheet)


def overlay(picture: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The picture (H, W, 3) with its objects (H, W) tinted and outlined, the rest a little darker."""
    import cv2

    out = (picture * np.float32(0.6)).astype(np.uint8)
    for number in np.unique(numbers[numbers > 0]):
        mask, color = numbers == number, object_color(int(number))
        out[mask] = (0.55 * picture[mask] + 0.45 * np.array(color)).astype(np.uint8)
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(out, outlines, -1, color, max(1, round(max(mask.shape) / 400)))
    return out


def _write_times(sheet: np.ndarray, top: int, names: Sequence[str], objects: Sequence[dict[str, object]]) -> None:
    """A line per object with a mark for every frame it is seen in."""
    if not objects:
        write(sheet, "nothing moves", (MARGIN, top + 14), 0.45, FAINT)
        return
    row_of = {name: row for row, name in enumerate(names)}
    left, right = MARGIN + 90, sheet.shape[1] - MARGIN
    for k, found in enumerate(objects):
        color, y = object_color(found["id"]), top + k * LINE
        write(sheet, f"object {found['id']}", (MARGIN, y + 14), 0.42, color)
        for name in found["names"]:
            start, stop = (left + (right - left) * (row_of[name] + step) // len(names) for step in (0, 1))
            sheet[y + 4 : y + LINE - 4, start : max(stop, start + 1)] = color
    write(sheet, f"frames {names[0]} to {names[-1]}", (left, top + len(objects) * LINE + 14), 0.4, FAINT)

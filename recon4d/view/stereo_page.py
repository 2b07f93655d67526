"""One picture of depth by stereo: frames, their depth, how sure it is and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon4d.formats.pictures import write_picture
from recon4d.scene.camera import Camera
from recon4d.scene.depth import DepthMap, Provenance
from recon4d.view.contact_sheet import cell_size
from recon4d.view.depth_colors import colorize_depth, depth_bar, depth_range
from recon4d.view.drawing import FAINT, INK, legend, paper, resized, tag, write

MARGIN, GAP, HEAD, FOOT = 28, 8, 84, 44
SURE, UNSURE = (72, 150, 110), (30, 32, 38)
ORIGINS = {
    Provenance.MEASURED: ("measured", (92, 184, 132)),
    Provenance.OTHER_FRAME: ("seen in other frames", (92, 148, 222)),
    Provenance.COMPLETED: ("completed", (216, 162, 72)),
}
NOTHING = ("no depth", (112, 114, 120))


@dataclass(frozen=True)
class StereoRow:
    """One frame of the page."""

    name: str
    picture: np.ndarray  # (H, W, 3) uint8
    depth: DepthMap  # SCENE_Z, of any size


def write_stereo_page(path: Path, title: str, numbers: str, rows: Sequence[StereoRow]) -> None:
    """Write the page as a PNG.

    Args:
        title: first line, such as the name of the scene.
        numbers: second line.
        rows: at least one frame.
    """
    write_picture(path, stereo_page(title, numbers, rows))


def stereo_page(title: str, numbers: str, rows: Sequence[StereoRow]) -> np.ndarray:
    """(H, W, 3) uint8 RGB: a row per frame of picture, depth, confidence and origin."""
    height, width = rows[0].picture.shape[:2]
    cell = cell_size(Camera(width, height, 1.0, 1.0, 0.0, 0.0))
    near, far = depth_range([row.depth.values[row.depth.valid] for row in rows])
    strips = [_strip(row, cell, near, far) for row in rows]
    columns = len(strips[0])
    page = paper(
        HEAD + len(rows) * (cell[1] + GAP) + FOOT + MARGIN, 2 * MARGIN + columns * cell[0] + (columns - 1) * GAP
    )
    write(page, title, (MARGIN, 36), 0.8, INK)
    write(page, numbers, (MARGIN, 58), 0.42, FAINT)
    for column, head in enumerate(("frame", "depth", "chance to be right (5 %)", "where it comes from")):
        write(page, head, (MARGIN + column * (cell[0] + GAP), HEAD - 8), 0.42, FAINT)
    for line, cells in enumerate(strips):
        for column, picture in enumerate(cells):
            top, left = HEAD + line * (cell[1] + GAP), MARGIN + column * (cell[0] + GAP)
            page[top : top + cell[1], left : left + cell[0]] = picture
    foot = HEAD + len(rows) * (cell[1] + GAP)
    bar = depth_bar(near, far, cell[0], FOOT - 10, "units")
    left = MARGIN + cell[0] + GAP
    page[foot : foot + bar.shape[0], left : left + bar.shape[1]] = bar
    entries = [*ORIGINS.values(), NOTHING]
    legend(page, entries, page.shape[1] - MARGIN, foot + 18)
    return page


def _strip(row: StereoRow, cell: tuple[int, int], near: float, far: float) -> list[np.ndarray]:
    picture = resized(row.picture, cell)
    tag(picture, row.name)
    valid = row.depth.valid
    sure = row.depth.confidence[..., None]
    chance = (np.array(UNSURE) * (1 - sure) + np.array(SURE) * sure).astype(np.uint8)
    origin = np.empty((*valid.shape, 3), dtype=np.uint8)
    for provenance, (_, color) in ORIGINS.items():
        origin[row.depth.provenance == provenance] = color
    for grid in (chance, origin):
        grid[~valid] = NOTHING[1]
    return [
        picture,
        *(resized(grid, cell) for grid in (colorize_depth(row.depth.values, valid, near, far), chance, origin)),
    ]

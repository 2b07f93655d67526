"""Two pictures of the fused background: beside the frames it explains, and turned before the eye."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon4d.formats.pictures import write_picture
from recon4d.geometry.random_rows import random_rows
from recon4d.scene.cloud import PointCloud
from recon4d.scene.trajectory import Trajectory
from recon4d.view.cloud_view import view_cloud
from recon4d.view.drawing import FAINT, INK, legend, paper, resized, tag, write

MARGIN, GAP, HEAD, FOOT = 28, 8, 84, 36
CELL_AREA = 300 * 225  # pixels, whatever the shape of the pictures
EXPLAINED, IN_FRONT, MISSING, LEFT_OUT = (70, 140, 100), (220, 90, 70), (226, 170, 74), (92, 95, 104)
COLUMNS = ("frame", "background seen from there", "what the background explains")
TURNS, TURN_COLUMNS, TURN_SIZE, TURN_POINTS = 8, 4, (420, 315), 150_000


@dataclass(frozen=True)
class FuseRow:
    """One frame of the page."""

    name: str
    picture: np.ndarray  # (H, W, 3) uint8
    background: np.ndarray  # (H, W, 3) uint8, seen from the frame's camera
    static: np.ndarray  # (H, W) bool: valid pixels that do not move
    explained: np.ndarray  # (H, W) bool: background is where the frame says
    in_front: np.ndarray  # (H, W) bool: background stands before what the frame sees


def write_fuse_page(path: Path, title: str, numbers: str, rows: Sequence[FuseRow]) -> None:
    """Write the page as a PNG: a row per frame (at least one)."""
    write_picture(path, fuse_page(title, numbers, rows))


def fuse_page(title: str, numbers: str, rows: Sequence[FuseRow]) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    height, width = rows[0].picture.shape[:2]
    scale = (CELL_AREA / (width * height)) ** 0.5
    cell = (round(width * scale), round(height * scale))
    page = paper(HEAD + len(rows) * (cell[1] + GAP) + FOOT, 2 * MARGIN + len(COLUMNS) * (cell[0] + GAP) - GAP)
    write(page, title, (MARGIN, 36), 0.8, INK)
    write(page, numbers, (MARGIN, 58), 0.42, FAINT)
    for column, head in enumerate(COLUMNS):
        write(page, head, (MARGIN + column * (cell[0] + GAP), HEAD - 8), 0.42, FAINT)
    for line, row in enumerate(rows):
        picture = resized(row.picture, cell)
        tag(picture, row.name)
        for column, shown in enumerate((picture, resized(row.background, cell), resized(explained_picture(row), cell))):
            top, left = HEAD + line * (cell[1] + GAP), MARGIN + column * (cell[0] + GAP)
            page[top : top + cell[1], left : left + cell[0]] = shown
    names = ("where the frame says", "in front of it", "hole, or further off", "moves, ignored, no depth")
    colors = (EXPLAINED, IN_FRONT, MISSING, LEFT_OUT)
    legend(page, list(zip(names, colors)), page.shape[1] - MARGIN, page.shape[0] - 14)
    return page


def explained_picture(row: FuseRow) -> np.ndarray:
    """(H, W, 3) uint8: what the background says of each pixel, as a colour over the dimmed picture."""
    colors = np.empty((*row.static.shape, 3))
    colors[:] = MISSING
    colors[row.explained], colors[row.in_front], colors[~row.static] = EXPLAINED, IN_FRONT, LEFT_OUT
    light = row.picture.mean(axis=-1, keepdims=True) / 255
    return (colors * (0.55 + 0.45 * light)).astype(np.uint8)


def write_turntable(path: Path, cloud: PointCloud, trajectory: Trajectory, up: np.ndarray | None) -> None:
    """Write a PNG with the cloud seen from all around; ``up`` is the upward direction of the world (3,), if known."""
    cloud = cloud[random_rows(len(cloud), TURN_POINTS)] if len(cloud) > TURN_POINTS else cloud
    width, height = TURN_SIZE
    lines = -(-TURNS // TURN_COLUMNS)
    page = paper(2 * MARGIN + lines * (height + GAP) - GAP, 2 * MARGIN + TURN_COLUMNS * (width + GAP) - GAP)
    for turn in range(TURNS):
        angle = 360.0 * turn / TURNS
        shown = view_cloud(cloud, trajectory, TURN_SIZE, angle, 25.0, up)
        tag(shown, f"{angle:.0f} deg")
        top = MARGIN + turn // TURN_COLUMNS * (height + GAP)
        left = MARGIN + turn % TURN_COLUMNS * (width + GAP)
        page[top : top + height, left : left + width] = shown
    write_picture(path, page)

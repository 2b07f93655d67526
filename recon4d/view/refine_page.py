"""One picture of refinement: frames before and after, where they look unlike other views, and how the energy fell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon4d.formats.pictures import write_picture
from recon4d.geometry.meshing import grid_normals
from recon4d.scene.camera import Camera
from recon4d.scene.mesh import DepthMesh
from recon4d.view.axes import Axes
from recon4d.view.contact_sheet import cell_size
from recon4d.view.depth_colors import colorize_depth, depth_bar, depth_range
from recon4d.view.drawing import FAINT, INK, legend, paper, resized, tag, write

MARGIN, GAP, HEAD, FOOT, PLOT = 28, 8, 84, 44, 190
AXIS_LEFT, AXIS_BOTTOM = 70, 40
LEAST_SHOWN = 1e-3  # of the largest term
NOTHING = (40, 42, 48)
ALIKE, UNLIKE = (34, 36, 42), (240, 170, 70)
TERM_COLORS = ((240, 170, 70), (92, 148, 222), (92, 184, 132), (204, 112, 190), (150, 152, 158))
COLUMNS = (
    "frame",
    "depth before",
    "after",
    "surface before",
    "after",
    "unlike other views before",
    "after",
)


@dataclass(frozen=True)
class RefineRow:
    """One frame of the page."""

    name: str
    picture: np.ndarray  # (H, W, 3) uint8
    camera: Camera
    before: DepthMesh
    after: DepthMesh
    unlike_before: np.ndarray  # (h, w) float, 1 - ZNCC with other views, NaN where none sees the pixel
    unlike_after: np.ndarray


def write_refine_page(
    path: Path, title: str, numbers: str, rows: Sequence[RefineRow], curves: Mapping[str, np.ndarray]
) -> None:
    """Write the page as a PNG.

    Args:
        title: first line, such as the name of the scene.
        numbers: second line.
        rows: at least one frame.
        curves: term of the energy -> its mean over the clip per pixel, before and after each step.
    """
    write_picture(path, refine_page(title, numbers, rows, curves))


def refine_page(title: str, numbers: str, rows: Sequence[RefineRow], curves: Mapping[str, np.ndarray]) -> np.ndarray:
    """(H, W, 3) uint8 RGB: a row per frame, and the curves below."""
    width, height = cell_size(rows[0].camera)
    cell = (width * 3 // 4, height * 3 // 4)
    near, far = depth_range([row.after.surface.depth[row.after.surface.valid] for row in rows])
    plot_top = HEAD + len(rows) * (cell[1] + GAP) + FOOT
    page = paper(plot_top + PLOT + AXIS_BOTTOM + MARGIN, 2 * MARGIN + len(COLUMNS) * (cell[0] + GAP) - GAP)
    write(page, title, (MARGIN, 36), 0.8, INK)
    write(page, numbers, (MARGIN, 58), 0.42, FAINT)
    for column, head in enumerate(COLUMNS):
        write(page, head, (MARGIN + column * (cell[0] + GAP), HEAD - 8), 0.42, FAINT)
    for line, row in enumerate(rows):
        for column, picture in enumerate(_strip(row, cell, near, far)):
            top, left = HEAD + line * (cell[1] + GAP), MARGIN + column * (cell[0] + GAP)
            page[top : top + cell[1], left : left + cell[0]] = picture
    bar = depth_bar(near, far, cell[0], FOOT - 10, "units")
    foot, left = plot_top - FOOT, MARGIN + cell[0] + GAP
    page[foot : foot + bar.shape[0], left : left + bar.shape[1]] = bar
    _plot(page, plot_top, curves)
    return page


def _strip(row: RefineRow, cell: tuple[int, int], near: float, far: float) -> list[np.ndarray]:
    picture = resized(row.picture, cell)
    tag(picture, row.name)
    surfaces = (row.before, row.after)
    depths = [colorize_depth(mesh.surface.depth, mesh.surface.valid, near, far) for mesh in surfaces]
    normals = [normal_picture(mesh, row.camera) for mesh in surfaces]
    unlike = [_unlike_picture(values) for values in (row.unlike_before, row.unlike_after)]
    return [picture, *(resized(grid, cell) for grid in (*depths, *normals, *unlike))]


def normal_picture(mesh: DepthMesh, camera: Camera) -> np.ndarray:
    """(H, W, 3) uint8: the direction of the surface as a colour, grey towards the camera."""
    points = camera.unproject(mesh.surface.depth.astype(np.float64))
    normals = grid_normals(points, mesh)
    known = (normals != 0).any(axis=-1)
    colors = (127.5 * (1 + normals * (1, -1, -1))).clip(0, 255).astype(np.uint8)
    return np.where(known[..., None], colors, np.array(NOTHING, dtype=np.uint8))


def _unlike_picture(values: np.ndarray) -> np.ndarray:
    share = np.nan_to_num(values).clip(0, 1)[..., None]
    colors = np.array(ALIKE) * (1 - share) + np.array(UNLIKE) * share
    return np.where(np.isfinite(values)[..., None], colors, NOTHING).astype(np.uint8)


def _plot(page: np.ndarray, top: int, curves: Mapping[str, np.ndarray]) -> None:
    steps = max(len(values) for values in curves.values())
    highest = max(float(np.max(values)) for values in curves.values())
    highest = max(highest, 1e-6)
    axes = Axes(
        MARGIN + AXIS_LEFT,
        top,
        page.shape[1] - 2 * MARGIN - AXIS_LEFT,
        PLOT,
        (0, max(steps - 1, 1)),
        (LEAST_SHOWN * highest, 1.5 * highest),
        log_y=True,
    )
    axes.draw(page, whole_x=True)
    for values, color in zip(curves.values(), TERM_COLORS):
        axes.line(page, np.arange(len(values)), values, color, 2)
    write(
        page,
        "energy a pixel, mean over the clip, against steps of the last walk",
        (MARGIN, top + PLOT + 34),
        0.42,
        FAINT,
    )
    legend(page, list(zip(curves, TERM_COLORS)), page.shape[1] - MARGIN, top + PLOT + 34)

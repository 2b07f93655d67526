"""One picture that shows what became of a clip: frames, depth, clouds, and the fused background."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.formats.pictures import write_picture
from recon4d.geometry.fusion import frame_points
from recon4d.scene.camera import Camera
from recon4d.scene.cloud import PointCloud
from recon4d.scene.mesh import DepthMesh
from recon4d.scene.scene4d import Scene4D
from recon4d.scene.trajectory import Trajectory, View
from recon4d.view.cloud_view import view_cloud
from recon4d.view.depth_colors import NO_DEPTH, colorize_depth, depth_bar, depth_range
from recon4d.view.drawing import FAINT, INK, paper, resized, tag, write

if TYPE_CHECKING:
    from recon4d.workspace import Workspace

MARGIN, GAP = 28, 8
CELL_AREA = 253 * 190  # pixels, whatever the shape of the pictures
HEAD, COLUMN_HEAD, FOOT = 84, 24, 44
SIDE_WIDTH = 900


def contact_sheet(
    workspace: Workspace, path: Path, count: int = 6, truth: Callable[[str], np.ndarray] | None = None
) -> None:
    """Write a PNG with evenly chosen frames (picture, depth, cloud from the side) beside the fused background.

    Args:
        workspace: a scene whose stage fuse is done.
        path: .png to write.
        count: number of frames shown.
        truth: name -> (H, W) true depth in any unit, not positive or NaN where unknown; adds a column, shown with one
            scale for all frames (median of estimate / truth).

    Raises:
        WorkspaceError: the stage fuse is not done.
    """
    scene = workspace.scene()
    trajectory = scene.trajectory
    rows = np.unique(np.round(np.linspace(0, len(trajectory) - 1, count)).astype(int))
    names = [trajectory.names[row] for row in rows]
    depths = _metric_depths(workspace, scene, names)
    near, far = depth_range([depth[depth > 0] for depth in depths.values()])
    true_depths = _true_depths(truth, depths) if truth else {}
    cell = cell_size(trajectory.cameras[0])
    strips = []
    for name in names:
        picture = resized(workspace.picture(name), cell)
        tag(picture, f"{name}   {trajectory[name].timestamp_s:.2f} s")
        shown = colorize_depth(depths[name], depths[name] > 0, near, far)
        cells = [picture, resized(with_cuts(shown, workspace.depth_mesh(name)), cell)]
        if truth:
            cells.append(resized(colorize_depth(true_depths[name], true_depths[name] > 0, near, far), cell))
        seen = _seen_points(workspace, trajectory[name])
        cells.append(view_cloud(seen, _only(trajectory, name), cell, 40.0, 20.0, _up(scene)))
        strips.append(cells)
    heads = ["frame", "depth and its cuts", *(["true depth"] if truth else []), "points from the side"]
    unit = "m" if scene.metres_per_unit else "units"
    grid = _grid(strips, heads, depth_bar(near, far, cell[0], FOOT - 10, unit))
    side = _side(scene, max(grid.shape[0], 560))
    body_height = max(grid.shape[0], side.shape[0])
    sheet = paper(HEAD + body_height + MARGIN, 3 * MARGIN + grid.shape[1] + SIDE_WIDTH)
    sheet[HEAD : HEAD + grid.shape[0], MARGIN : MARGIN + grid.shape[1]] = grid
    sheet[HEAD : HEAD + side.shape[0], -MARGIN - SIDE_WIDTH : -MARGIN] = side
    write(sheet, workspace.title, (MARGIN, 44), 0.95, INK)
    write(sheet, _description(scene), (MARGIN, 68), 0.45, FAINT)
    write_picture(path, sheet)


def cell_size(camera: Camera) -> tuple[int, int]:
    """(width, height) of the sheet's cells, of the pictures' shape."""
    scale = (CELL_AREA / (camera.width * camera.height)) ** 0.5
    return round(camera.width * scale), round(camera.height * scale)


def static_picture(scene: Scene4D, size: tuple[int, int], elevation_deg: float = 25.0) -> np.ndarray:
    """The fused background with the camera's path, (height, width, 3) uint8."""
    return view_cloud(scene.static, scene.trajectory, size, 0.0, elevation_deg, _up(scene))


def write_overview(
    workspace: Workspace, folder: Path, truth: Callable[[str], np.ndarray] | None = None
) -> tuple[Path, Path]:
    """Leave `contact_sheet.png` and `static_cloud.png` in a folder; returns their paths.

    Raises:
        WorkspaceError: the stage fuse is not done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sheet, cloud = folder / "contact_sheet.png", folder / "static_cloud.png"
    contact_sheet(workspace, sheet, truth=truth)
    write_picture(cloud, static_picture(workspace.scene(), (1280, 800)))
    return sheet, cloud


def _up(scene: Scene4D) -> np.ndarray | None:
    return None if scene.levelled_from_scene is None else scene.levelled_from_scene.rotation[2]


def _description(scene: Scene4D) -> str:
    duration_s = float(scene.timestamps_s[-1] - scene.timestamps_s[0])
    size = f"1 unit = {scene.metres_per_unit:.3g} m" if scene.metres_per_unit else "size in metres not known"
    return f"{len(scene.names)} frames   {duration_s:.1f} s   {len(scene.static):,} background points   {size}"


def _metric_depths(workspace: Workspace, scene: Scene4D, names: list[str]) -> dict[str, np.ndarray]:
    """Depth of the shown frames, 0 where not valid, in metres where they are known."""
    scale = scene.metres_per_unit or 1.0
    surfaces = {name: workspace.depth_mesh(name).surface for name in names}
    return {name: np.where(item.valid, item.depth * np.float32(scale), 0) for name, item in surfaces.items()}


def _true_depths(truth: Callable[[str], np.ndarray], depths: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Truth on its own grid, 0 where unknown, in the unit of the estimate."""
    true = {name: np.nan_to_num(truth(name), nan=0.0, posinf=0.0) for name in depths}
    ratios = [
        np.median(depths[name][depths[name] > 0]) / np.median(true[name][true[name] > 0])
        for name in depths
        if (depths[name] > 0).any() and (true[name] > 0).any()
    ]
    scale = np.median(ratios) if ratios else 1.0  # else no frame has both, and there is nothing to bring together
    return {name: depth * scale for name, depth in true.items()}


def _seen_points(workspace: Workspace, view: View) -> PointCloud:
    """What a frame itself sees, still or moving: the pixels of its surface in the world."""
    seen = frame_points(view, workspace.depth_mesh(view.name))
    shown = seen.usable
    return PointCloud(seen.points[shown], workspace.picture(view.name)[shown], seen.normals[shown])


def _only(trajectory: Trajectory, name: str) -> Trajectory:
    """The trajectory of one frame."""
    row = trajectory.names.index(name)
    one = slice(row, row + 1)
    return replace(
        trajectory,
        names=trajectory.names[one],
        timestamps_s=trajectory.timestamps_s[one],
        cam_from_world=trajectory.cam_from_world[one],
        cameras=trajectory.cameras[one],
        origin=trajectory.origin[one],
    )


def with_cuts(colors: np.ndarray, mesh: DepthMesh) -> np.ndarray:
    """Darken pixels of the surface that are not joined to their right or lower neighbour."""
    whole_right, whole_down = mesh.join_right.copy(), mesh.join_down.copy()
    whole_right[:, -1] = whole_down[-1] = True  # the border of the picture is no cut
    cut = mesh.surface.valid & ~(whole_right & whole_down)
    return np.where(cut[..., None], np.array(NO_DEPTH, dtype=np.uint8), colors)


def _side(scene: Scene4D, height: int) -> np.ndarray:
    """The fused background from behind and from above."""
    behind = round(0.62 * (height - 2 * COLUMN_HEAD - GAP))
    above = height - 2 * COLUMN_HEAD - GAP - behind
    out = paper(height, SIDE_WIDTH)
    write(out, "background of all frames, and the way of the camera", (0, COLUMN_HEAD - 8), 0.42, FAINT)
    out[COLUMN_HEAD : COLUMN_HEAD + behind] = static_picture(scene, (SIDE_WIDTH, behind))
    write(out, "from above", (0, 2 * COLUMN_HEAD + GAP + behind - 8), 0.42, FAINT)
    out[-above:] = static_picture(scene, (SIDE_WIDTH, above), 80.0)
    return out


def _grid(strips: list[list[np.ndarray]], heads: list[str], bar: np.ndarray) -> np.ndarray:
    """Cells in rows, with a line of heads above and the depth bar under the depth column."""
    cell_height, cell_width = strips[0][0].shape[:2]
    step_x, step_y = cell_width + GAP, cell_height + GAP
    out = paper(COLUMN_HEAD + len(strips) * step_y + FOOT, len(heads) * step_x - GAP)
    for column, head in enumerate(heads):
        write(out, head, (column * step_x, COLUMN_HEAD - 8), 0.42, FAINT)
    for row, cells in enumerate(strips):
        for column, cell in enumerate(cells):
            top, left = COLUMN_HEAD + row * step_y, column * step_x
            out[top : top + cell_height, left : left + cell_width] = cell
    bar_top = COLUMN_HEAD + len(strips) * step_y
    out[bar_top : bar_top + len(bar), step_x : step_x + bar.shape[1]] = bar
    return out

"""In-between pictures against frames held back, for `recon4d interpolate`.

    python tools/bench_interpolation.py SCENE [--every 4] [--pictures FOLDER]

Frame i + 1 is made from the frames i and i + 2 at t = 1/2, as seen by its own camera, and compared with its recorded
picture. The flow over two frames is that to the next one and, from where it lands, that to the one after it. PSNR in
dB, median over the frames: of the whole picture, and of the pixels that move in the true middle frame (and five around
them); what neither frame saw is filled from around it. `nearest` is the better of frame i and frame i + 2, `average`
their mean.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from recon4d import Workspace
from recon4d.fill.between import NEARNESS, blended, finished, known_motion, moved_splats, without_rims
from recon4d.formats.pictures import write_picture
from recon4d.render.splatting import splat
from recon4d.render.surface_splats import grid_splats
from recon4d.scene.scene_flow import SceneFlow

ROWS = {  # name -> nearness in the exponent, curved
    "blended": (NEARNESS, False),
    "blended, nearness 0": (0.0, False),
    "blended, nearness 5": (5.0, False),
    "blended, nearness 20": (20.0, False),
    "blended, curved": (NEARNESS, True),
}


def over_two(workspace: Workspace, names: tuple[str, ...], row: int, step: int) -> np.ndarray:
    """(H, W, 3) displacement from frame ``row`` to ``row + 2 * step``, NaN where not known."""
    side = (lambda flow: flow.next) if step > 0 else (lambda flow: flow.prev)
    if not 0 <= row + 2 * step < len(names):
        return np.full_like(workspace.scene_flow(names[row]).next, np.nan)
    trajectory, name, middle = workspace.trajectory(), names[row], names[row + step]
    view, other = trajectory[name], trajectory[middle]
    first = side(workspace.scene_flow(name))
    in_cam = view.camera.unproject(workspace.depth_mesh(name).surface.depth.astype(np.float64))
    world = view.cam_from_world.inverse() @ in_cam.reshape(-1, 3) + first.reshape(-1, 3)
    pixels = other.camera.project(other.cam_from_world @ world)
    label = workspace.motion(name).object_id
    second = known_motion(side(workspace.scene_flow(middle)), workspace.motion(middle).object_id)
    landed = workspace.motion(middle).object_id
    height, width = label.shape
    column, row_of = np.nan_to_num(np.floor(pixels), nan=-1).astype(int).reshape(height, width, 2).transpose(2, 0, 1)
    inside = (column >= 0) & (column < width) & (row_of >= 0) & (row_of < height)
    at = np.clip(row_of, 0, height - 1), np.clip(column, 0, width - 1)
    # Where it lands on something else the first step is repeated.
    again = np.where((inside & (landed[at] == label))[..., None], second[at], first)
    return np.where((label > 0)[..., None], first + again, 0).astype(np.float32)


def parabola(toward: np.ndarray, away: np.ndarray) -> np.ndarray:
    """(H, W, 3) what constant acceleration adds to half of ``toward``: (t^2 - t) / 2 * (toward + away)."""
    return np.nan_to_num(-0.125 * (toward + away))


def psnr(picture: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    if not where.any():
        return np.nan
    square = (picture.astype(np.float64)[where] - truth.astype(np.float64)[where]) ** 2
    return float(10 * np.log10(255**2 / max(square.mean(), 1e-9)))


def moment(workspace: Workspace, row: int, flows: dict[int, SceneFlow]) -> dict[str, np.ndarray]:
    """Pictures of frame ``row + 1`` from its neighbours, by row of the table."""
    trajectory = workspace.trajectory()
    names = trajectory.names
    middle = trajectory[names[row + 1]]
    ends = [workspace.picture(names[row + side]) for side in (0, 2)]
    pictures = {"average": np.round((ends[0].astype(np.float32) + ends[1]) / 2), "first": ends[0], "second": ends[1]}
    for curved in (False, True):
        rendered = []
        for side, picture in zip((0, 2), ends):
            name, flow = names[row + side], flows[row + side]
            toward, away = (flow.next, flow.prev) if side == 0 else (flow.prev, flow.next)
            object_id = workspace.motion(name).object_id
            way = 0.5 * known_motion(toward, object_id)
            if curved:
                way += parabola(toward, away)
            view, mesh, keep = trajectory[name], workspace.depth_mesh(name), without_rims(object_id)
            splats = grid_splats(mesh, picture, view.cam_from_world, view.camera, keep)
            splats = moved_splats(splats, mesh, way, middle.cam_from_world.inverse().translation, keep)
            rendered.append(splat(splats, middle.cam_from_world, middle.camera))
        for title, (nearness, of_curved) in ROWS.items():
            if of_curved == curved:
                pictures[title] = finished(blended(*rendered, 0.5, nearness))[0]
    return pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--every", type=int, default=4, help="so many frames from one held-back frame to the next")
    parser.add_argument("--pictures", type=Path, help="folder for the pictures, made and true")
    given = parser.parse_args()
    workspace = Workspace(given.scene)
    names = workspace.trajectory().names
    scores: dict[str, list[tuple[float, float]]] = {}
    for row in range(0, len(names) - 2, given.every):
        flows = {
            side: SceneFlow(over_two(workspace, names, side, 1), over_two(workspace, names, side, -1))
            for side in (row, row + 2)
        }
        pictures, truth = moment(workspace, row, flows), workspace.picture(names[row + 1])
        moving = workspace.motion(names[row + 1]).mask
        around = cv2.dilate(moving.astype(np.uint8), np.ones((11, 11), np.uint8)) > 0
        whole = np.ones_like(moving)
        own = {title: (psnr(made, truth, whole), psnr(made, truth, around)) for title, made in pictures.items()}
        own["nearest"] = max(own.pop("first"), own.pop("second"))
        for title, pair in own.items():
            scores.setdefault(title, []).append(pair)
        if given.pictures:
            given.pictures.mkdir(parents=True, exist_ok=True)
            shown = [pictures["average"].astype(np.uint8), pictures["blended"], truth]
            write_picture(given.pictures / f"{names[row + 1]}.png", np.concatenate(shown, axis=1))
    print(f"| {given.scene.name}, {len(scores['average'])} frames | whole | moving |\n| --- | --- | --- |")
    for title, pairs in scores.items():
        whole_db, moving_db = np.nanmedian(np.array(pairs), axis=0)
        print(f"| {title} | {whole_db:.2f} | {moving_db:.2f} |")


if __name__ == "__main__":
    main()

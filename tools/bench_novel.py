"""Held-back views: each frame drawn from others only, step by step, against its own picture and depth.

    python tools/bench_novel.py SCENE ... [--gap 4] [--frames 8] [--pictures FOLDER]

Frame i is drawn from the frames i - gap and i + gap, then also from those 2, 3 and 4 gaps away where these leave holes,
then with the fused background. The baseline is the nearer of the first two alone. All pixels count that stand still in
frame i: where the baseline sees a surface ("seen"), and the others ("holes"). PSNR (dB) and SSIM are of all pixels of
all frames together; "completed" is after Telea's inpainting of what a row leaves open, which the other columns show
black. The error of depth is the median of |dz| / z of pixels in holes that a row fills, against frame i's own refined
depth; "agrees" is the share within 5 %. Colours are brought to frame i's exposure, except in the row that says so.

Poses and depth of a scene are made with all of its frames, frame i too: its neighbours are better posed and shaped than
without it. The fused background holds frame i itself, so that row is left out unless `--frames-left-out` names the
frames that the scene was made without; `--with-fused` shows it all the same, marked as what it is.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from recon4d import Workspace
from recon4d.evaluation.picture_scores import ssim_map
from recon4d.fill.composite import over
from recon4d.fill.perpetual import telea
from recon4d.formats.pictures import write_picture
from recon4d.geometry.meshing import well_joined
from recon4d.render.points import splat_points
from recon4d.render.splatting import NOTHING, Rendered, Splats, splat
from recon4d.render.surface_splats import cloud_splats, grid_splats
from recon4d.scene.depth import Provenance
from recon4d.stages.fuse_static import not_static
from recon4d.stages.novel_view import SHARPNESS, clip_gains

OPEN = 0.5
FURTHER = (2, 3, 4)  # gaps
HEAD = (
    "| {} | seen PSNR | seen SSIM | holes PSNR | holes SSIM | holes PSNR completed | open, % of picture |"
    " depth error % | agrees % | ms |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


class Bench:
    """One scene's still surfaces, frame by frame."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.trajectory = workspace, workspace.trajectory()
        self.gains = clip_gains(workspace)
        self.kept: dict[int, Splats] = {}

    def still(self, row: int) -> np.ndarray:
        name = self.trajectory.names[row]
        return ~not_static(self.workspace, name, self.trajectory[name].camera.shape)

    def splats(self, row: int, like: int | None) -> Splats:
        """Still, joined surfaces of a frame in the exposure of the frame ``like``; None for as recorded."""
        if row not in self.kept:
            view = self.trajectory[self.trajectory.names[row]]
            mesh = self.workspace.depth_mesh(view.name)
            keep = self.still(row) & well_joined(mesh)
            picture = self.workspace.picture(view.name)
            self.kept[row] = grid_splats(mesh, picture, view.cam_from_world, view.camera, keep)
        splats = self.kept[row]
        if like is None:
            return splats
        own, wanted = (self.gains.get(self.trajectory.names[r], np.ones(3)) for r in (row, like))
        return replace(splats, colors=np.clip(splats.colors * (own / wanted).astype(np.float32), 0, 255))

    def far(self, row: int, other: int) -> float:
        centres = self.trajectory.centres
        return float(np.linalg.norm(centres[row] - centres[other]))

    def steps(self, row: int, gap: int, background: Splats | None) -> dict[str, tuple[Rendered, float]]:
        """Row of the table -> picture and the milliseconds that it took, of frame ``row``."""
        view = self.trajectory[self.trajectory.names[row]]
        cam, camera = view.cam_from_world, view.camera
        ends = sorted((row - gap, row + gap), key=lambda other: self.far(row, other))
        share = max(self.far(row, ends[0]), 1e-6) / max(self.far(row, ends[1]), 1e-6)
        mixed = {}
        for like in (row, None):
            both = [self.splats(end, like) for end in ends]
            both[1] = replace(both[1], weight=both[1].weight * np.float32(share**SHARPNESS))
            mixed[like] = Splats.concatenate(both)
        first = self.splats(ends[0], row)
        further = [row + sign * k * gap for k in FURTHER for sign in (-1, 1)]
        further = [other for other in further if 0 <= other < len(self.trajectory)]
        rest = Splats.concatenate([self.splats(other, row) for other in further])
        out = {
            "one frame, points of one pixel (naive)": timed(lambda: naive(first, cam, camera)),
            "one frame, splats (baseline)": timed(lambda: splat(first, cam, camera)),
            "two frames, colours as recorded": timed(lambda: splat(mixed[None], cam, camera)),
            "two frames": timed(lambda: splat(mixed[row], cam, camera)),
        }
        two, spent = out["two frames"]
        filled, more = timed(lambda: over(two, splat(rest, cam, camera)))
        out["+ other frames"] = filled, spent + more
        if background is not None:
            gain = 1 / self.gains.get(view.name, np.ones(3)).astype(np.float32)
            exposed = replace(background, colors=np.clip(background.colors * gain, 0, 255))
            last, extra = timed(lambda: over(filled, splat(exposed, cam, camera)))
            out["+ fused background"] = last, spent + more + extra
        return out


def timed(make) -> tuple[Rendered, float]:
    started = time.perf_counter()
    made = make()
    return made, 1e3 * (time.perf_counter() - started)


def naive(splats: Splats, cam, camera) -> Rendered:
    """Every point a disc of one pixel, the nearest wins."""
    colors = np.round(splats.colors).astype(np.uint8)
    picture, depth = splat_points(cam @ splats.points, colors, camera, 1.0, (0, 0, 0))
    seen = depth > 0
    return Rendered(picture.astype(np.float32), seen.astype(np.float32), depth, np.where(seen, 0, NOTHING))


def measure(step: Rendered, truth: np.ndarray, surface, parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Squared errors and similarities of the pixels of parts, and what is said of holes."""
    picture, open_ = step.picture(), step.alpha < OPEN
    complete = telea(picture, open_)
    square, completed = (((p.astype(np.float64) - truth) ** 2).mean(axis=2) for p in (picture, complete))
    alike = ssim_map(picture, truth)
    seen, holes = parts["seen"], parts["holes"]
    told = holes & ~open_ & surface.valid & Provenance.first_hand(surface.provenance)
    return {
        "seen": square[seen],
        "seen alike": alike[seen],
        "holes": square[holes],
        "holes alike": alike[holes],
        "completed": completed[holes],
        "open": open_[seen | holes],
        "depth": np.abs(step.depth[told] / surface.depth[told] - 1),
    }


def line(title: str, parts: list[dict[str, np.ndarray]], ms: list[float]) -> str:
    pooled = {key: np.concatenate([part[key] for part in parts]).astype(np.float64) for key in parts[0]}
    mean = {key: float(values.mean()) if len(values) else np.nan for key, values in pooled.items()}
    db = {key: 10 * np.log10(255**2 / max(mean[key], 1e-9)) for key in ("seen", "holes", "completed")}
    off = pooled["depth"]
    depth = f"{100 * np.median(off):.2f} | {100 * (off < 0.05).mean():.0f}" if len(off) else "- | -"
    return (
        f"| {title} | {db['seen']:.2f} | {mean['seen alike']:.3f} | {db['holes']:.2f} | {mean['holes alike']:.3f} |"
        f" {db['completed']:.2f} | {100 * mean['open']:.2f} | {depth} | {np.median(ms):.0f} |"
    )


def bench(scene: Path, given: argparse.Namespace) -> None:
    workspace = Workspace(scene)
    of_scene = Bench(workspace)
    names = of_scene.trajectory.names
    left_out = given.frames_left_out or []
    if left_out:
        rows = [names.index(name) for name in left_out]
    else:
        inner = np.arange(given.gap, len(names) - given.gap)
        rows = [int(row) for row in inner[np.linspace(0, len(inner) - 1, given.frames).round().astype(int)]]
    background = None
    if left_out or given.with_fused:
        spacing = float(workspace.need("fuse", "bench").summary["voxel_size"])
        background = cloud_splats(workspace.static_cloud(), spacing)
    found: dict[str, list] = {}
    share = []
    of_scene.steps(rows[0], given.gap, background)  # compiles
    for row in rows:
        of_scene.kept = {kept: s for kept, s in of_scene.kept.items() if abs(kept - row) <= max(FURTHER) * given.gap}
        truth, still = workspace.picture(names[row]), of_scene.still(row)
        steps = of_scene.steps(row, given.gap, background)
        seen = steps["one frame, splats (baseline)"][0].alpha >= OPEN
        parts = {"seen": still & seen, "holes": still & ~seen}
        share.append(parts["holes"].sum() / max(still.sum(), 1))
        surface = workspace.depth_mesh(names[row]).surface
        for title, (step, ms) in steps.items():
            found.setdefault(title, []).append((measure(step, truth, surface, parts), ms))
        if given.pictures:
            shown = [step.picture() for title, (step, _) in steps.items() if "recorded" not in title] + [truth]
            write_picture(given.pictures / f"{scene.name}_{names[row]}.png", cv2.hconcat(shown))
    print(f"\n{len(rows)} frames, gap {given.gap}, holes of the baseline {100 * np.mean(share):.1f} % of still pixels")
    print(HEAD.format(scene.resolve().name))
    for title, results in found.items():
        mark = " (holds the frame itself)" if title == "+ fused background" and not left_out else ""
        print(line(title + mark, [result for result, _ in results], [ms for _, ms in results]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, nargs="+", metavar="SCENE")
    parser.add_argument("--gap", type=int, default=4, help="frames from the held-back one to the nearest that is used")
    parser.add_argument("--frames", type=int, default=8, help="so many frames are held back, one after the other")
    parser.add_argument("--frames-left-out", nargs="*", metavar="NAME", help="frames the scene was made without")
    parser.add_argument("--with-fused", action="store_true", help="show the fused background though it holds the frame")
    parser.add_argument("--pictures", type=Path, help="folder for what was drawn, side by side, the truth last")
    given = parser.parse_args()
    if given.pictures:
        given.pictures.mkdir(parents=True, exist_ok=True)
    for scene in given.scenes:
        bench(scene, given)


if __name__ == "__main__":
    main()

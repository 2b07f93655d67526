"""Blender's import of a made-up clip from PLY, GLB and USD: time, memory, and what the way there does to the points.

python tools/bench_blender.py [--frames 60] [--points 50000] [--blender .venv-blender/bin/python]

Needs Blender as a Python module (tools/setup_blender.sh). The clip has as many moving points in each frame, and ten
times as many in the background; their order survives, so each point is compared with itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from recon4d.scene.trajectory import Trajectory

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
SOURCES = ("ply", "glb", "usd")
EXTENT_M = 6.0  # of the room

INSIDE = """
import json, os, runpy, sys, time
import bpy, numpy as np

def memory_mb():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

script, source, target = sys.argv[1:]
sys.argv = [script, "--source", source, "--no-plate"]
before, started, worked = memory_mb(), time.perf_counter(), time.process_time()
runpy.run_path(script, run_name="__main__")
imported, worked = time.perf_counter() - started, time.process_time() - worked
scene = bpy.context.scene
times = []
for frame in range(scene.frame_start, scene.frame_end + 1):
    started = time.perf_counter()
    scene.frame_set(frame)
    times.append(time.perf_counter() - started)
after = memory_mb()
found = {}
for frame in (scene.frame_start, scene.frame_end):
    scene.frame_set(frame)
    for item in bpy.context.evaluated_depsgraph_get().objects:
        geometry = item.evaluated_geometry() if item.type in {"MESH", "POINTCLOUD"} else None
        cloud = geometry and geometry.pointcloud
        if cloud is None or not len(cloud.points) or item.name.split()[-1] not in {"moving", "background"}:
            continue
        name = next(name for name in ("Col", "Color", "displayColor") if name in cloud.attributes)
        points, colours = np.empty(3 * len(cloud.points), "f4"), np.empty(4 * len(cloud.points), "f4")
        cloud.attributes["position"].data.foreach_get("vector", points)
        cloud.attributes[name].data.foreach_get("color_srgb", colours)
        key = f"{item.name.split()[-1]} {frame}"
        found[key] = points.reshape(-1, 3) @ np.array(item.matrix_world)[:3, :3].T + np.array(item.matrix_world)[:3, 3]
        found[key + " colours"] = colours.reshape(-1, 4)[:, :3] * 255
np.savez(target, imported=imported, worked=worked, memory=after - before, step=np.median(times), **found)
"""


def make(root: Path, frames: int, points: int) -> Path:
    """An exported clip with so many points; returns its export folder."""
    import fabricated

    from recon4d.formats.ply import write_cloud
    from recon4d.scene.cloud import PointCloud
    from recon4d.stages.export import run
    from recon4d.stages.export_options import ExportOptions

    fabricated.fabricated_trajectory = pacing(fabricated.fabricated_trajectory)
    workspace, rng = fabricated.fabricate(root / "clip", frames=frames), np.random.default_rng(0)
    fuse = workspace.unit_dir("fuse")

    def cloud(count: int) -> PointCloud:
        at = rng.uniform(0, EXTENT_M / 2, (count, 3))  # a scene unit is two metres there
        at[:, 2] = at[:, 2] * 0.01 + 2
        return PointCloud(at, rng.integers(0, 256, (count, 3)))

    write_cloud(fuse / "static.ply", cloud(10 * points))
    for name in workspace.trajectory().names:
        write_cloud(fuse / "moving" / f"{name}.ply", replace(cloud(points), object_id=np.ones(points)))
    run(workspace, ExportOptions(to=SOURCES, mesh_stride=8))
    return workspace.root / "export"


def pacing(walk: Callable[[int, int, int], Trajectory]) -> Callable[[int, int, int], Trajectory]:
    """A walk of five frames, again and again: a longer one would leave the room."""
    from recon4d.scene.trajectory import Trajectory
    from recon4d.scene.transforms import Rigid3

    def trajectory(frames: int, width: int, height: int) -> Trajectory:
        short, rows = walk(5, width, height), np.arange(frames) % 5
        poses = Rigid3(short.cam_from_world.rotation[rows], short.cam_from_world.translation[rows])
        names = tuple(f"{row:06d}" for row in range(frames))
        return Trajectory(names, np.arange(frames) / 10, poses, short.cameras[:1] * frames, short.origin[:1] * frames)

    return trajectory


def measure(blender: Path, export: Path, source: str) -> dict[str, float]:
    from recon4d.formats.ply import read_cloud

    script, target = export.parent / "inside.py", export.parent / "found.npz"
    script.write_text(INSIDE)
    command = [str(blender), str(script), str(export / "import_recon4d.py"), source, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    names, found = json.loads((export / "manifest.json").read_text())["names"], np.load(target)
    places = json.loads((export / "blender/clip.json").read_text())["frames"]
    pairs = [(f"moving {places[i]}", export / f"ply/moving/{names[i]}.ply") for i in (0, -1)]
    errors_mm, levels = [], []
    for key, path in [*pairs, (f"background {places[0]}", export / "ply/static.ply")]:
        truth = read_cloud(path)
        errors_mm.append(1000 * np.abs(found[key] - truth.points.astype(float)).max())
        levels.append(np.abs(np.round(found[f"{key} colours"]) - truth.colors).max())
    numbers = {name: float(found[name]) for name in ("imported", "worked", "memory", "step")}
    return numbers | {"error_mm": max(errors_mm), "levels": max(levels)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--points", type=int, default=50_000)
    parser.add_argument("--blender", type=Path, default=ROOT / ".venv-blender/bin/python")
    given = parser.parse_args()
    print("| source | import, s | of the processor, s | a step of playback, ms | memory, MB | files, MB | ", end="")
    print("position, mm | colour, levels |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        export = make(Path(folder), given.frames, given.points)
        for source in SOURCES:
            found = measure(given.blender, export, source)
            needed = [export / "ply/static.ply", *(export / "ply/moving").iterdir()] if source == "ply" else []
            needed = needed or [export / source / ("scene.glb" if source == "glb" else "scene.usdc")]
            size_mb = sum(path.stat().st_size for path in needed) / 1e6
            print(
                f"| {source} | {found['imported']:.1f} | {found['worked']:.1f} | {1000 * found['step']:.1f} | "
                f"{found['memory']:.0f} | {size_mb:.0f} | {found['error_mm']:.4f} | {found['levels']:.0f} |"
            )


if __name__ == "__main__":
    main()

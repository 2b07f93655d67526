"""Fusion on clips with true depth: the background against the true cloud, against baselines; speed; memory.

    python tools/bench_fuse.py --out /tmp/bench_fuse                       # everything: most of it is making scenes
    python tools/bench_fuse.py --out /tmp/bench_fuse --parts speed memory  # single parts

The clips are looked for in the folder named by RECON4D_TEST_DATA (default ../shared), or in --data. Scenes are kept in
--out/CLIP_DEPTH; with --as-they-are those that lie there are fused as they are, and nothing before fuse is made. Tables
go to the terminal and, with everything measured, to --out/fuse.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import bench_align
import numpy as np
from bench_stereo import kitchen as stereo_kitchen
from bench_stereo import percent, table
from fuse_rows import Truth, all_points, flickers, on_mesh, open3d_mesh, peak_memory, speeds, true_sightings
from voxels import VoxelMerger

from recon4d import FuseOptions, Workspace, pipeline
from recon4d.scene.camera import Camera
from recon4d.stages import fuse
from recon4d.stages.depth_options import DepthOptions
from recon4d.stages.evaluate import EvaluateOptions

DATA = bench_align.DATA
PARTS = ("scores", "flicker", "ceiling", "speed", "memory")
# clip, depth: what the source's depth is, and whether stereo is beside it
SCENES = {
    "kitchen_TM": ("rgbd_static", "tcmonodepth_small", "precomputed,mvs"),
    "kitchen_S": ("rgbd_static", "simulated_diffusion", "precomputed"),
    "kitchen_M": ("rgbd_static", None, "mvs"),
    "moving_S": ("dynamic_gt", "simulated_diffusion", "precomputed"),
    "synth_S": ("synthetic", "simulated", "precomputed"),
}
SPEED_FRAMES = 60
VOXELS = (0.02, 0.01)  # metres
BAND = 0.06  # metres


def clip_of(scene: str, data: Path, out: Path) -> bench_align.Clip:
    """The clip of a scene with its one depth."""
    clip, depth, source = SCENES[scene]
    found = bench_align.CLIPS[clip](data, out)
    given = DepthOptions(source=source) if depth is None else replace(found.depths[depth], source=source)
    return replace(found, options=replace(found.options, depth=given))


def camera_of(scene: str, data: Path, out: Path) -> Camera:
    """The camera of a clip's true depth."""
    if SCENES[scene][0] == "rgbd_static":
        return stereo_kitchen(data, out).true_camera
    synthetic = SCENES[scene][0] == "synthetic"
    path = data / "dynamic_gt" / "intrinsics.json"
    if synthetic:
        path = bench_align.synthetic(data, out).truth.trajectory_gt.with_name("intrinsics.json")
    lens = json.loads(path.read_text(encoding="utf-8"))
    half = 0.0 if synthetic else 0.5  # dynamic_gt counts pixel centres as whole numbers
    return Camera(lens["width"], lens["height"], lens["fx"], lens["fy"], lens["cx"] + half, lens["cy"] + half)


def opened(scene: str, clip: bench_align.Clip, out: Path, as_they_are: bool) -> Workspace:
    """A scene up to what fuse reads."""
    root = out / scene
    return Workspace(root) if as_they_are else pipeline.run(clip.source, root, until="refine", options=clip.options)


def truth_of(scene: str, workspace: Workspace, clip: bench_align.Clip, camera: Camera) -> Truth:
    options: EvaluateOptions = replace(clip.truth, stage=None, source=None)
    return Truth(workspace, options, camera)


def scores(scene: str, workspace: Workspace, truth: Truth) -> list[dict[str, object]]:
    """Rows of one scene: ours as cloud and mesh, and the baselines."""
    record = fuse.run(workspace, FuseOptions())
    told = {key: record.summary[key] for key in ("coverage", "in_front", "removed", "voxel_size")}
    told |= {"seconds": record.seconds, "peak_mb": record.peak_memory_mb}
    rows = {
        "ours, points": workspace.static_cloud().points,
        "ours, mesh": on_mesh(workspace.static_mesh()),
        "all points of all frames": all_points(workspace, truth.scale),
        "open3d's volume, mesh": on_mesh(open3d_mesh(workspace)),
    }
    return [{"scene": scene, "what": what, **truth.score(points), "fuse": told} for what, points in rows.items()]


def ceiling(scene: str, workspace: Workspace, truth: Truth, camera: Camera) -> list[dict[str, object]]:
    """The true depth at our cameras, and our sparse points: what no fusion of estimated depth passes."""
    merger, trajectory = VoxelMerger(VOXELS[1] / truth.scale, columns=0), workspace.trajectory()
    for name, depth in truth.frames():
        in_cam = camera.unproject(depth)[depth > 0] / truth.scale
        points = trajectory[name].cam_from_world.inverse() @ in_cam
        merger.add(points, np.ones(len(points)), np.zeros((len(points), 0)))
    points, _, views, _ = merger.result()
    model = workspace.sparse_model()
    steady = (model.track_length >= 4) & (model.error_px < 1) & (model.angle_deg > 3)
    rows = {"true depth at our cameras": points[views >= 2], "sparse points of long tracks": model.points[steady]}
    return [{"scene": scene, "what": what, **truth.score(points)} for what, points in rows.items()]


def scores_table(rows: Sequence[dict[str, object]]) -> str:
    heads = ["scene", "what", "points", "F 5 cm", "P", "R", "F 2 cm", "P", "R", "accuracy mm"]
    heads += ["> 10 cm off", "of these contradicted"]
    lines = []
    for row in rows:
        at = [f"{row[f'{name}_{cm}']:.3f}" for cm in (5, 2) for name in ("f", "precision", "recall")]
        shares = percent(row["floaters"], 2), percent(row["contradicted"], 2)
        lines.append([row["scene"], row["what"], str(row["points"]), *at, f"{row['accuracy_mm']:.1f}", *shares])
    return table(heads, lines)


def told_table(rows: Sequence[dict[str, object]]) -> str:
    heads = ["scene", "voxel", "coverage", "in front", "seen through", "seldom seen", "islands", "stray", "s", "MB"]
    lines = []
    for row in (row for row in rows if row["what"] == "ours, points"):
        told = row["fuse"]
        gone = [str(told["removed"][key]) for key in ("seen_through", "seldom_seen", "islands", "stray_points")]
        shares = percent(told["coverage"], 1), percent(told["in_front"], 2)
        cost = f"{told['seconds']:.0f}", f"{told['peak_mb']:.0f}"
        lines.append([row["scene"], f"{told['voxel_size']:.3g}", *shares, *gone, *cost])
    return table(heads, lines)


def speed_table(found: dict[float, dict[str, object]]) -> str:
    heads = ["volume", *(f"frames/s at {100 * voxel:g} cm (triangles)" for voxel in found)]
    rows = []
    for name in next(iter(found.values())):
        cells = [f"{of[name]['frames_per_s']:.1f} ({of[name]['triangles']})" for of in found.values()]
        rows.append([name, *cells])
    return table(heads, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the scenes, kept for the next run")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the recorded clips")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--scenes", nargs="+", choices=list(SCENES), default=list(SCENES))
    parser.add_argument("--as-they-are", action="store_true", help="fuse the scenes in --out, make nothing before")
    arguments = parser.parse_args()
    found: dict[str, object] = {"scores": [], "flicker": {}, "ceiling": []}
    for scene in arguments.scenes:
        clip = clip_of(scene, arguments.data, arguments.out)
        camera = camera_of(scene, arguments.data, arguments.out)
        workspace = opened(scene, clip, arguments.out, arguments.as_they_are)
        truth = truth_of(scene, workspace, clip, camera)
        if "scores" in arguments.parts:
            found["scores"] += scores(scene, workspace, truth)
            print(scores_table(found["scores"]), told_table(found["scores"]), sep="\n\n", flush=True)
        if "flicker" in arguments.parts:
            fuse.run(workspace, FuseOptions())
            found["flicker"][scene] = flickers(workspace, clip.truth, truth)
            print(f"Flicker in mm, {scene}: {found['flicker'][scene]}", flush=True)
        if "ceiling" in arguments.parts and SCENES[scene][0] == "rgbd_static":
            found["ceiling"] += ceiling(scene, workspace, truth, camera)
            print(scores_table(found["ceiling"]), flush=True)
        if scene == arguments.scenes[0] and "speed" in arguments.parts:
            seen = true_sightings(workspace, truth, camera, SPEED_FRAMES)
            found["speed"] = {voxel: speeds(seen, voxel, BAND) for voxel in VOXELS}
            print(speed_table(found["speed"]), flush=True)
        if scene == arguments.scenes[0] and "memory" in arguments.parts:
            found["memory"] = {times: peak_memory(workspace.root, times) for times in (1, 3)}
            print(f"MB at the peak, clip walked so many times: {found['memory']}", flush=True)
    (arguments.out / "fuse.json").write_text(json.dumps(found, indent=1, default=float) + "\n", "utf-8")


if __name__ == "__main__":
    main()

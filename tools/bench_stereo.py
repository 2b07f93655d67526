"""Depth by multi-view stereo on clips with true depth: how complete, how right, how sure of itself, at what cost.

    python tools/bench_stereo.py --out /tmp/bench_stereo         # about forty minutes on two cores

The clips are looked for in the folder named by RECON4D_TEST_DATA (default ../shared), or in --data. Scenes up to poses
stay in --out, depth is made anew; tables go to the terminal and, with everything measured, to --out/stereo.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from align_rows import Truth, align_watched, few_rows
from stereo_rows import COMPLETED, CONFIDENT, MEASURED, MVS, StereoScores, score_fused_cloud

from recon4d import AlignOptions, FramesOptions, PosesOptions, Recon4dError, Workspace, pipeline
from recon4d.formats.arrays import read_arrays, write_arrays
from recon4d.progress import Silent
from recon4d.scene.camera import Camera
from recon4d.stages import depth as depth_stage
from recon4d.stages.depth_options import DepthOptions
from recon4d.stages.evaluate import EvaluateOptions

DATA = Path(os.environ.get("RECON4D_TEST_DATA", Path(__file__).parents[2] / "shared")) / "data"
SYNTHETIC_FRAMES = 60
ROOM8_VIEWS = 3  # the first ones overlap; what the others see, they see alone
MAIN, FINE = 320, 640  # longest side of the working pictures
DECILE_HEADS = [f".{k}-.{k + 1}" for k in range(9)] + [".9-1"]
UNITS = ("frames", "poses", "depth/mvs", "align", "motion", "mesh", "refine", "fuse", "export")


@dataclass(frozen=True)
class Clip:
    """A recording with true depth."""

    source: Path
    truth: EvaluateOptions
    options: pipeline.Options = field(default_factory=pipeline.Options)
    sizes: tuple[int, ...] = (MAIN,)
    true_camera: Camera | None = None  # of the true depth: then the fused cloud is scored, too
    peer: DepthOptions | None = None  # a network's depth, aligned to the same points


def kitchen(data: Path, out: Path) -> Clip:
    """7-Scenes RedKitchen, handheld; the cloud is scored as well."""
    folder = data / "rgbd_static"
    known = json.loads((folder / "intrinsics.json").read_text(encoding="utf-8"))
    lens = known["color_camera_estimated"]  # it counts pixel centres 0, 1, 2
    return Clip(
        source=folder / "handheld.mp4",
        truth=EvaluateOptions(
            depth_gt=folder / "depth_registered", trajectory_gt=folder / "poses_color_tum.txt", **OF_DEPTH
        ),
        options=pipeline.Options(frames=FramesOptions(stride=3)),
        sizes=(MAIN, FINE),
        true_camera=Camera(known["width"], known["height"], lens["fx"], lens["fy"], lens["cx"] + 0.5, lens["cy"] + 0.5),
        peer=DepthOptions(path=data / "rgbd_static_pred" / "tcmonodepth_small.npz"),
    )


def moving(data: Path, out: Path) -> Clip:
    """The same kitchen with three things moving in it; scored where nothing moves."""
    folder = data / "dynamic_gt"
    return Clip(
        source=folder / "clip.mp4",
        truth=EvaluateOptions(
            depth_gt=folder / "depth",
            mask_gt=folder / "mask",
            trajectory_gt=folder / "poses_tum.txt",
            offset=0,
            **OF_DEPTH,
        ),
        peer=DepthOptions(path=folder / "tcmonodepth_small.npz", offset=0),
    )


def synthetic(data: Path, out: Path) -> Clip:
    """The demo's room with the poses that structure from motion finds in it."""
    from recon4d.stages.demo import make_clip

    clip = make_clip(out / "synthetic", SYNTHETIC_FRAMES, Silent())
    return Clip(
        source=clip.video,
        truth=EvaluateOptions(depth_gt=clip.depth, mask_gt=clip.mask, trajectory_gt=clip.trajectory, **OF_DEPTH),
    )


def synthetic_true(data: Path, out: Path) -> Clip:
    """The same with its true poses and lens: what is wrong then is stereo's alone."""
    from recon4d.stages.demo import make_clip

    clip = make_clip(out / "synthetic", SYNTHETIC_FRAMES, Silent())
    lens = json.loads(clip.intrinsics.read_text(encoding="utf-8"))
    camera = ",".join(str(lens[key]) for key in ("fx", "fy", "cx", "cy"))
    poses = PosesOptions(source="import", path=clip.trajectory, camera=camera)
    return replace(synthetic(data, out), options=pipeline.Options(poses=poses))


def room8(data: Path, out: Path) -> Clip:
    """Three rendered views with given poses; lossless pictures, exact depth."""
    given, folder = data / "static_sfm" / "room8", out / "room8"
    arrays = {name: array[:ROOM8_VIEWS] for name, array in read_arrays(given / "condition.npz").items()}
    for kind in ("views", "truth"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    write_arrays(folder / "condition.npz", **arrays)
    for picture, depth in zip(sorted((given / "rgb").glob("*.png")), arrays["depths"]):
        shutil.copyfile(picture, folder / "views" / picture.name)
        np.save(folder / "truth" / f"{picture.stem}.npy", depth)
    return Clip(
        source=folder / "views",
        truth=EvaluateOptions(depth_gt=folder / "truth", depth_gt_scale=1.0, **OF_DEPTH),
        options=pipeline.Options(poses=PosesOptions(source="import", path=folder / "condition.npz")),
        sizes=(MAIN, FINE),
    )


OF_DEPTH = {"stage": "depth", "source": MVS}
CLIPS = {
    "rgbd_static": kitchen,
    "dynamic_gt": moving,
    "synthetic": synthetic,
    "synthetic, true poses": synthetic_true,
    "room8": room8,
}


# -- measuring -----------------------------------------------------------------------------------------------------


def measure(name: str, clip: Clip, root: Path, sizes: Sequence[int]) -> list[dict[str, object]]:
    """All that is measured of a clip, one entry per working size."""
    workspace = pipeline.run(clip.source, root, until="poses", options=clip.options)
    found = []
    for size in sizes:
        cost = make_depth(workspace, size)
        scores = StereoScores(workspace, clip.truth)
        found.append({"clip": name, "size": workspace.record("depth/mvs").summary["size"], "cost": cost})
        found[-1].update(scores.measure())
        if size == MAIN and clip.true_camera is not None:
            pipeline.run(None, root)
            cloud = score_fused_cloud(workspace, clip.truth, clip.true_camera, scores.scale)
            found[-1]["cloud"] = asdict(cloud)
            found[-1]["seconds"] = {unit: workspace.record(unit).seconds for unit in UNITS}
    if clip.peer is not None:
        found[0]["peer"] = learned(workspace, clip)
    shutil.rmtree(workspace.root / ".old", ignore_errors=True)
    return found


def scene_of(out: Path, name: str) -> Path:
    """Where the scene of a clip lies."""
    return out / name.replace(", ", "_").replace(" ", "_") / "scene"


def make_depth(workspace: Workspace, size: int) -> dict[str, object]:
    """Make the depth anew in a process of its own, as a user does, and say what it took."""
    shutil.rmtree(workspace.unit_dir("depth/mvs"), ignore_errors=True)
    words = ["depth", workspace.root, "--source", MVS, "--max-size", size]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "recon4d", *map(str, words)], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    record = workspace.record("depth/mvs")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "frames": record.summary["frames"],
        "cpu_s": cpu_s,
        "seconds": record.seconds,
        "memory_mb": record.peak_memory_mb,
        "shares": record.summary["shares"],
    }


def learned(workspace: Workspace, clip: Clip) -> dict[str, object]:
    """A network's depth on the same poses: least squares per frame, and aligned as the line does it."""
    root = workspace.root.with_name("learned")
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(workspace.root, root, ignore=shutil.ignore_patterns("depth", "align", "mesh", "fuse", "export"))
    peer = Workspace(root)
    depth_stage.run(peer, clip.peer)
    watched = align_watched(peer, AlignOptions())
    rows = few_rows(peer, watched, Truth(peer, replace(clip.truth, stage="align", source=None)))
    shutil.rmtree(root)
    return {row["row"]: row for row in rows}


def compile_once() -> None:
    """Let numba compile and keep everything before anything is timed."""
    from recon4d.depth.multi_view import PosedPicture, first_look, settle, steadied
    from recon4d.scene.transforms import Rigid3

    noise = np.random.default_rng(0).integers(0, 255, (48, 96, 3), dtype=np.uint8)
    camera = Camera(64, 48, 60.0, 60.0, 32.0, 24.0)
    # Pictures of a wall at depth 6, the camera moving sideways by a pixel at a time.
    frames = [
        PosedPicture(np.ascontiguousarray(noise[:, k : k + 64]), camera, Rigid3(np.eye(3), np.array([-0.1 * k, 0, 0])))
        for k in range(6)
    ]
    looks = [first_look(f.grey(), [o.grey() for o in frames if o is not f], 3.0, 12.0) for f in frames]
    answer = settle(frames[0], looks[0], list(zip(frames, looks))[1:], [frame.grey() for frame in frames[1:]])
    if answer is not None:
        steadied(frames[0], answer, [(frame, answer) for frame in frames[1:]], True)


# -- tables --------------------------------------------------------------------------------------------------------


def percent(value: float | None, digits: int = 0) -> str:
    """A share as text; empty where it cannot be measured."""
    return "" if value is None or not np.isfinite(value) else f"{100 * value:.{digits}f} %"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def scores_table(found: Sequence[dict]) -> str:
    heads = [
        "clip, size",
        "pixels",
        "complete",
        "within 5 %",
        "AbsRel",
        "median",
        "delta<1.25 (of all)",
        "flicker mean / median",
    ]
    rows = []
    for item in found:
        for row in (COMPLETED, CONFIDENT, MEASURED):
            scores = item["rows"][row]
            flicker = f"{percent(scores['flicker'], 2)} / {percent(scores['flicker_median'], 2)}"
            rows.append(
                [
                    f"{item['clip']}, {item['size']}",
                    row,
                    percent(scores["completeness"], 1),
                    percent(scores["within_5"], 1),
                    f"{scores['abs_rel']:.4f}",
                    percent(scores["median_rel"], 2),
                    f"{scores['delta1']:.3f} ({scores['delta1_of_all']:.3f})",
                    flicker if scores["flicker"] is not None else "",
                ]
            )
        rows += [peer_row(item, label, row) for label, row in item.get("peer", {}).items()]
    return table(heads, rows)


def peer_row(item: dict, label: str, row: dict) -> list[str]:
    """A network on the same poses."""
    return [
        item["clip"],
        f"tcmonodepth_small, {'least squares per frame' if 'least' in label else 'align'}",
        percent(row["completeness"], 1),
        percent(row["within_5"], 1),
        f"{row['abs_rel']:.4f}",
        percent(row["median_rel"], 2),
        f"{row['delta1']:.3f}",
        f"{percent(row['flicker'], 2)} / {percent(row['flicker_median'], 2)}",
    ]


def cost_table(found: Sequence[dict]) -> str:
    heads = ["clip, size", "frames", "CPU s a frame", "s a frame", "MB", "measured", "other frame", "completed", "none"]
    rows = []
    for item in found:
        cost, shares = item["cost"], item["cost"]["shares"]
        rows.append(
            [
                f"{item['clip']}, {item['size']}",
                str(cost["frames"]),
                f"{cost['cpu_s'] / cost['frames']:.2f}",
                f"{cost['seconds'] / cost['frames']:.2f}",
                f"{cost['memory_mb']:.0f}",
                *(percent(shares[kind]) for kind in ("measured", "other_frame", "completed", "none")),
            ]
        )
    return table(heads, rows)


def calibration_table(found: Sequence[dict]) -> str:
    heads = ["clip, size", "error", "p > 0.5 right", *DECILE_HEADS]
    return table(heads, [[f"{i['clip']}, {i['size']}", *calibration_cells(i["calibration"])] for i in found])


def calibration_cells(calibration: dict) -> list[str]:
    """Expected calibration error, the share of confident pixels that is right, and per decile what is right."""
    deciles = [f"{percent(d['right'])} ({percent(d['share'])})" if d["share"] else "" for d in calibration["deciles"]]
    return [percent(calibration["expected_error"], 1), percent(calibration["confident_right"], 1), *deciles]


def moving_table(found: Sequence[dict]) -> str:
    heads = ["clip, size", "of what moves, not valid", "valid and wrong", "of what does not move, not valid"]
    rows = []
    for item in found:
        moved = item["moved"]
        cells = percent(moved["moving_invalid"]), percent(moved["moving_valid_and_wrong"])
        rows.append([f"{item['clip']}, {item['size']}", *cells, percent(moved["static_invalid"], 2)])
    return table(heads, rows)


def cloud_lines(found: Sequence[dict]) -> list[str]:
    lines = []
    for item in (item for item in found if "cloud" in item):
        cloud, seconds = item["cloud"], item["seconds"]
        at = [
            f"at {100 * a['distance']:.0f} cm precision {a['precision']:.3f}, recall {a['recall']:.3f}, "
            f"F-score {a['f_score']:.3f}"
            for a in cloud["at"]
        ]
        lines.append(
            f"Fused cloud of {item['clip']}, {cloud['points']} points against {cloud['true_points']} true ones: "
            f"{'; '.join(at)}. The whole line took {sum(seconds.values()):.0f} s: "
            + ", ".join(f"{unit} {s:.0f}" for unit, s in seconds.items())
            + "."
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the scenes, kept for the next run")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the recorded clips")
    parser.add_argument("--clips", nargs="+", choices=list(CLIPS), default=list(CLIPS))
    parser.add_argument("--sizes", nargs="+", type=int, help="working sizes of every clip, instead of its own")
    parser.add_argument("--frames", type=int, help="only so many frames, the first ones, for a quick look")
    arguments = parser.parse_args()
    compile_once()
    found, remarks = [], []
    for name in arguments.clips:
        clip = CLIPS[name](arguments.data, arguments.out)
        root = scene_of(arguments.out, name)
        if arguments.frames is not None:
            shorter = replace(clip.options.frames, stride=clip.options.frames.stride or 1, max_frames=arguments.frames)
            clip = replace(clip, options=replace(clip.options, frames=shorter))
            root = root.with_name(f"scene_{arguments.frames}")
        try:
            found += measure(name, clip, root, arguments.sizes or clip.sizes)
        except Recon4dError as error:
            remarks.append(f"{name} is left out: {error}")
            continue
        print(scores_table([item for item in found if item["clip"] == name]), flush=True)
    (arguments.out / "stereo.json").write_text(json.dumps(found, indent=1, default=np.ndarray.tolist) + "\n", "utf-8")
    tables = (scores_table, cost_table, calibration_table, moving_table)
    print("", *(make(found) for make in tables), *cloud_lines(found), *remarks, sep="\n\n")


if __name__ == "__main__":
    main()

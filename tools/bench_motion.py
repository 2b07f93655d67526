"""What moves, on clips with true masks, and false alarms on clips of still scenes; at what cost.

    python tools/bench_motion.py --out /tmp/bench_motion         # about twenty minutes on two cores

The clips are looked for in the folder named by RECON4D_TEST_DATA (default ../shared), or in --data. Scenes up to align
stay in --out, motion is made anew; the table goes to the terminal and, with everything measured, to --out/motion.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import bench_align
import numpy as np

from recon4d import MotionOptions, Workspace, pipeline
from recon4d.evaluation.mask_scores import pooled_mask_scores, score_mask
from recon4d.evaluation.truth import Counting, FlowTruth, GridTruth
from recon4d.stages import align, depth, motion
from recon4d.stages.depth_options import DepthOptions
from recon4d.stages.evaluate_pairs import Undistorter

DATA = bench_align.DATA
LEAST_PIXELS = 100  # of a true object in a frame that counts, as in the README of dynamic_gt
LEAST_MOTION_PX = 1.0  # per frame, for an object to count as moving then
MILLIMETRE = 0.001  # metres
AROUND_PX = 25  # what is found so near to an object, and is no other one's, is held against it


@dataclass(frozen=True)
class Case:
    """A clip, its depth, and true masks if there are any (without them nothing moves)."""

    clip: str
    label: str
    source: Path
    options: pipeline.Options
    masks: Path | None = None
    flow: Path | None = None  # true scene flow and depth: they tell when an object moves
    depth: Path | None = None
    offset: int | None = None
    still: bool = False


def cases(name: str, data: Path, out: Path) -> Iterator[Case]:
    """The depths with which motion is looked for in a clip."""
    stereo = DepthOptions(source="mvs")
    if name in ("dynamic_gt", "synthetic", "rgbd_static"):
        clip = bench_align.CLIPS[name](data, out)
        truth = clip.truth.mask_gt
        flow = None if truth is None else truth.parent / "scene_flow"
        known = truth, flow, clip.truth.depth_gt, clip.truth.offset, truth is None
        wanted = {"dynamic_gt": ("tcmonodepth_small", "simulated_diffusion"), "synthetic": ("simulated",)}
        for label in wanted.get(name, ("tcmonodepth_small",)):
            given = clip.depths[label]
            for suffix, source in ((" + stereo", "precomputed,mvs"), ("", "precomputed")):
                options = replace(clip.options, depth=replace(given, source=source))
                yield Case(name, label + suffix, clip.source, options, *known)
        yield Case(name, "stereo", clip.source, replace(clip.options, depth=stereo), *known)
    elif name == "fox":
        yield Case(name, "stereo", data / "static_sfm" / "fox" / "images", pipeline.Options(depth=stereo), still=True)
    else:
        folder = data / "dynamic" / "car_shadow"
        yield Case(name, "stereo", folder / "images", pipeline.Options(depth=stereo), folder / "masks")


CLIPS = ("dynamic_gt", "synthetic", "rgbd_static", "fox", "car_shadow")


def prepared(case: Case, out: Path) -> Workspace:
    """The scene of a case up to align; poses and stereo of a clip are made once."""
    workspace = pipeline.run(case.source, out / case.clip / "scene", until="poses", options=case.options)
    depth.run(workspace, case.options.depth)
    align.run(workspace, case.options.align)
    shutil.rmtree(workspace.root / ".old", ignore_errors=True)
    return workspace


def made(workspace: Workspace) -> dict[str, float]:
    """Run the stage anew; CPU seconds and seconds a frame, peak megabytes."""
    for folder in (workspace.unit_dir("motion"), *(workspace.root / ".part").glob("motion-*")):
        shutil.rmtree(folder, ignore_errors=True)
    started, cpu = time.perf_counter(), time.process_time()
    record = motion.run(workspace, MotionOptions())
    frames = record.summary["frames"]
    return {
        "cpu_s": (time.process_time() - cpu) / frames,
        "seconds": (time.perf_counter() - started) / frames,
        "peak_mb": record.peak_memory_mb,
        "objects": record.summary["objects"],
        "moving_share": record.summary["moving_share"],
    }


class TrueObjects:
    """True object numbers, and which of them move, on the undistorted pictures of a scene."""

    def __init__(self, workspace: Workspace, case: Case) -> None:
        recording, counting = workspace.recording(), Counting(offset=case.offset)
        self._undistorted, self._workspace = Undistorter(workspace), workspace
        self._masks = GridTruth(case.masks, recording, counting, "--mask-gt")
        self._flow, self._depth = None, None
        if case.flow is not None:
            self._flow = FlowTruth(case.flow, recording, counting)
            self._depth = GridTruth(case.depth, recording, counting, "--depth-gt")

    def __contains__(self, name: str) -> bool:
        return name in self._masks

    def numbers(self, name: str) -> np.ndarray:
        """(H, W) int, 0 = still."""
        return self._undistorted(name, np.asarray(self._masks[name])).astype(int)

    def motion_px(self, name: str, pixels: np.ndarray) -> float:
        """How far the median pixel moves to the next frame of itself, pixels; inf where that is not known."""
        if self._flow is None or name not in self._flow:
            return np.inf
        moved = np.linalg.norm(self._undistorted(name, self._flow[name]).astype(np.float64), axis=-1)[pixels]
        depth_m = self._undistorted(name, self._depth[name])[pixels] * MILLIMETRE
        return float(np.median(moved) / np.median(depth_m) * self._undistorted.trajectory[name].camera.fx)


def scores(workspace: Workspace, case: Case) -> dict[str, object]:
    """Overlap of all that moves, and of every object by itself in the frames in which it moves."""
    truth, names = TrueObjects(workspace, case), workspace.unrefined_trajectory().names
    found, true, objects = [], [], {}
    for name in names:
        if name not in truth:
            continue
        estimate, numbers = workspace.motion(name).mask, truth.numbers(name)
        found.append(estimate)
        true.append(numbers > 0)
        for number in np.unique(numbers[numbers > 0]):
            pixels = numbers == number
            if pixels.sum() < LEAST_PIXELS or truth.motion_px(name, pixels) < LEAST_MOTION_PX:
                continue
            near = around(pixels) & ((numbers == 0) | pixels)
            objects.setdefault(int(number), []).append((score_mask(estimate & near, pixels), int(pixels.sum())))
    frames = [score_mask(e, t) for e, t in zip(found, true) if t.any()]
    everything = pooled_mask_scores(found, true)
    return {
        "iou": everything.iou,
        "precision": everything.precision,
        "recall": everything.recall,
        "iou_of_frames": float(np.mean([score.iou for score in frames])),
        "false_share": float(np.mean([(e & ~t).sum() / t.size for e, t in zip(found, true)])),
        "per_object": {number: of_object(rows) for number, rows in sorted(objects.items())},
    }


def of_object(rows: list[tuple[object, int]]) -> dict[str, float]:
    """Mean and median scores of an object over its frames."""
    ious = [score.iou for score, _ in rows]
    return {
        "frames": len(rows),
        "iou": float(np.mean(ious)),
        "iou_median": float(np.median(ious)),
        "precision": float(np.mean([score.precision or 0.0 for score, _ in rows])),
        "recall": float(np.mean([score.recall for score, _ in rows])),
    }


def around(pixels: np.ndarray) -> np.ndarray:
    """(H, W) bool: an object and what is near."""
    import cv2

    size = 2 * AROUND_PX + 1
    return cv2.dilate(pixels.astype(np.uint8), np.ones((size, size), dtype=np.uint8)) > 0


HEADS = (
    "clip, depth",
    "IoU",
    "precision",
    "recall",
    "IoU by object (median)",
    "precision / recall by object",
    "called moving",
    "objects",
    "CPU s a frame",
)


def table_row(row: dict[str, object]) -> str:
    """One line of the Markdown table."""
    score = row.get("scores")

    def share(value: float | None) -> str:
        return "" if value is None else f"{value:.2f}"

    objects = score["per_object"].values() if score else ()
    each = ", ".join(f"{of['iou']:.2f} ({of['iou_median']:.2f})" for of in objects)
    halves = ", ".join(f"{of['precision']:.2f} / {of['recall']:.2f}" for of in objects)
    cells = (
        f"{row['clip']}, {row['depth']}",
        *(share(score[key]) if score else "" for key in ("iou", "precision", "recall")),
        each,
        halves,
        f"{100 * row['cost']['moving_share']:.2f} %" + (" (nothing moves)" if row["still"] else ""),
        str(row["cost"]["objects"]),
        f"{row['cost']['cpu_s']:.2f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the scenes, kept for the next run")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the recorded clips")
    parser.add_argument("--clips", nargs="+", choices=list(CLIPS), default=list(CLIPS))
    parser.add_argument("--first", action="store_true", help="only the first choice of depth of each clip")
    arguments = parser.parse_args()
    print(f"| {' | '.join(HEADS)} |")
    print(f"|{' --- |' * len(HEADS)}")
    rows = []
    for name in arguments.clips:
        for case in cases(name, arguments.data, arguments.out):
            workspace = prepared(case, arguments.out)
            row = {"clip": name, "depth": case.label, "still": case.still, "cost": made(workspace)}
            row["scores"] = None if case.masks is None else scores(workspace, case)
            rows.append(row)
            print(table_row(row), flush=True)
            if arguments.first:
                break
    (arguments.out / "motion.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

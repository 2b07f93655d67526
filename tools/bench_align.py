"""Depth brought to the structure, five ways, on clips with true depth: what align gains, where it loses, what it costs.

    python tools/bench_align.py --out /tmp/bench_align         # poses once, then six to eight minutes on busy cores

The clips are looked for in the folder named by RECON4D_TEST_DATA (default ../shared), or in --data. Scenes up to poses
stay in --out; the table goes to the terminal and, with everything measured, to --out/align.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from align_rows import Thinned, Truth, align_watched, all_rows, few_rows, worse_than_least_squares

from recon4d import FramesOptions, PosesOptions, Recon4dError, pipeline
from recon4d.progress import Silent
from recon4d.stages import depth as depth_stage
from recon4d.stages.align import AlignOptions
from recon4d.stages.depth_options import DepthOptions
from recon4d.stages.evaluate import EvaluateOptions

DATA = Path(os.environ.get("RECON4D_TEST_DATA", Path(__file__).parents[2] / "shared")) / "data"
SYNTHETIC_FRAMES = 60
HARD_WINDOW, HARD_OVERLAP = 20, 5  # frames: four windows in the synthetic clip
FEW = (30, 100)  # sparse points per frame


@dataclass(frozen=True)
class Clip:
    """A recording with true depth, and the depth predictions to align in it."""

    source: Path
    truth: EvaluateOptions  # trajectory_gt: without it there is no flicker
    depths: dict[str, DepthOptions]
    options: pipeline.Options = field(default_factory=pipeline.Options)
    few: tuple[int, ...] = ()  # also with so few sparse points per frame


def kitchen(data: Path, out: Path) -> Clip:
    """7-Scenes RedKitchen: two real networks and an imitation of video diffusion."""
    folder, predicted = data / "rgbd_static", data / "rgbd_static_pred"
    return Clip(
        source=folder / "handheld.mp4",
        truth=EvaluateOptions(
            depth_gt=folder / "depth_registered", trajectory_gt=folder / "poses_color_tum.txt", stage="align"
        ),
        depths={
            name: DepthOptions(path=predicted / f"{name}.npz")
            for name in ("tcmonodepth_small", "fastdepth_int8", "simulated_diffusion")
        },
        options=pipeline.Options(frames=FramesOptions(stride=3)),
        few=FEW,
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
            stage="align",
        ),
        depths={
            name: DepthOptions(path=folder / f"{name}.npz", offset=0)
            for name in ("tcmonodepth_small", "simulated_diffusion")
        },
    )


def synthetic(data: Path, out: Path) -> Clip:
    """The demo's room: its own simulated depth, and one with several times the drift, bending and flicker."""
    from recon4d.stages.demo import make_clip

    clip = make_clip(out / "synthetic", SYNTHETIC_FRAMES, Silent())
    hard = out / "synthetic" / "hard_depth.npz"
    if not hard.exists():
        _write_hard_depth(clip.depth, hard)
    windows = f"{HARD_WINDOW}:{HARD_OVERLAP}"
    return Clip(
        source=clip.video,
        truth=EvaluateOptions(depth_gt=clip.depth, mask_gt=clip.mask, trajectory_gt=clip.trajectory, stage="align"),
        depths={
            "simulated": DepthOptions(path=clip.simulated_depth),
            "simulated, hard": DepthOptions(path=hard),
            f"simulated, hard, --depth.windows {windows}": DepthOptions(path=hard, windows=windows),
        },
    )


def room8(data: Path, out: Path) -> Clip:
    """Eight rendered views that hardly overlap, with given poses, so with very few points; simulated depth."""
    folder = data / "static_sfm" / "room8"
    truth, simulated = out / "room8" / "truth", out / "room8" / "simulated_depth.npz"
    if not simulated.exists():
        _write_room8(folder, truth, simulated)
    return Clip(
        source=folder / "rgb",
        truth=EvaluateOptions(depth_gt=truth, depth_gt_scale=1.0, stage="align"),
        depths={"simulated": DepthOptions(path=simulated)},
        options=pipeline.Options(poses=PosesOptions(source="import", path=folder / "condition.npz")),
    )


CLIPS = {"rgbd_static": kitchen, "dynamic_gt": moving, "synthetic": synthetic, "room8": room8}


def _write_hard_depth(truth: Path, path: Path) -> None:
    """Simulated video depth whose every fault is two to five times that of the demo."""
    from recon4d.formats.arrays import write_arrays
    from recon4d.formats.depth_files import open_depth_files
    from recon4d.synthetic import corruptions

    files = open_depth_files(truth)
    disparity = np.stack([1000.0 / files.row(row).astype(np.float32) for row in range(len(files))])
    disparity = corruptions.bending(corruptions.smeared_edges(disparity), 0, strength=0.11)
    disparity = corruptions.window_drift(
        disparity, 1, window=HARD_WINDOW, overlap=HARD_OVERLAP, gain_sigma=0.12, shift_sigma=0.06
    )
    disparity = corruptions.flicker(disparity, 2, gain_sigma=0.015, shift_sigma=0.01)
    write_arrays(
        path, depth=corruptions.affine_disparity(disparity).astype(np.float16), names=np.array(list(files.names))
    )


def _write_room8(folder: Path, truth: Path, simulated: Path) -> None:
    from recon4d.formats.arrays import read_arrays, write_arrays
    from recon4d.synthetic import corruptions

    depths = read_arrays(folder / "condition.npz")["depths"]
    names = [path.stem for path in sorted((folder / "rgb").glob("*.png"))]
    truth.mkdir(parents=True, exist_ok=True)
    for name, depth in zip(names, depths):
        np.save(truth / f"{name}.npy", depth)
    # A few pixels without truth lie at 1/z = 0, others closer than anything: both ends are cut.
    disparity = np.stack([1.0 / np.clip(np.where(depth > 0, depth, np.inf), 0.3, 20.0) for depth in depths])
    disparity = corruptions.bending(corruptions.smeared_edges(disparity), 0)
    disparity = corruptions.flicker(disparity, 2, gain_sigma=0.03, shift_sigma=0.01)
    write_arrays(simulated, depth=corruptions.affine_disparity(disparity).astype(np.float16), names=np.array(names))


def measure(name: str, clip: Clip, out: Path, draws: int) -> list[dict[str, object]]:
    """All rows of a clip; those with few points once for each of so many draws of the points."""
    workspace = pipeline.run(clip.source, out / name / "scene", until="poses", options=clip.options)
    rows, truth = [], None
    for label, options in clip.depths.items():
        depth_stage.run(workspace, options)
        watched = align_watched(workspace, AlignOptions())
        truth = truth or Truth(workspace, clip.truth)
        rows += [{"clip": name, "depth": label} | row for row in all_rows(workspace, watched, truth)]
        for count, draw in itertools.product(clip.few, range(draws)):
            few = Thinned(workspace.root, count, draw)
            found = few_rows(few, align_watched(few, AlignOptions()), truth)
            which = f"{label}, {count} points per frame" + (f", draw {draw + 1}" if draws > 1 else "")
            rows += [{"clip": name, "depth": which} | row for row in found]
    shutil.rmtree(workspace.root / ".old", ignore_errors=True)
    return rows


def refused(name: str, error: Recon4dError) -> str:
    """A clip that cannot be aligned, as a line under the table."""
    return f"{name} is left out: {error}"


HEADS = (
    "clip, depth",
    "row",
    "AbsRel",
    "delta<1.25",
    "within 5 %",
    "flicker",
    "held-out median / 95 %",
    "drift (against a)",
    "within 1 / 2 sigma",
    "ms a frame, fit (stage)",
    "AbsRel against (b)",
)


def table_row(row: dict[str, object]) -> str:
    """One line of the Markdown table; empty cells are what cannot be measured."""

    def share(value: float | None, digits: int = 1) -> str:
        return "" if value is None else f"{100 * value:.{digits}f} %"

    drift = share(row["drift"]) + ("" if row["drift_ratio"] is None else f" ({row['drift_ratio']:.2f})")
    sigma = "" if row["within_one_sigma"] is None else f"{row['within_one_sigma']:.2f} / {row['within_two_sigma']:.2f}"
    stage = "" if row["stage_ms_per_frame"] is None else f" ({row['stage_ms_per_frame']:.0f})"
    cells = (
        f"{row['clip']}, {row['depth']}",
        row["row"],
        f"{row['abs_rel']:.4f}",
        f"{row['delta1']:.3f}",
        share(row["within_5"], 0),
        share(row["flicker"]),
        f"{share(row['held_out_median'])} / {share(row['held_out_95'])}",
        drift,
        sigma,
        f"{row['fit_ms_per_frame']:.1f}{stage}",
        f"{row['abs_rel_ratio']:.2f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the scenes, kept for the next run")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the recorded clips")
    parser.add_argument("--clips", nargs="+", choices=list(CLIPS), default=list(CLIPS))
    parser.add_argument("--draws", type=int, default=1, help="random choices of the few sparse points, each measured")
    arguments = parser.parse_args()
    print(f"| {' | '.join(HEADS)} |")
    print(f"|{' --- |' * len(HEADS)}")
    rows, remarks = [], []
    for name in arguments.clips:
        try:
            found = measure(name, CLIPS[name](arguments.data, arguments.out), arguments.out, arguments.draws)
        except Recon4dError as error:
            remarks.append(refused(name, error))
            continue
        rows += found
        print("\n".join(table_row(row) for row in found), flush=True)
    (arguments.out / "align.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    worse = worse_than_least_squares(rows)
    print(f"\nOurs worse than least squares per frame in {len(worse)} scores:", *worse, *remarks, sep="\n")


if __name__ == "__main__":
    main()

"""Peak memory of every stage at two lengths of the same recording, each stage in a process of its own.

    python tools/bench_memory.py --out /tmp/bench_memory

The synthetic camera walks the same way in both clips, only in more frames, so that nothing but their number differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

SECONDS = 6.0  # of the walk
STAGES = ("frames", "poses", "depth", "align", "motion", "mesh", "refine", "fuse", "export")


def measure(folder: Path, frames: int) -> dict[str, tuple[float, float]]:
    """Peak memory (MB) and seconds of each stage for a clip of ``frames`` frames."""
    from recon4d import pipeline
    from recon4d.synthetic.clip import write_clip
    from recon4d.synthetic.scene import synthetic_scene
    from recon4d.workspace import Workspace

    clip = write_clip(folder / "clip", synthetic_scene(count=frames, fps=frames / SECONDS))
    workspace = Workspace.create(folder / "scene")
    options = pipeline.Options(depth=pipeline.DepthOptions(path=clip.simulated_depth))
    pipeline.record_options(workspace, options, clip.video)
    peaks = {}
    for stage in STAGES:
        subprocess.run([sys.executable, "-m", "recon4d", stage, str(workspace.root)], check=True)
        unit = "depth/precomputed" if stage == "depth" else stage
        record = json.loads((workspace.unit_dir(unit) / "stage.json").read_text(encoding="utf-8"))
        of_colmap = record["summary"].get("colmap_memory_mb", 0.0)  # it runs in a process of its own
        peaks[stage] = max(record["peak_memory_mb"], of_colmap), record["seconds"]
    return peaks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="empty folder for clips and scenes")
    parser.add_argument("--frames", type=int, nargs=2, default=(100, 300))
    arguments = parser.parse_args()
    short, long = (measure(arguments.out / str(count), count) for count in arguments.frames)
    print(f"| stage | {arguments.frames[0]} frames, MB | {arguments.frames[1]} frames, MB | ratio |")
    print("| --- | --- | --- | --- |")
    for stage in STAGES:
        print(f"| {stage} | {short[stage][0]:.0f} | {long[stage][0]:.0f} | {long[stage][0] / short[stage][0]:.2f} |")


if __name__ == "__main__":
    main()

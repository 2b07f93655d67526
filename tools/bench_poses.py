"""Frames and poses on recorded clips: what registers, what is refused in which words, the error where it is known.

    python tools/bench_poses.py --out /tmp/bench_poses          # about ten minutes on two cores

The clips are looked for in the folder named by RECON4D_TEST_DATA (default ../shared).
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

from recon4d import FramesOptions, PosesOptions, Recon4dError, Workspace, pipeline

DATA = Path(os.environ.get("RECON4D_TEST_DATA", Path(__file__).parents[2] / "shared")) / "data"


@dataclass(frozen=True)
class Clip:
    """One input, how it is thinned, and its true path where there is one."""

    path: str
    stride: int = 1
    max_size: int = 1280
    truth: str | None = None  # TUM, KITTI or transforms.json, below DATA
    truth_by: str = "name"


CLIPS = (
    Clip("rgbd_static/handheld.mp4", 3, truth="rgbd_static/poses_color_tum.txt", truth_by="time"),
    Clip("dynamic_gt/clip.mp4", 2, truth="dynamic_gt/poses_tum.txt", truth_by="time"),
    Clip("static_sfm/fox/images", truth="static_sfm/fox/transforms.json"),
    Clip("static_sfm/room8/rgb"),
    Clip("dynamic/kitti/image_l", 1, 854, truth="dynamic/kitti/poses_kitti.txt", truth_by="row"),
    Clip("dynamic/dog.mp4", 5, 854),
    Clip("dynamic/teddy.mp4", 5),
    Clip("dynamic/lady_running", 2),
    Clip("dynamic/car_shadow/images", 2),
)


def position_error(workspace: Workspace, clip: Clip) -> str:
    """ATE after the best similarity, against the extent of the true path; "" without truth."""
    import numpy as np

    from recon4d.formats.trajectories import read_kitti, read_tum
    from recon4d.formats.transforms_json import read_transforms
    from recon4d.geometry.similarity import fit_similarity

    if clip.truth is None:
        return ""
    trajectory, path = workspace.trajectory(), DATA / clip.truth
    if path.suffix == ".json":
        given = read_transforms(path)
        names = [Path(frame.file_path).stem for frame in given.frames]
        truth = given.world_from_cam.translation
        rows = [names.index(name) for name in trajectory.names]
    elif clip.truth_by == "row":
        truth = read_kitti(path).translation
        index_of = {frame.name: frame.source_index for frame in workspace.recording().frames}
        rows = [index_of[name] for name in trajectory.names]
    else:
        times, world_from_cam = read_tum(path)
        truth = world_from_cam.translation
        rows = [int(np.argmin(np.abs(times - t))) for t in trajectory.timestamps_s]
    truth = truth[rows]
    fit = fit_similarity(trajectory.centres, truth)
    error = np.sqrt(((fit @ trajectory.centres - truth) ** 2).sum(axis=1).mean())
    return f"{error:.3g} on {np.linalg.norm(np.diff(truth, axis=0), axis=1).sum():.3g}"


def row(clip: Clip, out: Path) -> str:
    """One line of the table."""
    options = pipeline.Options(frames=FramesOptions(stride=clip.stride, max_size=clip.max_size), poses=PosesOptions())
    workspace, started = None, time.monotonic()
    name = clip.path + (f", stride {clip.stride}" if clip.stride > 1 else "")
    try:
        workspace = pipeline.run(DATA / clip.path, out / clip.path.replace("/", "_"), until="poses", options=options)
    except Recon4dError as error:
        return f"| {name} | refused: {error} | | | | {time.monotonic() - started:.0f} |"
    s = workspace.record("poses").summary
    remark = "".join(f" ({w})" for w in workspace.record("poses").warnings if "parallax" in w)
    return (
        f"| {name} | {s['registered']}/{s['frames']}{remark} | {s['focal_px']:.0f} | {s['points']}, "
        f"{s['reprojection_error_px']:.2f} px | {position_error(workspace, clip)} | {time.monotonic() - started:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="empty folder for the scenes")
    out = parser.parse_args().out
    print("| input | registered | focal px | points | ATE on a path of (units of the truth) | seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for clip in CLIPS:
        print(row(clip, out), flush=True)


if __name__ == "__main__":
    main()

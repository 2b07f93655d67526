"""Depth of single pictures by an ONNX model against truth: one fit of scale and shift per frame, and one per clip.

    python tools/bench_onnx_depth.py                             # a minute on two cores
    python tools/bench_onnx_depth.py --model FILE --preset NAME  # another model

Fits are by least squares in disparity. The clips are looked for in the folder named by RECON4D_TEST_DATA (default
../shared), or in --data. Truth of kitti are points that three frames with known poses see alike; they lie on what
stands still and has texture. Where there is no truth, only the time is told.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import bench_align
import cv2
import numpy as np

from recon4d.depth.onnx_depth import OnnxDepth, OnnxRequest, open_onnx_depth
from recon4d.evaluation.depth_scores import DepthScores, score_depth
from recon4d.evaluation.video_depth_benchmark import BenchmarkFrame, benchmark_frames
from recon4d.formats.pictures import read_rgb
from recon4d.formats.video import Video
from recon4d.metric.scale import NoCue
from recon4d.metric.triangulation import triangulate
from recon4d.scene.camera import Camera
from recon4d.scene.trajectory import PoseOrigin, View
from recon4d.scene.transforms import Rigid3

SHARED = bench_align.DATA.parent
MODEL = Path("models/tcmonodepth_small/tcmonodepth_tcsmallnet_192x320.onnx")
INDOORS, OUTDOORS = 8.0, 80.0  # metres, farthest truth
CORNERS = 1500  # looked for in a frame of kitti
SIGMA_PX, MOST_PX, LEAST_DEG = 0.3, 0.7, 0.5  # error of a tracked corner; what the three views may miss and must open
UNSCORED = 20  # frames of clips without truth


@dataclass(frozen=True)
class Clip:
    """Pictures, and what is known of their depth."""

    name: str
    pictures: Callable[[], Iterator[np.ndarray]]  # (H, W, 3) uint8 RGB
    truths: Callable[[], Iterator[np.ndarray]] | None  # (H, W) metres, 0 = none
    farthest: float = INDOORS
    wanted: str = ""  # what the data's own README says of the usual model


@dataclass(frozen=True)
class Row:
    """A clip's scores, (AbsRel, delta < 1.25) each, () without truth; and the time for a picture."""

    frames: int
    seconds: float
    scores: tuple[tuple[float, float], ...] = ()  # one fit per frame, one per clip, each frame's median everywhere


def clips(data: Path) -> Iterator[Clip]:
    """All clips of the test data that suit a network of single pictures."""
    said = {"rgbd_static": "0.133 / 0.818, 0.157 / 0.750", "dynamic_gt": "0.129 / 0.819, 0.159 / 0.733"}
    for name, truth in (("rgbd_static", "depth_registered"), ("dynamic_gt", "depth")):
        stems = [path.stem for path in sorted((data / name / "color").glob("*.jpg"))]
        yield Clip(
            name,
            lambda name=name, stems=stems: (read_rgb(data / name / "color" / f"{stem}.jpg") for stem in stems),
            lambda name=name, stems=stems, truth=truth: (_metres(data / name / truth / f"{s}.png") for s in stems),
            wanted=said[name],
        )
    dynamic = data / "dynamic"
    yield Clip("dynamic/kitti", lambda: _folder(dynamic / "kitti/image_l"), lambda: kitti(dynamic / "kitti"), OUTDOORS)
    for folder in ("lady_running", "car_shadow/images"):
        yield Clip(f"dynamic/{folder}", lambda folder=folder: _first(_folder(dynamic / folder)), None)
    for file in ("dog.mp4", "teddy.mp4"):
        yield Clip(f"dynamic/{file}", lambda file=file: _first(_video(dynamic / file)), None)


def _metres(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.float64) / 1000


def _folder(folder: Path) -> Iterator[np.ndarray]:
    return (read_rgb(path) for path in sorted(folder.iterdir()) if path.suffix in (".jpg", ".png"))


def _video(path: Path) -> Iterator[np.ndarray]:
    with Video(path) as video:
        for frame in video.frames():
            yield frame.rgb()


def _first(pictures: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    return (picture for _, picture in zip(range(UNSCORED), pictures))


def kitti(folder: Path) -> Iterator[np.ndarray]:
    """Sparse depth (H, W) of each frame, 0 = none: corners followed into two others, triangulated with the poses."""
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in _folder(folder / "image_l")]
    height, width = grey[0].shape
    calibration = np.loadtxt(folder / "calib.txt")[0].reshape(3, 4)
    # the file counts pixels from the centre of the first one
    focal, (x, y) = calibration[0, 0], calibration[:2, 2] + 0.5
    camera = Camera(width, height, focal, focal, x, y)
    world_from_cam = np.loadtxt(folder / "poses_kitti.txt").reshape(-1, 3, 4)
    poses = [Rigid3(m[:, :3], m[:, 3]).inverse() for m in world_from_cam]
    views = [View(f"{k:06d}", 0.1 * k, pose, camera, PoseOrigin.IMPORTED) for k, pose in enumerate(poses)]
    last = len(grey) - 1
    for k, picture in enumerate(grey):
        others = (k - 1, k + 1) if 0 < k < last else (1, 2) if k == 0 else (last - 1, last - 2)
        corners = cv2.goodFeaturesToTrack(picture, CORNERS, 0.005, 6)
        tracks = [_followed(picture, grey[other], corners) for other in others]
        depth = np.zeros((height, width))
        for i, corner in enumerate(corners[:, 0]):
            seen = [corner, *(track[i] for track in tracks)]
            if not np.isfinite(seen).all():
                continue
            try:
                found = triangulate(np.array(seen) + 0.5, [views[k], *(views[o] for o in others)], SIGMA_PX)
            except (NoCue, np.linalg.LinAlgError):
                continue
            if found.residual_px.max() < MOST_PX and found.angle_deg > LEAST_DEG:
                depth[int(corner[1] + 0.5), int(corner[0] + 0.5)] = (views[k].cam_from_world @ found.point)[2]
        yield depth


def _followed(first: np.ndarray, second: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """(N, 2) where corners of one picture lie in another; NaN where the way back does not lead home."""
    there, found, _ = cv2.calcOpticalFlowPyrLK(first, second, corners, None, winSize=(21, 21), maxLevel=4)
    back, again, _ = cv2.calcOpticalFlowPyrLK(second, first, there, None, winSize=(21, 21), maxLevel=4)
    good = (found[:, 0] > 0) & (again[:, 0] > 0) & (np.linalg.norm(back - corners, axis=2)[:, 0] < 0.5)
    return np.where(good[:, None], there[:, 0], np.nan)


def measure(network: OnnxDepth, clip: Clip) -> Row:
    """Run a clip, and score it where its truth is known."""
    predictions, times = [], []
    for picture in clip.pictures():
        started = time.perf_counter()
        (depth,) = network.estimate([picture])
        times.append(time.perf_counter() - started)
        predictions.append(depth)
    if clip.truths is None:
        return Row(len(times), float(np.median(times)))
    frames = [BenchmarkFrame(p.values, truth, p.valid) for p, truth in zip(predictions, clip.truths())]
    frames = [replace(frame, valid=None) if frame.valid.all() else frame for frame in frames]
    return Row(len(times), float(np.median(times)), scores(frames, clip.farthest))


def scores(frames: Sequence[BenchmarkFrame], farthest: float) -> tuple[tuple[float, float], ...]:
    """(AbsRel, delta < 1.25), means of the frames: with a fit for each, with one for all, and of their medians."""
    each = [benchmark_frames(lambda frame=frame: [frame], farthest).scores for frame in frames]
    whole = benchmark_frames(lambda: frames, farthest).scores
    return _mean(each), _mean([whole]), _mean([_constant(frame.truth, farthest) for frame in frames])


def _constant(truth: np.ndarray, farthest: float) -> DepthScores:
    known = (truth > 0) & (truth < farthest)
    return score_depth(np.full(truth.shape, np.median(truth[known])), known, truth, known)


def _mean(scored: Sequence[DepthScores]) -> tuple[float, float]:
    return tuple(float(np.mean([getattr(item, name) for item in scored])) for name in ("abs_rel", "delta1"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=bench_align.DATA)
    parser.add_argument("--model", type=Path, default=SHARED / MODEL)
    parser.add_argument("--preset", default="tcmonodepth")
    parser.add_argument("--input-values", default=None)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    network = open_onnx_depth(
        OnnxRequest(given.model, given.device, preset=given.preset, input_values=given.input_values)
    )
    print(f"{given.model.name}: {', '.join(network.remarks)}\n")
    print("AbsRel / delta < 1.25")
    print("| clip | frames | fit per frame | fit per clip | README: the same | a constant per frame | ms per picture |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for clip in clips(given.data):
        row = measure(network, clip)
        fitted, whole, constant = (f"{s[0]:.3f} / {s[1]:.3f}" for s in row.scores) if row.scores else ["no truth"] * 3
        cells = (clip.name, row.frames, fitted, whole, clip.wanted, constant, f"{1000 * row.seconds:.0f}")
        print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()

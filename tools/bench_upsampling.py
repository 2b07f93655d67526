"""Depth of a small grid at the size of its picture: edge-aware against bilinear and the nearest cell.

    python tools/bench_upsampling.py --out /tmp/bench_upsampling         # about a minute on two cores

The clips are looked for in the folder named by RECON4D_TEST_DATA (default ../shared), or in --data. Every estimate is
fitted to the truth of its frame in disparity (one scale, one shift); the table goes to the terminal, with everything
measured to --out/upsampling.json, and one frame of each clip to --out/CLIP.png: picture, bilinear, edge-aware, truth.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import cv2
import numpy as np

from recon4d.evaluation.affine_fit import AffineFit
from recon4d.formats.arrays import read_arrays
from recon4d.formats.colormap import inferno_u8
from recon4d.formats.pictures import read_grey, read_rgb, write_picture
from recon4d.geometry.guided_upsampling import upsampled
from recon4d.geometry.resample import resize_grid
from recon4d.synthetic.scene import synthetic_scene

SHARED = Path(os.environ.get("RECON4D_TEST_DATA", Path(__file__).parents[2] / "shared"))
NEAREST_M, FARTHEST_M = 0.3, 8.0
STEPS = (1.05, 1.1, 1.15, 1.2, 1.25)  # ratios of depth between neighbours that make an edge
EDGE = 1.1  # the one that says where edges of the truth are
TOLERANCE_PX = 2  # of an edge's place: registration of the true depth is good to 1 to 2 px
NEAR_PX = 6  # around true edges, errors and values in the air are looked at
TIMED = (320, 192), (1280, 720)


@dataclass(frozen=True)
class Sample:
    """One frame."""

    values: np.ndarray  # (h, w) disparity, any scale and shift
    valid: np.ndarray  # (h, w)
    picture: np.ndarray  # (H, W, 3)
    truth: np.ndarray  # (H, W) metres, 0 where not known


@dataclass(frozen=True)
class Scores:
    """Of a frame, or their mean."""

    abs_rel: float
    abs_rel_edges: float  # the same within NEAR_PX of a true edge
    flying: float  # share of the pixels there, at a step of the estimate, that lie between 25 and 75 % of that step
    f_score: float  # of edges, mean over STEPS
    precision: float
    recall: float
    ms: float


Method = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def bilinear(values: np.ndarray, valid: np.ndarray, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return resize_grid(values, valid, rgb.shape[1], rgb.shape[0])


def nearest(values: np.ndarray, valid: np.ndarray, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size = rgb.shape[1::-1]
    found, known = (
        cv2.resize(grid, size, interpolation=cv2.INTER_NEAREST) for grid in (values, valid.astype(np.uint8))
    )
    return found, known > 0


METHODS: dict[str, Method] = {"bilinear": bilinear, "nearest": nearest, "edge-aware": upsampled}


# -- clips -----------------------------------------------------------------------------------------------------------


def predicted(root: Path, folder: str, truth: str, file: str) -> Callable[[int], Iterator[Sample]]:
    """Saved predictions of 320x240 on pictures of 640x480."""

    def samples(count: int) -> Iterator[Sample]:
        clip = read_arrays(root / "data" / file)
        for row in spread(len(clip["names"]), count):
            values = clip["depth"][row].astype(np.float32)
            picture, depth = recorded(root / "data" / folder, truth, str(clip["names"][row]))
            yield Sample(values, np.ones(values.shape, dtype=bool), picture, depth)

    return samples


def network(root: Path) -> Callable[[int], Iterator[Sample]]:
    """A network of 320x192 run on pictures of 640x480."""

    def samples(count: int) -> Iterator[Sample]:
        import onnxruntime

        model = root / "models" / "tcmonodepth_small" / "tcmonodepth_tcsmallnet_192x320.onnx"
        session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        folder = root / "data" / "rgbd_static"
        names = sorted(path.stem for path in (folder / "color").glob("*.jpg"))
        for row in spread(len(names), count):
            picture, depth = recorded(folder, "depth_registered", names[row])
            fed = cv2.resize(picture, (320, 192), interpolation=cv2.INTER_AREA).astype(np.float32)
            values = session.run(None, {"input": fed.transpose(2, 0, 1)[None]})[0][0, 0]
            yield Sample(values, np.ones(values.shape, dtype=bool), picture, depth)

    return samples


def shrunk_sensor(root: Path) -> Callable[[int], Iterator[Sample]]:
    """True depth with its holes, at a quarter of its size."""

    def samples(count: int) -> Iterator[Sample]:
        folder = root / "data" / "dynamic_gt"
        names = sorted(path.stem for path in (folder / "color").glob("*.jpg"))
        for row in spread(len(names), count):
            picture, depth = recorded(folder, "depth", names[row])
            known = depth > NEAREST_M
            share, total = (
                cv2.resize(grid, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
                for grid in (known.astype(np.float64), np.where(known, 1 / np.maximum(depth, NEAREST_M), 0.0))
            )
            valid = share >= 0.5
            yield Sample(np.where(valid, total / np.maximum(share, 0.1), 0).astype(np.float32), valid, picture, depth)

    return samples


def shrunk_room(count: int) -> Iterator[Sample]:
    """Exact disparity of the demo's room at a quarter of its size."""
    scene = synthetic_scene(count=40, fps=4.0)
    for row in spread(len(scene), count):
        frame = scene.frame(row)
        values = cv2.resize(1 / frame.depth, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        yield Sample(values, np.ones(values.shape, dtype=bool), frame.picture, frame.depth.astype(np.float64))


def clips(root: Path) -> dict[str, Callable[[int], Iterator[Sample]]]:
    static, moving = ("rgbd_static", "depth_registered"), ("dynamic_gt", "depth")
    return {
        "kitchen, tcmonodepth 320x192": network(root),
        "kitchen, tcmonodepth": predicted(root, *static, "rgbd_static_pred/tcmonodepth_small.npz"),
        "kitchen, fastdepth": predicted(root, *static, "rgbd_static_pred/fastdepth_int8.npz"),
        "kitchen, simulated diffusion": predicted(root, *static, "rgbd_static_pred/simulated_diffusion.npz"),
        "movers, tcmonodepth": predicted(root, *moving, "dynamic_gt/tcmonodepth_small.npz"),
        "movers, simulated diffusion": predicted(root, *moving, "dynamic_gt/simulated_diffusion.npz"),
        "movers, truth / 4": shrunk_sensor(root),
        "synthetic, truth / 4": shrunk_room,
    }


def recorded(folder: Path, truth: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    return read_rgb(folder / "color" / f"{name}.jpg"), read_grey(folder / truth / f"{name}.png") / 1000.0


def spread(length: int, count: int) -> list[int]:
    return [int(row) for row in np.unique(np.linspace(0, length - 1, count).round())]


# -- scores ----------------------------------------------------------------------------------------------------------


def fitted(estimate: np.ndarray, known: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(H, W) disparity in 1 / m."""
    fit = AffineFit()
    fit.add(estimate[known], 1 / truth[known])
    gain, shift = fit.solve()
    return np.maximum(gain * estimate.astype(np.float64) + shift, 1 / 50)


def score(disparity: np.ndarray, known: np.ndarray, truth: np.ndarray) -> tuple[float, ...]:
    true = np.where(known, 1 / np.maximum(truth, 0.1), 0.0)
    error = np.abs(1 / disparity - truth) / np.maximum(truth, 0.1)
    near = grown(edges(true, known, EDGE), NEAR_PX) & known
    window = np.ones((2 * NEAR_PX + 1,) * 2, dtype=np.uint8)
    low, high = cv2.erode(disparity, window), cv2.dilate(disparity, window)
    stepped = near & (high > 1.08 * low)
    place = (disparity - low) / np.maximum(high - low, 1e-9)
    flying = ((place > 0.25) & (place < 0.75))[stepped].mean() if stepped.any() else np.nan
    rows = [agreement(edges(true, known, step), edges(disparity, known, step)) for step in STEPS]
    return (error[known].mean(), error[near].mean(), flying, *np.mean(rows, axis=0))


def edges(disparity: np.ndarray, known: np.ndarray, ratio: float) -> np.ndarray:
    """(H, W) bool: pixels that differ from their right or lower neighbour by this ratio, both known."""
    out = np.zeros(disparity.shape, dtype=bool)
    for here, there in (((slice(None, -1),), (slice(1, None),)), ((..., slice(None, -1)), (..., slice(1, None)))):
        a, b = disparity[here], disparity[there]
        out[here] |= (np.maximum(a, b) > ratio * np.minimum(a, b)) & known[here] & known[there]
    return out


def agreement(true: np.ndarray, found: np.ndarray) -> tuple[float, float, float]:
    """F-score, precision and recall of edges within TOLERANCE_PX."""
    precision = float(grown(true, TOLERANCE_PX)[found].mean()) if found.any() else 0.0
    recall = float(grown(found, TOLERANCE_PX)[true].mean()) if true.any() else 0.0
    return (2 * precision * recall / (precision + recall) if precision + recall else 0.0), precision, recall


def grown(mask: np.ndarray, by: int) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * by + 1,) * 2, dtype=np.uint8)) > 0


# -- the run ---------------------------------------------------------------------------------------------------------


def measure(samples: Iterator[Sample], page: Path) -> dict[str, Scores]:
    rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in METHODS}
    for index, sample in enumerate(samples):
        shown = {}
        for name, method in METHODS.items():
            start = time.perf_counter()
            values, valid = method(sample.values, sample.valid, sample.picture)
            ms = 1000 * (time.perf_counter() - start)
            known = valid & (sample.truth > NEAREST_M) & (sample.truth < FARTHEST_M)
            shown[name] = fitted(values, known, sample.truth)
            rows[name].append((*score(shown[name], known, sample.truth), ms))
        if index == 0:
            write_page(page, sample, shown)
    return {name: Scores(*map(float, np.nanmean(found, axis=0))) for name, found in rows.items()}


def write_page(path: Path, sample: Sample, shown: dict[str, np.ndarray]) -> None:
    known = sample.truth > 0
    true = np.where(known, 1 / np.maximum(sample.truth, NEAREST_M), 0)
    low, high = np.percentile(true[known], [1, 99])
    grids = [shown["bilinear"], shown["edge-aware"], true]
    colored = [inferno_u8((grid - low) / (high - low)) for grid in grids]
    top, bottom = np.hstack([sample.picture, colored[0]]), np.hstack(colored[1:])
    write_picture(path, np.vstack([top, bottom]))


def milliseconds(root: Path) -> dict[str, float]:
    """CPU time per picture, small grid to 1280x720, after a first call."""
    (width, height), size = TIMED
    out = {}
    for name in ("kitchen, tcmonodepth", "kitchen, fastdepth", "movers, simulated diffusion"):
        sample = next(clips(root)[name](1))
        values = cv2.resize(sample.values, (width, height), interpolation=cv2.INTER_AREA)
        picture, valid = cv2.resize(sample.picture, size), np.ones(values.shape, dtype=bool)
        upsampled(values, valid, picture)
        start = time.process_time()
        for _ in range(5):
            upsampled(values, valid, picture)
        out[name] = 1000 * (time.process_time() - start) / 5
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the numbers and pictures")
    parser.add_argument("--data", type=Path, default=SHARED, help="folder with data/ and models/")
    parser.add_argument("--frames", type=int, default=16, help="frames of each clip")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"| clip | method | {' | '.join(field.name for field in fields(Scores))} |")
    print("| --- " * (len(fields(Scores)) + 2) + "|")
    result: dict[str, object] = {}
    for name, samples in clips(options.data).items():
        file = re.sub("[^a-z0-9]+", "_", name)
        found = measure(samples(options.frames), options.out / f"{file}.png")
        result[name] = {method: asdict(scores) for method, scores in found.items()}
        for method, scores in found.items():
            *shares, ms = asdict(scores).values()
            print(f"| {name} | {method} | {' | '.join(f'{share:.4f}' for share in shares)} | {ms:.0f} |", flush=True)
    times = milliseconds(options.data)
    print("ms of CPU from 320x192 to 1280x720:", ", ".join(f"{name}: {ms:.0f}" for name, ms in times.items()))
    result["ms_320x192_to_1280x720"] = times
    (options.out / "upsampling.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

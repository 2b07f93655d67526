"""Fit the chances of `recon4d/depth/stereo_chances.py` anew, on clips with true depth, and say how well they hold.

    python tools/fit_stereo_chances.py --out /tmp/bench_stereo         # ten minutes on two cores

Right is a pixel within 5 % of the truth after the median ratio of its frame is taken out: what structure from motion
gets wrong is not stereo's to doubt. Every clip counts alike, whatever its length. "Left out" is the calibration on a
clip by coefficients fitted to the others. The clips are looked for as by `bench_stereo.py`.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from bench_stereo import CLIPS, DATA, DECILE_HEADS, MAIN, calibration_cells, percent, scene_of, table
from stereo_rows import RIGHT, Calibration, nearest_on

from recon4d import Workspace, pipeline
from recon4d.depth import multi_view, stereo_chances
from recon4d.depth.multi_view import Look, PosedPicture, Settled
from recon4d.evaluation.truth import Counting, GridTruth
from recon4d.geometry.photo_cost import GreyView
from recon4d.geometry.stereo_views import StereoViews
from recon4d.scene.depth import DepthMap
from recon4d.stages.depth_mvs import MATCHED, SETTLED_WITH
from recon4d.stages.evaluate import EvaluateOptions
from recon4d.stages.evaluate_pairs import Undistorter
from recon4d.stages.working_pictures import working_size
from recon4d.threads import usable_cores

FITTED = ("rgbd_static", "dynamic_gt", "synthetic")
EVERY_PX = 2  # every second pixel both ways: neighbours say the same
NEWTON_STEPS = 25
RIDGE = 1e-6  # where a clip weighs 1: settles only what no clip does, such as a sign that never varies


@dataclass(frozen=True)
class Samples:
    """Pixels of one clip."""

    features: np.ndarray  # (N, C)
    right: np.ndarray  # (N,) bool


@dataclass(frozen=True)
class Scene:
    """A clip's posed pictures at working size, and its truth there."""

    pictures: list[PosedPicture]
    views: StereoViews
    truth: list[np.ndarray]  # (H, W) metres, 0 where it is not known or something moves

    def matched(self, i: int) -> list[GreyView]:
        """The frames that frame ``i`` is matched with."""
        return [self.pictures[j].grey() for j in self.views.others(i, MATCHED)]

    def company(self, i: int, answers: Sequence[Look | None]) -> list[tuple[PosedPicture, Look]]:
        """The frames that frame ``i`` hears, and what they say; without those that have no answer."""
        heard = self.views.spread(i, SETTLED_WITH)
        return [(self.pictures[j], answers[j]) for j in heard if answers[j] is not None]


def read_scene(workspace: Workspace, options: EvaluateOptions) -> Scene:
    """Everything of a scene that stereo looks at; some 50 MB for a hundred frames."""
    import cv2

    trajectory, undistorted, recording = workspace.trajectory(), Undistorter(workspace), workspace.recording()
    counting = Counting.read(options.names, options.offset, options.stride)
    depths = GridTruth(options.depth_gt, recording, counting, "--depth-gt")
    masks = GridTruth(options.mask_gt, recording, counting, "--mask-gt") if options.mask_gt is not None else None
    pictures, truth = [], []
    for view in trajectory:
        rgb = workspace.picture(view.name)
        size = working_size(rgb.shape[1::-1], MAIN)
        small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        pictures.append(PosedPicture(small, view.camera.resized(*size), view.cam_from_world))
        z = np.zeros(small.shape[:2], dtype=np.float32)
        if view.name in depths:
            z = nearest_on(undistorted(view.name, depths[view.name]), z.shape) * np.float32(options.depth_gt_scale)
            z = np.where((z >= options.min_depth) & (z <= options.max_depth), z, 0)
            if masks is not None:
                z = np.where(nearest_on(undistorted(view.name, masks[view.name]), z.shape) == 0, z, 0)
        truth.append(z)
    return Scene(pictures, StereoViews(workspace.sparse_model(), trajectory), truth)


@contextmanager
def overheard(name: str) -> Iterator[threading.local]:
    """Each thread's last argument to a function that `multi_view` calls, as ``.signs``."""
    original, heard = getattr(multi_view, name), threading.local()

    def listen(signs: object) -> np.ndarray:
        heard.signs = signs
        return original(signs)

    setattr(multi_view, name, listen)
    try:
        yield heard
    finally:
        setattr(multi_view, name, original)


# -- the three walks over a clip -----------------------------------------------------------------------------------


@dataclass
class Walked:
    """What a walk says of every frame of a clip; None, twice, of those where nobody trusts what the frame sees."""

    answers: list  # of Look, Settled or DepthMap
    features: list[np.ndarray | None]  # (H, W, C) float16: what the chances are read from

    def believed(self, model: np.ndarray) -> list:
        """The answers with the confidence that a model gives them."""
        return [
            None if answer is None else replace(answer, confidence=chance(x, model).astype(np.float32))
            for answer, x in zip(self.answers, self.features)
        ]


def first_looks(scene: Scene) -> Walked:
    """Every frame for itself."""

    def look(i: int) -> tuple[Look, np.ndarray]:
        near, far = scene.views.near_far(i)
        found = multi_view.first_look(scene.pictures[i].grey(), scene.matched(i), near, far)
        return found, stereo_chances.look_features(heard.signs).astype(np.float16)

    with overheard("chance_of_look") as heard:
        return _each(look, len(scene.pictures))


def settled(scene: Scene, looks: Sequence[Look]) -> Walked:
    """Every frame with the looks of others."""

    def settle(i: int) -> tuple[Settled | None, np.ndarray | None]:
        found = multi_view.settle(scene.pictures[i], looks[i], scene.company(i, looks), scene.matched(i))
        if found is None:
            return None, None
        return found, stereo_chances.settled_features(heard.signs).astype(np.float16)

    with overheard("chance_of_settled") as heard:
        return _each(settle, len(scene.pictures))


def steadied(scene: Scene, answers: Sequence[Settled | None]) -> Walked:
    """Every frame with the settled depth of others."""

    def steady(i: int) -> tuple[DepthMap | None, np.ndarray | None]:
        if answers[i] is None:
            return None, None
        found = multi_view.steadied(scene.pictures[i], answers[i], scene.company(i, answers), True)
        return found, stereo_chances.settled_features(heard.signs).astype(np.float16)

    with overheard("chance_of_steadied") as heard:
        return _each(steady, len(scene.pictures))


def _each(make: Callable[[int], tuple], count: int) -> Walked:
    with ThreadPoolExecutor(usable_cores()) as crew:
        return Walked(*map(list, zip(*crew.map(make, range(count)))))


def depth_of(answer: Look | DepthMap) -> np.ndarray:
    """(H, W) scene units, 0 where there is none."""
    return np.where(answer.valid, answer.values, 0) if isinstance(answer, DepthMap) else 1 / answer.inverse_depth


def samples(scene: Scene, walked: Walked, every: int) -> Samples:
    """Pixels with truth of every N-th frame."""
    features, right, thinned = [], [], (slice(EVERY_PX // 2, None, EVERY_PX),) * 2
    for answer, of_pixel, truth in list(zip(walked.answers, walked.features, scene.truth))[::every]:
        if answer is None:
            continue
        z, t = depth_of(answer)[thinned], truth[thinned]
        both = (z > 0) & (t > 0)
        if both.any():
            ratio = z[both] / t[both]
            features.append(of_pixel[thinned][both])
            right.append(np.abs(ratio / np.median(ratio) - 1) < RIGHT)
    return Samples(np.concatenate(features), np.concatenate(right))


# -- logistic regression -------------------------------------------------------------------------------------------


def fit(clips: Sequence[Samples]) -> np.ndarray:
    """(C + 1,) coefficients, the constant last, by Newton's method; every clip has the same weight.

    Source: Bishop, Pattern Recognition and Machine Learning, 2006, section 4.3.3.
    """
    x = np.concatenate([_with_one(clip.features) for clip in clips])
    y = np.concatenate([clip.right for clip in clips])
    weight = np.concatenate([np.full(len(clip.right), 1 / len(clip.right)) for clip in clips])
    model = np.zeros(x.shape[1])
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-(x @ model)))
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + RIDGE * np.eye(len(model))
        step = np.linalg.solve(hessian, x.T @ (weight * (y - p)) - RIDGE * model)
        model = model + step
        if np.abs(step).max() < 1e-8:
            break
    return model


def chance(features: np.ndarray, model: Sequence[float]) -> np.ndarray:
    """(...,) chances of features (..., C)."""
    return 1 / (1 + np.exp(-(_with_one(features) @ np.asarray(model, dtype=np.float64))))


def _with_one(features: np.ndarray) -> np.ndarray:
    one = np.ones((*features.shape[:-1], 1))
    return np.concatenate([features.astype(np.float64), one], axis=-1)


def area_under_curve(score: np.ndarray, right: np.ndarray) -> float:
    """Chance that a right pixel scores above a wrong one (Mann and Whitney, 1947)."""
    from scipy.stats import rankdata

    good, bad = int(right.sum()), int((~right).sum())
    if good == 0 or bad == 0:
        return float("nan")
    return float((rankdata(score)[right].sum() - good * (good + 1) / 2) / (good * bad))


# -- what is told --------------------------------------------------------------------------------------------------


def report(name: str, clips: dict[str, Samples], present: Sequence[float]) -> np.ndarray:
    """Print the new coefficients of a model and how they hold; return them."""
    model = fit(list(clips.values()))
    print(f"\n{name} = ({', '.join(f'{value:.3g}' for value in model)})\n", flush=True)
    rows = []
    for clip, found in clips.items():
        others = [other for key, other in clips.items() if key != clip]
        left_out = [("left out", fit(others))] if others else []
        for label, coefficients in [("as it is", present), ("fitted", model), *left_out]:
            said = chance(found.features, coefficients)
            calibration = Calibration()
            calibration.add(said, found.right)
            auc = area_under_curve(said, found.right)
            rows.append(
                [clip, label, percent(found.right.mean(), 1), f"{auc:.3f}", *calibration_cells(calibration.result())]
            )
    print(table(["clip", "coefficients", "right", "AUC", "error", "p > 0.5 right", *DECILE_HEADS], rows))
    singles = [
        [clip, *(f"{area_under_curve(column, found.right):.3f}" for column in found.features.T)]
        for clip, found in clips.items()
    ]
    print("\nAUC of each sign alone:\n")
    print(table(["clip", *(f"sign {k + 1}" for k in range(len(model) - 1))], singles), flush=True)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the scenes, that of bench_stereo.py")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the recorded clips")
    parser.add_argument("--clips", nargs="+", choices=list(CLIPS), default=list(FITTED))
    parser.add_argument("--every", type=int, default=3, help="fit to every N-th frame of a clip")
    arguments = parser.parse_args()
    scenes = {}
    for name in arguments.clips:
        clip = CLIPS[name](arguments.data, arguments.out)
        workspace = pipeline.run(clip.source, scene_of(arguments.out, name), until="poses", options=clip.options)
        scenes[name] = read_scene(workspace, clip.truth)

    def fitted(name: str, walked: dict[str, Walked], present: Sequence[float]) -> np.ndarray:
        return report(name, {clip: samples(scenes[clip], w, arguments.every) for clip, w in walked.items()}, present)

    # What votes, and with which weight, is a matter of the model before: each is fitted to what the new one says.
    looks = {clip: first_looks(scene) for clip, scene in scenes.items()}
    model = fitted("LOOK_MODEL", looks, stereo_chances.LOOK_MODEL)
    second = {clip: settled(scene, looks[clip].believed(model)) for clip, scene in scenes.items()}
    model = fitted("SETTLED_MODEL", second, stereo_chances.SETTLED_MODEL)
    third = {clip: steadied(scene, second[clip].believed(model)) for clip, scene in scenes.items()}
    fitted("STEADIED_MODEL", third, stereo_chances.STEADIED_MODEL)


if __name__ == "__main__":
    main()

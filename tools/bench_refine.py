"""Refinement on clips with true depth: what it gains where, what each term is worth, at what cost, against a reference.

    python tools/bench_refine.py --out /tmp/bench_refine         # about an hour on two cores

The clips are looked for in the folder named by RECON4D_TEST_DATA (default ../shared), or in --data. Scenes up to mesh
stay in --out, refine is made anew; tables go to the terminal and, with everything measured, to --out/refine.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import bench_align
import bench_stereo
import numpy as np
from align_rows import Truth
from refine_rows import FrameScores, Rendering, near_steps, rendering_rows

from recon4d import Recon4dError, RefineOptions, Workspace, pipeline
from recon4d.evaluation.sampling import on_grid
from recon4d.evaluation.truth import Counting
from recon4d.refine.polish import PolishSettings
from recon4d.refine.prior import prior_at
from recon4d.refine.reference import ReferenceSettings
from recon4d.stages import align, depth, mesh, motion, refine
from recon4d.stages.depth_options import DepthOptions
from recon4d.stages.evaluate import EvaluateOptions, evaluate
from recon4d.stages.evaluate_pairs import Pairs

DATA = bench_align.DATA
TRUE_POSES = "synthetic, true poses"
CLIPS = ("rgbd_static", "dynamic_gt", "synthetic", TRUE_POSES, "room8")
LEFT_OUT = ("fastdepth_int8", "simulated, hard, --depth.windows")  # depths that would tell nothing new
RENDERED = 2  # frames on which rendering is compared: the published method takes minutes for each
CAMERAS = "cameras"  # default, and cameras corrected
BEFORE, AFTER = "mesh", "refine"


@dataclass(frozen=True)
class Case:
    """A clip and a choice of its depth."""

    clip: str
    label: str
    source: Path
    truth: EvaluateOptions
    options: pipeline.Options


def cases(name: str, data: Path, out: Path) -> Iterator[Case]:
    """The depths of a clip that are refined: predictions with and without stereo, and stereo alone."""
    if name == TRUE_POSES:
        clip, depths = bench_stereo.synthetic_true(data, out), bench_align.synthetic(data, out).depths
    else:
        clip = bench_align.CLIPS[name](data, out)
        depths = clip.depths
    truth = replace(clip.truth, stage=None, source=None)
    for label, given in depths.items():
        if not label.startswith(LEFT_OUT):
            for suffix, source in ((" + stereo", "precomputed,mvs"), ("", "precomputed")):
                options = replace(clip.options, depth=replace(given, source=source))
                yield Case(name, f"{label}{suffix}", clip.source, truth, options)
    yield Case(name, "stereo", clip.source, truth, replace(clip.options, depth=DepthOptions(source="mvs")))


def prepared(case: Case, out: Path) -> Workspace:
    """The scene of a case up to mesh; poses and stereo of a clip are made once."""
    workspace = pipeline.run(case.source, out / case.clip / "scene", until="poses", options=case.options)
    depth.run(workspace, case.options.depth)
    align.run(workspace, case.options.align)
    motion.run(workspace, case.options.motion)
    mesh.run(workspace, case.options.mesh)
    shutil.rmtree(workspace.root / ".old", ignore_errors=True)
    return workspace


def refined(workspace: Workspace, profile: str) -> dict[str, float]:
    """Run the stage anew; CPU seconds and seconds a frame, peak megabytes."""
    # Weights that a benchmark changes are in no key: nothing half done may be gone on with.
    for folder in (workspace.unit_dir("refine"), *(workspace.root / ".part").glob("refine-*")):
        shutil.rmtree(folder, ignore_errors=True)
    started, cpu = time.perf_counter(), time.process_time()
    options = RefineOptions(cameras=True) if profile == CAMERAS else RefineOptions(profile=profile)
    record = refine.run(workspace, options)
    count = record.summary["frames"]
    return {
        "cpu_s": (time.process_time() - cpu) / count,
        "seconds": (time.perf_counter() - started) / count,
        "peak_mb": record.peak_memory_mb,
    }


class Scores:
    """What the surfaces of a clip are worth: of all that stands still, beside steps of the truth, and of what moves."""

    def __init__(self, workspace: Workspace, options: EvaluateOptions) -> None:
        self._workspace, self._options = workspace, options
        self._truth = Truth(workspace, replace(options, stage="align"))
        counting = Counting.read(options.names, options.offset, options.stride)
        self._pairs = {}
        for name, pair in Pairs(workspace, replace(options, stage="align"), counting):
            known = pair.known if pair.moving is None else pair.known & ~pair.moving
            self._pairs[name] = pair.truth, known & near_steps(pair.truth, pair.known)

    def of(self, unit: str) -> dict[str, object]:
        """Scores of a unit under one scale for the clip."""
        names = self._workspace.unrefined_trajectory().names
        found = self._truth.scores((self._workspace.scene_depth(name, unit) for name in names), with_sigma=True)
        errors = []
        for name, (truth, near) in self._pairs.items():
            surface = self._workspace.scene_depth(name, unit)
            estimate, valid = on_grid(surface.depth, surface.valid, truth.shape)
            both = near & valid
            if both.any():
                errors.append(float(np.abs(found["scale"] * estimate[both] / truth[both] - 1).mean()))
        whole = evaluate(self._workspace, replace(self._options, stage=unit))["depth"]["clip-median"]
        return {
            **found,
            "near_steps": float(np.mean(errors)) if errors else None,
            "within_1": whole.get("static", whole["all"])["within_1"],
            "moving": whole["moving"]["abs_rel"] if "moving" in whole else None,
        }


# -- what each part is worth ---------------------------------------------------------------------------------------

ABLATIONS: dict[str, tuple[dict[str, float], tuple[str, ...]]] = {
    "as it comes": ({}, ()),
    "nothing hides": ({}, ("hiding",)),
    "no photometric term": ({"photo": 0.0}, ()),
    "no depth of other frames": ({"depth": 0.0}, ()),
    "no votes of other frames": ({}, ("votes",)),
    "no sweep": ({}, ("sweep",)),
    "no judges": ({}, ("judges",)),
}


@contextmanager
def changed(weights: dict[str, float], without: Sequence[str]) -> Iterator[None]:
    """Other weights of the energy and parts left out while the block lasts."""
    plan_of, energy_style = refine.plan_of, refine.energy_style
    refine.plan_of = lambda options: replace(plan_of(options), without=frozenset(without))
    refine.energy_style = lambda: replace(energy_style(), **weights)
    try:
        yield
    finally:
        refine.plan_of, refine.energy_style = plan_of, energy_style


def ablation(workspace: Workspace, scores: Scores) -> dict[str, dict[str, object]]:
    """Scores with parts left out, one at a time."""
    rows = {}
    for label, (weights, without) in ABLATIONS.items():
        with changed(weights, without):
            cost = refined(workspace, "default")
        rows[label] = {**scores.of(AFTER), **cost}
        print(f"| {label} | " + " | ".join(cells(rows[label])) + " |", flush=True)
    return rows


def rendering(workspace: Workspace, truth: EvaluateOptions, cpu_s: float) -> dict[str, dict[str, float]]:
    """Our refinement next to rendering: some frames of the refined scene, and their neighbours as what hides."""
    import torch

    torch.set_num_threads(1)
    names = workspace.unrefined_trajectory().names
    chosen = [names[i] for i in np.linspace(0, len(names) - 1, RENDERED + 2).round().astype(int)[1:-1]]
    scores = FrameScores(workspace, replace(truth, stage="align"), chosen)
    made = Rendering(workspace, 320)
    height, width = made.prior(chosen[0]).shape
    ours = {name: prior_at(workspace.scene_depth(name, AFTER), width, height)[0] for name in names}
    rows = rendering_rows(scores, made, ours, cpu_s, (ReferenceSettings(), PolishSettings()))
    for label, row in rows.items():
        print(
            f"| {label} | {row.abs_rel:.4f} | {100 * row.median_rel:.2f} % | {100 * row.within_5:.1f} % | "
            f"{row.near_steps:.4f} | {row.cpu_s:.1f} |",
            flush=True,
        )
    return {label: asdict(row) for label, row in rows.items()}


# -- tables --------------------------------------------------------------------------------------------------------

HEADS = (
    "AbsRel",
    "delta<1.25",
    "within 1 / 5 %",
    "median",
    "RMSE",
    "beside steps",
    "moving",
    "flicker mean / median",
    "within 1 / 2 sigma",
    "CPU s a frame",
    "s a frame",
    "peak MB",
)


def cells(row: dict[str, object]) -> list[str]:
    """The cells of a row; empty where something cannot be measured."""

    def number(key: str, form: str, times: float = 1.0, unit: str = "") -> str:
        value = row.get(key)
        return "" if value is None else f"{times * value:{form}}{unit}"

    flicker = f"{number('flicker', '.2f', 100)} / {number('flicker_median', '.2f', 100)} %" if row["flicker"] else ""
    return [
        number("abs_rel", ".4f"),
        number("delta1", ".3f"),
        f"{number('within_1', '.0f', 100)} / {number('within_5', '.1f', 100)} %",
        number("median_rel", ".2f", 100, " %"),
        number("rmse", ".3f"),
        number("near_steps", ".3f"),
        number("moving", ".3f"),
        flicker,
        f"{number('within_one_sigma', '.0f', 100)} / {number('within_two_sigma', '.0f', 100)} %",
        number("cpu_s", ".2f"),
        number("seconds", ".2f"),
        number("peak_mb", ".0f"),
    ]


def head(*first: str) -> None:
    """The head of a Markdown table."""
    heads = (*first, *HEADS)
    print(f"\n| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")


def measure(name: str, data: Path, out: Path, wanted: argparse.Namespace) -> list[dict[str, object]]:
    """All rows of a clip."""
    rows = []
    for case in cases(name, data, out):
        if wanted.depths and case.label not in wanted.depths:
            continue
        workspace = prepared(case, out)
        scores = Scores(workspace, case.truth)
        found = {"before": scores.of(BEFORE)}
        for profile in wanted.profiles:
            cost = refined(workspace, profile)
            found[profile] = {**scores.of(AFTER), **cost}
        for label, row in found.items():
            rows.append({"clip": name, "depth": case.label, "row": label, **row})
            print(f"| {name}, {case.label} | {label} | {' | '.join(cells(row))} |", flush=True)
        if wanted.ablation:
            head("without")
            rows.append({"clip": name, "depth": case.label, "ablation": ablation(workspace, scores)})
        if wanted.rendering:
            cost = refined(workspace, "default")
            print(f"\n| {' | '.join(RENDERING_HEADS)} |\n|{' --- |' * len(RENDERING_HEADS)}")
            rows.append(
                {"clip": name, "depth": case.label, "rendering": rendering(workspace, case.truth, cost["cpu_s"])}
            )
    return rows


RENDERING_HEADS = ("some frames", "AbsRel", "median", "within 5 %", "beside steps", "CPU s a frame")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the scenes, kept for the next run")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the recorded clips")
    parser.add_argument("--clips", nargs="+", choices=CLIPS, default=CLIPS)
    parser.add_argument("--depths", nargs="+", help="depths to refine, as the table calls them; all otherwise")
    parser.add_argument("--profiles", nargs="+", default=["default"], choices=("fast", "default", "max", CAMERAS))
    parser.add_argument("--ablation", action="store_true", help="also with parts left out")
    parser.add_argument("--rendering", action="store_true", help="also next to refinement by rendering")
    arguments = parser.parse_args()
    head("clip, depth", "row")
    rows, remarks = [], []
    for name in arguments.clips:
        try:
            rows += measure(name, arguments.data, arguments.out, arguments)
        except Recon4dError as error:
            remarks.append(f"{name} is left out: {error}")
    (arguments.out / "refine.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(*remarks, sep="\n")


if __name__ == "__main__":
    main()

"""Stage motion: what moves, by the flow and the pictures alone, and the objects it consists of."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from recon4d.errors import OptionsError
from recon4d.progress import Progress
from recon4d.stages.common import BY_CONTENT, NOT_IN_KEY, check_range, execute
from recon4d.workspace import StagePart, StageRecord, Workspace

VERSION = 2
ENOUGH_COMPARED = 0.9  # of the frames, or it is said
MUCH, MANY = 0.10, 0.01  # of all pixels, of the sparse points' observations: a second pass of the line pays


@dataclass(frozen=True)
class MotionOptions:
    """How what moves is told from what stands still."""

    flow: Path | None = field(default=None, metadata=BY_CONTENT)
    """Optical flow of your own: a folder (next/NAME.flo and prev/NAME.flo, or .png, .npy, .npz) or a model (.onnx,
    .pt). Without it OpenCV's DIS."""
    segmentation: Path | None = field(default=None, metadata=BY_CONTENT)
    """A segmentation network (.onnx) as a hint: of what it sets apart, all moves where enough of it does."""
    threshold: float = 0.5
    """Pixels more likely to move than this belong to an object (0..1)."""
    max_size: int = 320
    """Longer side of the pictures in which motion is looked for, pixels; outlines follow the full picture."""
    workers: int | None = field(default=None, metadata=NOT_IN_KEY)
    """Frames looked at at once; without it one per core. No other result."""


def check_options(options: MotionOptions) -> None:
    """Refuse what cannot work, before any work is done. Raises OptionsError."""
    check_range("motion", "threshold", options.threshold, above=0.0, high=0.99)
    check_range("motion", "max_size", options.max_size, low=64)
    if options.workers is not None:
        check_range("motion", "workers", options.workers, low=1)
    for name in ("flow", "segmentation"):
        path = getattr(options, name)
        if path is not None and not Path(path).exists():
            raise OptionsError(f"motion: there is no {path}: check --motion.{name}")


def run(workspace: Workspace, options: MotionOptions, progress: Progress | None = None) -> StageRecord:
    """Find what moves in every frame, and number the objects."""
    check_options(options)
    return execute(
        workspace,
        "motion",
        VERSION,
        options,
        ("align", "poses"),
        lambda part: _work(workspace, options, part),
        progress,
    )


def _work(workspace: Workspace, options: MotionOptions, part: StagePart) -> dict[str, object]:
    from recon4d.stages.motion_finish import Finish
    from recon4d.stages.motion_walks import (
        CLIP,
        EVIDENCE,
        HINTED,
        LABELS,
        NUMBERS,
        MotionWalks,
        read_labelled,
        write_evidence,
    )
    from recon4d.stages.working_pictures import usual_workers
    from recon4d.view.motion_page import write_motion_page

    walks = MotionWalks(workspace, options, part.path)
    names, workers = walks.names, options.workers or usual_workers(1, walks.worker_bytes)
    (part.path / EVIDENCE).mkdir(exist_ok=True)
    if not part.is_done(CLIP):
        part.each(
            [f"{EVIDENCE}/{name}" for name in names],
            "looking for motion",
            lambda item: walks.evidence(names.index(Path(item).name)),
            lambda item, made: write_evidence(part.path / f"{item}.npz", made),
            workers,
        )
        with part.progress.bar("labelling", walks.steps) as bar:
            walks.labelled(bar.advance)
        part.mark_done(CLIP)
    labelled = read_labelled(part.path)
    finish = Finish(workspace, walks, labelled, options)
    (part.path / "mask").mkdir(exist_ok=True)
    part.each(names, "following outlines", finish.made, finish.write_to(part.path), workers)
    summary = finish.summary(part.path)
    (part.path / "objects.json").write_text(json.dumps({"objects": summary.objects}, indent=1) + "\n", encoding="utf-8")
    for folder in (EVIDENCE, HINTED, LABELS, NUMBERS):
        shutil.rmtree(part.path / folder, ignore_errors=True)  # a part gone on with may have lost them before
    write_motion_page(part.path / "motion.png", workspace, part.path, names, summary.objects)
    if len(names) > 1 and labelled.compared < ENOUGH_COMPARED * len(names):
        part.warn(
            f"motion: what moves cannot be told in {len(names) - labelled.compared} of {len(names)} frames: they are "
            "too far from those next to them, or there is too little depth or flow; give more frames of the recording, "
            "or masks of your own (--frames.masks)"
        )
    if "first_pass" not in workspace.record("poses").inputs:
        _suggest(part, summary.moving_share, summary.points_on_movers)
    return {
        "frames": len(names),
        "compared": labelled.compared,
        "objects": len(summary.objects),
        "moving_share": round(summary.moving_share, 5),
        "points_on_movers": round(summary.points_on_movers, 5),
        "noise_floor_px": round(labelled.floor_px, 3),
    }


def _suggest(part: StagePart, moving: float, points: float) -> None:
    """Tell when a second pass of the line would help."""
    if moving > MUCH or points > MANY:
        part.progress.say(
            f"  {100 * moving:.1f} % of the pixels and {100 * points:.1f} % of the sparse points lie on what moves: "
            "recon4d run --passes 2 finds the cameras without them, which may be better"
        )

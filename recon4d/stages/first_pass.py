"""What the first of two passes of the line found to move, in the pixels of the recorded frames, for poses to leave out.

It is a unit of the scene folder, ``first_pass``, which `recon4d run --passes 2` makes once the stage motion is done
without it. Its key says of which recording and options, up to those of motion, the first pass was; the results it was
made of are replaced by those of the second pass.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import WorkspaceError
from recon4d.progress import Progress
from recon4d.scene.recording import Recording
from recon4d.stages.common import execute, stage_key
from recon4d.workspace import StagePart, StageRecord, Workspace

if TYPE_CHECKING:
    from recon4d.poses.lens import Lens
    from recon4d.scene.trajectory import Trajectory

UNIT, VERSION = "first_pass", 1
WALKED = "walked"  # in the summary: unit -> what it took
BEYOND = 0.01  # of a picture's longer side: features this far off a mask still see what is below it


@dataclass(frozen=True)
class FirstPassOptions:
    """There is nothing to choose."""


def is_kept(workspace: Workspace, made_with: Sequence[str]) -> bool:
    """Whether a first pass that was ``made_with`` the recording and options of these keys is there."""
    record = workspace.record(UNIT)
    return record is not None and record.key == stage_key(UNIT, VERSION, FirstPassOptions(), {}, list(made_with))


def keep(workspace: Workspace, made_with: Sequence[str], walked: Sequence[str], progress: Progress) -> StageRecord:
    """Write ``first_pass/mask/NAME.png`` (255 = moves, a little widened) from the poses and the motion that are there.

    Args:
        made_with: keys of the recording and of the options, unit by unit.
        walked: the units it was made of; what they took is recorded, as the second pass replaces them.
    """
    return execute(
        workspace,
        UNIT,
        VERSION,
        FirstPassOptions(),
        (),
        lambda part: _work(workspace, part) | {WALKED: _cost(workspace, walked)},
        progress,
        extra_key=list(made_with),
    )


def _cost(workspace: Workspace, units: Sequence[str]) -> dict[str, dict[str, object]]:
    records = {unit: workspace.need(unit, UNIT) for unit in units}
    told = ("key", "seconds", "peak_memory_mb")
    return {unit: {name: getattr(record, name) for name in told} for unit, record in records.items()}


def cost_of_replaced(workspace: Workspace, record: StageRecord) -> tuple[float, float]:
    """Seconds and highest peak of memory, MB, of what the first pass made and the second has made anew."""
    walked = record.summary.get(WALKED)
    replaced = []
    for unit, cost in walked.items() if isinstance(walked, dict) else ():  # older records do not tell
        now = workspace.record(unit)
        replaced += [cost] if now is None or now.key != cost["key"] else []
    return sum(cost["seconds"] for cost in replaced), max((cost["peak_memory_mb"] for cost in replaced), default=0.0)


def _work(workspace: Workspace, part: StagePart) -> dict[str, object]:
    from recon4d.formats.pictures import read_grey, write_picture
    from recon4d.poses.lens import read_lenses
    from recon4d.poses.undistort import recorded_mask

    trajectory, folder, shares = workspace.unrefined_trajectory(), part.path / "mask", []
    folder.mkdir(exist_ok=True)
    with workspace.reading("poses", UNIT) as poses:
        lenses = read_lenses(poses / "lenses.json")
    with workspace.reading("motion", UNIT) as motion, part.progress.bar("keeping what moves", len(trajectory)) as bar:
        for view in trajectory:
            moving = read_grey(motion / "mask" / f"{view.name}.png")
            shares.append(float((moving > 127).mean()))
            recorded = recorded_mask(moving, lenses[view.name], view.camera)
            write_picture(folder / f"{view.name}.png", _widened(recorded))
            bar.advance()
    return {
        "frames": len(trajectory),
        "frames_with_movers": sum(share > 0 for share in shares),
        "moving_share": float(np.mean(shares)),
    }


def _widened(mask: np.ndarray) -> np.ndarray:
    import cv2

    radius = max(1, round(BEYOND * max(mask.shape)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return cv2.dilate(np.where(mask > 127, np.uint8(255), np.uint8(0)), disc)


def left_out(workspace: Workspace, second_pass: bool) -> StageRecord | None:
    """The record of what poses leave out; None in the first pass, and where nothing moves.

    Raises:
        WorkspaceError: it is the second pass, and there was no first one.
    """
    if not second_pass:
        return None
    record = workspace.record(UNIT)
    if record is None:
        raise WorkspaceError(
            f"poses: no first pass has told what moves in {workspace.root}: make it with "
            f"recon4d run --out {shlex.quote(str(workspace.root))} --passes 2"
        )
    return record if record.summary["frames_with_movers"] else None


def united_masks(workspace: Workspace, recording: Recording, folder: Path) -> Recording:
    """The recording with masks that ignore what the user ignores and what the first pass found to move.

    Args:
        folder: where they are written, in the pixels of the recorded frames.
    """
    from recon4d.formats.pictures import read_grey, write_picture

    folder.mkdir(exist_ok=True)
    masks: list[Path | None] = []
    with workspace.reading(UNIT, "poses") as first_pass:
        for name, users in zip(recording.names, recording.masks):
            path = first_pass / "mask" / f"{name}.png"  # a frame that had no pose has none
            moving = read_grey(path) if path.exists() else None
            if moving is None or not moving.any():
                masks.append(users)
                continue
            write_picture(folder / path.name, moving if users is None else np.maximum(moving, read_grey(users)))
            masks.append(folder / path.name)
    return replace(recording, masks=tuple(masks))


def write_users_masks(recording: Recording, trajectory: Trajectory, lenses: dict[str, Lens], folder: Path) -> None:
    """Write the user's own masks, undistorted: stages that look for what moves must not be told by themselves."""
    from recon4d.poses.undistort import write_undistorted_mask

    mask_of = dict(zip(recording.names, recording.masks))
    for view in trajectory:
        if mask_of[view.name] is not None:
            write_undistorted_mask(mask_of[view.name], lenses[view.name], view.camera, folder)

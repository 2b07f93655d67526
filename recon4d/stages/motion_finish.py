"""The end of the stage motion: outlines and flow at the picture's size, and what is told of the objects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.geometry.flow_check import checked_flow, resized_flow
from recon4d.motion.outline import numbered, outlined
from recon4d.scene.motion import FrameMotion
from recon4d.stages.motion_walks import Labelled, MotionWalks

if TYPE_CHECKING:
    from recon4d.stages.motion import MotionOptions
    from recon4d.workspace import Workspace

FLOW_SIZE = 1024  # longer side of the pictures whose flow is kept, pixels; larger ones get it enlarged
KEPT = 8  # frames in memory


@dataclass(frozen=True)
class Summary:
    """What the stage has found."""

    objects: list[dict[str, object]]  # id, names, pixels per frame
    moving_share: float  # of all pixels
    points_on_movers: float  # share of the observations of sparse points


class Finish:
    """Frames at the picture's size."""

    def __init__(self, workspace: Workspace, walks: MotionWalks, labelled: Labelled, options: MotionOptions) -> None:
        self._workspace, self._walks, self._labelled, self._options = workspace, walks, labelled, options
        self._row = {name: i for i, name in enumerate(walks.names)}
        self._fine = MotionWalks(
            workspace, replace(options, max_size=FLOW_SIZE, segmentation=None), None, KEPT, walks.source
        )
        self._flow = lru_cache(KEPT)(self._fine.flow_pair)

    def made(self, name: str) -> FrameMotion:
        """What moves in a frame, and its flow."""
        i, picture = self._row[name], self._workspace.picture(name)
        label = outlined(self._labelled.labels[i].astype(np.float32) / 255, picture, self._options.threshold)
        objects = numbered(label, self._labelled.numbers[i], self._options.threshold)
        # What is likely to move and yet belongs to no object was found to be no mover.
        moving = np.where(objects > 0, label, np.minimum(label, self._options.threshold))
        return FrameMotion(moving, self._flow_to(i, i + 1), self._flow_to(i, i - 1), objects)

    def _flow_to(self, i: int, j: int) -> np.ndarray:
        """(H, W, 2) flow of the picture's size, NaN where it does not return."""
        height, width = self._workspace.picture(self._walks.names[i]).shape[:2]
        pair = self._flow(min(i, j), max(i, j))
        if pair is None:
            return np.full((height, width, 2), np.nan, dtype=np.float32)
        forward, backward = pair if i < j else pair[::-1]
        return resized_flow(checked_flow(forward, backward), width, height)

    @staticmethod
    def write_to(folder: Path) -> Callable[[str, FrameMotion], None]:
        """The function that writes a frame's files into a folder."""
        from recon4d.formats.arrays import write_motion
        from recon4d.formats.pictures import write_picture

        def write(name: str, motion: FrameMotion) -> None:
            write_motion(folder / f"{name}.npz", motion)
            write_picture(folder / "mask" / f"{name}.png", np.where(motion.mask, 255, 0).astype(np.uint8))

        return write

    def summary(self, folder: Path) -> Summary:
        """What the frames that were written hold."""
        from recon4d.formats.arrays import read_motion

        frames, pixels = defaultdict(list), defaultdict(list)
        moving, on_movers, observed = [], 0, 0
        seen = self._workspace.sparse_model().pixels
        for name in self._walks.names:
            numbers = read_motion(folder / f"{name}.npz").object_id
            moving.append(float((numbers > 0).mean()))
            for number, count in zip(*np.unique(numbers[numbers > 0], return_counts=True)):
                frames[int(number)].append(name)
                pixels[int(number)].append(int(count))
            at = np.clip(seen.get(name, np.zeros((0, 2))).astype(int), 0, np.array(numbers.shape[::-1]) - 1)
            on_movers += int((numbers[at[:, 1], at[:, 0]] > 0).sum())
            observed += len(at)
        objects = [{"id": n, "names": frames[n], "pixels": pixels[n]} for n in sorted(frames)]
        return Summary(objects, float(np.mean(moving)), on_movers / max(observed, 1))

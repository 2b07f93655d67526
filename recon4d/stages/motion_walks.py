"""The walks of the stage motion at working size: evidence of every frame, labels, objects."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.geometry.flow_check import checked_flow
from recon4d.motion.carry import carried_numbers, helped
from recon4d.motion.evidence import FrameEvidence, PairLook, frame_evidence, pair_look
from recon4d.motion.guided import guided_flow
from recon4d.motion.labels import colour_springs, frame_label, hinted_parts
from recon4d.motion.objects import Tracker
from recon4d.motion.resting import UNCOVERED, mask_at_rest, rests_there
from recon4d.motion.static_flow import Look, viewing_angle_deg, without_holes
from recon4d.scene.depth import Provenance
from recon4d.stages.recorded_flow import open_scene_flow_source
from recon4d.stages.working_pictures import WorkingPictures

if TYPE_CHECKING:
    from recon4d.motion.flow import FlowSource
    from recon4d.motion.segmentation import Segmentation
    from recon4d.stages.motion import MotionOptions
    from recon4d.workspace import Workspace

EVIDENCE, LABELS, NUMBERS = "evidence", "labels", "numbers"  # folders of the part, removed in the end
HINTED = "hinted"  # another one: evidence that a segmentation has raised
CLIP = "clip.json"  # noise floor of the flow, frames that could be compared
LONGEST_GAP_S = 0.4  # between frames that are compared: slow motion shows only over time
SHORTEST, LONGEST = 4, 16  # frames of that gap
SWEEPS = 2  # of labels over the clip and back, after a first one
OWN_DOUBT, TOLD_DOUBT = 0.05, 0.3  # relative, of first-hand depth and of what was told by others or completed
LEAST_FLOW = 0.05  # of the pixels with flow, for two frames to be compared
LEAST_KNOWN = 0.05  # of a frame's pixels with first-hand depth, for it to be compared
WIDEST_DEG = 5.0  # between the rays of two frames to what they look at: beyond it too much is hidden from one of them
BYTES_AT_WORK, BYTES_AT_END = 2000, 60  # per pixel of the working size, and of the picture's own
KEPT_LOOKS = 64  # in memory
HINT = 0.5  # how much pixels of a segment that moves count
LONGEST_REST_GAP = 3  # frames that do not show an object at rest, after which it is no longer looked for
LEFT_WITHIN = 60  # frames after which an object must have left its place, to be told from it


@dataclass(frozen=True)
class Evidence:
    """What is kept of a frame between the walks; grids (h, w) of working size."""

    found: FrameEvidence
    to_next: np.ndarray  # (h, w, 2) float32 flow, NaN where it does not return
    to_before: np.ndarray
    from_before: np.ndarray  # (h, w, 2) float32 flow to the frame before, returning or not
    off: np.ndarray  # (h, w, 2) float32 flow to the next frame beyond a static surface's; of the last frame: all NaN
    floor_px: float  # NaN where no other frame could be compared


def write_evidence(path: Path, evidence: Evidence) -> None:
    """One frame's evidence, as `read_evidence` reads it."""
    from recon4d.formats.arrays import write_arrays

    write_arrays(
        path,
        moved=np.round(255 * evidence.found.moved).astype(np.uint8),
        still=np.round(255 * evidence.found.still).astype(np.uint8),
        to_next=evidence.to_next.astype(np.float16),
        to_before=evidence.to_before.astype(np.float16),
        from_before=evidence.from_before.astype(np.float16),
        off=evidence.off.astype(np.float16),
        floor_px=np.float64(evidence.floor_px),
    )


def read_evidence(path: Path) -> Evidence:
    """Reverse of `write_evidence`."""
    from recon4d.formats.arrays import read_arrays

    arrays = read_arrays(path)
    found = FrameEvidence(*(arrays[name].astype(np.float32) / 255 for name in ("moved", "still")))
    flows = (arrays[name].astype(np.float32) for name in ("to_next", "to_before", "from_before", "off"))
    return Evidence(found, *flows, float(arrays["floor_px"].item()))


class Grids:
    """One grid per frame, on the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def __getitem__(self, i: int) -> np.ndarray:
        return np.load(self._folder / f"{i}.npy")

    def __setitem__(self, i: int, grid: np.ndarray) -> None:
        np.save(self._folder / f"{i}.npy", grid)


@dataclass(frozen=True)
class Labelled:
    """What the walks at working size found."""

    labels: Grids  # (h, w) uint8, 255 = moves
    numbers: Grids  # (h, w) uint16, 0 = background
    floor_px: float  # median noise floor of the flow
    compared: int  # frames that could be compared with others


def read_labelled(folder: Path) -> Labelled:
    """What `MotionWalks.labelled` has left in the part."""
    told = json.loads((folder / CLIP).read_text(encoding="utf-8"))
    return Labelled(Grids(folder / LABELS), Grids(folder / NUMBERS), told["floor_px"], told["compared"])


class MotionWalks:
    """The frames of a scene at working size, named by row."""

    def __init__(
        self,
        workspace: Workspace,
        options: MotionOptions,
        folder: Path | None,
        kept: int = KEPT_LOOKS,
        source: FlowSource | None = None,
    ) -> None:
        """``folder`` is where the walks keep what they found, None where only flow is asked for; ``kept`` frames stay
        in memory; ``source`` of flow is opened from the options where it is not given.
        """
        trajectory = workspace.unrefined_trajectory()
        self.names, self._frames = trajectory.names, list(trajectory)
        self._workspace, self._folder = workspace, folder
        self._pictures = WorkingPictures(workspace, trajectory, options.max_size, kept)
        self.source = source or open_scene_flow_source(workspace, options.flow)
        self._points = workspace.sparse_model().pixels
        self._segmentation, self._threshold = _segmentation(options), options.threshold
        self.look = self._pictures.remembered(self._look)
        self._flow = lru_cache(kept + kept // 2)(self._flow_between)
        self.gaps, self._max_size = gaps(trajectory.timestamps_s), options.max_size
        self._raised: set[int] = set()  # rows with hinted evidence

    @property
    def worker_bytes(self) -> int:
        """What a frame needs at work."""
        height, width = self._frames[0].camera.shape
        return BYTES_AT_WORK * self._max_size**2 + BYTES_AT_END * height * width

    @property
    def steps(self) -> int:
        """Steps of `labelled` that are counted."""
        return len(self.names) * (SWEEPS + 2 + (SWEEPS if self._segmentation else 0))

    # -- evidence --------------------------------------------------------------------------------------------------

    def evidence(self, i: int) -> Evidence:
        """What the flow to frames before and after says of a frame."""
        sides, flows, floors = [], [], []
        off = np.full((*self.look(i).rgb.shape[:2], 2), np.nan, dtype=np.float32)
        for sign in (-1, 1):
            looks = []
            for gap in self.gaps:
                pair = self._pair(i, i + sign * gap) if self._comparable(i, i + sign * gap) else None
                if pair is not None:
                    looks.append(pair)
                    floors.append(pair.floor_px)
                    if sign * gap == 1:
                        off = pair.off
            sides.append(looks)
            flows.append(self._to(i, i + sign))
        if not any(sides):
            nothing = np.zeros(off.shape[:2], dtype=np.float32)
            found = FrameEvidence(nothing, nothing)
        else:
            found = frame_evidence(*sides)
        before = self._between(i, i - 1)
        before = np.full_like(off, np.nan) if before is None else before
        floor = float(np.median(floors)) if floors else np.nan
        return Evidence(self._with_mask(i, found), flows[1], flows[0], before, off, floor)

    def _pair(self, i: int, j: int) -> PairLook | None:
        pair = self.flow_pair(i, j)
        if pair is None or min(np.isfinite(flow).all(axis=-1).mean() for flow in pair) < LEAST_FLOW:
            return None
        return pair_look(self.look(i), self.look(j), *pair)

    def _comparable(self, i: int, j: int) -> bool:
        """Whether a frame, of which some depth is known, sees about what another one does, from not too far apart."""
        if not 0 <= j < len(self.names) or self.look(i).known.mean() < LEAST_KNOWN:
            return False
        return viewing_angle_deg(self.look(i), self.look(j)) <= WIDEST_DEG

    def _to(self, i: int, j: int) -> np.ndarray:
        """(h, w, 2) flow to a frame, NaN where it does not return from there."""
        pair = self.flow_pair(i, j)
        if pair is None:
            return np.full((*self.look(i).rgb.shape[:2], 2), np.nan, dtype=np.float32)
        return checked_flow(*pair)

    def _between(self, i: int, j: int) -> np.ndarray | None:
        """(h, w, 2) flow from one frame to another; None where there is no such frame or flow."""
        inside = 0 <= i < len(self.names) and 0 <= j < len(self.names)
        return self._flow(i, j) if inside and self.source.knows(self.names[i], self.names[j]) else None

    def _flow_between(self, i: int, j: int) -> np.ndarray:
        return guided_flow(self.source, self.look(i), self.look(j))

    def flow_pair(self, i: int, j: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Flow (h, w, 2) between two frames, there and back; None where there is no such frame or flow."""
        there, back = self._between(i, j), self._between(j, i)
        return None if there is None or back is None else (there, back)

    def _with_mask(self, i: int, found: FrameEvidence) -> FrameEvidence:
        """A user's mask says of its pixels that they are none of the static scene."""
        ignored = self._pictures.ignored_by_user(i)
        if ignored is None:
            return found
        return FrameEvidence(np.where(ignored, 1, found.moved), np.where(ignored, 0, found.still))

    def _look(self, i: int) -> Look:
        from recon4d.geometry.resample import resize_grid

        view, posed = self._frames[i], self._pictures.posed(i)
        height, width = posed.camera.shape
        surface = self._workspace.scene_depth(view.name, "align")
        near = np.where(surface.valid, 1 / np.maximum(surface.depth, 1e-12), 0).astype(np.float32)
        near, valid = resize_grid(near, surface.valid, width, height)
        own = surface.valid & Provenance.first_hand(surface.provenance)
        _, known = resize_grid(np.zeros_like(surface.depth), own, width, height)
        doubt = np.where(known, OWN_DOUBT, np.where(valid, TOLD_DOUBT, np.inf)).astype(np.float32)
        seen = self._points.get(view.name, np.zeros((0, 2))) * (width / view.camera.width, height / view.camera.height)
        points = np.clip(seen[:, ::-1].astype(np.int64), 0, (height - 1, width - 1))
        near = without_holes(near, valid)
        return Look(view.name, posed.rgb, posed.camera, posed.cam_from_world, near, known, doubt, points)

    # -- labels and objects ----------------------------------------------------------------------------------------

    def read(self, i: int) -> Evidence:
        """A frame's evidence as the first walk left it, or as a segmentation has raised it."""
        return read_evidence(self._folder / (HINTED if i in self._raised else EVIDENCE) / f"{self.names[i]}.npz")

    def labelled(self, step: Callable[[], None]) -> Labelled:
        """Labels of all frames in agreement with each other, and the objects they form."""
        grids = Grids(self._folder / LABELS)
        count = len(self.names)
        self._sweep(grids, range(count), step, first=True)
        for sweep in range(SWEEPS):
            self._sweep(grids, range(count)[:: 1 if sweep % 2 else -1], step)
        if self._segmentation is not None:
            self._hint(grids)
            for sweep in range(SWEEPS):
                self._sweep(grids, range(count)[:: 1 if sweep % 2 else -1], step)
        numbers = self._tracked(grids, step)
        floors = np.array([self.read(i).floor_px for i in range(count)])
        compared = floors[np.isfinite(floors)]
        told = {"floor_px": float(np.median(compared)) if len(compared) else 0.0, "compared": len(compared)}
        (self._folder / CLIP).write_text(json.dumps(told), encoding="utf-8")
        return Labelled(grids, numbers, **told)

    def _sweep(self, labels: Grids, order: Sequence[int], step: Callable[[], None], first: bool = False) -> None:
        """Label the frames in this order, each with those beside it in time as they are."""
        for i in order:
            evidence = self.read(i)
            beside = (
                [(i - 1, evidence.to_before)] if first else [(i - 1, evidence.to_before), (i + 1, evidence.to_next)]
            )
            in_time = [(labels[j] / np.float32(255), flow) for j, flow in beside if 0 <= j < len(self.names)]
            label = frame_label(evidence.found, colour_springs(self.look(i).rgb), in_time)
            labels[i] = np.round(255 * np.clip(label, 0, 1)).astype(np.uint8)
            step()

    def _hint(self, labels: Grids) -> None:
        """Raise the evidence of segments of which enough moves."""
        (self._folder / HINTED).mkdir(exist_ok=True)
        for i in range(len(self.names)):
            segment = self._segmentation.foreground(self.look(i).rgb) > 0.5
            raised = hinted_parts(segment, labels[i] > 255 * self._threshold)
            if raised.any():
                evidence = self.read(i)
                found = FrameEvidence(
                    np.where(raised, np.maximum(evidence.found.moved, HINT), evidence.found.moved),
                    np.where(raised, 0, evidence.found.still),
                )
                write_evidence(self._folder / HINTED / f"{self.names[i]}.npz", replace(evidence, found=found))
                self._raised.add(i)

    def _tracked(self, labels: Grids, step: Callable[[], None]) -> Grids:
        """The object of each pixel, objects at rest included."""
        numbers, tracker = Grids(self._folder / NUMBERS), Tracker()
        for i in range(len(self.names)):
            evidence = self.read(i)
            mask = labels[i] > 255 * self._threshold
            told = self._pictures.ignored_by_user(i)
            numbers[i] = tracker.add(
                i, self.look(i), mask, evidence.found.moved, evidence.off, evidence.from_before, told
            )
            step()
        final = tracker.numbering(labels[0].size)
        table = np.array([final.get(number, 0) for number in range(len(tracker.tracks) + 1)], dtype=np.uint16)
        for i in range(len(self.names)):
            numbers[i] = table[numbers[i]]
        shown = tracker.shown_frames(final)
        for away in (1, -1):
            self._carry(away, shown, numbers, labels)
        rows: dict[int, list[int]] = {}
        for i in range(len(self.names)):
            for number in np.unique(numbers[i]):
                rows.setdefault(int(number), []).append(i)
        for number in sorted(set(rows) - {0}):
            self._extend_to_rest(number, rows[number], numbers, labels)
        return numbers

    def _carry(self, away: int, shown: dict[int, int], numbers: Grids, labels: Grids) -> None:
        """Bring objects to frames next in time that hardly show their motion; not further than they were seen to move.

        Args:
            away: 1 from earlier to later frames, -1 back.
            shown: frames that show the motion of each object.
        """
        streak = dict.fromkeys(shown, 0)
        for i in range(len(self.names))[::away][1:]:
            evidence, there, own = self.read(i), i - away, numbers[i]
            flow = evidence.to_before if away > 0 else evidence.to_next
            carried = carried_numbers(numbers[there], flow, self.look(i).rgb, self.look(there).rgb)
            for number in sorted(set(np.unique(carried).tolist()) - {0}):
                mask = helped(own, carried, number, self.look(i).rgb)
                streak[number] = 0 if mask is None else streak[number] + 1
                if mask is not None and streak[number] <= shown[number]:
                    own[mask] = number
                    numbers[i], labels[i] = own, np.where(mask, 255, labels[i]).astype(np.uint8)

    def _extend_to_rest(self, number: int, rows: list[int], numbers: Grids, labels: Grids) -> None:
        """Find an object where it stands before it first moves, and after it last does."""
        for edge, away, ahead in ((rows[0], -1, rows), (rows[-1], 1, rows[::-1])):
            without = self._frame_without(number, edge, ahead, numbers)
            missed, i = 0, edge + away
            while without is not None and 0 <= i < len(self.names) and missed < LONGEST_REST_GAP:
                mask, left = numbers[edge] == number, numbers[without] == number
                found = rests_there(self.look(i), self.look(edge), self.look(without), mask, left)
                missed = missed + 1 if found is None else 0
                if found is not None:
                    own = numbers[i]
                    own[found & (own == 0)] = number
                    numbers[i] = own
                    labels[i] = np.where(found, 255, labels[i]).astype(np.uint8)
                i += away

    def _frame_without(self, number: int, edge: int, rows: list[int], numbers: Grids) -> int | None:
        """The first frame in which an object has left the place it has in the frame ``edge``."""
        place = numbers[edge] == number
        for j in rows:
            if j == edge or abs(j - edge) > LEFT_WITHIN:
                continue
            covered = mask_at_rest(self.look(edge), self.look(j), numbers[j] == number) & place
            if covered.sum() < UNCOVERED * place.sum():
                return j
        return None


def gaps(timestamps_s: np.ndarray) -> tuple[int, ...]:
    """How many frames apart frames are compared: one, the longest, and between."""
    steps = np.diff(timestamps_s)
    usual = float(np.median(steps)) if len(steps) else 0.0
    longest = int(np.clip(round(LONGEST_GAP_S / usual), SHORTEST, LONGEST)) if usual > 0 else SHORTEST
    return tuple(sorted({1, round(longest**0.5), longest}))


def _segmentation(options: MotionOptions) -> Segmentation | None:
    if options.segmentation is None:
        return None
    from recon4d.motion.segmentation import Segmentation

    return Segmentation(Path(options.segmentation))

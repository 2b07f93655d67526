"""Objects: connected parts of what moves, followed from frame to frame, each with one number over the clip."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import cv2
import numpy as np

from recon4d.errors import InputError
from recon4d.geometry.flow_check import flow_map
from recon4d.motion.nearest_number import nearest_number
from recon4d.motion.static_flow import Look

LEAST_SHARE = 0.0003  # of the picture: smaller parts are noise
LARGEST_AT_LEAST = 0.001  # of the picture, that an object has to fill in some frame
SECOND_SHARE = 0.25  # of a part's known pixels: so many of a second object, and the part is shared between both
REMEMBERED = 15  # frames for which an object may be out of sight
FOUND_NEAR = 1.5  # times the root of its area from where it should be
FOUND_SIZE = 4.0  # times larger or smaller
SURE = 0.4  # evidence of motion that counts as shown: what flow alone shows has a half at most
SHOWN_SHARE, SHOWN_FRAMES = 0.1, 3  # of its pixels in so many frames: else it is no mover
TOLD_SHARE = 0.5  # of its pixels in some frame that a user's mask covers: then it counts whatever the pictures show
NEAR_PX, NEAR_SHARE = 2.0, 0.5  # parts touch; parts lie within this share of the larger one's root of area
FRAGMENT = 0.25  # of the larger one's area: smaller parts that move along with it belong to it
TOGETHER = 0.6  # of the frames of the shorter one
MOST_OBJECTS = np.iinfo(np.uint16).max  # that `object_id` of `FrameMotion` can tell apart
SAME_MOTION, SAME_MOTION_PX = 0.35, 0.5  # relative difference of motion, and pixels


@dataclass
class Track:
    """An object as far as it has been followed."""

    number: int
    frames: list[int] = field(default_factory=list)  # rows
    areas: list[int] = field(default_factory=list)  # pixels of working size
    shown: list[float] = field(default_factory=list)  # share of pixels whose motion the pictures show
    off: list[np.ndarray] = field(default_factory=list)  # (2,) mean flow beyond a static surface's, pixels; or NaN
    place: np.ndarray | None = None  # (3,) middle in the world, when last seen
    moves: np.ndarray | None = None  # (3,) scene units a frame: frames count as evenly spaced in time
    told: bool = False  # a mask of the user's says that it is none of the static scene

    @property
    def is_mover(self) -> bool:
        """Whether the pictures show its motion in enough frames, or the user says so."""
        enough = sum(share >= SHOWN_SHARE for share in self.shown)
        return self.told or enough >= SHOWN_FRAMES


class Tracker:
    """Follows the parts of masks that arrive frame by frame, in order."""

    def __init__(self) -> None:
        self.tracks: dict[int, Track] = {}
        self._last: np.ndarray | None = None  # (H, W) int32 numbers in the frame before
        self._touching: dict[tuple[int, int], int] = defaultdict(int)  # frames
        self._near: dict[tuple[int, int], int] = defaultdict(int)

    def add(
        self,
        row: int,
        look: Look,
        mask: np.ndarray,
        moved: np.ndarray,
        off: np.ndarray,
        to_before: np.ndarray,
        told: np.ndarray | None = None,
    ) -> np.ndarray:
        """Number the parts of a frame's mask: (H, W) int32, 0 where nothing moves.

        Args:
            row: of the frame; one more than that of the call before.
            mask: (H, W) bool.
            moved: (H, W) evidence of motion, 0..1.
            off: (H, W, 2) flow to the next frame beyond that of a static surface, pixels, NaN where it is not known.
            to_before: (H, W, 2) flow to the frame before, pixels, NaN where it is not known.
            told: (H, W) bool, what a mask of the user's takes out of the static scene, if there is one.
        """
        numbers = np.zeros(mask.shape, dtype=np.int32)
        carried = self._carried(to_before, mask)
        _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        order = np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable") + 1
        used: set[int] = set(np.unique(carried[mask]).tolist()) - {0}
        for part in order:
            if stats[part, cv2.CC_STAT_AREA] < LEAST_SHARE * mask.size:
                break
            pixels = parts == part
            known = self._known(carried, pixels)
            if len(known) > 1:
                numbers[pixels] = nearest_number(np.where(pixels & np.isin(carried, known), carried, 0))[pixels]
                continue
            number = known[0] if known else self._remembered(row, look, pixels, used) or self._new()
            used.add(number)
            numbers[pixels] = number
        self._remember(row, look, numbers, moved, off)
        for number in np.unique(numbers[told]) if told is not None else ():
            if number and told[numbers == number].mean() >= TOLD_SHARE:
                self.tracks[int(number)].told = True
        self._last = numbers
        return numbers

    def numbering(self, size: int) -> dict[int, int]:
        """What each track's number becomes: 1, 2, .. in order of appearance, 0 for what is no mover after all.

        Args:
            size: pixels of a picture of working size.

        Raises:
            InputError: more objects than what is written can number.
        """
        parent = self._merged()
        members: dict[int, list[Track]] = defaultdict(list)
        for number, track in self.tracks.items():
            members[parent[number]].append(track)
        final, following = {}, 0
        for group in sorted(members.values(), key=lambda group: min(track.frames[0] for track in group)):
            whole = _joined(group)
            counts = whole.is_mover and (whole.told or max(whole.areas) >= LARGEST_AT_LEAST * size)
            following += counts
            final |= {track.number: following if counts else 0 for track in group}
        if following > MOST_OBJECTS:
            raise InputError(
                f"motion: {following} objects move, {MOST_OBJECTS} can be numbered: give the recording in parts "
                "(--frames.start, --frames.end)"
            )
        return final

    def shown_frames(self, final: dict[int, int]) -> dict[int, int]:
        """For each final number the count of frames that show its motion."""
        rows: dict[int, set[int]] = defaultdict(set)
        for number, track in self.tracks.items():
            rows[final[number]] |= {row for row, share in zip(track.frames, track.shown) if share >= SHOWN_SHARE}
        return {number: len(found) for number, found in rows.items() if number}

    # -- one frame -------------------------------------------------------------------------------------------------

    def _carried(self, to_before: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(H, W) int32 numbers of the frame before, brought along the flow; 0 where there is none."""
        if self._last is None:
            return np.zeros(mask.shape, dtype=np.int32)
        # OpenCV reads no whole numbers of 32 bits; float32 holds those up to 2^24.
        last = self._last.astype(np.float32)
        carried = cv2.remap(
            last, *flow_map(to_before), cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0
        )
        return np.where(mask, carried, 0).astype(np.int32)

    def _known(self, carried: np.ndarray, pixels: np.ndarray) -> list[int]:
        """The objects a part goes on from, the one with most pixels first."""
        counts = np.bincount(carried[pixels])
        counts[:1] = 0
        total = counts.sum()
        if total == 0:
            return []
        best = int(counts.argmax())
        least = max(SECOND_SHARE * total, LEAST_SHARE * carried.size)
        return [best, *(int(n) for n in np.flatnonzero(counts >= least) if n != best)]

    def _remembered(self, row: int, look: Look, pixels: np.ndarray, used: set[int]) -> int | None:
        """An object lost from sight that should be about here now."""
        area = int(pixels.sum())
        middle = np.array([np.median(axis) for axis in np.nonzero(pixels)[::-1]]) + 0.5
        best, best_distance = None, np.inf
        for number, track in self.tracks.items():
            if number in used or track.place is None:
                continue
            gone = row - track.frames[-1]
            if gone > REMEMBERED:
                continue
            x_in_cam = look.cam_from_world @ (track.place + gone * track.moves)
            if x_in_cam[2] <= 0 or not 1 / FOUND_SIZE < area / track.areas[-1] < FOUND_SIZE:
                continue
            expected = (look.camera.matrix @ x_in_cam)[:2] / x_in_cam[2]
            distance = np.linalg.norm(expected - middle) / np.sqrt(max(area, track.areas[-1]))
            if distance < min(FOUND_NEAR, best_distance):
                best, best_distance = number, distance
        return best

    def _new(self) -> int:
        number = len(self.tracks) + 1
        self.tracks[number] = Track(number)
        return number

    def _remember(self, row: int, look: Look, numbers: np.ndarray, moved: np.ndarray, off: np.ndarray) -> None:
        present = [int(n) for n in np.unique(numbers) if n]
        for number in present:
            track, pixels = self.tracks[number], numbers == number
            place = _middle_in_world(look, pixels)
            if track.place is not None:
                track.moves = (place - track.place) / (row - track.frames[-1])
            else:
                track.moves = np.zeros(3)
            track.place = place
            track.frames.append(row)
            track.areas.append(int(pixels.sum()))
            track.shown.append(float((moved[pixels] > SURE).mean()))
            known = off[pixels][np.isfinite(off[pixels]).all(axis=-1)]
            track.off.append(np.median(known, axis=0) if len(known) else np.full(2, np.nan))
        for k, first in enumerate(present[1:], start=1):
            self._meet(numbers, first, present[:k])

    def _meet(self, numbers: np.ndarray, first: int, others: list[int]) -> None:
        """Count who touches or is near whom."""
        away = cv2.distanceTransform((numbers != first).astype(np.uint8), cv2.DIST_L2, 3)
        for second in others:
            pixels = numbers == second
            distance = float(away[pixels].min())
            root = np.sqrt(max(pixels.sum(), self.tracks[first].areas[-1]))
            pair = min(first, second), max(first, second)
            self._touching[pair] += distance <= NEAR_PX
            self._near[pair] += distance <= NEAR_SHARE * root

    # -- the clip --------------------------------------------------------------------------------------------------

    def _merged(self) -> dict[int, int]:
        """Each track's representative: parts of one object have the same."""
        parent = {number: number for number in self.tracks}

        def root(number: int) -> int:
            while parent[number] != number:
                number = parent[number]
            return number

        for pair in sorted(self._near):
            if self._belong_together(pair):
                first, second = sorted((root(pair[0]), root(pair[1])))
                parent[second] = first
        return {number: root(number) for number in self.tracks}

    def _belong_together(self, pair: tuple[int, int]) -> bool:
        first, second = self.tracks[pair[0]], self.tracks[pair[1]]
        fewest = min(len(first.frames), len(second.frames))
        ratio = np.median(first.areas) / np.median(second.areas)
        fragment = ratio < FRAGMENT or ratio > 1 / FRAGMENT
        frames = max(self._touching[pair], self._near[pair] if fragment else 0)
        return frames >= TOGETHER * fewest and _move_alike(first, second)


def _move_alike(first: Track, second: Track) -> bool:
    """Whether two tracks move the same way in the frames that have both."""
    common = sorted(set(first.frames) & set(second.frames))
    a = np.array([first.off[first.frames.index(row)] for row in common])
    b = np.array([second.off[second.frames.index(row)] for row in common])
    known = np.isfinite(a + b).all(axis=-1)
    if not known.any():
        return False
    apart = np.linalg.norm(a - b, axis=-1)[known]
    length = np.maximum(np.linalg.norm(a, axis=-1), np.linalg.norm(b, axis=-1))[known]
    return bool(np.median(apart - SAME_MOTION * length) <= SAME_MOTION_PX)


def _joined(group: list[Track]) -> Track:
    """Several tracks as one."""
    rows = sorted({row for track in group for row in track.frames})
    whole = Track(group[0].number, told=any(track.told for track in group))
    for row in rows:
        there = [(track, track.frames.index(row)) for track in group if row in track.frames]
        areas = [track.areas[k] for track, k in there]
        whole.frames.append(row)
        whole.areas.append(sum(areas))
        whole.shown.append(float(np.average([track.shown[k] for track, k in there], weights=areas)))
    return whole


def _middle_in_world(look: Look, pixels: np.ndarray) -> np.ndarray:
    """(3,) scene units: the median pixel at the median depth."""
    rows, columns = np.nonzero(pixels)
    depth = 1.0 / max(float(np.median(look.nearness[pixels])), 1e-12)
    x, y = np.median(columns) + 0.5, np.median(rows) + 0.5
    camera = look.camera
    x_in_cam = depth * np.array([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, 1.0])
    return look.cam_from_world.inverse() @ x_in_cam

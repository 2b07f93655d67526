"""Depth from the posed pictures themselves: the walk over the clip around `recon4d.depth.multi_view`.

The clip is walked three times. First every frame looks at its neighbours, each look a small file; then every frame
settles its depth with the looks of others; then it is steadied with their settled depth. Frames are independent in
each walk, so they run in threads and the number of threads changes nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from recon4d.errors import DepthError, InputError
from recon4d.scene.depth import DepthKind, DepthMap, Provenance
from recon4d.scene.trajectory import PoseOrigin
from recon4d.stages.common import NOT_IN_KEY, check_range
from recon4d.stages.depth_options import DepthOptions, fields_of
from recon4d.stages.working_pictures import WorkingPictures, usual_workers, working_size
from recon4d.workspace import StagePart, Workspace

if TYPE_CHECKING:
    from recon4d.depth.multi_view import Look, Settled
    from recon4d.geometry.stereo_views import StereoViews
    from recon4d.scene.trajectory import Trajectory

MATCHED = 20  # other frames a frame is matched with
SETTLED_WITH = 30  # other frames whose looks settle a frame's depth
LOOKS, SETTLED = "looks", "settled"  # folders in the part, gone when the depth is done
SHOWN = 5  # frames on the page
LITTLE_MEASURED = 0.2  # of the pixels: the scene is mostly made up
MUCH_MOVES = 0.005  # of the pixels: worth a line
KEPT_BYTES = 256 << 20  # of pictures and looks in memory, unless one frame's company needs more
BYTES_AT_WORK = 3000  # per pixel of a frame being matched: costs of 64 depths, several times over
FRAME_BYTES = 29  # per pixel: a picture in colour and in grey, its look, and that settled
OTHERWISE = "or give depth with --depth.path"


@dataclass(frozen=True)
class StereoDepth:
    """What of the depth options concerns depth/mvs."""

    version: ClassVar[int] = 8  # raised when the same options give another result

    max_size: int
    complete: bool
    workers: int | None = field(metadata=NOT_IN_KEY)

    @classmethod
    def of(cls, options: DepthOptions) -> StereoDepth:
        return cls(**fields_of(cls, options))

    def check(self) -> None:
        check_range("depth", "max_size", self.max_size, low=64, high=4096)
        if self.workers is not None:
            check_range("depth", "workers", self.workers, low=1)

    def extra_key(self, before: Mapping[str, object] | None = None) -> object:
        return None

    def make(self, workspace: Workspace, part: StagePart) -> dict[str, object]:
        return make_stereo_depth(workspace, self, part)


def make_stereo_depth(workspace: Workspace, options: StereoDepth, part: StagePart) -> dict[str, object]:
    """Write the depth of every frame to the part and return the summary.

    Raises:
        DepthError: the clip shows no surface from two places.
    """
    from recon4d.formats.arrays import write_depth_map

    trajectory = workspace.unrefined_trajectory()
    views = _stereo_views(workspace, trajectory)
    clip = _Clip(workspace, trajectory, views, options, part.path)
    _warn_of_blind_frames(trajectory, views, part)
    width, height = working_size(trajectory.cameras[0].shape[::-1], options.max_size)
    workers = options.workers or usual_workers(width * height, BYTES_AT_WORK)
    row_of = {name: i for i, name in enumerate(trajectory.names)}
    for folder, label, make in (
        (LOOKS, "matching pictures", clip.first_look),
        (SETTLED, "settling depth", clip.settled),
    ):
        (part.path / folder).mkdir(exist_ok=True)
        part.each(
            [f"{folder}/{name}" for name in trajectory.names],
            label,
            lambda item, make=make: make(row_of[Path(item).name]),
            lambda item, made: _write_look(part.path / f"{item}.npz", made),
            workers,
        )
    part.each(
        trajectory.names,
        "steadying depth",
        lambda name: clip.steadied(row_of[name]),
        lambda name, made: write_depth_map(part.path / f"{name}.npz", made),
        workers,
    )
    for folder in (LOOKS, SETTLED):
        shutil.rmtree(part.path / folder)
    shares = _shares(part.path, trajectory.names)
    _write_page(workspace, trajectory, shares, part)
    if options.complete and shares["none"] > MUCH_MOVES:
        part.progress.say(
            f"  {100 * shares['none']:.1f} % of the pixels do not look like the rest of the clip: what moves, and some "
            "glints and edges; they have no depth"
        )
    if shares["measured"] < LITTLE_MEASURED:
        part.warn(
            f"depth: mvs: only {100 * shares['measured']:.0f} % of the pixels are measured and confirmed, the rest is "
            "completed: check the poses, move the camera more, or give depth with --depth.path"
        )
    return {
        "kind": DepthKind.SCENE_Z.value,
        "sensor": False,
        "frames": len(trajectory),
        "windows": 0,
        "remarks": [],
        "size": "x".join(map(str, working_size(trajectory.cameras[0].shape[::-1], options.max_size))),
        "complete": options.complete,
        "shares": shares,
    }


class _Clip:
    """The posed pictures of a scene at working size, and what they look like to each other.

    The pictures and looks used last are kept in memory. Frames are named by their row in the trajectory.
    """

    def __init__(
        self, workspace: Workspace, trajectory: Trajectory, views: StereoViews, options: StereoDepth, part: Path
    ) -> None:
        self._frames, self._views, self._options = list(trajectory), views, options
        self._part = part
        width, height = working_size(trajectory.cameras[0].shape[::-1], options.max_size)
        kept = max(2 * SETTLED_WITH, KEPT_BYTES // (FRAME_BYTES * width * height))
        self._pictures = WorkingPictures(workspace, trajectory, options.max_size, kept)
        self._picture, self._grey = self._pictures.posed, self._pictures.grey
        self._look = self._pictures.remembered(lambda i: self._without_ignored(i, self._read(LOOKS, i)))
        self._settled = self._pictures.remembered(lambda i: self._without_ignored(i, self._read(SETTLED, i)))

    def first_look(self, i: int) -> Look:
        """What a frame and its neighbours say of its depth."""
        from recon4d.depth.multi_view import Look, first_look

        near, far = self._views.near_far(i)
        others = self._views.others(i, MATCHED)
        if not others:
            shape = self._picture(i).camera.shape
            return Look(np.full(shape, 1 / _middle(near, far), dtype=np.float32), np.zeros(shape, dtype=np.float32))
        return first_look(self._picture(i).grey(), [self._grey(j) for j in others], near, far)

    def settled(self, i: int) -> Settled:
        """The depth of a frame as the looks of others settle it."""
        from recon4d.depth.multi_view import Settled, settle

        others = [(self._picture(j), self._look(j)) for j in self._views.spread(i, SETTLED_WITH)]
        matched = [self._grey(j) for j in self._views.others(i, MATCHED)]
        found = settle(self._picture(i), self._read(LOOKS, i), others, matched)
        if found is not None:
            return found
        shape = self._picture(i).camera.shape
        guess = np.full(shape, 1 / _middle(*self._views.near_far(i)), dtype=np.float32)
        unsure, made_up = np.zeros(shape, dtype=np.float32), np.full(shape, Provenance.COMPLETED, dtype=np.uint8)
        return Settled(guess, unsure, made_up, np.zeros(shape, dtype=bool), unsure)

    def steadied(self, i: int) -> DepthMap:
        """The final depth of a frame. Raises DepthError where nothing in it looks like the rest of the clip."""
        from recon4d.depth.multi_view import steadied

        others = [(self._picture(j), self._settled(j)) for j in self._views.spread(i, SETTLED_WITH)]
        depth = steadied(self._picture(i), self._read(SETTLED, i), others, self._options.complete)
        if not depth.valid.any():
            # Later stages need some depth of every frame: what it would be completed with, as its provenance tells.
            depth = steadied(self._picture(i), self._read(SETTLED, i), others, complete=True)
        if not depth.valid.any():
            raise DepthError(
                f"depth: mvs: all of frame {self._frames[i].name} looks unlike the rest of the clip: leave it out"
            )
        return depth

    def _read(self, folder: str, i: int) -> Look:
        """What an earlier walk left; made again where the file is damaged or gone."""
        from recon4d.depth.multi_view import Look, Settled
        from recon4d.formats.arrays import read_arrays

        path = self._part / folder / f"{self._frames[i].name}.npz"
        try:
            return _as_written((Look if folder == LOOKS else Settled)(**read_arrays(path)))
        except (InputError, TypeError):
            made = self.first_look(i) if folder == LOOKS else self.settled(i)
            _write_look(path, made)
            return _as_written(made)

    def _without_ignored(self, i: int, look: Look) -> Look:
        """A look as other frames may use it: what the user's mask ignores says nothing."""
        ignored = self._pictures.ignored(i)
        return look if ignored is None else replace(look, confidence=np.where(ignored, np.float32(0), look.confidence))


def _stereo_views(workspace: Workspace, trajectory: Trajectory) -> StereoViews:
    """Who can be matched with whom. Raises DepthError where nobody can."""
    from recon4d.geometry.stereo_views import StereoViews

    source = workspace.need("poses", "depth").summary["source"]
    placed = sum(origin.is_evidence for origin in trajectory.origin)
    if source == "none":
        raise DepthError(
            "depth: mvs: the poses are 'none', and depth by stereo needs to know where the camera was: use "
            f"--poses.source colmap or import, {OTHERWISE}"
        )
    if all(origin is PoseOrigin.STATIC for origin in trajectory.origin):
        raise DepthError(
            "depth: mvs: the poses are those of a tripod (static), and pictures from one place show no depth: move "
            f"the camera sideways while filming, {OTHERWISE}"
        )
    if placed < 2:
        raise DepthError(
            f"depth: mvs: {placed} of {len(trajectory)} frames has a pose of its own, 2 or more are needed: give the "
            f"poses stage more overlapping frames, {OTHERWISE}"
        )
    views = StereoViews(workspace.sparse_model(), trajectory)
    if not views.has_parallax:
        raise DepthError(
            f"depth: mvs: none of the {len(trajectory)} frames sees a surface that another one sees from a place far "
            f"enough away, the camera stood still or only turned: move it sideways while filming, {OTHERWISE}"
        )
    return views


def _warn_of_blind_frames(trajectory: Trajectory, views: StereoViews, part: StagePart) -> None:
    blind = [name for i, name in enumerate(trajectory.names) if not views.others(i, 1)]
    if blind:
        part.warn(
            f"depth: mvs: {len(blind)} of {len(trajectory)} frames have no other frame to be matched with (such as "
            f"{blind[0]}): their depth is what others measured, or made up"
        )


def _middle(near: float, far: float) -> float:
    """A depth that is neither near nor far."""
    return float(np.sqrt(near * far))


def _write_page(workspace: Workspace, trajectory: Trajectory, shares: dict[str, float], part: StagePart) -> None:
    """``depth.png``: some frames with their depth, to look at."""
    from recon4d.formats.arrays import read_depth_map
    from recon4d.view.stereo_page import StereoRow, write_stereo_page

    chosen = np.unique(np.linspace(0, len(trajectory) - 1, SHOWN).round().astype(int))
    rows = []
    for name in (trajectory.names[i] for i in chosen):
        depth = read_depth_map(part.path / f"{name}.npz", DepthKind.SCENE_Z)
        rows.append(StereoRow(name, workspace.picture(name), depth))
    told = "   ".join(f"{100 * share:.0f} % {kind.replace('_', ' ')}" for kind, share in shares.items())
    write_stereo_page(part.path / "depth.png", workspace.title, f"of all pixels: {told}", rows)


def _as_written(look: Look) -> Look:
    """The same with its confidence as a file holds it: half as precise."""
    return replace(look, confidence=look.confidence.astype(np.float16).astype(np.float32))


def _write_look(path: Path, look: Look) -> None:
    from recon4d.formats.arrays import write_arrays

    # Half precision is enough for a chance; of inverse depth it would be an error of 0.05 %.
    write_arrays(path, **(vars(look) | {"confidence": look.confidence.astype(np.float16)}))


def _shares(folder: Path, names: Sequence[str]) -> dict[str, float]:
    """Shares of all pixels by where their depth comes from, and of those that have none."""
    from recon4d.formats.arrays import read_depth_map

    shares = []
    for name in names:
        try:
            depth = read_depth_map(folder / f"{name}.npz", DepthKind.SCENE_Z)
        except InputError as error:
            raise DepthError(f"depth: mvs: {error}; delete {folder} and run again") from error
        shares.append(np.bincount(depth.provenance[depth.valid], minlength=len(Provenance)) / depth.valid.size)
    mean = np.mean(shares, axis=0)
    kinds = (Provenance.MEASURED, Provenance.OTHER_FRAME, Provenance.COMPLETED)
    found = {kind.name.lower(): round(float(mean[kind]), 4) for kind in kinds}
    return found | {"none": round(1 - sum(found.values()), 4)}

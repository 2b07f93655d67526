"""The walks of the stage refine over a clip: every frame by itself, then all with each other, then to full size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import InputError
from recon4d.geometry.stereo_views import StereoViews
from recon4d.refine.evidence import prior_chance, shared_chance
from recon4d.refine.frame import FrameEnergy, Problem, Refined, RefineView, State, Style, refine
from recon4d.refine.judged import share_kept
from recon4d.refine.movers import held_at_prior, temporal_opinion
from recon4d.refine.terms import Opinion
from recon4d.refine.votes import Found
from recon4d.scene.depth import DepthKind
from recon4d.stages.anchors import MeasuredDepth
from recon4d.stages.refine_rendered import by_reference, by_rendering, polished, told_by_energy
from recon4d.stages.working_pictures import WorkingPictures, no_part_of_background, rimmed, working_size

if TYPE_CHECKING:
    from recon4d.depth.multi_view import PosedPicture
    from recon4d.scene.sparse import SparseModel
    from recon4d.scene.trajectory import View
    from recon4d.stages.refine_cameras import Cameras
    from recon4d.workspace import Workspace

JUDGE = 3  # every third of the frames that could be compared judges instead
SWEPT_WITH, VOTERS = 10, 30  # other frames that a sweep matches, and that vote
WITNESSES = 10  # other frames asked whether a frame looks as they do
MOVING_RIM = 3 / 320  # of the longer side: so far around what moves pixels are a mixture, or miss it
KEPT_BYTES = 256 << 20  # of pictures and depth in memory
FRAME_BYTES = 60  # per pixel of them
ANCHOR_SIGMA = (0.01, 0.05)  # relative, of another depth where it is no mistake: no less, no more than this
MATCH_SIGMA, MATCH_PX = 0.01, 0.2  # the same of a match, and pixels
MOST_SURE = 0.97  # nothing is surer
POINT_SIGMA, POINT_CHANCE = 0.004, 0.95  # a sparse point counts as much as some pixels around it
POINT_ERROR_PX, POINT_TRACK = 2.0, 3  # of points that count
POINT_NEAR = 0.15  # of x, between a point and the prior
LISTENED_TO = 0.4  # chance of depth in other frames
SIGMA_AT_CHANCE = 0.02  # of x in other frames, divided by its chance
PARTS = ("hiding", "sweep", "votes", "judges")  # of a walk that can be left out, see `Plan`


@dataclass(frozen=True)
class Plan:
    """What a profile does."""

    max_size: int  # of the working pictures' longer side, pixels
    asked: int  # other frames a frame is compared with, or judged by
    steps: int  # of Gauss-Newton per walk
    agreements: int  # walks in which frames hear each other
    polish: bool = False  # a last look by rendering
    method: str = "gn"  # or render, reference
    without: frozenset[str] = frozenset()  # of `PARTS`, left out to see what they are worth

    def __post_init__(self) -> None:
        assert self.without <= set(PARTS), self.without


@dataclass(frozen=True)
class Prior:
    """A frame before refinement; all grids (h, w) of the working size."""

    x: np.ndarray  # float32, log inverse depth, NaN where there is none
    sigma: np.ndarray  # float32, relative
    right: np.ndarray  # float32, springs
    down: np.ndarray


@dataclass(frozen=True)
class Answer:
    """A frame after a walk."""

    found: Found  # what other frames read
    refined: Refined
    problem: Problem


class Walks:
    """The frames of a scene at working size and what the walks before left of them, named by row."""

    def __init__(
        self,
        workspace: Workspace,
        cameras: Cameras,
        measured: Sequence[MeasuredDepth],
        plan: Plan,
        style: Style,
        part: Path,
    ) -> None:
        trajectory = cameras.trajectory
        self._workspace, self._frames, self._measured = workspace, list(trajectory), measured
        self._views = StereoViews(cameras.model, trajectory)
        self._plan, self._style, self._part = plan, style, part
        self._points, self._nearer = _SparseOpinions(cameras.model), -np.log(cameras.depth_ratio).astype(np.float32)
        width, height = working_size(trajectory.cameras[0].shape[::-1], plan.max_size)
        kept = max(2 * VOTERS, KEPT_BYTES // (FRAME_BYTES * width * height))
        self.pictures = WorkingPictures(
            workspace, trajectory, plan.max_size, kept, partial(no_part_of_background, workspace)
        )
        self.prior = self.pictures.remembered(self._prior)
        self._found = {
            walk: self.pictures.remembered(lambda i, walk=walk: self.read(walk, i))
            for walk in range(plan.agreements + 1)
        }

    def walk(self, number: int, i: int) -> Answer:
        """One frame in one walk."""
        problem, start = self.prepare(number, i)
        if self._plan.method == "gn":
            refined = refine(problem, self._style, start, self._plan.steps)
        else:
            refined = self._rendered(i, problem)
        return self.complete(number, i, problem, refined)

    def prepare(self, number: int, i: int) -> tuple[Problem, np.ndarray | None]:
        """What a frame is refined with, and where to start.

        Walk 0: a frame and its neighbours' pictures. Later ones: with the depth others found in the one before.
        """
        if number == 0:
            problem = self._problem(i, self._opinions(i), [self._prior_view(j) for j in self.compared(i)])
            moving, start = self.moving(i), None
            if moving.any():
                problem = held_at_prior(problem, moving, None)
        else:
            problem, start = self._with_others(i, self._found[number - 1])
        return problem, start

    def complete(self, number: int, i: int, problem: Problem, refined: Refined) -> Answer:
        """The answer for a frame whose problem is solved."""
        last, own = number == self.last, self.prior(i)
        if last and number > 0:
            refined = self._judged(i, problem, refined)
            if self._plan.polish and self.compared(i):
                refined = polished(problem, self._colors(i), refined)
            refined = told_by_energy(problem, self._style, refined.x, refined.energies)
        # What moves keeps its prior, and is no witness for other frames.
        unmoved = prior_chance(own.sigma) if last else np.float32(0)
        chance = np.where(problem.static > 0, shared_chance(refined.x, problem.opinions), unmoved).astype(np.float32)
        return Answer(Found(refined.x, chance, refined.alike), refined, problem)

    def _colors(self, i: int) -> tuple[PosedPicture, list[PosedPicture]]:
        return self.pictures.posed(i), [self.pictures.posed(j) for j in self.compared(i)]

    def _rendered(self, i: int, problem: Problem) -> Refined:
        if self._plan.method == "render":
            return by_rendering(problem, self._colors(i), self._style)
        points = self._points.of(self._frames[i], problem.own.x)
        return by_reference(problem, self._colors(i), points, self._style, seed=i)

    def solved(self, prepared: Sequence[tuple[Problem, np.ndarray | None]], device: str) -> list[Refined]:
        """The answers to several frames' problems at once, on a device of PyTorch; pictures of several sizes by us."""
        from recon4d.refine.batched import refine_batch

        problems, starts = zip(*prepared)
        sizes = {view.grey.shape for problem in problems for view in (problem.own, *problem.views)}
        if len(sizes) > 1:
            return [refine(problem, self._style, start, self._plan.steps) for problem, start in prepared]
        return refine_batch(problems, self._style, starts, self._plan.steps, device)

    def depth_ratio(self, i: int) -> float:
        """What a frame's depth is multiplied with before all else: cameras that were corrected see it so."""
        return float(np.exp(-self._nearer[i]))

    def before_and_after(self, answer: Answer) -> tuple[State, State]:
        """The energy at the prior and at the answer, with what the views see of the answer."""
        energy = FrameEnergy(answer.problem, self._style)
        after = energy.at(answer.found.x, look_again=True)
        return energy.at(answer.problem.own.x, look_again=False), after

    def _judged(self, i: int, problem: Problem, refined: Refined) -> Refined:
        """The answer, as far as views that took no part in it agree that it is better than the prior."""
        if "judges" in self._plan.without:
            return refined
        before = self._found[self.last - 1]
        judges = [self._found_view(before, j) for j in self._views.others(i, self._plan.asked)[JUDGE - 1 :: JUDGE]]
        # With very few frames all take part; judged by those is better than by none.
        share = share_kept(problem, self._style, refined.x, judges or list(problem.views))
        return replace(refined, x=problem.own.x + share * (refined.x - problem.own.x))

    @property
    def last(self) -> int:
        """Number of the walk that ends the refinement."""
        return self._plan.agreements

    def neighbours(self, count: int) -> list[list[int]]:
        """Rows of up to ``count`` frames that each frame can be compared with."""
        return [self._views.others(i, count) for i in range(len(self._frames))]

    def compared(self, i: int) -> list[int]:
        """Rows of the frames that a frame is compared with."""
        return [j for k, j in enumerate(self._views.others(i, self._plan.asked), start=1) if k % JUDGE]

    def _with_others(self, i: int, before: Callable[[int], Found]) -> tuple[Problem, np.ndarray]:
        """What a frame is refined with once other frames have an answer, and where to start."""
        from recon4d.refine.votes import opinion_of_votes

        own, others, posed = before(i), self._views.spread(i, VOTERS), self.pictures.posed
        voters = [] if "votes" in self._plan.without else others
        vote = opinion_of_votes(own, posed(i), [before(j) for j in voters], [posed(j) for j in voters])
        views = [self._found_view(before, j) for j in self.compared(i)]
        problem = self._problem(i, [vote, *self._opinions(i)], views)
        moving = self.moving(i) | rimmed(self._unlike_others(i, own, others, before), MOVING_RIM)
        if not moving.any():
            return problem, own.x
        problem = held_at_prior(problem, moving, self._temporal(i, before))
        return problem, np.where(moving, problem.own.x, own.x)

    def moving(self, i: int) -> np.ndarray:
        """(h, w) bool: what moves and what a mask takes out, with the pixels around that are a mixture."""
        ignored = self.pictures.ignored(i)
        if ignored is None:
            return np.zeros(self.pictures.posed(i).camera.shape, dtype=bool)
        return rimmed(ignored, MOVING_RIM)

    def _unlike_others(self, i: int, own: Found, others: Sequence[int], before: Callable[[int], Found]) -> np.ndarray:
        """(h, w) bool: patches that do not look as other frames do at their depth: movers that nobody has found."""
        from recon4d.geometry.static_look import looks_static

        known = np.isfinite(own.x)
        inverse = np.exp(np.where(known, own.x, 0)).astype(np.float32)
        pictures, depths = [], []
        for j in others[:: max(1, len(others) // WITNESSES)]:
            found, ignored = before(j), self.pictures.ignored(j)
            sure = np.isfinite(found.x) if ignored is None else np.isfinite(found.x) & ~ignored
            # What moves or a mask takes out, or nobody measured, is no witness: it counts as hidden.
            depths.append(np.where(sure, np.exp(np.where(sure, found.x, 0)), np.inf).astype(np.float32))
            pictures.append(self.pictures.posed(j))
        return known & ~looks_static(self.pictures.posed(i), inverse, own.alike, pictures, depths)

    def _temporal(self, i: int, before: Callable[[int], Found]) -> Opinion | None:
        """What the frames next in time say of what moves; None at the ends of the clip."""
        if not 0 < i < len(self._frames) - 1 or len({before(j).x.shape for j in (i - 1, i, i + 1)}) > 1:
            return None
        grey = [self.pictures.posed(j).grey().grey for j in (i - 1, i, i + 1)]
        return temporal_opinion(grey, before(i - 1).x, before(i + 1).x)

    # -- what a frame is refined with ------------------------------------------------------------------------------

    def _prior(self, i: int) -> Prior:
        from recon4d.refine.prior import prior_at, prior_springs

        picture = self.pictures.posed(i)
        height, width = picture.camera.shape
        x, sigma = prior_at(self._workspace.scene_depth(self._frames[i].name, "mesh"), width, height)
        x += self._nearer[i]
        return Prior(x, sigma, *prior_springs(x, picture.rgb))

    def _problem(self, i: int, opinions: Sequence[Opinion], views: Sequence[RefineView]) -> Problem:
        prior, picture = self.prior(i), self.pictures.posed(i)
        own = RefineView(picture.grey().grey, prior.x, np.zeros_like(prior.x), picture.camera, picture.cam_from_world)
        return Problem(own, np.ones_like(prior.x), prior.right, prior.down, opinions, views)

    def _prior_view(self, j: int) -> RefineView:
        """Another frame before refinement: its surface hides what is behind, but priors err alike and are not heard."""
        prior = self.prior(j)
        return self._view(j, prior.x, np.zeros_like(prior.x))

    def _found_view(self, before: Callable[[int], Found], j: int) -> RefineView:
        found = before(j)
        sure = np.where(found.chance > LISTENED_TO, found.chance / SIGMA_AT_CHANCE, 0)
        return self._view(j, found.x, sure**2)

    def _view(self, j: int, x: np.ndarray, precision: np.ndarray) -> RefineView:
        grey, ignored = self.pictures.grey(j), self.pictures.ignored(j)
        if "hiding" in self._plan.without:
            x = np.full_like(x, np.nan)
        if ignored is not None:
            precision = np.where(ignored, 0, precision)
        return RefineView(grey.grey, x, precision.astype(np.float32), grey.camera, grey.cam_from_world)

    def _opinions(self, i: int) -> list[Opinion]:
        """What measures the depth of a frame: other depth sources, else a sweep; and sparse points."""
        said = [opinion for anchor in self._measured if (opinion := self._opinion_of_anchor(i, anchor)) is not None]
        matched = any(anchor.kind is DepthKind.SCENE_Z for anchor in self._measured)
        if not matched and self.compared(i) and "sweep" not in self._plan.without:
            said.append(self._swept(i))
        prior, view = self.prior(i), self._frames[i]
        points = self._points.of(view, prior.x)
        return [*said, points] if points is not None else said

    def _opinion_of_anchor(self, i: int, anchor: MeasuredDepth) -> Opinion | None:
        from recon4d.geometry.alignment import z_from_values
        from recon4d.geometry.resample import resize_grid

        depth = self._workspace.depth_map(self._frames[i].name, anchor.source)
        with np.errstate(divide="ignore"):
            z = z_from_values(depth.values, *anchor.lines[self._frames[i].name], anchor.kind)
        valid = depth.valid & np.isfinite(z) & (z > 0)
        height, width = self.pictures.posed(i).camera.shape
        inverse = np.where(valid, 1 / np.where(valid, z, 1), 0)
        inverse, known = resize_grid(inverse, valid, width, height)
        chance, _ = resize_grid(depth.confidence, valid, width, height)
        known &= inverse > 0
        if not known.any():
            return None
        x = np.log(np.where(known, inverse, 1)).astype(np.float32) + self._nearer[i]
        sigma = np.full_like(x, np.clip(anchor.sigma, *ANCHOR_SIGMA))
        return Opinion(x, sigma, np.where(known, np.minimum(chance, MOST_SURE), 0).astype(np.float32))

    def _swept(self, i: int) -> Opinion:
        from recon4d.depth.stereo_chances import LookSigns, chance_of_look
        from recon4d.refine.sweep import parallax_px, sweep

        frame = self.pictures.posed(i).grey()
        others = [self.pictures.grey(j) for j in self._views.others(i, SWEPT_WITH)]
        found = sweep(frame, others, self.prior(i).x)
        chance = chance_of_look(LookSigns(found.margin, found.cost, frame.grey))
        sigma = np.full_like(found.x, max(MATCH_SIGMA, MATCH_PX / parallax_px(frame, others, self.prior(i).x)))
        return Opinion(found.x.astype(np.float32), sigma, np.minimum(chance, MOST_SURE).astype(np.float32))

    # -- files between the walks -----------------------------------------------------------------------------------

    def read(self, number: int, i: int) -> Found:
        """What a walk left of a frame; made again where the file is damaged or gone."""
        from recon4d.formats.arrays import read_arrays

        path = self.path(number, i)
        try:
            return as_read(Found(**read_arrays(path)))
        except (InputError, TypeError):
            made = self.walk(number, i).found
            write_found(path, made)
            return as_read(made)

    def path(self, number: int, i: int) -> Path:
        """File of what a walk leaves of a frame."""
        return self._part / walk_folder(number) / f"{self._frames[i].name}.npz"


class _SparseOpinions:
    """The well-triangulated points of structure from motion as opinions."""

    def __init__(self, model: SparseModel) -> None:
        self._model = model
        self._good = (model.error_px <= POINT_ERROR_PX) & (model.track_length >= POINT_TRACK)

    def of(self, view: View, prior: np.ndarray) -> Opinion | None:
        """The points a frame observed, each at the pixel it falls into; None where it sees none.

        Where a point is on another surface than the prior, one of them is at a silhouette or moves: it is left out.
        """
        from recon4d.geometry.seen_points import projected

        rows = self._model.rows.get(view.name, np.zeros(0, dtype=int))
        rows = rows[self._good[rows]]
        height, width = prior.shape
        x, y, z, inside = projected(self._model.points[rows], view.cam_from_world, view.camera.resized(width, height))
        if not inside.any():
            return None
        column, row, said = x[inside].astype(int), y[inside].astype(int), -np.log(z[inside])
        grid, chance = np.zeros_like(prior), np.zeros_like(prior)
        near = np.abs(said - prior[row, column]) < POINT_NEAR  # False where there is no prior
        grid[row[near], column[near]] = said[near]
        chance[row[near], column[near]] = POINT_CHANCE
        return Opinion(grid, np.full_like(prior, POINT_SIGMA), chance)


def walk_folder(number: int) -> str:
    """Folder in the part of what a walk leaves."""
    return f"walk{number}"


def write_found(path: Path, found: Found) -> None:
    """What later walks read of a frame; half precision is enough for chances, not for depth."""
    from recon4d.formats.arrays import write_arrays

    write_arrays(path, x=found.x, chance=found.chance.astype(np.float16), alike=found.alike.astype(np.float16))


def as_read(found: Found) -> Found:
    """The same with chances as a file holds them."""
    return Found(found.x, *(values.astype(np.float16).astype(np.float32) for values in (found.chance, found.alike)))

"""A small correction of all poses and lenses of a clip, from dense pictures and sparse points together.

Structure from motion places cameras by some hundred corners a frame. Here every pixel has a say: frames are carried
into their neighbours at their refined depth, and cameras change until they look alike there, with the depth free to
follow (it is eliminated, frame by frame) and with the points of structure from motion as further witnesses. A part of
every picture has no say and judges: what does not look better there is not taken.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix, diags
from scipy.sparse.linalg import splu
from scipy.spatial.transform import Rotation

from recon4d.refine.camera_points import PointTies
from recon4d.refine.camera_star import OWN, Judged, Surface, follow, judge, star
from recon4d.refine.frame import RefineView
from recon4d.scene.camera import Camera
from recon4d.scene.sparse import SparseModel
from recon4d.scene.trajectory import Trajectory
from recon4d.scene.transforms import Rigid3, Sim3

log = logging.getLogger(__name__)

POSE = 6  # unknowns of a frame; the other three belong to its lens
TILE, JUDGES = 16, 0.2  # pixels; share of the tiles that only judge
UNLIKE = 0.13  # robust 1 - ZNCC of the judges, mean: that of ZNCC 0.63; real clips begin with 0.06 .. 0.1
STEPS = 1.0, 0.3  # tried one after the other
LARGEST_TURN, LARGEST_FOCAL = 0.2, 0.3  # radians of a frame, and of log focal length, in one step


@dataclass(frozen=True)
class CameraOptions:
    """How cameras are corrected."""

    rounds: int = 8  # at most
    photo: float = 2.0  # weight of a pixel's 1 - ZNCC against half a squared error of reprojection in its sigmas
    follow_steps: int = 2  # of the depth after each round
    settle_steps: int = 6  # of the depth before the first, so that later only cameras can be better
    alone: float = 0.01  # share of a cell's word on its own depth that is its own: the errors of a picture go together
    least_sigma: float = 0.02  # of log inverse depth, however sure the depth is
    turn_sigma_deg: float = 1.0  # of a pose's change
    shift_sigma: float = 0.02  # of a pose's change, in median depths
    focal_sigma: float = 0.1  # of log focal length
    centre_sigma: float = 1e-6  # of the principal point, in focal lengths: it hardly differs from a turn, so it stays
    bound: float = 1.5  # what the curvature by `likeness` is divided by: it is an upper bound
    least_gain: float = 5e-4  # of the judges' cost in a round: less ends them
    worth: float = 2e-3  # of the judges' cost in all: less is noise, and true poses would be given up for it
    worse_points: float = 0.02  # of the error of reprojection: more is not taken
    workers: int = 1


@dataclass(frozen=True)
class CameraFrame:
    """A frame at its working size."""

    grey: np.ndarray  # (h, w) float32, grey levels, NaN where masked
    x: np.ndarray  # (h, w) float32, refined log inverse depth, NaN where there is none
    sigma: np.ndarray  # (h, w) float32, standard deviation of x
    static: np.ndarray  # (h, w) float32, 0..1: 0 where something moves


@dataclass(frozen=True)
class CameraReport:
    """What was changed, and what it was good for. Changes are those after the gauge."""

    reason: str  # why nothing was changed; empty where something was
    rotation_deg: np.ndarray  # (N,)
    translation: np.ndarray  # (N,) of the centres, scene units
    focal_change: np.ndarray  # (N,) relative
    unlike_before: float  # robust 1 - ZNCC of the judging pixels, mean; NaN where nothing could be compared
    unlike_after: float
    reprojection_px_before: float  # robust root mean square; NaN without points
    reprojection_px_after: float
    rounds: int

    @property
    def changed(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class CorrectedCameras:
    """The answer for a clip."""

    trajectory: Trajectory
    points: np.ndarray  # (P, 3) of the model, moved to where the corrected cameras see them
    depth_ratio: np.ndarray  # (N,) what the depth of each frame is to be multiplied with to begin anew
    report: CameraReport


def correct_cameras(
    trajectory: Trajectory,
    frames: Sequence[CameraFrame],
    neighbours: Sequence[Sequence[int]],
    model: SparseModel,
    options: CameraOptions = CameraOptions(),
) -> CorrectedCameras:
    """Poses and focal lengths under which the frames look most alike in their neighbours.

    Frames of equal `Camera` share their lens.

    Args:
        frames: N, in the order of the trajectory; may be read anew each time they are asked for.
        neighbours: rows of the views that each frame is compared with; empty where none has parallax.

    Returns:
        What was given, with the reason in the report, wherever the judges do not find it better. The gauge is that of
        the old cameras: the mean turn, the mean centre and the extent of the path stay.
    """
    return _Correction(trajectory, frames, neighbours, model, options).run()


@dataclass(frozen=True)
class _State:
    """Cameras and all that goes with them."""

    lenses: tuple[Camera, ...]  # of the groups, full size
    poses: Rigid3
    shift: float  # of log inverse depth, of all frames: the world in the gauge of the old cameras has another scale
    changes: list[np.ndarray]  # of each frame's depth beyond that, by cell
    points: np.ndarray
    unlike: float
    reprojection_px: float


class _Correction:
    def __init__(self, trajectory, frames, neighbours, model, options) -> None:
        self._trajectory, self._frames, self._neighbours = trajectory, frames, neighbours
        self._model, self._options = model, options
        self._groups = tuple(dict.fromkeys(trajectory.cameras))
        self._group = np.array([self._groups.index(camera) for camera in trajectory.cameras], dtype=int)
        self._ties = PointTies.of(model, trajectory.names)

    def run(self) -> CorrectedCameras:
        if not any(len(rows) for rows in self._neighbours):
            return self._unchanged("no frame has another one with parallax, so the pictures say nothing of the cameras")
        start = self._begin()
        if not np.isfinite(start.unlike):
            return self._unchanged("no pixel of a frame is seen in another one")
        if start.unlike > UNLIKE:
            return self._unchanged("frames and their neighbours hardly look alike at the depth that is known", start)
        best, reason, rounds = start, "", 0
        for _ in range(self._options.rounds):
            tried, reason = self._improved(best, start)
            if tried is None:
                break
            gain, best, rounds = 1 - tried.unlike / best.unlike, tried, rounds + 1
            if gain < self._options.least_gain:
                break
        if best is start:
            return self._unchanged(reason, start)
        # The depth has followed for longer by now: the old cameras are given as many steps.
        start = self._settled(start, min(rounds * self._options.follow_steps, self._options.settle_steps))
        gain = 1 - best.unlike / start.unlike
        if gain < self._options.worth:
            return self._unchanged(f"pixels that had no say look only {100 * gain:.2f} % more alike", start)
        return self._finished(start, best, rounds)

    # -- one round -----------------------------------------------------------------------------------------------------

    def _improved(self, state: _State, start: _State) -> tuple[_State | None, str]:
        """The state after one step, or why there is none."""
        step = self._solve(state, *self._normal_equations(state), start)
        reason = ""
        for share in STEPS:
            moved = self._moved(state, share * step)
            if moved is None:
                reason = "the correction is no small one"
                continue
            tried = self._settled(moved, self._options.follow_steps)
            log.debug("unlike %.5f -> %.5f, reprojection %.4f px", state.unlike, tried.unlike, tried.reprojection_px)
            if not tried.unlike < state.unlike:
                reason = "pixels that had no say look no more alike afterwards"
            elif tried.reprojection_px > (1 + self._options.worse_points) * start.reprojection_px:
                reason = "the points of structure from motion speak against it"
            else:
                return tried, ""
        return None, reason

    def _normal_equations(self, state: _State) -> tuple[csr_matrix, np.ndarray]:
        """Hessian and gradient of pictures and points in the 9 unknowns of every frame's camera."""
        size = OWN * len(self._trajectory)
        values, rows, columns = [], [], []
        gradient = np.zeros(size)

        def one(i: int):
            return i, star(*self._star(state, i), self._options.photo)

        for i, found in self._each(one):
            at = (OWN * np.array([i, *self._neighbours[i]])[:, None] + np.arange(OWN)).ravel()
            np.add.at(gradient, at, found.gradient.ravel())
            values.append(found.hessian.ravel() / self._options.bound)
            rows.append(np.repeat(at, len(at)))
            columns.append(np.tile(at, len(at)))
        whole = csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), (size, size))
        if len(self._ties):
            witness = self._ties.witness(self._cameras(state.lenses), state.poses)
            whole, gradient = whole + witness.hessian, gradient + witness.gradient
        return whole, gradient

    def _solve(self, state: _State, whole: csr_matrix, gradient: np.ndarray, start: _State) -> np.ndarray:
        """The step of all unknowns: 6 of each frame, then 3 of each lens."""
        options, count = self._options, len(self._trajectory)
        own = np.arange(OWN * count).reshape(count, OWN)
        target = np.concatenate(
            [np.arange(POSE * count).reshape(count, POSE), POSE * count + 3 * self._group[:, None] + np.arange(3)],
            axis=1,
        )
        unknowns = POSE * count + 3 * len(self._groups)
        gather = csr_matrix((np.ones(own.size), (own.ravel(), target.ravel())), (own.size, unknowns))
        turn, shift = np.radians(options.turn_sigma_deg), options.shift_sigma * self._typical_depth
        sigma = np.concatenate(
            [
                np.tile([turn] * 3 + [shift] * 3, count),
                np.tile([options.focal_sigma, options.centre_sigma, options.centre_sigma], len(self._groups)),
            ]
        )
        # The principal point has gone somewhere already; poses are pulled to where they are, as damping.
        gone = np.zeros(unknowns)
        for k, (old, new) in enumerate(zip(start.lenses, state.lenses)):
            at = POSE * count + 3 * k
            gone[at : at + 3] = np.log(new.fx / old.fx), (new.cx - old.cx) / new.fx, (new.cy - old.cy) / new.fy
        matrix = csc_matrix(gather.T @ whole @ gather + diags(1 / sigma**2))
        return splu(matrix, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve(
            -(gather.T @ gradient + gone / sigma**2)
        )

    def _moved(self, state: _State, step: np.ndarray) -> _State | None:
        """Cameras after a step, in the old gauge, and the rest brought along; None where the step is no small one."""
        count = len(self._trajectory)
        pose, lens = step[: POSE * count].reshape(count, POSE), step[POSE * count :].reshape(-1, 3)
        if not (np.abs(pose[:, :3]).max() < LARGEST_TURN and np.abs(lens[:, 0]).max() < LARGEST_FOCAL):
            return None
        turn = Rotation.from_rotvec(pose[:, :3]).as_matrix()
        shifted = np.einsum("nij,nj->ni", turn, state.poses.translation) + pose[:, 3:]
        poses = Rigid3(turn @ state.poses.rotation, shifted)
        back = old_from_new(self._trajectory.cam_from_world, poses, self._typical_depth)
        return replace(
            state,
            lenses=tuple(map(_lens_moved, state.lenses, lens)),
            poses=back.apply_to_pose(poses),
            shift=state.shift - float(np.log(back.scale)),
            points=back @ state.points,
        )

    # -- what goes with cameras ----------------------------------------------------------------------------------------

    def _begin(self) -> _State:
        poses = self._trajectory.cam_from_world
        blank = _State(self._groups, poses, 0.0, [], self._ties.points, np.nan, np.nan)
        depths = [np.nanmedian(np.exp(-self._frames[i].x)) for i in range(0, len(poses), -(-len(poses) // 20))]
        self._typical_depth = float(np.nanmedian(depths))
        if len(self._ties):
            self._ties.settle(self._cameras(self._groups), poses)
            self._ties.measure_sigma(self._cameras(self._groups), poses)
            self._ties.settle(self._cameras(self._groups), poses)
            blank = replace(blank, points=self._ties.points)
        return self._settled(blank, self._options.settle_steps)

    def _settled(self, state: _State, steps: int) -> _State:
        """Depth and points moved to where the cameras see them, and the judges asked."""
        if len(self._ties):
            cameras = self._cameras(state.lenses)
            self._ties.points = state.points
            self._ties.settle(cameras, state.poses)
            error_px = self._ties.error_px(cameras, state.poses)
            state = replace(state, points=self._ties.points, reprojection_px=error_px)

        def one(i: int) -> tuple[np.ndarray, Judged]:
            frame, views, surface = self._star(state, i)
            surface = follow(frame, views, surface, self._options.photo, steps)
            return surface.change, judge(frame, views, surface)

        changes, judged = zip(*self._each(one))
        cost, count = (sum(values) for values in zip(*judged))
        return replace(state, changes=list(changes), unlike=cost / count if count else np.nan)

    def _each(self, one: Callable) -> Iterable:
        """Results frame by frame; no more than a few are waiting at a time."""
        rows = range(len(self._trajectory))
        with ThreadPoolExecutor(self._options.workers) as pool:
            for first in range(0, len(rows), 4 * self._options.workers):
                yield from pool.map(one, rows[first : first + 4 * self._options.workers])

    def _cameras(self, lenses: Sequence[Camera]) -> list[Camera]:
        return [lenses[k] for k in self._group]

    def _star(self, state: _State, i: int) -> tuple[RefineView, list[RefineView], Surface]:
        """A frame, the views it is compared with, and its surface."""
        own = self._frames[i]
        sigma = np.maximum(own.sigma, self._options.least_sigma) / np.sqrt(self._options.alone)
        surface = Surface.at(
            _plus(own.x, state.shift), sigma, own.static * np.isfinite(own.grey), _judges(own.x.shape, i)
        )
        if state.changes:
            surface = replace(surface, change=state.changes[i])
        whole = replace(own, grey=np.nan_to_num(own.grey))
        return (
            self._view(state, i, whole),
            [self._view(state, j, self._frames[j]) for j in self._neighbours[i]],
            surface,
        )

    def _view(self, state: _State, i: int, frame: CameraFrame) -> RefineView:
        height, width = frame.x.shape
        camera = state.lenses[self._group[i]].resized(width, height)
        # Without the cells' own changes: on their noise would depend what hides what, and so the judgement.
        x = _plus(frame.x, state.shift + (float(np.median(state.changes[i])) if state.changes else 0.0))
        return RefineView(frame.grey, x, np.zeros_like(x), camera, state.poses[i])

    # -- the end -------------------------------------------------------------------------------------------------------

    def _finished(self, start: _State, best: _State, rounds: int) -> CorrectedCameras:
        old, cameras = self._trajectory, self._cameras(best.lenses)
        trajectory = replace(old, cam_from_world=best.poses, cameras=tuple(cameras))
        points = self._model.points.astype(float)
        points[self._ties.model_rows] = best.points
        turn = best.poses.rotation @ np.swapaxes(old.cam_from_world.rotation, 1, 2)
        depth_ratio = np.exp([-best.shift - np.median(change) for change in best.changes])
        report = CameraReport(
            reason="",
            rotation_deg=np.degrees(Rotation.from_matrix(turn).magnitude()),
            translation=np.linalg.norm(trajectory.centres - old.centres, axis=1),
            focal_change=np.array([new.fx / was.fx - 1 for new, was in zip(cameras, old.cameras)]),
            unlike_before=start.unlike,
            unlike_after=best.unlike,
            reprojection_px_before=start.reprojection_px,
            reprojection_px_after=best.reprojection_px,
            rounds=rounds,
        )
        return CorrectedCameras(trajectory, points, depth_ratio, report)

    def _unchanged(self, reason: str, start: _State | None = None) -> CorrectedCameras:
        zeros = np.zeros(len(self._trajectory))
        unlike, error = (np.nan, np.nan) if start is None else (start.unlike, start.reprojection_px)
        report = CameraReport(reason, zeros, zeros, zeros, unlike, unlike, error, error, 0)
        return CorrectedCameras(self._trajectory, self._model.points, np.ones(len(zeros)), report)


def old_from_new(old: Rigid3, new: Rigid3, typical_depth: float) -> Sim3:
    """The similarity that brings corrected poses back: mean turn, mean centre and extent of the path as they were.

    Where the path has no extent the scale stays.
    """
    turns = np.swapaxes(old.rotation, 1, 2) @ new.rotation
    u, _, vt = np.linalg.svd(turns.sum(axis=0))
    rotation = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    was, now = old.inverse().translation, new.inverse().translation
    mean_was, mean_now = was.mean(axis=0), now.mean(axis=0)
    turned = (now - mean_now) @ rotation.T
    extent = float((turned**2).sum())
    scale = 1.0
    if extent > len(was) * (1e-3 * typical_depth) ** 2:
        scale = float(((was - mean_was) * turned).sum()) / extent
    return Sim3(scale, rotation, mean_was - scale * rotation @ mean_now)


def _plus(x: np.ndarray, shift: float) -> np.ndarray:
    return x + x.dtype.type(shift)


def _judges(shape: tuple[int, int], seed: int) -> np.ndarray:
    """(h, w) float32: 1 inside tiles chosen by chance."""
    rows, columns = (-(-size // TILE) for size in shape)
    chosen = np.random.default_rng(seed).random((rows, columns)) < JUDGES
    return np.kron(chosen, np.ones((TILE, TILE), dtype=np.float32))[: shape[0], : shape[1]].astype(np.float32)


def _lens_moved(camera: Camera, change: np.ndarray) -> Camera:
    focal = float(np.exp(change[0]))
    return replace(
        camera,
        fx=camera.fx * focal,
        fy=camera.fy * focal,
        cx=camera.cx + camera.fx * float(change[1]),
        cy=camera.cy + camera.fy * float(change[2]),
    )

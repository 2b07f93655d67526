"""Gain and shift of all frames of a clip at once, in one sparse linear system per robust round.

Unknown per frame are the line's slope and its value at the clip's middle, which hardly depend on each other (gain and
shift do). The equations: every frame's sparse points, weighted as its own robust fit left them; no change from frame to
frame, except where windows of the source join; and, where two windows overlap, that both mean the same surface.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, csc_matrix
from scipy.sparse.linalg import spsolve

from recon4d.errors import AlignmentError
from recon4d.geometry.alignment import FrameFit, fit_frame, to_domain
from recon4d.scene.depth import DepthKind

# Errors of a network hang together over large areas: past this many points more of them add no independent evidence.
EFFECTIVE_POINTS = 50.0
ROUNDS = 4
STEP_SIGMAS = 3.0  # a change of gain or shift beyond so many usual ones counts ever less (Cauchy): an unnamed seam
MIN_STEP, USUAL_STEP, MAX_STEP = 0.003, 0.03, 0.5  # relative change per frame
SEAM_LOOSENESS = 10.0  # times the usual step within a cross-fade
CUT_LOOSENESS = 1000.0  # where one window ends and the next begins without a shared frame
MIN_OVERLAP_SIGMA = 0.01  # relative


@dataclass(frozen=True)
class FitSamples:
    """Sparse points of one frame on its depth."""

    d: np.ndarray  # (K,) source values
    z: np.ndarray  # (K,) z-depth, scene units

    def __len__(self) -> int:
        return len(self.d)


@dataclass(frozen=True)
class WindowJoint:
    """Where one window of the source gives way to the next."""

    before: int  # row of the last frame that is of the earlier window alone
    after: int  # row of the first frame that is of the later window alone
    earlier: np.ndarray  # (K,) values of the earlier window in the frames between; empty where not known
    later: np.ndarray  # (K,) of the later window, same places

    @property
    def row(self) -> float:
        """Its middle, between rows of frames."""
        return 0.5 * (self.before + self.after)


@dataclass(frozen=True)
class ClipFit:
    """Gain and shift of every frame, row by row."""

    gain: np.ndarray  # (N,)
    shift: np.ndarray  # (N,)
    jumps: tuple[float, ...] = ()  # between which rows it changes as between windows, though no joint was named


@dataclass(frozen=True)
class _Units:
    """Brings the unknowns near 1: y / y_unit = slope * (d - centre) / spread + level."""

    centre: float
    spread: float
    y_unit: float
    unknowns: int

    def columns(self, d: np.ndarray) -> np.ndarray:
        scaled = (d - self.centre) / self.spread
        return np.stack([scaled, np.ones_like(scaled)], axis=1)[:, : self.unknowns]


def fit_clip(
    samples: Sequence[FitSamples],
    fits: Sequence[FrameFit | None],
    kind: DepthKind,
    joints: Sequence[WindowJoint] = (),
    step: float | None = None,
) -> ClipFit:
    """Gain and shift of all frames; frames without a fit of their own follow their neighbours.

    Args:
        samples: per frame its points, as given to `fit_frame`.
        fits: per frame its robust fit, or None.
        kind: of the depth.
        joints: of the source's windows, in order.
        step: usual change from frame to frame (relative, one standard deviation); None: measured on the fits.

    Raises:
        AlignmentError: no frame has a fit, or the best line falls where the kind says it rises.
    """
    fitted = [i for i, fit in enumerate(fits) if fit is not None]
    if not fitted:
        raise AlignmentError("align: no frame has enough sparse points on valid depth")
    units = _units([samples[i] for i in fitted], kind)
    own = np.full((len(samples), units.unknowns), np.nan)
    for i in fitted:
        own[i] = _normalised(fits[i], units)
    steps = _steps(own) if step is None else np.full(units.unknowns, step)
    looseness = _looseness(len(samples), joints)
    blocks, right = _point_equations(samples, fits, kind, units)
    solution, held = None, np.ones((max(len(samples) - 1, 0), units.unknowns))
    for _ in range(ROUNDS):
        matrix = _matrix(blocks, held / (steps * looseness[:, None]) ** 2)
        for joint in joints:
            if len(joint.earlier):
                matrix = matrix + _joint_equations(
                    joint, units, kind, own if solution is None else solution, len(samples)
                )
        solution = spsolve(matrix, right.ravel()).reshape(len(samples), units.unknowns)
        change = np.diff(solution, axis=0) / (steps * looseness[:, None])
        held = 1.0 / (1.0 + (change / STEP_SIGMAS) ** 2)
    gain = solution[:, 0] * units.y_unit / units.spread
    shift = solution[:, 1] * units.y_unit - gain * units.centre if kind.has_shift else np.zeros(len(samples))
    if not (gain > 0).all():
        raise AlignmentError(f"align: the source values fall where {kind.value} says they rise")
    jumps = np.flatnonzero((np.abs(change) > 2 * STEP_SIGMAS).any(axis=1) & (looseness == 1.0))
    return ClipFit(gain, shift, tuple(float(row) + 0.5 for row in jumps))


def _units(samples: Sequence[FitSamples], kind: DepthKind) -> _Units:
    d = np.concatenate([s.d for s in samples])
    y_unit = float(np.median(to_domain(np.concatenate([s.z for s in samples]), kind)))
    if not kind.has_shift:
        return _Units(0.0, float(np.median(np.abs(d))) or 1.0, y_unit, 1)
    return _Units(float(np.median(d)), float(np.std(d)) or 1.0, y_unit, 2)


def _normalised(fit: FrameFit, units: _Units) -> np.ndarray:
    slope = fit.gain * units.spread / units.y_unit
    return np.array([slope, (fit.gain * units.centre + fit.shift) / units.y_unit])[: units.unknowns]


def _steps(own: np.ndarray) -> np.ndarray:
    """(U,) usual change of each unknown from frame to frame; the median is not moved by seams."""
    change = np.abs(np.diff(own, axis=0))
    known = np.isfinite(change).all(axis=1)
    if known.sum() < 3:
        return np.full(own.shape[1], USUAL_STEP)
    return np.clip(1.4826 * np.median(change[known], axis=0), MIN_STEP, MAX_STEP)


def _looseness(count: int, joints: Sequence[WindowJoint]) -> np.ndarray:
    """(N-1,) how much more than usual gain and shift may change from each frame to the next."""
    loose = np.ones(max(count - 1, 0))
    for joint in joints:
        factor = CUT_LOOSENESS if joint.after == joint.before + 1 else SEAM_LOOSENESS
        loose[max(joint.before, 0) : joint.after] = factor
    return loose


def _point_equations(
    samples: Sequence[FitSamples], fits: Sequence[FrameFit | None], kind: DepthKind, units: _Units
) -> tuple[np.ndarray, np.ndarray]:
    """Normal blocks (N, U, U) and right sides (N, U) of relative residuals, no frame counting for more than another."""
    blocks = np.zeros((len(samples), units.unknowns, units.unknowns))
    right = np.zeros((len(samples), units.unknowns))
    for i, (s, fit) in enumerate(zip(samples, fits)):
        if fit is None:
            continue
        relative = units.y_unit / to_domain(s.z, kind)
        rows = units.columns(s.d) * relative[:, None]
        weights = fit.weights * min(1.0, EFFECTIVE_POINTS / fit.weights.sum()) / fit.sigma**2
        blocks[i] = (rows * weights[:, None]).T @ rows
        right[i] = (rows * weights[:, None]).sum(axis=0)
    return blocks, right


def _matrix(blocks: np.ndarray, pull: np.ndarray) -> csc_matrix:
    """Normal matrix of the points' blocks and of pulls (N-1, U) between the same unknowns of neighbouring frames."""
    count, unknowns, _ = blocks.shape
    place = np.arange(count * unknowns).reshape(count, unknowns)
    first, second = place[:-1].ravel(), place[1:].ravel()
    row = [np.repeat(place, unknowns, axis=1).ravel(), first, second, first, second]
    column = [np.tile(place, (1, unknowns)).ravel(), first, second, second, first]
    value = [blocks.ravel(), pull.ravel(), pull.ravel(), -pull.ravel(), -pull.ravel()]
    size = count * unknowns
    return coo_matrix(
        (np.concatenate(value), (np.concatenate(row), np.concatenate(column))), shape=(size, size)
    ).tocsc()


def _joint_equations(joint: WindowJoint, units: _Units, kind: DepthKind, state: np.ndarray, count: int) -> csc_matrix:
    """Normal matrix of: the earlier window's surface, under its frame's line, is the later window's under its own."""
    earlier, later = units.columns(joint.earlier), units.columns(joint.later)
    total = count * units.unknowns
    known = np.isfinite(state[joint.before]).all() and np.isfinite(state[joint.after]).all()
    middle = np.nanmedian(state, axis=0)
    before, after = (state[joint.before], state[joint.after]) if known else (middle, middle)
    size = np.maximum(np.abs(0.5 * (earlier @ before + later @ after)), 1e-3)
    rows = np.concatenate([earlier, -later], axis=1) / size[:, None]
    sigma, weight = 5 * MIN_OVERLAP_SIGMA, np.ones(len(rows))
    if known:  # what remains under the best line between the two is their disagreement
        y = earlier @ before
        good = y > 0
        try:
            line = fit_frame(joint.later[good], to_domain(y[good], kind), kind)
        except AlignmentError:  # no line leads from one to the other: they tell nothing
            return csc_matrix((total, total))
        sigma, weight = max(line.sigma, MIN_OVERLAP_SIGMA), np.zeros(len(rows))
        weight[good] = line.weights
    weight = weight * min(1.0, EFFECTIVE_POINTS / weight.sum()) / sigma**2
    block = (rows * weight[:, None]).T @ rows
    unknown = np.arange(units.unknowns)
    place = np.concatenate([joint.before * units.unknowns + unknown, joint.after * units.unknowns + unknown])
    return coo_matrix(
        (block.ravel(), (np.repeat(place, len(place)), np.tile(place, len(place)))), shape=(total, total)
    ).tocsc()

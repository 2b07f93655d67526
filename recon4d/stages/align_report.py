"""What became of the fits, in numbers: `fits.csv`, refusals and warnings."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.errors import AlignmentError
from recon4d.metric.depth_ratio import NETWORK_SIGMA, SENSOR_SIGMA
from recon4d.scene.depth import DepthKind
from recon4d.workspace import StagePart

if TYPE_CHECKING:
    from recon4d.geometry.seen_points import SeenPoints
    from recon4d.stages.align_evidence import FrameEvidence
    from recon4d.stages.align_fit import ClipAlignment

FARTHEST = 1e9  # scene units: stands for infinity where a residual is wanted
JUDGED_POINTS = 10  # fewer sparse points do not show whether a frame's depth is plausible
# Median relative residual at the sparse points. Weak networks reach 0.07 on a room, numbers of the wrong kind 0.4.
REFUSED_RESIDUAL = 0.35
SUSPECT_RESIDUAL = 0.15
LOOSE_ORDER = 0.6  # rank correlation; good depth of a room has 0.8 to 0.98, a weak network's 0.4 to 0.9
NOTABLE_RESIDUAL, LARGE_RESIDUAL = 0.05, 0.08  # relative; below, a loose order is only a flat scene
AS_GOOD_AS_NONE = 0.95  # of a constant's residual
TIMES_LOOSE = 2.5  # the clip's own median residual
TELLING_POINTS = 30  # fewer may well lie at one depth
WINDOW = 5  # frames whose held-out points are judged together: one frame has few
WINDOW_POINTS = 20
TIMES_USUAL = 4.0  # the clip's own median residual: so much more is worth a warning
MIN_SIGMA = 0.005  # relative
FACTOR_RANGE = 0.7, 3.0  # of a frame's sigma against the clip's


@dataclass(frozen=True)
class FitRow:
    """One row of `fits.csv`: how the depth of a frame was brought to scene units, and how well it fits.

    Residuals are relative, at sparse points the frame itself saw.
    """

    name: str
    gain: float
    shift: float
    points: int  # sparse points on valid depth that took part in the fit
    inliers: int  # of them, within three robust sigmas of the frame's own line; 0 when it has none
    residual_median: float  # under the final fit; of frames without points the clip's; NaN where that has none
    held_out: int  # points that took no part in any fit
    held_out_median: float  # NaN where there are none
    held_out_95: float
    carried: bool  # without a line of its own: it follows its neighbours in time
    sky: float  # share of the picture


def sigma_factor(rows: Sequence[FitRow], i: int) -> float:
    """How much larger the errors of frame ``i`` are than the clip's usual ones, by what is left at its points."""
    left = np.array([row.residual_median for row in rows if row.points])
    if not rows[i].points or not len(left) or np.median(left) <= 0:
        return 1.0
    return float(np.clip(rows[i].residual_median / np.median(left), *FACTOR_RANGE))


def frame_sigma(row: FitRow, sensor: bool) -> float:
    """Relative standard deviation of a frame's depth where nothing finer is known."""
    if np.isnan(row.residual_median):  # nothing to compare it with: what such depth is usually good for
        return SENSOR_SIGMA if sensor else NETWORK_SIGMA
    return max(1.4826 * row.residual_median, MIN_SIGMA)


@dataclass(frozen=True)
class HeldOutErrors:
    """Relative error at the held-out points of a clip."""

    points: int
    median: float
    percentile_95: float
    within_one_sigma: float  # share
    within_two_sigma: float


def residuals(clip: ClipAlignment, i: int, d: np.ndarray, points: SeenPoints) -> np.ndarray:
    """(K,) relative errors z / z_structure - 1 at points of frame ``i``."""
    return np.minimum(clip.z_at(i, d, points.x, points.y), FARTHEST) / points.z - 1


def fit_rows(frames: Sequence[FrameEvidence], clip: ClipAlignment) -> list[FitRow]:
    """One row per frame."""
    own = [residuals(clip, i, f.d, f.seen)[f.seen.own] for i, f in enumerate(frames)]
    held = [residuals(clip, i, f.held_d, f.held) for i, f in enumerate(frames)]
    medians = [float(np.median(np.abs(r))) if len(r) else np.nan for r in own]
    known = [m for m in medians if np.isfinite(m)]
    usual = float(np.median(known)) if known else np.nan
    fitted = any(fit is not None for fit in clip.own)
    rows = []
    for i, (f, line) in enumerate(zip(frames, clip.own)):
        size = np.abs(held[i])
        rows.append(
            FitRow(
                name=f.view.name,
                gain=float(clip.fit.gain[i]),
                shift=float(clip.fit.shift[i]),
                points=len(own[i]),
                inliers=line.inliers if line else 0,
                residual_median=medians[i] if np.isfinite(medians[i]) else usual,
                held_out=len(size),
                held_out_median=float(np.median(size)) if len(size) else np.nan,
                held_out_95=float(np.percentile(size, 95)) if len(size) else np.nan,
                carried=line is None and fitted,
                sky=0.0 if f.sky is None else float(f.sky_mask().mean()),
            )
        )
    return rows


def write_fits(path: Path, rows: Sequence[FitRow]) -> None:
    """`align/fits.csv`."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [column.name for column in fields(FitRow)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def held_out_errors(
    frames: Sequence[FrameEvidence], clip: ClipAlignment, rows: Sequence[FitRow], sensor: bool
) -> HeldOutErrors | None:
    """Errors at all held-out points of the clip, against the sigma their pixels were given."""
    from recon4d.geometry.doubt import doubted_sigma

    error, sigma = [], []
    for i, (f, row) in enumerate(zip(frames, rows)):
        error.append(np.abs(residuals(clip, i, f.held_d, f.held)))
        usual, factor = frame_sigma(row, sensor), sigma_factor(rows, i)
        good = _sigma_at(clip, i, f, usual, factor)
        sigma.append(doubted_sigma(good, f.held_confidence, f.held_provenance))
    error, sigma = np.concatenate(error), np.concatenate(sigma)
    if not len(error):
        return None
    return HeldOutErrors(
        points=len(error),
        median=float(np.median(error)),
        percentile_95=float(np.percentile(error, 95)),
        within_one_sigma=float((error < sigma).mean()),
        within_two_sigma=float((error < 2 * sigma).mean()),
    )


def _sigma_at(clip: ClipAlignment, i: int, f: FrameEvidence, usual: float, factor: float) -> np.ndarray:
    """(M,) relative sigma at the held-out points, before the source's own doubts."""
    from recon4d.geometry.depth_sigma import relative_sigma
    from recon4d.geometry.resample import sample_grid

    if clip.curve is None:
        return np.full(len(f.held), usual)
    small = factor * relative_sigma(clip.priors[i], clip.curve)
    camera = f.view.camera
    x, y = f.held.x * (small.shape[1] / camera.width), f.held.y * (small.shape[0] / camera.height)
    return sample_grid(small, np.ones(small.shape, dtype=bool), x, y)[0].astype(np.float64)


def check_order(frames: Sequence[FrameEvidence], kind: DepthKind) -> None:
    """Refuse depth that rises where the structure falls, in most frames. Raises AlignmentError."""
    from recon4d.geometry.alignment import rank_agreement

    agreement = []
    for f in frames:
        own = f.seen.own
        if own.sum() >= JUDGED_POINTS:
            agreement.append(rank_agreement(f.d[own], f.seen.z[own], kind))
    against = sum(value < 0 for value in agreement)
    if against <= 0.5 * len(agreement):
        return
    other = "a kind of depth" if kind.is_disparity else "a kind of disparity"
    raise AlignmentError(
        f"align: in {against} of {len(agreement)} frames the depth falls where the structure says it rises: it is not "
        f"{kind.value}; name the right kind ({other}?) with --depth.kind, or check that it is of this clip"
    )


def check_residuals(
    frames: Sequence[FrameEvidence], clip: ClipAlignment, rows: Sequence[FitRow], part: StagePart
) -> list[tuple[int, int]]:
    """Refuse depth that has nothing to do with the structure, warn of frames where the two disagree.

    Judged before the correction over the picture, which with the other frames' help brings almost anything to the
    points, and at held-out points after it. Returns the first and last row of each stretch that was warned about.

    Raises:
        AlignmentError: the median frame is more than 35 % off under its line.
    """
    kind = clip.kind
    line = np.array([_line_residual(clip, i, f) for i, f in enumerate(frames)])
    judged = np.isfinite(line)
    if not judged.any():
        return []
    median = float(np.median(line[judged]))
    if median > REFUSED_RESIDUAL:
        raise AlignmentError(
            f"align: as {kind.value} the depth is {100 * median:.0f} % off the structure, so that is not what it is: "
            "name the right kind with --depth.kind, or check that the depth is of this clip"
        )
    if median > SUSPECT_RESIDUAL:
        part.warn(
            f"align: depth and structure disagree by {100 * median:.0f} % in the median under one line per frame: is "
            f"{kind.value} what it is (--depth.kind), and is it of this clip?"
        )
    held = _held_out_over_time(frames, clip)
    usual = float(np.median(held[np.isfinite(held)])) if np.isfinite(held).any() else np.inf
    bad = judged & (line > max(SUSPECT_RESIDUAL, TIMES_USUAL * median))
    bad |= np.isfinite(held) & (held > max(SUSPECT_RESIDUAL, TIMES_USUAL * usual))
    bad |= np.array([_tells_nothing(clip, i, f, median) for i, f in enumerate(frames)])
    stretches = _stretches(bad)
    for first, last in stretches:
        worst = float(np.nanmax(np.fmax(held, line)[first : last + 1]))
        which = f"frame {rows[first].name}" if first == last else f"frames {rows[first].name} to {rows[last].name}"
        part.warn(
            f"align: {which}: depth and structure disagree by {100 * worst:.0f} %: look at align/fit.png, and leave "
            "such frames out"
        )
    return stretches


def _tells_nothing(clip: ClipAlignment, i: int, f: FrameEvidence, usual: float) -> bool:
    """Whether a frame's depth is hardly better than none, or no longer what the clip's usually is.

    No line rises through its points; or their order hardly follows its own, and a constant would fit as well or the
    residual is far above the clip's ``usual`` one.
    """
    from recon4d.geometry.alignment import rank_agreement, to_domain

    own = f.seen.own
    if not clip.kind.has_gain or own.sum() < TELLING_POINTS:
        return False
    if clip.own[i] is None and any(fit is not None for fit in clip.own):
        return True
    if rank_agreement(f.d[own], f.seen.z[own], clip.kind) > LOOSE_ORDER:
        return False
    y, left = to_domain(f.seen.z[own], clip.kind), _line_residual(clip, i, f)
    constant = float(np.median(np.abs(np.median(y) / y - 1)))
    as_good_as_none = left > max(LARGE_RESIDUAL, AS_GOOD_AS_NONE * constant)
    return as_good_as_none or left > max(NOTABLE_RESIDUAL, TIMES_LOOSE * usual)


def _line_residual(clip: ClipAlignment, i: int, f: FrameEvidence) -> float:
    """Median relative residual of a frame under its line alone; NaN where too few points judge it."""
    from recon4d.geometry.alignment import z_from_values

    own = f.seen.own
    if own.sum() < JUDGED_POINTS:
        return np.nan
    z = z_from_values(f.d[own], clip.fit.gain[i], clip.fit.shift[i], clip.kind)
    return float(np.median(np.abs(np.minimum(z, FARTHEST) / f.seen.z[own] - 1)))


def _held_out_over_time(frames: Sequence[FrameEvidence], clip: ClipAlignment) -> np.ndarray:
    """(N,) median error at the held-out points of a frame and its neighbours; NaN where they are few."""
    error = [np.abs(residuals(clip, i, f.held_d, f.held)) for i, f in enumerate(frames)]
    out = np.full(len(frames), np.nan)
    for i in range(len(frames)):
        near = np.concatenate(error[max(0, i - WINDOW // 2) : i + WINDOW // 2 + 1])
        if len(near) >= WINDOW_POINTS:
            out[i] = np.median(near)
    return out


def _stretches(bad: np.ndarray) -> list[tuple[int, int]]:
    """First and last row of each run of True; runs with at most two frames between them are one."""
    rows = np.flatnonzero(bad)
    if not len(rows):
        return []
    breaks = np.flatnonzero(np.diff(rows) > 3)
    firsts, lasts = np.r_[rows[0], rows[breaks + 1]], np.r_[rows[breaks], rows[-1]]
    return [(int(a), int(b)) for a, b in zip(firsts, lasts)]
